/* Goal: no wake-up is lost or made up in a storm of up, down, timeout, recall and destruction over several semaphores and CPUs (ABI section 6;
 * kernel-design.md 3 "sporadic freeze with several CPUs; cross-CPU wake-up lost"); time at its extremes ("timer fires early or never again").
 * Method: tokens travel; each successful down of one is followed by an up elsewhere, so their number is what it was. A freeze is a deadlock. */
#include "simtest.h"

#define CPUS   4u
#define SMS    6u
#define TOKENS 9u
static sel_t sm[SMS], done, never;
static unsigned timeouts, moves;

static u32 pick(u32 n) { return sim_choose(SIM_WORKLOAD, n); }
static void mover(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 30; i++) {
        u64 deadline = pick(3) ? sim_clock() + 10 * pick(60) : 1 + pick(2) * sim_clock();
        u64 status = nova_sm_down(sm[pick(SMS)], false, deadline);
        if (status == NOVA_SUCCESS) {
            moves++;
            for (u32 n = pick(20); n; n--)
                sim_step();
            up(sm[pick(SMS)]);
        } else {
            sim_expect_eq(status, NOVA_TIMEOUT);
            sim_expect(sim_clock() >= deadline);
            timeouts++;
        }
    }
    up(done);
}
/* Takes all of one and puts all of it back: the counter is not known, so it counts. */
static void zeroer(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 10; i++) {
        sel_t s = sm[pick(SMS)];
        unsigned n = 0;
        while (n < TOKENS && nova_sm_down(s, false, 1) == NOVA_SUCCESS)
            n++;
        while (n--)
            up(sm[pick(SMS)]);
        for (u32 k = pick(50); k; k--)
            sim_step();
    }
    up(done);
}
static void recalled(u64 utcb) {
    utcb_at(utcb)->state.mtd = 0;
    reply();
}
static void storm_root(u64 cpu) {
    (void)cpu;
    struct thread t[CPUS];
    done = sem_make(0), never = sem_make(0);
    for (unsigned i = 0; i < SMS; i++)
        sm[i] = sem_make(i < TOKENS - SMS ? 2 : 1); /* nine in all */
    for (unsigned c = 0; c < CPUS; c++) {
        startup_make(c);
        struct thread h = thread_make(c, false, 0);
        portal_make(&h, recalled, 0, EVENTS(c) + EVT_THREAD_RECALL);
        t[c] = thread_start(c, 10 + pick(3), mover);
        thread_start(c, 10 + pick(3), mover);
        thread_start(c, 10 + pick(3), zeroer);
    }
    for (unsigned i = 0; i < 40; i++) {
        OK(nova_recall(t[pick(CPUS)].ec));
        sel_t s = sem_make(0); /* one that is destroyed with or without a waiter: root itself, by time */
        sim_expect_eq(nova_sm_down(s, false, sim_clock() + 10 * pick(50)), NOVA_TIMEOUT);
        OK(nova_revoke(crd_obj(s, 0, 0x1f), true));
    }
    for (unsigned i = 0; i < 3 * CPUS; i++)
        OK(nova_sm_down(done, false, sim_clock() + 1000000000));
    unsigned left = 0;
    for (unsigned i = 0; i < SMS; i++)
        while (nova_sm_down(sm[i], false, 1) == NOVA_SUCCESS)
            left++;
    sim_expect_eq(left, TOKENS);
    sim_done();
}
static void semaphore_storm(void **s) {
    (void)s;
    scenario(storm_root, CPUS, 150);
}

/* --- quanta from the smallest to the largest, and time that jumps: everybody goes on, times only grow --- */
static volatile bool stop;
static unsigned turns[3];
static void spinner(u64 rdi) {
    (void)rdi;
    static unsigned numbers;
    unsigned me = numbers++;
    while (!stop) {
        turns[me]++;
        sim_step();
    }
    up(done);
}
static void extremes_root(u64 cpu) {
    static const u64 quanta[] = {30,         100,       1000,
                                 0x7fffffff, /* a point is a µs here: less would be spent on the way to user mode */
                                 0xffffffff, 1ul << 40, 0xfffffffffffff};
    unsigned other = (unsigned)cpu ^ 1;
    struct thread t[3];
    u64 last[3] = {0};
    done = sem_make(0), never = sem_make(0);
    startup_make(other);
    for (unsigned i = 0; i < 3; i++) {
        t[i] = thread_make(other, true, PORTAL(spinner));
        t[i].sc = sel_new();
        OK(nova_create_sc(t[i].sc, SEL_PD, t[i].ec, QPD_MAKE(i < 2 ? 20 : 30, quanta[i < 2 ? pick(3) : 0])));
    }
    /* the third is more important: it alone runs, whatever its quantum; then it goes */
    sim_expect_eq(nova_sm_down(never, false, sim_clock() + 20000), NOVA_TIMEOUT);
    OK(nova_revoke(crd_obj(t[2].sc, 0, 0x1f), true));
    for (unsigned i = 0; i < 8;
         i++) { /* jumps: all CPUs have something to do, so time passes in steps; then far ahead */
        sim_expect_eq(nova_sm_down(never, false, sim_clock() + 10 * (1 + pick(3000))), NOVA_TIMEOUT);
        for (unsigned k = 0; k < 2; k++) {
            u64 us = 0;
            OK(nova_sc_time(t[k].sc, &us));
            sim_expect(us >= last[k] && us <= sim_clock() / 10);
            last[k] = us;
        }
    }
    sim_expect(last[0] && last[1]);
    stop = true;
    down(done);
    down(done);
    for (unsigned i = 0; i < ARRAY_SIZE(quanta); i++) { /* idle machine: a deadline far away is one jump */
        struct thread far = thread_make(other, true, PORTAL(spinner));
        sel_t sc = sel_new();
        u64 until = sim_clock() + (1ul << (20 + 5 * i)), us = 0;
        OK(nova_create_sc(sc, SEL_PD, far.ec, QPD_MAKE(127, quanta[i]))); /* ends at once */
        sim_expect_eq(nova_sm_down(never, false, until), NOVA_TIMEOUT);
        sim_expect(sim_clock() >= until && sim_clock() < until + 100000);
        OK(nova_sc_time(sc, &us));
        sim_expect(us < 1000);
    }
    sim_done();
}
static void time_extremes(void **s) {
    (void)s;
    scenario(extremes_root, 2, 40);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(semaphore_storm), cmocka_unit_test(time_extremes)};
    return cmocka_run_group_tests_name("sim storm", tests, NULL, NULL);
}
