/* VT-x by numbers: Intel SDM vol 3 chapters "Virtual Machine Control Structures", "VM Entries", "VM Exits" (24, 26, 27 of edition 070),
 * appendix A (capability MSRs), B (field encodings), C (basic exit reasons). */
#pragma once
#include "arch/types.h"

/* Fields that we use. Segments in the order ES CS SS DS FS GS LDTR TR GDTR IDTR, two numbers apart. */
enum { VMCS_VPID = 0x0, GUEST_SEL = 0x800, HOST_CS = 0xc02, HOST_SS = 0xc04, HOST_TR = 0xc0c };
enum { IO_BITMAP_A = 0x2000, IO_BITMAP_B = 0x2002, MSR_BITMAP = 0x2004, EXIT_MSR_STORE = 0x2006 };
enum { EXIT_MSR_LOAD = 0x2008, ENTRY_MSR_LOAD = 0x200a, VMCS_TSC_OFFSET = 0x2010, VIRTUAL_APIC = 0x2012 };
enum { EPT_POINTER = 0x201a, GUEST_PHYSICAL = 0x2400, VMCS_LINK = 0x2800, GUEST_DEBUGCTL = 0x2802, GUEST_PAT = 0x2804 };
enum { GUEST_EFER = 0x2806, GUEST_PDPTE = 0x280a, HOST_PAT = 0x2c00, HOST_EFER = 0x2c02 };
enum { CTRL_PIN = 0x4000, CTRL_CPU = 0x4002, EXC_BITMAP = 0x4004, CR3_TARGETS = 0x400a, CTRL_EXIT = 0x400c };
enum { EXIT_STORE_COUNT = 0x400e, EXIT_LOAD_COUNT = 0x4010, CTRL_ENTRY = 0x4012, ENTRY_LOAD_COUNT = 0x4014 };
enum { ENTRY_EVENT = 0x4016, ENTRY_EVENT_ERROR = 0x4018, ENTRY_INSN_LEN = 0x401a, TPR_THRESHOLD = 0x401c };
enum { CTRL_CPU2 = 0x401e, INSN_ERROR = 0x4400, EXIT_REASON = 0x4402, EXIT_EVENT = 0x4404, EXIT_EVENT_ERROR = 0x4406 };
enum { VECTORING_EVENT = 0x4408, VECTORING_ERROR = 0x440a, EXIT_INSN_LEN = 0x440c, GUEST_LIMIT = 0x4800 };
enum { GUEST_AR = 0x4814, INTERRUPTIBILITY = 0x4824, ACTIVITY = 0x4826, GUEST_SYSENTER_CS = 0x482a };
enum { CR0_MASK = 0x6000, CR4_MASK = 0x6002, CR0_SHADOW = 0x6004, CR4_SHADOW = 0x6006, EXIT_QUALIFICATION = 0x6400 };
enum { GUEST_CR0 = 0x6800, GUEST_CR3 = 0x6802, GUEST_CR4 = 0x6804, GUEST_BASE = 0x6806, GUEST_DR7 = 0x681a };
enum { GUEST_RSP = 0x681c, GUEST_RIP = 0x681e, GUEST_RFLAGS = 0x6820, PENDING_DEBUG = 0x6822 };
enum { GUEST_SYSENTER_ESP = 0x6824, GUEST_SYSENTER_EIP = 0x6826, HOST_CR0 = 0x6c00, HOST_CR3 = 0x6c02 };
enum { HOST_CR4 = 0x6c04, HOST_FS_BASE = 0x6c06, HOST_GS_BASE = 0x6c08, HOST_TR_BASE = 0x6c0a };
enum { HOST_GDTR_BASE = 0x6c0c, HOST_IDTR_BASE = 0x6c0e, HOST_SYSENTER_ESP = 0x6c10, HOST_SYSENTER_EIP = 0x6c12 };
enum { HOST_RIP = 0x6c16, HOST_RSP = 0x6c14 /* written by the world switch */ };
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_GDTR, SEG_IDTR };

/* Controls, 24.6 to 24.8. FORCED: always on; CHOICE: the VMM may switch them on. */
#define PIN_FORCED (1u << 0 | 1u << 3 | 1u << 5) /* external interrupts exit, NMIs exit, virtual NMIs */
enum { CPU_IRQ_WINDOW = 1 << 2, CPU_TPR_SHADOW = 1 << 21, CPU_NMI_WINDOW = 1 << 22 };
/* TSC offset, HLT, TPR shadow, I/O bitmaps, MSR bitmaps, secondary controls */
#define CPU_FORCED (1u << 3 | 1u << 7 | 1u << 21 | 1u << 25 | 1u << 28 | 1u << 31)
/* INVLPG MWAIT RDPMC RDTSC, CR3 load and store, CR8 load and store, MOV DR, unconditional I/O, monitor trap, MONITOR, PAUSE */
#define CPU_CHOICE                                                                                                     \
    (1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | 3u << 15 | 3u << 19 | 1u << 23 | 1u << 24 | 1u << 27 | 3u << 29)
