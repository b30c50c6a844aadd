/* FPU state. SDM vol 1 chapter 13 "Managing state using the XSAVE feature set", 10.5 FXSAVE. */
#include "arch/fpu.h"
#include "arch/mem.h"
#include "hw/hw.h"
#include <mach/insn.h>

u32 arch_fpu_size = 512;
static u64 xcr0_mask;
static bool
    pointers_leak; /* AMD before "RstrFpErrPtrs": FIP, FDP and FOP are restored only with an exception pending (APM vol 2 11.4.4.3) */
static const u32 zero;

void fpu_init(void) {
    u32 max_ext = cpuid(0x80000000, 0).a;
    bool amd = cpuid(0, 0).c == 0x444d4163 || cpuid(0, 0).c == 0x656e6967; /* "cAMD", Hygon's "uine" */
    pointers_leak = amd && !(max_ext >= 0x80000008 && (cpuid(0x80000008, 0).b >> 2 & 1));
    if (hw_features.xsave) {
        u64 supported = cpuid(0xd, 0).a;
        xcr0_mask = 3 | (supported & 4); /* x87 SSE AVX */
        if ((supported & 0xe4) == 0xe4)
            xcr0_mask |= 0xe0; /* AVX-512: opmask, ZMM_Hi256, Hi16_ZMM, together or not at all */
        xsetbv(0, xcr0_mask);
        arch_fpu_size = cpuid(0xd, 0).b;
    }
    __asm__ volatile("fninit");
}

void arch_fpu_init_image(void *image) {
    memset(image, 0, arch_fpu_size);
    *(u16 *)image = 0x37f;
    *(u32 *)((char *)image + 24) = 0x1f80;
}

void arch_fpu_save(void *image) {
    if (xcr0_mask)
        __asm__ volatile("xsave64 (%0)" ::"r"(image), "a"((u32)xcr0_mask), "d"((u32)(xcr0_mask >> 32)) : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" ::"r"(image) : "memory");
}

void arch_fpu_load(const void *image) {
    if (pointers_leak)
        __asm__ volatile("fnclex; emms; fildl %0" ::"m"(zero));
    if (xcr0_mask)
        __asm__ volatile("xrstor64 (%0)" ::"r"(image), "a"((u32)xcr0_mask), "d"((u32)(xcr0_mask >> 32)) : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" ::"r"(image) : "memory");
}

void arch_fpu_enable(void) { __asm__ volatile("clts" ::: "memory"); }
void arch_fpu_disable(void) { cr0_write(cr0_read() | 8); }
