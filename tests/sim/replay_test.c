/* Goal: the same seed gives the same run, another seed another one (kernel-design section 4).
 * Method: trace hashes of child processes, compared; a scenario with several CPUs, timeouts and faults. */
#include "simtest.h"
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
    u64 hash[256], now[256];
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

static void shared_map(void) {
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
}

/* A run from a snapshot that many other runs came from, one in a process forked there, and one that boots by itself are the same. */
static void snapshot_is_a_fresh_process(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 4, .root = mixed_root, .end = record};
    const unsigned seeds = 64;
    shared_map();
    assert_int_equal(sim_count(&o, 1, seeds, SIM_OK), seeds);
    o.isolate = true;
    assert_int_equal(sim_count(&o, 1, seeds, SIM_OK), seeds);
    for (o.seed = 1; o.seed <= seeds; o.seed++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(sim_run(&o));
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    assert_int_equal(shared->runs, 3 * seeds);
    for (unsigned i = 0; i < seeds; i++) {
        for (unsigned pass = 1; pass < 3; pass++) {
            assert_int_equal(shared->hash[i], shared->hash[pass * seeds + i]);
            assert_int_equal(shared->now[i], shared->now[pass * seeds + i]);
        }
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(shared->hash[i], shared->hash[k]);
    }
}

/* The boot itself, in any order; the same seed is the same boot. */
static void boots_in_any_order(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 4, .root = mixed_root, .end = record, .cold = true};
    const unsigned seeds = 30;
    shared_map();
    for (unsigned pass = 0; pass < 2; pass++)
        assert_int_equal(sim_count(&o, 1, seeds, SIM_OK), seeds);
    for (unsigned i = 0; i < seeds; i++)
        assert_int_equal(shared->hash[i], shared->hash[seeds + i]);
}

/* A run that kills its process ends that run only; the others are what they are without it. */
static void fatal_root(u64 cpu) {
    (void)cpu;
    if (sim_choose(SIM_WORKLOAD, 4) == 0)
        raise(SIGKILL);
    sim_done();
}
static void crash_ends_one_run(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = fatal_root};
    unsigned ok = sim_count(&o, 1, 40, SIM_OK);
    assert_in_range(ok, 20, 39);
    assert_int_equal(sim_stats()->died, 40 - ok);
    o.isolate = true;
    assert_int_equal(sim_count(&o, 1, 40, SIM_OK), ok);
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
        cmocka_unit_test(snapshot_is_a_fresh_process), cmocka_unit_test(boots_in_any_order),
        cmocka_unit_test(crash_ends_one_run),          cmocka_unit_test(bad_runs_are_reported),
        cmocka_unit_test(searches_find_a_race),
    };
    return cmocka_run_group_tests_name("sim replay", tests, NULL, NULL);
}
