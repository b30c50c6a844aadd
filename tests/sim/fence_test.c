/* Goal: nothing in the kernel depends on a store being seen at once: where two CPUs each store and then look at what the other stored, there is a
 * fence or a locked operation (docs/locking.md).
 * Method: such pairs are raced with store buffers; storebuf_test.c shows that these lose the race without a fence. */
#include "simtest.h"

static void fenced(void (*root)(u64), unsigned cpus, unsigned seeds) {
    const struct sim_options o = {.cpus = cpus, .root = root, .check_every = 16, .store_buffers = true};
    assert_int_equal(sim_seeds(&o, 1, seeds, SIM_OK), 0);
}

static u64 charged(void) {
    u64 out[2];
    static sel_t never;
    if (!never)
        never = sem_make(0);
    for (unsigned i = 0; i < 3; i++) /* all CPUs get idle, callbacks ripen */
        sim_expect_eq(nova_sm_down(never, false, sim_clock() + 100000), NOVA_TIMEOUT);
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}

/* inbox.c: the home CPU takes an item off and looks what there is to do; another one says what and posts the item. A PD that dies kills its
 * thread, and a moment later the thread's last capability goes: if the second post is lost, the thread is never freed. */
static void kill_and_destroy(unsigned cpu) {
    sel_t ec = 0x2000, pd = ec + 1; /* revoke gives up the last first */
    OK(nova_create_pd(pd, SEL_PD, 0));
    OK(nova_create_ec(ec, pd, UTCB_BASE, cpu, 0, 0, false));
    OK(nova_revoke(crd_obj(ec, 1, 0x1f), true));
}
static void inbox_root(u64 cpu) {
    kill_and_destroy((unsigned)cpu ^ 1); /* makes tables of ours that stay */
    u64 before = charged();
    for (unsigned i = 0; i < 24; i++)
        kill_and_destroy((unsigned)cpu ^ 1);
    sim_expect_eq(charged(), before);
    sim_done();
}
static void second_post_is_not_lost(void **s) {
    (void)s;
    fenced(inbox_root, 2, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_post_is_not_lost),
    };
    return cmocka_run_group_tests_name("sim fences", tests, NULL, NULL);
}
