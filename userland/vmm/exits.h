/* What differs between the processors' vendors, as the VMM sees it: exit numbers (ABI section 4, event numbers), execution controls, how
 * an I/O exit describes itself, how a vCPU is made to come back at once. The only place that knows whether this is AMD-V or VT-x.
 * Facts: AMD APM vol. 2 15.10 and appendix C; Intel SDM vol. 3 24.6, 27.2.1 and appendix C; docs/abi.md. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct abi_state;

enum exit_reason {
    EXIT_UNEXPECTED, /* reported, ends the VM */
    EXIT_CPUID,
    EXIT_HLT,
    EXIT_IO,
    EXIT_MSR, /* read or write, qualification bit 0 */
    EXIT_RDMSR,
    EXIT_WRMSR,
    EXIT_WINDOW,  /* interrupts or NMIs can be injected now */
    EXIT_MEMORY,  /* nested fault: memory that is not mapped yet */
    EXIT_DEVICE,  /* counted only: nested fault at a device */
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

const char *exit_reason_name(enum exit_reason r);

/* MTD of the portal of a reason: the state that its handler needs, no more. */
uint32_t exit_reason_mtd(enum exit_reason r);

struct exit_io {
    uint64_t next_rip;
    uint16_t port;
    uint8_t size; /* bytes */
    bool in, string;
};

struct exit_vendor {
    enum exit_reason (*reason)(unsigned event);
    /* s: message of EXIT_IO. */
    void (*io)(const struct abi_state *s, struct exit_io *io);
    /* Controls of a vCPU that runs, the intercepts that we want besides those that the kernel forces; returns the MTD that carries them. */
    uint32_t (*run)(struct abi_state *s);
    /* Makes the vCPU leave at once with EXIT_INVALID, whose portal has the whole state; `run` undoes it. Returns the MTD. */
    uint32_t (*stop)(struct abi_state *s);
    uint32_t nmi_window; /* injection flag that brings the vCPU back when it may be able to take an NMI */
};

/* Interruptibility (state bit MTD_STA): after STI and MOV SS; an NMI is being handled, which only VT-x says. */
enum { INTR_SHADOW = 3, INTR_NMI = 8 };

extern const struct exit_vendor exit_amd, exit_intel;
