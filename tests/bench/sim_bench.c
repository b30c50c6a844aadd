/* Goal: how fast the simulator is, as a table; and the time of a plain loop on the same machine, so that tables of two machines can
 * be compared. `make bench-sim`. Fails when a bound of issue 3 is missed by a factor of 4, which no loaded machine explains.
 * Method: processor time (other programs do not count) of hypercalls in one run, of campaigns of an empty and of a small scenario. */
#include "../sim/simtest.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

static struct { double seconds; } * shared;
static unsigned rounds;
static sel_t sm[2], portal, done;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Of workers that ended, and of their children. */
static double children(void) {
    struct rusage r;
    getrusage(RUSAGE_CHILDREN, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* --- hypercalls --- */
static void bad_selector(void) {
    for (unsigned i = 0; i < rounds; i++)
        (void)nova_pt_ctrl(0xabcd, i);
}
static void up_down(void) {
    for (unsigned i = 0; i < rounds / 2; i++) {
        (void)nova_sm_up(sm[0]);
        (void)nova_sm_down(sm[0], false, 0);
    }
}
static void echo(u64 utcb) {
    (void)utcb;
    reply();
}
static void call_reply(void) {
    for (unsigned i = 0; i < rounds / 2; i++)
        (void)nova_call(portal);
}
static void partner(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < rounds / 4; i++) {
        (void)nova_sm_down(sm[0], false, 0);
        (void)nova_sm_up(sm[1]);
    }
    (void)nova_sm_up(done);
}
static void ping_pong(void) {
    startup_make(1);
    thread_start(1, 10, partner);
    for (unsigned i = 0; i < rounds / 4; i++) {
        (void)nova_sm_up(sm[0]);
        (void)nova_sm_down(sm[1], false, 0);
    }
    (void)nova_sm_down(done, false, 0);
}

static const struct {
    const char *what;
    void (*run)(void);
} kinds[] = {
    {"pt_ctrl of an empty selector", bad_selector},
    {"up and down of a semaphore", up_down},
    {"call and reply", call_reply},
    {"up and down across two CPUs", ping_pong},
};
static unsigned kind;

static void hypercalls_root(u64 cpu) {
    startup_make((unsigned)cpu);
    struct thread t = thread_make((unsigned)cpu, false, 0);
    portal = portal_make(&t, echo, 0, sel_new());
    sm[0] = sem_make(0), sm[1] = sem_make(0), done = sem_make(0);
    double start = now();
    kinds[kind].run();
    shared->seconds = now() - start;
    sim_done();
}

/* Hypercalls a second. */
static double hypercalls(unsigned which, bool checks) {
    kind = which;
    rounds = checks ? 40000 : 1000000;
    unsigned check_every = checks ? SIM_CHECK_CALLS : SIM_CHECK_END;
    struct sim_options o = {.cpus = 2, .root = hypercalls_root, .check_every = check_every, .steps = ~0ul >> 1};
    if (sim_seeds(&o, 3, 1, SIM_OK))
        exit(1);
    return rounds / shared->seconds;
}

/* --- runs --- */
static void empty_root(u64 cpu) {
    (void)cpu;
    sim_done();
}
static double run_us(bool isolate, unsigned runs) {
    struct sim_options o = {.cpus = 4, .root = empty_root, .check_every = SIM_CHECK_END, .isolate = isolate};
    double start = children();
    if (sim_count(&o, 1, runs, SIM_OK) != runs)
        exit(1);
    return (children() - start) * 1e6 / runs;
}

/* --- exhaustive: two CPUs that use a semaphore; both can run at about a hundred points --- */
static void user(u64 rdi) {
    (void)rdi;
    (void)nova_sm_down(sm[0], false, 0);
    (void)nova_sm_up(sm[0]);
    (void)nova_sm_up(done);
}
static void pair_root(u64 cpu) {
    (void)cpu;
    sm[0] = sem_make(1), done = sem_make(0);
    startup_make(1);
    thread_start(1, 10, user);
    sim_begin();
    (void)nova_sm_down(sm[0], false, 0);
    (void)nova_sm_up(sm[0]);
    (void)nova_sm_down(done, false, 0);
    sim_done();
}
static double exhaustive(void) {
    struct sim_options o = {
        .cpus = 2, .root = pair_root, .setup = true, .sched = SIM_EXHAUSTIVE, .check_every = SIM_CHECK_END};
    double start = children();
    u64 runs = sim_count(&o, 1, ~0u, SIM_OK);
    if (runs != sim_stats()->runs || !sim_stats()->exhausted)
        exit(1);
    return children() - start;
}

/* The reference: 200 million steps of a generator whose every step needs the one before. */
static double reference(void) {
    volatile u64 seed = 1;
    u64 x = seed;
    double start = now();
    for (unsigned i = 0; i < 200000000; i++)
        x = (x ^ x >> 29) * 0x9e3779b97f4a7c15ul + i;
    seed = x;
    return now() - start;
}

static unsigned missed;
static void line(const char *what, double value, const char *unit, double wanted, bool at_least) {
    bool good = wanted == 0 || (at_least ? value >= wanted : value <= wanted);
    bool hopeless = wanted != 0 && (at_least ? value < wanted / 4 : value > wanted * 4);
    missed += hopeless;
    printf("%-52s %12.1f %s%s\n", what, value, unit, wanted == 0 ? "" : good ? "  (as wanted)" : "  (MISSED)");
    fflush(stdout);
}

int main(void) {
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    char text[100];
    line("reference loop", reference() * 1e3, "ms", 0, false);
    for (unsigned checks = 0; checks < 2; checks++)
        for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
            snprintf(text, sizeof(text), "%s%s", kinds[i].what, checks ? ", checked" : "");
            line(text, hypercalls(i, checks) / 1e3, "thousand/s", checks ? 100 : 2000, true);
        }
    line("a run from the snapshot, nothing in it", run_us(false, 20000), "us", 100, false);
    line("a run in a process forked at the snapshot", run_us(true, 500), "us", 0, false);
    double seconds = exhaustive();
    snprintf(text, sizeof(text), "exhaustive, 2 preemptions, %lu points: %lu schedules", sim_stats()->longest,
             sim_stats()->runs);
    line(text, seconds * 1e3, "ms", 2000, false);
    return missed != 0;
}
