/* The simulator's VT-x (src/sim/vmx.c, vmcs.c) against the manual (Intel SDM vol 3 chapters 24 to 30): what the instructions refuse, launch
 * state, entry checks that the kernel's own tests do not reach (controls, host state), and a guest TLB that forgets only what it is told to. */
#include "kernel_fixture.h"

#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/vcpu_vendor.h"
#include "sim/internal.h"
#include "sim/vmcs.h"

#define PAGE(n) ((u64)(n) << PAGE_SHIFT) /* 100h..: memory for regions and tables */
#define REGION  PAGE(0xa000)
#define OTHER   PAGE(0xa001)
#define VMXON   PAGE(0xa002)
#define LISTS   PAGE(0xa003)
#define BITMAPS PAGE(0xa004) /* two */
#define VAPIC   PAGE(0xa006)
#define TABLES  PAGE(0xa008) /* four levels */
#define GPA     0x5000ul

static struct pd pd;
static struct uregs regs;
static const struct sim_guest_step cpuids[] = {{SIM_G_CPUID, 0, 0}};
static struct mach_cpu *m;

static u64 *words(u64 pa) { return arch_phys_ptr(PADDR(pa)); }
static u64 take_fails(void) {
    u64 n = sim_vmx_counts.fails;
    sim_vmx_counts.fails = 0;
    return n;
}

/* A VMCS that enters: written field by field, independently of the kernel. */
static void vmcs_good(void) {
    static const u64 fields[][2] = {
        {0x0000, 1},
        {0x0c02, 8},
        {0x0c04, 0x10},
        {0x0c0c, 0x30},
        {0x2000, BITMAPS},
        {0x2002, BITMAPS},
        {0x2004, BITMAPS},
        {0x2012, VAPIC},
        {0x201a, TABLES | 0x1e},
        {0x2800, ~0ul},
        {0x2804, 0x0007040600070406},
        {0x2c00, 0x0007040600070406},
        {0x2c02, 0xd01},
        {0x4000, 0x3f},
        {0x4002, 0x04006172 | 0x92200088},
        {0x400c, 0x36dfb | 0x3c0204},
        {0x4012, 0x11fb | 0xc004},
        {0x401e, 0xa2},
        {0x4826, 0},
        {0x6800, 0x20},
        {0x6804, 0x2000},
        {0x681a, 0x400},
        {0x6820, 2},
        {0x6c00, 0x80000021},
        {0x6c04, 0x2020},
        {0x6c16, 0xffffffff80000000},
    };
    for (u32 seg = 0; seg < 8; seg++) {
        vmwrite(0x4800 + 2 * seg, 0xffff);
        vmwrite(0x4814 + 2 * seg, seg == 1 ? 0x9b : seg == 6 ? 0x82 : seg == 7 ? 0x8b : 0x93);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(fields); i++)
        vmwrite((u32)fields[i][0], fields[i][1]);
    vmwrite(HOST_CR3, pd.host.root.v);
    vmwrite(HOST_CR4, SIM_CR4 | 0x2000);
    vmwrite(GUEST_RIP, (u64)cpuids);
}

static int setup(void **state) {
    (void)state;
    m = &sim_cpus[0].mach;
    *m = (struct mach_cpu){
        .deadline = ~0ul, .xcr0 = 7, .efer = 0xd01, .cr4 = SIM_CR4 | 1 << 13, .vmcs = ~0ul, .feature_control = 5};
    pd.host.root = kernel_pd.host.root;
    sim_cpus[0].space = &pd;
    sim_opt.no_flush = false;
    memset(words(REGION), 0, 16 * PAGE_SIZE);
    memset(&regs, 0, sizeof(regs));
    *(u32 *)words(REGION) = *(u32 *)words(OTHER) = *(u32 *)words(VMXON) = SIM_VMCS_REVISION;
    assert_true(vmxon(VMXON) && vmclear(REGION) && vmptrld(REGION));
    vmcs_good();
    take_fails();
    return 0;
}

