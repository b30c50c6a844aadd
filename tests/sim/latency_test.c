/* Goal: long operations have preemption points: the time in which no interrupt can come in is bounded, however much there is to do
 * (kernel-design.md 1 and 2, docs/locking.md "Time with interrupts off").
 * Method: one CPU, so that virtual time is the kernel's own scheduling points (each atomic operation, lock, IPI is one); an operation of a size
 * far beyond the bound, and the longest span between two openings is measured. What has no such points (plain list walks) is bounded by counting: see
 * space_step_work. */
#include "core/space.h"
#include "simtest.h"

#include "core/cpu.h" /* after it: `cpus` */

#define NEVER 0x50ul
#define BOUND 20000 /* ticks: 2,000 points */
static sel_t done;

static void check(const char *what) {
    u64 longest = sim_shut_longest();
    sim_log("sim: %s: %lu points\n", what, longest / 10);
    sim_expect(longest <= BOUND);
}
static void pause_idle(u64 ticks) { sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + ticks), NOVA_TIMEOUT); }
static void prepare(void) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    done = sem_make(0);
    startup_make(0);
    (void)grab(ABI_ROOT_UTCB, 0, 0, 0);
    (void)sim_shut_longest();
}

/* --- revoke: thousands of children, and a deep line of them --- */
static void revoke_root(u64 cpu) {
    (void)cpu;
    prepare();
    sel_t top = sem_make(0), first = 0x10000;
    for (unsigned i = 0; i < 3000; i++)
        (void)grab(ABI_ROOT_UTCB, crd_obj(i < 1500 ? top : first + i - 1, 0, 0x1f), (first + i) << 12,
                   crd_obj(0, 31, 0x1f));
    check("delegation of one");
    OK(nova_revoke(crd_obj(top, 0, 0x1f), false));
    check("revoke of 3,000 capabilities");
    for (unsigned i = 0; i < 3000; i++) {
        u64 crd = crd_obj(first + i, 0, 0);
        OK(nova_lookup(&crd));
        sim_expect_eq(crd, 0);
    }
    pause_idle(1000000);
    check("their memory");
    sim_done();
}
static void bound_of_revoke(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = revoke_root, .ram = 512ul << 20};
    assert_int_equal(sim_seeds(&o, 1, 2, SIM_OK), 0);
}

/* --- revoke that finds next to nothing to do among thousands of children: the steps are counted --- */
static void spared_root(u64 cpu) {
    (void)cpu;
    prepare();
    sel_t top = sem_make(0), first = 0x10000;
    for (unsigned i = 0; i < 5000; i++) /* the last one is looked at first */
        (void)grab(ABI_ROOT_UTCB, crd_obj(top, 0, i < 2 ? 0x03 : 0x01), (first + i) << 12, crd_obj(0, 31, 0x1f));
    u64 before = sim_preempt_points();
    OK(nova_revoke(crd_obj(top, 0, 0x02), false));
    sim_expect(sim_preempt_points() - before >= 5000 / (u64)space_step_work);
    for (unsigned i = 0; i < 3; i++) {
        u64 crd = crd_obj(first + i, 0, 0);
        OK(nova_lookup(&crd));
        sim_expect_eq(crd, crd_obj(first + i, 0, 0x01));
    }
    sim_done();
}
static void bound_of_what_is_spared(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = spared_root, .ram = 512ul << 20};
    assert_int_equal(sim_seeds(&o, 1, 2, SIM_OK), 0);
}

