/* Goal: several domains, several CPUs (ABI sections 2 and 6; kernel-design.md 3: "assertion in the mapping tree during concurrent revoke",
 * "a just delegated capability is not found", "page-table page reused before the flush had finished"); threads stay on their CPU.
 * Method: servers of three child domains on every CPU pass random ranges on, owners take them back meanwhile; every use of what was just
 * given must find it at once; tables are emptied and their pages used again while others walk them. */
#include "core/pd.h"
#include "core/space.h"
#include "simtest.h"

#define NEVER          0x50ul
#define DOMAINS        3u
#define CPUS           4u
#define WINDOW         0x60000ul                 /* page number: 64 pages in every domain */
#define OBJECTS        0x8000ul                  /* 64 selectors in every domain */
#define SHARED         0x6000ul                  /* in root: 512 selectors that every domain has at 0 */
#define PT_OF(d, c)    (0x100ul + 8 * (c) + (d)) /* of those: portal of domain d's server on CPU c */
#define DONE           0xf0ul
#define SERVER_UTCB(c) (0x20000000ul + 0x1000ul * (c))
#define WORKER_UTCB(c) (0x20010000ul + 0x1000ul * (c))

static sel_t pd[DOMAINS];
static u64 window_next; /* of the servers; 0: any */

static u32 pick(u32 n) { return sim_choose(SIM_WORKLOAD, n); }
static void server(u64 pid) { /* takes what comes; the next message may come into another window */
    struct abi_utcb *u = utcb_at(SERVER_UTCB(sim_cpu()));
    (void)pid;
    u->del = window_next ? window_next : pick(2) ? crd_obj(OBJECTS, 6, 0x1f) : crd_mem(WINDOW, 6, 7);
    reply();
}
static u64 send(u64 utcb, sel_t pt, u64 crd, u64 desc) {
    struct abi_utcb *u = utcb_at(utcb);
    u->w[UTCB_WORDS - 2] = crd;
    u->w[UTCB_WORDS - 1] = desc | ITEM_DELEGATE;
    u->items = UTCB_ITEMS(0, crd ? 1 : 0);
    u64 status = nova_call(pt);
    utcb_at(utcb)->items = 0;
    return status;
}
/* Root gives a range to domain d. */
static void give(unsigned d, u64 crd, u64 desc, u64 window) {
    sel_t pt = SHARED + PT_OF(d, sim_cpu());
    window_next = window;
    OK(send(ABI_ROOT_UTCB, pt, 0, 0));
    OK(send(ABI_ROOT_UTCB, pt, crd, desc));
    window_next = 0;
}
static void domains_make(void) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    OK(nova_create_sm(SHARED + DONE, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 6);
    for (unsigned c = 0; c < CPUS; c++) {
        startup_make(c); /* and a copy in each child's range: event base 0x20 * c */
        (void)grab(ABI_ROOT_UTCB, crd_obj(EVENTS(c) + EVT_THREAD_STARTUP, 0, 0x1f),
                   (SHARED + 0x20 * c + EVT_THREAD_STARTUP) << 12, crd_obj(0, 31, 0x1f));
    }
    for (unsigned d = 0; d < DOMAINS; d++) {
        pd[d] = sel_new();
        OK(nova_create_pd(pd[d], SEL_PD, 0));
        for (unsigned c = 0; c < CPUS; c++) {
            sel_t ec = sel_new();
            OK(nova_create_ec(ec, pd[d], SERVER_UTCB(c), c, 0, 0x3000, false));
            OK(nova_create_pt(SHARED + PT_OF(d, c), SEL_PD, ec, 0, PORTAL(server)));
        }
    }
    for (unsigned d = 0; d < DOMAINS; d++)
        give(d, crd_obj(SHARED, 9, 0x1f), 0, crd_obj(0, 9, 0x1f));
}
static void worker_start(unsigned d, unsigned c, void (*fn)(u64)) {
    sel_t ec = sel_new();
    OK(nova_create_ec(ec, pd[d], WORKER_UTCB(c), c, (u64)fn, 0x20 * c, true));
    OK(nova_create_sc(sel_new(), SEL_PD, ec, QPD_MAKE(20, 10000)));
}
static void wait_done(unsigned n) {
    while (n--)
        OK(nova_sm_down(SHARED + DONE, false, sim_clock() + 1000000000));
}

