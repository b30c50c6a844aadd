/* VT-x, shared between its files: vmx.c (CPUs, world switch, exits) and vmx_state.c (VMCS contents, messages). */
#pragma once
#include "arch/vcpu_vendor.h"
#include "arch/vmx_vmcs.h"

struct ec;
struct abi_utcb;
/* MSRs that SYSCALL and friends use; the CPU loads and stores them by list at the world switch. The host does not need
 * KERNEL_GS_BASE back (core loads the bases of the next thread), nor a CPU without RDTSCP the last one. */
enum { VMX_KERNEL_GS_BASE, VMX_STAR, VMX_LSTAR, VMX_CSTAR, VMX_SFMASK, VMX_TSC_AUX, VMX_MSRS };

struct vcpu { /* each vendor's own; core knows it by name only */
    struct vmx_msr msr[VMX_MSRS] __attribute__((aligned(16)));
    u8 *vmcs;      /* region; the page behind it is the virtual APIC page */
    bool made;     /* the VMCS has its first contents, and is active on the home CPU */
    bool launched; /* VMRESUME, not VMLAUNCH */
    bool controls; /* the VMM has changed what vmx_controls_write writes */
    bool flush;    /* CR3, CR0, CR4 or EFER were not changed by the guest itself */
    bool irq_window, nmi_window;
    u32 ctrl[2], exc; /* controls and intercepts that the VMM asked for */
    u32 refused;      /* MTD bits of written state that must never get into the VMCS */
    u64 inj;          /* event to be injected at the next entry: info, error code in the upper half; 0: none */
    u64 interrupted;  /* event whose delivery the last exit interrupted */
    u64 inj_written;  /* what the VMCS has */
    u32 inj_len;      /* instruction length of a software event */
    u64 qual;         /* of the last exit, if its reason is one that we look at ourselves */
    u64 cr0_mask, cr4_mask, cr0_shadow, cr4_shadow; /* masks: the VMM's */
    u64 cr2, dr6, xcr0, tsc_offset;
    u32 tpr_threshold;
    struct vcpu_lazy lazy;
    const void *iopm; /* in the VMCS, as is host_root */
    u64 host_root;
    u64 eptp;
    u64 vpid_gen; /* of the CPU's VPIDs, when vpid was given */
    u64 tlb_gen;  /* pd->guest_gen that its translations are not older than */
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
    u64 xcr0; /* the host's */
    const void *msr_bitmap, *iopm_all, *ept_empty;
};
extern struct vmx_features vmx;

/* Home CPU: v's VMCS becomes the current one; its first contents at the first time. */
void vmx_use(struct ec *ec);
/* First contents: the state of reset as far as the VMM may leave it, host state, controls. The VMCS is current. */
void vmx_state_init(struct ec *ec, u64 host_msrs_pa);
void vmx_controls_write(struct vcpu *v);
void vmx_get(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event);
void vmx_set(struct ec *ec, const struct abi_utcb *u, u32 mtd);
/* What the guest sees. */
u64 vmx_cr0(const struct vcpu *v);
u64 vmx_cr4(const struct vcpu *v);
/* Bits of CR0 and CR4 that the guest does not own. */
u64 vmx_cr0_mask(const struct vcpu *v);
u64 vmx_cr4_mask(const struct vcpu *v);
