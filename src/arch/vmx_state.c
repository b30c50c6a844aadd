#include "arch/vmx.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "core/ec.h"
#include "core/pd.h"

#define VTPR      0x80 /* offset in the virtual-APIC page, 29.1.1 */
#define RESET_PAT 0x0007040600070406ul
#define CR0_TS    (1ul << 3)

u64 vmx_cr0_mask(const struct vcpu *v) { return v->cr0_mask | vmx.cr0_forced | CR0_CD | CR0_NW; }
u64 vmx_cr4_mask(const struct vcpu *v) { return v->cr4_mask | vmx.cr4_forced; }
static u64 masked(u64 real, u64 shadow, u64 mask) { return (real & ~mask) | (shadow & mask); }
u64 vmx_cr0(const struct vcpu *v) { return masked(vmread(GUEST_CR0), v->cr0_shadow, vmx_cr0_mask(v)); }
u64 vmx_cr4(const struct vcpu *v) { return masked(vmread(GUEST_CR4), v->cr4_shadow, vmx_cr4_mask(v)); }

static void cr0_set(struct vcpu *v, u64 value) {
    vmwrite(GUEST_CR0, value | vmx.cr0_forced);
    vmwrite(CR0_SHADOW, v->cr0_shadow = value);
}

static void cr4_set(struct vcpu *v, u64 value) {
    vmwrite(GUEST_CR4, value | vmx.cr4_forced);
    vmwrite(CR4_SHADOW, v->cr4_shadow = value);
}

/* LMA follows from CR0.PG and LME, and an entry control must say the same (26.3.1.1). Afterwards exits keep both up to date. */
static void efer_set(u64 efer, u64 cr0) {
    bool lma = (cr0 & CR0_PG) && (efer & EFER_LME);
    vmwrite(GUEST_EFER, lma ? efer | EFER_LMA : efer & ~EFER_LMA);
    vmwrite(CTRL_ENTRY, ENTRY_FORCED | vmx.entry.must | (lma ? ENTRY_IA32E : 0));
}

void vmx_controls_write(struct vcpu *v) {
    vmwrite(CTRL_CPU, v->ctrl[0] | CPU_FORCED | vmx.cpu.must | (v->irq_window ? CPU_IRQ_WINDOW : 0) |
                          (v->nmi_window ? CPU_NMI_WINDOW : 0));
    vmwrite(CTRL_CPU2, v->ctrl[1] | vmx.cpu2.must);
    vmwrite(EXC_BITMAP, v->exc | 1u << VEC_AC | 1u << VEC_DB | 1u << VEC_MC);
    vmwrite(CR0_MASK, vmx_cr0_mask(v));
    vmwrite(CR4_MASK, vmx_cr4_mask(v));
    v->controls = false;
}

static void zero(u32 from, u32 to) {
    for (u32 field = from; field <= to; field += 2)
        vmwrite(field, 0);
}

/* VMCLEAR leaves the contents open: everything that an entry reads is written, most of it 0. */
void vmx_state_init(struct ec *ec, u64 host_msrs_pa) {
    struct vcpu *v = ec->vcpu;
    const u64 list = arch_ptr_phys(v->msr).v, vapic = arch_ptr_phys(v->vmcs).v + PAGE_SIZE;
    zero(GUEST_SEL, 0x80e), zero(0xc00, HOST_TR), zero(VMCS_TSC_OFFSET, VMCS_TSC_OFFSET), zero(0x4c00, 0x4c00);
    zero(GUEST_DEBUGCTL, GUEST_DEBUGCTL), zero(GUEST_PDPTE, GUEST_PDPTE + 6), zero(CTRL_PIN, CTRL_CPU2);
    zero(GUEST_LIMIT, GUEST_SYSENTER_CS), zero(GUEST_CR0, GUEST_SYSENTER_EIP), zero(HOST_CR0, HOST_RIP);
    vmwrite(CTRL_PIN, PIN_FORCED | vmx.pin.must), vmwrite(CTRL_EXIT, EXIT_FORCED | vmx.exit.must);
    vmwrite(EXIT_MSR_STORE, list), vmwrite(ENTRY_MSR_LOAD, list), vmwrite(EXIT_MSR_LOAD, host_msrs_pa);
    vmwrite(EXIT_STORE_COUNT, vmx.msrs), vmwrite(ENTRY_LOAD_COUNT, vmx.msrs), vmwrite(EXIT_LOAD_COUNT, vmx.msrs);
    vmwrite(MSR_BITMAP, arch_ptr_phys(vmx.msr_bitmap).v), vmwrite(VIRTUAL_APIC, vapic), vmwrite(VMCS_LINK, ~0ul);
    vmwrite(GUEST_PAT, RESET_PAT), vmwrite(GUEST_DR7, 0x400), vmwrite(GUEST_RFLAGS, RFLAGS_RESERVED1);
    vmwrite(HOST_CR4, cr4_read()), vmwrite(HOST_EFER, rdmsr(MSR_EFER)), vmwrite(HOST_PAT, rdmsr(MSR_PAT));
    vmwrite(HOST_CR0, cr0_read() | CR0_TS); /* the FPU's registers are the guest's when it leaves */
    vmx_host_write();
    for (unsigned seg = 0; seg <= SEG_IDTR; seg++)
        vmwrite(GUEST_LIMIT + 2 * seg, 0xffff);
    for (unsigned seg = 0; seg <= SEG_TR; seg++)
        vmwrite(GUEST_AR + 2 * seg, seg == SEG_CS ? 0x9b : seg == SEG_LDTR ? 0x82 : seg == SEG_TR ? 0x8b : 0x93);
    cr0_set(v, 0x60000010);
    cr4_set(v, 0);
    efer_set(0, 0);
    vmx_controls_write(v);
}

