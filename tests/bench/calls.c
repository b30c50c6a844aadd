/* System calls, calls of a portal, semaphores. The server does nothing but reply, so that the count is the kernel's and the caller's stub. */
#include "bench.h"

static struct thread server, other;
static sel_t pt, ping, pong;

static void null_selector(void) {
    pt = sel_new();
    CHECK_EQ(nova_pt_ctrl(pt, 0), NOVA_BAD_CAP);
}

__attribute__((naked, used)) static void replies_entry(void) { __asm__("mov $1, %edi\n\tsyscall\n\tud2"); }
static void server_make(sel_t pd, unsigned words) {
    thread_local(&server, pd, 0);
    pt = portal_new(&server, 0, (u64)replies_entry);
    utcb_set_items(&abi_main_thread, words, 0);
}
static void same_pd(void) { server_make(SEL_PD, 1); }
void bench_call_make(unsigned words) { server_make(child_new(0), words); }
static void words_1(void) { bench_call_make(1); }
static void words_16(void) { bench_call_make(16); }
static void words_64(void) { bench_call_make(64); }
static void pt_ctrl(void) { (void)nova_pt_ctrl(pt, 1); }
void bench_call(void) { (void)nova_call(pt); }

/* Both use FS base and the SSE registers in every round. */
static void fpu_use(void) {
    __asm__ volatile("mov $machine_tls, %%rax\n\twrfsbase %%rax\n\tpaddq %%xmm1, %%xmm0" : : : "rax");
}
__attribute__((naked, used)) static void replies_fpu_entry(void) {
    __asm__("mov $machine_tls, %rax\n\twrfsbase %rax\n\tpaddq %xmm1, %xmm0\n\tmov $1, %edi\n\tsyscall\n\tud2");
}
static void words_1_fpu(void) {
    thread_local(&server, child_new(0), 0);
    pt = portal_new(&server, 0, (u64)replies_fpu_entry);
    utcb_set_items(&abi_main_thread, 1, 0);
}
static void call_fpu(void) {
    fpu_use();
    (void)nova_call(pt);
}

static void semaphore(void) { ping = sm_new(0); }
static void up_down(void) {
    (void)nova_sm_up(ping);
    (void)nova_sm_down(ping, false, 0);
}
__attribute__((naked, used)) static void answers_entry(void) { __asm__("jmp answers"); }
__attribute__((used)) static void answers(void) {
    for (;;) {
        (void)nova_sm_down(ping, false, 0);
        (void)nova_sm_up(pong);
    }
}
static void two_threads(void) {
    ping = sm_new(0), pong = sm_new(0);
    thread_start(&other, 0, PRIO_MAIN, (u64)answers_entry, 0);
}
static void ping_pong(void) {
    (void)nova_sm_up(ping);
    (void)nova_sm_down(pong, false, 0);
}

#define CALL(name, setup, round)                                                                                       \
    { name, setup, round, bench_loop, 0, 0 }
const struct bench_op bench_calls[] = {
    CALL("fail", null_selector, pt_ctrl),         CALL("pt_ctrl", same_pd, pt_ctrl),
    CALL("call_same_pd", same_pd, bench_call),    CALL("call_1", words_1, bench_call),
    CALL("call_16", words_16, bench_call),        CALL("call_64", words_64, bench_call),
    CALL("call_1_fpu", words_1_fpu, call_fpu),    CALL("sm_up_down", semaphore, up_down),
    CALL("sm_ping_pong", two_threads, ping_pong), {0},
};
