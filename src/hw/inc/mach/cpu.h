/* Per-CPU state of the ring-0 backend and who-am-I. GS base is a pointer to the struct cpu while in the kernel: struct hw_entry or, at boot, self. */
#pragma once
#include "arch/types.h"

struct cpu;
struct hw_area;
struct mach_cpu {
    struct cpu *self;
    struct hw_area *area; /* TSS, GDT, what entries need (hw.h) */
    void *pio_seen;       /* port bitmap that this CPU's TLB may know (lazy refresh on #GP) */
    u64 deadline;         /* armed TSC deadline; ~0: none */
    u32 apic_id;
    bool started; /* atomic: reached its C entry */
};

static inline struct cpu *arch_cpu_self(void) {
    struct cpu *c;
    __asm__("mov %%gs:0, %0" : "=r"(c));
    return c;
}
static inline void arch_cpu_relax(void) { __builtin_ia32_pause(); }
bool arch_preempt_pending(void);
