/* Goal: mitigations_choose asks for what a processor needs by its CPUID and IA32_ARCH_CAPABILITIES, no MSR is touched that it does not have, and
 * each write is the one of the manual, in its order (Intel SDM vol 4 table 2-2, AMD APM vol 2 3.2.9).
 * Method: the file over a recorder in place of the instructions; a table of processors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "arch/insn.h"
#include "arch/mitigate.h"

#define INTEL 0x6c65746eu /* "ntel" */
#define AMD   0x444d4163u
#define HYGON 0x656e6967u
#define NONE  ~0ul /* no IA32_ARCH_CAPABILITIES */

static struct processor {
    const char *name;
    u32 vendor, l7b, l7d, e8b, e21a, e21c;
    u64 caps, efer;
} cpu;
static struct {
    unsigned n;
    struct {
        u32 msr; /* 0: rsb_fill */
        u64 value;
    } op[8];
} rec;

static struct cpuid_regs test_cpuid(u32 leaf, u32 sub) {
    assert_int_equal(sub, 0);
    switch (leaf) {
    case 0:
        return (struct cpuid_regs){.a = cpu.l7b || cpu.l7d ? 7 : 5, .c = cpu.vendor};
    case 7:
        assert_true(cpu.l7b || cpu.l7d);
        return (struct cpuid_regs){.b = cpu.l7b, .d = cpu.l7d | (cpu.caps != NONE ? 1u << 29 : 0)};
    case 0x80000000:
        return (struct cpuid_regs){.a = cpu.e21a ? 0x80000021 : cpu.e8b ? 0x80000008 : 0x80000001};
    case 0x80000008:
        assert_true(cpu.e8b || cpu.e21a);
        return (struct cpuid_regs){.b = cpu.e8b};
    case 0x80000021:
        assert_true(cpu.e21a);
        return (struct cpuid_regs){.a = cpu.e21a, .c = cpu.e21c};
    }
    fail();
    return (struct cpuid_regs){0};
}
static u64 test_rdmsr(u32 msr) {
    if (msr == 0xc0000080)
        return cpu.efer;
    assert_int_equal(msr, 0x10a);
    assert_true(cpu.caps != NONE);
    return cpu.caps;
}
static void record(u32 msr, u64 value) {
    assert_true(rec.n < 8);
    rec.op[rec.n].msr = msr;
    rec.op[rec.n++].value = value;
}
static void test_wrmsr(u32 msr, u64 v) { record(msr, v); }
static void test_rsb_fill(void) { record(0, 0); }
#define cpuid                  test_cpuid
#define rdmsr                  test_rdmsr
#define wrmsr                  test_wrmsr
#define rsb_fill               test_rsb_fill
#define mitigations            test_mitigations
#define mitigations_choose     test_choose
#define mitigate_cpu_init      test_cpu_init
#define mitigate_domain_switch test_domain_switch
#define mitigate_guest_entry   test_guest_entry
#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* the contract's prototypes have the other names */
u32 test_mitigations;
#include "../../src/arch/mitigate.c"

#define SPEC  (1u << 26) /* leaf 7 EDX: SPEC_CTRL, PRED_CMD */
#define CLEAR (1u << 10) /* MD_CLEAR */
#define FLUSH (1u << 28)
#define RTM   (1u << 11) /* EBX */
#define FORCE (MIT_ISOLATION | MIT_RETPOLINE | MIT_RSB | MIT_VERW | MIT_EAGER_FPU)
#define OLD   (MIT_ISOLATION | MIT_RETPOLINE | MIT_RSB | MIT_EAGER_FPU)