/* --- random trees over four domains --- */
static void worker_step(u64 utcb) {
    unsigned type = pick(2) ? CRD_MEM : CRD_OBJ, order = pick(5), mask = pick(3) ? 0x1f : 1 + pick(7);
    u64 first = type == CRD_MEM ? WINDOW : OBJECTS, base = first + (pick(64) & ~((1u << order) - 1)), to = pick(64),
        status;
    switch (pick(5)) {
    case 0:
        OK(nova_revoke(CRD_MAKE(type, base, order, mask), pick(2)));
        break;
    case 1:
        (void)sim_mem_probe((WINDOW + pick(64)) << PAGE_SHIFT, pick(2));
        break;
    default:
        status =
            send(utcb, PT_OF(pick(DOMAINS), sim_cpu()), CRD_MAKE(type, base, order, mask), to << 12 | pick(4) << 9);
        sim_expect(status == NOVA_SUCCESS || status == NOVA_ABORTED || status == NOVA_BAD_CAP);
    }
}
static void worker(u64 rdi) {
    (void)rdi;
    unsigned home = sim_cpu();
    for (unsigned i = 0; i < 40; i++) {
        worker_step(WORKER_UTCB(home));
        sim_expect_eq(sim_cpu(), home);
    }
    OK(nova_sm_up(DONE));
}
static void trees_root(u64 cpu) {
    (void)cpu;
    space_step_work = 1 + pick(64); /* often stopped half-way */
    domains_make();
    for (unsigned i = 0; i < 8; i++)
        OK(nova_create_sm(OBJECTS + i, SEL_PD, 0));
    for (unsigned d = 0; d < DOMAINS; d++) {
        give(d, crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), WINDOW << 12, crd_mem(WINDOW, 6, 7));
        give(d, crd_obj(OBJECTS, 3, 0x1f), 8 * d << 12, crd_obj(OBJECTS, 6, 0x1f));
    }
    for (unsigned c = 0; c < CPUS; c++)
        worker_start(c % DOMAINS, c, worker);
    for (unsigned i = 0; i < 30; i++) { /* the owner takes some of it back, or all of a domain */
        u32 order = pick(4);
        if (pick(3))
            OK(nova_revoke(crd_mem((RAM_VA >> PAGE_SHIFT) + (pick(64) & ~((1u << order) - 1)), order, 1 + pick(7)),
                           false));
        else
            OK(nova_revoke(crd_obj(OBJECTS + pick(8), 0, 1 + pick(3)), false));
        if (i == 25 && pick(2))
            OK(nova_revoke(crd_obj(pd[0], 0, 0x1f), true));
        for (u32 n = pick(60); n; n--)
            sim_step();
    }
    bool died = objtab_lookup(&root_pd->objtab, pd[0]).obj == NULL;
    if (!died)
        wait_done(CPUS);
    sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 1000000), NOVA_TIMEOUT);
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), false));
    OK(nova_revoke(crd_obj(OBJECTS, 3, 0x1f), true));
    for (unsigned d = died; d < DOMAINS; d++) {
        struct pd *p = container_of(objtab_lookup(&root_pd->objtab, pd[d]).obj, struct pd, obj);
        for (unsigned i = 0; i < 64; i++) {
            u64 pfn;
            unsigned perm;
            sim_expect_eq(space_lookup(p, crd_mem(WINDOW + i, 0, 0)), 0);
            sim_expect_eq(space_lookup(p, crd_obj(OBJECTS + i, 0, 0)), 0);
            sim_expect(!ptab_lookup(&p->host, WINDOW + i, &pfn, &perm) &&
                       !ptab_lookup(&p->guest, WINDOW + i, &pfn, &perm));
        }
    }
    sim_done();
}
static void trees_across_domains(void **s) {
    (void)s;
    scenario(trees_root, CPUS, 100);
}

