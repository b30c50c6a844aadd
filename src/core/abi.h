/* Kernel interface constants and layouts, shared by kernel, simulator and userland.
 * Source: the project's kernel-abi document (docs/abi.md), section numbers in the comments. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* Section 5: RDI bits 0-3, and the flags in bits 4-7. DB: do not block when the callee is busy. */
enum { HC_CALL, HC_REPLY, HC_CREATE_PD, HC_CREATE_EC, HC_CREATE_SC, HC_CREATE_PT, HC_CREATE_SM, HC_REVOKE, HC_LOOKUP };
enum { HC_EC_CTRL = 9, HC_SC_CTRL, HC_PT_CTRL, HC_SM_CTRL, HC_ASSIGN_PCI, HC_ASSIGN_GSI, HC_EXTENSION };
enum { HF_CALL_DB = 1, HF_EC_GLOBAL = 1, HF_REVOKE_SELF = 1, HF_SM_DOWN = 1, HF_SM_ZERO = 2 };

enum abi_status { /* section 5 */
                  NOVA_SUCCESS = 0,
                  NOVA_TIMEOUT = 1,
                  NOVA_ABORTED = 2,
                  NOVA_BAD_HYP = 3,
                  NOVA_BAD_CAP = 4,
                  NOVA_BAD_PAR = 5,
                  NOVA_BAD_FTR = 6,
                  NOVA_BAD_CPU = 7,
                  NOVA_BAD_DEV = 8,
                  NOVA_BAD_MEM = 9, /* extension */
};

/* Extension hypercall (0xf): operation in flag bits 4-7, table in docs/abi.md. */
enum abi_ext {
    EXT_KMEM_LIMIT = 0, /* sel pd, RSI limit in bytes (0: none) -> BAD_CAP without all PD bits */
    EXT_KMEM_USAGE = 1, /* sel pd -> RSI bytes used, RDX limit in bytes (0: none) */
    EXT_KMEM_FREE = 2,  /* root only -> RSI free kernel pages, RDX all kernel pages */
    EXT_KLOG_READ =
        3, /* root only: RSI position -> RSI next position, RDX bytes; text in the caller's UTCB data area */
    EXT_GSI_CONFIG = 4,   /* sel sm of a GSI, RSI bit 0: level, bit 1: active low */
    EXT_CMDLINE_READ = 5, /* root only: the kernel's boot command line, as KLOG_READ */
    EXT_COUNTERS = 6,     /* root only: sel CPU -> RDX words in the caller's UTCB data area (enum abi_counter) */
    EXT_KMEM_ADD = 7,     /* root only: RSI memory CRD, by physical page as for H: RAM for the kernel's pool */
    EXT_KMEM_TAKE = 8,    /* root only: RSI order of a block that the pool does not need -> RSI its CRD, for H */
};

/* Events of a CPU since boot. The first 16: hypercalls by number. */
enum { CNT_EXCEPTION = 16, CNT_VMEXIT, CNT_INTERRUPT, CNT_IPI, CNT_TIMER, CNT_SCHEDULE, CNT_HELP, CNT_SHOOTDOWN };
#define ABI_COUNTERS 24

/* Capability permission bits, section 1. */
enum { PERM_PD_PD = 1, PERM_PD_EC = 2, PERM_PD_SC = 4, PERM_PD_PT = 8, PERM_PD_SM = 16, PERM_PD_ALL = 31 };
enum { PERM_EC_CT = 1, PERM_EC_SC = 4, PERM_EC_PT = 8, PERM_EC_ALL = 13 };
enum { PERM_SC_CT = 1, PERM_SC_ALL = 1 };
enum { PERM_PT_CT = 1, PERM_PT_CALL = 2, PERM_PT_ALL = 3 };
enum { PERM_SM_UP = 1, PERM_SM_DN = 2, PERM_SM_ALL = 3 };
enum { PERM_MEM_R = 1, PERM_MEM_W = 2, PERM_MEM_X = 4, PERM_MEM_ALL = 7, PERM_PIO_A = 1 };

