#include "arch/vmx.h"
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/mitigate.h"
#include "arch/mtrr.h"
#include "arch/space.h"
#include "core/core.h"
#include "core/klog.h"
#include "core/pd.h"

static struct vmx_cpu vmx_cpus[ABI_MAX_CPUS];
struct vmx_features vmx;
static struct slab_cache vcpu_cache = SLAB_CACHE(struct vcpu);
static const u32 switched_msrs[VMX_MSRS] = {
    [VMX_KERNEL_GS_BASE] = 0xc0000102, [VMX_STAR] = 0xc0000081,   [VMX_LSTAR] = 0xc0000082,
    [VMX_CSTAR] = 0xc0000083,          [VMX_SFMASK] = 0xc0000084, [VMX_TSC_AUX] = MSR_TSC_AUX,
};
#define FEATURE_LOCKED (1ul << 0)
#define FEATURE_VMXON  (1ul << 2) /* outside SMX */
#define BASIC_TRUE     (1ul << 55)
#define CR0_NE         (1ul << 5)
#define CR4_MCE        (1ul << 6)
#define CR4_VMXE       (1ul << 13)
/* EPT: 4 levels, write-back, 2 MiB pages, INVEPT of one pointer; INVVPID of one, of all. Appendix A.10. */
#define EPT_VPID_NEEDED (1ul << 6 | 1ul << 14 | 1ul << 16 | 1ul << 20 | 1ul << 25 | 1ul << 32 | 1ul << 41 | 1ul << 42)
#define EPT_1G          (1ul << 17)

static inline bool bit(u32 reg, unsigned n) { return reg >> n & 1; }

static struct vmx_ctrl ctrl_read(u32 msr) {
    u64 v = rdmsr(msr);
    return (struct vmx_ctrl){(u32)v, (u32)(v >> 32)};
}

static void features_read(void) {
    struct cpuid_regs l1 = cpuid(1, 0), l7 = cpuid(7, 0);
    vmx.revision = (u32)rdmsr(MSR_VMX_BASIC) & 0x7fffffff;
    vmx.pin = ctrl_read(MSR_VMX_TRUE_PIN);
    vmx.cpu = ctrl_read(MSR_VMX_TRUE_PIN + 1);
    vmx.exit = ctrl_read(MSR_VMX_TRUE_PIN + 2);
    vmx.entry = ctrl_read(MSR_VMX_TRUE_PIN + 3);
    vmx.cpu2 = ctrl_read(MSR_VMX_CPU2);
    vmx.cpu2.must |= CPU2_FORCED | (vmx.cpu2.may & (CPU2_RDTSCP | CPU2_INVPCID)); /* as without virtualization */
    vmx.msrs = vmx.cpu2.must & CPU2_RDTSCP ? VMX_MSRS : VMX_TSC_AUX;
    /* Unrestricted guests have PE and PG as they like. Without MCE a machine check would shut the CPU down. */
    vmx.cr0_forced = rdmsr(MSR_VMX_CR0_FIXED0) & ~(CR0_PE | CR0_PG);
    vmx.cr4_forced = rdmsr(MSR_VMX_CR4_FIXED0) | CR4_MCE;
    vmx.vpid_count = 1 << 16;
    vmx.mca = bit(l1.d, 14);
    vmx.pku = bit(l7.c, 3);
    vmx.xsave = bit(l1.c, 26) && bit(l1.c, 27);
    vmx.xcr0 = vmx.xsave ? (u32)xgetbv(0) : 1;
}

static bool vmx_present(void) { return cpuid(0, 0).a >= 1 && bit(cpuid(1, 0).c, 5); }

