/* Read-copy-update. A kernel entry is a read section: what was reachable at its start stays allocated until it ends at
 * core_resume (return to user, guest or idle). Callbacks run on the CPU that queued them, after every CPU has passed such a point. */
#pragma once
#include "arch/types.h"

struct cpu;
struct rcu_head {
    struct rcu_head *next;
    void (*func)(struct rcu_head *);
};
void rcu_call(struct rcu_head *h, void (*func)(struct rcu_head *));
/* The same where nothing waits for the memory: its account is refunded, and no object is kept. A number of them is worth a pass. */
void rcu_call_later(struct rcu_head *h, void (*func)(struct rcu_head *));
/* This CPU holds no reference from before: called by core_resume. Advances the epoch and runs ripe callbacks. */
void rcu_quiescent(struct cpu *c);
/* Idle CPUs count as quiescent. Leaving (a no-op for a CPU that is not idle) precedes everything else a woken CPU does. */
void rcu_idle_enter(struct cpu *c);
void rcu_idle_leave(struct cpu *c);
bool rcu_pending(const struct cpu *c);
/* Memory ran out. True: what has died on any CPU is being freed, the operation should be tried again after a pass through core_resume;
 * *since (0 at first) keeps how long it waits. False, and *since 0 again: nothing more will come. No locks held; a preemption point. */
must_check bool rcu_push(struct cpu *c, u64 *since);
