#include "arch/cpu.h"
#include "arch/svm.h"
#include "core/abi.h"
#include "core/ec.h"

#define AR_P        0x80
#define AR_L        0x200
#define AR_DB       0x400
#define AR_UNUSABLE 0x1000
#define HIGH_HALF   (~0ul << 32)

void svm_state_init(struct vcpu *v) { /* what reset leaves, APM vol 2 14.1.3; the VMM writes the rest at STARTUP */
    struct vmcb *b = v->vmcb;
    b->int_ctl = SVM_INT_V_MASKING;
    b->np_enable = 1;
    b->efer = EFER_SVME;
    b->rflags = RFLAGS_RESERVED1;
    b->dr6 = 0xffff0ff0;
    b->dr7 = 0x400;
    b->g_pat = 0x0007040600070406;
    v->xcr0 = 1;
    v->own_aux = v->home->tsc_aux;
    v->check = true; /* not valid before the VMM has set the VMRUN intercept */
    v->controls = v->no_table = true;
}

/* Selector, attributes and limit of the ABI stand as in the VMCB: one word; attributes are its bits 16-31. */
static_assert(offsetof(struct abi_seg, ar) == 2 && offsetof(struct abi_seg, limit) == 4 &&
                  offsetof(struct vmcb_seg, attrib) == 2 && offsetof(struct vmcb_seg, limit) == 4,
              "one word");
#define SEG_AR(bits) ((u64)(bits) << 16)

/* With some bits off and some on. */
static inline void seg_get(struct abi_seg *s, const struct vmcb_seg *b, u32 off, u32 on) {
    u64 word;
    __builtin_memcpy(&word, b, 8);
    word = (word & ~SEG_AR(0xf000 | off)) | SEG_AR(on);
    __builtin_memcpy(s, &word, 8);
    s->base = b->base;
    if (unlikely(!(word & SEG_AR(AR_P))))
        s->ar |= AR_UNUSABLE;
}

APART seg_word_set(struct vmcb_seg *b, u64 word) {
    word &= word & SEG_AR(AR_UNUSABLE) ? ~SEG_AR(0xffff) : ~SEG_AR(0xf000);
    __builtin_memcpy(b, &word, 8);
}

static inline void seg_set(struct vmcb_seg *b, const struct abi_seg *s) {
    u64 word = READ_ONCE(*(const u64 *)s), old;
    __builtin_memcpy(&old, b, 8);
    if (unlikely(word != old))
        seg_word_set(b, word);
    b->base = s->base;
}

static inline void table_get(struct abi_seg *s, const struct vmcb_seg *b) {
    s->sel = s->ar = 0;
    s->limit = b->limit;
    s->base = b->base;
}

static inline void table_set(struct vmcb_seg *b, const struct abi_seg *s) {
    b->limit = s->limit;
    b->base = s->base;
}

/* Length of the intercepted instruction, 0 where the CPU does not tell. */
static u64 inst_len(const struct vmcb *b, unsigned event) {
    u64 next = b->rip;
    if (event == SVM_EXIT_IO)
        next = b->exitinfo2;
    else if (svm.nrip && event > SVM_EXIT_VINTR && event < 0xa0)
        next = b->nrip;
    u64 len = next - b->rip;
    return len <= 15 ? len : 0;
}

PIECE segments_get(struct abi_state *s, const struct vmcb *b, u32 mtd) {
    if (mtd & MTD_DS_ES)
        seg_get(&s->ds, &b->ds, 0, 0), seg_get(&s->es, &b->es, 0, 0);
    if (mtd & MTD_FS_GS)
        seg_get(&s->fs, &b->fs, 0, 0), seg_get(&s->gs, &b->gs, 0, 0);
    if (mtd & MTD_CS_SS) {
        seg_get(&s->cs, &b->cs, 0, 0);
        /* SYSRET and friends leave SS.DPL alone; VT-x and the ABI have the CPL there. */
        seg_get(&s->ss, &b->ss, 0x60, (u32)b->cpl << 5);
    }
    if (mtd & MTD_TR) /* a loaded TSS is busy, whatever the cached attributes say */
        seg_get(&s->tr, &b->tr, 0, 2);
    if (mtd & MTD_LDTR)
        seg_get(&s->ldtr, &b->ldtr, 0, 0);
    if (mtd & MTD_GDTR)
        table_get(&s->gdtr, &b->gdtr);
    if (mtd & MTD_IDTR)
        table_get(&s->idtr, &b->idtr);
}