static void by_processor(void **s) {
    (void)s;
    static const struct {
        struct processor p;
        u32 want;
    } table[] = {
        {{.name = "Intel without news", .vendor = INTEL, .caps = NONE}, OLD},
        {{.name = "Intel, microcode of 2018", .vendor = INTEL, .l7d = SPEC | FLUSH, .caps = NONE},
         OLD | MIT_IBPB | MIT_L1D},
        {{.name = "Intel, microcode of 2019", .vendor = INTEL, .l7d = SPEC | FLUSH | CLEAR, .caps = NONE},
         OLD | MIT_IBPB | MIT_L1D | MIT_VERW},
        {{.name = "Intel, a hypervisor flushes", .vendor = INTEL, .l7d = SPEC | FLUSH | CLEAR, .caps = 1 << 3},
         OLD | MIT_IBPB | MIT_VERW},
        {{.name = "Intel, no Meltdown, MDS", .vendor = INTEL, .l7d = SPEC | FLUSH | CLEAR, .caps = 1 | 2},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_VERW | MIT_EAGER_FPU},
        {{.name = "Intel, no MDS", .vendor = INTEL, .l7d = SPEC | FLUSH | CLEAR, .caps = 1 | 2 | 1 << 5},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_EAGER_FPU},
        {{.name = "Intel, TAA", .vendor = INTEL, .l7b = RTM, .l7d = SPEC | CLEAR, .caps = 1 | 2 | 1 << 5},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_VERW | MIT_EAGER_FPU},
        {{.name = "Intel, no TAA", .vendor = INTEL, .l7b = RTM, .l7d = SPEC | CLEAR, .caps = 1 | 2 | 1 << 5 | 1 << 8},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_EAGER_FPU},
        {{.name = "Intel, MMIO stale data", .vendor = INTEL, .l7d = SPEC, .caps = 1 | 2 | 1 << 5 | 1 << 13 | 1 << 17},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_VERW | MIT_EAGER_FPU},
        {{.name = "Intel, no stale data", .vendor = INTEL, .l7d = SPEC, .caps = 1 | 2 | 1 << 5 | 7 << 13 | 1 << 17},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_EAGER_FPU},
        {{.name = "Intel, RFDS", .vendor = INTEL, .l7d = SPEC, .caps = 1 | 2 | 1 << 5 | 1 << 28},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_VERW | MIT_EAGER_FPU},
        {{.name = "Intel, no RFDS", .vendor = INTEL, .l7d = SPEC, .caps = 1 | 2 | 1 << 5 | 1 << 27 | 1 << 28},
         MIT_IBRS | MIT_RSB | MIT_IBPB | MIT_EAGER_FPU},
        {{.name = "AMD without news", .vendor = AMD, .caps = NONE}, MIT_RETPOLINE | MIT_RSB},
        {{.name = "AMD with IBPB", .vendor = AMD, .e8b = 1 << 12, .caps = NONE}, MIT_RETPOLINE | MIT_RSB | MIT_IBPB},
        {{.name = "Hygon", .vendor = HYGON, .e8b = 1 << 12, .caps = NONE}, MIT_RETPOLINE | MIT_RSB | MIT_IBPB},
        {{.name = "AMD, automatic IBRS", .vendor = AMD, .e8b = 1 << 12, .e21a = 1 << 8, .caps = NONE},
         MIT_AUTO_IBRS | MIT_RSB | MIT_IBPB},
        {{.name = "AMD, TSA", .vendor = AMD, .e8b = 1 << 12, .e21a = 1 << 8 | 1 << 5, .e21c = 2, .caps = NONE},
         MIT_AUTO_IBRS | MIT_RSB | MIT_IBPB | MIT_VERW},
        {{.name = "AMD, no TSA", .vendor = AMD, .e8b = 1 << 12, .e21a = 1 << 8 | 1 << 5, .e21c = 6, .caps = NONE},
         MIT_AUTO_IBRS | MIT_RSB | MIT_IBPB},
    };
    for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        cpu = table[i].p;
        u32 got = test_choose(MITIGATE_AUTO);
        if (got != table[i].want)
            fail_msg("%s: %x, not %x", cpu.name, got, table[i].want);
        assert_int_equal(test_choose(MITIGATE_FORCE), table[i].want | FORCE);
        assert_int_equal(test_choose(MITIGATE_OFF), 0);
    }
}

static void run_with(u32 m, void (*f)(void)) {
    memset(&rec, 0, sizeof(rec));
    test_mitigations = m;
    f();
}

static void writes(void **s) {
    (void)s;
    static void (*const all[])(void) = {test_cpu_init, test_domain_switch, test_guest_entry};
    cpu = (struct processor){.efer = 0xd01};
    for (unsigned i = 0; i < 3; i++) { /* what is off, or done elsewhere, writes nothing */
        run_with(MIT_ISOLATION | MIT_RETPOLINE | MIT_VERW | MIT_EAGER_FPU, all[i]);
        assert_int_equal(rec.n, 0);
    }
    run_with(MIT_IBRS | MIT_IBPB | MIT_L1D, test_cpu_init);
    assert_true(rec.n == 1 && rec.op[0].msr == 0x48 && rec.op[0].value == 1);
    run_with(MIT_AUTO_IBRS, test_cpu_init);
    assert_true(rec.n == 1 && rec.op[0].msr == 0xc0000080 && rec.op[0].value == (0xd01 | 1 << 21));
    run_with(MIT_IBPB | MIT_RSB | MIT_L1D | MIT_IBRS, test_domain_switch); /* the barrier, then our own returns */
    assert_true(rec.n == 2 && rec.op[0].msr == 0x49 && rec.op[0].value == 1 && rec.op[1].msr == 0);
    run_with(MIT_RSB, test_domain_switch);
    assert_true(rec.n == 1 && rec.op[0].msr == 0);
    run_with(MIT_L1D | MIT_IBPB | MIT_RSB, test_guest_entry);
    assert_true(rec.n == 1 && rec.op[0].msr == 0x10b && rec.op[0].value == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_processor), cmocka_unit_test(writes)};
    return cmocka_run_group_tests_name("mitigate", tests, NULL, NULL);
}
