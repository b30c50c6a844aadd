/* Goal: a trace says what happened and changes nothing (docs/simulator.md): the same seed gives the same text, byte for byte, and the run's
 * hash and virtual time are those of the run without a trace.
 * Method: a scenario with calls, helping, semaphores, faults and deadlines on two CPUs counts what it does itself; its trace is read back. */
#include "simtest.h"
#include "arch/assert.h"
#include "core/cpu.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
    u64 hash, now;
    unsigned calls, ups, faults;
    u64 counters[ABI_COUNTERS]; /* the kernel's own, of all CPUs */
} * run;

static sel_t pt, done, gate;

static void server(u64 utcb) {
    (void)utcb;
    for (u32 n = sim_choose(SIM_WORKLOAD, 30); n; n--)
        sim_step();
    reply();
}
static void client(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 4; i++) {
        OK(nova_call(pt));
        run->calls++;
    }
    run->ups++; /* before: the last one may end the run */
    up(done);
}
static void worker(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 6; i++) {
        run->ups++;
        up(gate);
    }
    OK(nova_sm_down(gate, true, 0));
    sim_expect_eq(nova_sm_down(gate, true, sim_clock() + 300), NOVA_TIMEOUT);
    run->ups++;
    up(done);
}
/* A page is there when its fault has been handled. */
static void fault_portal(u64 utcb) {
    struct abi_utcb *u = utcb_at(utcb);
    run->faults++;
    u->w[UTCB_WORDS - 2] = crd_mem(RAM_PFN + 8, 0, PERM_MEM_R | PERM_MEM_W);
    u->w[UTCB_WORDS - 1] = (0x80000000ul & ~PAGE_MASK) | ITEM_DELEGATE | ITEM_H;
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
    u->state.mtd = 0;
    reply();
}
static void toucher(u64 rdi) {
    u64 v = 7;
    (void)rdi;
    sim_mem_write(0x80000000ul, &v, 8);
    run->ups++;
    up(done);
}
static void mixed_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    done = sem_make(0), gate = sem_make(0);
    sim_name(done, "done");
    sim_name(gate, "gate");
    startup_make(c), startup_make(c ^ 1);
    struct thread t = thread_make(c, false, 0), handler = thread_make(c, false, 0);
    pt = portal_make(&t, server, 0, sel_new());
    portal_make(&handler, fault_portal, MTD_QUAL, EVENTS(c) + 14);
    thread_start(c ^ 1, 10, worker);
    thread_start(c, 20, client), thread_start(c, 30, client), thread_start(c, 25, toucher);
    for (unsigned i = 0; i < 4; i++)
        down(done);
    sim_done();
}
static void record(void) {
    run->hash = sim_hash();
    run->now = sim_clock();
    for (unsigned i = 0; i < cpu_count; i++)
        for (unsigned k = 0; k < ABI_COUNTERS; k++)
            run->counters[k] += cpus[i]->counters[k];
}

/* One run with TRACE=mode (NULL: without), its standard output in *text. */
static void traced(const char *mode, u64 seed, char **text) {
    struct sim_options o = {.cpus = 2, .root = mixed_root, .end = record, .store_buffers = seed % 3 == 0};
    char name[] = "/tmp/novella-trace-XXXXXX", number[24];
    int file = mkstemp(name), out = dup(STDOUT_FILENO);
    assert_true(file >= 0 && out >= 0);
    memset(run, 0, sizeof(*run));
    snprintf(number, sizeof(number), "%lu", seed);
    fflush(stdout);
    dup2(file, STDOUT_FILENO);
    setenv("TRACE_DIR", "/tmp", 1);
    if (mode)
        setenv("TRACE", mode, 1);
    unsigned bad = sim_count(&o, seed, 1, SIM_OK) != 1; /* silent, like the run without a trace */
    unsetenv("TRACE");
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    off_t size = lseek(file, 0, SEEK_END);
    *text = calloc(1, (size_t)size + 1);
    assert_true(*text && pread(file, *text, (size_t)size, 0) == size);
    close(file);
    unlink(name);
    assert_int_equal(bad, 0);
}

static unsigned lines_with(const char *text, const char *what) {
    unsigned n = 0;
    for (const char *p = strstr(text, what); p; p = strstr(p + 1, what))
        n++;
    return n;
}

static void same_seed_same_text(void **s) {
    (void)s;
    for (u64 seed = 1; seed <= 8; seed++) {
        char *first, *second, *other;
        traced("1", seed, &first);
        traced("1", seed, &second);
        traced("1", seed + 100, &other);
        assert_true(strlen(first) > 1000);
        assert_string_equal(first, second);
        assert_string_not_equal(first, other);
        free(first), free(second), free(other);
    }
}

static void a_trace_changes_nothing(void **s) {
    (void)s;
    for (u64 seed = 1; seed <= 16; seed++) {
        char *text;
        traced(NULL, seed, &text);
        const u64 hash = run->hash, now = run->now;
        assert_int_equal(strlen(text), 0);
        assert_int_not_equal(hash, 0);
        free(text);
        const char *const modes[] = {"1", "html"};
        for (unsigned m = 0; m < 2; m++) {
            traced(modes[m], seed, &text);
            assert_int_equal(run->hash, hash);
            assert_int_equal(run->now, now);
            char path[200];
            if (m == 1) {
                assert_int_equal(sscanf(text, "trace: %199s", path), 1);
                assert_int_equal(unlink(path), 0);
            }
            free(text);
        }
    }
}