static const char *vmx_missing(void) {
    u64 feature = rdmsr(MSR_FEATURE_CONTROL);
    if ((feature & (FEATURE_LOCKED | FEATURE_VMXON)) == FEATURE_LOCKED)
        return "VT-x is disabled by the firmware; switch it on in its setup";
    if (!(rdmsr(MSR_VMX_BASIC) & BASIC_TRUE) || !bit(ctrl_read(MSR_VMX_TRUE_PIN + 1).may, 31))
        return "the CPU's VT-x is too old: no secondary controls";
    features_read();
    if (CPU2_FORCED & ~vmx.cpu2.may)
        return "the CPU's VT-x lacks EPT, VPID or unrestricted guests, which are required";
    if (EPT_VPID_NEEDED & ~rdmsr(MSR_VMX_EPT_VPID))
        return "the CPU's EPT lacks write-back tables, 2 MiB pages, INVEPT or INVVPID, which are required";
    if ((PIN_FORCED & ~vmx.pin.may) || (CPU_FORCED & ~vmx.cpu.may) || (EXIT_FORCED & ~vmx.exit.may) ||
        (ENTRY_FORCED & ~vmx.entry.may))
        return "the CPU's VT-x lacks virtual NMIs, the TPR shadow, bitmaps, or switching of PAT and EFER, which are "
               "required";
    return NULL;
}

/* MSR bitmap, 24.6.9: a bit per MSR, 0: no exit; reads of low and high MSRs, then writes, 1 KiB each. */
static void msr_pass(u8 *map, u32 msr) {
    u32 n = (msr & 0x1fff) + (msr >= 0xc0000000 ? 0x2000 : 0);
    map[n >> 3] &= (u8) ~(1u << (n & 7));
    map[0x800 + (n >> 3)] &= (u8) ~(1u << (n & 7));
}

static bool shared_init(void) {
    static const u32 pass[] = {0x174, 0x175, 0x176, 0xc0000100, 0xc0000101}; /* SYSENTER_CS ESP EIP, FS_BASE GS_BASE */
    void *msr_bitmap = kmem_pages_alloc(&kernel_account, 0), *iopm_all = kmem_pages_alloc(&kernel_account, 1);
    vmx.ept_empty = kmem_pages_alloc(&kernel_account, 0);
    if (!msr_bitmap || !iopm_all || !vmx.ept_empty)
        return false;
    memset(msr_bitmap, 0xff, PAGE_SIZE);
    memset(iopm_all, 0xff, PAGE_SIZE << 1);
    for (unsigned i = 0; i < ARRAY_SIZE(pass); i++)
        msr_pass(msr_bitmap, pass[i]);
    for (unsigned i = 0; i < VMX_TSC_AUX; i++)
        msr_pass(msr_bitmap, switched_msrs[i]);
    vmx.iopm_all = iopm_all;
    vmx.msr_bitmap = msr_bitmap;
    mtrr_read(cpuid(0x80000008, 0).a & 0xff);
    if (!(rdmsr(MSR_VMX_EPT_VPID) & EPT_1G))
        ptab_max_leaf_order = 9;
    return true;
}

static bool vmx_cpu_init(struct cpu *c) {
    struct vmx_cpu *s = &vmx_cpus[c->id];
    u8 *pages = kmem_pages_alloc(&kernel_account, 1); /* VMXON region, list of the host's MSRs */
    if (!pages || (!vmx.msr_bitmap && !shared_init())) {
        klog_warn("vcpu: CPU %u: not enough kernel memory for virtual machines\n", c->id);
        return false;
    }
    struct vmx_msr *host = (void *)(pages + PAGE_SIZE);
    for (unsigned i = 0; i < vmx.msrs; i++)
        host[i] = (struct vmx_msr){switched_msrs[i], rdmsr(switched_msrs[i])};
    s->host_msrs = host;
    if (!(rdmsr(MSR_FEATURE_CONTROL) & FEATURE_LOCKED))
        wrmsr(MSR_FEATURE_CONTROL, rdmsr(MSR_FEATURE_CONTROL) | FEATURE_LOCKED | FEATURE_VMXON);
    cr4_write(cr4_read() | CR4_VMXE);
    *(u32 *)pages = vmx.revision;
    if (!(rdmsr(MSR_FEATURE_CONTROL) & FEATURE_VMXON) || !vmxon(arch_ptr_phys(pages).v)) {
        klog_warn("vcpu: CPU %u does not enter VMX operation; no virtual machines there\n", c->id);
        return false;
    }
    c->guest_flush_gen = 1; /* a new vCPU has 0: no VPID yet */
    c->next_asid = 0;       /* the first guest begins generation 2 with a flush of whatever was here before us */
    atomic_store_rel(&s->ready, true);
    if (c->id == 0)
        klog("vcpu: VT-x, EPT, VPID, unrestricted guest%s%s\n", vmx.cpu2.must & CPU2_RDTSCP ? ", RDTSCP" : "",
             vmx.cpu2.must & CPU2_INVPCID ? ", INVPCID" : "");
    return true;
}

