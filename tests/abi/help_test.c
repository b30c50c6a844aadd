/* Goal: helping, section 6: priority inheritance through several servers, who is charged, chains that end blocked, loops. */
#include "abi.h"

#define SERVERS 8u
static struct thread server[SERVERS], client[24], low, mid, high;
static sel_t pt[SERVERS], gate[SERVERS], done, gate_h, gate_m;
static u64 order[8], steps, status[SERVERS], ring, charged_low, charged_high;
static bool first;

static void mark(u64 what) { order[steps++ % 8] = what; }
static void portals(unsigned n, u64 ip) {
    done = sm_new(0);
    for (unsigned i = 0; i < n; i++) {
        thread_local(&server[i], SEL_PD, 0);
        server[i].arg = i;
        pt[i] = portal_new(&server[i], 0, ip);
        gate[i] = sm_new(0);
    }
}

/* --- low calls 0 -> 1 -> 2; in 2 high wakes up and calls 0; mid is ready all the time --- */
ENTRY(chain) {
    const struct thread *t = (const struct thread *)rdi;
    if (t->arg < 2) {
        CHECK_EQ(nova_call(pt[t->arg + 1]), NOVA_SUCCESS);
    } else if (first) {
        first = false;
        wake_up(gate_h); /* high preempts us here */
        burn_us(3000);
        mark('s');
    }
}
ENTRY(low_runs) {
    (void)rdi;
    CHECK_EQ(nova_call(pt[0]), NOVA_SUCCESS);
    mark('l');
    wake_up(done);
}
ENTRY(mid_runs) {
    (void)rdi;
    wait_for(gate_m);
    mark('m');
    wake_up(done);
}
ENTRY(high_runs) {
    (void)rdi;
    u64 l[2], h[2];
    wait_for(gate_h);
    wake_up(gate_m);
    CHECK_EQ(nova_sc_time(low.sc, &l[0]), NOVA_SUCCESS);
    CHECK_EQ(nova_sc_time(high.sc, &h[0]), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt[0]), NOVA_SUCCESS);
    mark('h');
    CHECK_EQ(nova_sc_time(low.sc, &l[1]), NOVA_SUCCESS);
    CHECK_EQ(nova_sc_time(high.sc, &h[1]), NOVA_SUCCESS);
    charged_low = l[1] - l[0];
    charged_high = h[1] - h[0];
    wake_up(done);
}
static void helping_depth_3(void) {
    portals(3, IP(chain));
    gate_h = sm_new(0), gate_m = sm_new(0), steps = 0, first = true;
    thread_start(&high, 0, PRIO_MAIN + 30, IP(high_runs), 0);
    thread_start(&mid, 0, PRIO_MAIN - 10, IP(mid_runs), 0);
    thread_start(&low, 0, PRIO_MAIN - 20, IP(low_runs), 0);
    for (unsigned i = 0; i < 3; i++)
        wait_for(done);
    CHECK_EQ(order[0], 's');
    CHECK_EQ(order[1], 'h');
    CHECK_EQ(order[2], 'm');
    CHECK_EQ(order[3], 'l');
    CHECK(charged_high >= 2900); /* who helps pays */
    CHECK_EQ(charged_low, 0);
}

/* The chain ends in a thread that is blocked on a semaphore: the helper waits with it, others can run. */
ENTRY(chain_blocks) {
    const struct thread *t = (const struct thread *)rdi;
    if (t->arg < 2) {
        CHECK_EQ(nova_call(pt[t->arg + 1]), NOVA_SUCCESS);
    } else if (first) {
        first = false;
        wake_up(gate_h);
        wait_for(gate[2]);
        mark('s');
    }
}
static void helping_blocked(void) {
    portals(3, IP(chain_blocks));
    gate_h = sm_new(0), gate_m = sm_new(0), steps = 0, first = true;
    thread_start(&high, 0, PRIO_MAIN + 30, IP(high_runs), 0);
    thread_start(&mid, 0, PRIO_MAIN - 10, IP(mid_runs), 0);
    thread_start(&low, 0, PRIO_MAIN - 20, IP(low_runs), 0);
    wait_for(done);
    CHECK_EQ(order[0], 'm');
    CHECK_EQ(steps, 1);
    wake_up(gate[2]);
    wait_for(done);
    wait_for(done);
    CHECK_EQ(order[1], 's');
    CHECK_EQ(order[2], 'h');
    CHECK_EQ(order[3], 'l');
}

