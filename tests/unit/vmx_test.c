/* VT-x logic (src/arch/vmx.c, vmx_state.c, vcpu.c) on the simulator's fake VMCS, without a run: the files are compiled into this test with
 * core's functions renamed; guests are scripts, or a function that fills the exit fields. ABI sections 3, 4, 8. */
#include "kernel_fixture.h"

#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/vcpu_vendor.h"
#include "core/core.h"
#include "core/klog.h"
#include "sim/internal.h"
#include "sim/vmcs.h"

static struct pd guest_pd;
static struct ec vcpu_ec, next_ec;
static struct abi_utcb utcb;

static struct {
    unsigned switches, preempts, resumes, kills;
    int event;               /* of core_vmexit, -1: none */
    struct sim_vmcs *v;      /* seen by the last world switch */
    u64 dr0, dr6, cr2, xcr0; /* while the guest ran */
    u32 reason;              /* of the exit that `guest` makes up */
    void (*guest)(struct sim_vmcs *v, struct uregs *r);
} rec;
#define GET(field)        sim_vmcs_get(rec.v, field)
#define PUT(field, value) sim_vmcs_put(rec.v, field, value)

static struct {
    u32 msr;
    u64 bits;
} deny; /* this capability is missing */
static unsigned mcg_writes;
static u64 real_rdmsr(u32 msr) { return rdmsr(msr); }
static u64 test_rdmsr(u32 msr) { return real_rdmsr(msr) & ~(deny.msr == msr ? deny.bits : 0); }
static struct cpuid_regs real_cpuid(u32 leaf, u32 sub) { return cpuid(leaf, sub); }
static u32 cpuid1_d_lacks;
static struct cpuid_regs test_cpuid(u32 leaf, u32 sub) {
    struct cpuid_regs r = real_cpuid(leaf, sub);
    r.d &= ~(leaf == 1 ? cpuid1_d_lacks : 0);
    return r;
}
static void real_wrmsr(u32 msr, u64 v) { wrmsr(msr, v); }
static void test_wrmsr(u32 msr, u64 v) {
    mcg_writes += msr == 0x17a && v == 0;
    real_wrmsr(msr, v);
}
static unsigned real_world_switch(struct uregs *regs, bool launched) { return vmx_world_switch(regs, launched); }
static unsigned test_world_switch(struct uregs *regs, bool launched) {
    struct mach_cpu *m = &sim_cpus[0].mach;
    assert_ptr_equal(sim_cpus[0].guest_space, &guest_pd);
    rec.switches++;
    rec.v = m->vmcs == ~0ul ? NULL : sim_phys(PADDR(m->vmcs));
    rec.dr0 = dr0_read(), rec.dr6 = dr6_read(), rec.cr2 = cr2_read(), rec.xcr0 = xgetbv(0);
    if (!rec.guest)
        return real_world_switch(regs, launched);
    u64 qualification;
    assert_true(sim_vmcs_controls_valid(rec.v) && sim_vmcs_host_valid(rec.v));
    assert_true(sim_vmcs_guest_valid(rec.v, &qualification));
    assert_int_equal(rec.v->launched, launched);
    rec.v->launched = true;
    PUT(EXIT_REASON, rec.reason);
    PUT(VECTORING_EVENT, 0);
    PUT(EXIT_EVENT, 0);
    rec.guest(rec.v, regs);
    PUT(ENTRY_EVENT, GET(ENTRY_EVENT) & ~VMX_EVENT_VALID);
    return 0;
}
static bool test_preempt(void) {
    rec.preempts++;
    return false;
}
static struct ec *test_resume(struct cpu *c) {
    assert_ptr_equal(c->guest_space, NULL);
    rec.resumes++;
    return &next_ec;
}
static struct ec *test_vmexit(struct cpu *c, unsigned event) {
    assert_ptr_equal(c->guest_space, NULL);
    assert_true(event < ABI_EVENTS_VCPU);
    rec.event = (int)event;
    return &next_ec;
}
static void test_kill(struct cpu *c, struct ec *ec, const char *why) {
    (void)c, (void)ec, (void)why;
    rec.kills++;
}
static void test_klog_at(enum klog_level level, const char *fmt, ...) { (void)level, (void)fmt; }

#define vmx_world_switch     test_world_switch
#define cpuid                test_cpuid
#define rdmsr                test_rdmsr
#define wrmsr                test_wrmsr
#define arch_preempt_pending test_preempt
#define core_resume          test_resume
#define core_vmexit          test_vmexit
#define ec_kill              test_kill
#define klog_at              test_klog_at
/* our own copies of what the library also has */
#define vmx                   test_vmx
#define vmx_vendor            test_vmx_vendor
#define vmx_load              test_vmx_load
#define vmx_state_init        test_vmx_state_init
#define vmx_controls_write    test_vmx_controls_write
#define vmx_get               test_vmx_get
#define vmx_set               test_vmx_set
#define vmx_run               test_vmx_run
#define vmx_cr0               test_vmx_cr0
#define vmx_cr4               test_vmx_cr4
#define vmx_cr0_mask          test_vmx_cr0_mask
#define vmx_cr4_mask          test_vmx_cr4_mask
#define vcpu_xcr0_valid       test_vcpu_xcr0_valid
#define vcpu_lazy_load        test_vcpu_lazy_load
#define arch_vcpu_features    test_arch_vcpu_features
#define arch_vcpu_ptab        test_arch_vcpu_ptab
#define arch_vcpu_faulted     test_arch_vcpu_faulted
#define arch_vcpu_cpu_init    test_arch_vcpu_cpu_init
#define arch_vcpu_init        test_arch_vcpu_init
#define arch_vcpu_fini        test_arch_vcpu_fini
#define arch_vcpu_get         test_arch_vcpu_get
#define arch_vcpu_set         test_arch_vcpu_set
#define arch_vcpu_run         test_arch_vcpu_run
#define arch_guest_ports      test_arch_guest_ports
#define arch_guest_ports_free test_arch_guest_ports_free
#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* the contract's prototypes have the other names */
extern const struct vcpu_vendor test_vmx_vendor;
void vcpu_lazy_load(struct vcpu_lazy **owner, struct vcpu_lazy *mine, bool pku);
bool vcpu_xcr0_valid(u64 xcr0, u64 host);
#include "../../src/arch/vmx.c"
#include "../../src/arch/vmx_state.c"
#include "../../src/arch/vcpu.c"

#define EV_CPUID 10
#define EV_HLT   12
#define ALL_MTD  (0x1fffffu | ABI_MTD_EXT)
#define STEP     sizeof(struct sim_guest_step)
#define GPA      0x5000ul

static const struct sim_guest_step cpuids[] = {{SIM_G_CPUID, 0, 0}};

static void state_put(u32 mtd) { arch_vcpu_set(&vcpu_ec, &utcb, mtd); }
static struct abi_state *state_take(u32 mtd, unsigned event) {
    arch_vcpu_get(&vcpu_ec, &utcb, mtd, event);
    return &utcb.state;
}
static int run(void) {
    rec.event = -1;
    assert_ptr_equal(arch_vcpu_run(cpus[0]), &next_ec);
    assert_int_equal(sim_cpus[0].mach.xcr0, 7);
    assert_int_equal(memcmp(sim_cpus[0].mach.syscall_msr, sim_syscall_msrs, sizeof(sim_syscall_msrs)), 0);
    return rec.event;
}
static int run_script(const struct sim_guest_step *s) {
    rec.guest = NULL;
    utcb.state.rip = (u64)s;
    state_put(MTD_RIP);
    return run();
}
static void inject(u32 info, u32 error) {
    utcb.state.inj_info = info;
    utcb.state.inj_error = error;
    state_put(MTD_INJ);
}

static void vcpu_make(struct ec *ec) {
    memset(ec, 0, sizeof(*ec));
    ec->pd = &guest_pd;
    assert_int_equal(arch_vcpu_init(ec), NOVA_SUCCESS);
    memset(&utcb, 0, sizeof(utcb));
    utcb.state.rip = (u64)cpuids;
    arch_vcpu_set(ec, &utcb, MTD_RIP);
}

