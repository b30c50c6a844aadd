/* Goal: any object can be destroyed in any state of use: its caller, its callee, a helper, a blocked, a running, a waiting EC, one in a guest or in an
 * event (ABI sections 2 "Lifetime" and 6 "Revocation while in use"; kernel-design.md 3, "double free, reference count not zero").
 * Method: on each of two CPUs a chain client -> server of domain X -> server of domain Y that spins or blocks, helpers on both, a thread of X blocked, a
 * handler busy with a thread's fault, a guest of domain Z. Objects are taken away in random order at random times; calls must come back with a
 * status that fits, invariants hold all the time, and in the end every byte is back. */
#include "core/ec.h"
#include "core/pd.h"
#include "simtest.h"

#define NEVER  0x50ul
#define CPUS   2u
#define BLOCK  0x2000ul /* 64 selectors for each CPU: all that is destroyed */
#define COPIES 0x3000ul /* 512 selectors that X and Y have at 0: 0x40 events for each CPU, from 0x100 the block */
#define UTCB_X 0x60000000ul
enum role {
    PD_X,
    PD_Y,
    PD_Z,
    EC_1,
    EC_2,
    PT_1,
    PT_2,
    EC_H,
    EC_BLOCKED,
    SC_BLOCKED,
    EC_FAULTS,
    SC_FAULTS,
    EC_GUEST,
    SC_GUEST,
    SM_GATE,
    EC_A,
    SC_A,
    EC_B,
    SC_B,
    ROLES
};

static u32 pick(u32 n) { return sim_choose(SIM_WORKLOAD, n); }
static sel_t sel(unsigned cpu, enum role r) { return BLOCK + 64 * cpu + r; }
static volatile bool spin[CPUS];
static bool survives[CPUS], ended[CPUS]; /* client A */
static unsigned statuses[16];

static sel_t in_child(unsigned cpu, enum role r) { return 0x100 + 64 * cpu + r; }
#define CHILD_NEVER 0x1f0ul
static void server_2(u64 cpu) {
    if (pick(2))
        for (unsigned i = 0; i < 1000000 && spin[cpu]; i++)
            sim_step();
    else
        (void)nova_sm_down(in_child((unsigned)cpu, SM_GATE), false, 0);
    reply();
}
static void server_1(u64 cpu) {
    (void)nova_call(in_child((unsigned)cpu, PT_2));
    reply();
}
static void client(u64 rdi) {
    unsigned c = sim_cpu();
    (void)rdi;
    for (unsigned i = 0; i < 3; i++) {
        u64 status = nova_call(sel(c, pick(3) ? PT_1 : PT_2));
        sim_expect(status == NOVA_SUCCESS || status == NOVA_ABORTED || status == NOVA_BAD_CAP);
        statuses[status % 16]++;
    }
}
static void client_a(u64 rdi) {
    client(rdi);
    ended[sim_cpu()] = true;
}
static void blocked(u64 rdi) {
    (void)rdi;
    u64 status = nova_sm_down(in_child(sim_cpu(), SM_GATE), false, 0);
    sim_expect(status == NOVA_SUCCESS || status == NOVA_BAD_CAP);
    (void)nova_sm_down(CHILD_NEVER, false, 0);
}
static void faulting(u64 rdi) {
    (void)rdi;
    u64 v;
    sim_mem_read(0x7f0000000, &v, sizeof(v));
}
static void handler(u64 rdi) { /* busy for long with somebody's fault */
    (void)rdi;
    for (unsigned i = pick(400); i; i--)
        sim_step();
    reply();
}
static const struct sim_guest_step guest[] = {{SIM_G_READ, 0, 0x5000}, {SIM_G_SPIN, 0, 0}};
static struct thread vm_handler[CPUS];
static unsigned nested_fault(void) { return sim_is_intel() ? EVT_VMX_EPT : EVT_SVM_NPF; }
static void on_vm(u64 pid) {
    struct abi_utcb *u = utcb_at(vm_handler[pid >> 8].utcb);
    struct abi_state *st = &u->state;
    if ((pid & 0xff) == EVT_VCPU_STARTUP) {
        *st = (struct abi_state){.rip = (u64)guest,
                                 .rflags = 2,
                                 .cr0 = 0x10,
                                 .dr7 = 0x400,
                                 .cs = {0, 0x93, 0xffff, 0},
                                 .ss = {0, 0x93, 0xffff, 0},
                                 .ctrl = {0, !sim_is_intel()}};
        st->mtd = MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS;
    } else {
        st->mtd = 0;
        u->w[UTCB_WORDS - 2] = crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7);
        u->w[UTCB_WORDS - 1] = 5ul << 12 | ITEM_G | ITEM_DELEGATE;
        u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
    }
    reply();
}

