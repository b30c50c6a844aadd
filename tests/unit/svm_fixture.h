/* The AMD-V files of src/arch (svm.c, svm_state.c, vcpu.c's port map) over a recorder in place of the instructions and of core: they are
 * compiled into the test with every function that they call renamed. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/vcpu_vendor.h"
#include "core/core.h"
#include "core/klog.h"
#include "core/pd.h"

static struct cpu cpu0;
static struct pd guest_pd;
static struct ec vcpu_ec, next_ec;

static struct {
    unsigned switches, preempts, resumes, kills;
    int event; /* of core_vmexit, -1: none */
    bool gif_off;
    struct vmcb *seen;
    u64 xcr0, xcr0_in_guest, msr_efer, msr_hsave, msr_vm_cr, msr_tsc_aux, aux_in_guest;
    u64 dr[4];
    u32 pkru, pkru_in_guest;
    u64 cr4;
    void (*guest)(struct vmcb *b, struct uregs *r);
    u32 features_d; /* CPUID 8000000A EDX */
    u32 asids;
    unsigned flushes_all, flushes_asid;
    struct arch_bases bases; /* of the thread that is on the CPU */
} rec;

static const struct cpuid_regs leaf1 = {.c = 1u << 26 | 1u << 27 | 1u << 17},
                               leaf7 = {.b = 1u << 0 | 1u << 7 | 1u << 20, .c = 1u << 2 | 1u << 3},
                               leaf81 = {.c = 1u << 2, .d = 1u << 11 | 1u << 20 | 1u << 29 | 1u << 27};
static struct cpuid_regs cpuid1, cpuid7, cpuid81, cpuid40; /* what this CPU has; 40: who simulates it */
static u32 phys_bits;

static struct cpuid_regs test_cpuid(u32 leaf, u32 sub) {
    (void)sub;
    switch (leaf) {
    case 1:
        return cpuid1;
    case 7:
        return cpuid7;
    case 0x40000000:
        return cpuid40;
    case 0x80000000:
        return (struct cpuid_regs){.a = 0x8000000a};
    case 0x80000001:
        return cpuid81;
    case 0x80000008:
        return (struct cpuid_regs){.a = phys_bits};
    case 0x8000000a:
        return (struct cpuid_regs){.b = rec.asids, .d = rec.features_d};
    }
    return (struct cpuid_regs){0};
}
static u64 test_rdmsr(u32 msr) { return msr == 0xc0000080 ? rec.msr_efer : msr == 0xc0010114 ? rec.msr_vm_cr : 0; }
static void test_wrmsr(u32 msr, u64 v) {
    if (msr == 0xc0000080)
        rec.msr_efer = v;
    if (msr == 0xc0010117)
        rec.msr_hsave = v;
    if (msr == 0xc0000103)
        rec.msr_tsc_aux = v;
}
static u64 test_xgetbv(u32 reg) { return reg ? 0 : rec.xcr0; }
static void test_xsetbv(u32 reg, u64 v) {
    assert_int_equal(reg, 0);
    rec.xcr0 = v;
}
static u64 test_cr4_read(void) { return rec.cr4; }
static void test_cr4_write(u64 v) { rec.cr4 = v; }
#define DR(n)                                                                                                          \
    static u64 test_dr##n##_read(void) { return rec.dr[n]; }                                                           \
    static void test_dr##n##_write(u64 v) { rec.dr[n] = v; }