static int setup(void **state) {
    (void)state;
    struct cpu *c = &sim_cpus[0];
    memset(&rec, 0, sizeof(rec));
    memset(&deny, 0, sizeof(deny));
    mcg_writes = 0;
    memset(&guest_pd, 0, sizeof(guest_pd));
    memset(vmx_cpus, 0, sizeof(vmx_cpus));
    c->mach = (struct mach_cpu){.deadline = ~0ul, .xcr0 = 7, .efer = 0xd01, .cr4 = SIM_CR4, .vmcs = ~0ul, .gif = true};
    memcpy(c->mach.syscall_msr, sim_syscall_msrs, sizeof(sim_syscall_msrs));
    c->hazard = 0, c->guest_flush_gen = 0, c->next_asid = 0;
    vendor = NULL;
    rec.event = -1;
    sim_opt.no_svm = false;
    kobj_init(&guest_pd.obj, KOBJ_PD, NULL);
    guest_pd.account.parent = NULL;
    guest_pd.guest = (struct ptab){.kind = PTAB_EPT, .account = &guest_pd.account};
    guest_pd.host.root = kernel_pd.host.root;
    c->space = &guest_pd;
    if (!arch_vcpu_cpu_init(c))
        return -1;
    vcpu_make(&vcpu_ec);
    c->ec = &vcpu_ec;
    return 0;
}
static int teardown(void **state) {
    (void)state;
    if (vcpu_ec.vcpu)
        arch_vcpu_fini(&vcpu_ec);
    arch_guest_ports_free(&guest_pd);
    ptab_free(&guest_pd.guest);
    assert_int_equal(guest_pd.account.used, 0);
    assert_int_equal(sim_vmx_counts.fails, 0);
    return 0;
}

/* --- detection --- */
static void reason_when_something_is_missing(void **state) {
    (void)state;
    struct mach_cpu *m = &sim_cpus[0].mach;
    assert_int_equal(arch_vcpu_features(), HIP_VMX);
    assert_int_equal(arch_vcpu_ptab(), PTAB_EPT);
    assert_true(arch_vcpu_faulted(0x30) && !arch_vcpu_faulted(0xfc));
    assert_int_equal(m->feature_control, 5); /* found unlocked: switched on and locked */
    m->feature_control = 1;
    assert_int_equal(arch_vcpu_features(), 0);
    assert_non_null(strstr(vendor_choose(), "disabled by the firmware"));
    m->feature_control = 5;
    sim_opt.no_svm = true;
    assert_non_null(strstr(vendor_choose(), "neither"));
    sim_opt.no_svm = false;
    assert_null(vendor_choose());
    m->feature_control = 1;
    vmx_cpus[0].ready = false;
    assert_false(arch_vcpu_cpu_init(cpus[0]) || vmx_cpus[0].ready); /* on this CPU alone */
    m->feature_control = 5;
    struct ec ec = {.pd = &guest_pd, .cpu = 1}; /* a CPU that was not initialised */
    assert_int_equal(arch_vcpu_init(&ec), NOVA_BAD_FTR);
    assert_int_equal(vmx.vpid_count, 1 << 16);
    static const struct {
        u32 msr;
        u64 bits;
        const char *says;
    } rows[] = {
        {0x480, 1ul << 55, "too old"},    {0x48e, 1ul << 63, "too old"},      {0x48b, 1ul << 33, "EPT"},
        {0x48b, 1ul << 37, "VPID"},       {0x48b, 1ul << 39, "unrestricted"}, {0x48c, 1ul << 6, "EPT lacks"},
        {0x48c, 1ul << 14, "EPT lacks"},  {0x48c, 1ul << 16, "EPT lacks"},    {0x48c, 1ul << 20, "EPT lacks"},
        {0x48c, 1ul << 25, "EPT lacks"},  {0x48c, 1ul << 32, "EPT lacks"},    {0x48c, 1ul << 41, "EPT lacks"},
        {0x48c, 1ul << 42, "EPT lacks"},  {0x48d, 1ul << 32, "VT-x lacks"},   {0x48d, 1ul << 35, "VT-x lacks"},
        {0x48d, 1ul << 37, "VT-x lacks"}, {0x48e, 1ul << 53, "VT-x lacks"},   {0x48e, 1ul << 57, "VT-x lacks"},
        {0x48e, 1ul << 60, "VT-x lacks"}, {0x48f, 1ul << 50, "VT-x lacks"},   {0x48f, 1ul << 53, "VT-x lacks"},
        {0x490, 1ul << 46, "VT-x lacks"}, {0x490, 1ul << 47, "VT-x lacks"},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        deny.msr = rows[i].msr, deny.bits = rows[i].bits;
        const char *why = vendor_choose();
        assert_int_equal(arch_vcpu_features(), 0);
        assert_non_null(why);
        assert_non_null(strstr(why, rows[i].says));
    }
    deny.msr = 0x48b, deny.bits = 1ul << 35; /* no RDTSCP: no TSC_AUX to be switched */
    assert_null(vendor_choose());
    assert_int_equal(vmx.msrs, VMX_TSC_AUX);
    deny.bits = 0;
    assert_null(vendor_choose());
    assert_int_equal(vmx.msrs, VMX_MSRS);
    for (unsigned bit = 0; bit <= 32; bit++) { /* 32: none */
        cpuid1_d_lacks = (u32)(1ul << bit);
        assert_null(vendor_choose());
        assert_int_equal(vmx.mca, bit != 14);
    }
}

static void memory_runs_out(void **state) {
    (void)state;
    struct ec ec = {.pd = &guest_pd};
    u64 used = guest_pd.account.used;
    for (u64 n = 1; n <= 2; n++) {
        guest_pd.account.limit = used + (n == 1 ? 1 : sizeof(struct vcpu) + PAGE_SIZE);
        assert_int_equal(arch_vcpu_init(&ec), NOVA_BAD_MEM);
        assert_int_equal(guest_pd.account.used, used);
        assert_null(ec.vcpu);
    }
    guest_pd.account.limit = 0;
    struct vmx_features whole = vmx;
    for (unsigned n = 1; n <= 4; n++) { /* what all CPUs need */
        vmx.msr_bitmap = NULL;
        sim_fail_alloc(n);
        assert_false(arch_vcpu_cpu_init(cpus[0]));
        sim_fail_alloc(0);
        assert_null(vmx.msr_bitmap);
    }
    vmx = whole;
}

/* --- controls --- */
static void controls_forced_stay_and_dangerous_never_come(void **state) {
    (void)state;
    const u32 cpu_forced = 1u << 3 | 1u << 7 | 1u << 21 | 1u << 25 | 1u << 28 | 1u << 31 | 0x04006172;
    const u32 cpu_choice = 0x68000000 | 1u << 24 | 1u << 23 | 3u << 19 | 3u << 15 | 0xfu << 9 | 1u << 30;
    const u32 cpu2_forced = 1u << 1 | 1u << 3 | 1u << 5 | 1u << 7 | 1u << 12, cpu2_choice = 1u << 2 | 1u << 6;
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(GET(CTRL_PIN), 0x16 | 1 << 0 | 1 << 3 | 1 << 5);
    assert_int_equal(GET(EXC_BITMAP), 1 << 1 | 1 << 17 | 1 << 18);
    for (unsigned i = 0; i < 64; i++) {
        u32 cpu = i < 32 ? 1u << i : 0, cpu2 = i < 32 ? 0 : 1u << (i - 32);
        bool ok = cpu & (cpu_forced | cpu_choice) || cpu2 & (cpu2_forced | cpu2_choice);
        utcb.state.ctrl[0] = cpu, utcb.state.ctrl[1] = cpu2;
        state_put(MTD_CTRL);
        unsigned before = rec.switches;
        assert_int_equal(run(), ok ? EV_CPUID : EVT_VMX_INVALID);
        assert_int_equal(rec.switches, before + ok);
        if (!ok)
            continue;
        assert_int_equal(GET(CTRL_CPU), cpu | cpu_forced);
        assert_int_equal(GET(CTRL_CPU2), cpu2 | cpu2_forced);
    }
    utcb.state.ctrl[0] = utcb.state.ctrl[1] = 0;
    utcb.state.exc_intercepts = 1 << 14;
    state_put(MTD_CTRL | MTD_MASKS);
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(GET(CTRL_CPU), cpu_forced);
    assert_int_equal(GET(EXC_BITMAP), 1 << 1 | 1 << 14 | 1 << 17 | 1 << 18);
}