/* As svm_state.c: few and the rest, some and all. What the hardware has told since the last exit (v->seen) and the VMM leaves as it is is
 * not written again. */
#define SEG_WORD(s) READ_ONCE(*(const u64 *)(s)) /* selector, access rights, limit */

/* Access rights: the ABI's bits 8-12 are bits 12-16 here (table 24-2). */
PIECE seg_get(struct vcpu *v, struct abi_seg *s, unsigned seg) {
    u64 ar = vmread(GUEST_AR + 2 * seg), base = vmread(GUEST_BASE + 2 * seg);
    u64 word =
        vmread(GUEST_SEL + 2 * seg) | (ar & 0xff) << 16 | (ar & 0x1f000) << 12 | vmread(GUEST_LIMIT + 2 * seg) << 32;
    __builtin_memcpy(s, &word, 8);
    s->base = base;
    v->seen_seg[seg] = (struct vmx_seg){word, base};
}

APART seg_write(struct vcpu *v, const struct abi_seg *s, unsigned seg) {
    u32 ar = READ_ONCE(s->ar);
    vmwrite(GUEST_SEL + 2 * seg, s->sel);
    vmwrite(GUEST_AR + 2 * seg, (ar & 0xff) | (ar & 0x1f00) << 4);
    vmwrite(GUEST_LIMIT + 2 * seg, s->limit);
    vmwrite(GUEST_BASE + 2 * seg, s->base);
    v->seen = 0;
}

PIECE seg_set(struct vcpu *v, const struct abi_seg *s, unsigned seg, bool seen) {
    if (unlikely(!seen || SEG_WORD(s) != v->seen_seg[seg].word || s->base != v->seen_seg[seg].base))
        seg_write(v, s, seg);
}

static void table_get(struct abi_seg *s, unsigned seg) {
    s->sel = s->ar = 0;
    s->limit = (u32)vmread(GUEST_LIMIT + 2 * seg);
    s->base = vmread(GUEST_BASE + 2 * seg);
}

static void table_set(const struct abi_seg *s, unsigned seg) {
    vmwrite(GUEST_LIMIT + 2 * seg, s->limit);
    vmwrite(GUEST_BASE + 2 * seg, s->base);
}

PIECE segments_get(struct vcpu *v, struct abi_state *s, u32 mtd) {
    if (mtd & MTD_DS_ES)
        seg_get(v, &s->es, SEG_ES), seg_get(v, &s->ds, SEG_DS);
    if (mtd & MTD_CS_SS)
        seg_get(v, &s->cs, SEG_CS), seg_get(v, &s->ss, SEG_SS);
    if (mtd & MTD_FS_GS)
        seg_get(v, &s->fs, SEG_FS), seg_get(v, &s->gs, SEG_GS);
    if (mtd & MTD_LDTR)
        seg_get(v, &s->ldtr, SEG_LDTR);
    if (mtd & MTD_TR)
        seg_get(v, &s->tr, SEG_TR);
    if (mtd & MTD_GDTR)
        table_get(&s->gdtr, SEG_GDTR);
    if (mtd & MTD_IDTR)
        table_get(&s->idtr, SEG_IDTR);
}

