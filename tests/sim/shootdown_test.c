/* Goal: after revoke has returned no CPU uses the old translation (ABI section 6), and the simulator's TLB would show it if one did.
 * Method: threads on other CPUs touch a page all the time while root takes it away; a mutant of the machine whose flushes do nothing
 * must be caught. */
#include "simtest.h"
#include "core/cpu.h" /* after it: `cpus` */

#define WINDOW_VA 0x60000000ul
static volatile bool revoked, stop;
static u64 stale, hits;
static sel_t done;

/* #PF in a toucher: it has seen the page gone. The handler ends it. */
static void fault_portal(u64 utcb) {
    struct abi_state *st = &utcb_at(utcb)->state;
    sim_expect_eq(st->qual[1] & ~0xffful, WINDOW_VA);
    sim_expect_eq(st->qual[0] & 4, 4);
    st->mtd = 0;
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
    reply();
}

static void toucher(u64 rdi) {
    (void)rdi;
    u64 v;
    while (!stop) {
        bool before = revoked; /* revoke had returned before the access began */
        sim_mem_read(WINDOW_VA, &v, sizeof(v));
        hits++;
        stale += before;
    }
}

static void revoke_root(u64 cpu) {
    u64 page = WINDOW_VA >> PAGE_SHIFT;
    done = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 2);
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7), page << 12, crd_mem(page, 0, 7)),
                  crd_mem(page, 0, 7));
    for (unsigned c = 0; c < 4; c++) {
        if (c == cpu)
            continue;
        startup_make(c);
        struct thread t = thread_make(c, false, 0);
        portal_make(&t, fault_portal, MTD_QUAL, EVENTS(c) + 14);
        thread_start(c, 10, toucher);
    }
    for (u32 n = sim_choose(SIM_WORKLOAD, 600); n; n--)
        sim_step();
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7), false));
    revoked = true;
    for (unsigned i = 0; i < 3; i++)
        OK(nova_sm_down(done, false, sim_clock() + 10000000)); /* all three fault */
    sim_expect_eq(stale, 0);
    sim_expect(sim_mem_probe(RAM_VA, true)); /* the named range itself stays */
    stop = true;
    sim_done();
}
static void revoke_flushes_all_cpus(void **s) {
    (void)s;
    scenario(revoke_root, 4, 150);
}
static void missing_flush_is_noticed(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 4, .root = revoke_root, .no_flush = true};
    assert_in_range(sim_count(&o, 1, 10, SIM_FAILED), 8, 10);
}

/* Rights of a mapping in use shrink: the next write faults, reads go on. */
static void reduce_root(u64 cpu) {
    (void)cpu;
    u64 page = WINDOW_VA >> PAGE_SHIFT, v = 42, r = 0;
    ram_map(ABI_ROOT_UTCB, 9);
    sim_mem_write(RAM_VA + 0x3000, &v, 8);
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_mem(RAM_VA >> PAGE_SHIFT, 2, 7), page << 12, crd_mem(page, 2, 7)),
                  crd_mem(page, 2, 7));
    sim_expect(sim_mem_probe(WINDOW_VA + 0x3000, true));
    OK(nova_revoke(crd_mem((RAM_VA >> PAGE_SHIFT) + 3, 0, PERM_MEM_W | PERM_MEM_X), false));
    sim_expect(!sim_mem_probe(WINDOW_VA + 0x3000, true));
    sim_expect(!sim_mem_exec(WINDOW_VA + 0x3000));
    sim_mem_read(WINDOW_VA + 0x3000, &r, 8);
    sim_expect_eq(r, 42);
    sim_expect(sim_mem_probe(WINDOW_VA + 0x2000, true)); /* the neighbour keeps its rights */
    u64 crd = crd_mem(page + 3, 0, 0);
    OK(nova_lookup(&crd));
    sim_expect_eq(crd, crd_mem(page + 3, 0, PERM_MEM_R));
    sim_done();
}
static void rights_shrink_at_once(void **s) {
    (void)s;
    scenario(reduce_root, 2, 30);
}

/* A range of 2 MiB in small pages, because a table stood there: it goes with the range, and must not before all CPUs have forgotten it, or a
 * walk would go on in what the page has become. In every order; kmem's free compares with the TLBs. */