/* --- what was delegated is there for everybody, at once; what was replaced is the new one --- */
static u64 epoch; /* even: taken away; odd: given, generation epoch / 2 */
static u64 missed, finds;
static void finder(u64 rdi) {
    (void)rdi;
    for (;;) {
        u64 now = __atomic_load_n(&epoch, __ATOMIC_SEQ_CST), v = 0;
        if (now == ~0ul)
            break;
        sel_t sel = 0x10000 + 0x300 * (now / 2 % 40); /* often in a table page that did not exist before */
        bool page = sim_mem_probe(WINDOW << PAGE_SHIFT, false);
        u64 status = nova_sm_up(sel);
        if (page && now & 1)
            sim_mem_read(WINDOW << PAGE_SHIFT, &v, sizeof(v));
        if ((now & 1) && __atomic_load_n(&epoch, __ATOMIC_SEQ_CST) == now) { /* nothing changed meanwhile */
            finds++;
            missed += status != NOVA_SUCCESS || !page || v != 0x1000 + now / 2;
        }
    }
    OK(nova_sm_up(DONE));
}
static void finish(u64 rdi) {
    (void)rdi;
    OK(nova_sm_up(DONE));
}
/* The page went between probe and read: tries again until it is back, or the end. */
static void finder_fault(u64 utcb) {
    struct abi_state *st = &utcb_at(utcb)->state;
    st->mtd = 0;
    if (__atomic_load_n(&epoch, __ATOMIC_SEQ_CST) == ~0ul) {
        st->rip = PORTAL(finish);
        st->mtd = MTD_RIP;
    }
    reply();
}
static void found_root(u64 cpu) {
    domains_make();
    for (unsigned c = 0; c < CPUS; c++)
        if (c != cpu) {
            struct thread t = thread_make(c, false, 0);
            sel_t pt = portal_make(&t, finder_fault, MTD_QUAL, sel_new());
            OK(nova_revoke(crd_obj(SHARED + 0x20 * c + 14, 0, 0x1f), true));
            (void)grab(ABI_ROOT_UTCB, crd_obj(pt, 0, 0x1f), (SHARED + 0x20 * c + 14) << 12, crd_obj(0, 31, 0x1f));
        }
    give(0, crd_obj(SHARED, 9, 0x1f), 0, crd_obj(0, 9, 0x1f));
    for (unsigned i = 0; i < 40; i++) {
        u64 v = 0x1000 + i;
        sim_mem_write(RAM_VA + i * PAGE_SIZE, &v, sizeof(v));
    }
    sel_t sm = sem_make(0);
    for (unsigned c = 0; c < CPUS; c++)
        if (c != cpu)
            worker_start(0, c, finder);
    for (unsigned i = 0; i < 40; i++) {
        sel_t sel = 0x10000 + 0x300 * i;
        give(0, crd_obj(sm, 0, 0x1f), sel << 12, crd_obj(0, 31, 0x1f));
        give(0, crd_mem((RAM_VA >> PAGE_SHIFT) + i, 0, 7), WINDOW << 12, crd_mem(WINDOW, 6, 7));
        __atomic_store_n(&epoch, 2 * i + 1, __ATOMIC_SEQ_CST);
        for (u32 n = pick(120); n; n--)
            sim_step();
        if (i == 39) {
            while (!__atomic_load_n(&finds, __ATOMIC_SEQ_CST)) /* some find must have been counted */
                sim_step();
            break;
        }
        __atomic_store_n(&epoch, 2 * i + 2, __ATOMIC_SEQ_CST);
        OK(nova_revoke(crd_mem((RAM_VA >> PAGE_SHIFT) + i, 0, 7), false));
        OK(nova_revoke(crd_obj(sm, 0, 0x1f), false));
    }
    __atomic_store_n(&epoch, ~0ul, __ATOMIC_SEQ_CST);
    wait_done(CPUS - 1);
    sim_expect_eq(missed, 0);
    sim_expect(finds > 0);
    sim_done();
}
static void delegated_is_found_at_once(void **s) {
    (void)s;
    scenario(found_root, CPUS, FEW(60));
}