/* SDM vol 3 table 9-1, as far as a VMM sees it before it has written anything. */
static void new_vcpu_is_as_after_reset(void **state) {
    (void)state;
    const struct abi_state *s = state_take(MTD_CR | MTD_EFER | MTD_DR | MTD_RFLAGS | MTD_SEGMENTS, EVT_VCPU_STARTUP);
    assert_true(s->cr0 == 0x60000010 && !s->cr2 && !s->cr3 && !s->cr4 && !s->efer);
    assert_true(s->dr7 == 0x400 && s->rflags == 2);
    for (const struct abi_seg *g = &s->es; g <= &s->idtr; g++)
        assert_int_equal(g->limit, 0xffff);
}

static void msr_bitmap_passes_only_what_is_switched(void **state) {
    (void)state;
    const u8 *m = vmx.msr_bitmap;
    unsigned clear = 0;
    for (unsigned i = 0; i < PAGE_SIZE * 8; i++)
        clear += !(m[i / 8] >> (i % 8) & 1);
    assert_int_equal(clear, 20);
    static const u32 pass[] = {0x174,      0x175,      0x176,      0xc0000081, 0xc0000082,
                               0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102};
    for (unsigned i = 0; i < ARRAY_SIZE(pass); i++)
        for (unsigned write = 0; write < 2; write++) {
            unsigned n = (pass[i] & 0x1fff) + (pass[i] >> 31) * 0x2000 + write * 0x4000;
            assert_false(m[n / 8] >> (n % 8) & 1);
        }
}

/* --- messages --- */
static void set_get_round_trip(void **state) {
    (void)state;
    u64 words[ABI_STATE_EXT_WORDS];
    for (unsigned i = 0; i < ABI_STATE_EXT_WORDS; i++)
        words[i] = 0x1000 + i * 0x11;
    memcpy(utcb.w, words, sizeof(words));
    struct abi_state *s = &utcb.state, in;
    s->rflags |= 2;
    s->ctrl[0] = s->ctrl[1] = 0;
    s->inj_info = INJ_VALID | 0x30;
    s->intr_state = 1, s->actv_state = 1;
    s->cr8 = 5, s->tpr = 0x50, s->tpr_threshold = 3;
    s->xcr0 = 7, s->xss = 0, s->tsc_offset = 77;
    s->cr0 = 0x80000001, s->efer = 0x501;
    for (struct abi_seg *g = &s->es; g <= &s->tr; g++)
        g->ar = 0x1abf, g->limit = 0xfedc0000u + (u32)(g - &s->es);
    s->fs.ar = 0x1000;
    in = *s;
    state_put(ALL_MTD);
    memset(&utcb, 0xee, sizeof(utcb));
    state_take(ALL_MTD, EVT_VCPU_RECALL);
    in.mtd = in.preempt_timer = s->mtd; /* not ours to write */
    in.ctrl[0] = in.ctrl[1] = in.reserved = 0xeeeeeeee;
    in.inst_len = in.qual[0] = in.qual[1] = 0;
    in.tsc_value = arch_clock() + 77;
    in.gdtr.sel = in.gdtr.ar = in.idtr.sel = in.idtr.ar = 0;
    assert_memory_equal(&in, s, sizeof(in));
    state_put(MTD_TSC); /* write adds */
    assert_int_equal(sim_vmcs_get(sim_phys(PADDR(sim_cpus[0].mach.vmcs)), VMCS_TSC_OFFSET), 154);
}

static void get_reads_and_touches_only_what_the_mtd_names(void **state) {
    (void)state;
    u64 before = sim_vmx_counts.reads;
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(sim_vmx_counts.reads - before, 1); /* the reason */
    for (unsigned n = 0; n < 32; n++) {
        memset(&utcb, 0xee, sizeof(utcb));
        before = sim_vmx_counts.reads;
        state_take(1u << n, EV_CPUID);
        unsigned changed = 0;
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            changed += utcb.w[i] != 0xeeeeeeeeeeeeeeee;
        static const u8 words[32] = {4, 3, 1, 2, 1, 4, 4, 4, 2, 2, 2, 2, 5, 1, 3,
                                     2, 0, 1, 1, 2, 1, 4, 8, 5, 1, 1, 2, 1, 3};
        static const u8 reads[32] = {0, 0, 1, 2, 1, 8, 8, 8, 4, 4, 2, 2, 3, 1, 3,
                                     1, 0, 0, 2, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0};
        assert_int_equal(changed, words[n]);
        assert_int_equal(sim_vmx_counts.reads - before, reads[n]);
        assert_int_equal(utcb.items, 0xeeeeeeeeeeeeeeee);
    }
    assert_int_equal(state_take(MTD_QUAL, EV_CPUID)->qual[1], 0);
    before = sim_vmx_counts.writes;
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(sim_vmx_counts.writes, before); /* an entry with nothing new */
    state_take(ALL_MTD, EV_CPUID);
    for (unsigned n = 0; n < 64; n++) {
        static const u8 writes[32] = {0, 0, 1, 1, 1, 8, 8, 8, 4, 4, 2, 2, 7, 1, 3,
                                      0, 0, 0, 2, 1, 2, 4, 0, 0, 1, 0, 0, 1, 4};
        bool kept = n < 32 && (1u << n & (MTD_SEGMENTS | MTD_CR | MTD_EFER)) && n != 10 && n != 11; /* as it was read */
        if (n == 32) { /* what the guest has changed meanwhile nobody knows */
            utcb.state.ctrl[0] = utcb.state.ctrl[1] = 0;
            state_put(MTD_CTRL);
            assert_int_equal(run(), EV_CPUID);
        }
        utcb.state.tsc_offset = 1;
        before = sim_vmx_counts.writes;
        state_put(1u << n % 32);
        assert_int_equal(sim_vmx_counts.writes - before, kept ? 0 : writes[n % 32]);
    }
    static const struct sim_guest_step fault[] = {{SIM_G_READ, 0, GPA}};
    utcb.state.ctrl[0] = utcb.state.ctrl[1] = 0;
    state_put(MTD_CTRL);
    run_script(fault);
    before = sim_vmx_counts.reads;
    assert_int_equal(run(), EVT_VMX_EPT);
    assert_int_equal(sim_vmx_counts.reads - before, 4); /* reason, interrupted event, qualification, address */
    before = sim_vmx_counts.reads;
    state_take(MTD_QUAL, EVT_VMX_EPT);
    assert_int_equal(sim_vmx_counts.reads - before, 0);
}

