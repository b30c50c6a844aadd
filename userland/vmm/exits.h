/* The vendor's exit numbers (ABI section 4, event numbers) -> reasons that the VMM knows. The only file that knows AMD-V's numbers;
 * VT-x gets a table of its own. Facts: AMD APM vol. 2 appendix C. */
#pragma once
#include <stdint.h>

enum exit_reason {
    EXIT_UNEXPECTED, /* reported, ends the VM */
    EXIT_CPUID,
    EXIT_HLT,
    EXIT_IO,
    EXIT_MSR,
    EXIT_WINDOW,  /* interrupts can be injected now */
    EXIT_MEMORY,  /* nested page fault: memory that is not mapped yet */
    EXIT_DEVICE,  /* counted only: nested page fault at a device */
    EXIT_INVALID, /* guest state refused, or emulation asked for by ourselves */
    EXIT_STARTUP,
    EXIT_RECALL,
    EXIT_SHUTDOWN, /* triple fault */
    EXIT_HYPERCALL,
    EXIT_CACHE,     /* INVD, WBINVD: nothing to do */
    EXIT_UNDEFINED, /* instructions that the guest does not have: #UD */
    EXIT_RDPMC,
    EXIT_REASONS,
};

enum exit_reason exit_reason_of(unsigned event);
const char *exit_reason_name(enum exit_reason r);

/* MTD of the portal of a reason: the state that its handler needs, no more. */
uint32_t exit_reason_mtd(enum exit_reason r);

/* Execution controls: the intercepts that we want besides those that the kernel forces (APM vol. 2 15.9, VMCB offsets 0xc, 0x10).
 * Without bit 0 of the second one (VMRUN) a vCPU does not run: it leaves with EXIT_INVALID at once. */
#define EXIT_CTRL1      (1u << 15 | 1u << 18)                               /* RDPMC CPUID */
#define EXIT_CTRL2_RUN  (1u << 0 | 1u << 1 | 1u << 9 | 1u << 10 | 1u << 11) /* VMRUN VMMCALL WBINVD MONITOR MWAIT */
#define EXIT_CTRL2_STOP (EXIT_CTRL2_RUN & ~1u)

/* I/O qualification: APM vol. 2 15.10.2 "IOIO intercept information". */
#define EXIT_IO_IN(q)     ((q)&1)
#define EXIT_IO_STRING(q) ((q) >> 2 & 1)
#define EXIT_IO_SIZE(q)   ((unsigned)((q) >> 4 & 7))
#define EXIT_IO_PORT(q)   ((uint16_t)((q) >> 16))