/* --- delegation of a wide range in 4 KiB pages, and taking it back --- */
static void wide_root(u64 cpu) {
    (void)cpu;
    u64 page = RAM_VA >> PAGE_SHIFT, to = 0x80000;
    prepare();
    for (unsigned i = 0; i < 16; i++) /* 16 * 256 pages that are not aligned to large ones where they go */
        sim_expect(grab(ABI_ROOT_UTCB, crd_mem(RAM_PFN + 256 * i, 8, 7), (page + 256 * i) << 12 | ITEM_H,
                        crd_mem(page, 20, 7)) != 0);
    (void)sim_shut_longest();
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_mem(page, 12, 7), to << 12 | ITEM_G | ITEM_D, crd_mem(to, 12, 7)),
                  crd_mem(to, 12, 7));
    check("delegation of 4,096 pages into three tables");
    OK(nova_revoke(crd_mem(page, 12, 7), false));
    check("revoke of them");
    sim_done();
}
static void bound_of_delegation(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = wide_root, .ram = 512ul << 20};
    assert_int_equal(sim_seeds(&o, 1, 2, SIM_OK), 0);
}

/* --- teardown of a domain: threads, capabilities, and all that its end sets free --- */
#define MEMBERS 600
static void teardown_root(u64 cpu) {
    (void)cpu;
    sel_t pd = 0x8000, first = 0x10000;
    prepare();
    OK(nova_create_pd(pd, SEL_PD, 0));
    for (unsigned i = 0; i < MEMBERS; i++) {
        OK(nova_create_ec(first + 4 * i, pd, (0x60000ul + i) << PAGE_SHIFT, 0, 0, 0, false));
        OK(nova_create_pt(first + 4 * i + 1, pd, first + 4 * i, 0, PORTAL(grab_portal)));
        OK(nova_create_sm(first + 4 * i + 2, pd, 0));
    }
    check("creation");
    OK(nova_revoke(crd_obj(pd, 0, 0x1f), true));
    check("death of a domain of 600 threads");
    pause_idle(10000000);
    check("its teardown");
    OK(nova_revoke(crd_obj(first, 12, 0x1f), true));
    check("revoke of 1,800 objects");
    pause_idle(10000000);
    check("their memory");
    sim_done();
}
static void bound_of_teardown(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = teardown_root, .ram = 512ul << 20};
    assert_int_equal(sim_seeds(&o, 1, 2, SIM_OK), 0);
}

/* --- a helping chain of hundreds, with helpers at its head; a semaphore with hundreds of waiters is destroyed; hundreds of deadlines at once --- */
#define CHAIN      400
#define CHAIN_STEP 64 /* links between two preemption points: a plain walk, of which virtual time sees nothing */
static u64 depth;
static void chain_server(u64 i) {
    if (i + 1 < CHAIN) {
        OK(nova_call(0x10000 + i + 1));
    } else {
        depth++;
        up(done);
        down(0x51);
    }
    reply();
}
static void chain_client(u64 rdi) {
    (void)rdi;
    OK(nova_call(0x10000));
    up(done);
}
static void chain_root(u64 cpu) {
    (void)cpu;
    prepare();
    OK(nova_create_sm(0x51, SEL_PD, 0));
    for (unsigned i = 0; i < CHAIN; i++) {
        struct thread t = thread_make(0, false, 0);
        OK(nova_create_pt(0x10000 + i, SEL_PD, t.ec, 0, PORTAL(chain_server)));
        OK(nova_pt_ctrl(0x10000 + i, i));
    }
    thread_start(0, 20, chain_client);
    down(done);
    pause_idle(100000);
    (void)sim_shut_longest();
    for (unsigned i = 0; i < 20; i++) {
        u64 points = sim_preempt_points();
        thread_start(0, 30 + i, chain_client);
        pause_idle(10000);
        sim_expect(sim_preempt_points() - points >=
                   2 * (CHAIN / CHAIN_STEP)); /* looks for a loop, then for the chain's end */
    }
    check("a helping chain of 400");
    for (unsigned i = 0; i < 21; i++)
        up(0x51);
    for (unsigned i = 0; i < 20 + 21; i++)
        down(done);
    check("its end");
    sim_expect_eq(depth, 21);
    sim_done();
}
static void bound_of_helping(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = chain_root, .ram = 512ul << 20, .steps = 400000000};
    assert_int_equal(sim_seeds(&o, 1, 1, SIM_OK), 0);
}