static void regions_are_checked(void **state) {
    (void)state;
    assert_false(vmxon(VMXON)); /* already */
    assert_false(vmclear(REGION + 8));
    assert_int_equal(vmread(INSN_ERROR), 2);
    assert_false(vmptrld(VMXON));
    assert_int_equal(vmread(INSN_ERROR), 9);
    assert_false(vmptrld(1ul << 45));
    *(u32 *)words(OTHER) = 0x99;
    assert_false(vmptrld(OTHER));
    assert_int_equal(vmread(INSN_ERROR), 11);
    assert_int_equal(take_fails(), 5);
    assert_int_equal(((struct sim_vmcs *)words(REGION))->active, 1);
    assert_true(vmclear(REGION));
    assert_int_equal(((struct sim_vmcs *)words(REGION))->active, 0);
    assert_int_equal(vmread(GUEST_RIP), 0); /* none is current: VMfailInvalid */
    assert_int_equal(take_fails(), 1);
    assert_int_equal(vmx_world_switch(&regs, false), VMX_FAIL_INVALID);
}

static void fields_that_are_not_there_fail(void **state) {
    (void)state;
    static const u32 none[] = {0x2,    0x810,  0xc0e,  0x2016, 0x2402, 0x2808, 0x2c04,
                               0x4020, 0x4410, 0x482c, 0x6c18, 0x8000, 0x1000};
    for (unsigned i = 0; i < ARRAY_SIZE(none); i++) {
        (void)vmread(none[i]);
        assert_int_equal(vmread(INSN_ERROR), 12);
        vmwrite(none[i], 1);
        assert_int_equal(take_fails(), 2);
    }
    static const u32 read_only[] = {0x2400, 0x4400, 0x4402, 0x440e, 0x6400, 0x640a};
    for (unsigned i = 0; i < ARRAY_SIZE(read_only); i++) {
        u64 before = vmread(read_only[i]);
        vmwrite(read_only[i], ~before);
        assert_int_equal(take_fails(), 1);
        assert_int_equal(vmread(INSN_ERROR), 13);
        if (read_only[i] != INSN_ERROR)
            assert_int_equal(vmread(read_only[i]), before);
    }
    vmwrite(GUEST_SEL, ~0ul); /* widths */
    vmwrite(GUEST_LIMIT, ~0ul);
    assert_int_equal(vmread(GUEST_SEL), 0xffff);
    assert_int_equal(vmread(GUEST_LIMIT), 0xffffffff);
    assert_int_equal(take_fails(), 0);
}

static void launch_state(void **state) {
    (void)state;
    assert_int_equal(vmx_world_switch(&regs, true), VMX_FAIL_VALID);
    assert_int_equal(vmread(INSN_ERROR), 5); /* VMRESUME of one that is clear */
    vmwrite(GUEST_RFLAGS, 0);
    assert_int_equal(vmx_world_switch(&regs, false), 0);
    assert_int_equal(vmread(EXIT_REASON), 0x80000021); /* such a failure does not launch it */
    vmwrite(GUEST_RFLAGS, 2);
    assert_int_equal(vmx_world_switch(&regs, false), 0);
    assert_int_equal(vmread(EXIT_REASON), 10);
    assert_int_equal(vmx_world_switch(&regs, false), VMX_FAIL_VALID);
    assert_int_equal(vmread(INSN_ERROR), 4);
    assert_int_equal(vmx_world_switch(&regs, true), 0);
    assert_true(vmclear(REGION) && vmptrld(REGION));
    assert_int_equal(vmx_world_switch(&regs, true), VMX_FAIL_VALID);
    take_fails();
}