PIECE system_get(struct abi_state *s, const struct vmcb *b, u32 mtd) {
    if (mtd & MTD_CR) {
        s->cr0 = b->cr0, s->cr2 = b->cr2, s->cr3 = b->cr3, s->cr4 = b->cr4;
        s->cr8 = b->int_ctl & 0xf;
    }
    if (mtd & MTD_DR)
        s->dr7 = b->dr7;
    if (mtd & MTD_SYSENTER)
        s->sysenter_cs = b->sysenter_cs, s->sysenter_rsp = b->sysenter_esp, s->sysenter_rip = b->sysenter_eip;
    if (mtd & MTD_TSC)
        s->tsc_value = arch_clock() + b->tsc_offset, s->tsc_offset = b->tsc_offset;
    if (mtd & MTD_EFER)
        s->efer = b->efer & ~EFER_SVME;
}

static void extensions_get(struct abi_state *s, const struct vcpu *v, u32 mtd) {
    const struct vmcb *b = v->vmcb;
    if (mtd & MTD_PDPTE) /* not in the VMCB: the CPU walks them with the rest of the guest's tables */
        s->pdpte[0] = s->pdpte[1] = s->pdpte[2] = s->pdpte[3] = 0;
    if (mtd & MTD_SYSCALL) {
        s->star = b->star, s->lstar = b->lstar, s->cstar = b->cstar, s->sfmask = b->sfmask;
        s->kernel_gs_base = b->kernel_gs_base;
    }
    if (mtd & MTD_TPR)
        s->tpr = (u32)(b->int_ctl & 0xf) << 4, s->tpr_threshold = v->tpr_threshold;
    if (mtd & MTD_TSC_AUX)
        s->tsc_aux = v->tsc_aux;
    if (mtd & MTD_XSAVE)
        s->xcr0 = v->xcr0, s->xss = 0;
    if (mtd & MTD_PAT)
        s->pat = b->g_pat;
    if (mtd & MTD_MASKS) {
        s->cr0_mask = b->cr & SVM_CR0_WRITE ? ~0ul : 0;
        s->cr4_mask = b->cr & SVM_CR4_WRITE ? ~0ul : 0;
        s->exc_intercepts = v->exc;
    }
}

/* If `event` is none of the hardware's, nothing ran: no qualification, and the pending injection is still ours. */
PIECE few_get(struct ec *ec, struct abi_state *s, u32 mtd, unsigned event) {
    struct vcpu *v = ec->vcpu;
    const struct vmcb *b = v->vmcb;
    bool exited = event < EVT_SVM_INVALID;
    if (mtd & MTD_RIP)
        s->rip = b->rip, s->inst_len = inst_len(b, event);
    if (mtd & MTD_REGS) {
        uregs_get(&ec->regs, &b->rax, s, mtd);
        if (mtd & MTD_RSP)
            s->rsp = b->rsp;
        if (mtd & MTD_RFLAGS)
            s->rflags = b->rflags;
    }
    if (!(mtd & (MTD_QUAL | MTD_INJ | MTD_STA)))
        return;
    if (mtd & MTD_QUAL)
        s->qual[0] = exited ? b->exitinfo1 : 0, s->qual[1] = exited ? b->exitinfo2 : 0;
    if (mtd & MTD_INJ) {
        u64 inj = exited ? v->interrupted : v->inj;
        s->inj_info = (u32)inj;
        s->inj_error = (u32)(inj >> 32);
        if (exited)
            v->inj = 0; /* the VMM knows it now and decides; who does not ask for INJ has it injected again */
    }
    if (mtd & MTD_STA)
        s->intr_state = b->int_shadow & 1, s->actv_state = 0;
}

PIECE rest_get(const struct vcpu *v, struct abi_state *s, u32 mtd) {
    if (mtd & MTD_SEGMENTS)
        segments_get(s, v->vmcb, mtd);
    if (mtd & MTD_SYSTEM)
        system_get(s, v->vmcb, mtd);
    if (unlikely(mtd & ABI_MTD_EXT))
        extensions_get(s, v, mtd);
}