/* What the kernel has counted is in the text. The run ends on one CPU; the other may have a line already and not be counted yet. */
static void counted(const char *text, unsigned counter, const char *one, const char *other) {
    unsigned lines = lines_with(text, one) + (other ? lines_with(text, other) : 0);
    u64 count = run->counters[counter];
    if (lines != count && lines != count + 1)
        fail_msg("counter %u is %lu, %u lines", counter, count, lines);
}
static void the_kernels_counters_agree(void **s) {
    (void)s;
    u64 timers = 0, ipis = 0;
    for (u64 seed = 20; seed <= 30; seed++) {
        char *text;
        traced("1", seed, &text);
        counted(text, HC_CALL, " call PT ", NULL);
        counted(text, HC_REPLY, " reply\n", NULL);
        counted(text, HC_CREATE_EC, " create_ec ", NULL);
        counted(text, HC_CREATE_SC, " create_sc ", NULL);
        counted(text, HC_CREATE_PT, " create_pt ", NULL);
        counted(text, HC_CREATE_SM, " create_sm ", NULL);
        counted(text, HC_PT_CTRL, " pt_ctrl ", NULL);
        counted(text, HC_SM_CTRL, " up SM ", " down SM ");
        counted(text, CNT_EXCEPTION, " exception ", NULL);
        counted(text, CNT_TIMER, " timer\n", NULL);
        counted(text, CNT_IPI, " IPI arrives\n", " IPIs arrive\n");
        timers += run->counters[CNT_TIMER], ipis += run->counters[CNT_IPI];
        free(text);
    }
    assert_true(timers && ipis);
}

static void the_trace_is_complete(void **s) {
    (void)s;
    for (u64 seed = 1; seed <= 8; seed++) {
        char *text;
        traced("1", seed, &text);
        /* done is up'ed while root waits for it or not; every up is seen, every call has a begin and a reply */
        assert_int_equal(lines_with(text, " up SM 1 done\n") + lines_with(text, " up SM 2 gate\n"), run->ups);
        assert_int_equal(lines_with(text, " call PT 3 server\n"), run->calls);
        assert_int_equal(run->calls, 8);
        unsigned begun = lines_with(text, " calls EC "), ended = lines_with(text, " replies to ");
        assert_int_equal(begun, ended);
        assert_int_equal(begun, run->calls + 4 + run->faults); /* four threads start up */
        assert_int_equal(run->faults, 1);
        assert_int_equal(lines_with(text, "exception #PF write at 80000000"), 1);
        assert_int_equal(lines_with(text, "event #PF calls EC "), 1);
        assert_int_equal(lines_with(text, "the page is mapped rw- now"), 1);
        unsigned blocks = lines_with(text, " blocks on SM "), wakes = lines_with(text, " wakes EC ");
        assert_int_equal(blocks, wakes);
        assert_int_equal(lines_with(text, "the run ends: ok\n"), 1);
        assert_null(strstr(text, "0x"));
        free(text);
    }
}

/* A failure and its place, at the moment at which it happened. */
static void failing_root(u64 cpu) {
    sim_step();
    sim_expect_eq(cpu, 1234);
    sim_done();
}
static void panicking_root(u64 cpu) {
    (void)cpu;
    sim_step();
    arch_panic("made up", "somewhere.c", 12);
}
static void trespassing_root(u64 cpu) {
    volatile char *volatile p = malloc(8);
    free((void *)p);
    (void)p[cpu & 7];
    sim_done();
}
/* What a run of root with this end leaves on standard output. */
static void bad_run(void (*root)(u64), unsigned end, char *text, size_t size) {
    struct sim_options o = {.cpus = 1, .root = root};
    int out = dup(STDOUT_FILENO), pipes[2];
    assert_int_equal(pipe(pipes), 0);
    fflush(stdout);
    dup2(pipes[1], STDOUT_FILENO);
    setenv("TRACE", "1", 1);
    unsigned found = sim_count(&o, 3, 1, (enum sim_result)end);
    unsetenv("TRACE");
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(pipes[1]);
    close(out);
    memset(text, 0, size);
    for (size_t n = 0, got = 1; got && n + 1 < size; n += got)
        got = (size_t)read(pipes[0], text + n, size - n - 1);
    close(pipes[0]);
    assert_int_equal(found, 1);
}
static void failures_are_in_it(void **s) {
    (void)s;
    char text[8192];
    bad_run(failing_root, SIM_FAILED, text, sizeof(text));
    assert_int_equal(lines_with(text, "1 failing_root             sim: expected cpu == 1234"), 1);
    assert_int_equal(lines_with(text, "the run ends: expectation failed"), 1);
    bad_run(panicking_root, SIM_PANIC, text, sizeof(text));
    assert_int_equal(lines_with(text, "panic on CPU 0: made up (somewhere.c:12)"), 1);
    assert_int_equal(lines_with(text, "the run ends: kernel panic"), 1);
#ifdef __SANITIZE_ADDRESS__
    bad_run(trespassing_root, 99, text, sizeof(text));
    assert_int_equal(lines_with(text, "starts trespassing_root"), 1);
    assert_int_equal(lines_with(text, "the run ends: a report of the address sanitizer"), 1);
#else
    (void)trespassing_root;
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_text),   cmocka_unit_test(a_trace_changes_nothing),
        cmocka_unit_test(the_trace_is_complete), cmocka_unit_test(the_kernels_counters_agree),
        cmocka_unit_test(failures_are_in_it),
    };
    run = mmap(NULL, sizeof(*run), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return run == MAP_FAILED || cmocka_run_group_tests_name("sim trace", tests, NULL, NULL);
}