/* --- what the hardware refuses, at and across the boundary --- */
#define LOW_CANONICAL  0x00007ffffffffffful
#define HIGH_CANONICAL 0xffff800000000000ul
static void state_refused_is_an_event(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state, good;
    state_take(ALL_MTD & ~(u32)MTD_TSC, EVT_VCPU_STARTUP);
    s->rip = s->rdx = (u64)cpuids, s->ctrl[0] = s->ctrl[1] = 0, s->inj_info = 0;
    good = *s;
#define ROW(field, value, ok, mtd)                                                                                     \
    { offsetof(struct abi_state, field), sizeof(good.field), value, ok, mtd }
    const struct {
        u64 at, size, value;
        bool ok;
        u32 mtd;
    } rows[] = {
        ROW(rip, LOW_CANONICAL, false, MTD_RIP),
        ROW(rip, 1ul << 63, false, MTD_RIP),
        ROW(rflags, 0x8002, false, MTD_RFLAGS),
        ROW(rflags, 1ul << 22, false, MTD_RFLAGS),
        ROW(rflags, 0x207fd7, true, MTD_RFLAGS),
        ROW(rflags, 0x200, true, MTD_RFLAGS),
        ROW(rflags, 1ul << 17, false, MTD_RFLAGS), /* virtual-8086 mode in real mode */
        ROW(cr0, 0x80000010, false, MTD_CR),       /* PG without PE */
        ROW(cr0, 0x80000011, true, MTD_CR),
        ROW(cr0, 0x20000010, true, MTD_CR), /* NW and CD are not looked at */
        ROW(cr0, 1ul << 32, false, MTD_CR),
        ROW(cr3, 1ul << 40, false, MTD_CR),
        ROW(cr3, (1ul << 40) - 1, true, MTD_CR),
        ROW(cr4, 1ul << 12, false, MTD_CR),
        ROW(cr4, 1ul << 17, false, MTD_CR), /* PCIDE outside long mode */
        ROW(cr4, 1ul << 63, false, MTD_CR),
        ROW(cr4, 1ul << 13, true, MTD_CR), /* VMXE */
        ROW(dr7, 1ul << 32, false, MTD_DR),
        ROW(efer, 1ul << 1, false, MTD_EFER),
        ROW(efer, 1ul << 10, true, MTD_EFER), /* LMA follows from LME and PG */
        ROW(efer, 1ul << 8, true, MTD_EFER),
        ROW(sysenter_rsp, LOW_CANONICAL, true, MTD_SYSENTER),
        ROW(sysenter_rsp, LOW_CANONICAL + 1, false, MTD_SYSENTER),
        ROW(sysenter_rip, HIGH_CANONICAL, true, MTD_SYSENTER),
        ROW(sysenter_rip, HIGH_CANONICAL - 1, false, MTD_SYSENTER),
        ROW(cs.ar, 0x9b, true, MTD_CS_SS),
        ROW(cs.ar, 0x1b, false, MTD_CS_SS), /* not present */
        ROW(cs.ar, 0x93, true, MTD_CS_SS),
        ROW(cs.ar, 0x91, false, MTD_CS_SS),
        ROW(cs.ar, 0x89b, true, MTD_CS_SS), /* G: the limit ends a page */
        ROW(cs.limit, 0x100000, false, MTD_CS_SS),
        ROW(cs.base, 1ul << 32, false, MTD_CS_SS),
        ROW(ss.ar, 0xf3, false, MTD_CS_SS), /* DPL 3 in real mode */
        ROW(ss.ar, 0x1000, true, MTD_CS_SS),
        ROW(ds.ar, 0x92, false, MTD_DS_ES), /* not accessed */
        ROW(ds.ar, 0x1092, true, MTD_DS_ES),
        ROW(es.base, 1ul << 32, false, MTD_DS_ES),
        ROW(fs.base, LOW_CANONICAL + 1, false, MTD_FS_GS),
        ROW(gs.base, HIGH_CANONICAL, true, MTD_FS_GS),
        ROW(gs.base, HIGH_CANONICAL - 1, false, MTD_FS_GS),
        ROW(tr.ar, 0x1000, false, MTD_TR),
        ROW(tr.ar, 0x89, false, MTD_TR), /* not busy */
        ROW(tr.ar, 0x83, true, MTD_TR),
        ROW(tr.sel, 4, false, MTD_TR),
        ROW(tr.base, 1ul << 47, false, MTD_TR),
        ROW(ldtr.ar, 0x1000, true, MTD_LDTR),
        ROW(ldtr.ar, 0x83, false, MTD_LDTR),
        ROW(ldtr.sel, 4, false, MTD_LDTR),
        ROW(gdtr.limit, 0x10000, false, MTD_GDTR),
        ROW(gdtr.base, 1ul << 63, false, MTD_GDTR),
        ROW(idtr.limit, 0xffffffff, false, MTD_IDTR),
        ROW(idtr.base, LOW_CANONICAL + 1, false, MTD_IDTR),
        ROW(intr_state, 1, false, MTD_STA), /* STI shadow with IF clear */
        ROW(intr_state, 2, true, MTD_STA),
        ROW(intr_state, 3, false, MTD_STA),
        ROW(intr_state, 4, false, MTD_STA),
        ROW(intr_state, 8, true, MTD_STA),
        ROW(intr_state, 1u << 4, false, MTD_STA),
        ROW(intr_state, 1u << 31, false, MTD_STA),
        ROW(actv_state, 2, false, MTD_STA),
        ROW(actv_state, 3, false, MTD_STA),
        ROW(actv_state, 0xffffffff, false, MTD_STA),
        ROW(star, ~0ul, true, MTD_SYSCALL),
        ROW(lstar, LOW_CANONICAL, true, MTD_SYSCALL),
        ROW(lstar, LOW_CANONICAL + 1, false, MTD_SYSCALL),
        ROW(cstar, HIGH_CANONICAL - 1, false, MTD_SYSCALL),
        ROW(kernel_gs_base, 1ul << 63, false, MTD_SYSCALL),
        ROW(sfmask, 0xffffffff, true, MTD_SYSCALL),
        ROW(sfmask, 1ul << 32, false, MTD_SYSCALL),
        ROW(tpr_threshold, 1, false, MTD_TPR), /* above the TPR */
        ROW(tsc_aux, 0xffffffff, true, MTD_TSC_AUX),
        ROW(tsc_aux, 1ul << 32, false, MTD_TSC_AUX),
        ROW(xcr0, 3, true, MTD_XSAVE),
        ROW(xcr0, 0, false, MTD_XSAVE),
        ROW(xcr0, 5, false, MTD_XSAVE),
        ROW(xcr0, 15, false, MTD_XSAVE),
        ROW(xss, 1, false, MTD_XSAVE),
        ROW(pat, 2, false, MTD_PAT),
        ROW(pat, 7ul << 56, true, MTD_PAT),
        ROW(pat, 8, false, MTD_PAT),
        ROW(inj_info, INJ_VALID | 0x30, false, MTD_INJ), /* IF is clear */
        ROW(inj_info, INJ_VALID | 0x100, false, MTD_INJ),
        ROW(inj_info, INJ_VALID | 0x203, false, MTD_INJ), /* NMI is vector 2 */
        ROW(inj_info, INJ_VALID | 0x202, true, MTD_INJ),
        ROW(inj_info, INJ_VALID | 0x320, false, MTD_INJ),
        ROW(inj_info, INJ_VALID | 0x31f, true, MTD_INJ),
        ROW(inj_info, INJ_VALID | 0xb0d, false, MTD_INJ), /* no error codes in real mode */
        ROW(inj_info, INJ_VALID | 0x480, false, MTD_INJ), /* no instruction length */
        ROW(inj_info, INJ_VALID | 0x701, false, MTD_INJ),
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        memcpy((char *)s + rows[i].at, &rows[i].value, rows[i].size);
        state_put(rows[i].mtd);
        int event = run();
        if (event != (rows[i].ok ? EV_CPUID : EVT_VMX_INVALID))
            fail_msg("row %u: event %x, %s", i, event, sim_vmcs_why);
        *s = good;
        s->tsc_offset = 0;
        state_put(ALL_MTD);
        if (run() != EV_CPUID)
            fail_msg("row %u: does not recover: %s", i, sim_vmcs_why);
    }
    assert_int_equal(rec.kills, 0);
    sim_vmx_counts.fails = 0; /* VMfailValid 7 */
}

