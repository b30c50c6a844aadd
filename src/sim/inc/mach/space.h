#pragma once
#include "arch/ptab.h"

u64 arch_space_root(const struct pd *pd);
static inline void arch_space_switch(struct cpu *c, struct pd *pd, bool isolated) {
    (void)isolated;
    arch_space_load(c, pd);
}
