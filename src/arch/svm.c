#include "arch/svm.h"
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/mitigate.h"
#include "arch/vcpu_vendor.h"
#include "core/core.h"
#include "core/klog.h"
#include "core/pd.h"

#define MSR_VM_CR    0xc0010114 /* APM vol 2 15.30.1 */
#define VM_CR_SVMDIS (1ul << 4)
#define MSR_VM_HSAVE 0xc0010117

static struct svm_cpu svm_cpus[ABI_MAX_CPUS];
struct svm_features svm;
static struct slab_cache vcpu_cache = SLAB_CACHE(struct vcpu);
/* Shared by all guests: every MSR exits but those that VMLOAD and VMSAVE switch; every port exits; a nested table that maps nothing. */
static void *msrpm, *iopm_all, *npt_empty;
#define MSRPM_ORDER 1
#define IOPM_ORDER  2

static inline bool bit(u32 reg, unsigned n) { return reg >> n & 1; }

static bool svm_present(void) { return cpuid(0x80000000, 0).a >= 0x8000000a && bit(cpuid(0x80000001, 0).c, 2); }

static const char *svm_missing(void) {
    if (rdmsr(MSR_VM_CR) & VM_CR_SVMDIS)
        return "AMD-V is disabled by the firmware; switch SVM on in its setup";
    if (!bit(cpuid(0x8000000a, 0).d, 0))
        return "the CPU's AMD-V has no nested paging, which is required";
    return NULL;
}

void svm_features_read(struct svm_features *f) {
    struct cpuid_regs l1 = cpuid(1, 0), l7 = cpuid(7, 0), x1 = cpuid(0x80000001, 0), rev = cpuid(0x8000000a, 0);
    u32 phys = cpuid(0x80000008, 0).a & 0xff;
    f->asid_count = rev.b;
    f->nrip = bit(rev.d, 3);
    f->flush_asid = bit(rev.d, 6);
    f->mca = bit(l1.d, 14);
    f->repeats_inj = bit(l1.c, 31) && cpuid(0x40000000, 0).b == 0x54474354; /* "TCGTCGTCGTCG": QEMU without KVM */
    f->tsc_aux = bit(x1.d, 27) || bit(l7.c, 22);
    f->pku = bit(l7.c, 3);
    f->xsave = bit(l1.c, 26) && bit(l1.c, 27);
    f->xcr0 = f->xsave ? (u32)xgetbv(0) : 1;
    f->cr3_mbz = ~0ul << (phys >= 32 && phys <= 52 ? phys : 36);
    u64 cr4 = 0x7ff; /* VME to OSXMMEXCPT */
    const struct {
        u32 reg, from, to; /* CPUID register and bit, CR4 bit: UMIP LA57 FSGSBASE, PCIDE OSXSAVE SMEP, SMAP PKE CET */
    } optional[] = {{l7.c, 2, 11}, {l7.c, 16, 12}, {l7.b, 0, 16}, {l1.c, 17, 17}, {l1.c, 26, 18},
                    {l7.b, 7, 20}, {l7.b, 20, 21}, {l7.c, 3, 22}, {l7.c, 7, 23}};
    for (unsigned i = 0; i < ARRAY_SIZE(optional); i++)
        cr4 |= (u64)bit(optional[i].reg, optional[i].from) << optional[i].to;
    f->cr4_mbz = ~cr4;
    f->efer_mbz = ~(EFER_SVME | (bit(x1.d, 11) ? EFER_SCE : 0) | (bit(x1.d, 20) ? EFER_NXE : 0) |
                    (bit(x1.d, 29) ? EFER_LME | EFER_LMA : 0) | (bit(x1.d, 25) ? EFER_FFXSR : 0) |
                    (bit(x1.c, 17) ? EFER_TCE : 0));
}

/* MSR permission map, APM vol 2 15.11: two bits (read, write) per MSR; ranges of 0x2000 MSRs, 0x800 bytes each, from 0 and from 0xc0000000;
 * none of the third, from 0xc0010000, passes. */
static void msrpm_pass(u8 *map, u32 msr) {
    u32 n = (msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0);
    map[n >> 2] &= (u8) ~(3u << (n & 3) * 2);
}

