/* Goal: derivation trees survive delegation and revocation on several CPUs at once (ABI section 2, kernel-design.md 3 "assertion in the
 * mapping tree during concurrent revoke; overlap of partial ranges"), and a revoke that has returned leaves no translation.
 * Method: a thread per CPU delegates, revokes, looks up and touches random aligned ranges of the same 64 pages of root's own space; others
 * make and destroy PDs with capabilities in them. In the end every invariant is checked, the top is revoked and nothing is left. */
#include "core/space.h"
#include "simtest.h"

#define WINDOW 0x60000ul /* page number: 64 pages that are delegated from each other */
#define PAGES  64u
#define ROUNDS 25u
static sel_t done;
static u64 ended;

struct worker {
    struct thread callee;
    sel_t portal;
};
static struct worker workers[4];

static void worker_prepare(unsigned cpu) {
    struct worker *w = &workers[cpu];
    startup_make(cpu);
    w->callee = thread_make(cpu, false, 0);
    w->portal = portal_make(&w->callee, grab_portal, 0, sel_new());
}

static void delegate(struct worker *w, u64 utcb, u64 crd, u64 item, u64 window) {
    utcb_at(w->callee.utcb)->del = window;
    struct abi_utcb *u = utcb_at(utcb);
    u->w[UTCB_WORDS - 2] = crd;
    u->w[UTCB_WORDS - 1] = item | ITEM_DELEGATE;
    u->items = UTCB_ITEMS(0, 1);
    OK(nova_call(w->portal));
    utcb_at(utcb)->items = 0;
}

static u64 range_any(unsigned *order) {
    *order = sim_choose(SIM_WORKLOAD, 5);
    return WINDOW + (sim_choose(SIM_WORKLOAD, PAGES) & ~((1u << *order) - 1));
}

static void memory_step(struct worker *w, u64 utcb) {
    unsigned order, unused;
    u64 page = range_any(&order), to = range_any(&unused), crd, mask = sim_choose(SIM_WORKLOAD, 8);
    switch (sim_choose(SIM_WORKLOAD, 6)) {
    case 0:
        OK(nova_revoke(crd_mem(page, order, (u32)mask), true));
        break;
    case 1:
        OK(nova_revoke(crd_mem(page, order, (u32)mask), false));
        break;
    case 2: /* straight from the pages that root keeps, so that the window does not run dry */
        delegate(w, utcb, crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), page << 12, crd_mem(page, order, 7));
        break;
    case 3:
        crd = crd_mem(page, 0, 0);
        OK(nova_lookup(&crd));
        sim_expect(!CRD_PERM(crd) || (CRD_BASE(crd) <= page && page < CRD_BASE(crd) + (1ul << CRD_ORDER(crd))));
        (void)sim_mem_probe(page << PAGE_SHIFT, true); /* fills the TLB */
        break;
    default:
        delegate(w, utcb, crd_mem(page, order, (u32)mask | 1), (to & ~((1ul << order) - 1)) << 12,
                 crd_mem(WINDOW, 6, 7));
    }
}

static void objects_step(unsigned cpu) {
    sel_t pd = 0x8000 + cpu;
    OK(nova_create_pd(pd, SEL_PD, crd_obj(0x100, 6, 0x1f)));
    if (sim_choose(SIM_WORKLOAD, 2))
        OK(nova_revoke(crd_obj(0x100 + (sim_choose(SIM_WORKLOAD, 64) & ~7u), 3, PERM_SM_UP), false));
    OK(nova_revoke(crd_obj(pd, 0, 0x1f), true));
}

static void worker_main(u64 rdi) {
    (void)rdi;
    unsigned cpu = sim_cpu();
    u64 utcb = 0x30000000ul + cpu * PAGE_SIZE;
    for (unsigned i = 0; i < ROUNDS; i++)
        if (cpu == 3)
            objects_step(cpu);
        else
            memory_step(&workers[cpu], utcb);
    __atomic_fetch_add(&ended, 1, __ATOMIC_RELAXED);
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}