static void long_mode_follows_cr0_and_efer(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    state_take(ALL_MTD, EVT_VCPU_STARTUP);
    s->cr0 = 0x80000011, s->cr4 = 0x20, s->efer = 0x500;
    s->cs.ar = 0xa9b, s->cs.limit = 0xffffffff;
    state_put(MTD_CR | MTD_EFER | MTD_CS_SS);
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(GET(GUEST_EFER), 0x500);
    assert_true(GET(CTRL_ENTRY) & 1 << 9);
    s->rip = 1ul << 48;
    state_put(MTD_RIP); /* bits 63:48 differ: refused; the kernel does not fault on it */
    assert_int_equal(run(), EVT_VMX_INVALID);
    s->rip = (u64)cpuids;
    s->cr0 = 0x11;
    state_put(MTD_CR | MTD_RIP); /* LMA goes with PG */
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(state_take(MTD_EFER | MTD_CR, EV_CPUID)->efer, 0x100);
    assert_false(GET(CTRL_ENTRY) & 1 << 9);
    s->cr0 = 0x80000011;
    state_put(MTD_CR); /* EFER is the VMCS's */
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(GET(GUEST_EFER), 0x500);
    s->cr0 = 0x80000011, s->cr4 = 0x20, s->efer = 0;
    s->cs.ar = 0x9b, s->cs.limit = 0xffff;
    s->pdpte[2] = 3; /* PAE: a reserved bit in a present entry */
    state_put(MTD_CR | MTD_EFER | MTD_PDPTE | MTD_CS_SS);
    assert_int_equal(run(), EVT_VMX_INVALID);
    s->pdpte[2] = 2;
    state_put(MTD_PDPTE);
    assert_int_equal(run(), EV_CPUID);
}

/* --- injection --- */
static const struct sim_guest_step handler[] = {{SIM_G_HLT, 0, 0}};
static void guest_ready(u64 rflags, u64 rsp) { /* events go to `handler` */
    struct abi_state *s = &utcb.state;
    s->rip = (u64)cpuids, s->rdx = (u64)handler, s->rbx = s->rcx = 0, s->rflags = rflags, s->rsp = rsp;
    state_put(MTD_RIP | MTD_ACDB | MTD_RFLAGS | MTD_RSP);
}
static void map_stack(void) {
    assert_int_equal(ptab_reserve(&guest_pd.guest, GPA >> PAGE_SHIFT, 0), NOVA_SUCCESS);
    ptab_map(&guest_pd.guest, GPA >> PAGE_SHIFT, 0x9000, 0, PERM_MEM_R | PERM_MEM_W);
}

static void injection_is_delivered_once(void **state) {
    (void)state;
    guest_ready(0x202, 0);
    inject(INJ_VALID | 0x44, 0);
    assert_int_equal(run(), EV_HLT);
    assert_int_equal(vcpu_ec.regs.rcx, 0x44);
    assert_int_equal(state_take(MTD_INJ | MTD_CR, EV_HLT)->inj_info, 0);
    guest_ready(0x202, 0);
    assert_int_equal(run(), EV_CPUID);
    utcb.state.inj_info = INJ_VALID | 0x44; /* in the message, but not in the MTD */
    state_put(MTD_CR);
    assert_int_equal(run(), EV_CPUID);
}

static void injection_window_bits_never_reach_the_event(void **state) {
    (void)state;
    guest_ready(0x2, 0);
    inject(INJ_IRQ_WINDOW, 0); /* IF clear: closed */
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(GET(ENTRY_EVENT), 0);
    guest_ready(0x202, 0);
    assert_int_equal(run(), 7);
    inject(INJ_VALID | INJ_NMI_WINDOW | 0x7fff0000 | 0x202, 0);
    assert_int_equal(run(), EV_HLT); /* NMIs are blocked now */
    assert_int_equal(vcpu_ec.regs.rcx, 2);
    static const struct sim_guest_step iret[] = {{SIM_G_IRET, 0, 0}};
    vcpu_ec.regs.rbx = (u64)cpuids;
    assert_int_equal(run_script(iret), 8);
    inject(0, 0);
    assert_int_equal(run(), EV_CPUID);
}

static void injection_aborted_is_repeated(void **state) {
    (void)state;
    struct {
        u32 info, error;
    } events[] = {{INJ_VALID | 0x44, 0},
                  {INJ_VALID | 0x202, 0},
                  {INJ_VALID | 0x306, 0},
                  {INJ_VALID | 0xb0d, 0x1234},
                  {INJ_VALID | 0x480, 0}};
    utcb.state.cr0 = 0x11;
    state_put(MTD_CR);
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        for (unsigned asked = 0; asked < 2; asked++) {
            ptab_free(&guest_pd.guest);
            guest_pd.guest_gen++;
            utcb.state.inst_len = 2;
            guest_ready(0x202, GPA + 0x100);
            utcb.state.intr_state = 0;
            state_put(MTD_STA);
            inject(events[i].info, events[i].error);
            assert_int_equal(run(), EVT_VMX_EPT); /* the stack is not there */
            assert_int_equal(vcpu_ec.fault_addr, GPA + 0xf8);
            if (asked) {
                struct abi_state *s = state_take(MTD_INJ, EVT_VMX_EPT);
                assert_int_equal(s->inj_info, events[i].info);
                assert_int_equal(s->inj_error, events[i].error);
            }
            map_stack();
            assert_int_equal(run(), asked ? EV_CPUID : EV_HLT); /* whoever asked has to say what is next */
            if (!asked)
                assert_int_equal(vcpu_ec.regs.rcx, events[i].info & 0xff);
            assert_int_equal(GET(INTERRUPTIBILITY) >> 3, !asked && (events[i].info & 0xfff) == 0x202);
        }
    }
}

static void guest_interrupted_by_own_int(struct sim_vmcs *v, struct uregs *r) {
    (void)r;
    sim_vmcs_put(v, VECTORING_EVENT, VMX_EVENT(0x80, 4, 0));
}
static void guest_nothing(struct sim_vmcs *v, struct uregs *r) { (void)v, (void)r; }
static void instruction_of_the_guest_is_not_injected(void **state) {
    (void)state;
    rec.guest = guest_interrupted_by_own_int;
    rec.reason = EVT_VMX_EPT;
    assert_int_equal(run(), EVT_VMX_EPT);
    rec.guest = guest_nothing;
    rec.reason = EV_CPUID;
    run();
    assert_int_equal(GET(ENTRY_EVENT), 0); /* INT runs again */
}

static void guest_interrupted(struct sim_vmcs *v, struct uregs *r) {
    (void)r;
    sim_vmcs_put(v, VECTORING_EVENT, VMX_EVENT(rec.reason, 0, 0));
}
/* Task switch, APIC access, EPT violation and misconfiguration; SDM vol 3 27.2.4: others do not come in the middle of an event. */
static void delivery_cut_short_by_any_exit_is_repeated(void **state) {
    (void)state;
    static const unsigned reasons[] = {9, 44, 48, 49};
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        guest_ready(0x202, 0);
        rec.guest = guest_interrupted, rec.reason = reasons[i];
        assert_int_equal(run(), reasons[i]);
        rec.guest = guest_nothing, rec.reason = EV_CPUID;
        assert_int_equal(run(), EV_CPUID);
        assert_int_equal(GET(ENTRY_EVENT) | VMX_EVENT_VALID, VMX_EVENT(reasons[i], 0, 0));
    }
}

static void invalid_keeps_the_injection(void **state) {
    (void)state;
    guest_ready(2, 0);
    inject(INJ_VALID | 0x30, 0); /* IF clear: guest state */
    assert_int_equal(run(), EVT_VMX_INVALID);
    assert_int_equal(state_take(MTD_INJ, EVT_VMX_INVALID)->inj_info, INJ_VALID | 0x30);
    utcb.state.rflags = 0x202;
    state_put(MTD_RFLAGS);
    assert_int_equal(run(), EV_HLT);
    assert_int_equal(vcpu_ec.regs.rcx, 0x30);
    guest_ready(0x202, 0);
    inject(INJ_VALID | 0x100, 0); /* reserved type: controls */
    assert_int_equal(run(), EVT_VMX_INVALID);
    inject(0, 0);
    assert_int_equal(run(), EV_CPUID); /* nothing is left of it in the VMCS */
    sim_vmx_counts.fails = 0;
}

/* --- exits that the kernel resolves --- */
static const struct sim_guest_step raise_db[] = {{SIM_G_EXCEPTION, 0, 1}}, raise_ac[] = {{SIM_G_EXCEPTION, 0, 17}},
                                   raise_mc[] = {{SIM_G_EXCEPTION, 0, 18}}, raise_pf[] = {{SIM_G_EXCEPTION, 0, 14}};
