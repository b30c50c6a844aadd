/* Goal: the kernel never crashes, hangs or leaks on any argument (ABI section 5), with several CPUs at it.
 * Method: threads on all CPUs make random hypercalls over a few selectors and pages that they share, servers among them; in the end root
 * revokes everything and must be charged for exactly what it was charged before. Invariants are checked all the time. */
#include "simtest.h"

#define SCRATCH    0x10000ul /* 64 selectors, aligned: everything that may come and go */
#define SEL_ORDER  6
#define REGION_VA  0x60000000ul /* one table page: 64 pages of memory, 64 to delegate to, 32 for UTCBs */
#define PAGE_OF(v) ((v) >> PAGE_SHIFT)
#define OPS        60
#define NEVER      0x50ul

static sel_t done, go, turn;
static u64 worker_utcb[4];
static bool with_failures, in_turn;

static u32 pick(u32 n) { return sim_choose(SIM_WORKLOAD, n); }
static sel_t any_sel(void) { return SCRATCH + pick(24); }
static sel_t any_owner(void) { return pick(4) ? SEL_PD : any_sel(); }
static u64 any_utcb(void) { return REGION_VA + (128 + pick(32)) * PAGE_SIZE; }

static u64 any_crd(void) {
    u32 order = pick(5), mask = pick(3) ? 0x1f : pick(32);
    switch (pick(8)) {
    case 0:
    case 1:
        return crd_mem((PAGE_OF(REGION_VA) + pick(pick(4) ? 128 : 160)) & ~((1ul << order) - 1), order, mask & 7);
    case 2:
        return CRD_MAKE(CRD_PIO, pick(64) & ~((1u << order) - 1), order, 1);
    case 3:
        return (u64)pick(~0u) << 32 | pick(~0u); /* anything */
    default:
        return crd_obj((SCRATCH + pick(24)) & ~((1ul << order) - 1), order, mask);
    }
}

static u64 any_revoke_crd(void) { /* not what the harness itself stands on */
    u32 order = pick(4);
    if (pick(2))
        return crd_mem((PAGE_OF(REGION_VA) + pick(160)) & ~((1ul << order) - 1), order, pick(8));
    return crd_obj((SCRATCH + pick(24)) & ~((1ul << order) - 1), order, pick(3) ? 0x1f : pick(32));
}

static void windows_any(u64 utcb) {
    struct abi_utcb *u = utcb_at(utcb);
    u->del = pick(2) ? crd_obj(SCRATCH, SEL_ORDER, 0x1f) : crd_mem(PAGE_OF(REGION_VA) + 64, 6, 7);
    u->xlt = pick(2) ? crd_obj(0, 20, 0x1f) : any_crd();
}

static void message_any(u64 utcb) {
    u32 items = pick(4);
    struct abi_utcb *u = utcb_at(utcb);
    u->items = pick(16) ? UTCB_ITEMS(pick(20), items) : pick(~0u);
    for (u32 i = 0; i < items; i++) {
        u->w[UTCB_WORDS - 2 - 2 * i] = any_crd();
        u->w[UTCB_WORDS - 1 - 2 * i] = (pick(4) ? ITEM_DELEGATE : 0) | (u64)pick(8) << 9 | (u64)pick(~0u) << 12;
    }
}

static void body(u64 rdi);
static void server(u64 utcb);
static void operation(u64 utcb) {
    u64 out[2], crd, fn = (u64)server;
    switch (pick(18)) {
    case 0:
        (void)nova_create_pd(any_sel(), any_owner(), pick(2) ? 0 : any_crd());
        break;
    case 1:
    case 2:
        (void)nova_create_ec(any_sel(), any_owner(), any_utcb(), pick(5), (u64)body,
                             pick(2) ? EVENTS(pick(4)) : SCRATCH, pick(2));
        break;
    case 3:
        (void)nova_create_ec(any_sel(), any_owner(), 0, pick(4), 0, SCRATCH, true); /* vCPU */
        break;
    case 4:
        (void)nova_create_sc(any_sel(), SEL_PD, any_sel(), QPD_MAKE(pick(60), pick(3000)));
        break;
    case 5:
    case 6:
        (void)nova_create_pt(crd = any_sel(), any_owner(), any_sel(), pick(2) ? 0 : 0x8003ffff & pick(~0u), fn);
        (void)nova_pt_ctrl(crd, any_utcb());
        break;
    case 7:
        (void)nova_create_sm(any_sel(), any_owner(), pick(3));
        break;
    case 8:
    case 9:
        (void)nova_revoke(any_revoke_crd(), pick(2));
        break;
    case 10:
        crd = any_crd();
        (void)nova_lookup(&crd);
        break;
    case 11:
        (void)nova_recall(any_sel());
        (void)nova_sc_time(any_sel(), &crd);
        break;
    case 12:
        (void)nova_sm_up(any_sel());
        break;
    case 13:
        (void)nova_sm_down(any_sel(), pick(2), sim_clock() + 10 * pick(300));
        break;
    case 14:
        (void)nova_extension((enum abi_ext)pick(16), any_sel(), pick(3) ? pick(4096) : ~0ul, out);
        break;
    case 15:
        (void)nova_assign_gsi(any_sel(), pick(8), pick(5), out);
        break;
    default:
        windows_any(utcb);
        message_any(utcb);
        (void)(pick(4) ? nova_call(any_sel()) : nova_call_try(any_sel()));
    }
}