static void random_root(u64 boot) {
    (void)boot;
    space_step_work = 1 + sim_choose(SIM_WORKLOAD, 64); /* often stopped half-way */
    done = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 6);
    for (unsigned i = 0; i < 16; i++)
        (void)sem_make(0); /* something for objects_step to revoke */
    for (unsigned cpu = 0; cpu < 4; cpu++)
        worker_prepare(cpu);
    for (unsigned cpu = 0; cpu < 4; cpu++) {
        struct thread t = {.ec = sel_new(), .utcb = 0x30000000ul + cpu * PAGE_SIZE};
        OK(nova_create_ec(t.ec, SEL_PD, t.utcb, cpu, (u64)worker_main, EVENTS(cpu), true));
        OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 10000)));
    }
    for (unsigned i = 0; i < 4; i++)
        down(done);
    sim_expect_eq(ended, 4);
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), false));
    for (u64 page = WINDOW; page < WINDOW + PAGES; page++) {
        u64 crd = crd_mem(page, 0, 0);
        OK(nova_lookup(&crd));
        sim_expect_eq(CRD_PERM(crd), 0);
        sim_expect(!sim_mem_probe(page << PAGE_SHIFT, false));
    }
    sim_done();
}
static void delegate_against_revoke(void **s) {
    (void)s;
    scenario(random_root, 4, FEW(150));
}

/* --- every schedule of a revoke against a delegation from the middle of what it removes --- */
#define LATE_UTCB 0x30000000ul
static sel_t go;
static void late_delegate(u64 rdi) {
    (void)rdi;
    down(go);
    delegate(&workers[1], LATE_UTCB, crd_mem(WINDOW, 0, 7), (WINDOW + 3) << 12, crd_mem(WINDOW + 3, 0, 7));
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}

static void late_root(u64 boot) {
    (void)boot;
    u64 ram = crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7);
    space_step_work = 1; /* stopped wherever it can be */
    done = sem_make(0), go = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 6);
    worker_prepare(0);
    worker_prepare(1);
    delegate(&workers[0], ABI_ROOT_UTCB, ram, WINDOW << 12, crd_mem(WINDOW, 0, 7));
    for (u64 i = 1; i < 3; i++)
        delegate(&workers[0], ABI_ROOT_UTCB, crd_mem(WINDOW, 0, 7), (WINDOW + i) << 12, crd_mem(WINDOW + i, 0, 7));
    struct thread t = {.ec = sel_new(), .utcb = LATE_UTCB};
    OK(nova_create_ec(t.ec, SEL_PD, t.utcb, 1, (u64)late_delegate, EVENTS(1), true));
    OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 10000)));
    sim_begin();
    up(go);
    OK(nova_revoke(ram, false));
    down(done);
    for (u64 page = WINDOW; page < WINDOW + 4; page++) {
        u64 crd = crd_mem(page, 0, 0);
        OK(nova_lookup(&crd));
        sim_expect_eq(CRD_PERM(crd), 0);
        sim_expect(!sim_mem_probe(page << PAGE_SHIFT, false));
    }
    sim_done();
}
static void late_delegation_finds_nothing(void **s) {
    (void)s;
    every_schedule(late_root, 1, false);
}

/* --- two CPUs need the same new pages of an object table: each is made once --- */
#define FAR 0x3000000ul
static void makes_table(u64 rdi) {
    (void)rdi;
    down(go);
    OK(nova_create_sm(FAR + 1, SEL_PD, 0));
    up(done);
    down(go);
}
static u64 root_used(void) {
    u64 out[2];
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}
static void table_root(u64 boot) {
    (void)boot;
    done = sem_make(0), go = sem_make(0);
    startup_make(1);
    thread_start(1, 10, makes_table);
    OK(nova_create_sm(sel_new(), SEL_PD, 0));
    u64 before = root_used();
    OK(nova_create_sm(sel_new(), SEL_PD, 0));
    u64 sm = root_used() - before;
    sim_begin();
    before = root_used();
    up(go);
    OK(nova_create_sm(FAR, SEL_PD, 0));
    down(done);
    sim_expect_eq(root_used(),
                  before + 2 * sm + 2 * PAGE_SIZE); /* of two levels: the root has that of another selector */
    sim_done();
}
static void table_made_by_two(void **s) {
    (void)s;
    every_schedule(table_root, 1, false);
}

