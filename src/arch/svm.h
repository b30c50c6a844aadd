/* AMD-V, shared between its files: svm.c (CPUs, world switch, exits) and svm_state.c (messages, validity). */
#pragma once
#include "arch/svm_vmcb.h"
#include "arch/vcpu_vendor.h"

struct ec;
struct abi_utcb;
struct vcpu { /* each vendor's own; core knows it by name only */
    struct vmcb *vmcb;
    struct svm_cpu *home;
    u32 ctrl[2], exc; /* intercepts that the VMM asked for */
    u32 refused; /* MTD bits of written state that never gets as far as the VMCB because the kernel itself would fault on it */
    u64 inj;         /* event to be injected at the next entry: EVENTINJ format, 0: none */
    u64 interrupted; /* event whose delivery the last exit interrupted */
    bool irq_window, nmi_window;
    bool nmi_masked; /* an injected NMI's IRET was not seen yet */
    bool check;      /* the VMM wrote state that must be looked at before the next entry */
    bool controls;   /* and changed what controls_write writes */
    bool flush;      /* owes itself a TLB flush (by ASID) */
    u64 asid_gen;    /* of the CPU's ASIDs, when asid was given */
    u64 tlb_gen;     /* pd->guest_gen that its translations are not older than */
    u64 tpr_threshold;
    u64 xcr0, tsc_aux;
    struct vcpu_lazy lazy;
};

/* What this machine has; the same on all CPUs, set on the boot CPU. */
struct svm_features {
    u32 asid_count;
    bool nrip, flush_asid;
    bool xsave, tsc_aux, pku, mca;
    u64 xcr0; /* the host's */
    u64 cr3_mbz, cr4_mbz, efer_mbz;
};
extern struct svm_features svm;
void svm_features_read(struct svm_features *f);

void svm_state_init(struct vcpu *v);
/* Would VMRUN take this state (APM vol 2 15.5.1 "Canonicalization and Consistency Checks")? Asked here first, because an emulator
 * that refuses writes host state into the guest's save area. What is not asked here is refused by the hardware. */
bool svm_state_valid(struct vcpu *v);