static void exceptions_are_reflected_unless_asked_for(void **state) {
    (void)state;
    struct {
        const struct sim_guest_step *script;
        unsigned vec;
    } cases[] = {{raise_db, 1}, {raise_ac, 17}, {raise_mc, 18}};
    utcb.state.cr0 = 0x11, utcb.state.dr7 = 0x2400;
    state_put(MTD_CR | MTD_DR);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        guest_ready(0x202, 0);
        assert_int_equal(run_script(cases[i].script), -1);
        assert_int_equal(rec.preempts, i + 1);
        assert_int_equal(run(), EV_HLT);
        assert_int_equal(vcpu_ec.regs.rcx, cases[i].vec);
        assert_int_equal(vcpu_ec.regs.rbx, (u64)cases[i].script);
    }
    assert_int_equal(rec.dr6, 0xffff0ff1); /* B0: #DB exits before it is there */
    assert_int_equal(state_take(MTD_DR, EV_HLT)->dr7, 0x400);
    utcb.state.exc_intercepts = 1 << 1 | 1 << 14 | 1 << 17 | 1 << 18;
    state_put(MTD_MASKS);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        guest_ready(0x202, 0);
        assert_int_equal(run_script(cases[i].script), 0);
        struct abi_state *s = state_take(MTD_QUAL, 0);
        assert_int_equal(s->qual[0], cases[i].vec == 1);
        assert_int_equal(s->qual[1], 0x80000300 | cases[i].vec | (cases[i].vec == 17 ? 0x800 : 0));
    }
    assert_int_equal(run_script(raise_pf), 0);
}

static void single_step_in_a_shadow_enters_again(void **state) {
    (void)state;
    guest_ready(0x302, 0); /* TF */
    utcb.state.intr_state = 1;
    state_put(MTD_STA);
    assert_int_equal(run_script(raise_db), -1);
    assert_int_equal(run(), EV_HLT);
    assert_int_equal(vcpu_ec.regs.rcx, 1);
}

static const struct sim_guest_step cr_tour[] = {{SIM_G_CR0, 0, 0x31}, {SIM_G_CR0, 0, 0x40000031}, {SIM_G_CR0, 0, 0x13},
                                                {SIM_G_CR4, 0, 0x40}, {SIM_G_CR4, 0, 0x200},      {SIM_G_HLT, 0, 0}};
static int run_to_exit(void) {
    int event = -1;
    for (unsigned i = 0; event == -1 && i < 100; i++)
        event = run();
    return event;
}
static void control_registers_masked_by_us_only(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    s->cr0 = 0x11;
    state_put(MTD_CR);
    guest_ready(0x2, 0);
    s->rip = (u64)cr_tour;
    state_put(MTD_RIP);
    assert_int_equal(run_to_exit(), EV_HLT);
    s = state_take(MTD_CR | MTD_RIP, EV_HLT);
    assert_int_equal(s->rip, (u64)&cr_tour[5]);
    assert_int_equal(s->cr0, 0x13);
    assert_int_equal(s->cr4, 0x200);
    assert_int_equal(GET(GUEST_CR0) & 0x60000033, 0x33); /* NE stays */
    assert_int_equal(GET(GUEST_CR4), 0x2240);            /* VMXE and MCE, too */
}

static void control_registers_masked_by_the_vmm(void **state) {
    (void)state;
    static const struct sim_guest_step set_wp[] = {{SIM_G_CR0, 0, 0x10013}},
                                       set_ts[] = {{SIM_G_CR0, 0, 0x1b}, {SIM_G_HLT, 0, 0}},
                                       set_vmxe[] = {{SIM_G_CR4, 0, 0x2000}}, set_nw[] = {{SIM_G_CR0, 0, 0x20000013}},
                                       set_ne[] = {{SIM_G_CR0, 0, 0x10033}, {SIM_G_HLT, 0, 0}};
    struct abi_state *s = &utcb.state;
    guest_ready(0x2, 0);
    s->cr0 = 0x13, s->cr0_mask = 0x10000, s->cr4_mask = 0;
    state_put(MTD_CR | MTD_MASKS);
    assert_int_equal(run_script(set_wp), 28);
    assert_int_equal(state_take(MTD_QUAL, 28)->qual[0], 0);
    assert_int_equal(state_take(MTD_CR, 28)->cr0, 0x13);
    s->cr0 = 0x10013; /* a bit of ours changes, the VMM's is as it was */
    state_put(MTD_CR);
    assert_int_equal(run_script(set_ne), -1);
    assert_int_equal(run(), EV_HLT);
    s->cr0 = 0x13;
    state_put(MTD_CR);
    vcpu_ec.regs.rdx = (u64)handler;
    s->cr0_mask = 0;
    state_put(MTD_MASKS);
    assert_int_equal(run_script(set_ts), EV_HLT);
    s->cr0_mask = 8;
    state_put(MTD_MASKS); /* what the guest has changed meanwhile is what it sees */
    assert_int_equal(state_take(MTD_CR, 28)->cr0, 0x1b);
    assert_int_equal(GET(CR0_SHADOW), 0x1b);
    s->cr0_mask = 0;
    state_put(MTD_MASKS);
    for (unsigned i = 0; i < 2; i++) { /* #GP */
        guest_ready(0x2, 0);
        assert_int_equal(run_script(i ? set_nw : set_vmxe), -1);
        assert_int_equal(run(), EV_HLT);
        assert_int_equal(vcpu_ec.regs.rcx, 13);
    }
}

static void xsetbv_switches_xcr0(void **state) {
    (void)state;
    static const struct sim_guest_step good[] = {{SIM_G_XSETBV, 0, 3}, {SIM_G_HLT, 0, 0}};
    static const struct sim_guest_step bad[][2] = {
        {{SIM_G_XSETBV, 0, 0}}, {{SIM_G_XSETBV, 0, 5}}, {{SIM_G_XSETBV, 0, 15}}};
    run();
    assert_int_equal(rec.xcr0, 1);
    assert_int_equal(run_script(good), -1);
    assert_int_equal(run(), EV_HLT);
    assert_int_equal(rec.xcr0, 3);
    state_take(MTD_CR, EV_HLT)->cr8 = 9;
    state_put(MTD_CR);
    assert_int_equal(state_take(MTD_CR | MTD_TPR, EV_HLT)->cr8, 9);
    assert_int_equal(utcb.state.tpr, 0x90);
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(run_script(bad[i]), -1);
        vcpu_ec.regs.rdx = (u64)handler;
        assert_int_equal(run(), EV_HLT);
        assert_int_equal(vcpu_ec.regs.rcx, 13);
        assert_int_equal(rec.xcr0, 3);
    }
}

static u64 made_up[4]; /* EXIT_EVENT, qualification */
static void guest_makes_up(struct sim_vmcs *v, struct uregs *r) {
    (void)r;
    sim_vmcs_put(v, EXIT_EVENT, made_up[0]);
    sim_vmcs_put(v, EXIT_QUALIFICATION, made_up[1]);
}
static void host_nmi_goes_to_the_host(void **state) {
    (void)state;
    u64 before = sim_vmx_counts.nmis;
    rec.guest = guest_makes_up;
    rec.reason = 0, made_up[0] = VMX_EVENT(2, 2, 0);
    assert_int_equal(run(), -1);
    assert_int_equal(sim_vmx_counts.nmis, before + 1);
    assert_int_equal(rec.resumes, 1);
    assert_int_equal(state_take(MTD_INJ, EV_HLT)->inj_info, 0); /* nothing for the guest */
}

static void iret_that_faulted_blocks_nmis_again(void **state) {
    (void)state;
    rec.guest = guest_makes_up;
    rec.reason = EVT_VMX_EPT, made_up[1] = 1 << 12;
    assert_int_equal(run(), EVT_VMX_EPT);
    assert_int_equal(GET(INTERRUPTIBILITY), 8);
    utcb.state.intr_state = 0;
    state_put(MTD_STA);
    rec.reason = 0, made_up[0] = VMX_EVENT(17, 3, 0) | 1 << 12, made_up[1] = 0;
    assert_int_equal(run(), -1);
    assert_int_equal(GET(INTERRUPTIBILITY), 8);
    state_put(MTD_STA);
    made_up[0] = VMX_EVENT(17, 3, 0);
    assert_int_equal(run(), -1);
    assert_int_equal(GET(INTERRUPTIBILITY), 0);
}

