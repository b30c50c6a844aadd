/* Single instructions, faked (arch/insn.h is the contract): a CPU with AMD-V or VT-x and nested paging, a small MSR file. */
#pragma once
#include "arch/types.h"

struct cpuid_regs {
    u32 a, b, c, d;
};
struct cpuid_regs cpuid(u32 leaf, u32 sub);
u64 rdmsr(u32 msr); /* an MSR that the model does not have is a bug of the caller */
void wrmsr(u32 msr, u64 v);
u64 rdtsc(void);
void rsb_fill(void);     /* nothing to see: there is no prediction */
u32 mmio_read32(u64 pa); /* the model's IOMMU (vtd.c); other addresses are a bug of the caller */
u64 mmio_read64(u64 pa);
void mmio_write32(u64 pa, u64 v);
void mmio_write64(u64 pa, u64 v);
u64 xgetbv(u32 reg);
void xsetbv(u32 reg, u64 v);
u64 cr0_read(void);
u64 cr2_read(void);
void cr2_write(u64 v);
u64 cr4_read(void);
void cr4_write(u64 v);
u64 dr0_read(void);
u64 dr1_read(void);
u64 dr2_read(void);
u64 dr3_read(void);
u64 dr6_read(void);
u64 dr7_read(void);
void dr0_write(u64 v);
void dr1_write(u64 v);
void dr2_write(u64 v);
void dr3_write(u64 v);
void dr6_write(u64 v);
void dr7_write(u64 v);
