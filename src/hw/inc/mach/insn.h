/* One instruction per inline (arch/insn.h is the contract). */
#pragma once
#include "arch/types.h"
#include <mach/mem.h>

struct cpuid_regs {
    u32 a, b, c, d;
};
static inline struct cpuid_regs cpuid(u32 leaf, u32 sub) {
    struct cpuid_regs r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
    return r;
}
static inline u64 rdmsr(u32 msr) {
    u64 lo, hi; /* upper halves are 0 */
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return hi << 32 | lo;
}
static inline void wrmsr(u32 msr, u64 v) {
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void) {
    u64 lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return hi << 32 | lo;
}
static inline u8 inb(u16 port) {
    u8 v;
    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline u32 inl(u16 port) {
    u32 v;
    __asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }
#define INSN_MMIO(type, bits)                                                                                          \
    static inline type mmio_read##bits(u64 pa) { return *(volatile type *)arch_phys_ptr(PADDR(pa)); }                  \
    static inline void mmio_write##bits(u64 pa, u64 v) { *(volatile type *)arch_phys_ptr(PADDR(pa)) = (type)v; }
INSN_MMIO(u32, 32)
INSN_MMIO(u64, 64)
#undef INSN_MMIO
void rsb_fill(void); /* retpoline.S */
static inline u64 xgetbv(u32 reg) {
    u64 lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(reg));
    return hi << 32 | lo;
}
static inline void xsetbv(u32 reg, u64 v) {
    __asm__ volatile("xsetbv" ::"c"(reg), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
#define INSN_REGISTER(name)                                                                                            \
    static inline u64 name##_read(void) {                                                                              \
        u64 v;                                                                                                         \
        __asm__ volatile("mov %%" #name ", %0" : "=r"(v)::"memory");                                                   \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void name##_write(u64 v) { __asm__ volatile("mov %0, %%" #name ::"r"(v) : "memory"); }
INSN_REGISTER(cr0)
INSN_REGISTER(cr2)
INSN_REGISTER(cr3)
INSN_REGISTER(cr4)
INSN_REGISTER(dr0)
INSN_REGISTER(dr1)
INSN_REGISTER(dr2)
INSN_REGISTER(dr3)
INSN_REGISTER(dr6)
INSN_REGISTER(dr7)
#undef INSN_REGISTER
