/* Goal: the same seed gives the same run, another seed another one (kernel-design section 4).
 * Method: trace hashes of child processes, compared; a scenario with several CPUs, timeouts and faults. */
#include "simtest.h"
#include <sys/mman.h>

static struct {
    u64 hash[64], now[64];
    unsigned runs;
} * shared;

static sel_t sm, done;
static void worker(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 5; i++) {
        up(sm);
        (void)nova_sm_down(sm, false, sim_clock() + 10 * sim_choose(SIM_WORKLOAD, 100));
    }
    up(done);
}
static void mixed_root(u64 cpu) {
    (void)cpu;
    sm = sem_make(0), done = sem_make(0);
    ram_map(ABI_ROOT_UTCB, 3);
    for (unsigned c = 0; c < 4; c++) {
        startup_make(c);
        thread_start(c, 10, worker);
    }
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 3, 7), true));
    for (unsigned i = 0; i < 4; i++)
        down(done);
    sim_done();
}
static void record(void) {
    shared->hash[shared->runs] = sim_hash();
    shared->now[shared->runs++] = sim_clock();
}

static void same_seed_same_run(void **s) {
    (void)s;
    const struct sim_options o = {.cpus = 4, .root = mixed_root, .end = record};
    const unsigned seeds = 16;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    for (unsigned pass = 0; pass < 2; pass++)
        assert_int_equal(sim_count(&o, 1, seeds, SIM_OK), seeds);
    for (unsigned i = 0; i < seeds; i++) {
        assert_int_equal(shared->hash[i], shared->hash[seeds + i]);
        assert_int_equal(shared->now[i], shared->now[seeds + i]);
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(shared->hash[i], shared->hash[k]);
    }
}

/* What the harness reports: a run that can never go on, one that never ends, a failed expectation. */
static void stuck_root(u64 cpu) {
    (void)cpu;
    down(sem_make(0));
}
static void endless_root(u64 cpu) {
    (void)cpu;
    for (;;)
        sim_step();
}
static void wrong_root(u64 cpu) {
    sim_expect_eq(cpu, 1234);
    sim_done();
}
static void bad_runs_are_reported(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = stuck_root, .steps = 200000};
    assert_int_equal(sim_count(&o, 1, 4, SIM_DEADLOCK), 4);
    o.root = endless_root;
    assert_int_equal(sim_count(&o, 1, 4, SIM_BUDGET), 4);
    o.root = wrong_root;
    assert_int_equal(sim_count(&o, 1, 4, SIM_FAILED), 4);
}

/* A race: unprotected increments. Both searches must find it. */
static unsigned count;
static void racer(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 8; i++) {
        unsigned v = count;
        sim_step();
        count = v + 1;
        for (unsigned n = 0; n < 5; n++)
            sim_step();
    }
    up(done);
}
static void race_root(u64 cpu) {
    done = sem_make(0);
    startup_make((unsigned)cpu ^ 1);
    thread_start((unsigned)cpu ^ 1, 10, racer);
    racer(0);
    down(done);
    down(done);
    sim_expect_eq(count, 16);
    sim_done();
}
static void searches_find_a_race(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = race_root, .sched = SIM_RANDOM};
    assert_int_not_equal(sim_count(&o, 1, 300, SIM_FAILED), 0);
    o.sched = SIM_PCT;
    assert_int_not_equal(sim_count(&o, 1, 300, SIM_FAILED), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_run),
        cmocka_unit_test(bad_runs_are_reported),
        cmocka_unit_test(searches_find_a_race),
    };
    return cmocka_run_group_tests_name("sim replay", tests, NULL, NULL);
}