/* A local thread: what its PID says about its UTCB may be wrong; then it faults and is shut down. */
static void server(u64 utcb) {
    for (u32 n = pick(3); n; n--)
        operation(utcb);
    windows_any(utcb);
    message_any(utcb);
    reply();
}

static void body(u64 rdi) { /* global threads that the fuzzing made; their UTCB is unknown to them */
    (void)rdi;
    for (u32 n = pick(6); n; n--)
        operation(any_utcb());
}

static void worker(u64 rdi) {
    (void)rdi;
    u64 utcb = worker_utcb[sim_cpu()];
    down(go);
    for (unsigned i = 0; i < OPS; i++) {
        if (with_failures && !pick(4))
            sim_fail_alloc(1 + sim_choose(SIM_FAULT, 8)); /* on whichever CPU */
        if (in_turn)
            down(turn);
        operation(utcb);
        if (in_turn)
            up(turn);
    }
    utcb_at(utcb)->items = 0;
    up(done);
    (void)nova_sm_down(NEVER, false, 0);
}

static u64 charged(void) {
    u64 out[2];
    for (unsigned i = 0; i < 3; i++)
        sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 100000), NOVA_TIMEOUT);
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}
static void clear_all(void) {
    OK(nova_revoke(crd_obj(SCRATCH, SEL_ORDER, 0x1f), true));
    OK(nova_revoke(crd_mem(PAGE_OF(REGION_VA), 8, 7), true));
    OK(nova_revoke(CRD_MAKE(CRD_PIO, 0, 16, 1), true));
}
static void region_map(void) {
    grab(ABI_ROOT_UTCB, crd_mem(RAM_PFN, 6, 7), PAGE_OF(REGION_VA) << 12 | ITEM_H, crd_mem(PAGE_OF(REGION_VA), 6, 7));
    grab(ABI_ROOT_UTCB, CRD_MAKE(CRD_PIO, 0, 6, 1), ITEM_H, CRD_MAKE(CRD_PIO, 0, 16, 1));
}

static void fuzz_root(u64 cpu) {
    (void)cpu;
    with_failures = pick(2), in_turn = pick(2); /* in turn, nearly every call is compared with the model */
    done = sem_make(0), go = sem_make(0), turn = sem_make(1);
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    OK(nova_create_sm(SCRATCH, SEL_PD, 0)); /* table pages of root's that stay */
    region_map();
    u64 dst = PAGE_OF(REGION_VA) + 64; /* guest and DMA tables, port maps: they stay, too */
    grab(ABI_ROOT_UTCB, crd_mem(PAGE_OF(REGION_VA), 0, 7), dst << 12 | ITEM_G | ITEM_D, crd_mem(dst, 6, 7));
    grab(ABI_ROOT_UTCB, CRD_MAKE(CRD_PIO, 0, 6, 1), ITEM_G | ITEM_H, CRD_MAKE(CRD_PIO, 0, 16, 1));
    struct thread w[4];
    for (unsigned c = 0; c < 4; c++) {
        startup_make(c);
        w[c] = thread_make(c, true, (u64)worker);
        worker_utcb[c] = w[c].utcb;
        w[c].sc = sel_new();
    }
    for (unsigned c = 0; c < 4; c++)
        OK(nova_create_sc(w[c].sc, SEL_PD, w[c].ec, QPD_MAKE(50 + pick(10), 1000)));
    clear_all();
    u64 before = charged();
    region_map();
    for (unsigned c = 0; c < 4; c++)
        up(go);
    for (unsigned c = 0; c < 4; c++)
        OK(nova_sm_down(done, false, sim_clock() + 100000000));
    sim_fail_alloc(0);
    clear_all();
    (void)
        charged(); /* threads that the fuzzing made may have run, and made something, until their capabilities were gone */
    clear_all();
    sim_expect_eq(charged(), before);
    sim_done();
}
static void random_hypercalls(void **s) {
    (void)s;
    scenario(fuzz_root, 4, 150);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_hypercalls)};
    return cmocka_run_group_tests_name("sim fuzz", tests, NULL, NULL);
}