/* CRD, section 2. */
enum abi_crd_type { CRD_NULL = 0, CRD_MEM = 1, CRD_PIO = 2, CRD_OBJ = 3 };
#define CRD_TYPE(crd)  ((crd)&3)
#define CRD_PERM(crd)  (((crd) >> 2) & 0x1f)
#define CRD_ORDER(crd) (((crd) >> 7) & 0x1f)
#define CRD_BASE(crd)  ((crd) >> 12)
#define CRD_MAKE(type, base, order, perm)                                                                              \
    ((uint64_t)(type) | (uint64_t)(perm) << 2 | (uint64_t)(order) << 7 | (uint64_t)(base) << 12)

/* Typed item descriptor bits, section 2. */
enum abi_item {
    ITEM_DELEGATE = 1 << 0,
    ITEM_N = 1 << 8,  /* extension: the host page table has it without x, which is recorded and passed on */
    ITEM_D = 1 << 9,  /* also into the DMA page table */
    ITEM_G = 1 << 10, /* also into the guest page table or guest I/O bitmap */
    ITEM_H = 1 << 11, /* source is the kernel, root PD only */
};

#define QPD_MAKE(prio, quantum_us) ((uint64_t)(quantum_us) << 12 | (uint64_t)(prio))

/* MTD bits, section 3; from PDPTE on extensions. SYSCALL: STAR LSTAR CSTAR SFMASK KERNEL_GS_BASE; XSAVE: XCR0 XSS; MASKS: CR0 and CR4
 * masks, exception intercepts. */
enum { MTD_ACDB = 1 << 0, MTD_BSD = 1 << 1, MTD_RSP = 1 << 2, MTD_RIP = 1 << 3, MTD_RFLAGS = 1 << 4 };
enum { MTD_DS_ES = 1 << 5, MTD_FS_GS = 1 << 6, MTD_CS_SS = 1 << 7, MTD_TR = 1 << 8, MTD_LDTR = 1 << 9 };
enum { MTD_GDTR = 1 << 10, MTD_IDTR = 1 << 11, MTD_CR = 1 << 12, MTD_DR = 1 << 13, MTD_SYSENTER = 1 << 14 };
enum { MTD_QUAL = 1 << 15, MTD_CTRL = 1 << 16, MTD_INJ = 1 << 17, MTD_STA = 1 << 18, MTD_TSC = 1 << 19 };
enum { MTD_EFER = 1 << 20, MTD_PDPTE = 1 << 21, MTD_R8_R15 = 1 << 22, MTD_SYSCALL = 1 << 23, MTD_TPR = 1 << 24 };
enum { MTD_TSC_AUX = 1 << 25, MTD_XSAVE = 1 << 26, MTD_PAT = 1 << 27, MTD_MASKS = 1 << 28 };
#define MTD_FPU (1u << 31)

/* Injection info, section 3. */
#define INJ_VALID      (1u << 31)
#define INJ_IRQ_WINDOW (1u << 12)
#define INJ_NMI_WINDOW (1u << 13)
#define INJ_ERROR      (1u << 11)

/* Event numbers, section 4. */
enum { EVT_THREAD_STARTUP = 0x1e, EVT_THREAD_RECALL = 0x1f };
enum { EVT_SVM_NPF = 0xfc, EVT_SVM_INVALID = 0xfd, EVT_VCPU_STARTUP = 0xfe, EVT_VCPU_RECALL = 0xff };
enum { EVT_VMX_INVALID = 0x21, EVT_VMX_EPT = 0x30 };
#define ABI_EVENTS_THREAD 32
#define ABI_EVENTS_VCPU   256
#define ABI_SEL_COUNT     (1ul << 26) /* HIP SEL: object selectors are taken modulo this */
#define ABI_MAX_CPUS      64          /* HIP CPU descriptors, and the first GSI semaphore for H */
#define ABI_MAX_GSIS      128
#define ABI_USER_END      0x7ffffffff000ul /* first address above user space; the last canonical page is withheld */
#define ABI_HIP_ADDR      0x7fffffffe000ul
#define ABI_ROOT_UTCB     0x7fffffffd000ul

struct abi_seg {
    uint16_t sel;
    uint16_t ar;
    uint32_t limit;
    uint64_t base;
};