static enum abi_status vmx_init(struct ec *ec) {
    if (!atomic_load_acq(&vmx_cpus[ec->cpu].ready))
        return NOVA_BAD_FTR;
    struct vcpu *v = slab_alloc(&vcpu_cache, &ec->pd->account);
    if (!v)
        return NOVA_BAD_MEM;
    v->vmcs = kmem_pages_alloc(&ec->pd->account, 1);
    if (!v->vmcs) {
        slab_free(&vcpu_cache, &ec->pd->account, v);
        return NOVA_BAD_MEM;
    }
    *(u32 *)v->vmcs = vmx.revision;
    for (unsigned i = 0; i < VMX_MSRS; i++)
        v->msr[i].index = switched_msrs[i];
    v->home = &vmx_cpus[ec->cpu];
    v->dr6 = 0xffff0ff0;
    v->xcr0 = 1;
    v->no_table = true;
    ec->vcpu = v;
    return NOVA_SUCCESS;
}

static void vmx_fini(struct ec *ec) {
    struct vcpu *v = ec->vcpu;
    struct vmx_cpu *s = v->home;
    if (v->made) {
        assert(arch_cpu_self()->id == ec->cpu);
        if (!vmclear(arch_ptr_phys(v->vmcs).v)) /* the CPU may write it to memory at any time until then (24.11.1) */
            arch_panic("VMCLEAR", __FILE__, __LINE__);
    }
    if (s->current == v)
        s->current = NULL;
    if (s->owner == &v->lazy)
        s->owner = NULL;
    ec->vcpu = NULL;
    kmem_pages_free(&ec->pd->account, v->vmcs, 1);
    slab_free(&vcpu_cache, &ec->pd->account, v);
}

void vmx_load(struct ec *ec) {
    struct vcpu *v = ec->vcpu;
    struct vmx_cpu *s = v->home;
    u64 region = arch_ptr_phys(v->vmcs).v;
    assert(arch_cpu_self()->id == ec->cpu);
    if ((!v->made && !vmclear(region)) || !vmptrld(region))
        arch_panic("VMPTRLD", __FILE__, __LINE__);
    s->current = v;
    if (!v->made)
        vmx_state_init(ec, arch_ptr_phys(s->host_msrs).v);
    v->made = true;
}

/* Translations through the guest's table carry the table's address: they are dropped when the table is another one or has changed. */
static void table_renew(struct vcpu *v, struct pd *pd, u64 gen) {
    const void *iopm = atomic_load_acq(&pd->guest_pio_bitmap);
    u64 ports = arch_ptr_phys(iopm ? iopm : vmx.iopm_all).v, root = atomic_load_acq(&pd->guest.root.v);
    u64 eptp = EPTP(root ? root : arch_ptr_phys(vmx.ept_empty).v);
    v->no_table = !root; /* when it has one it keeps it */
    if (v->eptp == eptp && v->tlb_gen == gen)
        return;
    v->tlb_gen = gen;
    vmwrite(IO_BITMAP_A, ports);
    vmwrite(IO_BITMAP_B, ports + PAGE_SIZE);
    vmwrite(EPT_POINTER, v->eptp = eptp);
    invept(INVALIDATE_ONE, eptp);
}

/* VPIDs of a CPU are used up one after the other; the next generation begins with a flush of all of them. */
static no_inline void guest_renew(struct cpu *c, struct vcpu *v, struct pd *pd, u64 gen) {
    if (v->vpid_gen != c->guest_flush_gen) {
        if (c->next_asid == 0 || c->next_asid >= vmx.vpid_count) {
            c->next_asid = 1;
            c->guest_flush_gen++;
            invvpid(INVALIDATE_ALL, 0);
        }
        v->vpid = (u16)c->next_asid++;
        v->vpid_gen = c->guest_flush_gen;
        vmwrite(VMCS_VPID, v->vpid);
    } else if (v->flush) {
        invvpid(INVALIDATE_ONE, v->vpid);
    }
    v->flush = false;
    if (v->no_table || v->tlb_gen != gen)
        table_renew(v, pd, gen);
    if (v->controls)
        vmx_controls_write(v);
}