static void copy(sel_t from, sel_t to) {
    (void)grab(ABI_ROOT_UTCB, crd_obj(from, 0, 0x1f), (COPIES + to) << 12, crd_obj(0, 31, 0x1f));
}
static void thread_of(unsigned c, sel_t owner, enum role ec, u64 utcb, void (*fn)(u64), u64 base, unsigned prio) {
    OK(nova_create_ec(sel(c, ec), owner, utcb, c, (u64)fn, base, true));
    OK(nova_create_sc(sel(c, ec + 1), owner, sel(c, ec), QPD_MAKE(prio, 100 + pick(2000))));
}
/* Everything of one CPU. */
static void world_make(unsigned c) {
    u64 events = 0x40 * c, caps = crd_obj(COPIES, 9, 0x1f);
    sel_t vm = 0x4000 + 0x100 * c;
    spin[c] = true, ended[c] = false;
    OK(nova_create_sm(sel(c, SM_GATE), SEL_PD, 0));
    copy(sel(c, SM_GATE), in_child(c, SM_GATE));
    copy(NEVER, CHILD_NEVER);
    copy(EVENTS(c) + EVT_THREAD_STARTUP, events + EVT_THREAD_STARTUP);
    OK(nova_create_ec(sel(c, EC_H), SEL_PD, UTCB_X + 0x20000 + 0x1000 * c, c, 0, EVENTS(c), false));
    OK(nova_create_pt(COPIES + events + 14, SEL_PD, sel(c, EC_H), 0, PORTAL(handler)));
    OK(nova_create_pd(sel(c, PD_Y), SEL_PD, caps));
    OK(nova_create_ec(sel(c, EC_2), sel(c, PD_Y), UTCB_X + 0x1000, c, 0, events, false));
    OK(nova_create_pt(sel(c, PT_2), SEL_PD, sel(c, EC_2), 0, PORTAL(server_2)));
    OK(nova_pt_ctrl(sel(c, PT_2), c));
    copy(sel(c, PT_2), in_child(c, PT_2));
    OK(nova_create_pd(sel(c, PD_X), SEL_PD, caps));
    OK(nova_create_ec(sel(c, EC_1), sel(c, PD_X), UTCB_X, c, 0, events, false));
    OK(nova_create_pt(sel(c, PT_1), sel(c, PD_X), sel(c, EC_1), 0, PORTAL(server_1)));
    OK(nova_pt_ctrl(sel(c, PT_1), c));
    OK(nova_create_pt(vm + EVT_VCPU_STARTUP, SEL_PD, vm_handler[c].ec, 0, PORTAL(on_vm)));
    OK(nova_pt_ctrl(vm + EVT_VCPU_STARTUP, c << 8 | EVT_VCPU_STARTUP));
    OK(nova_create_pt(vm + nested_fault(), SEL_PD, vm_handler[c].ec, 0, PORTAL(on_vm)));
    OK(nova_pt_ctrl(vm + nested_fault(), c << 8 | nested_fault()));
    OK(nova_create_pd(sel(c, PD_Z), SEL_PD, crd_obj(vm, 8, 0x1f)));
    OK(nova_create_ec(sel(c, EC_GUEST), sel(c, PD_Z), 0, c, 0, 0, true));
    OK(nova_create_sc(sel(c, SC_GUEST), SEL_PD, sel(c, EC_GUEST), QPD_MAKE(10, 500)));
    thread_of(c, sel(c, PD_X), EC_BLOCKED, UTCB_X + 0x2000, blocked, events, 30);
    thread_of(c, sel(c, PD_X), EC_FAULTS, UTCB_X + 0x3000, faulting, events, 10);
    thread_of(c, SEL_PD, EC_A, UTCB_X + 0x10000 + 0x2000 * c, client_a, EVENTS(c), 20);
    thread_of(c, SEL_PD, EC_B, UTCB_X + 0x11000 + 0x2000 * c, client, EVENTS(c), 22);
}
static void nap(void) {
    if (pick(2)) {
        (void)nova_sm_down(NEVER, false, sim_clock() + 10 * pick(400));
        return;
    }
    for (u32 n = pick(100); n; n--)
        sim_step();
}
static void world_end(void) {
    u8 order[CPUS * ROLES];
    for (unsigned i = 0; i < sizeof(order); i++)
        order[i] = (u8)i;
    for (unsigned i = sizeof(order) - 1; i; i--) { /* Fisher, Yates */
        unsigned k = pick(i + 1);
        u8 t = order[i];
        order[i] = order[k], order[k] = t;
    }
    for (unsigned i = 0; i < sizeof(order); i++) {
        unsigned c = order[i] / ROLES, r = order[i] % ROLES;
        if (survives[c] && (r == EC_A || r == SC_A))
            continue;
        nap();
        if (!pick(8))
            spin[pick(CPUS)] = false;
        if (!pick(8))
            (void)nova_sm_up(sel(pick(CPUS), SM_GATE));
        OK(nova_revoke(crd_obj(sel(c, r), 0, 0x1f), true));
    }
    for (unsigned c = 0; c < CPUS; c++)
        for (unsigned i = 0; i < 100 && survives[c] && !ended[c]; i++)
            (void)nova_sm_down(NEVER, false, sim_clock() + 100000);
    for (unsigned c = 0; c < CPUS; c++)
        sim_expect(!survives[c] || ended[c]); /* its calls have come back: all servers are gone */
    OK(nova_revoke(crd_obj(BLOCK, 7, 0x1f), true));
    OK(nova_revoke(crd_obj(COPIES, 9, 0x1f), true));
    OK(nova_revoke(crd_obj(0x4000, 9, 0x1f), true));
}
static u64 use_now(void) {
    u64 out[2];
    for (unsigned i = 0; i < 5; i++)
        sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 200000), NOVA_TIMEOUT);
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}
static void destroy_root(u64 cpu) {
    (void)cpu;
    u64 before = 0;
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 1);
    for (unsigned c = 0; c < CPUS; c++) {
        startup_make(c);
        vm_handler[c] = thread_make(c, false, 0);
    }
    for (unsigned round = 0; round < 3; round++) { /* the first fills root's tables */
        for (unsigned c = 0; c < CPUS; c++) {
            survives[c] = pick(2);
            world_make(c);
        }
        world_end();
        u64 now = use_now();
        if (round)
            sim_expect_eq(now, before);
        before = now;
    }
    sim_log("sim: calls: %u done, %u aborted, %u without portal\n", statuses[NOVA_SUCCESS], statuses[NOVA_ABORTED],
            statuses[NOVA_BAD_CAP]);
    sim_done();
}
static void destroyed_in_every_role(void **s) {
    (void)s;
    scenario(destroy_root, CPUS, FEW(150));
}

