/* AMD-V, shared between its files: svm.c (CPUs, world switch, exits) and svm_state.c (messages, validity). */
#pragma once
#include "arch/svm_vmcb.h"
#include "arch/vcpu_vendor.h"

struct ec;
struct abi_utcb;
struct svm_cpu {
    struct vmcb *host; /* the VMLOAD part of the host's state */
    u64 host_phys;
    struct vcpu_lazy *owner;
    u64 tsc_aux;
    bool ready;
};
struct vcpu { /* each vendor's own; core knows it by name only */
    struct vcpu_lazy lazy;
    struct vmcb *vmcb;
    u64 vmcb_phys;
    struct svm_cpu *home;
    u32 ctrl[2], exc; /* intercepts that the VMM asked for */
    u32 refused; /* MTD bits of written state that never gets as far as the VMCB because the kernel itself would fault on it */
    u64 inj;         /* event to be injected at the next entry: EVENTINJ format, 0: none */
    u64 interrupted; /* event whose delivery the last exit interrupted */
    union {
        u32 attention; /* one of these, before the next entry */
        struct {
            bool check;      /* the VMM wrote state that must be looked at */
            bool controls;   /* and changed what controls_write writes */
            bool nmi_window; /* is open at once if no NMI is masked */
            bool no_table;   /* its PD had no memory at the last one */
        };
    };
    bool irq_window, own_aux; /* asked for; TSC_AUX is not the host's */
    bool nmi_masked;          /* an injected NMI's IRET was not seen yet */
    u64 asid_gen;             /* of the CPU's ASIDs, when asid was given */
    u64 tlb_gen;              /* pd->guest_gen that its translations and its port map are not older than; ~0: older */
    u32 xcr0, tpr_threshold;
    u64 tsc_aux;
};

/* What this machine has; the same on all CPUs, set on the boot CPU. */
struct svm_features {
    u32 asid_count;
    bool nrip, flush_asid;
    bool xsave, tsc_aux, pku, mca, repeats_inj; /* the last: an emulator's fault, docs/performance.md */
    u32 xcr0;                                   /* the host's */
    u64 cr3_mbz, cr4_mbz, efer_mbz;
};
extern struct svm_features svm;
void svm_features_read(struct svm_features *f);

void svm_state_init(struct vcpu *v);
/* Would VMRUN take this state (APM vol 2 15.5.1 "Canonicalization and Consistency Checks")? Asked here first, because an emulator
 * that refuses writes host state into the guest's save area. What is not asked here is refused by the hardware. */
bool svm_state_valid(struct vcpu *v);
