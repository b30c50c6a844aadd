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
must_check enum abi_status sm_up(struct sm *sm);
/* SUCCESS: taken, or c->ec is now blocked (cont CONT_BLOCKED, wake_status comes later). BAD_CAP: being destroyed. */
must_check enum abi_status sm_down(struct cpu *c, struct sm *sm, bool zero, u64 deadline);
/* The deadline of a blocked EC passed (home CPU). */
void sm_timeout(struct cpu *c, struct ec *ec);
/* Takes ec off the queue it may be on. True if it was there. */
bool sm_dequeue(struct ec *ec);
void sm_destroy(struct sm *sm);
/* Only the kernel's own capability is left: an interrupt is masked again. */
void sm_unused(struct sm *sm);
