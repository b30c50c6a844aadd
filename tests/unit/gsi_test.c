/* Interrupts as semaphores (src/core/gsi.c, ABI section 5 "Interrupts" and 8): the file is compiled into this test over a recorder in
 * place of the interrupt controller; semaphores and spaces are the kernel's own. */
#include "kernel_fixture.h"

#include "core/core.h"
#include "core/hypercall.h"
#include "core/sm.h"

static struct {
    unsigned cpu, routed;
    bool level, low, masked;
} line[ABI_MAX_GSIS];

static bool test_level(unsigned gsi) { return gsi == 3; }
static bool test_low(unsigned gsi) { return gsi == 3 || gsi == 4; }
static bool test_pin(unsigned gsi) { return gsi < 5; }
static void test_mask(unsigned gsi) { line[gsi].masked = true; }
static void test_unmask(unsigned gsi) { line[gsi].masked = false; }
static void test_route(unsigned gsi, unsigned cpu, bool level, bool low, u32 *addr, u32 *data) {
    line[gsi].cpu = cpu, line[gsi].level = level, line[gsi].low = low;
    line[gsi].routed++;
    *addr = 0x1000 + cpu, *data = 0x20 + gsi;
}
#define arch_irq_default_level test_level
#define arch_irq_default_low   test_low
#define arch_irq_has_pin       test_pin
#define arch_irq_mask          test_mask
#define arch_irq_unmask        test_unmask
#define arch_irq_route         test_route
#define gsi_init               t_init
#define gsi_assign             t_assign
#define gsi_configure          t_configure
#define gsi_unmask             t_unmask
#define core_interrupt         t_interrupt
bool t_init(unsigned count);
void t_assign(unsigned gsi, unsigned cpu, u32 *addr, u32 *data);
void t_configure(unsigned gsi, bool level, bool low);
void t_unmask(unsigned gsi);
void t_interrupt(struct cpu *c, unsigned gsi);
#include "../../src/core/gsi.c"

#define GSIS 6u

static struct sm *semaphore(unsigned gsi) {
    struct cap cap = objtab_lookup(&kernel_pd.objtab, 64 + gsi); /* section 8: 64 + g */
    assert_non_null(cap.obj);
    assert_int_equal(cap.perm, PERM_SM_UP | PERM_SM_DN);
    return container_of(cap.obj, struct sm, obj);
}

static int group_setup(void **state) {
    (void)state;
    kernel_fixture_setup();
    return 0;
}

static void semaphores_drop(void) {
    struct space_progress p = {0};
    assert_int_equal(space_revoke(&kernel_pd, CRD_MAKE(CRD_OBJ, 64, 6, 0x1f), true, &p), SPACE_DONE);
    kernel_fixture_quiesce();
}

static int setup(void **state) {
    (void)state;
    semaphores_drop();
    memset(line, 0, sizeof(line));
    return !gsi_init(GSIS);
}

static void gsi_starts_masked_with_default_routing(void **state) {
    (void)state;
    for (unsigned g = 0; g < GSIS; g++) {
        assert_true(line[g].masked);
        assert_int_equal(line[g].routed, 1);
        assert_int_equal(line[g].cpu, 0);
        assert_int_equal(line[g].level, test_level(g));
        assert_int_equal(line[g].low, test_low(g));
        assert_int_equal(semaphore(g)->gsi, g);
        assert_int_equal(semaphore(g)->counter, 0);
    }
    assert_null(objtab_lookup(&kernel_pd.objtab, 64 + GSIS).obj);
    assert_int_equal(line[GSIS].routed, 0);
}

static void gsi_init_out_of_memory_fails(void **state) {
    (void)state;
    for (u64 n = 1; n <= 2; n++) { /* semaphore; mapping node */
        semaphores_drop();
        kmem_fail_at = n;
        assert_false(gsi_init(1));
        assert_int_equal(kmem_fail_at, 0);
        assert_null(objtab_lookup(&kernel_pd.objtab, 64).obj);
    }
}

static void gsi_edge_is_counted_and_not_masked(void **state) {
    (void)state;
    gsi_unmask(1);
    assert_false(line[1].masked);
    core_interrupt(cpus[0], 1);
    core_interrupt(cpus[0], 1);
    assert_int_equal(semaphore(1)->counter, 2);
    assert_false(line[1].masked);
    for (unsigned g = 0; g < GSIS; g++)
        if (g != 1)
            assert_int_equal(semaphore(g)->counter, 0);
}

static void gsi_level_is_masked_on_arrival(void **state) {
    (void)state;
    gsi_unmask(3);
    core_interrupt(cpus[0], 3);
    assert_true(line[3].masked);
    assert_int_equal(semaphore(3)->counter, 1);
    gsi_unmask(3);
    assert_false(line[3].masked);
}

static void gsi_beyond_the_count_is_ignored(void **state) {
    (void)state;
    core_interrupt(cpus[0], GSIS);
    core_interrupt(cpus[0], ABI_MAX_GSIS - 1);
    for (unsigned g = 0; g < GSIS; g++)
        assert_int_equal(semaphore(g)->counter, 0);
}

static void gsi_at_the_maximum_stays_there(void **state) {
    (void)state;
    semaphore(2)->counter = ~0ul;
    core_interrupt(cpus[0], 2);
    assert_int_equal(semaphore(2)->counter, ~0ul);
}

static void gsi_assign_keeps_the_trigger(void **state) {
    (void)state;
    u32 addr = 0, data = 0;
    gsi_assign(3, 7, &addr, &data);
    assert_int_equal(line[3].cpu, 7);
    assert_true(line[3].level && line[3].low);
    assert_int_equal(addr, 0x1007);
    assert_int_equal(data, 0x23);
    gsi_assign(4, 2, &addr, &data);
    assert_false(line[4].level);
    assert_true(line[4].low);
}

static void gsi_configure_keeps_the_cpu(void **state) {
    (void)state;
    u32 addr, data;
    gsi_assign(1, 5, &addr, &data);
    gsi_configure(1, true, false);
    assert_int_equal(line[1].cpu, 5);
    assert_true(line[1].level && !line[1].low);
    gsi_unmask(1);
    core_interrupt(cpus[0], 1);
    assert_true(line[1].masked); /* level-triggered now */
    gsi_configure(1, false, true);
    assert_int_equal(line[1].cpu, 5);
    assert_true(!line[1].level && line[1].low);
    gsi_assign(1, 6, &addr, &data);
    assert_true(!line[1].level && line[1].low);
    gsi_unmask(1);
    core_interrupt(cpus[0], 1);
    assert_false(line[1].masked);
}

static void gsi_without_pin_has_no_mask(void **state) {
    (void)state;
    gsi_unmask(5);
    assert_true(line[5].masked);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(gsi_starts_masked_with_default_routing, setup),
        cmocka_unit_test(gsi_init_out_of_memory_fails),
        cmocka_unit_test_setup(gsi_edge_is_counted_and_not_masked, setup),
        cmocka_unit_test_setup(gsi_level_is_masked_on_arrival, setup),
        cmocka_unit_test_setup(gsi_beyond_the_count_is_ignored, setup),
        cmocka_unit_test_setup(gsi_at_the_maximum_stays_there, setup),
        cmocka_unit_test_setup(gsi_assign_keeps_the_trigger, setup),
        cmocka_unit_test_setup(gsi_configure_keeps_the_cpu, setup),
        cmocka_unit_test_setup(gsi_without_pin_has_no_mask, setup),
    };
    return cmocka_run_group_tests_name("gsi", tests, group_setup, NULL);
}
