#include "exits.h"

#include "core/abi.h"

#define EVENTS(first, last, r) [first... last] = EXIT_##r

/* ---- AMD-V ---- */

static const uint8_t amd_reason[ABI_EVENTS_VCPU] = {
    [0x64] = EXIT_WINDOW, /* VINTR */
    [0x6f] = EXIT_RDPMC,
    [0x72] = EXIT_CPUID,
    [0x76] = EXIT_CACHE, /* INVD */
    [0x78] = EXIT_HLT,
    [0x7a] = EXIT_UNDEFINED, /* INVLPGA */
    [0x7b] = EXIT_IO,
    [0x7c] = EXIT_MSR,
    [0x7f] = EXIT_SHUTDOWN,
    [0x80] = EXIT_UNDEFINED,       /* VMRUN */
    [0x81] = EXIT_HYPERCALL,       /* VMMCALL */
    EVENTS(0x82, 0x86, UNDEFINED), /* VMLOAD VMSAVE STGI CLGI SKINIT */
    [0x89] = EXIT_CACHE,           /* WBINVD */
    EVENTS(0x8a, 0x8c, UNDEFINED), /* MONITOR, MWAIT */
    [EVT_SVM_NPF] = EXIT_MEMORY,
    [EVT_SVM_INVALID] = EXIT_INVALID,
    [EVT_VCPU_STARTUP] = EXIT_STARTUP,
    [EVT_VCPU_RECALL] = EXIT_RECALL,
};

/* Intercept words at offsets 0xc and 0x10 of the VMCB (APM vol. 2 15.9). */
#define AMD_CTRL1      (1u << 15 | 1u << 18)                     /* RDPMC CPUID */
#define AMD_CTRL2_STOP (1u << 1 | 1u << 9 | 1u << 10 | 1u << 11) /* VMMCALL WBINVD MONITOR MWAIT */
#define AMD_CTRL2_RUN  (AMD_CTRL2_STOP | 1u << 0)                /* VMRUN: without it a vCPU does not run */

static enum exit_reason amd_reason_of(unsigned event) { return (enum exit_reason)amd_reason[event % ABI_EVENTS_VCPU]; }

static void amd_io(const struct abi_state *s, struct exit_io *io) {
    uint64_t q = s->qual[0];

    *io = (struct exit_io){
        .next_rip = s->qual[1], .port = (uint16_t)(q >> 16), .size = q >> 4 & 7, .in = q & 1, .string = q >> 2 & 1};
}

static uint32_t amd_run(struct abi_state *s) {
    s->ctrl[0] = AMD_CTRL1;
    s->ctrl[1] = AMD_CTRL2_RUN;
    return MTD_CTRL;
}

static uint32_t amd_stop(struct abi_state *s) {
    s->ctrl[0] = AMD_CTRL1;
    s->ctrl[1] = AMD_CTRL2_STOP;
    return MTD_CTRL;
}

const struct exit_vendor exit_amd = {amd_reason_of, amd_io, amd_run, amd_stop, INJ_IRQ_WINDOW};

/* ---- VT-x ---- */

static const uint8_t intel_reason[ABI_EVENTS_VCPU] = {
    [2] = EXIT_SHUTDOWN, /* triple fault */
    [7] = EXIT_WINDOW,   /* interrupt window */
    [8] = EXIT_WINDOW,   /* NMI window */
    [10] = EXIT_CPUID,
    [11] = EXIT_UNDEFINED, /* GETSEC */
    [12] = EXIT_HLT,
    [13] = EXIT_CACHE, /* INVD */
    [15] = EXIT_RDPMC,
    [18] = EXIT_HYPERCALL,     /* VMCALL */
    EVENTS(19, 27, UNDEFINED), /* VMCLEAR to VMXON */
    [30] = EXIT_IO,
    [31] = EXIT_RDMSR,
    [32] = EXIT_WRMSR,
    [EVT_VMX_INVALID] = EXIT_INVALID,
    [36] = EXIT_UNDEFINED, /* MWAIT */
    [39] = EXIT_UNDEFINED, /* MONITOR */
    [EVT_VMX_EPT] = EXIT_MEMORY,
    [50] = EXIT_UNDEFINED, /* INVEPT */
    [53] = EXIT_UNDEFINED, /* INVVPID */
    [54] = EXIT_CACHE,     /* WBINVD */
    [59] = EXIT_UNDEFINED, /* VMFUNC */
    [EVT_VCPU_STARTUP] = EXIT_STARTUP,
    [EVT_VCPU_RECALL] = EXIT_RECALL,
};