PIECE system_get(struct vcpu *v, struct abi_state *s, u32 mtd) {
    if (mtd & MTD_CR) {
        s->cr0 = v->seen_cr0 = vmx_cr0(v), s->cr3 = v->seen_cr3 = vmread(GUEST_CR3);
        s->cr4 = v->seen_cr4 = vmx_cr4(v), s->cr2 = v->cr2;
        s->cr8 = v->vmcs[PAGE_SIZE + VTPR] >> 4;
    }
    if (mtd & MTD_DR)
        s->dr7 = vmread(GUEST_DR7);
    if (mtd & MTD_SYSENTER) {
        s->sysenter_cs = vmread(GUEST_SYSENTER_CS);
        s->sysenter_rsp = vmread(GUEST_SYSENTER_ESP);
        s->sysenter_rip = vmread(GUEST_SYSENTER_EIP);
    }
    if (mtd & MTD_TSC) {
        s->tsc_value = arch_clock() + v->tsc_offset;
        s->tsc_offset = v->tsc_offset;
    }
    if (mtd & MTD_EFER)
        s->efer = v->seen_efer = vmread(GUEST_EFER);
}

static void extensions_get(struct abi_state *s, const struct vcpu *v, u32 mtd) {
    for (unsigned i = 0; i < 4 && (mtd & MTD_PDPTE); i++)
        s->pdpte[i] = vmread(GUEST_PDPTE + 2 * i);
    if (mtd & MTD_SYSCALL) {
        s->star = v->msr[VMX_STAR].value, s->lstar = v->msr[VMX_LSTAR].value, s->cstar = v->msr[VMX_CSTAR].value;
        s->sfmask = v->msr[VMX_SFMASK].value, s->kernel_gs_base = v->msr[VMX_KERNEL_GS_BASE].value;
    }
    if (mtd & MTD_TPR) {
        s->tpr = v->vmcs[PAGE_SIZE + VTPR];
        s->tpr_threshold = v->tpr_threshold;
    }
    if (mtd & MTD_TSC_AUX)
        s->tsc_aux = v->msr[VMX_TSC_AUX].value;
    if (mtd & MTD_XSAVE) {
        s->xcr0 = v->xcr0;
        s->xss = 0;
    }
    if (mtd & MTD_PAT)
        s->pat = vmread(GUEST_PAT);
    if (mtd & MTD_MASKS) {
        s->cr0_mask = v->cr0_mask, s->cr4_mask = v->cr4_mask;
        s->exc_intercepts = v->exc;
    }
}

/* Exits that explain themselves: vmx.c has looked at the qualification already; exceptions have their vector in the second one. */
PIECE qualification_get(struct abi_state *s, const struct ec *ec, unsigned event) {
    bool known = event == EXIT_EXCEPTION || event == EXIT_CR || event == EXIT_EPT_VIOLATION;
    s->qual[0] = known ? ec->vcpu->qual : vmread(EXIT_QUALIFICATION);
    s->qual[1] = 0;
    if (event == EXIT_EPT_VIOLATION) {
        s->qual[1] = ec->fault_addr;
    } else if (event == EXIT_EXCEPTION) {
        u64 info = vmread(EXIT_EVENT);
        s->qual[1] = info | (info & VMX_EVENT_ERROR ? vmread(EXIT_EVENT_ERROR) << 32 : 0);
    }
}

PIECE few_get(struct ec *ec, struct abi_state *s, u32 mtd, unsigned event) {
    struct vcpu *v = ec->vcpu;
    if (mtd & MTD_RIP) {
        s->rip = vmread(GUEST_RIP);
        s->inst_len = event < 64 && EXITS_INSN >> event & 1 ? vmread(EXIT_INSN_LEN) : 0;
    }
    if (mtd & MTD_REGS) {
        uregs_get(&ec->regs, &ec->regs.rax, s, mtd);
        if (mtd & MTD_RSP)
            s->rsp = vmread(GUEST_RSP);
        if (mtd & MTD_RFLAGS)
            s->rflags = vmread(GUEST_RFLAGS);
    }
    if (!(mtd & (MTD_QUAL | MTD_INJ | MTD_STA)))
        return;
    /* If not, nothing ran: no qualification, and the pending injection is still ours. */
    bool exited = event < EVT_VCPU_STARTUP && event != EVT_VMX_INVALID;
    if ((mtd & MTD_QUAL) && exited)
        qualification_get(s, ec, event);
    else if (mtd & MTD_QUAL)
        s->qual[0] = s->qual[1] = 0;
    if (mtd & MTD_INJ) {
        u64 inj = exited ? v->interrupted : v->inj;
        s->inj_info = (u32)inj;
        s->inj_error = (u32)(inj >> 32);
        if (exited)
            v->inj = 0; /* the VMM knows it now and decides; who does not ask for INJ has it injected again */
    }
    if (mtd & MTD_STA) {
        s->intr_state = (u32)vmread(INTERRUPTIBILITY);
        s->actv_state = (u32)vmread(ACTIVITY);
    }
}

