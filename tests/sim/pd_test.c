/* Goal: protection domains come and go without leaving anything behind, also while they are in use, and no failed allocation
 * changes or loses anything (ABI sections 2 "Lifetime", 5 "BAD_MEM").
 * Method: kernel memory is compared before and after, on an idle machine; then the Nth allocation fails, for every N. */
#include "simtest.h"

#define CHILD_VA 0x60000000ul
static sel_t done;
static sel_t block;

/* Kernel memory in use, once all CPUs have been idle for a moment: grace periods are over, dying PDs are gone. Exact in the bytes
 * that root is charged for; in pages a slab cache may keep one empty slab. */
struct use {
    u64 bytes, pages_free;
};
#define CACHES 8
static struct use use_now(void) {
    u64 out[2], bytes[2];
    for (unsigned i = 0; i < 4; i++)
        sim_expect_eq(nova_sm_down(block, false, sim_clock() + 100000), NOVA_TIMEOUT);
    OK(nova_extension(EXT_KMEM_FREE, 0, 0, out));
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, bytes));
    return (struct use){bytes[0], out[0]};
}
static void use_check(struct use before) {
    struct use now = use_now();
    sim_expect_eq(now.bytes, before.bytes);
    sim_expect(now.pages_free + CACHES >= before.pages_free);
}

static void nothing(u64 rdi) { (void)rdi; }

/* A PD with memory, ports, a UTCB, a server with a portal, a semaphore, a thread that runs; `late`: the number of allocations that
 * succeed before one fails, 0: all do. Returns whether everything was made. */
static bool family(unsigned cpu, u64 late) {
    sel_t pd = sel_new(), ec = sel_new(), pt = sel_new(), sm = sel_new(), global = sel_new(), sc = sel_new();
    bool ok = true;
    u64 status[6];
    sim_fail_alloc(late);
    status[0] = nova_create_pd(pd, SEL_PD, crd_obj(EVENTS(cpu), 5, 0x1f));
    status[1] = nova_create_ec(ec, pd, CHILD_VA, cpu, 0, 0, false);
    status[2] = nova_create_pt(pt, pd, ec, 0, (u64)nothing);
    status[3] = nova_create_sm(sm, pd, 1);
    status[4] = nova_create_ec(global, pd, CHILD_VA + 0x1000, cpu, (u64)nothing, 0, true);
    status[5] = nova_create_sc(sc, SEL_PD, global, QPD_MAKE(10, 1000));
    sim_fail_alloc(0);
    for (unsigned i = 0; i < 6; i++) {
        sim_expect(status[i] == NOVA_SUCCESS || (late && (status[i] == NOVA_BAD_MEM || status[i] == NOVA_BAD_CAP)));
        ok &= status[i] == NOVA_SUCCESS;
    }
    if (ok && cpu == sim_cpu() && sim_choose(SIM_WORKLOAD, 2))
        OK(nova_call(pt));
    /* the PD first or last */
    if (sim_choose(SIM_WORKLOAD, 2))
        OK(nova_revoke(crd_obj(pd, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(ec & ~7ul, 3, 0x1f), true));
    OK(nova_revoke(crd_obj(pd & ~7ul, 3, 0x1f), true));
    OK(nova_revoke(crd_obj(sc & ~7ul, 3, 0x1f), true));
    return ok;
}

static void churn_root(u64 cpu) {
    (void)cpu;
    block = sem_make(0);
    for (unsigned c = 0; c < 4; c++)
        startup_make(c);
    next_sel = 0x2000;
    struct use before = {0, 0};
    for (unsigned i = 0; i < 24; i++) {
        if (i == 12)
            before = use_now(); /* caches are as full as they get */
        next_sel = 0x2000;
        family(i % 4, 0);
    }
    use_check(before);
    sim_done();
}
static void create_and_destroy_leaves_nothing(void **s) {
    (void)s;
    scenario(churn_root, 4, 60);
}

static void many_root(u64 cpu) {
    block = sem_make(0);
    sel_t pd = sel_new();
    struct use before = {0, 0};
    for (unsigned i = 0; i < 3000; i++) {
        if (i == 10)
            before = use_now();
        OK(nova_create_pd(pd, SEL_PD, 0));
        OK(nova_create_ec(pd + 1, pd, CHILD_VA, (u32)cpu, 0, 0, false));
        OK(nova_revoke(crd_obj(pd, 0, 0x1f), true));
        OK(nova_revoke(crd_obj(pd + 1, 0, 0x1f), true));
    }
    use_check(before);
    sim_done();
}
static void many_process_starts(void **s) {
    (void)s;
    scenario(many_root, 2, 4);
}

static void fail_root(u64 cpu) {
    block = sem_make(0);
    startup_make((unsigned)cpu);
    next_sel = 0x2000;
    family((unsigned)cpu, 0);
    struct use before = use_now();
    for (u64 n = 1;; n++) {
        next_sel = 0x2000;
        bool ok = family((unsigned)cpu, n);
        use_check(before);
        if (ok)
            break;
        sim_expect(n < 200);
        if (n >= 200)
            break;
    }
    sim_done();
}
static void every_allocation_may_fail(void **s) {
    (void)s;
    scenario(fail_root, 2, 12);
}

/* Delegation of memory into a child with the Nth allocation failing: what the child has is in its tables, or not at all. */
static void delegate_fail_root(u64 cpu) {
    (void)cpu;
    block = sem_make(0);
    ram_map(ABI_ROOT_UTCB, 4);
    u64 to = 0x70000000ul >> PAGE_SHIFT;
    for (u64 n = 1; n < 12; n++) {
        utcb_at(grab_thread.utcb)->del = crd_mem(to, 4, 7);
        struct abi_utcb *u = utcb_at(ABI_ROOT_UTCB);
        u->items = UTCB_ITEMS(0, 1);
        u->w[UTCB_WORDS - 2] = crd_mem(RAM_VA >> PAGE_SHIFT, 4, 3);
        u->w[UTCB_WORDS - 1] = to << 12 | ITEM_DELEGATE;
        sim_fail_alloc(n);
        u64 status = nova_call(grab_pt);
        sim_fail_alloc(0);
        sim_expect(status == NOVA_SUCCESS || status == NOVA_BAD_MEM);
        u64 crd = crd_mem(to, 0, 0);
        OK(nova_lookup(&crd));
        sim_expect_eq(sim_mem_probe(to << PAGE_SHIFT, true), CRD_TYPE(crd) == CRD_MEM);
        sim_expect(!sim_mem_exec(to << PAGE_SHIFT));
        OK(nova_revoke(crd_mem(to, 4, 7), true));
        sim_expect(!sim_mem_probe(to << PAGE_SHIFT, false));
    }
    sim_done();
}
static void delegation_may_fail(void **s) {
    (void)s;
    scenario(delegate_fail_root, 2, 20);
}

/* A PD dies while its server is called from outside: the caller gets ABORTED, on time. */
static sel_t victim_pt, victim_pd;
static u64 outcomes[3];
static void slow_server(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 400; i++)
        sim_step();
    reply();
}
static void caller(u64 rdi) {
    (void)rdi;
    u64 status = nova_call(victim_pt);
    sim_expect(status == NOVA_SUCCESS || status == NOVA_ABORTED || status == NOVA_BAD_CAP);
    outcomes[status == NOVA_SUCCESS ? 0 : status == NOVA_ABORTED ? 1 : 2]++;
    up(done);
}
static void death_root(u64 cpu) {
    unsigned other = (unsigned)cpu ^ 1;
    done = sem_make(0), block = sem_make(0);
    startup_make(other);
    victim_pd = sel_new();
    victim_pt = sel_new();
    sel_t ec = sel_new();
    OK(nova_create_pd(victim_pd, SEL_PD, 0));
    OK(nova_create_ec(ec, victim_pd, CHILD_VA, other, 0, 0, false));
    OK(nova_create_pt(victim_pt, SEL_PD, ec, 0, (u64)slow_server));
    for (unsigned i = 0; i < 3; i++)
        thread_start(other, 10 + i, caller); /* one inside, the others help */
    for (u32 n = sim_choose(SIM_WORKLOAD, 1500); n; n--)
        sim_step();
    OK(nova_revoke(crd_obj(victim_pd, 0, 0x1f), true));
    for (unsigned i = 0; i < 3; i++)
        OK(nova_sm_down(done, false, sim_clock() + 10000000));
    sim_expect_eq(outcomes[0] + outcomes[1] + outcomes[2], 3);
    sim_expect_eq(nova_sm_down(block, false, sim_clock() + 100000), NOVA_TIMEOUT);
    sim_done();
}
static void death_aborts_callers(void **s) {
    (void)s;
    scenario(death_root, 2, 150);
}