/* --- a PD makes a part of its memory its guests', of which many have the whole, a step at a time --- */
static void widen_root(u64 cpu) {
    (void)cpu;
    u64 ram = RAM_VA >> PAGE_SHIFT;
    space_step_work = 1;
    ram_map(ABI_ROOT_UTCB, 6);
    for (u64 i = 0; i < 12; i++)
        (void)grab(ABI_ROOT_UTCB, crd_mem(ram, 6, 7), (WINDOW + 64 * i) << 12, crd_mem(WINDOW + 64 * i, 6, 7));
    for (unsigned n = 0; n < 2; n++) { /* again: it is a node of its own now */
        u64 part = crd_mem(ram + 16, 2, 7);
        sim_expect_eq(grab(ABI_ROOT_UTCB, part, (ram + 16) << 12 | ITEM_G, part), part);
        OK(nova_lookup(&part));
        sim_expect_eq(part, crd_mem(ram + 16, 2, 7));
    }
    for (u64 i = 0; i < 12 * 64; i++)
        sim_expect(sim_mem_probe((WINDOW + i) << PAGE_SHIFT, true));
    OK(nova_revoke(crd_mem(ram + 16, 2, 7), false));
    for (u64 i = 0; i < 12 * 64; i++)
        sim_expect_eq(sim_mem_probe((WINDOW + i) << PAGE_SHIFT, true), i % 64 < 16 || i % 64 >= 20);
    sim_done();
}
static void part_widened_in_steps(void **s) {
    (void)s;
    scenario(widen_root, 2, 8);
}

/* --- every schedule of a revoke against one that splits what it walks through --- */
static void split_revoke(u64 rdi) {
    (void)rdi;
    down(go);
    OK(nova_revoke(crd_mem(WINDOW + 3, 0, 7),
                   true)); /* makes WINDOW, WINDOW + 2 and WINDOW + 3 of one node, moves its children */
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}
static void split_root(u64 boot) {
    (void)boot;
    space_step_work = 1;
    done = sem_make(0), go = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 6);
    worker_prepare(0);
    startup_make(1);
    delegate(&workers[0], ABI_ROOT_UTCB, crd_mem(RAM_VA >> PAGE_SHIFT, 2, 7), WINDOW << 12, crd_mem(WINDOW, 2, 7));
    for (u64 i = 0; i < 4; i++)
        delegate(&workers[0], ABI_ROOT_UTCB, crd_mem(WINDOW + i, 0, 7), (WINDOW + 8 + i) << 12,
                 crd_mem(WINDOW + 8 + i, 0, 7));
    thread_start(1, 10, split_revoke);
    sim_begin();
    up(go);
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 2, 7), false));
    down(done);
    for (u64 page = WINDOW; page < WINDOW + 12; page++)
        sim_expect(!sim_mem_probe(page << PAGE_SHIFT, false));
    sim_done();
}
static void split_under_a_revoke_leaves_nothing(void **s) {
    (void)s;
    every_schedule(split_root, DEEP, false);
}

/* --- while another CPU's revoke has changed the tables and not flushed yet --- */

#define SLOT     0x70000ul /* page number */
#define OLD_PAGE (RAM_VA >> PAGE_SHIFT)
#define NEW_PAGE (OLD_PAGE + 1)
static volatile bool settled; /* some CPU has returned from the call after which the old page is out of reach */
static unsigned ready;
/* All three at once, each a little later. */
static void start_together(void) {
    (void)sim_mem_probe(SLOT << PAGE_SHIFT, false);
    __atomic_fetch_add(&ready, 1, __ATOMIC_RELAXED);
    while (__atomic_load_n(&ready, __ATOMIC_RELAXED) < 3)
        sim_step();
    for (u32 n = sim_choose(SIM_WORKLOAD, 12); n; n--)
        sim_step();
}
static void park(void) {
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}

static unsigned wide; /* two nodes are taken away, or one: the short way */
static void revoker(u64 rdi) {
    (void)rdi;
    start_together();
    OK(nova_revoke(crd_mem(OLD_PAGE, wide, 7), false));
    settled = true;
    park();
}

