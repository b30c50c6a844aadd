/* Goal: exhaustive search runs every schedule up to its bound once and says so; a failing run is shrunk, saved, and fails again from
 * its file (kernel-design section 4).
 * Method: two threads whose steps are logged, against an enumeration made here; a race that needs two preemptions at the right
 * points; a failure that needs few of many choices. */
#include "simtest.h"
#include <string.h>
#include <sys/mman.h>

static sel_t done, mutex;

/* --- every interleaving within the bound, each schedule once --- */
#define STEPS    4u
#define MAX_RUNS 100000u
static struct {
    bool seen[1 << (2 * STEPS)]; /* interleavings: bit i is set if step i was the second thread's */
    u64 hash[MAX_RUNS];
    unsigned runs;
} * shared;
static unsigned word, length;

static void steps(unsigned who) {
    for (unsigned i = 0; i < STEPS; i++) {
        word |= who << length++;
        sim_step();
    }
}
static void second(u64 rdi) {
    (void)rdi;
    steps(1);
    up(done);
}
static void pair_root(u64 cpu) {
    (void)cpu;
    done = sem_make(0);
    startup_make(1);
    thread_start(1, 10, second);
    sim_begin();
    sim_step(); /* the other may be first */
    steps(0);
    down(done);
    sim_done();
}
static void pair_end(void) {
    sim_expect_eq(length, 2 * STEPS);
    shared->seen[word] = true;
    shared->hash[shared->runs++ % MAX_RUNS] = sim_hash();
}

/* Preemptions that an interleaving needs: a thread is left that has not done all its steps, or the first never began. */
static unsigned preemptions(unsigned w) {
    unsigned left[2] = {STEPS, STEPS}, n = w & 1;
    for (unsigned i = 0; i < 2 * STEPS; i++) {
        unsigned who = w >> i & 1;
        n += i && who != (w >> (i - 1) & 1) && left[!who];
        left[who]--;
    }
    return n;
}

static int by_value(const void *a, const void *b) {
    return *(const u64 *)a < *(const u64 *)b ? -1 : *(const u64 *)a > *(const u64 *)b;
}

static void every_interleaving_once(void **s) {
    (void)s;
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    for (int bound = 0; bound <= 2; bound++) {
        struct sim_options o = {.cpus = 2, .root = pair_root, .end = pair_end, .setup = true, .sched = SIM_EXHAUSTIVE};
        o.preemptions = bound ? bound : -1;
        memset(shared, 0, sizeof(*shared));
        unsigned runs = sim_count(&o, 1, MAX_RUNS, SIM_OK);
        assert_true(sim_stats()->exhausted && !sim_stats()->clipped);
        assert_int_equal(runs, sim_stats()->runs);
        assert_int_equal(runs, shared->runs);
        qsort(shared->hash, runs, sizeof(shared->hash[0]), by_value);
        for (unsigned i = 1; i < runs; i++)
            assert_int_not_equal(shared->hash[i], shared->hash[i - 1]);
        for (unsigned w = 0; w < 1u << (2 * STEPS); w++) {
            bool possible = (unsigned)__builtin_popcount(w) == STEPS && preemptions(w) <= (unsigned)bound;
            assert_int_equal(shared->seen[w], possible);
        }
    }
}

/* --- a race that needs two preemptions: the reader sees one phase of forty, and is interrupted before it looks again --- */
static unsigned phase;
static bool locked;
static void writer(void) {
    for (unsigned i = 1; i <= 40; i++) {
        if (locked && i == 17)
            down(mutex);
        phase = i;
        sim_step();
    }
    if (locked)
        up(mutex);
}
static void reader(u64 rdi) {
    (void)rdi;
    if (locked)
        down(mutex);
    unsigned first = phase;
    sim_step();
    sim_expect(!(first == 17 && phase == 40));
    if (locked)
        up(mutex);
    up(done);
}
static void phases_root(u64 cpu) {
    (void)cpu;
    done = sem_make(0), mutex = sem_make(1);
    startup_make(1);
    thread_start(1, 10, reader);
    sim_begin();
    writer();
    down(done);
    sim_done();
}
static void locked_root(u64 cpu) {
    locked = true;
    phases_root(cpu);
}

static void race_of_two_preemptions(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = phases_root, .setup = true, .sched = SIM_EXHAUSTIVE, .preemptions = 1};
    assert_int_equal(sim_count(&o, 1, 100000, SIM_FAILED), 0);
    assert_true(sim_stats()->exhausted);
    o.preemptions = 2;
    assert_int_not_equal(sim_count(&o, 1, 100000, SIM_FAILED), 0);
    assert_true(sim_stats()->exhausted);
    o.sched = SIM_RANDOM; /* has a seldom luck */
    assert_in_range(sim_count(&o, 1, 400, SIM_FAILED), 0, 8);
    o.sched = SIM_EXHAUSTIVE;
    o.root = locked_root;
    u64 runs = sim_count(&o, 1, 100000, SIM_OK);
    assert_true(sim_stats()->exhausted);
    assert_int_equal(runs, sim_stats()->runs);
}

/* --- shrinking: the failure needs the lost update and a 7 among the choices, nothing else of the run --- */
static unsigned counter;
static bool seven;
static void adder(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 20; i++) {
        seven |= sim_choose(SIM_WORKLOAD, 10) == 7;
        unsigned v = counter;
        sim_step();
        counter = v + 1;
        for (u32 n = sim_choose(SIM_WORKLOAD, 10); n; n--)
            sim_step();
    }
    up(done);
}
static void adders_root(u64 cpu) {
    (void)cpu;
    done = sem_make(0);
    for (unsigned c = 0; c < 3; c++) {
        startup_make(c);
        thread_start(c, 10, adder);
    }
    for (unsigned c = 0; c < 3; c++)
        down(done);
    sim_expect(counter == 60 || !seven);
    sim_done();
}

static void failing_run_shrinks(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 3, .root = adders_root, .sched = SIM_RANDOM};
    assert_int_not_equal(sim_seeds(&o, 1, 40, SIM_OK), 0); /* the first of those that fail is shrunk */
    const struct sim_stats before = *sim_stats();
    assert_true(before.switches[0] >= 10 && before.choices[0] >= 100);
    assert_in_range(before.switches[1], 1, 3);
    assert_in_range(before.choices[1], 1, 5);
    assert_string_not_equal(before.replay, "");
    bool same = false;
    assert_int_equal(sim_replay(&o, before.replay, &same), SIM_FAILED);
    assert_true(same);
    assert_int_equal(remove(before.replay), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_interleaving_once),
        cmocka_unit_test(race_of_two_preemptions),
        cmocka_unit_test(failing_run_shrinks),
    };
    return cmocka_run_group_tests_name("sim search", tests, NULL, NULL);
}
