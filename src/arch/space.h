/* arch_space_load (arch/ptab.h) for who knows that another space is loaded, and whether the kernel is isolated. From mach/space.h, inline:
 *   void arch_space_switch(struct cpu *c, struct pd *pd, bool isolated); */
#pragma once
#include <mach/space.h>