static bool shared_init(void) {
    /* SYSENTER_CS ESP EIP, STAR LSTAR CSTAR SFMASK, FS_BASE GS_BASE KERNEL_GS_BASE */
    static const u32 pass[] = {0x174,      0x175,      0x176,      0xc0000081, 0xc0000082,
                               0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102};
    svm_features_read(&svm);
    msrpm = kmem_pages_alloc(&kernel_account, MSRPM_ORDER);
    iopm_all = kmem_pages_alloc(&kernel_account, IOPM_ORDER);
    npt_empty = kmem_pages_alloc(&kernel_account, 0);
    if (!msrpm || !iopm_all || !npt_empty)
        return false;
    memset(msrpm, 0xff, PAGE_SIZE << MSRPM_ORDER);
    memset(iopm_all, 0xff, PAGE_SIZE << IOPM_ORDER);
    for (unsigned i = 0; i < ARRAY_SIZE(pass); i++)
        msrpm_pass(msrpm, pass[i]);
    return true;
}

static bool svm_cpu_init(struct cpu *c) {
    struct svm_cpu *s = &svm_cpus[c->id];
    void *hsave = kmem_pages_alloc(&kernel_account, 0), *host = kmem_pages_alloc(&kernel_account, 0);
    if (!hsave || !host || (!npt_empty && !shared_init())) {
        klog_warn("vcpu: CPU %u: not enough kernel memory for virtual machines\n", c->id);
        return false;
    }
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE, arch_ptr_phys(hsave).v);
    s->host = host;
    s->host_phys = arch_ptr_phys(host).v;
    svm_host_save(s->host_phys);
    s->tsc_aux = svm.tsc_aux ? rdmsr(MSR_TSC_AUX) : 0;
    c->guest_flush_gen = 1; /* a new vCPU has 0: no ASID yet */
    c->next_asid = 0;       /* the first guest begins generation 2 with a flush of whatever was here before us */
    atomic_store_rel(&s->ready, true);
    if (c->id == 0)
        klog("vcpu: AMD-V, nested paging, %u ASIDs%s%s\n", svm.asid_count, svm.nrip ? ", next RIP" : "",
             svm.flush_asid ? ", flush by ASID" : "");
    return true;
}

static enum abi_status svm_init(struct ec *ec) {
    if (!atomic_load_acq(&svm_cpus[ec->cpu].ready))
        return NOVA_BAD_FTR;
    struct vcpu *v = slab_alloc(&vcpu_cache, &ec->pd->account);
    if (!v)
        return NOVA_BAD_MEM;
    v->vmcb = kmem_pages_alloc(&ec->pd->account, 0);
    if (!v->vmcb) {
        slab_free(&vcpu_cache, &ec->pd->account, v);
        return NOVA_BAD_MEM;
    }
    v->vmcb_phys = arch_ptr_phys(v->vmcb).v;
    v->home = &svm_cpus[ec->cpu];
    v->vmcb->msrpm = arch_ptr_phys(msrpm).v;
    svm_state_init(v);
    ec->vcpu = v;
    return NOVA_SUCCESS;
}

static void svm_fini(struct ec *ec) {
    struct vcpu *v = ec->vcpu;
    if (v->home->owner == &v->lazy)
        v->home->owner = NULL;
    ec->vcpu = NULL;
    kmem_pages_free(&ec->pd->account, v->vmcb, 0);
    slab_free(&vcpu_cache, &ec->pd->account, v);
}

/* An ASID of the CPU's present generation whose translations are as young as `gen` of the guest's table. ASIDs are used up one
 * after the other; the next generation begins with a flush of all of them. What is to be flushed stays in the VMCB until VMRUN has done it. */
static no_inline void guest_renew(struct cpu *c, struct vcpu *v, struct pd *pd, u64 gen) {
    struct vmcb *b = v->vmcb;
    b->iopm = arch_ptr_phys(atomic_load_acq(&pd->guest_pio_bitmap) ?: iopm_all).v;
    v->tlb_gen = gen;
    if (v->asid_gen == c->guest_flush_gen && svm.flush_asid) {
        b->tlb_control = b->tlb_control ? b->tlb_control : SVM_TLB_FLUSH_ASID;
        return;
    }
    if (c->next_asid == 0 || c->next_asid >= svm.asid_count) {
        c->next_asid = 1;
        c->guest_flush_gen++;
        b->tlb_control = SVM_TLB_FLUSH_ALL;
    }
    b->asid = c->next_asid++;
    v->asid_gen = c->guest_flush_gen;
}