#define WAITERS 600
static sel_t queue;
static u64 until;
static unsigned refused, late;
static void waiter(u64 rdi) {
    (void)rdi;
    refused += nova_sm_down(queue, false, 0) == NOVA_BAD_CAP;
    late += nova_sm_down(NEVER, false, until) == NOVA_TIMEOUT;
}
static void waiters_root(u64 cpu) {
    (void)cpu;
    prepare();
    queue = sem_make(0);
    until = sim_clock() + 100000000;
    for (unsigned i = 0; i < WAITERS; i++)
        thread_start(0, 1 + i % 100, waiter);
    pause_idle(10000000);
    (void)sim_shut_longest();
    OK(nova_revoke(crd_obj(queue, 0, 0x1f), true));
    check("destruction of a semaphore with 600 waiters");
    pause_idle(10000000);
    check("their wake-up");
    sim_expect_eq(refused, WAITERS);
    OK(nova_sm_down(done, false, until + 10000000) == NOVA_TIMEOUT ? NOVA_SUCCESS : NOVA_BAD_PAR);
    check("600 deadlines at one time");
    sim_expect_eq(late, WAITERS);
    sim_done();
}
static void bound_of_wake_ups(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = waiters_root, .ram = 512ul << 20, .steps = 400000000};
    assert_int_equal(sim_seeds(&o, 1, 1, SIM_OK), 0);
}

/* --- the UTCB of a dying EC, while another CPU changes tables and flushes all the time: it waits for what was owed when it began, no more --- */
#define BUSY_UTCB 0x30000000ul
static struct thread busy_callee;
static sel_t busy_pt;
static void busy(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 200; i++) {
        utcb_at(busy_callee.utcb)->del = crd_mem(0x60000, 6, 7);
        struct abi_utcb *u = utcb_at(BUSY_UTCB);
        u->w[UTCB_WORDS - 2] = crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7);
        u->w[UTCB_WORDS - 1] = 0x60000ul << 12 | ITEM_DELEGATE;
        u->items = UTCB_ITEMS(0, 1);
        OK(nova_call(busy_pt));
        utcb_at(BUSY_UTCB)->items = 0;
        OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), false));
    }
    down(NEVER);
}
static void flush_root(u64 cpu) {
    (void)cpu;
    space_step_work = 1 + sim_choose(SIM_WORKLOAD, 64);
    prepare();
    ram_map(ABI_ROOT_UTCB, 6);
    startup_make(1);
    busy_callee = thread_make(1, false, 0);
    busy_pt = portal_make(&busy_callee, grab_portal, 0, sel_new());
    OK(nova_create_ec(0x9000, SEL_PD, BUSY_UTCB, 1, (u64)busy, EVENTS(1), true));
    OK(nova_create_sc(0x9001, SEL_PD, 0x9000, QPD_MAKE(10, 10000)));
    for (unsigned i = 0; i < 60; i++) {
        OK(nova_create_ec(0x9002, SEL_PD, BUSY_UTCB + PAGE_SIZE, 0, 0, EVENTS(0), false));
        u64 before = cpus[0]->mach.points;
        OK(nova_revoke(crd_obj(0x9002, 0, 0x1f), true));
        sim_expect(cpus[0]->mach.points - before <= BOUND / 10);
    }
    sim_done();
}
static void bound_of_utcb_removal(void **s) {
    (void)s;
    scenario(flush_root, 2, 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bound_of_revoke),       cmocka_unit_test(bound_of_what_is_spared),
        cmocka_unit_test(bound_of_delegation),   cmocka_unit_test(bound_of_teardown),
        cmocka_unit_test(bound_of_helping),      cmocka_unit_test(bound_of_wake_ups),
        cmocka_unit_test(bound_of_utcb_removal),
    };
    return cmocka_run_group_tests_name("sim latency", tests, NULL, NULL);
}