/* Of what svm_state_valid judges only what changes is judged again: the rest has been, or the hardware has left it there. */
PIECE segments_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    struct vmcb *b = v->vmcb;
    if (mtd & MTD_DS_ES)
        seg_set(&b->ds, &s->ds), seg_set(&b->es, &s->es);
    if (mtd & MTD_FS_GS)
        seg_set(&b->fs, &s->fs), seg_set(&b->gs, &s->gs);
    if (mtd & MTD_CS_SS) {
        u16 attrib = b->cs.attrib;
        seg_set(&b->cs, &s->cs);
        v->check |= b->cs.attrib != attrib;
        seg_set(&b->ss, &s->ss);
        b->cpl = b->ss.attrib >> 5 & 3;
    }
    if (mtd & MTD_TR)
        seg_set(&b->tr, &s->tr);
    if (mtd & MTD_LDTR)
        seg_set(&b->ldtr, &s->ldtr);
    if (mtd & MTD_GDTR)
        table_set(&b->gdtr, &s->gdtr);
    if (mtd & MTD_IDTR)
        table_set(&b->idtr, &s->idtr);
}

#define JUDGED(field, more)                                                                                            \
    ({                                                                                                                 \
        u64 new = READ_ONCE(s->field) | (more);                                                                        \
        if (unlikely(b->field != new))                                                                                 \
            b->field = new, v->check = true;                                                                           \
    })
PIECE system_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    struct vmcb *b = v->vmcb;
    if (mtd & MTD_CR) {
        JUDGED(cr0, 0), JUDGED(cr3, 0), JUDGED(cr4, 0), b->cr2 = s->cr2;
        b->int_ctl = (b->int_ctl & ~SVM_INT_TPR) | (s->cr8 & 0xf);
    }
    if (mtd & MTD_DR)
        JUDGED(dr7, 0);
    if (mtd & MTD_SYSENTER)
        b->sysenter_cs = s->sysenter_cs, b->sysenter_esp = s->sysenter_rsp, b->sysenter_eip = s->sysenter_rip;
    if (mtd & MTD_TSC)
        b->tsc_offset += s->tsc_offset;
    if (mtd & MTD_EFER)
        JUDGED(efer, EFER_SVME);
    if (mtd & (MTD_CR | MTD_EFER))
        v->tlb_gen = ~0ul; /* also if they stay the same: as MOV to CR3 does */
}

static void refuse(struct vcpu *v, u32 mtd_bit, bool bad) {
    v->refused = bad ? v->refused | mtd_bit : v->refused & ~mtd_bit;
    v->check |= bad;
}

/* What 15.20 calls illegal; types 5 and 6 exist on VT-x only: INT1, INT3 and INTO are exceptions here. */
APART inject_set(struct vcpu *v, u32 info, u32 error) {
    unsigned vec = info & 0xff, type = info >> 8 & 7;
    v->controls = true;
    v->irq_window = info & INJ_IRQ_WINDOW;
    v->nmi_window = info & INJ_NMI_WINDOW;
    bool valid = info & INJ_VALID;
    if (type == 5 || type == 6)
        type = SVM_EVENT_EXC;
    v->inj = valid ? SVM_EVENT(vec, type, (info & INJ_ERROR) | (u64)error << 32) : 0;
    refuse(v, MTD_INJ, valid && (type == 1 || type == 7 || (type == SVM_EVENT_EXC && (vec == 2 || vec > 31))));
}