static void guest_alignment_fault(struct sim_vmcs *v, struct uregs *r) {
    (void)r;
    sim_vmcs_put(v, EXIT_EVENT, VMX_EVENT(17, 3, VMX_EVENT_ERROR));
    sim_vmcs_put(v, EXIT_EVENT_ERROR, 0x55);
}
static void reflected_error_code_arrives(void **state) {
    (void)state;
    utcb.state.cr0 = 0x11;
    state_put(MTD_CR);
    rec.guest = guest_alignment_fault;
    rec.reason = 0;
    assert_int_equal(run(), -1);
    assert_int_equal(mcg_writes, 0);
    rec.guest = guest_nothing;
    rec.reason = EV_CPUID;
    assert_int_equal(run(), EV_CPUID);
    assert_int_equal(GET(ENTRY_EVENT_ERROR), 0x55);
    assert_int_equal(run_script(raise_mc), -1);
    assert_int_equal(mcg_writes, 1);
}

static u64 cr_value;
static void guest_moves_to_cr0(struct sim_vmcs *v, struct uregs *r) {
    unsigned n = (unsigned)made_up[2];
    u64 *gpr[16] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, NULL,    &r->rbp, &r->rsi, &r->rdi,
                    &r->r8,  &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15};
    for (unsigned i = 0; i < 16; i++)
        if (i != 4)
            *gpr[i] = i == n ? cr_value : ~cr_value;
    sim_vmcs_put(v, GUEST_RSP, n == 4 ? cr_value : ~cr_value);
    sim_vmcs_put(v, EXIT_QUALIFICATION, n << 8);
}
static void every_register_can_be_moved_to_cr0(void **state) {
    (void)state;
    rec.guest = guest_moves_to_cr0;
    rec.reason = 28;
    for (made_up[2] = 0; made_up[2] < 16; made_up[2]++) {
        cr_value = made_up[2] & 1 ? 0x11 : 0x31; /* NE */
        assert_int_equal(run(), -1);
        assert_int_equal(GET(CR0_SHADOW) & 0x20, cr_value & 0x20);
    }
}

static void exit_reasons_become_events(void **state) {
    (void)state;
    rec.guest = guest_nothing;
    static const u32 reasons[] = {2, 3, 7, 8, 9, 10, 18, 27, 31, 32, 43, 48, 49, 54, 64, 68, 0xfd};
    for (unsigned i = 0; i < ARRAY_SIZE(reasons); i++) {
        rec.reason = reasons[i];
        assert_int_equal(run(), reasons[i]);
    }
    rec.reason = 0xfe;
    assert_int_equal(run(), -1);
    rec.reason = 0xffff;
    assert_int_equal(run(), -1);
    assert_int_equal(rec.kills, 2);
}

static void port_exit_and_length(void **state) {
    (void)state;
    static const struct sim_guest_step io[] = {{SIM_G_IO, 1, 0x3f8}, {SIM_G_HLT, 0, 0}};
    assert_int_equal(run_script(io), 30);
    struct abi_state *s = state_take(MTD_QUAL | MTD_RIP, 30);
    assert_int_equal(s->qual[0], 0x3f80008);
    assert_int_equal(s->inst_len, STEP);
    for (unsigned event = 64; event < 64 + 64; event++) /* no exit reason of an instruction */
        assert_int_equal(state_take(MTD_RIP, event)->inst_len, 0);
    assert_int_equal(arch_guest_ports(&guest_pd, 0x3f8, 8, true), NOVA_SUCCESS);
    assert_int_equal(run_script(io), EV_HLT);
    static const u16 closed[] = {0, 0x3f7, 0x400, 0x7fff, 0x8000, 0xffff};
    for (unsigned i = 0; i < ARRAY_SIZE(closed); i++) { /* with a map of one's own, and with everybody's */
        const u8 *maps[] = {guest_pd.guest_pio_bitmap, vmx.iopm_all};
        for (unsigned k = 0; k < 2; k++)
            assert_true(maps[k][closed[i] / 8] >> closed[i] % 8 & 1);
    }
    static const struct sim_guest_step high[] = {{SIM_G_IO, 1, 0xfff8}, {SIM_G_HLT, 0, 0}};
    assert_int_equal(run_script(high), 30);
    assert_int_equal(arch_guest_ports(&guest_pd, 0xfff8, 8, true), NOVA_SUCCESS);
    assert_int_equal(run_script(high), EV_HLT);
    static const struct sim_guest_step fault[] = {{SIM_G_WRITE, 0, GPA}};
    assert_int_equal(run_script(fault), EVT_VMX_EPT);
    s = state_take(MTD_QUAL | MTD_RIP, EVT_VMX_EPT);
    assert_int_equal(s->qual[0] & 7, 2);
    assert_int_equal(s->qual[1], GPA);
    assert_int_equal(s->inst_len, 0); /* undefined there */
}

/* --- CPU state --- */
static void hazard_stops_the_entry(void **state) {
    (void)state;
    cpus[0]->hazard = HZ_SHOOT;
    assert_int_equal(run(), -1);
    cpus[0]->hazard = 0;
    vcpu_ec.hazard = EC_HZ_RECALL;
    assert_int_equal(run(), -1);
    assert_int_equal(rec.resumes, 2);
    assert_int_equal(rec.switches, 0);
    vcpu_ec.hazard = 0;
    assert_int_equal(run(), EV_CPUID);
}

/* Whatever space the CPU has when a guest is entered, the exit finds it again; it need not be that of the vCPU. */
static void exit_finds_the_space_it_left(void **state) {
    (void)state;
    struct pd other = {.host.root = {kernel_pd.host.root.v + PAGE_SIZE}};
    assert_int_equal(run_script(cpuids), EV_CPUID);
    cpus[0]->space = &other; /* the simulator's exit compares */
    assert_int_equal(run_script(cpuids), EV_CPUID);
    assert_int_equal(GET(HOST_CR3), other.host.root.v);
    cpus[0]->space = &guest_pd;
    assert_int_equal(run_script(cpuids), EV_CPUID);
}

static void halted_guest_waits_for_the_host(void **state) {
    (void)state;
    sim_cpus[0].mach.ipi = true;
    utcb.state.actv_state = 1, utcb.state.intr_state = 0;
    state_put(MTD_STA);
    assert_int_equal(run(), -1);
    assert_int_equal(rec.preempts, 1);
    assert_int_equal(state_take(MTD_STA, EVT_VCPU_RECALL)->actv_state, 1);
    sim_cpus[0].mach.ipi = false;
    utcb.state.rflags = 0x202, vcpu_ec.regs.rdx = (u64)handler;
    state_put(MTD_RFLAGS);
    inject(INJ_VALID | 0x33, 0);
    assert_int_equal(run(), EV_HLT);
    assert_int_equal(vcpu_ec.regs.rcx, 0x33);
}

static void vpids_never_run_out(void **state) {
    (void)state;
    enum { N = 40 };
    static struct ec ecs[N];
    vmx.vpid_count = 16;
    rec.guest = guest_nothing;
    rec.reason = EV_CPUID;
    for (unsigned i = 0; i < N; i++)
        vcpu_make(&ecs[i]);
    static u64 owner_of[16]; /* vCPU + 1 that used the VPID since the last flush */
    memset(owner_of, 0, sizeof(owner_of));
    u32 seed = 1;
    u64 flushes = 0, gen_seen[N];
    memset(gen_seen, 0xff, sizeof(gen_seen));
    for (unsigned i = 0; i < 5000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned n = (seed >> 16) % N;
        if ((seed >> 8) % 7 == 0)
            guest_pd.guest_gen++;
        u64 invvpids = sim_vmx_counts.invvpids, invepts = sim_vmx_counts.invepts;
        cpus[0]->ec = &ecs[n];
        run();
        if (sim_vmx_counts.invvpids != invvpids) {
            memset(owner_of, 0, sizeof(owner_of));
            flushes++;
        }
        u64 vpid = GET(VMCS_VPID);
        assert_in_range(vpid, 1, 15);
        assert_true(owner_of[vpid] == 0 || owner_of[vpid] == n + 1);
        owner_of[vpid] = n + 1;
        assert_int_equal(sim_vmx_counts.invepts - invepts, gen_seen[n] != guest_pd.guest_gen);
        gen_seen[n] = guest_pd.guest_gen;
    }
    assert_in_range(flushes, 100, 400); /* when they are used up, not for each */
    for (unsigned i = 0; i < N; i++)
        arch_vcpu_fini(&ecs[i]);
    cpus[0]->ec = &vcpu_ec;
}

