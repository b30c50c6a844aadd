/* arch_space_load (arch/ptab.h) for who knows that another space is loaded, and whether the kernel is isolated. From mach/space.h, inline:
 *   void arch_space_switch(struct cpu *c, struct pd *pd, bool isolated);
 *   u64 arch_space_root(const struct pd *pd);                                what CR3 is while the kernel works for pd */
#pragma once
#include <mach/space.h>