static void controls_and_host_state_are_checked(void **state) {
    (void)state;
    static const struct {
        u32 field;
        u64 value;
        u32 error;
    } rows[] = {
        {CTRL_PIN, 0x3f & ~0x2, 7},             /* a reserved bit that must be 1 */
        {CTRL_PIN, 0x3f | 1 << 6, 7},           /* preemption timer: not here */
        {CTRL_PIN, 0x3f & ~0x8, 7},             /* virtual NMIs without NMI exits */
        {CTRL_CPU, 0x04006172 | 0x92600088, 0}, /* NMI window with virtual NMIs */
        {CTRL_CPU, 0x04006172 | 1ul << 17, 7},  /* tertiary */
        {CTRL_CPU2, 0xa2 | 1 << 8, 7},          /* APIC-register virtualization */
        {CTRL_CPU2, 0xa0 | 1 << 17, 7},         /* page-modification log without EPT */
        {CTRL_CPU2, 0xa0, 7},                   /* unrestricted without EPT */
        {CTRL_CPU2, 0x20, 8 + 25},              /* restricted: real mode is no state */
        {VMCS_VPID, 0, 7},
        {CR3_TARGETS, 5, 7},
        {IO_BITMAP_A, BITMAPS + 1, 7},
        {IO_BITMAP_B, 1ul << 40, 7},
        {MSR_BITMAP, 0x800, 7},
        {VIRTUAL_APIC, VAPIC + 8, 7},
        {TPR_THRESHOLD, 1, 7},
        {TPR_THRESHOLD, 16, 7},
        {EPT_POINTER, TABLES | 0x1d, 7}, /* memory type 5 */
        {EPT_POINTER, TABLES | 0x16, 7}, /* three levels */
        {EPT_POINTER, TABLES | 0x5e, 7}, /* accessed and dirty bits: not here */
        {EPT_POINTER, 1ul << 40 | 0x1e, 7},
        {CTRL_EXIT, 0x36dfb | 0x3c0004, 8}, /* a 64-bit host that returns to 32 */
        {CTRL_EXIT, 0x3c0204, 7},
        {CTRL_ENTRY, 0x11fb | 0xc004 | 1 << 10, 7}, /* SMM */
        {EXIT_MSR_STORE, 8, 0},                     /* count is 0 */
        {HOST_CR0, 0x80000001, 8},
        {HOST_CR4, 0x2000, 8},
        {HOST_CR4, 0x20, 8},
        {HOST_CR3, 1ul << 40, 8},
        {HOST_CS, 0, 8},
        {HOST_CS, 0xb, 8},
        {HOST_TR, 0, 8},
        {HOST_SS, 4, 8},
        {HOST_EFER, 0x901, 8},
        {HOST_EFER, 0xd03, 8},
        {HOST_PAT, 3, 8},
        {HOST_RIP, 1ul << 47, 8},
        {HOST_GDTR_BASE, 1ul << 63, 8},
        {HOST_SYSENTER_ESP, 1ul << 48, 8},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        vmclear(REGION);
        vmptrld(REGION);
        vmcs_good();
        u64 good = vmread(rows[i].field);
        vmwrite(rows[i].field, rows[i].value);
        unsigned failed = vmx_world_switch(&regs, false);
        u64 what = failed                                    ? vmread(INSN_ERROR)
                   : vmread(EXIT_REASON) & EXIT_ENTRY_FAILED ? vmread(EXIT_REASON) & 0xffff
                                                             : 0;
        if (what != rows[i].error || (failed && failed != VMX_FAIL_VALID))
            fail_msg("row %u: %lu, %s", i, what, sim_vmcs_why);
        vmwrite(rows[i].field, good);
        if (!rows[i].error)
            continue;
        assert_int_equal(vmx_world_switch(&regs, false), 0);
        assert_int_equal(vmread(EXIT_REASON), 10);
    }
    take_fails();
}

static void msr_list_is_checked(void **state) {
    (void)state;
    static const struct {
        struct vmx_msr m;
        bool ok;
    } rows[] = {
        {{0xc0000082, 0x00007fffffffffff}, true},
        {{0xc0000082, 0x0000800000000000}, false},
        {{0xc0000102, 0xffff800000000000}, true},
        {{0xc0000102, 0xffff7fffffffffff}, false},
        {{0xc0000084, 1ul << 32}, false},
        {{0xc0000103, 0xffffffff}, true},
        {{0xc0000101, 0}, false},
        {{0x1c0000081, 0}, false},
        {{0x10, 0}, false},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        vmclear(REGION);
        vmptrld(REGION);
        vmcs_good();
        memcpy(words(LISTS), &rows[i].m, sizeof(rows[i].m));
        vmwrite(ENTRY_MSR_LOAD, LISTS);
        vmwrite(ENTRY_LOAD_COUNT, 1);
        assert_int_equal(vmx_world_switch(&regs, false), 0);
        assert_int_equal(vmread(EXIT_REASON), rows[i].ok ? 10 : 0x80000022);
        if (!rows[i].ok)
            assert_int_equal(vmread(EXIT_QUALIFICATION), 1);
    }
}