PIECE rest_get(struct vcpu *v, struct abi_state *s, u32 mtd) {
    v->seen |= mtd;
    if (mtd & MTD_SEGMENTS)
        segments_get(v, s, mtd);
    if (mtd & MTD_SYSTEM)
        system_get(v, s, mtd);
    if (unlikely(mtd & ABI_MTD_EXT))
        extensions_get(s, v, mtd);
}

static void refuse(struct vcpu *v, u32 mtd_bit, bool bad) {
    v->refused = bad ? v->refused | mtd_bit : v->refused & ~mtd_bit;
}

PIECE segments_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    u32 seen = v->seen;
    if (mtd & MTD_DS_ES)
        seg_set(v, &s->es, SEG_ES, seen & MTD_DS_ES), seg_set(v, &s->ds, SEG_DS, seen & MTD_DS_ES);
    if (mtd & MTD_CS_SS)
        seg_set(v, &s->cs, SEG_CS, seen & MTD_CS_SS), seg_set(v, &s->ss, SEG_SS, seen & MTD_CS_SS);
    if (mtd & MTD_FS_GS)
        seg_set(v, &s->fs, SEG_FS, seen & MTD_FS_GS), seg_set(v, &s->gs, SEG_GS, seen & MTD_FS_GS);
    if (mtd & MTD_LDTR)
        seg_set(v, &s->ldtr, SEG_LDTR, seen & MTD_LDTR);
    if (mtd & MTD_TR)
        seg_set(v, &s->tr, SEG_TR, seen & MTD_TR);
    if (mtd & MTD_GDTR)
        table_set(&s->gdtr, SEG_GDTR);
    if (mtd & MTD_IDTR)
        table_set(&s->idtr, SEG_IDTR);
}

APART modes_write(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    if (mtd & MTD_CR) {
        cr0_set(v, s->cr0);
        cr4_set(v, s->cr4);
        vmwrite(GUEST_CR3, s->cr3);
    }
    efer_set(mtd & MTD_EFER ? s->efer : vmread(GUEST_EFER), vmread(GUEST_CR0));
    v->seen = 0;
}

PIECE system_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    if (mtd & (MTD_CR | MTD_EFER)) {
        u64 changed = mtd & (MTD_CR | MTD_EFER) & ~v->seen;
        if (mtd & MTD_CR)
            changed |= (s->cr0 ^ v->seen_cr0) | (s->cr3 ^ v->seen_cr3) | (s->cr4 ^ v->seen_cr4);
        if (mtd & MTD_EFER)
            changed |= s->efer ^ v->seen_efer;
        if (unlikely(changed))
            modes_write(v, s, mtd);
        v->flush = true; /* also if it stays the same: as MOV to CR3 does */
    }
    if (mtd & MTD_CR) {
        v->cr2 = s->cr2;
        v->vmcs[PAGE_SIZE + VTPR] = (u8)(s->cr8 << 4);
    }
    if (mtd & MTD_DR)
        vmwrite(GUEST_DR7, s->dr7);
    if (mtd & MTD_SYSENTER) {
        vmwrite(GUEST_SYSENTER_CS, s->sysenter_cs);
        vmwrite(GUEST_SYSENTER_ESP, s->sysenter_rsp);
        vmwrite(GUEST_SYSENTER_EIP, s->sysenter_rip);
    }
    if (mtd & MTD_TSC && s->tsc_offset)
        vmwrite(VMCS_TSC_OFFSET, v->tsc_offset += s->tsc_offset);
}

/* Controls that need a field which a VMM cannot set must never be on. */
APART controls_set(struct vcpu *v, u32 cpu, u32 cpu2) {
    u32 cpu_ok = CPU_FORCED | vmx.cpu.must | (CPU_CHOICE & vmx.cpu.may);
    u32 cpu2_ok = vmx.cpu2.must | (CPU2_CHOICE & vmx.cpu2.may);
    refuse(v, MTD_CTRL, (cpu & ~cpu_ok) || (cpu2 & ~cpu2_ok));
    v->ctrl[0] = cpu & cpu_ok, v->ctrl[1] = cpu2 & cpu2_ok;
    v->controls = true;
}

static void inject_set(struct vcpu *v, u32 info, u32 error) {
    bool irq = info & INJ_IRQ_WINDOW, nmi = info & INJ_NMI_WINDOW;
    v->controls |= irq != v->irq_window || nmi != v->nmi_window;
    v->irq_window = irq, v->nmi_window = nmi;
    v->inj = info & INJ_VALID ? (info & 0x80000fff) | (u64)error << 32 : 0;
}