#define LARGE_VA 0x70000000ul
static sel_t touched, again;
static bool busy; /* the other CPU is in the middle of it all the time, else it comes from and goes to idle */
static void table_user(u64 rdi) {
    (void)rdi;
    u64 v;
    for (bool first = true;; first = false) {
        sim_mem_read(LARGE_VA + PAGE_SIZE, &v, sizeof(v));
        if (busy && !first)
            continue;
        up(touched);
        if (!busy)
            down(again);
    }
}
static void table_fault(u64 utcb) {
    (void)utcb;
    up(touched);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}
static void table_root(u64 cpu) {
    u64 page = LARGE_VA >> PAGE_SHIFT, ram = RAM_VA >> PAGE_SHIFT;
    unsigned other = (unsigned)cpu ^ 1;
    touched = sem_make(0), again = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 9);
    (void)grab(ABI_ROOT_UTCB, crd_mem(ram, 0, 7), page << 12, crd_mem(page, 0, 7));
    OK(nova_revoke(crd_mem(ram, 0, 7), false));
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_mem(ram, 9, 7), page << 12, crd_mem(page, 9, 7)), crd_mem(page, 9, 7));
    startup_make(other);
    struct thread t = thread_make(other, false, 0);
    portal_make(&t, table_fault, MTD_QUAL, EVENTS(other) + 14);
    thread_start(other, 10, table_user);
    down(touched);
    sim_begin();
    up(again);
    OK(nova_revoke(crd_mem(ram, 9, 7), false));
    down(touched); /* before, or by its fault */
    sim_done();
}
static void table_is_freed_after_the_flush(void **s) {
    (void)s;
    for (unsigned i = 0; i < 2; i++) {
        busy = i;
        every_schedule(table_root, DEEP, false);
    }
}

/* A CPU that has nothing to do keeps no domain's tables: nobody wakes it to forget them. */
static void sleeper(u64 rdi) {
    toucher(rdi);
    (void)nova_sm_down(0x50, false, 0); /* never */
}
static void sleeping_root(u64 cpu) {
    u64 page = WINDOW_VA >> PAGE_SHIFT;
    unsigned other = (unsigned)cpu ^ 1;
    stop = false;
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 2);
    (void)grab(ABI_ROOT_UTCB, crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7), page << 12, crd_mem(page, 0, 7));
    startup_make(other);
    thread_start(other, 10, sleeper);
    while (!hits)
        sim_step();
    stop = true;
    while (!sim_cpu_is_idle(other))
        sim_step();
    u64 ipis = cpus[other]->counters[CNT_IPI];
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7), false));
    sim_expect_eq(cpus[other]->counters[CNT_IPI], ipis);
    sim_done();
}
static void idle_cpu_is_left_alone(void **s) {
    (void)s;
    scenario(sleeping_root, 2, 30);
}

/* Nor does it wait for anything when objects die elsewhere, while a third CPU has to pass. New memory needs no flush at all. */
static void spinner(u64 rdi) {
    (void)rdi;
    for (hits++; !stop;)
        sim_step();
    (void)nova_sm_down(0x50, false, 0); /* never */
}
static void grace_root(u64 cpu) {
    unsigned sleeping = (unsigned)(cpu + 1) % 3, passing = (unsigned)(cpu + 2) % 3;
    stop = false;
    OK(nova_create_sm(0x50, SEL_PD, 0));
    startup_make(passing);
    u64 shootdowns = cpus[cpu]->counters[CNT_SHOOTDOWN];
    thread_start(passing, 10, spinner);
    sim_expect_eq(cpus[cpu]->counters[CNT_SHOOTDOWN], shootdowns);
    while (!hits || !sim_cpu_is_idle(sleeping))
        sim_step();
    u64 ipis = cpus[sleeping]->counters[CNT_IPI];
    for (unsigned i = 0; i < 5; i++) {
        OK(nova_create_sm(0x51, SEL_PD, 0));
        OK(nova_revoke(crd_obj(0x51, 0, 0x1f), true));
        while (cpus[cpu]->rcu.count)
            sim_step();
    }
    sim_expect_eq(cpus[sleeping]->counters[CNT_IPI], ipis);
    stop = true;
    sim_done();
}
static void idle_cpu_sleeps_through_grace_periods(void **s) {
    (void)s;
    scenario(grace_root, 3, 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revoke_flushes_all_cpus), cmocka_unit_test(missing_flush_is_noticed),
        cmocka_unit_test(rights_shrink_at_once),   cmocka_unit_test(table_is_freed_after_the_flush),
        cmocka_unit_test(idle_cpu_is_left_alone),  cmocka_unit_test(idle_cpu_sleeps_through_grace_periods),
    };
    return cmocka_run_group_tests_name("sim shootdown", tests, NULL, NULL);
}
