/* Ticket lock: fair. Only its holder writes `serving`. */
#pragma once
#include "arch/atomic.h"
#include "arch/cpu.h"

struct spinlock {
    u32 next, serving; /* atomic */
};
static inline void spin_lock(struct spinlock *l) {
    u32 ticket = atomic_fetch_add(&l->next, 1);
    if (unlikely(l->serving !=
                 ticket)) /* a plain load, which can be the comparison's operand: the processor has no earlier one */
        while (atomic_load_acq(&l->serving) != ticket)
            arch_cpu_relax();
    __asm__ volatile("" ::: "memory");
}
static inline bool spin_trylock(struct spinlock *l) {
    u32 serving = atomic_load_acq(&l->serving);
    return atomic_cas(&l->next, &serving, serving + 1);
}
static inline void spin_unlock(struct spinlock *l) { __asm__ volatile("incl %0" : "+m"(l->serving)::"memory", "cc"); }