/* Exception and intercept state in the UTCB data area, section 3. */
struct abi_state {
    uint64_t mtd;
    uint64_t inst_len;
    uint64_t rip;
    uint64_t rflags;
    uint32_t intr_state;
    uint32_t actv_state;
    uint32_t inj_info;
    uint32_t inj_error;
    uint64_t rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t qual[2];
    uint32_t ctrl[2];
    uint64_t preempt_timer;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t dr7;
    uint64_t sysenter_cs, sysenter_rsp, sysenter_rip;
    struct abi_seg es, cs, ss, ds, fs, gs, ldtr, tr, gdtr, idtr;
    uint64_t tsc_value, tsc_offset;
    /* extensions: MTD bits 21-28 */
    uint64_t pdpte[4];
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
    uint32_t tpr, tpr_threshold;
    uint64_t tsc_aux;
    uint64_t xcr0, xss;
    uint64_t pat;
    uint64_t cr0_mask, cr4_mask;
    uint32_t exc_intercepts;
    uint32_t reserved;
};
_Static_assert(offsetof(struct abi_state, rip) == 0x10, "ABI section 3");
_Static_assert(offsetof(struct abi_state, rax) == 0x30, "ABI section 3");
_Static_assert(offsetof(struct abi_state, qual) == 0xb0, "ABI section 3");
_Static_assert(offsetof(struct abi_state, cr0) == 0xd0, "ABI section 3");
_Static_assert(offsetof(struct abi_state, es) == 0x120, "ABI section 3");
_Static_assert(offsetof(struct abi_state, tsc_value) == 0x1c0, "ABI section 3");
_Static_assert(offsetof(struct abi_state, pdpte) == 0x1d0, "ABI section 3: extensions follow");
#define ABI_STATE_WORDS     58 /* U of an event message with the public MTD bits only */
#define ABI_STATE_EXT_WORDS (sizeof(struct abi_state) / 8)
#define ABI_MTD_EXT         0x1fe00000u /* MTD bits whose fields lie above the public area */

#define UTCB_WORDS 508
struct abi_utcb {   /* section 3 */
    uint64_t items; /* untyped count bits 0-15, typed count bits 16-31 */
    uint64_t xlt;   /* translate window CRD */
    uint64_t del;   /* delegate window CRD */
    uint64_t tls;
    union {
        uint64_t w[UTCB_WORDS];
        struct abi_state state;
    };
};
_Static_assert(sizeof(struct abi_utcb) == 4096, "ABI section 3");
_Static_assert(offsetof(struct abi_utcb, w) == 0x20, "ABI section 3");
#define UTCB_ITEMS(untyped, typed) ((uint64_t)(untyped) | (uint64_t)(typed) << 16)

/* HIP, section 7 and 8. */
#define HIP_SIGNATURE 0x41564f4eu
enum abi_hip_feature { HIP_IOMMU = 1, HIP_VMX = 2, HIP_SVM = 4 };
enum abi_hip_mem {
    HIP_MEM_RAM = 1,
    HIP_MEM_RESERVED = 2,
    HIP_MEM_ACPI = 3,
    HIP_MEM_NVS = 4,
    HIP_MEM_KERNEL = -1,
    HIP_MEM_MODULE = -2
};
struct abi_hip_cpu {
    uint8_t flags; /* bit 0: enabled */
    uint8_t thread, core, package, acpi_id;
    uint8_t reserved[3];
};
struct abi_hip_mem_desc {
    uint64_t addr;
    uint64_t size;
    int32_t type;
    uint32_t aux; /* physical address of the module's command line */
};
struct abi_hip {
    uint32_t signature;
    uint16_t checksum; /* all 16-bit words add up to 0 */
    uint16_t length;
    uint16_t cpu_offs, cpu_size, mem_offs, mem_size;
    uint32_t features;
    uint32_t api_version; /* 7 */
    uint32_t sel, exc, vmi, gsi_count;
    uint32_t page_sizes, utcb_sizes;
    uint32_t tsc_khz;
    uint32_t reserved;
    struct abi_hip_cpu cpu[ABI_MAX_CPUS];
    struct abi_hip_mem_desc mem[]; /* up to the length */
};
_Static_assert(offsetof(struct abi_hip, cpu) == 0x38, "ABI section 8");
_Static_assert(offsetof(struct abi_hip, mem) == 0x238, "ABI section 8");
