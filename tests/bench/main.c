/* Measures one operation after the other and prints a line for each: "bench: NAME medians of the repeats, least, greatest and mean
 * of the last one", instructions with the empty loop taken off. Options: rounds=N only=NAME. */
#include "bench.h"

static u32 samples[BENCH_WARMUP + BENCH_ROUNDS + 1];
u32 *bench_at;

__attribute__((noinline)) void bench_nothing(void) { __asm__ volatile(""); }
__attribute__((noinline)) void bench_loop(void (*round)(void), u64 arg, unsigned count) {
    (void)arg;
    __asm__ volatile("wrfsbase %0" : : "r"(0ul)); /* nothing here uses it */
    for (unsigned i = 0; i <= count; i++) {
        bench_sample();
        round();
    }
    __asm__ volatile("wrfsbase %0" : : "r"(machine_tls));
}
void bench_samples_only(void (*round)(void), u64 arg, unsigned count) {
    (void)round, (void)arg;
    for (unsigned i = 0; i <= count; i += 2) {
        bench_sample();
        bench_sample();
    }
}

struct result {
    u32 median, least, greatest;
    u64 mean;
};

static void sort(u32 *v, unsigned n) {
    for (unsigned i = 1; i < n; i++)
        for (unsigned j = i; j && v[j - 1] > v[j]; j--) {
            u32 t = v[j];
            v[j] = v[j - 1], v[j - 1] = t;
        }
}

static struct result measure(const struct bench_op *op, u32 overhead) {
    unsigned n = machine_rounds() < BENCH_ROUNDS ? machine_rounds() : BENCH_ROUNDS;
    struct result r = {.mean = 0};
    bench_at = samples;
    bench_stretch();
    op->rounds(op->round, op->arg, BENCH_WARMUP + n);
    bench_stretch();
    CHECK(bench_at >= samples + BENCH_WARMUP + n + 1);
    u32 *v = samples + BENCH_WARMUP;
    for (unsigned i = 0; i < n; i++) {
        v[i] = v[i + 1] - v[i] - overhead;
        r.mean += v[i];
    }
    sort(v, n);
    r.mean /= n;
    r.median = v[n / 2], r.least = v[0], r.greatest = v[n - 1];
    return r;
}

static void bench(const struct bench_op *op) {
    const struct bench_op loop = {.round = bench_nothing, .rounds = bench_loop}, two = {.rounds = bench_samples_only};
    struct line l = {.n = 0};
    struct result r;
    abi_case_begin();
    u32 overhead = measure(op->rounds == bench_loop ? &loop : &two, 0).least;
    op->setup();
    line_text(&l, "bench: ");
    line_text(&l, op->name);
    for (unsigned i = 0; i < BENCH_REPEATS; i++) {
        r = measure(op, overhead);
        line_text(&l, " ");
        line_number(&l, r.median, 10);
    }
    const u64 more[] = {r.least, r.greatest, r.mean};
    for (unsigned i = 0; i < 3; i++) {
        line_text(&l, " ");
        line_number(&l, more[i], 10);
    }
    line_text(&l, "\n");
    CHECK_EQ(nova_revoke(crd_obj(BENCH_FILLED, BENCH_FILLED_ORDER, CRD_PERM_ANY), true), NOVA_SUCCESS);
    abi_case_end();
    if (abi_failed())
        abi_report(0, op->name);
    else
        machine_out(l.text);
}

_Noreturn void abi_main(u64 cpu);
_Noreturn void abi_main(u64 cpu) {
    static const struct bench_op *const tables[] = {bench_calls, bench_objects, bench_exits, bench_scale};
    bool failed = false;
    abi_boot_cpu = cpu;
    abi_setup();
    u32 features = (u32)mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features)));
    for (unsigned t = 0; t < sizeof(tables) / sizeof(tables[0]); t++)
        for (const struct bench_op *op = tables[t]; op->name; op++)
            if (machine_wanted(op->name) && (!op->features || op->features & features)) {
                bench(op);
                failed |= abi_failed();
            }
    if (machine_wanted("memory"))
        bench_memory(features);
    machine_out(failed ? "bench: failed\n" : "bench: done\n");
    machine_end(failed);
}
