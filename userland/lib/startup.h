/* What root gives to a component: capability layout, startup page and the parent protocol. Shared by root and the library.
 *
 * Capabilities of a new component. A component runs on the CPUs of its startup page, named by index k.
 *   64k + 0..31   event portals of its threads on CPU index k (exceptions, STARTUP, RECALL), all served by root
 *   64k + 32      parent portal for callers on CPU index k
 *   33            its own PD: may create everything but SCs
 *   34            its signal semaphore: session traffic, control requests, new services. Up and down.
 *                 (33 and 34 are taken with PARENT_PD and PARENT_SIGNAL by the library before main runs)
 *   512 ..        free for the component (cap.h)
 *
 * Main thread: STARTUP sets RIP = ELF entry, RSP = top of stack, RDI = address of the startup page. Further threads: RIP = ELF
 * entry, RSP as created, RDI = 0. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define COMP_MAX_CPUS      8
#define COMP_CAP_ORDER     9
#define COMP_SEL_EVENTS(k) (64ul * (k))
#define COMP_SEL_PARENT(k) (64ul * (k) + 32)
#define COMP_SEL_PD        33ul
#define COMP_SEL_SIGNAL    34ul
#define COMP_SEL_FREE      (1ul << COMP_CAP_ORDER)

/* Address space of a component; all below 2^43 because the receive window of a STARTUP reply is 2^31 pages from 0. */
#define COMP_VA_IMAGE_END 0x10000000ul /* ELF segments lie below */
#define COMP_VA_STACK_TOP 0x1f000000ul /* main stack, grows down; unmapped below it */
#define COMP_STACK_SIZE   0x20000ul
#define COMP_VA_INFO      0x20000000ul
#define COMP_VA_UTCB      0x20002000ul /* of the main thread */
#define COMP_VA_FREE      0x40000000ul /* the library's address allocator: heap, stacks, UTCBs, rings */
#define COMP_VA_FREE_END  0x4000000000ul
#define COMP_VA_KERNEL    0x5000000000ul  /* REGION_KERNEL of a VM */
#define COMP_VA_INITRD    0x6000000000ul  /* REGION_INITRD */
#define COMP_VA_RAM       0x10000000000ul /* REGION_RAM: 1 TiB aligned */

enum startup_feature { STARTUP_IOMMU = 1, STARTUP_VMX = 2, STARTUP_SVM = 4 };

/* Bits of `control`, set by root, taken by the component with mem_xchg32 after its signal semaphore was up'ed. */
enum control_request {
    CONTROL_STOP = 1,  /* orderly end: VMs get a power-button press */
    CONTROL_CRASH = 2, /* test aid: divide by zero */
    CONTROL_INFO = 4,  /* print a few lines about yourself to the log */
    CONTROL_FLUSH = 8, /* console: write out everything, then clear this bit (only then) */
};

struct vm_params {
    uint64_t ram_size;                 /* bytes, multiple of 2 MiB; at COMP_VA_RAM once REGION_RAM is mapped */
    uint64_t kernel_size, initrd_size; /* bytes; initrd_size 0: none */
    uint32_t cpus;                     /* guest CPUs */
    uint32_t console;                  /* console number, 1..9 */
    char kernel_name[64], initrd_name[64];
    char cmdline[2048];
};

#define STARTUP_MAGIC 0x6c76304eu
struct startup_info {
    uint32_t magic, size;
    char name[32];
    uint32_t cpu_count;          /* CPU indices 0..cpu_count-1 */
    uint32_t cpu[COMP_MAX_CPUS]; /* kernel CPU number of each index */
    uint32_t features;           /* enum startup_feature */
    uint64_t tsc_khz;
    uint64_t epoch_s, epoch_tsc; /* wall clock: UTC seconds since 1970 at that TSC value */
    uint64_t entropy[2];         /* seed for the stack canary */
    uint32_t control;            /* enum control_request, shared with root */
    uint32_t is_vm;              /* vm holds a VM's parameters */
    struct vm_params vm;
};
_Static_assert(sizeof(struct startup_info) <= 4096, "one page");

/* Parent protocol: w[0] = operation, reply w[0] = enum parent_status. */
enum parent_op {
    PARENT_PD = 1, /* -> object item: own PD (window: one selector) */
    PARENT_SIGNAL, /* -> object item: own signal semaphore (window: one selector) */
    PARENT_LOG,    /* enum log_level, bytes: text without newline -> - */
    PARENT_EXIT,   /* code, string -> does not return */
    PARENT_MEMORY, /* page, pages, perm -> memory items at that page; w[1] = pages delegated (repeat for the rest) */
    PARENT_REGION, /* enum region, first page offset -> memory items at the region's address; w[1] = next offset, 0: done */
    PARENT_SC,     /* priority, quantum_us, CPU index, label string; object item: EC -> - */
    PARENT_PORTS,       /* first, count -> port items */
    PARENT_IRQ,         /* number (ISA) -> object item: semaphore (window: one selector); w[1] = GSI */
    PARENT_OPEN,        /* page, string service -> memory items: struct session_mem at that page; w[1] = session */
    PARENT_OPEN_SIGNAL, /* session -> object item: the peer's signal semaphore, up only */
    PARENT_SERVE,       /* string service -> -; from now on sessions can be opened */
    PARENT_ACCEPT,     /* page -> memory items; w[1] = session, w[2] = key, string label. PARENT_NONE: no new session */
    PARENT_CLOSED,     /* -> w[1] = session whose client has gone, or PARENT_NONE. The server drains it and says */
    PARENT_CLOSE_DONE, /* session -> -; only now its memory is unmapped */
};

enum parent_status {
    PARENT_OK = 0,
    PARENT_DENIED, /* not granted by the section, or over its quota */
    PARENT_NO_MEM,
    PARENT_BAD,    /* malformed request */
    PARENT_NONE,   /* nothing there (yet) */
    PARENT_FAILED, /* the kernel refused; w[1] = its status */
    PARENT_WAIT,   /* service not there yet: wait for the signal semaphore and ask again */
};

enum region { REGION_KERNEL, REGION_INITRD, REGION_RAM, REGION_COUNT };

/* Exit codes that mean something to root; others are printed. */
enum exit_code { EXIT_CODE_OK = 0, EXIT_CODE_ERROR = 1, EXIT_CODE_REBOOT = 2 };