/* --- loops --- */
/* One client all the way round: the call that closes the ring is aborted, the others come back. */
ENTRY(ring_calls) {
    const struct thread *t = (const struct thread *)rdi;
    status[t->arg] = nova_call(pt[(t->arg + 1) % ring]);
}
static void helping_loop_nested(void) {
    for (ring = 1; ring <= SERVERS; ring = ring < 3 ? ring + 1 : ring + 5) {
        portals((unsigned)ring, IP(ring_calls));
        CHECK_EQ(nova_call(pt[0]), NOVA_SUCCESS);
        for (unsigned i = 0; i < ring; i++)
            CHECK_EQ(status[i], i + 1 < ring ? NOVA_SUCCESS : NOVA_ABORTED);
    }
}
/* A client for each server, all servers busy before each calls its neighbour: exactly one call is aborted. */
ENTRY(ring_waits) {
    const struct thread *t = (const struct thread *)rdi;
    wake_up(done);
    if (status[t->arg] == 99) { /* the neighbour's call finds it done */
        wait_for(gate[t->arg]);
        status[t->arg] = 98;
        status[t->arg] = nova_call(pt[(t->arg + 1) % ring]);
    }
}
ENTRY(client_calls) {
    const struct thread *t = (const struct thread *)rdi;
    CHECK_EQ(nova_call(pt[t->arg]), NOVA_SUCCESS);
    wake_up(gate_m);
}
static void ring_run(unsigned n) {
    unsigned aborted = 0;
    ring = n;
    portals(n, IP(ring_waits));
    gate_m = sm_new(0);
    for (unsigned i = 0; i < n; i++)
        status[i] = 99;
    for (unsigned i = 0; i < n; i++)
        thread_start(&client[i], 0, PRIO_MAIN - 5 + (i & 3), IP(client_calls), i);
    for (unsigned i = 0; i < n; i++)
        wait_for(done);
    unsigned start = abi_random(n);
    for (unsigned i = 0; i < n; i++)
        wake_up(gate[(start + i) % n]);
    for (unsigned i = 0; i < n; i++)
        wait_for(gate_m);
    for (unsigned i = 0; i < n; i++) {
        CHECK(status[i] == NOVA_SUCCESS || status[i] == NOVA_ABORTED);
        aborted += status[i] == NOVA_ABORTED;
    }
    CHECK_EQ(aborted, 1);
}
static void helping_loop_2(void) { ring_run(2); }
static void helping_loop_3(void) { ring_run(3); }
static void helping_loop_8(void) { ring_run(8); }

/* Honest contention: nobody is aborted. */
ENTRY(works) {
    (void)rdi;
    steps++;
    pause_us(20);
}
ENTRY(client_counts) {
    const struct thread *t = (const struct thread *)rdi;
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(nova_call(pt[0]), NOVA_SUCCESS);
    (void)t;
    wake_up(done);
}
static void helping_contention(void) {
    portals(1, IP(works));
    steps = 0;
    for (unsigned i = 0; i < 24; i++)
        thread_start(&client[i], 0, PRIO_MAIN - 20 + i, IP(client_counts), i);
    for (unsigned i = 0; i < 24; i++)
        wait_for(done);
    CHECK_EQ(steps, 72);
}

