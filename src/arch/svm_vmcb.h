/* The virtual machine control block: AMD APM vol 2 appendix B; intercepts: 15.9; exit codes: appendix C. */
#pragma once
#include "arch/types.h"

struct vmcb_seg {
    u16 sel, attrib; /* bits 0-7: descriptor bits 40-47, bits 8-11: descriptor bits 52-55 */
    u32 limit;
    u64 base;
};

struct vmcb {
    u32 cr, dr, exc, misc1, misc2, misc3; /* intercepts */
    u8 reserved18[0x40 - 0x18];
    u64 iopm, msrpm, tsc_offset;
    u32 asid;
    u8 tlb_control;
    u8 reserved5d[3];
    u64 int_ctl; /* virtual TPR, virtual interrupt */
    u64 int_shadow;
    u64 exitcode, exitinfo1, exitinfo2, exitintinfo;
    u64 np_enable;
    u64 reserved98[2];
    u64 eventinj;
    u64 n_cr3;
    u64 lbr_enable;
    u64 clean; /* 0: the CPU caches nothing from the last run */
    u64 nrip;
    u8 reserved_d0[0x400 - 0xd0];
    struct vmcb_seg es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr;
    u8 reserved4a0[0x4cb - 0x4a0];
    u8 cpl;
    u32 reserved4cc;
    u64 efer;
    u8 reserved4d8[0x548 - 0x4d8];
    u64 cr4, cr3, cr0, dr7, dr6, rflags, rip;
    u8 reserved580[0x5d8 - 0x580];
    u64 rsp;
    u64 s_cet, ssp, isst;
    u64 rax, star, lstar, cstar, sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, cr2;
    u8 reserved648[0x668 - 0x648];
    u64 g_pat;
    u8 reserved670[0x1000 - 0x670];
};
#define AT(field, offset) (offsetof(struct vmcb, field) == (offset))
static_assert(AT(iopm, 0x40) && AT(int_ctl, 0x60) && AT(exitcode, 0x70) && AT(np_enable, 0x90) && AT(eventinj, 0xa8) &&
                  AT(nrip, 0xc8) && AT(tr, 0x490) && AT(cpl, 0x4cb) && AT(efer, 0x4d0) && AT(cr4, 0x548) &&
                  AT(rip, 0x578) && AT(rsp, 0x5d8) && AT(rax, 0x5f8) && AT(cr2, 0x640) && AT(g_pat, 0x668) &&
                  sizeof(struct vmcb) == PAGE_SIZE,
              "APM B");
#undef AT

enum { SVM_CR0_WRITE = 1 << 16, SVM_CR4_WRITE = 1 << 20, SVM_CR8_WRITE = 1 << 24 }; /* cr */
/* misc1, misc2: bit = exit code - 0x60, - 0x80 */
enum { SVM_MISC1_VINTR = 1 << 4, SVM_MISC1_IRET = 1 << 20, SVM_MISC1_INVLPGA = 1 << 26 };
enum { SVM_MISC2_VMRUN = 1 << 0, SVM_MISC2_STGI = 1 << 4, SVM_MISC2_XSETBV = 1 << 13 };
/* INTR NMI INIT INVD HLT INVLPGA IO MSR SHUTDOWN; VMLOAD VMSAVE STGI CLGI SKINIT XSETBV */
#define SVM_MISC1_FORCED (1u << 0 | 1u << 1 | 1u << 3 | 1u << 22 | 1u << 24 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 31)
#define SVM_MISC2_FORCED (1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 13)
/* exit codes */
enum { SVM_EXIT_EXC = 0x40, SVM_EXIT_INTR = 0x60, SVM_EXIT_NMI = 0x61, SVM_EXIT_VINTR = 0x64, SVM_EXIT_IRET = 0x74 };
enum { SVM_EXIT_INVLPGA = 0x7a, SVM_EXIT_IO = 0x7b, SVM_EXIT_STGI = 0x84, SVM_EXIT_XSETBV = 0x8d };
enum { SVM_EXIT_NPF = 0x400 };
enum { SVM_TLB_FLUSH_ALL = 1, SVM_TLB_FLUSH_ASID = 3 };
/* int_ctl, 15.21 "Interrupt and Local APIC Support" */
#define SVM_INT_TPR       0xfful
#define SVM_INT_V_IRQ     (1ul << 8 | 0xful << 16 | 1ul << 20) /* of the highest priority, whatever the TPR */
#define SVM_INT_PENDING   (1ul << 8)
#define SVM_INT_VECTOR(v) ((u64)(v) << 32)
#define SVM_INT_V_MASKING (1ul << 24)
/* eventinj and exitintinfo, 15.20 "Event Injection": the ABI's format for bits 0-11 and 31, error code above */
#define SVM_EVENT(vec, type, rest) ((u64)(vec) | (u64)(type) << 8 | 1ul << 31 | (rest))
#define SVM_EVENT_VALID            (1ul << 31)
#define SVM_EVENT_ERROR            (1ul << 11)
#define SVM_EVENT_VECTOR(e)        ((unsigned)(e)&0xff)
#define SVM_EVENT_TYPE(e)          ((unsigned)(e) >> 8 & 7)
enum { SVM_EVENT_INTR = 0, SVM_EVENT_NMI = 2, SVM_EVENT_EXC = 3, SVM_EVENT_SOFT = 4 };

#define EFER_SVME  (1ul << 12)
#define EFER_FFXSR (1ul << 14)
#define EFER_TCE   (1ul << 15)
