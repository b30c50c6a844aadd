#pragma once
#include "arch/ptab.h"

static inline void arch_space_switch(struct cpu *c, struct pd *pd, bool isolated) {
    (void)isolated;
    arch_space_load(c, pd);
}
