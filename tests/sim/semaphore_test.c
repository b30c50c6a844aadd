/* Goal: a semaphore loses and invents nothing when up, down and deadline race on several CPUs, and a down that was up'ed in time
 * never reports TIMEOUT (ABI section 6).
 * Method: every up is either taken by exactly one successful down or still in the counter at the end. */
#include "simtest.h"

static sel_t sm, done;
static unsigned taken, late, ups;

static void upper(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 8; i++) {
        up(sm);
        ups++;
        for (u32 n = sim_choose(SIM_WORKLOAD, 40); n; n--)
            sim_step();
    }
    up(done);
}

static void downer(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 8; i++) {
        u64 deadline = sim_clock() + 10 * sim_choose(SIM_WORKLOAD, 200), status = nova_sm_down(sm, false, deadline);
        if (status == NOVA_SUCCESS)
            taken++;
        else {
            sim_expect_eq(status, NOVA_TIMEOUT);
            sim_expect(sim_clock() >= deadline);
            late++;
        }
    }
    up(done);
}

static void race_root(u64 cpu) {
    (void)cpu;
    sm = sem_make(0), done = sem_make(0);
    for (unsigned c = 0; c < 4; c++) {
        startup_make(c);
        thread_start(c, 10, upper);
        thread_start(c, 10 + c % 2, downer);
    }
    for (unsigned i = 0; i < 8; i++)
        down(done);
    sim_expect_eq(taken + late, 32);
    while (nova_sm_down(sm, false, 1) == NOVA_SUCCESS)
        taken++;
    sim_expect_eq(taken, ups);
    sim_done();
}
static void timeout_races_up(void **s) {
    (void)s;
    scenario(race_root, 4, 150);
}

/* Two threads on two CPUs wake each other many times: a lost wake-up is a deadlock, which the simulator reports. */
static sel_t ping, pong;
static void ponger(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 50; i++) {
        down(ping);
        up(pong);
    }
}
static void wake_root(u64 cpu) {
    ping = sem_make(0), pong = sem_make(0);
    startup_make((unsigned)cpu ^ 1);
    thread_start((unsigned)cpu ^ 1, 10, ponger);
    for (unsigned i = 0; i < 50; i++) {
        up(ping);
        down(pong);
    }
    sim_done();
}
static void wake_across_cpus(void **s) {
    (void)s;
    scenario(wake_root, 2, 100);
}
static void wake_without_ipi_is_noticed(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = wake_root, .no_ipi = true};
    assert_int_not_equal(sim_count(&o, 1, 10, SIM_DEADLOCK), 0);
}

/* Waiters of a semaphore that is destroyed under them get BAD_CAP. */
static unsigned refused;
static void waiter(u64 rdi) {
    (void)rdi;
    refused += nova_sm_down(sm, false, 0) == NOVA_BAD_CAP;
    up(done);
}
static void destroy_root(u64 cpu) {
    (void)cpu;
    sm = sem_make(0), done = sem_make(0);
    for (unsigned c = 0; c < 4; c++) {
        startup_make(c);
        thread_start(c, 10, waiter);
    }
    for (u32 n = sim_choose(SIM_WORKLOAD, 400); n; n--)
        sim_step();
    OK(nova_revoke(crd_obj(sm, 0, 0x1f), true));
    for (unsigned i = 0; i < 4; i++)
        down(done);
    sim_expect_eq(refused, 4);
    sim_done();
}
static void destroyed_under_waiters(void **s) {
    (void)s;
    scenario(destroy_root, 4, 100);
}

/* Interrupts: a semaphore of a GSI, masked until the first down (ABI section 5). */
static void interrupt_root(u64 cpu) {
    sel_t irq = sel_new();
    u64 msi[2];
    grab(ABI_ROOT_UTCB, crd_obj(ABI_MAX_CPUS + 7, 0, PERM_SM_ALL), irq << 12 | ITEM_H, crd_obj(irq, 0, 0x1f));
    OK(nova_assign_gsi(irq, 0, (u32)cpu, msi));
    sim_irq(7); /* masked: kept by the line */
    for (unsigned i = 0; i < 5; i++) {
        OK(nova_sm_down(irq, true, 0));
        sim_irq(7);
    }
    OK(nova_sm_down(irq, true, 0));
    sim_expect_eq(nova_sm_down(irq, true, sim_clock() + 1000), NOVA_TIMEOUT);
    sim_done();
}
static void interrupt_is_up(void **s) {
    (void)s;
    scenario(interrupt_root, 2, 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timeout_races_up),
        cmocka_unit_test(wake_across_cpus),
        cmocka_unit_test(wake_without_ipi_is_noticed),
        cmocka_unit_test(destroyed_under_waiters),
        cmocka_unit_test(interrupt_is_up),
    };
    return cmocka_run_group_tests_name("sim semaphore", tests, NULL, NULL);
}