static void new_table_is_flushed_whatever_was_there_before(void **state) {
    (void)state;
    run();
    assert_int_equal(GET(EPT_POINTER), arch_ptr_phys(vmx.ept_empty).v | 0x1e);
    u64 before = sim_vmx_counts.invepts;
    map_stack();
    run();
    assert_int_equal(GET(EPT_POINTER), guest_pd.guest.root.v | 0x1e);
    assert_int_equal(sim_vmx_counts.invepts, before + 1);
    u64 invvpids = sim_vmx_counts.invvpids;
    utcb.state.cr0 = 0x10;
    state_put(MTD_CR); /* linear translations are no longer true */
    run();
    assert_int_equal(sim_vmx_counts.invvpids, invvpids + 1);
    run();
    assert_int_equal(sim_vmx_counts.invvpids, invvpids + 1);
}

static void guest_writes_registers(struct sim_vmcs *v, struct uregs *r) {
    (void)v;
    r->rbx++;
    dr0_write(dr0_read() + 1);
    dr6_write(dr6_read() + 1);
    cr2_write(cr2_read() + 1);
}
static void registers_belong_to_their_vcpu(void **state) {
    (void)state;
    static struct ec other;
    vcpu_make(&other);
    rec.guest = guest_writes_registers;
    rec.reason = EV_CPUID;
    for (u64 i = 0; i < 3; i++) {
        cpus[0]->ec = &vcpu_ec;
        run();
        run();
        cpus[0]->ec = &other;
        cr2_write(0xdead), dr6_write(0xffff0ff0); /* faults and traps of threads */
        run();
        assert_int_equal(rec.dr0, i);
        assert_int_equal(rec.dr6, 0xffff0ff0 + i);
        assert_int_equal(rec.cr2, i);
    }
    arch_vcpu_fini(&other); /* the owner goes */
    cpus[0]->ec = &vcpu_ec;
    run();
    assert_int_equal(rec.dr0, 6);
    assert_int_equal(vcpu_ec.regs.rbx, 7);
    assert_int_equal(state_take(MTD_CR, EV_CPUID)->cr2, 7);
}

static void syscall_msrs_belong_to_their_vcpu(void **state) {
    (void)state;
    static const struct sim_guest_step wr[] = {{SIM_G_SET, 0, 0x777}, {SIM_G_WRMSR, 0, 0xc0000082}, {SIM_G_HLT, 0, 0}};
    static const struct sim_guest_step rd[] = {{SIM_G_RDMSR, 0, 0xc0000081}, {SIM_G_HLT, 0, 0}};
    struct abi_state *s = &utcb.state;
    s->star = 0x123400000000, s->lstar = 0x1000, s->cstar = 0x2000, s->sfmask = 0x200, s->kernel_gs_base = 0x3000;
    s->tsc_aux = 9;
    state_put(MTD_SYSCALL | MTD_TSC_AUX);
    sim_cpus[0].mach.tsc_aux = 55;
    assert_int_equal(run_script(wr), EV_HLT); /* run() checks the host's */
    assert_int_equal(run_script(rd), EV_HLT);
    assert_int_equal(vcpu_ec.regs.rax, 0x123400000000);
    s = state_take(MTD_SYSCALL | MTD_TSC_AUX, EV_HLT);
    assert_int_equal(s->lstar, 0x777);
    assert_int_equal(s->cstar, 0x2000);
    assert_int_equal(s->kernel_gs_base, 0x3000);
    assert_int_equal(s->tsc_aux, 9);
    assert_int_equal(sim_cpus[0].mach.tsc_aux, 0); /* the host's list was made at boot */
    s->tsc_aux = 5;
    s->pat = 0x0007040600070406ul;
    state_put(MTD_PAT | MTD_XSAVE | MTD_MASKS | MTD_SYSCALL); /* other extensions leave it */
    assert_int_equal(state_take(MTD_TSC_AUX, EV_HLT)->tsc_aux, 9);
}

static void vmcs_is_loaded_when_needed_and_cleared_at_the_end(void **state) {
    (void)state;
    static struct ec other;
    u64 loads = sim_vmx_counts.loads;
    for (unsigned i = 0; i < 5; i++) {
        run();
        state_take(MTD_RIP, EV_CPUID);
    }
    assert_int_equal(sim_vmx_counts.loads, loads);
    vcpu_make(&other);
    cpus[0]->ec = &other;
    run();
    assert_int_equal(sim_vmx_counts.loads, loads + 1);
    struct sim_vmcs *region = rec.v;
    assert_int_equal(region->active, 1);
    cpus[0]->ec = &vcpu_ec;
    run();
    assert_int_equal(sim_vmx_counts.loads, loads + 2);
    assert_ptr_not_equal(rec.v, region);
    arch_vcpu_fini(&other); /* not the current one: freeing it asserts that no CPU holds it */
    assert_int_equal(arch_vcpu_init(&other), NOVA_SUCCESS);
    other.cpu = 1; /* never ran: any CPU may take it apart */
    arch_vcpu_fini(&other);
}

static void unusable_vmcs_ends_the_vcpu_only(void **state) {
    (void)state;
    run();
    rec.v->launched = false; /* VMRESUME of a clear VMCS: error 5 */
    assert_int_equal(run(), -1);
    assert_int_equal(rec.kills, 1);
    assert_int_equal(vmclear(sim_cpus[0].mach.vmcs), true); /* none is current: VMfailInvalid */
    vmx_cpus[0].current = vcpu_ec.vcpu;
    run_script(cpuids);
    assert_int_equal(rec.kills, 2);
    sim_vmx_counts.fails = 0;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(reason_when_something_is_missing),
        T(memory_runs_out),
        T(controls_forced_stay_and_dangerous_never_come),
        T(new_vcpu_is_as_after_reset),
        T(msr_bitmap_passes_only_what_is_switched),
        T(set_get_round_trip),
        T(get_reads_and_touches_only_what_the_mtd_names),
        T(state_refused_is_an_event),
        T(long_mode_follows_cr0_and_efer),
        T(injection_is_delivered_once),
        T(injection_window_bits_never_reach_the_event),
        T(injection_aborted_is_repeated),
        T(instruction_of_the_guest_is_not_injected),
        T(invalid_keeps_the_injection),
        T(exceptions_are_reflected_unless_asked_for),
        T(single_step_in_a_shadow_enters_again),
        T(control_registers_masked_by_us_only),
        T(control_registers_masked_by_the_vmm),
        T(xsetbv_switches_xcr0),
        T(delivery_cut_short_by_any_exit_is_repeated),
        T(host_nmi_goes_to_the_host),
        T(iret_that_faulted_blocks_nmis_again),
        T(reflected_error_code_arrives),
        T(every_register_can_be_moved_to_cr0),
        T(exit_reasons_become_events),
        T(port_exit_and_length),
        T(hazard_stops_the_entry),
        T(exit_finds_the_space_it_left),
        T(halted_guest_waits_for_the_host),
        T(vpids_never_run_out),
        T(new_table_is_flushed_whatever_was_there_before),
        T(registers_belong_to_their_vcpu),
        T(syscall_msrs_belong_to_their_vcpu),
        T(vmcs_is_loaded_when_needed_and_cleared_at_the_end),
        T(unusable_vmcs_ends_the_vcpu_only),
    };
    sim_opt.vendor = SIM_INTEL;
    sim_opt.ram = 256ul << 20;
    kernel_fixture_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
