/* Goal: out of kernel memory means that nothing has changed (ABI section 5): the same creation succeeds at once when there is memory.
 * And: the reference model is really compared with the kernel, call by call, and finds an answer that the document does not allow.
 * Method: each allocation of a creation fails in turn while the new object's CPU is busy with something else. */
#include "simtest.h"

static sel_t other;

static void creations_fail(u64 cpu) {
    (void)cpu;
    startup_make(1);
    other = thread_make(1, true, 0).ec;
    for (u64 n = 1; n < 12; n++) {
        sel_t ec = sel_new(), sc = sel_new();
        u64 utcb = utcb_new();
        sim_fail_alloc(n);
        u64 status = nova_create_ec(ec, SEL_PD, utcb, 1, 0, EVENTS(1), true);
        sim_fail_alloc(0);
        sim_expect(status == NOVA_SUCCESS || status == NOVA_BAD_MEM);
        if (status == NOVA_BAD_MEM)
            OK(nova_create_ec(ec, SEL_PD, utcb, 1, 0, EVENTS(1), true));
        sim_fail_alloc(n);
        status = nova_create_sc(sc, SEL_PD, ec, QPD_MAKE(1, 1000));
        sim_fail_alloc(0);
        sim_expect(status == NOVA_SUCCESS || status == NOVA_BAD_MEM);
        if (status == NOVA_BAD_MEM)
            OK(nova_create_sc(sc, SEL_PD, ec, QPD_MAKE(1, 1000)));
    }
    sim_done();
}
static void failed_creation_changes_nothing(void **s) {
    (void)s;
    scenario(creations_fail, 2, 100);
}

static void all_kinds(u64 cpu) {
    (void)cpu;
    ram_map(ABI_ROOT_UTCB, 4);
    u64 page = RAM_VA >> PAGE_SHIFT;
    for (unsigned i = 0; i < 20; i++) {
        u64 to = page + 0x100 + 4 * i, crd = crd_mem(to, 0, 0);
        sel_t sm = sem_make(i), pd = sel_new();
        grab(ABI_ROOT_UTCB, crd_mem(page + i % 4 * 4, 2, 3), to << 12, crd_mem(to, 2, 7));
        OK(nova_lookup(&crd));
        OK(nova_create_pd(pd, SEL_PD, crd_obj(sm, 0, PERM_SM_UP)));
        OK(nova_revoke(crd_mem(page, 4, PERM_MEM_W), false));
        OK(nova_revoke(crd_obj(sm, 1, 0x1f), true));
        sim_expect_eq(nova_sm_up(sm), NOVA_BAD_CAP);
    }
    sim_done();
}
static void compared(void) {
    sim_expect(sim_model_stats.alone > 150);
    sim_expect_eq(sim_model_stats.unchecked, 0);
}
static void every_call_is_compared(void **s) {
    (void)s;
    const struct sim_options o = {.cpus = 1, .root = all_kinds, .model = true, .end = compared};
    assert_int_equal(sim_seeds(&o, 1, 10, SIM_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(failed_creation_changes_nothing),
                                       cmocka_unit_test(every_call_is_compared)};
    return cmocka_run_group_tests_name("sim model", tests, NULL, NULL);
}
