/* Goal: donation of priority, the order of SCs of one priority, budgets (section 6), owners of SCs (section 2). Method: a high thread naps
 * while others spin; who ran is in the order of their marks. */
#include "abi.h"

static struct thread server, client, rival, third;
static sel_t pt, done, go;
static u64 steps, order[8];
static bool stop, seen[4];

static void mark(u64 what) { order[steps++ % 8] = what; }
static void spin_until_stop(void) {
    for (u64 end = clock_after_us(WAIT_US); machine_clock() < end && !__atomic_load_n(&stop, __ATOMIC_SEQ_CST);)
        machine_relax();
}
static void thread_with_quantum(struct thread *t, unsigned cpu, unsigned prio, u64 us, u64 ip, u64 arg) {
    thread_global(t, SEL_PD, cpu, ip, arg);
    t->sc = sel_new();
    CHECK_EQ(nova_create_sc(t->sc, SEL_PD, t->ec, QPD_MAKE(prio, us)), NOVA_SUCCESS);
}

/* The server runs at the priority of the one that called it: what is ready between its callers' priorities does not come in. */
ENTRY(wakes_rival) {
    (void)rdi;
    wake_up(go);
    burn_us(300);
    mark('s');
}
ENTRY(calls) {
    (void)rdi;
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    mark('c');
    wake_up(done);
}
ENTRY(is_between) {
    (void)rdi;
    wait_for(go);
    mark('r');
    wake_up(done);
}
static void call_donates_priority(void) {
    done = sm_new(0), go = sm_new(0), steps = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(wakes_rival));
    thread_start(&rival, 0, PRIO_MAIN + 10, IP(is_between), 0);
    thread_start(&client, 0, PRIO_MAIN + 20, IP(calls), 0);
    wait_for(done);
    wait_for(done);
    CHECK(order[0] == 's' && order[1] == 'c' && order[2] == 'r');
    /* and at that of a low one, so that the rival comes in between */
    steps = 0;
    thread_start(&rival, 0, PRIO_MAIN - 10, IP(is_between), 0);
    thread_start(&client, 0, PRIO_MAIN - 20, IP(calls), 0);
    wait_for(done);
    wait_for(done);
    CHECK(order[0] == 'r' && order[1] == 's' && order[2] == 'c');
}

/* Preempted with budget left: first of its priority again. */
ENTRY(spins) {
    const struct thread *t = (const struct thread *)rdi;
    __atomic_store_n(&seen[t->arg], true, __ATOMIC_SEQ_CST);
    wake_up(done);
    spin_until_stop();
    wake_up(done);
}
static void preempted_goes_to_head(void) {
    done = sm_new(0), stop = false, seen[0] = seen[1] = false;
    thread_with_quantum(&client, 0, PRIO_MAIN - 10, 100000000, IP(spins), 0);
    thread_with_quantum(&rival, 0, PRIO_MAIN - 10, 100000000, IP(spins), 1);
    for (unsigned i = 0; i < 10; i++)
        pause_us(200);
    CHECK(seen[0] && !seen[1]);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    for (unsigned i = 0; i < 4; i++)
        wait_for(done);
    CHECK(seen[1]);
}
/* Budget used up: the tail, behind all that are ready, with a fresh quantum. A turn that the machine spends elsewhere (an emulator that is not
 * run) leaves no trace in `turns`, but is paid for: in rotation, each that comes between two entries has used up a quantum. */
#define TURNS      9u
#define QUANTUM_US 2000ul
static u64 turns; /* who ran, a digit each, the last one lowest: one word, so that a thread may lose the CPU anywhere */
ENTRY(takes_turns) {
    const struct thread *t = (const struct thread *)rdi;
    for (u64 end = clock_after_us(WAIT_US / 4); machine_clock() < end;) {
        u64 now = __atomic_load_n(&turns, __ATOMIC_SEQ_CST);
        if (now >> 4 * (TURNS - 1))
            break; /* the last turn is not over */
        if ((now & 0xf) != t->arg + 1)
            (void)__atomic_compare_exchange_n(&turns, &now, now << 4 | (t->arg + 1), false, __ATOMIC_SEQ_CST,
                                              __ATOMIC_SEQ_CST);
        machine_relax();
    }
    wake_up(done);
}
static void exhausted_goes_to_tail(void) {
    struct thread *t[3] = {&client, &rival, &third};
    u64 used[3] = {0}, time;
    done = sm_new(0), turns = 0;
    for (unsigned i = 0; i < 3; i++)
        thread_with_quantum(t[i], 0, PRIO_MAIN - 10, QUANTUM_US, IP(takes_turns), i);
    for (unsigned i = 0; i < 3; i++)
        wait_for(done);
    CHECK(turns >> 4 * (TURNS - 1));
    for (unsigned n = TURNS, who = 0; n-- && !abi_failed();) /* round and round */
        for (; who != (turns >> 4 * n & 0xf) - 1; who = (who + 1) % 3)
            used[who] += QUANTUM_US;
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(nova_sc_time(t[i]->sc, &time), NOVA_SUCCESS);
        CHECK(time + 2 >= used[i]); /* rounded down twice */
    }
}

/* An SC's owner dies: the SC leaves the run queues, wherever its EC is at home (section 2 "Lifetime"). */
static void owner_of_sc_dies(unsigned cpu) {
    u64 a = 0, b = 1;
    sel_t pd = sel_new();
    done = sm_new(0), stop = false;
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    thread_global(&client, SEL_PD, cpu, IP(spins), 0);
    client.sc = sel_new();
    CHECK_EQ(nova_create_sc(client.sc, pd, client.ec, QPD_MAKE(PRIO_MAIN - 1, 1000000000)), NOVA_SUCCESS);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 100 && a != b; i++) {
        a = b;
        pause_us(1000);
        CHECK_EQ(nova_sc_time(client.sc, &b), NOVA_SUCCESS);
    }
    CHECK_EQ(a, b);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
}
static void pd_dies_owned_sc(void) { owner_of_sc_dies(0); }
static void pd_dies_owned_sc_other_cpu(void) { owner_of_sc_dies(1); }

/* Objects of a dying owner that others have capabilities to stay usable. */
static void pd_dies_owned_objects(void) {
    sel_t pd = sel_new(), sm = sel_new(), p = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    thread_local(&server, SEL_PD, 0);
    CHECK_EQ(nova_create_sm(sm, pd, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(p, pd, server.ec, 0, abi_exit_ip()), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    pause_us(2000);
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_call(p), NOVA_SUCCESS);
}

const struct abi_case sched_cases[] = {
    CASE(call_donates_priority),
    CASE(preempted_goes_to_head),
    CASE(exhausted_goes_to_tail),
    CASE(pd_dies_owned_sc),
    CASE_CPUS(pd_dies_owned_sc_other_cpu, 2),
    CASE(pd_dies_owned_objects),
    {0},
};