/* Events help as calls do: the handler is busy with another thread's event. */
static struct thread handler, victim[4];
static sel_t base;
ENTRY(handles) {
    const struct thread *t = (const struct thread *)rdi;
    u64 rip = utcb_get(t, STATE_WORD(rip));
    steps++;
    pause_us(30);
    utcb_put(t, 0, MTD_RIP);
    utcb_put(t, STATE_WORD(rip), rip + MACHINE_UD_LEN);
}
ENTRY(raises) {
    (void)rdi;
    machine_undefined();
    wake_up(done);
}
static void helping_event(void) {
    static struct thread slot[4];
    done = sm_new(0), steps = 0;
    base = sels_new(5);
    thread_local(&handler, SEL_PD, 0);
    CHECK_EQ(nova_create_pt(base + 6, SEL_PD, handler.ec, MTD_RIP, IP(handles)), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(base + 6, (u64)&handler), NOVA_SUCCESS);
    CHECK(grab(crd_obj(EVENTS(0) + EVT_THREAD_STARTUP, 0, 0x1f), base + EVT_THREAD_STARTUP, 0, WINDOW_ALL(CRD_OBJ)) !=
          0);
    for (unsigned i = 0; i < 4; i++) {
        thread_global(&slot[i], SEL_PD, 0, IP(raises), i);
        victim[i] = slot[i];
        victim[i].ec = sel_new();
        CHECK_EQ(nova_create_ec(victim[i].ec, SEL_PD, utcb_new(), abi_cpu[0], slot[i].sp, base, true), NOVA_SUCCESS);
        thread_run(&victim[i], PRIO_MAIN - 2 + i);
    }
    for (unsigned i = 0; i < 4; i++)
        wait_for(done);
    CHECK_EQ(steps, 4);
}

/* The portal that a helper waits for goes: its call ends with BAD_CAP, and when the server is busy again it does not wait for that. */
static sel_t second;
ENTRY(waits_once) {
    (void)rdi;
    wake_up(done);
    wait_for(gate[0]);
}
ENTRY(helps_in_vain) {
    (void)rdi;
    status[1] = nova_call(second);
    pause_us(20000); /* scheduled anew: it is this that has to run, not the server */
    wake_up(gate_m);
}
ENTRY(calls_twice) {
    (void)rdi;
    status[0] = nova_call(pt[0]);
    pause_us(1000);
    status[2] = nova_call(pt[0]);
    wake_up(gate_h);
}
static void helping_portal_gone(void) {
    portals(1, IP(waits_once));
    gate_m = sm_new(0), gate_h = sm_new(0), status[0] = status[1] = status[2] = 99;
    second = portal_new(&server[0], 0, IP(waits_once));
    thread_start(&client[0], 0, PRIO_MAIN - 1, IP(calls_twice), 0);
    wait_for(done);
    thread_start(&client[1], 0, PRIO_MAIN - 1, IP(helps_in_vain), 1);
    pause_us(500);
    CHECK_EQ(nova_revoke(crd_obj(second, 0, 0x1f), true), NOVA_SUCCESS);
    wake_up(gate[0]);
    wait_for(done); /* the second call is in the server */
    CHECK_EQ(nova_sm_down(gate_m, false, clock_after_us(WAIT_US / 8)), NOVA_SUCCESS);
    CHECK_EQ(status[0], NOVA_SUCCESS);
    CHECK_EQ(status[1], NOVA_BAD_CAP);
    CHECK_EQ(status[2], 99);
    wake_up(gate[0]);
    wait_for(gate_h);
    CHECK_EQ(status[2], NOVA_SUCCESS);
}

const struct abi_case help_cases[] = {
    CASE(helping_portal_gone), CASE(helping_depth_3),
    CASE(helping_blocked),     CASE(helping_loop_nested),
    CASE(helping_loop_2),      CASE(helping_loop_3),
    CASE(helping_loop_8),      CASE(helping_contention),
    CASE(helping_event),       {0},
};
