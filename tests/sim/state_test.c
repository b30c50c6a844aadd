/* Goal: registers, FPU state and recycled memory of one EC never show in another (ABI sections 8 and 9), and CPU time is shared and
 * accounted as section 6 "Budget" says.
 * Method: threads that carry markers in every place they can, preempted all the time; memory that held a secret is handed out again. */
#include "simtest.h"

#define THREADS 4
static sel_t done;
static unsigned numbers;
static volatile bool stop;

/* --- FPU and FS base belong to the EC --- */
static void marked(u64 rdi) {
    (void)rdi;
    u64 mark = 0x1000 + numbers++;
    bool fpu = mark & 1;
    for (unsigned i = 0; i < 8; i++) {
        if (fpu) /* some never touch it */
            sim_expect_eq(sim_fpu_get(i), 0);
        sim_expect_eq(sim_fs_base(), 0);
    }
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; fpu && i < 8; i++)
            sim_fpu_set(i, mark + round);
        sim_fs_base_set(mark << 20 | round);
        for (u32 n = sim_choose(SIM_WORKLOAD, 60); n; n--)
            sim_step();
        for (unsigned i = 0; fpu && i < 8; i++)
            sim_expect_eq(sim_fpu_get(i), mark + round);
        sim_expect_eq(sim_fs_base(), mark << 20 | round);
    }
    up(done);
}
static void marks_root(u64 cpu) {
    (void)cpu;
    done = sem_make(0);
    for (unsigned c = 0; c < 2; c++) {
        startup_make(c);
        for (unsigned i = 0; i < THREADS; i++) {
            struct thread t = thread_make(c, true, PORTAL(marked));
            OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 20 + 5 * i))); /* short quanta */
        }
    }
    for (unsigned i = 0; i < 2 * THREADS; i++)
        down(done);
    sim_done();
}
static void register_state_is_private(void **s) {
    (void)s;
    scenario_on(SIM_ANY, marks_root, 2, 60);
}

/* --- a UTCB that held a secret comes back as zero; so does every page of kernel memory that a new object gets --- */
static void recycled_root(u64 cpu) {
    sel_t ec = sel_new();
    for (unsigned round = 0; round < 20; round++) {
        u64 utcb = utcb_new();
        OK(nova_create_ec(ec, SEL_PD, utcb, (u32)cpu, 0, EVENTS(cpu), false));
        struct abi_utcb *u = utcb_at(utcb);
        sim_expect_eq(u->items | u->xlt | u->del | u->tls, 0);
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            sim_expect_eq(u->w[i], 0);
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            u->w[i] = 0x5ec7e7;
        u->tls = u->del = 0x5ec7e7;
        OK(nova_revoke(crd_obj(ec, 0, 0x1f), true));
        for (u32 n = sim_choose(SIM_WORKLOAD, 100); n; n--)
            sim_step();
    }
    sim_done();
}
static void recycled_memory_is_zero(void **s) {
    (void)s;
    scenario_on(SIM_ANY, recycled_root, 2, 40);
}

/* --- equal priorities share, a lower one starves, and the times add up --- */
static void eater(u64 rdi) {
    (void)rdi;
    while (!stop)
        sim_step();
    up(done);
}
static void share_root(u64 cpu) {
    unsigned other = (unsigned)cpu ^ 1;
    u64 time[3], before[3], began = sim_clock(), start, sum = 0;
    struct thread t[3];
    done = sem_make(0);
    startup_make(other);
    for (unsigned i = 0; i < 3; i++) {
        t[i] = thread_make(other, true, PORTAL(eater));
        t[i].sc = sel_new();
        OK(nova_create_sc(t[i].sc, SEL_PD, t[i].ec, QPD_MAKE(i < 2 ? 20 : 19, 200)));
    }
    sel_t never = sem_make(0);
    start = sim_clock(); /* all are there now: that can take long, an eater on the other CPU is not fair to this one */
    for (unsigned i = 0; i < 3; i++)
        OK(nova_sc_time(t[i].sc, &before[i]));
    sim_expect_eq(nova_sm_down(never, false, start + 400000), NOVA_TIMEOUT); /* 40 ms */
    for (unsigned i = 0; i < 3; i++) {
        OK(nova_sc_time(t[i].sc, &time[i]));
        sum += time[i];
    }
    sim_expect(time[0] - before[0] > 16000 && time[1] - before[1] > 16000);
    sim_expect(time[2] < 400); /* until the others were there */
    sim_expect(sum <= (sim_clock() - began) / 10 + 3);
    stop = true;
    for (unsigned i = 0; i < 3; i++)
        down(done);
    sim_done();
}
static void time_is_shared(void **s) {
    (void)s;
    scenario_on(SIM_ANY, share_root, 2, 40);
}

/* --- deadlines at the ends of the number range fire at once, or never --- */
static void extremes_root(u64 cpu) {
    (void)cpu;
    sel_t sm = sem_make(0);
    static const u64 past[] = {1, 2, 0x7fffffff, 0x80000000};
    for (unsigned i = 0; i < 4; i++)
        if (past[i] < sim_clock())
            sim_expect_eq(nova_sm_down(sm, false, past[i]), NOVA_TIMEOUT);
    u64 now = sim_clock();
    sim_expect_eq(nova_sm_down(sm, false, now + 1), NOVA_TIMEOUT);
    sim_expect_eq(nova_sm_down(sm, false, now + (1ul << 40)), NOVA_TIMEOUT);
    sim_expect(sim_clock() >= now + (1ul << 40));
    sim_expect_eq(nova_sm_down(sm, false, 1ul << 63), NOVA_TIMEOUT);
    OK(nova_sm_up(sm));
    OK(nova_sm_down(sm, false, 1)); /* up'ed in time */
    sim_done();
}
static void deadline_extremes(void **s) {
    (void)s;
    scenario_on(SIM_ANY, extremes_root, 2, 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register_state_is_private),
        cmocka_unit_test(recycled_memory_is_zero),
        cmocka_unit_test(time_is_shared),
        cmocka_unit_test(deadline_extremes),
    };
    return cmocka_run_group_tests_name("sim state", tests, NULL, NULL);
}