#define INTEL_CTRL1      (1u << 10 | 1u << 11 | 1u << 29) /* MWAIT RDPMC MONITOR */
#define INTEL_CTRL2      (1u << 6)                        /* WBINVD */
#define INTEL_ACTV_NEVER 2u                               /* activity state that the kernel refuses (docs/abi.md) */

static enum exit_reason intel_reason_of(unsigned event) {
    return (enum exit_reason)intel_reason[event % ABI_EVENTS_VCPU];
}

static void intel_io(const struct abi_state *s, struct exit_io *io) {
    uint64_t q = s->qual[0];

    *io = (struct exit_io){.next_rip = s->rip + s->inst_len,
                           .port = (uint16_t)(q >> 16),
                           .size = (uint8_t)((q & 7) + 1),
                           .in = q >> 3 & 1,
                           .string = q >> 4 & 1};
}

static uint32_t intel_run(struct abi_state *s) {
    s->ctrl[0] = INTEL_CTRL1;
    s->ctrl[1] = INTEL_CTRL2;
    s->actv_state = 0;
    return MTD_CTRL | MTD_STA;
}

static uint32_t intel_stop(struct abi_state *s) {
    s->actv_state = INTEL_ACTV_NEVER;
    return MTD_STA;
}

const struct exit_vendor exit_intel = {intel_reason_of, intel_io, intel_run, intel_stop, INJ_NMI_WINDOW};

/* ---- both ---- */

const char *exit_reason_name(enum exit_reason r) {
    static const char *const name[EXIT_REASONS] = {
        [EXIT_UNEXPECTED] = "unexpected",
        [EXIT_CPUID] = "cpuid",
        [EXIT_HLT] = "hlt",
        [EXIT_IO] = "io",
        [EXIT_MSR] = "msr",
        [EXIT_RDMSR] = "rdmsr",
        [EXIT_WRMSR] = "wrmsr",
        [EXIT_WINDOW] = "window",
        [EXIT_MEMORY] = "memory",
        [EXIT_DEVICE] = "device",
        [EXIT_INVALID] = "emulate",
        [EXIT_STARTUP] = "startup",
        [EXIT_RECALL] = "recall",
        [EXIT_SHUTDOWN] = "shutdown",
        [EXIT_HYPERCALL] = "hypercall",
        [EXIT_CACHE] = "cache",
        [EXIT_UNDEFINED] = "undefined",
        [EXIT_RDPMC] = "rdpmc",
    };

    return name[r];
}

uint32_t exit_reason_mtd(enum exit_reason r) {
    const uint32_t inject = MTD_RFLAGS | MTD_STA | MTD_INJ;
    const uint32_t emulate = MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RIP | MTD_DS_ES | MTD_FS_GS | MTD_CS_SS | MTD_CR |
                             MTD_EFER | MTD_QUAL | MTD_R8_R15 | inject;

    switch (r) {
    case EXIT_CPUID:
        return MTD_ACDB | MTD_RIP | MTD_STA | MTD_CR; /* CR4.OSXSAVE is visible in CPUID */
    case EXIT_HLT:
        return MTD_RIP | inject;
    case EXIT_IO:
        return MTD_ACDB | MTD_RIP | MTD_QUAL | inject;
    case EXIT_MSR:
        return MTD_ACDB | MTD_RIP | MTD_CR | MTD_EFER | MTD_QUAL | inject;
    case EXIT_RDMSR:
    case EXIT_WRMSR:
        return MTD_ACDB | MTD_RIP | MTD_CR | MTD_EFER | inject;
    case EXIT_WINDOW:
    case EXIT_RECALL:
        return inject;
    case EXIT_HYPERCALL:
        return MTD_ACDB | MTD_RIP | inject;
    case EXIT_CACHE:
        return MTD_RIP | MTD_STA;
    case EXIT_UNDEFINED:
        return inject;
    case EXIT_RDPMC:
        return MTD_CR | inject;
    case EXIT_STARTUP:
        return 0;
    default:
        return emulate;
    }
}