DR(0)
DR(1)
DR(2)
DR(3)
static u32 test_rdpkru(void) {
    assert_true(rec.cr4 & 1 << 22);
    return rec.pkru;
}
static void test_wrpkru(u32 v) {
    assert_true(rec.cr4 & 1 << 22);
    rec.pkru = v;
}
static void test_clgi(void) { rec.gif_off = true; }
static void test_stgi(void) { rec.gif_off = false; }
static void test_host_save(u64 pa) { assert_true(pa); }
static paddr_t test_ptr_phys(const void *p) { return PADDR((u64)p); }
static bool test_preempt(void) {
    assert_false(rec.gif_off);
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
static struct account test_account;
static void *kernel_pages[16]; /* what the kernel itself keeps for good */
static unsigned kernel_page_count;
static unsigned alloc_fail_at; /* the nth from now fails */
static bool test_alloc_fails(void) { return alloc_fail_at && --alloc_fail_at == 0; }
static void *test_pages_alloc(struct account *a, unsigned order) {
    if (test_alloc_fails())
        return NULL;
    void *p = aligned_alloc(PAGE_SIZE, PAGE_SIZE << order);
    if (a == &test_account)
        kernel_pages[kernel_page_count++] = p;
    memset(p, 0, PAGE_SIZE << order);
    a->used += PAGE_SIZE << order;
    return p;
}
static void test_pages_free(struct account *a, void *p, unsigned order) {
    a->used -= PAGE_SIZE << order;
    free(p);
}
static void *test_slab_alloc(struct slab_cache *c, struct account *a) {
    if (test_alloc_fails())
        return NULL;
    a->used += c->size;
    return calloc(1, c->size);
}
static void test_slab_free(struct slab_cache *c, struct account *a, void *p) {
    a->used -= c->size;
    free(p);
}
static u64 test_clock(void) { return 1000; }
static struct cpu *test_cpu_self(void) { return &cpu0; }
static struct arch_bases test_bases_read(void) { return rec.bases; }
static void test_world_switch(u64 guest, u64 host, struct uregs *regs);

#define cpuid                test_cpuid
#define rdmsr                test_rdmsr
#define wrmsr                test_wrmsr
#define xgetbv               test_xgetbv
#define xsetbv               test_xsetbv
#define cr4_read             test_cr4_read
#define cr4_write            test_cr4_write
#define dr0_read             test_dr0_read
#define dr1_read             test_dr1_read
#define dr2_read             test_dr2_read
#define dr3_read             test_dr3_read
#define dr0_write            test_dr0_write
#define dr1_write            test_dr1_write
#define dr2_write            test_dr2_write
#define dr3_write            test_dr3_write
#define rdpkru               test_rdpkru
#define wrpkru               test_wrpkru
#define clgi                 test_clgi
#define stgi                 test_stgi
#define svm_host_save        test_host_save
#define svm_world_switch     test_world_switch
#define arch_ptr_phys        test_ptr_phys
#define arch_preempt_pending test_preempt
#define arch_clock           test_clock
#define arch_cpu_self        test_cpu_self
#define arch_bases_read      test_bases_read
#define core_resume          test_resume
#define core_vmexit          test_vmexit
#define ec_kill              test_kill
#define klog_at              test_klog_at
#define kmem_pages_alloc     test_pages_alloc
#define kmem_pages_free      test_pages_free
#define slab_alloc           test_slab_alloc
#define slab_free            test_slab_free
#define kernel_account       test_account
/* our own copies of what the library also has */
#define svm                   test_svm
#define svm_vendor            test_svm_vendor
#define svm_features_read     test_svm_features_read
#define svm_state_init        test_svm_state_init
#define svm_get               test_svm_get
#define svm_set               test_svm_set
#define svm_run               test_svm_run
#define svm_state_valid       test_svm_state_valid
#define vcpu_xcr0_valid       test_vcpu_xcr0_valid
#define vcpu_lazy_load        test_vcpu_lazy_load
#define arch_vcpu_ptab        test_arch_vcpu_ptab
#define arch_vcpu_faulted     test_arch_vcpu_faulted
#define arch_vcpu_features    test_arch_vcpu_features
#define arch_vcpu_cpu_init    test_arch_vcpu_cpu_init
#define arch_vcpu_init        test_arch_vcpu_init
#define arch_vcpu_fini        test_arch_vcpu_fini
#define arch_vcpu_get         test_arch_vcpu_get
#define arch_vcpu_set         test_arch_vcpu_set
#define arch_vcpu_run         test_arch_vcpu_run
#define arch_guest_ports      test_arch_guest_ports
#define arch_guest_ports_free test_arch_guest_ports_free
#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* the contract's prototypes have the other names */
extern const struct vcpu_vendor test_svm_vendor;
void vcpu_lazy_load(struct vcpu_lazy **owner, struct vcpu_lazy *mine, bool pku);
bool vcpu_xcr0_valid(u64 xcr0, u64 host);
u32 arch_vcpu_features(void);
bool arch_vcpu_cpu_init(struct cpu *c);
#include "../../src/arch/svm.c"
#include "../../src/arch/svm_state.c"
#undef bit
#include "../../src/arch/vcpu.c"

static struct abi_utcb utcb;
#define ALL_MTD (0x1fffffu | ABI_MTD_EXT)

static void guest_exit(u64 code, u64 info1, u64 info2) {
    rec.seen->exitcode = code;
    rec.seen->exitinfo1 = info1;
    rec.seen->exitinfo2 = info2;
}

static void test_world_switch(u64 guest, u64 host, struct uregs *regs) {
    struct vmcb *b = (struct vmcb *)guest;
    assert_true(rec.gif_off && host);
    assert_ptr_equal(cpu0.guest_space, &guest_pd);
    assert_true(b->asid > 0 && b->asid < rec.asids);
    assert_true(b->misc2 & 1);
    const struct vmcb *h = (const struct vmcb *)host; /* what VMLOAD brings back */
    assert_true(h->fs.base == rec.bases.fs && h->kernel_gs_base == rec.bases.gs);
    rec.bases = (struct arch_bases){rec.switches * 0x1000ul, rec.switches * 0x2000ul};
    rec.switches++;
    rec.seen = b;
    rec.xcr0_in_guest = rec.xcr0;
    rec.aux_in_guest = rec.msr_tsc_aux;
    rec.pkru_in_guest = rec.pkru;
    rec.flushes_all += b->tlb_control == 1;
    rec.flushes_asid += b->tlb_control == 3;
    b->exitintinfo = 0;
    guest_exit(0x72, 0, 0);
    if (rec.guest)
        rec.guest(b, regs);
    b->eventinj &= ~SVM_EVENT_VALID;
}

static void vcpu_make(struct ec *ec) {
    memset(ec, 0, sizeof(*ec));
    ec->pd = &guest_pd;
    assert_int_equal(arch_vcpu_init(ec), NOVA_SUCCESS);
    memset(&utcb, 0, sizeof(utcb));
    utcb.state.ctrl[1] = 1;
    arch_vcpu_set(ec, &utcb, MTD_CTRL);
}

static int setup_with(u32 features, u32 asids) {
    memset(&rec, 0, sizeof(rec));
    memset(&cpu0, 0, sizeof(cpu0));
    memset(&guest_pd, 0, sizeof(guest_pd));
    memset(svm_cpus, 0, sizeof(svm_cpus));
    rec.features_d = features;
    rec.asids = asids;
    cpuid1 = leaf1, cpuid7 = leaf7, cpuid81 = leaf81;
    phys_bits = 40;
    rec.xcr0 = 7;
    rec.event = -1;
    npt_empty = NULL;
    vendor = NULL;
    if (!arch_vcpu_cpu_init(&cpu0))
        return -1;
    vcpu_make(&vcpu_ec);
    cpu0.ec = &vcpu_ec;
    return 0;
}
static int setup(void **state) {
    (void)state;
    return setup_with(1, 16);
}
static int teardown(void **state) {
    (void)state;
    if (vcpu_ec.vcpu)
        arch_vcpu_fini(&vcpu_ec);
    arch_guest_ports_free(&guest_pd);
    assert_int_equal(guest_pd.account.used, 0);
    while (kernel_page_count)
        free(kernel_pages[--kernel_page_count]);
    return 0;
}

static int run(void) {
    rec.event = -1;
    assert_ptr_equal(arch_vcpu_run(&cpu0), &next_ec);
    assert_int_equal(rec.xcr0, 7);
    assert_false(rec.cr4 & 1 << 22);
    assert_false(rec.gif_off);
    return rec.event;
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