/* What the VMM chooses. An open window is written at each entry: V_IRQ is the hardware's, too. */
static void controls_write(struct vcpu *v) {
    struct vmcb *b = v->vmcb;
    b->exc = v->exc | 1u << VEC_AC | 1u << VEC_DB | 1u << VEC_MC;
    b->misc1 =
        v->ctrl[0] | SVM_MISC1_FORCED | (v->irq_window ? SVM_MISC1_VINTR : 0u) | (v->nmi_window ? SVM_MISC1_IRET : 0u);
    b->misc2 = v->ctrl[1] | SVM_MISC2_FORCED;
    b->int_ctl = (b->int_ctl & (SVM_INT_TPR | SVM_INT_V_MASKING)) | (v->irq_window ? SVM_INT_V_IRQ : 0);
    v->controls = v->irq_window;
}

/* Where EVENTINJ's interrupt may be delivered twice (QEMU 7.2), one that the guest takes at once is a virtual one (15.21.4). */
static no_inline void injection_write(struct vcpu *v) {
    struct vmcb *b = v->vmcb;
    unsigned type = SVM_EVENT_TYPE(v->inj), vec = SVM_EVENT_VECTOR(v->inj);
    bool open = b->rflags & RFLAGS_IF && !b->int_shadow && !v->irq_window;
    if (svm.repeats_inj && open && type == SVM_EVENT_INTR && vec > 31)
        b->int_ctl |= SVM_INT_V_IRQ | SVM_INT_VECTOR(vec);
    else
        b->eventinj = v->inj;
    if (type == SVM_EVENT_SOFT)
        b->nrip = b->rip; /* INT returns there; without next-RIP save VMRUN takes RIP */
}

static void entry_prepare(struct cpu *c, struct svm_cpu *s, struct vcpu *v, struct pd *pd) {
    u64 gen = atomic_load_acq(&pd->guest_gen);
    if (unlikely(v->asid_gen != c->guest_flush_gen || v->tlb_gen != gen))
        guest_renew(c, v, pd, gen);
    if (unlikely(v->inj))
        injection_write(v);
    if (unlikely(s->owner != &v->lazy))
        vcpu_lazy_load(&s->owner, &v->lazy, svm.pku);
}

static void injection_clear(struct vmcb *b) {
    b->eventinj = 0;
    b->int_ctl &= SVM_INT_TPR | SVM_INT_V_MASKING; /* an open window is written again at each entry */
}

/* VMRUN has neither injected nor flushed. Who comes next flushes for all if this one should have. */
static void entry_undo(struct cpu *c, struct vcpu *v) {
    atomic_store_rel(&c->guest_space, NULL);
    injection_clear(v->vmcb);
    if (v->vmcb->tlb_control == SVM_TLB_FLUSH_ALL)
        c->next_asid = 0;
}

/* GIF 0: registers that host code sees, too, are the guest's from here to the exit. What the CPU has not, the vCPU has as the host. */
static void world_switch(struct svm_cpu *s, struct vcpu *v, struct uregs *regs) {
    const struct arch_bases bases = arch_bases_read();
    struct vmcb *host = s->host;
    host->fs.base = bases.fs;
    host->kernel_gs_base = bases.gs;
    if (v->xcr0 != svm.xcr0)
        xsetbv(0, v->xcr0);
    if (unlikely(v->own_aux))
        wrmsr(MSR_TSC_AUX, v->tsc_aux);
    if (unlikely(mitigations & MIT_L1D))
        mitigate_guest_entry();
    svm_world_switch(v->vmcb_phys, s->host_phys, regs);
    if (unlikely(v->own_aux))
        wrmsr(MSR_TSC_AUX, s->tsc_aux);
    if (svm.xsave) { /* one emulator (QEMU 7.2) executes XSETBV although its intercept is set */
        v->xcr0 = (u32)xgetbv(0);
        if (v->xcr0 != svm.xcr0)
            xsetbv(0, svm.xcr0);
    }
}

/* What became of the injected event, and which one is to be injected next unless the VMM decides otherwise. A software interrupt or
 * breakpoint of the guest's own is not: its instruction runs again. */
