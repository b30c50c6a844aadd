/* Ticket lock: fair, one word. `owner` is the CPU that holds it, for asserts only. */
#pragma once
#include "arch/atomic.h"
#include "arch/cpu.h"

struct spinlock {
    u32 next, serving; /* atomic */
    struct cpu *owner; /* atomic */
};
static inline void spin_lock(struct spinlock *l) {
    u32 ticket = atomic_fetch_add(&l->next, 1);
    while (atomic_load_acq(&l->serving) != ticket)
        arch_cpu_relax();
    atomic_store_rlx(&l->owner, arch_cpu_self());
}
static inline bool spin_trylock(struct spinlock *l) {
    u32 serving = atomic_load_acq(&l->serving);
    if (!atomic_cas(&l->next, &serving, serving + 1))
        return false;
    atomic_store_rlx(&l->owner, arch_cpu_self());
    return true;
}
static inline void spin_unlock(struct spinlock *l) {
    atomic_store_rlx(&l->owner, NULL);
    atomic_store_rel(&l->serving, l->serving + 1);
}
static inline bool spin_held(struct spinlock *l) { return atomic_load_rlx(&l->owner) == arch_cpu_self(); }