/* --- EPT and its TLB --- */
static void map(u64 leaf) {
    for (unsigned level = 3; level > 0; level--)
        *words(TABLES + PAGE(3 - level)) = (TABLES + PAGE(4 - level)) | 7;
    words(TABLES + PAGE(3))[GPA >> PAGE_SHIFT] = leaf;
}
static const struct sim_guest_step reader[] = {{SIM_G_READ, 0, GPA}, {SIM_G_CPUID, 0, 0}};
static u64 read_guest(bool launched) {
    vmwrite(GUEST_RIP, (u64)reader);
    assert_int_equal(vmx_world_switch(&regs, launched), 0);
    return vmread(EXIT_REASON);
}

static void table_walk(void **state) {
    (void)state;
    static const struct {
        u64 leaf, reason, qualification;
    } rows[] = {
        {LISTS | 0x37, 10, 0},
        {LISTS | 0x31, 10, 0},
        {0, 48, 0x181},
        {LISTS | 2, 49, 0}, /* not readable */
        {LISTS | 4, 49, 0},
        {LISTS | 6, 49, 0},
        {LISTS | 7 | 2 << 3, 49, 0}, /* type 2 */
        {LISTS | 7 | 7 << 3, 49, 0},
        {LISTS | 0x37 | 1ul << 40, 49, 0}, /* no such address */
        {LISTS | 0x37 | 1 << 8, 10, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        map(rows[i].leaf);
        invept(INVALIDATE_ALL, 0);
        assert_int_equal(read_guest(i > 0), rows[i].reason);
        if (rows[i].reason != 10)
            assert_int_equal(vmread(GUEST_PHYSICAL), GPA);
        if (rows[i].reason == 48)
            assert_int_equal(vmread(EXIT_QUALIFICATION), rows[i].qualification);
    }
    *words(TABLES) |= 1ul << 7; /* no leaf in the top level */
    invept(INVALIDATE_ALL, 0);
    assert_int_equal(read_guest(true), 49);
}

static void translations_stay_until_they_are_invalidated(void **state) {
    (void)state;
    words(LISTS)[0] = 77;
    map(LISTS | 0x37);
    assert_int_equal(read_guest(false), 10);
    assert_int_equal(regs.rax, 77);
    map(0);
    assert_int_equal(read_guest(true), 10); /* stale */
    invvpid(INVALIDATE_ONE, 2);             /* another one's */
    invept(INVALIDATE_ONE, VAPIC | 0x1e);
    assert_int_equal(read_guest(true), 10);
    vmwrite(VMCS_VPID, 2);
    assert_int_equal(read_guest(true), 48);
    vmwrite(VMCS_VPID, 1);
    assert_int_equal(read_guest(true), 10);
    invvpid(INVALIDATE_ONE, 1);
    assert_int_equal(read_guest(true), 48);
    map(LISTS | 0x37); /* what was not present is not remembered */
    assert_int_equal(read_guest(true), 10);
    map(0);
    invept(INVALIDATE_ONE, TABLES | 0x1e);
    assert_int_equal(read_guest(true), 48);
}

#define T(name) cmocka_unit_test_setup(name, setup)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(regions_are_checked),
        T(fields_that_are_not_there_fail),
        T(launch_state),
        T(controls_and_host_state_are_checked),
        T(msr_list_is_checked),
        T(table_walk),
        T(translations_stay_until_they_are_invalidated),
    };
    sim_opt.vendor = SIM_INTEL;
    sim_opt.ram = 256ul << 20;
    kernel_fixture_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
