/* Per-CPU state of the ring-0 backend and who-am-I. GS base is the struct cpu (whose first member is struct mach_cpu) while in the kernel. */
#pragma once
#include "arch/types.h"

struct cpu;
struct hw_tss;
struct mach_cpu {
    struct cpu *self; /* offsets of the first six are known to entry.S */
    u64 frame_end;    /* end of the current EC's struct uregs: entries push the frame downward from here */
    u64 stack_top;    /* kernel stack of this CPU */
    u64 scratch;      /* user RSP while an entry has no register free */
    u16 gdtr_padding[3], gdtr_limit; /* limit and base as LGDT reads them */
    u64 gdtr_base;
    u64 gdt[8] __attribute__((aligned(16)));
    struct hw_tss *tss;
    void *pio_seen; /* port bitmap that this CPU's TLB may know (lazy refresh on #GP) */
    u64 deadline;   /* armed TSC deadline; ~0: none */
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
