/* The same operations with more capabilities in the caller's space; a wake-up on another CPU and the answer (tools/bench scale counts the
 * instructions of CPU 0 in a trace, for the TSC counts those of all). */
#include "bench.h"

static struct thread other;
static sel_t ping, pong;

/* Copies of one semaphore: each step delegates all that there are to the selectors behind them. */
static void fill(u64 count) {
    CHECK_EQ(nova_create_sm(BENCH_FILLED, SEL_PD, 0), NOVA_SUCCESS);
    for (unsigned order = 0; 1ul << order < count; order++) {
        u64 to = BENCH_FILLED + (1ul << order);
        CHECK_EQ(grab(crd_obj(BENCH_FILLED, order, PERM_SM_ALL), to, 0, WINDOW_ALL(CRD_OBJ)),
                 crd_obj(to, order, PERM_SM_ALL));
    }
}
static void call_in(u64 count) {
    fill(count);
    bench_call_make(1);
}
static void give_in(u64 count) {
    fill(count);
    bench_give_object_make();
}
static void call_1(void) { bench_call_make(1); }
static void call_10(void) { call_in(10); }
static void call_1000(void) { call_in(1000); }
static void call_100000(void) { call_in(100000); }
static void give_10(void) { give_in(10); }
static void give_1000(void) { give_in(1000); }
static void give_100000(void) { give_in(100000); }

__attribute__((naked, used)) static void answers_entry(void) { __asm__("jmp answers_elsewhere"); }
__attribute__((used)) static void answers_elsewhere(void) {
    for (;;) {
        (void)nova_sm_down(ping, false, 0);
        (void)nova_sm_up(pong);
    }
}
static void other_cpu(void) {
    ping = sm_new(0), pong = sm_new(0);
    thread_start(&other, abi_cpus - 1, PRIO_MAIN, (u64)answers_entry, 0);
}
static void wake(void) {
    (void)nova_sm_up(ping);
    (void)nova_sm_down(pong, false, 0);
}

#define SCALE(name, setup, round)                                                                                      \
    { "scale_" name, setup, round, bench_loop, 0, 0 }
const struct bench_op bench_scale[] = {
    SCALE("caps_call_10", call_10, bench_call),
    SCALE("caps_call_1000", call_1000, bench_call),
    SCALE("caps_call_100000", call_100000, bench_call),
    SCALE("caps_give_10", give_10, bench_give_object),
    SCALE("caps_give_1000", give_1000, bench_give_object),
    SCALE("caps_give_100000", give_100000, bench_give_object),
    SCALE("cpus_call", call_1, bench_call),
    SCALE("cpus_give_page", bench_give_page_make, bench_give_page),
    SCALE("cpus_wake", other_cpu, wake),
    {0},
};