static void refiller(u64 rdi) {
    (void)rdi;
    u64 utcb = 0x30000000ul + 2 * PAGE_SIZE, crd;
    start_together();
    do {
        delegate(&workers[2], utcb, crd_mem(NEW_PAGE, 0, PERM_MEM_R), SLOT << 12, crd_mem(SLOT, 0, 7));
        crd = crd_mem(SLOT, 0, 0);
        OK(nova_lookup(&crd));
    } while (CRD_PERM(crd) != PERM_MEM_R); /* still the old page */
    settled = true;
    park();
}

/* The kernel itself puts a page there: a thread's UTCB. */
static void utcb_maker(u64 rdi) {
    (void)rdi;
    sel_t ec = sel_new();
    start_together();
    while (nova_create_ec(ec, SEL_PD, SLOT << PAGE_SHIFT, 2, 0, EVENTS(2), false) != NOVA_SUCCESS)
        sim_step(); /* BAD_PAR: still the old page */
    settled = true;
    park();
}

static void gone_observer(u64 rdi) {
    (void)rdi;
    bool before;
    start_together();
    do {
        before = settled;
        bool seen = sim_mem_probe(SLOT << PAGE_SHIFT, false);
        sim_expect(!(before && seen));
    } while (!before);
    park();
}

static void new_observer(u64 rdi) {
    (void)rdi;
    u64 v = 0;
    start_together();
    while (!settled)
        (void)sim_mem_probe(SLOT << PAGE_SHIFT, false); /* keeps the old translation in this CPU's TLB */
    sim_mem_read(SLOT << PAGE_SHIFT, &v, sizeof(v));
    sim_expect(v != OLD_PAGE);
    park();
}

static void unflushed(void (*second)(u64), void (*first)(u64), void (*observer)(u64)) {
    void (*const body[4])(u64) = {NULL, first, second, observer};
    done = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 1);
    for (u64 page = OLD_PAGE; page <= NEW_PAGE; page++)
        sim_mem_write(page << PAGE_SHIFT, &page, sizeof(page));
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_mem(OLD_PAGE, 0, 7), SLOT << 12, crd_mem(SLOT, 0, 3)), crd_mem(SLOT, 0, 3));
    if (wide)
        (void)grab(ABI_ROOT_UTCB, crd_mem(NEW_PAGE, 0, 7), (SLOT + 8) << 12, crd_mem(SLOT + 8, 0, 3));
    for (unsigned cpu = 1; cpu < 4; cpu++) {
        worker_prepare(cpu);
        struct thread t = {.ec = sel_new(), .utcb = 0x30000000ul + cpu * PAGE_SIZE};
        OK(nova_create_ec(t.ec, SEL_PD, t.utcb, cpu, (u64)body[cpu], EVENTS(cpu), true));
        OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 10000)));
    }
    for (unsigned i = 0; i < 3; i++)
        down(done);
    sim_done();
}

static void second_revoke_root(u64 boot) {
    (void)boot;
    wide = sim_choose(SIM_WORKLOAD, 2);
    unflushed(revoker, revoker, gone_observer);
}
static void second_revoke_waits_for_the_flush(void **s) {
    (void)s;
    scenario(second_revoke_root, 4, 300);
}

static void refill_body(u64 rdi) {
    (void)rdi;
    start_together();
    OK(nova_revoke(crd_mem(OLD_PAGE, 0, 7), false));
    park();
}
static void refill_root(u64 boot) {
    (void)boot;
    unflushed(refiller, refill_body, new_observer);
}
static void utcb_root(u64 boot) {
    (void)boot;
    unflushed(utcb_maker, refill_body, new_observer);
}
static void refilled_slot_shows_the_new_page(void **s) {
    (void)s;
    scenario(refill_root, 4, 200);
    scenario(utcb_root, 4, 100);
}

/* --- who revokes dies meanwhile: what still has the permission can be delegated as before --- */