/* A small pool, a CPU that is always busy, and a family a round: grace periods keep up, no creation ever fails. */
#define PRESSURE_ROUNDS 150
static bool churn_over;
static void busy(u64 rdi) {
    (void)rdi;
    while (!__atomic_load_n(&churn_over, __ATOMIC_RELAXED))
        sim_step();
    up(done);
}
static void pressure_root(u64 cpu) {
    done = sem_make(0);
    for (unsigned c = 0; c < 2; c++)
        startup_make(c);
    thread_start(!cpu, 10, busy);
    sel_t family_at = sel_new() + 8, pd = family_at & ~7ul;
    for (unsigned i = 0; i < PRESSURE_ROUNDS; i++) {
        OK(nova_create_pd(pd, SEL_PD, 0));
        for (unsigned k = 0; k < 4; k++)
            OK(nova_create_ec(pd + 1 + k, pd, CHILD_VA + k * PAGE_SIZE, k % 2, 0, 0, false));
        OK(nova_revoke(crd_obj(pd, 3, 0x1f), true));
    }
    __atomic_store_n(&churn_over, true, __ATOMIC_RELAXED);
    down(done);
    sim_done();
}
static void churn_never_outruns_grace_periods(void **s) {
    (void)s;
    const struct sim_options o = {.cpus = 2, .root = pressure_root, .pool = 512ul << 10, .check_every = 64};
    assert_int_equal(sim_seeds(&o, 1, 40, SIM_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(create_and_destroy_leaves_nothing), cmocka_unit_test(many_process_starts),
        cmocka_unit_test(every_allocation_may_fail),         cmocka_unit_test(delegation_may_fail),
        cmocka_unit_test(churn_never_outruns_grace_periods), cmocka_unit_test(death_aborts_callers),
    };
    return cmocka_run_group_tests_name("sim pd", tests, NULL, NULL);
}
