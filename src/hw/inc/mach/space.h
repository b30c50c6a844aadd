#pragma once
#include "arch/mitigate.h"
#include "core/cpu.h"
#include "core/pd.h"
#include <mach/insn.h>

extern u64 hw_kernel_root; /* entry.S: CR3 of the kernel under isolation */
static inline u64 arch_space_root(const struct pd *pd) {
    return mitigations & MIT_ISOLATION ? hw_kernel_root : pd->host.root.v;
}
void arch_space_user_root(struct cpu *c, u64 root); /* paging.c: under isolation it is loaded on the way to user mode */
static inline void arch_space_switch(struct cpu *c, struct pd *pd, bool isolated) {
    atomic_store_rel(&c->space_next, pd); /* before CR3, and the old one until after it: shoot.c */
    c->mach.pio_seen = atomic_load_acq(&pd->pio_bitmap);
    if (isolated) /* what was there before went at the entry */
        arch_space_user_root(c, pd->host.root.v);
    else
        cr3_write(pd->host.root.v);
    atomic_store_rel(&c->space, pd);
}