static void entry_prepare(struct cpu *c, struct vmx_cpu *s, struct vcpu *v, struct pd *pd) {
    u64 gen = atomic_load_acq(&pd->guest_gen), host = arch_space_root(c->space);
    if (unlikely(v->attention || v->vpid_gen != c->guest_flush_gen || v->tlb_gen != gen))
        guest_renew(c, v, pd, gen);
    if (unlikely(v->host_root != host))
        vmwrite(HOST_CR3, v->host_root = host);
    const struct arch_bases bases = arch_bases_read();
    s->host_msrs[VMX_KERNEL_GS_BASE].value = bases.gs;
    if (unlikely(v->host_fs != bases.fs))
        vmwrite(HOST_FS_BASE, v->host_fs = bases.fs);
    if (unlikely(v->inj != v->inj_written)) {
        v->inj_written = v->inj;
        vmwrite(ENTRY_EVENT, (u32)v->inj);
        vmwrite(ENTRY_EVENT_ERROR, v->inj >> 32);
        vmwrite(ENTRY_INSN_LEN, v->inj_len);
    }
    if (unlikely(s->owner != &v->lazy))
        vcpu_lazy_load(&s->owner, &v->lazy, vmx.pku);
}

/* Registers that host code sees, too, are the guest's from here to the exit; interrupts are off, and NMIs touch none of them. */
static unsigned world_switch(struct vcpu *v, struct uregs *regs) {
    if (cr2_read() != v->cr2)
        cr2_write(v->cr2);
    if (dr6_read() != v->dr6)
        dr6_write(v->dr6);
    if (v->xcr0 != vmx.xcr0) /* without XSAVE both are 1 */
        xsetbv(0, v->xcr0);
    if (unlikely(mitigations & MIT_L1D))
        mitigate_guest_entry();
    unsigned failed = vmx_world_switch(regs, v->launched);
    if (v->xcr0 != vmx.xcr0)
        xsetbv(0, vmx.xcr0);
    v->cr2 = cr2_read();
    v->dr6 = dr6_read();
    return failed;
}

static void nmi_block(bool on) {
    u64 blocking = vmread(INTERRUPTIBILITY);
    vmwrite(INTERRUPTIBILITY, on ? blocking | BLOCKING_NMI : blocking & ~(u64)BLOCKING_NMI);
}

/* What became of the injected event, and which one is to be injected next unless the VMM decides otherwise. A software event of the
 * guest's own is not: its instruction runs again. */
static void injection_settle(struct vcpu *v, u32 reason, u64 mine) {
    u64 ev = reason < 64 && EXITS_VECTORING >> reason & 1 ? vmread(VECTORING_EVENT) & 0x80000fff : 0;
    if (likely(!(ev & VMX_EVENT_VALID)))
        return;
    ev |= ev & VMX_EVENT_ERROR ? vmread(VECTORING_ERROR) << 32 : 0;
    if (VMX_EVENT_TYPE(ev) == VMX_EVENT_NMI)
        nmi_block(false); /* set by the delivery that did not happen; the next entry would refuse the NMI (26.3.1.5) */
    v->interrupted = ev;
    if (VMX_EVENT_TYPE(ev) < VMX_EVENT_SOFT || (u32)ev == (u32)mine)
        v->inj = ev;
}

/* Was it IRET that faulted? Then NMIs are blocked again when it is repeated (27.2.3 "NMI unblocking due to IRET"). */
static void iret_settle(struct vcpu *v, bool unblocked) {
    if (unblocked && !v->interrupted)
        nmi_block(true);
}