static no_inline void injection_settle(struct vcpu *v) {
    u64 ev = v->vmcb->exitintinfo & (0xfffffffful << 32 | 0x80000fff), mine = v->inj;
    if (v->vmcb->int_ctl & SVM_INT_PENDING && !v->irq_window)
        ev = mine; /* not taken yet */
    else if (SVM_EVENT_TYPE(ev) == SVM_EVENT_EXC && SVM_EVENT_VECTOR(ev) > 31)
        ev &= ~(7ul << 8); /* what the same emulator makes of an interrupted virtual interrupt */
    v->inj = v->interrupted = 0;
    injection_clear(v->vmcb);
    if (!(ev & SVM_EVENT_VALID)) {
        if ((mine & SVM_EVENT_VALID) && SVM_EVENT_TYPE(mine) == SVM_EVENT_NMI)
            v->nmi_masked = true;
        return;
    }
    unsigned type = SVM_EVENT_TYPE(ev), vec = SVM_EVENT_VECTOR(ev);
    bool own_insn = type == SVM_EVENT_SOFT || (type == SVM_EVENT_EXC && (vec == 3 || vec == 4));
    v->interrupted = ev;
    if (!own_insn || (u32)ev == (u32)mine)
        v->inj = ev;
}

/* XSETBV, exited before any effect; legal values only, all else is #GP (APM vol 4 "XSETBV"). */
static void xsetbv_emulate(struct vcpu *v, const struct uregs *r) {
    struct vmcb *b = v->vmcb;
    u64 value = r->rdx << 32 | (u32)b->rax;
    if (b->cpl || (u32)r->rcx || !vcpu_xcr0_valid(value, svm.xcr0)) {
        v->inj = SVM_EVENT(VEC_GP, SVM_EVENT_EXC, SVM_EVENT_ERROR);
        return;
    }
    v->xcr0 = (u32)value;
    b->rip = svm.nrip ? b->nrip : b->rip + 3;
    b->int_shadow = 0;
}

/* #DB, #AC and #MC are the guest's unless the VMM asked for them. */
static bool exception_resolve(struct vcpu *v, unsigned vec) {
    if (vec == VEC_MC) {
        klog_warn("vcpu: machine check while a guest ran; the guest gets it\n");
        if (svm.mca)
            wrmsr(MSR_MCG_STATUS, 0); /* MCIP: another one would shut the CPU down */
    }
    if (v->exc & 1u << vec)
        return false;
    if (vec == VEC_DB)
        v->vmcb->dr7 &= ~DR7_GD; /* as delivery does; DR6 is up to date (15.12.2) */
    v->inj = SVM_EVENT(vec, SVM_EVENT_EXC, vec == VEC_AC ? SVM_EVENT_ERROR : 0);
    return true;
}

/* Exits that the kernel keeps from the VMM unless it asked for them. False: the VMM's. */
static bool exit_resolve(struct vcpu *v, const struct uregs *r) {
    switch (v->vmcb->exitcode) {
    case SVM_EXIT_INTR: /* come in when the interrupts are opened, below */
    case SVM_EXIT_NMI:
        return true;
    case SVM_EXIT_EXC + VEC_DB:
    case SVM_EXIT_EXC + VEC_AC:
    case SVM_EXIT_EXC + VEC_MC:
        return exception_resolve(v, (unsigned)v->vmcb->exitcode - SVM_EXIT_EXC);
    case SVM_EXIT_XSETBV:
        if (v->ctrl[1] & SVM_MISC2_XSETBV)
            return false;
        xsetbv_emulate(v, r);
        return true;
    case SVM_EXIT_STGI:
        if (v->ctrl[1] & SVM_MISC2_STGI)
            return false;
        break;
    case SVM_EXIT_INVLPGA:
        if (v->ctrl[0] & SVM_MISC1_INVLPGA)
            return false;
        break;
    case SVM_EXIT_IRET:
        v->nmi_masked = false; /* one instruction early: IRET itself has not run */
        return false;
    default:
        return false;
    }
    v->inj = SVM_EVENT(VEC_UD, SVM_EVENT_EXC, 0); /* the guest's EFER has no SVME as far as it can see */
    return true;
}