enum { CPU2_EPT = 1 << 1, CPU2_RDTSCP = 1 << 3, CPU2_VPID = 1 << 5, CPU2_UNRESTRICTED = 1 << 7 };
enum { CPU2_INVPCID = 1 << 12 };
#define CPU2_FORCED ((u32)(CPU2_EPT | CPU2_VPID | CPU2_UNRESTRICTED))
#define CPU2_CHOICE (1u << 2 | 1u << 6 | 1u << 11 | 1u << 16) /* descriptor tables, WBINVD, RDRAND, RDSEED */
/* Save debug controls, 64-bit host, save and load PAT, save and load EFER */
#define EXIT_FORCED  (1u << 2 | 1u << 9 | 1u << 18 | 1u << 19 | 1u << 20 | 1u << 21)
#define ENTRY_IA32E  (1u << 9)
#define ENTRY_FORCED (1u << 2 | 3u << 14) /* load debug controls, PAT, EFER */

/* Basic exit reasons */
enum { EXIT_EXCEPTION = 0, EXIT_INTERRUPT = 1, EXIT_CR = 28, EXIT_EPT_VIOLATION = 48, EXIT_XSETBV = 55 };
#define EXIT_ENTRY_FAILED (1u << 31)
/* Reasons that may come in the middle of an event's delivery (27.2.4): exception, task switch, APIC access, EPT violation and
 * misconfiguration, page-modification log. Reasons with an instruction length (27.2.5). */
#define EXITS_VECTORING (1ul << 0 | 1ul << 9 | 1ul << 44 | 1ul << 48 | 1ul << 49 | 1ul << 62)
#define EXITS_INSN                                                                                                     \
    (1ul << 0 | 0xfffffful << 9 | 1ul << 36 | 3ul << 39 | 1ul << 44 | 3ul << 46 | 3ul << 50 | 7ul << 53 | 7ul << 57 |  \
     1ul << 61 | 1ul << 63)

/* Events, 24.8.3: the ABI's format. */
#define VMX_EVENT(vec, type, rest) ((u64)(vec) | (u64)(type) << 8 | 1ul << 31 | (rest))
#define VMX_EVENT_VALID            (1ul << 31)
#define VMX_EVENT_ERROR            (1ul << 11)
#define VMX_EVENT_IRET             (1u << 12) /* exit information: IRET had unblocked NMIs */
#define VMX_EVENT_VECTOR(e)        ((unsigned)(e)&0xff)
#define VMX_EVENT_TYPE(e)          ((unsigned)(e) >> 8 & 7)
enum { VMX_EVENT_INTR = 0, VMX_EVENT_NMI = 2, VMX_EVENT_EXC = 3, VMX_EVENT_SOFT = 4 /* to 6 */ };

enum { BLOCKING_SHADOW = 3, BLOCKING_NMI = 1 << 3 }; /* interruptibility: STI and MOV SS; NMI */
enum { ACTIVITY_ACTIVE = 0, ACTIVITY_HLT = 1 };
#define PENDING_BS (1ul << 14)

/* EPT pointer, 24.6.11: write-back, four levels. INVEPT and INVVPID types. */
#define EPTP(root) ((root) | 6 | 3 << 3)
enum { INVALIDATE_ONE = 1, INVALIDATE_ALL = 2 };

enum { MSR_FEATURE_CONTROL = 0x3a, MSR_PAT = 0x277, MSR_VMX_BASIC = 0x480, MSR_VMX_CR0_FIXED0 = 0x486 };
enum { MSR_VMX_CR4_FIXED0 = 0x488, MSR_VMX_CPU2 = 0x48b, MSR_VMX_EPT_VPID = 0x48c };
enum { MSR_VMX_TRUE_PIN = 0x48d }; /* then CPU, EXIT, ENTRY */
struct vmx_msr {                   /* entry of the MSR-load and MSR-store areas, 24.7.2 */
    u64 index, value;
};

enum vmx_fail { VMX_FAIL_INVALID = 1, VMX_FAIL_VALID = 2 }; /* 30.2 "Conventions" */