#define CHAIN      0x9000ul /* each selector has been delegated from the one before */
#define CHAIN_LEN  40u
#define COPY       0x9100ul
#define OWN        0x9200ul /* selectors of the thread that dies */
#define KILL_UTCBS 0x31000000ul
static volatile bool begun;
static void revoke_chain(u64 rdi) {
    (void)rdi;
    begun = true;
    OK(nova_revoke(crd_obj(CHAIN, 0, PERM_SM_DN), true));
    (void)nova_sm_down(0x50, false, 0); /* never, and no reply: a server's caller waits, too */
}
static void call_revoker(u64 rdi) {
    (void)rdi;
    sim_expect_eq(nova_call(OWN + 2), NOVA_ABORTED);
    (void)nova_sm_down(0x50, false, 0);
}
static u64 kmem_used(void) {
    u64 out[2];
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}
static void pause_until_quiet(void) { (void)nova_sm_down(0x50, false, sim_clock() + 50000); }

/* kind 0: its EC and SC go; 1: the SC first; 2: a server with its portal; 3: a server whose caller's SC goes first. */
static void revoker_dies(unsigned kind) {
    bool serves = kind >= 2;
    OK(nova_create_sm(CHAIN, SEL_PD, 0));
    for (sel_t sel = CHAIN; sel < CHAIN + CHAIN_LEN; sel++)
        (void)grab(ABI_ROOT_UTCB, crd_obj(sel, 0, 0x1f), 0, crd_obj(sel + 1, 0, 0x1f));
    begun = false;
    OK(nova_create_ec(OWN, SEL_PD, KILL_UTCBS, 1, (u64)(serves ? call_revoker : revoke_chain), EVENTS(1), true));
    if (serves) {
        OK(nova_create_ec(OWN + 1, SEL_PD, KILL_UTCBS + PAGE_SIZE, 1, 0, EVENTS(1), false));
        OK(nova_create_pt(OWN + 2, SEL_PD, OWN + 1, 0, PORTAL(revoke_chain)));
    }
    OK(nova_create_sc(OWN + 4, SEL_PD, OWN, QPD_MAKE(10, 10000)));
    while (!begun)
        sim_step();
    for (u32 n = sim_choose(SIM_WORKLOAD, 100); n; n--)
        sim_step();
    if (kind == 1 || kind == 3)
        OK(nova_revoke(crd_obj(OWN + 4, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(serves ? OWN + 1 : OWN, serves ? 0 : 2, 0x1f), true));
    if (serves)
        OK(nova_revoke(crd_obj(OWN + 2, 0, 0x1f), true));
    pause_until_quiet();
    OK(nova_revoke(crd_obj(OWN, 3, 0x1f), true)); /* the caller, and what is left */
    pause_until_quiet();
    for (sel_t sel = CHAIN; sel <= CHAIN + CHAIN_LEN; sel++) {
        u64 crd = crd_obj(sel, 0, 0), copy = crd_obj(COPY, 0, 0);
        OK(nova_lookup(&crd));
        (void)grab(ABI_ROOT_UTCB, crd_obj(sel, 0, 0x1f), 0, crd_obj(COPY, 0, 0x1f));
        OK(nova_lookup(&copy));
        sim_expect_eq(CRD_PERM(copy), CRD_PERM(crd));
        OK(nova_revoke(crd_obj(COPY, 0, 0x1f), true));
    }
    OK(nova_revoke(crd_obj(CHAIN, 0, 0x1f), true));
    pause_until_quiet();
}
static void revoker_dies_root(u64 boot) {
    (void)boot;
    space_step_work = 1 + sim_choose(SIM_WORKLOAD, 64);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    startup_make(1);
    unsigned kind = sim_choose(SIM_WORKLOAD, 4);
    revoker_dies(kind);
    u64 used = kmem_used();
    revoker_dies(kind);
    sim_expect_eq(kmem_used(), used);
    sim_done();
}
static void revoker_dies_half_way(void **s) {
    (void)s;
    scenario(revoker_dies_root, 2, FEW(200));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(delegate_against_revoke),
        cmocka_unit_test(late_delegation_finds_nothing),
        cmocka_unit_test(split_under_a_revoke_leaves_nothing),
        cmocka_unit_test(part_widened_in_steps),
        cmocka_unit_test(table_made_by_two),
        cmocka_unit_test(second_revoke_waits_for_the_flush),
        cmocka_unit_test(refilled_slot_shows_the_new_page),
        cmocka_unit_test(revoker_dies_half_way),
    };
    return cmocka_run_group_tests_name("sim derivation", tests, NULL, NULL);
}
