/* Goal: sm_ctrl (row c): counters, order, deadlines, destruction; timeout against up. */
#include "abi.h"

static struct thread thread[4];
static sel_t sm, done;
static u64 order[8], steps, status[4];

static void sm_ctrl_success_up_down(void) {
    sm = sm_new(0);
    CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(sm, false, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(sm, false, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_TIMEOUT);
}
static void sm_ctrl_success_zero(void) {
    sm = sm_new(5);
    CHECK_EQ(nova_sm_down(sm, true, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(sm, true, 1), NOVA_TIMEOUT);
}
/* A deadline that has passed does not matter when the counter is there. */
static void sm_ctrl_success_late(void) {
    sm = sm_new(1);
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_SUCCESS);
}
static void sm_ctrl_timeout(void) {
    sm = sm_new(0);
    u64 until = clock_after_us(2000);
    CHECK_EQ(nova_sm_down(sm, false, until), NOVA_TIMEOUT);
    CHECK(machine_clock() >= until);        /* never early */
    CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS); /* left the queue: nobody takes this one */
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_SUCCESS);
}
/* Many deadlines at once, in any order: each at its time. */
ENTRY(sleeps) {
    struct thread *t = (struct thread *)rdi;
    u64 until = clock_after_us(500 + 400 * ((t->arg * 3) % 4));
    status[t->arg] = nova_sm_down(sm, false, until);
    CHECK(machine_clock() >= until);
    wake_up(done);
}
static void sm_ctrl_timeouts_many(void) {
    sm = sm_new(0), done = sm_new(0);
    for (unsigned i = 0; i < 4; i++)
        thread_start(&thread[i], 0, PRIO_MAIN + 1, IP(sleeps), i);
    for (unsigned i = 0; i < 4; i++)
        wait_for(done);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(status[i], NOVA_TIMEOUT);
}
static void sm_ctrl_bad_par(void) {
    sm = sm_new(~0ul);
    CHECK_EQ(nova_sm_up(sm), NOVA_BAD_PAR);
    CHECK_EQ(nova_sm_down(sm, false, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_up(sm), NOVA_BAD_PAR);
}
static void sm_ctrl_bad_cap(void) {
    sm = sm_new(1);
    sel_t up = copy_new(sm, PERM_SM_UP), dn = copy_new(sm, PERM_SM_DN);
    CHECK_EQ(nova_sm_up(sel_new()), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_down(sel_new(), false, 0), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_up(SEL_PD), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_down(SEL_EC, false, 0), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_up(dn), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_down(up, false, 0), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_up(up), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(dn, false, 0), NOVA_SUCCESS);
}

ENTRY(downs) {
    const struct thread *t = (const struct thread *)rdi;
    status[t->arg] = nova_sm_down(sm, false, 0);
    order[steps++ % 8] = t->arg;
    wake_up(done);
}
/* Waiters are served in the order of their arrival. */
static void sm_ctrl_fifo(void) {
    sm = sm_new(0), done = sm_new(0), steps = 0;
    for (unsigned i = 0; i < 4; i++)
        thread_start(&thread[i], 0, PRIO_MAIN + 1, IP(downs), i); /* each runs until it blocks */
    for (unsigned i = 0; i < 4; i++) {
        wake_up(sm);
        wait_for(done);
    }
    for (unsigned i = 0; i < 4; i++) {
        CHECK_EQ(order[i], i);
        CHECK_EQ(status[i], NOVA_SUCCESS);
    }
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_TIMEOUT);
}
/* Destroyed with waiters, on this CPU and on another: BAD_CAP for each. */
static void sm_ctrl_destroyed(void) {
    done = sm_new(0), sm = sm_new(0), steps = 0;
    for (unsigned i = 0; i < 4; i++)
        thread_start(&thread[i], i % abi_cpus, PRIO_MAIN + 1, IP(downs), i);
    pause_us(500);
    CHECK_EQ(nova_revoke(crd_obj(sm, 0, 0x1f), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 4; i++)
        wait_for(done);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(status[i], NOVA_BAD_CAP);
}

/* --- other CPUs --- */
static sel_t ping, pong;
static u64 turns;
ENTRY(ponger) {
    (void)rdi;
    for (unsigned i = 0; i < turns; i++) {
        wait_for(ping);
        wake_up(pong);
    }
    wake_up(done);
}
static void sm_ctrl_wakes_other_cpu(void) {
    ping = sm_new(0), pong = sm_new(0), done = sm_new(0);
    turns = 10 * machine_rounds();
    thread_start(&thread[0], 1, 10, IP(ponger), 0);
    for (unsigned i = 0; i < turns; i++) {
        wake_up(ping);
        wait_for(pong);
    }
    wait_for(done);
}
/* Everybody ups and downs one semaphore: nothing is lost, nothing made up. */
ENTRY(mixes) {
    const struct thread *t = (const struct thread *)rdi;
    u64 got = 0;
    for (unsigned i = 0; i < turns; i++) {
        CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS);
        got += nova_sm_down(sm, false, clock_after_us(i % 3 * 20)) == NOVA_SUCCESS;
    }
    status[t->arg] = turns - got; /* left in the counter */
    wake_up(done);
}
static void sm_ctrl_conserved(void) {
    sm = sm_new(0), done = sm_new(0);
    turns = 5 * machine_rounds();
    for (unsigned i = 0; i < 4; i++)
        thread_start(&thread[i], i % abi_cpus, 10 + i, IP(mixes), i);
    u64 left = 0, found = 0;
    for (unsigned i = 0; i < 4; i++)
        wait_for(done);
    for (unsigned i = 0; i < 4; i++)
        left += status[i];
    while (found <= left && nova_sm_down(sm, false, 1) == NOVA_SUCCESS)
        found++;
    CHECK_EQ(found, left);
}
/* Timeout against up: exactly one of the two. */
static u64 when;
ENTRY(races) {
    (void)rdi;
    for (;;) {
        wait_for(ping);
        u64 at = __atomic_load_n(&when, __ATOMIC_SEQ_CST);
        if (!at)
            break;
        for (u64 i = 0; machine_clock() < at && i < 10000000; i++)
            machine_relax();
        CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS);
        wake_up(pong);
    }
    wake_up(done);
}
static void sm_ctrl_timeout_against_up(void) {
    unsigned timeouts = 0;
    sm = sm_new(0), ping = sm_new(0), pong = sm_new(0), done = sm_new(0);
    thread_start(&thread[0], 1, 10, IP(races), 0);
    for (unsigned n = 0; n < 3 * machine_rounds(); n++) {
        u64 deadline = clock_after_us(100);
        __atomic_store_n(&when, deadline + abi_random(40) * abi_tsc_khz() / 1000 - 20 * abi_tsc_khz() / 1000,
                         __ATOMIC_SEQ_CST);
        wake_up(ping);
        u64 s = nova_sm_down(sm, false, deadline);
        wait_for(pong);
        CHECK(s == NOVA_SUCCESS || s == NOVA_TIMEOUT);
        timeouts += s == NOVA_TIMEOUT;
        CHECK_EQ(nova_sm_down(sm, false, 1), s == NOVA_TIMEOUT ? NOVA_SUCCESS : NOVA_TIMEOUT);
    }
    __atomic_store_n(&when, 0, __ATOMIC_SEQ_CST);
    wake_up(ping);
    wait_for(done);
}

const struct abi_case sm_cases[] = {
    CASE(sm_ctrl_success_up_down),
    CASE(sm_ctrl_success_zero),
    CASE(sm_ctrl_success_late),
    CASE(sm_ctrl_timeout),
    CASE(sm_ctrl_timeouts_many),
    CASE(sm_ctrl_bad_par),
    CASE(sm_ctrl_bad_cap),
    CASE(sm_ctrl_fifo),
    CASE(sm_ctrl_destroyed),
    CASE_CPUS(sm_ctrl_wakes_other_cpu, 2),
    CASE(sm_ctrl_conserved),
    CASE_CPUS(sm_ctrl_timeout_against_up, 2),
    {0},
};
