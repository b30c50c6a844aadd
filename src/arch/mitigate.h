/* Processors that leak by what they do speculatively: which mitigations this one asks for, and those that are writes of MSRs.
 * Intel SDM vol 4 2.1 "Architectural MSRs" (10AH IA32_ARCH_CAPABILITIES, 48H, 49H, 10BH), vol 2 "CPUID" leaf 7 EDX; AMD APM vol 2 3.2.9
 * "Speculation Control MSRs", 3.1.7 "EFER" (AIBRSE), vol 3 appendix E.4.7 (80000008h EBX), E.4.19 (80000021h). */
#pragma once
#include "arch/types.h"

enum mitigation {
    MIT_ISOLATION = 1,   /* Meltdown: threads run on tables without the kernel (hw/paging.c) */
    MIT_RETPOLINE = 2,   /* Spectre v2: indirect branches of the kernel are not predicted (hw/retpoline.S) ... */
    MIT_IBRS = 4,        /* ... or predicted from the kernel's own branches only: enhanced IBRS, always on */
    MIT_AUTO_IBRS = 8,   /* AMD's name for the same */
    MIT_RSB = 16,        /* no return prediction from a guest or from another domain is used */
    MIT_IBPB = 32,       /* no indirect branch prediction either */
    MIT_VERW = 64,       /* MDS, TAA, RFDS, MMIO stale data, TSA: buffers are overwritten before user and guest mode */
    MIT_L1D = 128,       /* L1TF: the L1 data cache is flushed before guest mode */
    MIT_EAGER_FPU = 256, /* LazyFP: the FPU never holds what is not the running thread's */
};
enum mitigate_mode { MITIGATE_AUTO, MITIGATE_FORCE, MITIGATE_OFF };
extern u32 mitigations; /* those that are on; written at boot before the other CPUs start */

/* What this CPU asks for; force: and whatever works on any CPU; off: nothing. */
u32 mitigations_choose(enum mitigate_mode mode);
/* This CPU's part that stays as it is: IBRS. */
void mitigate_cpu_init(void);
/* Between threads or guests of two domains. */
void mitigate_domain_switch(void);
#define MIT_DOMAIN_SWITCH (MIT_IBPB | MIT_RSB) /* those that it does anything for */
/* Last of all before a guest's registers are loaded. */
void mitigate_guest_entry(void);