/* --- whole tables are emptied under walkers while others take every freed page --- */
#define BIG 0x80000ul /* page number of a 2 MiB range of its own table */
static u64 wrong;
static void walker(u64 rdi) {
    (void)rdi;
    while (__atomic_load_n(&epoch, __ATOMIC_SEQ_CST) != ~0ul) {
        u64 page = pick(64), v = 0;
        if (!sim_mem_probe((BIG + page) << PAGE_SHIFT, false))
            continue;
        sim_mem_read((BIG + page) << PAGE_SHIFT, &v, sizeof(v));
        wrong += v != 0x2000 + page;
    }
    OK(nova_sm_up(DONE));
}
static void eater(u64 rdi) { /* makes objects: each UTCB and table is a page that may just have been freed */
    (void)rdi;
    for (unsigned i = 0; __atomic_load_n(&epoch, __ATOMIC_SEQ_CST) != ~0ul; i++) {
        sel_t sel = 0x20000 + 0x200 * (i % 16);
        OK(nova_create_pd(sel, SEL_PD, 0));
        OK(nova_create_ec(sel + 1, sel, 0x70000000, sim_cpu(), 0, 0, false));
        OK(nova_revoke(crd_obj(sel, 1, 0x1f), true));
    }
    OK(nova_sm_up(SHARED + DONE));
}
static void reuse_root(u64 cpu) {
    unsigned eats = (unsigned)(cpu + 1) % CPUS;
    domains_make();
    for (unsigned c = 0; c < CPUS; c++)
        if (c != cpu && c != eats) {
            struct thread t = thread_make(c, false, 0);
            sel_t pt = portal_make(&t, finder_fault, MTD_QUAL, sel_new());
            (void)grab(ABI_ROOT_UTCB, crd_obj(pt, 0, 0x1f), (SHARED + 0x20 * c + 14) << 12, crd_obj(0, 31, 0x1f));
        }
    give(1, crd_obj(SHARED, 9, 0x1f), 0, crd_obj(0, 9, 0x1f));
    for (unsigned i = 0; i < 64; i++) {
        u64 v = 0x2000 + i;
        sim_mem_write(RAM_VA + i * PAGE_SIZE, &v, sizeof(v));
    }
    for (unsigned c = 0; c < CPUS; c++)
        if (c != cpu && c != eats)
            worker_start(1, c, walker);
    struct thread t = thread_make(eats, true, PORTAL(eater));
    OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(20, 10000)));
    for (unsigned i = 0; i < 12; i++) {
        give(1, crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), BIG << 12, crd_mem(BIG, 9, 7));
        for (u32 n = pick(200); n; n--)
            sim_step();
        if (i == 11)
            break;
        OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 6, 7), false));
        for (u32 n = pick(60); n; n--)
            sim_step();
    }
    __atomic_store_n(&epoch, ~0ul, __ATOMIC_SEQ_CST);
    wait_done(CPUS - 1);
    sim_expect_eq(wrong, 0);
    sim_done();
}
static void tables_emptied_under_walkers(void **s) {
    (void)s;
    scenario(reuse_root, CPUS, 60);
}

/* --- an EC stays on its CPU whoever calls, wakes, recalls or helps it --- */
static sel_t home_sm[CPUS];
static void stays(u64 rdi) {
    (void)rdi;
    unsigned home = sim_cpu();
    for (unsigned i = 0; i < 20; i++) {
        down(home_sm[home]);
        sim_expect_eq(sim_cpu(), home);
        up(home_sm[(home + 1 + pick(CPUS - 1)) % CPUS]);
        sim_expect_eq(sim_cpu(), home);
    }
    up(SHARED + DONE);
}
static void home_root(u64 cpu) {
    (void)cpu;
    struct thread t[CPUS];
    OK(nova_create_sm(SHARED + DONE, SEL_PD, 0));
    for (unsigned c = 0; c < CPUS; c++)
        home_sm[c] = sem_make(30);
    for (unsigned c = 0; c < CPUS; c++) {
        startup_make(c);
        struct thread h = thread_make(c, false, 0);
        portal_make(&h, finder_fault, 0, EVENTS(c) + EVT_THREAD_RECALL);
        t[c] = thread_start(c, 10, stays);
    }
    for (unsigned i = 0; i < 20; i++) {
        OK(nova_recall(t[pick(CPUS)].ec));
        for (u32 n = pick(40); n; n--)
            sim_step();
    }
    wait_done(CPUS);
    sim_done();
}
static void threads_stay_on_their_cpu(void **s) {
    (void)s;
    scenario(home_root, CPUS, 30);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trees_across_domains),
        cmocka_unit_test(delegated_is_found_at_once),
        cmocka_unit_test(tables_emptied_under_walkers),
        cmocka_unit_test(threads_stay_on_their_cpu),
    };
    return cmocka_run_group_tests_name("sim domains", tests, NULL, NULL);
}
