/* Memory types from the MTRRs (src/arch/mtrr.c compiled in, with a file of MSRs): Intel SDM vol 3 11.11. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/insn.h"
#include "arch/mtrr.h"

static u64 msr_default, msr_cap, msr_variable[32], msr_fixed[0x20];
static bool has_mtrrs;
static struct cpuid_regs test_cpuid(u32 leaf, u32 sub) {
    (void)sub;
    return (struct cpuid_regs){.d = leaf == 1 && has_mtrrs ? 1u << 12 : 0};
}
static u64 test_rdmsr(u32 msr) {
    assert_true(has_mtrrs);
    return msr == 0xfe    ? msr_cap
           : msr == 0x2ff ? msr_default
           : msr < 0x220  ? msr_variable[msr - 0x200]
                          : msr_fixed[msr - 0x250];
}
#define cpuid     test_cpuid
#define rdmsr     test_rdmsr
#define mtrr_read test_mtrr_read
#define mtrr_type test_mtrr_type
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "../../src/arch/mtrr.c"

static void variable_set(unsigned i, u64 base, u64 size, unsigned type) {
    msr_variable[2 * i] = base | type;
    msr_variable[2 * i + 1] = (~(size - 1) & 0xfffffff000) | 0x800;
}
static int setup(void **state) {
    (void)state;
    has_mtrrs = true;
    msr_cap = 0x108, msr_default = 0xc00 | MEM_WB;
    for (unsigned i = 0; i < 32; i++)
        msr_variable[i] = 0;
    for (unsigned i = 0; i < 0x20; i++)
        msr_fixed[i] = 0x0606060606060606;
    return 0;
}

static void without_registers_all_is_write_back(void **state) {
    (void)state;
    assert_int_equal(mtrr_type(0xa0000, 0x1000), MEM_WB);
    has_mtrrs = false;
    mtrr_read(40);
    assert_int_equal(mtrr_type(0, 1ul << 30), MEM_WB);
}
static void switched_off_all_is_uncached(void **state) {
    (void)state;
    msr_default = MEM_WB;
    mtrr_read(40);
    assert_int_equal(mtrr_type(0x100000, 0x1000), MEM_UC);
    assert_int_equal(mtrr_type(0, 0x1000), MEM_UC);
}
static void fixed_ranges(void **state) {
    (void)state;
    msr_fixed[0] = 0x0706050403020100;
    msr_fixed[8] = 0x1716151413121110, msr_fixed[9] = 0x1f1e1d1c1b1a1918;
    for (unsigned i = 0; i < 8; i++)
        msr_fixed[0x18 + i] = 0x0706050403020100 + 0x0101010101010101 * (0x20 + 8 * i);
    mtrr_read(40);
    for (u64 a = 0; a < 1ul << 20; a += 0x1000)
        assert_int_equal(mtrr_type(a, 0x1000), a < 0x80000   ? a >> 16
                                               : a < 0xc0000 ? 0x10 + ((a - 0x80000) >> 14)
                                                             : 0x20 + ((a - 0xc0000) >> 12));
    assert_int_equal(mtrr_type(0, 0x200000), MEM_UC);
    msr_default &= ~0x400ul; /* fixed ranges off */
    mtrr_read(40);
    assert_int_equal(mtrr_type(0xa0000, 0x1000), MEM_WB);
}
static void variable_ranges(void **state) {
    (void)state;
    variable_set(0, 0xc0000000, 1ul << 30, MEM_UC);
    variable_set(1, 0xd0000000, 1ul << 24, MEM_WC);
    variable_set(2, 0x40000000, 1ul << 30, MEM_WT);
    variable_set(3, 0x40000000, 1ul << 28, MEM_WB);
    variable_set(4, 0x80000000, 1ul << 21, MEM_WB); /* as the rest */
    variable_set(5, 0x90000000, 0x1000, MEM_WP);
    msr_variable[2 * 6] = 0xb0000000 | MEM_WC;
    msr_variable[2 * 6 + 1] = 0xfff0000000; /* not valid */
    mtrr_read(40);
    static const struct {
        u64 base, size;
        unsigned type;
    } rows[] = {
        {0x100000, 0x1000, MEM_WB},       {0x40000000, 1ul << 30, MEM_WT}, {0x40000000, 0x1000, MEM_WT},
        {0x50000000, 0x200000, MEM_WT},   {0x80000000, 1ul << 30, MEM_UC}, {0x80000000, 0x200000, MEM_WB},
        {0x80000000, 1ul << 22, MEM_WB},  {0x90000000, 0x1000, MEM_WP},    {0x90001000, 0x1000, MEM_WB},
        {0x90000000, 0x200000, MEM_UC},   {0xb0000000, 0x200000, MEM_WB},  {0xbffff000, 0x1000, MEM_WB},
        {0xc0000000, 0x1000, MEM_UC},     {0xc0000000, 1ul << 30, MEM_UC}, {0xd0000000, 0x1000, MEM_UC},
        {0x100000000, 1ul << 30, MEM_WB}, {0, 1ul << 39, MEM_UC},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (mtrr_type(rows[i].base, rows[i].size) != rows[i].type)
            fail_msg("row %u: %u", i, mtrr_type(rows[i].base, rows[i].size));
}

#define T(name) cmocka_unit_test_setup(name, setup)
int main(void) {
    const struct CMUnitTest tests[] = {
        T(without_registers_all_is_write_back),
        T(switched_off_all_is_uncached),
        T(fixed_ranges),
        T(variable_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