/* True: the guest goes on. Exceptions do not change DR6 and DR7 before they exit (27.1). */
static bool exception_resolve(struct vcpu *v) {
    u32 info = (u32)vmread(EXIT_EVENT), vec = VMX_EVENT_VECTOR(info);
    if (VMX_EVENT_TYPE(info) == VMX_EVENT_NMI) {
        vmx_nmi_deliver();
        return true;
    }
    v->qual = vmread(EXIT_QUALIFICATION);
    iret_settle(v, info & VMX_EVENT_IRET);
    if (vec == VEC_MC) {
        klog_warn("vcpu: machine check while a guest ran; the guest gets it\n");
        if (vmx.mca)
            wrmsr(MSR_MCG_STATUS, 0); /* MCIP: another one would shut the CPU down */
    }
    if (v->exc & 1u << vec)
        return false;
    if (vec == VEC_DB) {
        v->dr6 = (v->dr6 & ~0xful) | (v->qual & 0x600f);
        vmwrite(GUEST_DR7, vmread(GUEST_DR7) & ~DR7_GD);
        if (vmread(INTERRUPTIBILITY) & BLOCKING_SHADOW && vmread(GUEST_RFLAGS) & RFLAGS_TF)
            vmwrite(PENDING_DEBUG, PENDING_BS); /* entry insists (26.3.1.5); the injection takes its place */
    }
    v->inj = VMX_EVENT(vec, VMX_EVENT_EXC, info & VMX_EVENT_ERROR);
    if (info & VMX_EVENT_ERROR)
        v->inj |= vmread(EXIT_EVENT_ERROR) << 32;
    return true;
}

static bool gp_raise(struct vcpu *v) {
    v->inj = VMX_EVENT(VEC_GP, VMX_EVENT_EXC, vmread(GUEST_CR0) & CR0_PE ? VMX_EVENT_ERROR : 0);
    return true;
}

/* MOV to CR0 or CR4 (table 27-3) that changes bits which only we mask: the guest's view of them changes, and the instruction runs
 * again. It does not exit this time, and all its other effects and faults are the processor's. */
static bool cr_resolve(struct vcpu *v, const struct uregs *r) {
    static const u8 position[] = {14, 13, 12, 11, 0 /* RSP */, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}; /* in struct uregs */
    v->qual = vmread(EXIT_QUALIFICATION);
    unsigned cr = v->qual & 0xf, type = v->qual >> 4 & 3, reg = v->qual >> 8 & 0xf;
    if (type != 0 || (cr != 0 && cr != 4))
        return false;
    u64 value = reg == 4 ? vmread(GUEST_RSP) : ((const u64 *)r)[position[reg]];
    u64 *shadow = cr ? &v->cr4_shadow : &v->cr0_shadow, mask = cr ? vmx_cr4_mask(v) : vmx_cr0_mask(v);
    if ((value ^ *shadow) & (cr ? v->cr4_mask : v->cr0_mask))
        return false;
    if (cr ? value & CR4_VMXE : (value & (CR0_CD | CR0_NW)) == CR0_NW)
        return gp_raise(v);
    *shadow = (*shadow & ~mask) | (value & mask);
    vmwrite(cr ? CR4_SHADOW : CR0_SHADOW, *shadow);
    return true;
}

/* Exited before any effect; legal values only, all else is #GP (SDM vol 2 "XSETBV"). */
static bool xsetbv_resolve(struct vcpu *v, const struct uregs *r) {
    u64 value = r->rdx << 32 | (u32)r->rax;
    if (vmread(GUEST_AR + 2 * SEG_SS) >> 5 & 3 || (u32)r->rcx ||
        !vcpu_xcr0_valid(value, vmx.xcr0)) /* SS.DPL is the CPL */
        return gp_raise(v);
    v->xcr0 = (u32)value;
    vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(EXIT_INSN_LEN));
    vmwrite(INTERRUPTIBILITY, vmread(INTERRUPTIBILITY) & ~(u64)BLOCKING_SHADOW);
    return true;
}

/* Exits that the kernel keeps from the VMM. False: the VMM's. */
#define EXITS_RESOLVED                                                                                                 \
    (1ul << EXIT_EXCEPTION | 1ul << EXIT_INTERRUPT | 1ul << EXIT_CR | 1ul << EXIT_EPT_VIOLATION | 1ul << EXIT_XSETBV)