static void extensions_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    struct vmcb *b = v->vmcb;
    if (mtd & MTD_SYSCALL) {
        b->star = s->star, b->lstar = s->lstar, b->cstar = s->cstar, b->sfmask = s->sfmask;
        b->kernel_gs_base = s->kernel_gs_base;
    }
    if (mtd & MTD_TPR) {
        b->int_ctl = (b->int_ctl & ~SVM_INT_TPR) | (s->tpr >> 4 & 0xf);
        v->tpr_threshold = s->tpr_threshold & 0xf; /* no such thing here: a guest that changes its CR8 leaves */
        b->cr = v->tpr_threshold ? b->cr | SVM_CR8_WRITE : b->cr & ~(u32)SVM_CR8_WRITE;
    }
    if (mtd & MTD_TSC_AUX) {
        v->tsc_aux = READ_ONCE(s->tsc_aux);
        v->own_aux = v->tsc_aux != v->home->tsc_aux;
        refuse(v, MTD_TSC_AUX, v->tsc_aux >> 32 || (v->tsc_aux && !svm.tsc_aux));
    }
    if (mtd & MTD_XSAVE) {
        u64 xcr0 = READ_ONCE(s->xcr0);
        v->xcr0 = (u32)xcr0;
        /* No supervisor state is offered: guests cannot write XSS (its MSR is intercepted), so it is 0 on both sides. */
        refuse(v, MTD_XSAVE, READ_ONCE(s->xss) || (xcr0 != 1 && !vcpu_xcr0_valid(xcr0, svm.xcr0)));
    }
    if (mtd & MTD_PAT)
        b->g_pat = s->pat, v->check = true;
    if (mtd & MTD_MASKS) {
        v->controls = true;
        v->exc = s->exc_intercepts;
        b->cr = (b->cr & ~(u32)(SVM_CR0_WRITE | SVM_CR4_WRITE)) | (s->cr0_mask ? SVM_CR0_WRITE : 0) |
                (s->cr4_mask ? SVM_CR4_WRITE : 0);
    }
}

PIECE few_set(struct ec *ec, const struct abi_state *s, u32 mtd) {
    struct vmcb *b = ec->vcpu->vmcb;
    if (mtd & MTD_RIP)
        b->rip = s->rip;
    if (mtd & MTD_REGS) {
        uregs_set(&ec->regs, &b->rax, s, mtd);
        if (mtd & MTD_RSP)
            b->rsp = s->rsp;
        if (mtd & MTD_RFLAGS)
            b->rflags = s->rflags | RFLAGS_RESERVED1;
    }
    if (mtd & MTD_STA)
        b->int_shadow = s->intr_state & 3 ? 1 : 0; /* after STI, after MOV SS: one shadow */
}

PIECE rest_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    if (mtd & MTD_CTRL) {
        u64 ctrl = READ_ONCE(*(const u64 *)s->ctrl), old;
        __builtin_memcpy(&old, v->ctrl, 8);
        if (unlikely(ctrl != old)) {
            v->controls = v->check = true;
            __builtin_memcpy(v->ctrl, &ctrl, 8);
        }
    }
    if (mtd & MTD_INJ) {
        u32 info = READ_ONCE(s->inj_info);
        if (unlikely((info & (INJ_VALID | INJ_IRQ_WINDOW | INJ_NMI_WINDOW)) || v->irq_window || v->nmi_window ||
                     v->refused))
            inject_set(v, info, s->inj_error);
        else
            v->inj = 0;
    }
    if (mtd & MTD_SEGMENTS)
        segments_set(v, s, mtd);
    if (mtd & MTD_SYSTEM)
        system_set(v, s, mtd);
    if (unlikely(mtd & ABI_MTD_EXT))
        extensions_set(v, s, mtd);
}

VCPU_MESSAGES(svm_get, svm_set, MTD_STA, false, (void)0)

static bool pat_valid(u64 pat) { /* each byte a memory type: 0, 1, 4-7 (APM vol 2 7.8) */
    u64 bytes = 0x0101010101010101;
    return !(pat & 0xf8 * bytes) && !(pat >> 1 & ~(pat >> 2) & bytes);
}

bool svm_state_valid(struct vcpu *v) {
    struct vmcb *b = v->vmcb;
    u64 cr0 = b->cr0, cr4 = b->cr4, efer = b->efer & ~EFER_LMA;
    bool longmode = cr0 & CR0_PG && efer & EFER_LME;
    b->efer = efer |= longmode ? EFER_LMA : 0;
    if (v->refused || !(v->ctrl[1] & SVM_MISC2_VMRUN))
        return false;
    if (((cr0 | b->dr6 | b->dr7) & HIGH_HALF) | (b->cr3 & svm.cr3_mbz) | (cr4 & svm.cr4_mbz) | (efer & svm.efer_mbz))
        return false;
    if ((cr0 & (CR0_CD | CR0_NW)) == CR0_NW || !pat_valid(b->g_pat))
        return false;
    return !longmode || ((cr4 & CR4_PAE) && (cr0 & CR0_PE) && (b->cs.attrib & (AR_L | AR_DB)) != (AR_L | AR_DB));
}
