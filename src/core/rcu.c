#include "core/rcu.h"
#include "arch/assert.h"
#include "arch/atomic.h"
#include "arch/spin.h"
#include "core/cpu.h"
#include "core/pd.h"

/* One epoch at a time. `epoch` is the last one begun, `ended` the last one over; `waiting` holds a bit for every CPU that the
 * running epoch still waits for. A callback queued before an epoch begins is ripe when it has ended. */
static struct spinlock rcu_lock; /* rank kmem: epoch, wanted, and beginning or ending one */
static u64 epoch, ended, wanted; /* atomic reads */
static u64 waiting;              /* atomic */
static_assert(ABI_MAX_CPUS <= 64, "one word of CPU bits");

#define RCU_BATCH 64 /* callbacks that are worth an epoch of their own while the CPU is busy */

void rcu_call_later(struct rcu_head *h, void (*func)(struct rcu_head *)) {
    struct cpu *c = arch_cpu_self();
    h->next = c->rcu.next;
    h->func = func;
    c->rcu.next = h;
    atomic_store_rlx(&c->rcu.count, c->rcu.count + 1);
    if (c->rcu.count % RCU_BATCH == 0)
        cpu_hazard_set(c, HZ_RCU);
}

void rcu_call(struct rcu_head *h, void (*func)(struct rcu_head *)) {
    rcu_call_later(h, func);
    if (cpu_count == 1)
        cpu_hazard_set(arch_cpu_self(), HZ_RCU);
}

bool rcu_pending(const struct cpu *c) { return c->rcu.next || c->rcu.wait; }

/* With the lock: all CPUs that are neither idle nor `self` (which is quiescent now) have to pass. */
static u64 epoch_begin(struct cpu *self) {
    u64 mask = 0;
    epoch++;
    atomic_fence(); /* what callers unlinked is visible before `idle` is read; pairs with rcu_idle_leave */
    for (unsigned i = 0; i < cpu_count; i++)
        if (cpus[i] && cpus[i] != self && !atomic_load_acq(&cpus[i]->rcu.idle))
            mask |= 1ul << i;
    atomic_store_rel(&waiting, mask);
    if (!mask)
        atomic_store_rel(&ended, epoch);
    return mask;
}

static void kick(u64 mask) {
    for (unsigned i = 0; mask; i++, mask >>= 1)
        if (mask & 1) {
            cpu_hazard_set(cpus[i], HZ_RCU);
            arch_ipi_send(i);
        }
}

/* This CPU passed: the last one ends the epoch, begins the next if one is wanted, and tells those who wait. */
static void epoch_pass(struct cpu *c) {
    u64 bit = 1ul << c->id, mask = 0, ripe = 0;
    if (!(atomic_load_acq(&waiting) & bit) || atomic_fetch_and(&waiting, ~bit) != bit)
        return;
    spin_lock(&rcu_lock);
    if (ended < epoch && !atomic_load_acq(&waiting)) {
        atomic_store_rel(&ended, epoch);
        while (!mask && wanted > epoch) /* one that waits for nobody is over at once */
            mask = epoch_begin(c);
        for (unsigned i = 0; i < cpu_count; i++)
            if (cpus[i] && cpus[i] != c && atomic_load_acq(&cpus[i]->rcu.wait_epoch))
                ripe |= 1ul << i;
    }
    spin_unlock(&rcu_lock);
    kick(mask | ripe);
}

/* Objects die through several callbacks in a row (capability, EC, PD), PDs in steps; and others may die all the time. */
#define RCU_PUSH 64
#define LAST_TRY (~0ul)

static bool any_pending(void) {
    for (unsigned i = 0; i < cpu_count; i++)
        if (cpus[i] && (atomic_load_rlx(&cpus[i]->rcu.count) || atomic_load_rlx(&cpus[i]->inbox) ||
                        atomic_load_rlx(&cpus[i]->reap) || atomic_load_rlx(&cpus[i]->reap_ecs)))
            return true;
    return false;
}

bool rcu_push(struct cpu *c, u64 *since) {
    u64 over = atomic_load_acq(&ended), mask = 0;
    if (*since == LAST_TRY) {
        *since = 0;
        return false;
    }
    /* One epoch at least: what a CPU has in hand now is seen in its counters when it has passed. */
    if (*since && over >= *since && (over >= *since + RCU_PUSH || !any_pending())) {
        *since = LAST_TRY; /* for what came since the one that failed just now */
        return true;
    }
    spin_lock(&rcu_lock);
    if (!*since)
        *since = epoch + 1;
    if (ended == epoch)
        mask = epoch_begin(NULL); /* we are in the middle of something */
    spin_unlock(&rcu_lock);
    kick(mask);
    cpu_hazard_set(c, HZ_SCHED | HZ_RCU);
    (void)pd_reap(c);
    (void)arch_preempt_pending();
    arch_cpu_relax();
    return true;
}

static void callbacks_run(struct cpu *c) {
    struct rcu_head *list = c->rcu.wait;
    c->rcu.wait = NULL;
    atomic_store_rel(&c->rcu.wait_epoch, 0);
    for (unsigned n = 1; list; n++) {
        struct rcu_head *h = list;
        list = h->next;
        if (n % RCU_BATCH == 0)
            (void)arch_preempt_pending();
        atomic_store_rlx(&c->rcu.count, c->rcu.count - 1);
        h->func(h);
    }
}

void rcu_quiescent(struct cpu *c) {
    epoch_pass(c);
    if (c->rcu.wait && atomic_load_acq(&ended) >= c->rcu.wait_epoch)
        callbacks_run(c);
    if (c->rcu.wait || !c->rcu.next)
        return;
    c->rcu.wait = c->rcu.next;
    c->rcu.next = NULL;
    if (cpu_count > 1) { /* else there is nobody to wait for */
        u64 mask = 0;
        spin_lock(&rcu_lock);
        atomic_store_rel(&c->rcu.wait_epoch, epoch + 1);
        wanted = epoch + 1;
        if (ended == epoch)
            mask = epoch_begin(c);
        spin_unlock(&rcu_lock);
        kick(mask);
    }
    if (atomic_load_acq(&ended) >= c->rcu.wait_epoch)
        callbacks_run(c);
    if (c->rcu.next)
        cpu_hazard_set(c, HZ_RCU); /* a callback queued more */
}

void rcu_idle_enter(struct cpu *c) {
    atomic_store_rel(&c->rcu.idle, true);
    atomic_fence();
    epoch_pass(c);
}

void rcu_idle_leave(struct cpu *c) {
    if (likely(!c->rcu.idle))
        return;
    atomic_store_rel(&c->rcu.idle, false);
    atomic_fence(); /* pairs with epoch_begin: either it sees us busy or we see what was unlinked before */
}
