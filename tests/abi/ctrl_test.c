/* Goal: ec_ctrl, sc_ctrl, pt_ctrl (rows 9 to b) and scheduling: priorities, budgets. */
#include "abi.h"

static struct thread thread, other, server;
static sel_t done, go;
static u64 pid, order[8], steps;

/* --- recall --- */
static u64 recalls;
ENTRY(on_recall) {
    const struct thread *t = (const struct thread *)rdi;
    recalls++;
    CHECK_EQ(utcb_get(t, 0), MTD_RIP);
    utcb_put(t, 0, 0);
}
/* A thread with a recall portal of its own: event base `base`, all others as usual. */
static void recall_thread(unsigned cpu, u64 ip) {
    sel_t base = sels_new(5);
    recalls = 0;
    done = sm_new(0), go = sm_new(0);
    thread_local(&server, SEL_PD, cpu);
    CHECK_EQ(grab(crd_obj(EVENTS(cpu), 5, 0x1f), base, 0, WINDOW_ALL(CRD_OBJ)), crd_obj(base, 5, 0x1f));
    CHECK_EQ(nova_revoke(crd_obj(base + EVT_THREAD_RECALL, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(base + EVT_THREAD_RECALL, SEL_PD, server.ec, MTD_RIP, ip), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(base + EVT_THREAD_RECALL, (u64)&server), NOVA_SUCCESS);
    thread.ec = sel_new();
    thread.cpu = cpu;
    thread.utcb = utcb_new();
    CHECK_EQ(base & 31, 0);
    other = thread;
    thread_global(&other, SEL_PD, cpu, 0, 0); /* its stack slot finds the function at STARTUP */
    CHECK_EQ(nova_revoke(crd_obj(other.ec, 0, 0x1f), true), NOVA_SUCCESS);
    thread.sp = other.sp;
    CHECK_EQ(nova_create_ec(thread.ec, SEL_PD, thread.utcb, abi_cpu[cpu], thread.sp, base, true), NOVA_SUCCESS);
}
ENTRY(waits) {
    (void)rdi;
    wake_up(done);
    wait_for(go);
    wake_up(done);
}
/* Blocked: seen when it next runs. */
static void ec_ctrl_blocked(void) {
    recall_thread(0, IP(on_recall));
    other.ip = IP(waits);
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    pause_us(200);
    CHECK_EQ(nova_recall(thread.ec), NOVA_SUCCESS);
    pause_us(200);
    CHECK_EQ(recalls, 0);
    wake_up(go);
    wait_for(done);
    CHECK_EQ(recalls, 1);
}
static bool stop;
ENTRY(spins) {
    (void)rdi;
    wake_up(done);
    for (u64 end = clock_after_us(WAIT_US); !__atomic_load_n(&stop, __ATOMIC_SEQ_CST) && machine_clock() < end;)
        machine_relax();
    CHECK(stop);
    wake_up(done);
}
ENTRY(recall_stops) {
    const struct thread *t = (const struct thread *)rdi;
    recalls++;
    utcb_put(t, 0, 0);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
}
/* Running on another CPU: forced out. */
static void ec_ctrl_running(void) {
    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    recall_thread(1, IP(recall_stops));
    other.ip = IP(spins);
    thread.sc = sel_new(); /* a quantum that never ends: only the recall itself interrupts */
    CHECK_EQ(nova_create_sc(thread.sc, SEL_PD, thread.ec, QPD_MAKE(PRIO_MAIN, 1000000000)), NOVA_SUCCESS);
    wait_for(done);
    CHECK_EQ(nova_recall(thread.ec), NOVA_SUCCESS);
    wait_for(done);
    CHECK_EQ(recalls, 1);
}
ENTRY(recalls_itself) {
    const struct thread *t = (const struct thread *)rdi;
    (void)t;
    CHECK_EQ(nova_recall(thread.ec), NOVA_SUCCESS);
    CHECK_EQ(recalls, 1); /* before it is back in user mode */
    wake_up(done);
}
static void ec_ctrl_self(void) {
    recall_thread(0, IP(on_recall));
    other.ip = IP(recalls_itself);
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(recalls, 1);
}
static void ec_ctrl_bad_cap(void) {
    thread_local(&thread, SEL_PD, 0);
    CHECK_EQ(nova_recall(sel_new()), NOVA_BAD_CAP);
    CHECK_EQ(nova_recall(SEL_NEVER), NOVA_BAD_CAP);
    CHECK_EQ(nova_recall(copy_new(thread.ec, PERM_EC_SC | PERM_EC_PT)), NOVA_BAD_CAP);
    CHECK_EQ(nova_recall(copy_new(thread.ec, PERM_EC_CT)), NOVA_SUCCESS);
}

/* --- sc_ctrl --- */
static void sc_ctrl_success(void) {
    u64 a, b, c;
    CHECK_EQ(nova_sc_time(SEL_SC, &a), NOVA_SUCCESS);
    burn_us(1000);
    CHECK_EQ(nova_sc_time(SEL_SC, &b), NOVA_SUCCESS);
    CHECK(b - a >= 900);
    pause_us(20000);
    CHECK_EQ(nova_sc_time(SEL_SC, &c), NOVA_SUCCESS);
    CHECK(c >= b && c - b < 15000); /* waiting costs nothing */
}
static void sc_ctrl_registers(void) {
    struct machine_call c = {NOVA_RDI(HC_SC_CTRL, 0, SEL_SC), ~0ul, ~0ul, 3, 4};
    CHECK_EQ(machine_call_checked(&c) & ~(1u << 2 | 1u << 6), 0); /* RSI and RDX are results */
    CHECK_EQ(c.rdi & 0xff, NOVA_SUCCESS);
    CHECK(c.rsi < 1000 && c.rdx <= 0xffffffff);
}
static void sc_ctrl_bad_cap(void) {
    u64 us;
    thread_start(&thread, 0, 1, abi_exit_ip(), 0);
    CHECK_EQ(nova_sc_time(sel_new(), &us), NOVA_BAD_CAP);
    CHECK_EQ(nova_sc_time(SEL_EC, &us), NOVA_BAD_CAP);
    sel_t none = sel_new(); /* SC has one permission: without it there is no capability */
    (void)grab(crd_obj(thread.sc, 0, 0x1e), none, 0, WINDOW_ALL(CRD_OBJ));
    CHECK_EQ(nova_sc_time(none, &us), NOVA_BAD_CAP);
    CHECK_EQ(nova_sc_time(copy_new(thread.sc, PERM_SC_CT), &us), NOVA_SUCCESS);
}

/* --- pt_ctrl --- */
ENTRY(sees_pid) { pid = rdi; }
static void pt_ctrl_success(void) {
    thread_local(&server, SEL_PD, 0);
    sel_t pt = sel_new();
    CHECK_EQ(nova_create_pt(pt, SEL_PD, server.ec, 0, IP(sees_pid)), NOVA_SUCCESS);
    for (u64 v = 1; v; v <<= 9) {
        CHECK_EQ(nova_pt_ctrl(pt, v | 1), NOVA_SUCCESS);
        CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
        CHECK_EQ(pid, v | 1);
    }
    CHECK_EQ(nova_pt_ctrl(copy_new(pt, PERM_PT_CT), ~0ul), NOVA_SUCCESS); /* the object's, not the capability's */
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(pid, ~0ul);
}
static void pt_ctrl_bad_cap(void) {
    thread_local(&server, SEL_PD, 0);
    sel_t pt = portal_new(&server, 0, IP(sees_pid));
    CHECK_EQ(nova_pt_ctrl(sel_new(), 1), NOVA_BAD_CAP);
    CHECK_EQ(nova_pt_ctrl(SEL_NEVER, 1), NOVA_BAD_CAP);
    CHECK_EQ(nova_pt_ctrl(copy_new(pt, PERM_PT_CALL), 1), NOVA_BAD_CAP);
}

/* --- who runs --- */
ENTRY(marks) {
    const struct thread *t = (const struct thread *)rdi;
    order[steps++ % 8] = t->arg;
    wake_up(done);
}
static void priority_decides(void) {
    static struct thread t[4];
    done = sm_new(0), steps = 0;
    thread_start(&t[0], 0, PRIO_MAIN - 30, IP(marks), 1);
    thread_start(&t[1], 0, PRIO_MAIN - 10, IP(marks), 2);
    thread_start(&t[2], 0, PRIO_MAIN - 20, IP(marks), 3);
    CHECK_EQ(steps, 0); /* all below us */
    thread_start(&t[3], 0, PRIO_MAIN + 1, IP(marks), 4);
    CHECK_EQ(steps, 1); /* above us: at once */
    for (unsigned i = 0; i < 4; i++)
        wait_for(done);
    CHECK_EQ(order[0], 4);
    CHECK_EQ(order[1], 2);
    CHECK_EQ(order[2], 3);
    CHECK_EQ(order[3], 1);
}
/* Two of one priority spin until the other one was seen: only the end of a quantum lets the other run. */
static u64 flag[2];
ENTRY(shares) {
    const struct thread *t = (const struct thread *)rdi;
    __atomic_store_n(&flag[t->arg], 1, __ATOMIC_SEQ_CST);
    u64 end = clock_after_us(WAIT_US / 4);
    while (!__atomic_load_n(&flag[1 - t->arg], __ATOMIC_SEQ_CST) && machine_clock() < end)
        machine_relax();
    CHECK(flag[1 - t->arg]);
    wake_up(done);
}
static void quantum_shares(void) {
    done = sm_new(0);
    flag[0] = flag[1] = 0;
    thread_global(&thread, SEL_PD, 0, IP(shares), 0);
    thread_global(&other, SEL_PD, 0, IP(shares), 1);
    thread.sc = sel_new(), other.sc = sel_new();
    CHECK_EQ(nova_create_sc(thread.sc, SEL_PD, thread.ec, QPD_MAKE(PRIO_MAIN - 1, 500)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(other.sc, SEL_PD, other.ec, QPD_MAKE(PRIO_MAIN - 1, 500)), NOVA_SUCCESS);
    wait_for(done);
    wait_for(done);
}

const struct abi_case ctrl_cases[] = {
    CASE(ec_ctrl_blocked), CASE_CPUS(ec_ctrl_running, 2), CASE(ec_ctrl_self),    CASE(ec_ctrl_bad_cap),
    CASE(sc_ctrl_success), CASE(sc_ctrl_registers),       CASE(sc_ctrl_bad_cap), CASE(pt_ctrl_success),
    CASE(pt_ctrl_bad_cap), CASE(priority_decides),        CASE(quantum_shares),  {0},
};
