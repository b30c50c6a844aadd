#include "exits.h"

#include "core/abi.h"

enum exit_reason exit_reason_of(unsigned event) {
    switch (event) {
    case 0x64:
        return EXIT_WINDOW; /* VINTR */
    case 0x6f:
        return EXIT_RDPMC;
    case 0x72:
        return EXIT_CPUID;
    case 0x76:
        return EXIT_CACHE; /* INVD */
    case 0x78:
        return EXIT_HLT;
    case 0x7a:
        return EXIT_UNDEFINED; /* INVLPGA */
    case 0x7b:
        return EXIT_IO;
    case 0x7c:
        return EXIT_MSR;
    case 0x7f:
        return EXIT_SHUTDOWN;
    case 0x80:
        return EXIT_UNDEFINED; /* VMRUN */
    case 0x81:
        return EXIT_HYPERCALL; /* VMMCALL */
    case 0x82:
    case 0x83:
    case 0x84:
    case 0x85:
    case 0x86: /* VMLOAD VMSAVE STGI CLGI SKINIT */
        return EXIT_UNDEFINED;
    case 0x89:
        return EXIT_CACHE; /* WBINVD */
    case 0x8a:
    case 0x8b:
    case 0x8c: /* MONITOR, MWAIT */
        return EXIT_UNDEFINED;
    case EVT_SVM_NPF:
        return EXIT_MEMORY;
    case EVT_SVM_INVALID:
        return EXIT_INVALID;
    case EVT_VCPU_STARTUP:
        return EXIT_STARTUP;
    case EVT_VCPU_RECALL:
        return EXIT_RECALL;
    default:
        return EXIT_UNEXPECTED;
    }
}

const char *exit_reason_name(enum exit_reason r) {
    static const char *const name[EXIT_REASONS] = {
        [EXIT_UNEXPECTED] = "unexpected",
        [EXIT_CPUID] = "cpuid",
        [EXIT_HLT] = "hlt",
        [EXIT_IO] = "io",
        [EXIT_MSR] = "msr",
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
        return MTD_ACDB | MTD_RIP | MTD_CR; /* CR4.OSXSAVE is visible in CPUID */
    case EXIT_HLT:
        return MTD_RIP | inject;
    case EXIT_IO:
        return MTD_ACDB | MTD_RIP | MTD_QUAL | inject;
    case EXIT_MSR:
        return MTD_ACDB | MTD_RIP | MTD_QUAL | MTD_EFER | inject;
    case EXIT_WINDOW:
    case EXIT_RECALL:
        return inject;
    case EXIT_HYPERCALL:
        return MTD_ACDB | MTD_RIP | inject;
    case EXIT_CACHE:
        return MTD_RIP | MTD_STA;
    case EXIT_UNDEFINED:
    case EXIT_RDPMC:
        return inject;
    case EXIT_STARTUP:
        return 0;
    default:
        return emulate;
    }
}
