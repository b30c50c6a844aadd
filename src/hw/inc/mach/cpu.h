/* Per-CPU state of the ring-0 backend and who-am-I. GS base is a pointer to the struct cpu while in the kernel: struct hw_entry or, at boot, self. */
#pragma once
#include "arch/types.h"
#include <mach/insn.h>

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
static inline u64 arch_clock(void) { return rdtsc(); }
static inline void arch_cpu_relax(void) { __builtin_ia32_pause(); }
bool arch_preempt_pending(void);
/* KERNEL_GS_BASE holds the user's GS base while we are in the kernel; swapgs brings it within reach. An NMI in between finds its CPU by its stack
 * (entry.S). Written is only what differs: most threads change neither. */
static inline void arch_bases_switch(struct arch_bases *from, const struct arch_bases *to) {
    u64 fs, gs;
    __asm__ volatile("rdfsbase %0" : "=r"(fs));
    if (unlikely(fs != to->fs))
        __asm__ volatile("wrfsbase %0" ::"r"(to->fs));
    __asm__ volatile("swapgs\n\t"
                     "rdgsbase %0\n\t"
                     "cmp %0, %1\n\t"
                     "je 1f\n\t"
                     "wrgsbase %1\n"
                     "1:\tswapgs"
                     : "=&r"(gs)
                     : "r"(to->gs)
                     : "cc");
    *from = (struct arch_bases){fs, gs};
}
static inline struct arch_bases arch_bases_read(void) {
    struct arch_bases b;
    __asm__ volatile("rdfsbase %0\n\tswapgs\n\trdgsbase %1\n\tswapgs" : "=&r"(b.fs), "=r"(b.gs));
    return b;
}
