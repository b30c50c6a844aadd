/* Goal: calls between local threads, donation and helping (ABI sections 5 and 6).
 * Method: chains of servers on one CPU, called by threads of different priority under many schedules. */
#include "simtest.h"

static sel_t pt[8], done, started, go;
static u64 order_log[16];
static unsigned order_count;
static void order(u64 what) { order_log[order_count++ % 16] = what; }

/* --- call and reply: words there and back --- */
static void echo(u64 utcb) {
    struct abi_utcb *u = utcb_at(utcb);
    sim_expect_eq(u->items, UTCB_ITEMS(3, 0));
    for (unsigned i = 0; i < 3; i++)
        u->w[i] += 100;
    u->items = UTCB_ITEMS(2, 0);
    reply();
}
static void call_reply_root(u64 cpu) {
    startup_make((unsigned)cpu);
    struct thread t = thread_make((unsigned)cpu, false, 0x1234);
    pt[0] = portal_make(&t, echo, 0, sel_new());
    for (u64 n = 0; n < 10; n++) {
        struct abi_utcb *u = utcb_at(ABI_ROOT_UTCB);
        u->items = UTCB_ITEMS(3, 0);
        u->w[0] = n, u->w[1] = n + 1, u->w[2] = 7;
        OK(nova_call(pt[0]));
        u = utcb_at(ABI_ROOT_UTCB);
        sim_expect_eq(u->items, UTCB_ITEMS(2, 0));
        sim_expect_eq(u->w[0], n + 100);
        sim_expect_eq(u->w[1], n + 101);
        sim_expect_eq(u->w[2], 7); /* not part of the reply */
    }
    sim_expect_eq(nova_call(0x999), NOVA_BAD_CAP);
    sim_done();
}
static void call_reply(void **s) {
    (void)s;
    scenario(call_reply_root, 4, 60);
}

/* --- helping, three servers deep: the innermost is preempted by a more important thread that calls the outermost --- */
static void server3(u64 utcb) {
    (void)utcb;
    up(started);
    for (unsigned i = 0; i < 300; i++)
        sim_step();
    order(3);
    reply();
}
static void server2(u64 utcb) {
    (void)utcb;
    OK(nova_call(pt[2]));
    reply();
}
static void server1(u64 utcb) {
    (void)utcb;
    OK(nova_call(pt[1]));
    reply();
}
static void client_low(u64 rdi) {
    (void)rdi;
    OK(nova_call(pt[0]));
    order(10);
    up(done);
}
static void client_high(u64 rdi) {
    (void)rdi;
    down(started); /* the chain is busy */
    OK(nova_call(pt[0]));
    order(20);
    up(done);
}
static volatile bool stop_spinning;
static void spinner(u64 rdi) {
    (void)rdi;
    down(go);
    order(30);
    while (!stop_spinning)
        sim_step();
    up(done);
}
static void helping_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    startup_make(c);
    done = sem_make(0), started = sem_make(0), go = sem_make(0);
    sim_name(done, "done"), sim_name(started, "started"), sim_name(go, "go");
    void (*const f[3])(u64) = {server1, server2, server3};
    for (unsigned i = 0; i < 3; i++) {
        struct thread t = thread_make(c, false, 0);
        pt[i] = portal_make(&t, f[i], 0, sel_new());
    }
    thread_start(c, 5, client_high);
    thread_start(c, 1, client_low);
    down(done);
    down(done);
    sim_expect_eq(nova_sm_down(done, false, sim_clock() + 1000), NOVA_TIMEOUT);
    sim_done();
}
static void helping_depth3(void **s) {
    (void)s;
    scenario(helping_root, 2, 100);
}

/* --- priority inheritance: the important client gets through although a spinner lies between it and the server's owner --- */
static void server_slow(u64 utcb) {
    (void)utcb;
    up(started);
    up(go); /* the spinner (middle priority) is ready from now on */
    for (unsigned i = 0; i < 200; i++)
        sim_step();
    reply();
}
static void client_urgent(u64 rdi) {
    (void)rdi;
    down(started);
    OK(nova_call(pt[0])); /* must help, else the spinner keeps the CPU for good */
    order(20);
    stop_spinning = true;
    up(done);
}
static void inheritance_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    startup_make(c);
    done = sem_make(0), started = sem_make(0), go = sem_make(0);
    sim_name(done, "done"), sim_name(started, "started"), sim_name(go, "go");
    struct thread t = thread_make(c, false, 0);
    pt[0] = portal_make(&t, server_slow, 0, sel_new());
    thread_start(c, 30, client_urgent);
    thread_start(c, 20, spinner);
    thread_start(c, 10, client_low);
    for (unsigned i = 0; i < 3; i++)
        down(done);
    sim_done();
}
static void priority_inheritance(void **s) {
    (void)s;
    scenario(inheritance_root, 1, 100);
}

/* --- a loop of n servers: exactly one call is aborted, the others succeed --- */
static unsigned loop_length, aborted;
static void loop_server(u64 index) {
    u64 next = (index + 1) % loop_length;
    u64 status = nova_call(pt[next]);
    sim_expect(status == NOVA_SUCCESS || status == NOVA_ABORTED);
    aborted += status == NOVA_ABORTED;
    reply();
}
static void loop_root(u64 cpu) {
    loop_length = 1 + sim_choose(SIM_WORKLOAD, 5);
    startup_make((unsigned)cpu);
    for (unsigned i = 0; i < loop_length; i++) {
        struct thread t = thread_make((unsigned)cpu, false, 0);
        pt[i] = portal_make(&t, loop_server, 0, sel_new());
        OK(nova_pt_ctrl(pt[i], i));
    }
    OK(nova_call(pt[0]));
    sim_expect_eq(aborted, 1);
    sim_done();
}
static void helping_loop(void **s) {
    (void)s;
    scenario(loop_root, 2, 60);
}

/* --- many helpers, no livelock, nobody innocent is aborted --- */
#define HELPERS 40
static unsigned served;
static void server_count(u64 utcb) {
    (void)utcb;
    unsigned n = served;
    for (unsigned i = 0; i < 30; i++)
        sim_step();
    served = n + 1; /* one at a time */
    reply();
}
static void helper(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 3; i++)
        OK(nova_call(pt[0]));
    up(done);
}
static void crowd_root(u64 cpu) {
    startup_make((unsigned)cpu);
    done = sem_make(0);
    struct thread t = thread_make((unsigned)cpu, false, 0);
    pt[0] = portal_make(&t, server_count, 0, sel_new());
    for (unsigned i = 0; i < HELPERS; i++)
        thread_start((unsigned)cpu, 1 + sim_choose(SIM_WORKLOAD, 100), helper);
    for (unsigned i = 0; i < HELPERS; i++)
        down(done);
    sim_expect_eq(served, 3 * HELPERS);
    sim_done();
}
static void helping_crowd(void **s) {
    (void)s;
    scenario(crowd_root, 2, 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_reply),   cmocka_unit_test(helping_depth3), cmocka_unit_test(priority_inheritance),
        cmocka_unit_test(helping_loop), cmocka_unit_test(helping_crowd),
    };
    return cmocka_run_group_tests_name("sim call", tests, NULL, NULL);
}