/* Other activities than HLT shut interrupts out, ours too (table 24-3). With a shadow or in HLT, a single step that is due must be pending
 * (26.3.1.5). */
static void activity_set(struct vcpu *v, u32 blocking, u32 activity) {
    bool bad = activity > ACTIVITY_HLT;
    refuse(v, MTD_STA, bad);
    vmwrite(INTERRUPTIBILITY, blocking);
    vmwrite(ACTIVITY, bad ? ACTIVITY_ACTIVE : activity);
    if (blocking & BLOCKING_SHADOW || activity == ACTIVITY_HLT)
        vmwrite(PENDING_DEBUG, vmread(GUEST_RFLAGS) & RFLAGS_TF ? PENDING_BS : 0);
}

static void extensions_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    for (unsigned i = 0; i < 4 && (mtd & MTD_PDPTE); i++)
        vmwrite(GUEST_PDPTE + 2 * i, s->pdpte[i]);
    if (mtd & MTD_SYSCALL) {
        v->msr[VMX_STAR].value = s->star, v->msr[VMX_LSTAR].value = s->lstar, v->msr[VMX_CSTAR].value = s->cstar;
        v->msr[VMX_SFMASK].value = s->sfmask, v->msr[VMX_KERNEL_GS_BASE].value = s->kernel_gs_base;
    }
    if (mtd & MTD_TPR) {
        v->vmcs[PAGE_SIZE + VTPR] = (u8)s->tpr;
        vmwrite(TPR_THRESHOLD, v->tpr_threshold = s->tpr_threshold & 0xf);
    }
    if (mtd & MTD_TSC_AUX) {
        u64 aux = v->msr[VMX_TSC_AUX].value = READ_ONCE(s->tsc_aux);
        refuse(v, MTD_TSC_AUX, aux >> 32 || (aux && vmx.msrs <= VMX_TSC_AUX));
    }
    if (mtd & MTD_XSAVE) {
        u64 xcr0 = READ_ONCE(s->xcr0);
        v->xcr0 = (u32)xcr0;
        refuse(v, MTD_XSAVE, READ_ONCE(s->xss) || (xcr0 != 1 && !vcpu_xcr0_valid(xcr0, vmx.xcr0)));
    }
    if (mtd & MTD_PAT)
        vmwrite(GUEST_PAT, s->pat);
    if (mtd & MTD_MASKS) {
        u64 cr0 = vmx_cr0(v), cr4 = vmx_cr4(v); /* the guest changed bits that were its own */
        v->cr0_mask = s->cr0_mask, v->cr4_mask = s->cr4_mask;
        v->exc = s->exc_intercepts;
        v->controls = true;
        cr0_set(v, cr0), cr4_set(v, cr4);
    }
}

/* What the hardware refuses makes the entry fail; what would hurt us at or after the entry is refused here. */
PIECE few_set(struct ec *ec, const struct abi_state *s, u32 mtd) {
    if (mtd & MTD_RIP) {
        vmwrite(GUEST_RIP, s->rip);
        ec->vcpu->inj_len = (u32)s->inst_len;
    }
    if (mtd & MTD_REGS) {
        uregs_set(&ec->regs, &ec->regs.rax, s, mtd);
        if (mtd & MTD_RSP)
            vmwrite(GUEST_RSP, s->rsp);
        if (mtd & MTD_RFLAGS)
            vmwrite(GUEST_RFLAGS, s->rflags | RFLAGS_RESERVED1);
    }
}

PIECE rest_set(struct vcpu *v, const struct abi_state *s, u32 mtd) {
    if (mtd & MTD_SEGMENTS)
        segments_set(v, s, mtd);
    if (mtd & MTD_SYSTEM)
        system_set(v, s, mtd);
    if (mtd & MTD_CTRL) {
        u64 ctrl = READ_ONCE(*(const u64 *)s->ctrl), old;
        __builtin_memcpy(&old, v->ctrl, 8);
        if (unlikely(ctrl != old || v->refused & MTD_CTRL))
            controls_set(v, (u32)ctrl, (u32)(ctrl >> 32));
    }
    if (mtd & MTD_INJ)
        inject_set(v, READ_ONCE(s->inj_info), s->inj_error);
    if (mtd & MTD_STA)
        activity_set(v, s->intr_state, READ_ONCE(s->actv_state));
    if (unlikely(mtd & ABI_MTD_EXT))
        extensions_set(v, s, mtd);
}

VCPU_MESSAGES(vmx_get, vmx_set, 0, unlikely(vmx_absent(ec)), vmx_load(ec))
