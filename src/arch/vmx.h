/* VT-x, shared between its files: vmx.c (CPUs, world switch, exits) and vmx_state.c (VMCS contents, messages). */
#pragma once
#include "arch/assert.h"
#include "arch/vcpu_vendor.h"
#include "arch/vmx_vmcs.h"
#include "core/cpu.h"
#include "core/ec.h"

/* MSRs that SYSCALL and friends use; the CPU loads and stores them by list at the world switch. A CPU without RDTSCP does not need the last
 * one. */
enum { VMX_KERNEL_GS_BASE, VMX_STAR, VMX_LSTAR, VMX_CSTAR, VMX_SFMASK, VMX_TSC_AUX, VMX_MSRS };

struct vmx_cpu {
    struct vmx_msr *host_msrs; /* list that every exit loads */
    struct vcpu *current;      /* whose VMCS is the current one */
    struct vcpu_lazy *owner;
    bool ready;
};
struct vcpu { /* each vendor's own; core knows it by name only */
    struct vmx_msr msr[VMX_MSRS] __attribute__((aligned(16)));
    struct vcpu_lazy lazy;
    struct vmx_cpu *home;
    u8 *vmcs;      /* region; the page behind it is the virtual APIC page */
    bool made;     /* the VMCS has its first contents, and is active on the home CPU */
    bool launched; /* VMRESUME, not VMLAUNCH */
    union {
        u32 attention; /* one of these, before the next entry */
        struct {
            bool controls; /* the VMM has changed what vmx_controls_write writes */
            bool flush;    /* CR3, CR0, CR4 or EFER were not changed by the guest itself */
            bool no_table; /* its PD had no memory at the last one */
        };
    };
    bool irq_window, nmi_window;
    u32 ctrl[2], exc; /* controls and intercepts that the VMM asked for */
    u32 refused;      /* MTD bits of written state that must never get into the VMCS */
    u64 inj;          /* event to be injected at the next entry: info, error code in the upper half; 0: none */
    u64 interrupted;  /* event whose delivery the last exit interrupted */
    u64 inj_written;  /* what the VMCS has */
    u32 inj_len;      /* instruction length of a software event */
    u64 qual;         /* of the last exit, if its reason is one that we look at ourselves */
    u64 cr0_mask, cr4_mask, cr0_shadow, cr4_shadow; /* masks: the VMM's */
    u64 cr2, dr6, tsc_offset;
    u32 xcr0;
    u32 seen; /* MTD bits of what vmx_get has copied here since the guest ran */
    struct vmx_seg {
        u64 word, base;
    } seen_seg[SEG_TR + 1];
    u64 seen_cr0, seen_cr3, seen_cr4, seen_efer;
    u32 tpr_threshold;
    u64 host_root, host_fs, eptp; /* in the VMCS */
    u64 vpid_gen;                 /* of the CPU's VPIDs, when vpid was given */
    u64 tlb_gen;                  /* pd->guest_gen that its translations and its port map are not older than */
    u16 vpid;
};

/* What this machine has; the same on all CPUs, set on the boot CPU. */
struct vmx_features {
    u32 revision;
    struct vmx_ctrl {
        u32 must, may; /* bits that are 1, bits that can be 1 */
    } pin, cpu, exit, entry, cpu2;
    u64 cr0_forced, cr4_forced; /* 1 while the guest runs, whatever it sees */
    u64 ept_vpid;
    u32 vpid_count;
    unsigned msrs;
    bool xsave, pku, mca;
    u32 xcr0; /* the host's */
    const void *msr_bitmap, *iopm_all, *ept_empty;
};
extern struct vmx_features vmx;

/* Home CPU: v's VMCS becomes the current one; its first contents at the first time. */
void vmx_load(struct ec *ec);
static inline bool vmx_absent(const struct ec *ec) { return ec->vcpu->home->current != ec->vcpu; }
/* First contents: the state of reset as far as the VMM may leave it, host state, controls. The VMCS is current. */
void vmx_state_init(struct ec *ec, u64 host_msrs_pa);
void vmx_controls_write(struct vcpu *v);
/* What the guest sees. */
u64 vmx_cr0(const struct vcpu *v);
u64 vmx_cr4(const struct vcpu *v);
/* Bits of CR0 and CR4 that the guest does not own. */
u64 vmx_cr0_mask(const struct vcpu *v);
u64 vmx_cr4_mask(const struct vcpu *v);