static bool exit_resolve(struct ec *ec, struct vcpu *v, u32 reason) {
    switch (reason) {
    case EXIT_EXCEPTION:
        return exception_resolve(v);
    case EXIT_INTERRUPT: /* comes in when the interrupts are opened */
        return true;
    case EXIT_CR:
        return cr_resolve(v, &ec->regs);
    case EXIT_XSETBV:
        return xsetbv_resolve(v, &ec->regs);
    case EXIT_EPT_VIOLATION:
        v->qual = vmread(EXIT_QUALIFICATION);
        ec->fault_addr = vmread(GUEST_PHYSICAL);
        iret_settle(v, v->qual & VMX_EVENT_IRET);
    }
    return false;
}

static struct ec *exit_dispatch(struct cpu *c, struct ec *ec, struct vcpu *v, u32 reason) {
    u64 mine = v->inj;
    v->inj = v->interrupted = v->inj_written = 0; /* the exit has cleared the VMCS's valid bit */
    if (likely(reason < 64 && !((EXITS_VECTORING | EXITS_RESOLVED) >> reason & 1)))
        return core_vmexit(c, reason);
    injection_settle(v, reason, mine);
    if (exit_resolve(ec, v, reason)) {
        (void)arch_preempt_pending(); /* also ends a guest whose exception delivery never does */
        return core_resume(c);
    }
    if (unlikely(reason >= EVT_VCPU_STARTUP)) {
        klog_warn("vcpu: exit reason %x has no event\n", reason);
        ec_kill(c, ec, "exit reason outside the table");
        return core_resume(c);
    }
    return core_vmexit(c, reason);
}

/* Nothing has run. Either VMLAUNCH or VMRESUME did not begin (30.4 "VM Instruction Error Numbers": 7 and 8 are what a VMM can bring
 * about), or it failed at guest state, MSR list or a machine check (26.8). */
#define ENTRY_REFUSED 3u
static struct ec *entry_failed(struct cpu *c, struct ec *ec, unsigned failed) {
    u32 error = failed == VMX_FAIL_VALID ? (u32)vmread(INSN_ERROR) : 0;
    if (likely(failed == ENTRY_REFUSED || error == 7 || error == 8)) {
        ec->vcpu->inj_written = ~0ul; /* the VMCS has it still, and must get what comes instead */
        return core_vmexit(c, EVT_VMX_INVALID);
    }
    klog_warn("vcpu: VM entry fails with error %u\n", error);
    ec_kill(c, ec, "its VMCS is unusable");
    return core_resume(c);
}

struct ec *vmx_run(struct cpu *c) {
    struct ec *ec = c->ec;
    struct vcpu *v = ec->vcpu;
    struct pd *pd = ec->pd;
    assert(c->id == ec->cpu);
    if (unlikely(v->refused))
        return core_vmexit(c, EVT_VMX_INVALID);
    if (unlikely(vmx_absent(ec)))
        vmx_load(ec);
    /* A shootdown bumps guest_gen and then looks for our guest_space; we show it and then look at guest_gen: one sees the other. If
     * it saw us, its hazard bit is set before its IPI, which waits (interrupts are off) and leads to an exit right after the entry
     * when it comes after the check below. */
    atomic_store_rel(&c->guest_space, pd);
    atomic_fence();
    entry_prepare(c, v->home, v, pd);
    if (unlikely(atomic_load_acq(&c->hazard) | atomic_load_acq(&ec->hazard))) {
        atomic_store_rel(&c->guest_space, NULL);
        return core_resume(c);
    }
    v->seen = 0;
    unsigned failed = world_switch(v, &ec->regs);
    c = arch_cpu_self(), ec = c->ec; /* looked up again, as hardly a register outlives the switch */
    atomic_store_rel(&c->guest_space, NULL);
    if (unlikely(failed))
        return entry_failed(c, ec, failed);
    c->fpu_on = false; /* CR0 is HOST_CR0 */
    u32 reason = (u32)vmread(EXIT_REASON);
    if (unlikely(reason & EXIT_ENTRY_FAILED))
        return entry_failed(c, ec, ENTRY_REFUSED);
    v->launched = true;
    return exit_dispatch(c, ec, v, reason & 0xffff);
}

const struct vcpu_vendor vmx_vendor = {
    .feature = HIP_VMX,
    .fault_event = EVT_VMX_EPT,
    .ptab = PTAB_EPT,
    .present = vmx_present,
    .missing = vmx_missing,
    .cpu_init = vmx_cpu_init,
    .init = vmx_init,
    .fini = vmx_fini,
};
