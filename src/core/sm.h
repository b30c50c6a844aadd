/* Semaphore: the only object that works across CPUs; interrupts arrive as `up`. */
#pragma once
#include "arch/spin.h"
#include "core/abi.h"
#include "core/kobj.h"
struct ec;
struct cpu;
struct sm {
    struct kobj obj;
    struct spinlock lock; /* rank sm: counter, queue, and ec->sm of those queued */
    u64 counter;
    struct ec *head, *tail;
    i32 gsi; /* >= 0: semaphore of that interrupt */
};
must_check struct sm *sm_create(struct pd *owner, u64 counter);
/* An up in two parts: of a semaphore that nobody waits for; else it stays locked, for sm_wake. */
must_check static inline bool sm_give(struct sm *sm) {
    spin_lock(&sm->lock);
    if (unlikely(sm->head || sm->counter == ~0ul))
        return false;
    sm->counter++;
    spin_unlock(&sm->lock);
    return true;
}
must_check enum abi_status sm_wake(struct sm *sm);
must_check static inline enum abi_status sm_up(struct sm *sm) { return sm_give(sm) ? NOVA_SUCCESS : sm_wake(sm); }
/* The down of one that need not be waited for; else it stays locked, for sm_wait. */
must_check static inline bool sm_take(struct sm *sm, bool zero) {
    spin_lock(&sm->lock);
    u64 counter = sm->counter;
    if (!counter)
        return false;
    sm->counter = zero ? 0 : counter - 1;
    spin_unlock(&sm->lock);
    return true;
}
/* SUCCESS: c->ec is now blocked (cont CONT_BLOCKED, wake_status comes later). BAD_CAP: being destroyed. Unlocks. */
must_check enum abi_status sm_wait(struct cpu *c, struct sm *sm, u64 deadline);
/* The deadline of a blocked EC passed (home CPU). */
void sm_timeout(struct cpu *c, struct ec *ec);
/* Takes ec off the queue it may be on. True if it was there. */
bool sm_dequeue(struct ec *ec);
void sm_destroy(struct sm *sm);
/* Only the kernel's own capability is left: an interrupt is masked again. */
void sm_unused(struct sm *sm);