/* Those from 0x40 to 0x7f that exit_resolve has something to do for. */
#define EXIT_BIT(code) (1ul << ((code)&0x3f))
#define EXITS_RESOLVED                                                                                                 \
    (EXIT_BIT(SVM_EXIT_EXC + VEC_DB) | EXIT_BIT(SVM_EXIT_EXC + VEC_AC) | EXIT_BIT(SVM_EXIT_EXC + VEC_MC) |             \
     EXIT_BIT(SVM_EXIT_INTR) | EXIT_BIT(SVM_EXIT_NMI) | EXIT_BIT(SVM_EXIT_IRET) | EXIT_BIT(SVM_EXIT_INVLPGA))

static struct ec *exit_dispatch(struct cpu *c, struct ec *ec, struct vcpu *v, u64 code) {
    if (likely(code - 0x40 < 0x40 && !(EXITS_RESOLVED >> (code & 0x3f) & 1)))
        return core_vmexit(c, (unsigned)code);
    if (exit_resolve(v, &ec->regs)) {
        /* Also ends a guest whose exception delivery never does: no INTR exit comes in between. */
        (void)arch_preempt_pending();
        return core_resume(c);
    }
    if (code == SVM_EXIT_NPF) {
        ec->fault_addr = v->vmcb->exitinfo2;
        return core_vmexit(c, EVT_SVM_NPF);
    }
    if (unlikely(code >= 0xa0)) {
        klog_warn("vcpu: exit code %lx has no event\n", code);
        ec_kill(c, ec, "exit code outside the table");
        return core_resume(c);
    }
    return core_vmexit(c, (unsigned)code);
}

/* What the VMM left to do. Negative, or the event that is told instead of an entry. */
static no_inline int attend(struct vcpu *v, struct pd *pd) {
    if (v->check && !svm_state_valid(v))
        return EVT_SVM_INVALID;
    v->check = false;
    if (v->nmi_window && !v->nmi_masked && !v->inj) { /* open already; the hardware cannot tell */
        v->interrupted = v->vmcb->exitinfo1 = v->vmcb->exitinfo2 = 0;
        return SVM_EXIT_IRET;
    }
    u64 root = atomic_load_acq(&pd->guest.root.v);
    v->no_table = !root; /* when it has one it keeps it */
    v->vmcb->n_cr3 = root ? root : arch_ptr_phys(npt_empty).v;
    if (v->controls)
        controls_write(v);
    return -1;
}

struct ec *svm_run(struct cpu *c) {
    struct ec *ec = c->ec;
    struct vcpu *v = ec->vcpu;
    struct pd *pd = ec->pd;
    if (unlikely(v->attention)) {
        int event = attend(v, pd);
        if (event >= 0)
            return core_vmexit(c, (unsigned)event);
    }
    /* A shootdown bumps guest_gen and then looks for our guest_space; we show it and then look at guest_gen: one sees the other. If
     * it saw us, its hazard bit is set before its IPI, which leads to an INTR exit when it comes after the check below. */
    atomic_store_rel(&c->guest_space, pd);
    atomic_fence();
    entry_prepare(c, v->home, v, pd);
    clgi();
    if (unlikely(atomic_load_acq(&c->hazard) | atomic_load_acq(&ec->hazard))) {
        stgi();
        entry_undo(c, v);
        return core_resume(c);
    }
    world_switch(v->home, v, &ec->regs);
    c = arch_cpu_self(), ec = c->ec; /* looked up again, as hardly a register outlives the switch */
    stgi();
    struct vmcb *b = v->vmcb;
    u64 code = b->exitcode;
    if (unlikely((u32)code == ~0u)) { /* 64-bit -1; one emulator writes 32 bits only */
        entry_undo(c, v);
        v->check = true;
        return core_vmexit(c, EVT_SVM_INVALID);
    }
    atomic_store_rel(&c->guest_space, NULL);
    if (unlikely(b->tlb_control))
        b->tlb_control = 0;
    if (unlikely((b->exitintinfo | v->inj | v->interrupted) & SVM_EVENT_VALID))
        injection_settle(v);
    return exit_dispatch(c, ec, v, code);
}

const struct vcpu_vendor svm_vendor = {
    .feature = HIP_SVM,
    .fault_event = EVT_SVM_NPF,
    .ptab = PTAB_NPT,
    .present = svm_present,
    .missing = svm_missing,
    .cpu_init = svm_cpu_init,
    .init = svm_init,
    .fini = svm_fini,
};