/* --- every schedule of a thread that is made in a domain which dies: it is dead, too --- */
#define LATE_PD 0x2000ul
static sel_t late_go, late_begun, late_done;
static u64 late_status;
static void late_answer(u64 rdi) {
    (void)rdi;
    reply();
}
static void late_maker(u64 rdi) {
    (void)rdi;
    down(late_go);
    up(late_begun);
    late_status = nova_create_ec(LATE_PD + 1, LATE_PD, UTCB_BASE, 0, 0, 0, false);
    up(late_done);
    (void)nova_sm_down(0x50, false, 0); /* never */
}
static void late_root(u64 cpu) {
    sim_expect_eq(cpu, 0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    late_go = sem_make(0), late_begun = sem_make(0), late_done = sem_make(0);
    OK(nova_create_pd(LATE_PD, SEL_PD, 0));
    startup_make(1);
    thread_start(1, 10, late_maker);
    sim_begin();
    up(late_go);
    down(late_begun);
    OK(nova_revoke(crd_obj(LATE_PD, 0, 0x1f), true));
    down(late_done);
    sim_expect_eq(nova_sm_down(0x50, false, sim_clock() + 50000), NOVA_TIMEOUT);
    if (late_status == NOVA_SUCCESS) {
        OK(nova_create_pt(LATE_PD + 2, SEL_PD, LATE_PD + 1, 0, PORTAL(late_answer)));
        sim_expect_eq(nova_call(LATE_PD + 2), NOVA_ABORTED);
    }
    sim_done();
}
static void thread_made_too_late_is_dead(void **s) {
    (void)s;
    every_schedule(late_root, DEEP, false);
    every_schedule(late_root, DEEP, true);
}

/* --- an SC that dies while a server has its time: with the reply its thread stops --- */
static sel_t lender_sc, lender_pt;
static bool lender_went_on;
static void takes_its_time(u64 rdi) {
    (void)rdi;
    OK(nova_revoke(crd_obj(lender_sc, 0, 0x1f), true));
    reply();
}
static void lends(u64 rdi) {
    (void)rdi;
    (void)nova_call(lender_pt);
    lender_went_on = true;
    for (;;)
        sim_step();
}
static void lender_root(u64 cpu) {
    startup_make((unsigned)cpu);
    struct thread s = thread_make((unsigned)cpu, false, 0), t = thread_make((unsigned)cpu, true, (u64)lends);
    lender_pt = portal_make(&s, takes_its_time, 0, sel_new());
    lender_sc = sel_new();
    sel_t never = sem_make(0);
    OK(nova_create_sc(lender_sc, SEL_PD, t.ec, QPD_MAKE(100, 1000000)));
    sim_expect_eq(nova_sm_down(never, false, sim_clock() + 100000), NOVA_TIMEOUT);
    sim_expect(!lender_went_on);
    sim_done();
}
static void lender_stops_with_the_reply(void **s) {
    (void)s;
    scenario(lender_root, 2, 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lender_stops_with_the_reply),
        cmocka_unit_test(destroyed_in_every_role),
        cmocka_unit_test(thread_made_too_late_is_dead),
    };
    return cmocka_run_group_tests_name("sim destroy", tests, NULL, NULL);
}
