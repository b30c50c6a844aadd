/* Goal: kernel memory runs out at every place it can, by a failing allocation, by a limit, by a domain that takes all: BAD_MEM, nothing
 * changed, nothing lost, others go on (ABI sections 5 and 10; kernel-design.md 3, "out of kernel memory panics; one client exhausts the
 * kernel by delegating").
 * Method: each operation that allocates, done for a domain of its own with the Nth allocation failing, for every N until none fails; what
 * it would have made is looked for, the domain's account is compared, then it is done again and undone. */
#include "core/pd.h"
#include "simtest.h"

#define CHILD_VA 0x60000000ul
#define TO       0x70000ul /* page number, 16 pages */
#define RAM      (RAM_VA >> PAGE_SHIFT)
#define S(i)     (0x2000ul + (i)) /* selectors of an operation */
#define FAR      0x100000ul       /* in a part of root's object table that has no pages yet */
#define NEVER    0x50ul

static struct thread server, caller_side; /* in the child: receives; in root */
static sel_t child, child_ec, child_pt, give_pt, target_ec, local_ec, sem;
static u64 send_crd, send_desc;

/* --- the machine of an operation --- */
static void receive(u64 utcb) {
    (void)utcb;
    reply();
}
static void window_open(u64 utcb) { /* first call: the child opens its window for what PID + 8 says */
    utcb_at(CHILD_VA)->del = utcb;
    reply();
}
static void give(u64 utcb) { /* a reply with an item */
    struct abi_utcb *u = utcb_at(utcb);
    u->w[UTCB_WORDS - 2] = send_crd;
    u->w[UTCB_WORDS - 1] = send_desc;
    u->items = UTCB_ITEMS(0, 1);
    reply();
}
static u64 send(sel_t pt, u64 crd, u64 desc) {
    struct abi_utcb *u = utcb_at(ABI_ROOT_UTCB);
    u->w[UTCB_WORDS - 2] = crd;
    u->w[UTCB_WORDS - 1] = desc | ITEM_DELEGATE;
    u->items = UTCB_ITEMS(0, 1);
    u64 status = nova_call(pt);
    utcb_at(ABI_ROOT_UTCB)->items = 0;
    return status;
}

static u64 op_pd(void) { return nova_create_pd(S(0), child, 0); }
static u64 op_pd_caps(void) { return nova_create_pd(S(0), child, crd_obj(0x40, 6, 0x1f)); }
static u64 op_ec_local(void) { return nova_create_ec(S(0), child, CHILD_VA + 0x400000, 0, 0, 0, false); }
static u64 op_ec_global(void) { return nova_create_ec(S(0), child, CHILD_VA + 0x1000, 0, 0, 0, true); }
static u64 op_vcpu(void) { return nova_create_ec(S(0), child, 0, 0, 0, 0, true); }
static u64 op_sc(void) { return nova_create_sc(S(0), child, target_ec, QPD_MAKE(1, 1000)); }
static u64 op_pt(void) { return nova_create_pt(S(0), child, local_ec, 0, PORTAL(receive)); }
static u64 op_sm(void) { return nova_create_sm(S(0), child, 0); }
static u64 op_call_object(void) { return send(child_pt, crd_obj(sem, 0, 0x1f), 0x5000ul << 12); }
static u64 op_call_memory(void) { return send(child_pt, crd_mem(RAM, 4, 7), TO << 12 | ITEM_G | ITEM_D); }
static u64 op_call_ports(void) { return send(child_pt, crd_pio(0x40, 2), ITEM_G); }
static u64 op_reply(void) { /* into root, from the child's account nothing */
    send_crd = crd_obj(sem, 0, 0x1f), send_desc = FAR << 12 | ITEM_DELEGATE;
    utcb_at(ABI_ROOT_UTCB)->del = crd_obj(0, 31, 0x1f);
    return nova_call(give_pt);
}
static const struct op {
    const char *name;
    u64 (*run)(void);
    u64 window; /* of the child */
    bool slot;  /* makes a capability at S(0) */
} ops[] = {{"create_pd", op_pd, 0, true},
           {"create_pd with capabilities", op_pd_caps, 0, true},
           {"create_ec local", op_ec_local, 0, true},
           {"create_ec global", op_ec_global, 0, true},
           {"create_ec vCPU", op_vcpu, 0, true},
           {"create_sc", op_sc, 0, true},
           {"create_pt", op_pt, 0, true},
           {"create_sm", op_sm, 0, true},
           {"call, object", op_call_object, CRD_MAKE(CRD_OBJ, 0, 31, 0x1f), false},
           {"call, memory with G and D", op_call_memory, CRD_MAKE(CRD_MEM, TO, 4, 7), false},
           {"call, ports with G", op_call_ports, CRD_MAKE(CRD_PIO, 0, 16, 1), false},
           {"reply, object", op_reply, 0, false}};

static void child_make(u64 window) {
    sel_t pt = sel_new();
    child = sel_new(), child_ec = sel_new(), child_pt = sel_new();
    OK(nova_create_pd(child, SEL_PD, 0));
    OK(nova_create_ec(child_ec, child, CHILD_VA, 0, 0, 0x100, false));
    OK(nova_create_pt(pt, SEL_PD, child_ec, 0, PORTAL(window_open)));
    OK(nova_pt_ctrl(pt, window));
    OK(nova_call(pt));
    OK(nova_create_pt(child_pt, SEL_PD, child_ec, 0, PORTAL(receive)));
    OK(nova_revoke(crd_obj(pt, 0, 0x1f), true));
}
static void child_drop(void) {
    OK(nova_revoke(crd_obj(S(0), 6, 0x1f), true));
    OK(nova_revoke(crd_obj(child_pt, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(child_ec, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(child, 0, 0x1f), true));
}
static u64 used(sel_t pd) {
    u64 out[2] = {0, 0};
    OK(nova_extension(EXT_KMEM_USAGE, pd, 0, out));
    return out[0];
}
static u64 quiet_use(void) { /* what root pays, with all that was given up really gone */
    for (unsigned i = 0; i < 4; i++)
        sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 100000), NOVA_TIMEOUT);
    return used(SEL_PD);
}
static u64 free_pages(void) {
    u64 out[2];
    OK(nova_extension(EXT_KMEM_FREE, 0, 0, out));
    return out[0];
}
static bool slot_is_free(sel_t sel) {
    u64 crd = crd_obj(sel, 0, 0x1f);
    OK(nova_lookup(&crd));
    return !CRD_TYPE(crd);
}
static bool op_left_nothing(const struct op *op) {
    if (op->slot)
        return slot_is_free(S(0));
    if (op->run == op_reply)
        return slot_is_free(FAR);
    struct kobj *o = objtab_lookup(&root_pd->objtab, child).obj;
    struct pd *pd = container_of(o, struct pd, obj);
    return !space_lookup(pd, crd_obj(0x5000, 0, 0x1f)) && !space_lookup(pd, crd_mem(TO, 0, 0)) &&
           !space_lookup(pd, crd_mem(TO + 8, 0, 0)) && !space_lookup(pd, crd_pio(0x40, 0));
}
static void prepare(void) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    sem = sem_make(0);
    for (unsigned i = 0; i < 8; i++)
        OK(nova_create_sm(0x40 + i, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 4);
    (void)grab(ABI_ROOT_UTCB, crd_pio(0x40, 2), ITEM_H, crd_pio(0, 16));
    server = thread_make(0, false, 0);
    local_ec = server.ec;
    caller_side = thread_make(0, false, 0);
    give_pt = portal_make(&caller_side, give, 0, sel_new());
    target_ec = thread_make(0, true, 0).ec;
}

static unsigned refusals;
/* One operation with its Nth allocation failing. Returns whether one did fail. */
static bool op_failing(const struct op *op, u64 n, u64 limit_by) {
    u64 base = next_sel;
    child_make(op->window);
    sel_t payer = op->run == op_reply ? SEL_PD : child;
    u64 before = used(payer), status;
    if (limit_by)
        OK(nova_extension(EXT_KMEM_LIMIT, child, before + limit_by - 1, NULL));
    sim_fail_allocs(n); /* also when the kernel, having waited for what has died, tries again */
    status = op->run();
    bool hit = n && status == NOVA_BAD_MEM;
    sim_fail_alloc(0);
    OK(nova_extension(EXT_KMEM_LIMIT, child, 0, NULL));
    sim_expect(status == NOVA_SUCCESS || ((hit || limit_by) && status == NOVA_BAD_MEM));
    if (status ==
        NOVA_BAD_MEM) { /* pages of tables may stay for the next try: they hold nothing, and go with the domain */
        refusals++;
        sim_expect(op_left_nothing(op));
        sim_expect_eq((used(payer) - before) % PAGE_SIZE, 0);
        OK(op->run());
    }
    if (op->run == op_reply)
        OK(nova_revoke(crd_obj(FAR, 0, 0x1f), true));
    child_drop();
    next_sel = base;
    return hit || (limit_by && status == NOVA_BAD_MEM);
}
static void op_each(const struct op *op, bool limit) {
    u64 n = 1, step = limit ? 64 : 1;
    (void)op_failing(op, 0, 0); /* root's own tables are there from here on */
    u64 use = quiet_use();
    refusals = 0;
    for (; n < (limit ? 1000 : 100) && op_failing(op, limit ? 0 : n, limit ? n * step : 0); n++) {
        sim_expect_eq(quiet_use(), use);
    }
    sim_expect_eq(quiet_use(), use);
    sim_expect(op->run == op_reply || refusals);
}
static void every_root(u64 cpu) {
    (void)cpu;
    prepare();
    for (unsigned i = 0; i < ARRAY_SIZE(ops); i++)
        op_each(&ops[i], false);
    sim_done();
}
static void every_hypercall_every_allocation(void **s) {
    (void)s;
    scenario(every_root, 1, 2);
}
/* The same by limits, in steps of 64 bytes from what is used to what suffices; a reply into root is not limited by the child. */
static void limits_root(u64 cpu) {
    (void)cpu;
    prepare();
    const struct op *op = &ops[sim_choose(SIM_WORKLOAD, ARRAY_SIZE(ops) - 1)];
    op_each(op, true);
    sim_done();
}
static void every_hypercall_every_limit(void **s) {
    (void)s;
    scenario(limits_root, 1, 8);
}

/* --- a hostile domain takes what it can get; an honest one beside it works --- */
#define HOSTILE_VA 0x68000000ul
static volatile bool dying; /* its capabilities go */
static u64 refused, honest;
/* In the hostile domain: selector 0x90 is the domain itself. */
static void hostile(u64 rdi) {
    (void)rdi;
    u64 sel = 0x1000, page = 0x100000, status;
    for (;;) {
        switch (sim_choose(SIM_WORKLOAD, 4)) {
        case 0:
            status = nova_create_sm(sel += 513, 0x90, 0); /* a table page each time */
            break;
        case 1:
            status = nova_create_pd(sel += 1, 0x90, 0);
            break;
        case 2:
            status = nova_create_ec(sel += 1, 0x90, (page += 512) << PAGE_SHIFT, 1, 0, 0, false);
            break;
        default:
            status = nova_create_ec(sel += 1, 0x90, 0, 1, 0, 0, true);
        }
        if (!dying)
            sim_expect_eq(status, status == NOVA_BAD_MEM ? NOVA_BAD_MEM : NOVA_SUCCESS);
        refused += status == NOVA_BAD_MEM;
    }
}
static sel_t hostile_pd;
static void hostile_start(u64 limit) {
    sel_t ec = sel_new(), sc = sel_new(), low = 0x3000, back = sel_new(), pt = sel_new();
    hostile_pd = sel_new();
    dying = false;
    /* what it gets: the startup portal at 0x1e, a capability to itself later */
    (void)grab(ABI_ROOT_UTCB, crd_obj(EVENTS(1) + EVT_THREAD_STARTUP, 0, 0x1f), (low + EVT_THREAD_STARTUP) << 12,
               crd_obj(0, 31, 0x1f));
    OK(nova_create_pd(hostile_pd, SEL_PD, crd_obj(low, 5, 0x1f)));
    OK(nova_create_ec(back, hostile_pd, CHILD_VA, 0, 0, 0, false));
    OK(nova_create_pt(pt, SEL_PD, back, 0, PORTAL(window_open)));
    OK(nova_pt_ctrl(pt, crd_obj(0, 31, 0x1f)));
    OK(nova_call(pt));
    OK(nova_revoke(crd_obj(pt, 0, 0x1f), true));
    OK(nova_create_pt(pt, SEL_PD, back, 0, PORTAL(receive)));
    OK(send(pt, crd_obj(hostile_pd, 0, 0x1f), 0x90ul << 12));
    if (limit)
        OK(nova_extension(EXT_KMEM_LIMIT, hostile_pd, limit, NULL));
    OK(nova_create_ec(ec, hostile_pd, HOSTILE_VA, 1, PORTAL(hostile), 0, true));
    OK(nova_create_sc(sc, SEL_PD, ec, QPD_MAKE(20, 1000)));
}
static void hostile_stop(sel_t first) {
    dying = true;
    OK(nova_revoke(crd_obj(hostile_pd, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(first, 5, 0x1f), true));
    OK(nova_revoke(crd_obj(0x3000, 5, 0x1f), true));
    next_sel = first;
}
/* An honest domain with an account of its own: makes and destroys, always gets what it needs. */
static void honest_round(bool must) {
    sel_t pd = sel_new();
    u64 status = nova_create_pd(pd, SEL_PD, 0);
    for (unsigned i = 1; i < 6 && status == NOVA_SUCCESS; i++)
        status = nova_create_sm(pd + i, pd, 0);
    if (status == NOVA_SUCCESS)
        status = nova_create_ec(pd + 6, pd, CHILD_VA, 0, 0, 0, false);
    sim_expect(status == NOVA_SUCCESS || (!must && status == NOVA_BAD_MEM));
    honest += status == NOVA_SUCCESS;
    for (unsigned i = 0; i < 8; i++)
        OK(nova_revoke(crd_obj(pd + i, 0, 0x1f), true));
    next_sel = pd;
}
static void hostile_run(u64 limit) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    (void)grab(ABI_ROOT_UTCB, 0, 0, 0);
    startup_make(1);
    honest_round(true);
    next_sel = 0x6000; /* tables of root's are there */
    honest_round(true);
    u64 sel = next_sel = 0x5000;
    hostile_start(limit);
    hostile_stop(sel); /* once for the tables, then in earnest */
    u64 before = quiet_use(), pages = free_pages();
    refused = 0;
    hostile_start(limit);
    next_sel = 0x6000;
    honest_round(true);
    honest = 0;
    for (unsigned i = 0; i < 20000 && (refused < 10 || (limit && honest < 20)); i++) {
        honest_round(limit != 0);
        if (limit) {
            u64 out[2];
            OK(nova_extension(EXT_KMEM_USAGE, hostile_pd, 0, out));
            sim_expect(out[0] <= limit);
        }
    }
    sim_expect(refused >= 10);
    honest_round(limit != 0);
    sim_expect(limit == 0 || honest >= 20);
    hostile_stop(sel);
    u64 after = quiet_use();
    for (unsigned i = 0; i < 50 && after > before; i++)
        after = quiet_use();
    sim_expect(after <= before);
    sim_expect(free_pages() + 8 >= pages); /* a cache may keep an empty slab */
    honest_round(true);                    /* and everything works again */
    sim_done();
}
static void limited_root(u64 cpu) {
    (void)cpu;
    hostile_run(300000);
}
static void hostile_domain_has_its_own_account(void **s) {
    (void)s;
    scenario(limited_root, 2, 8);
}
static void unlimited_root(u64 cpu) {
    (void)cpu;
    hostile_run(0);
}
static void exhausted_kernel_recovers(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = unlimited_root, .pool = 1 << 20, .steps = 200000000};
    assert_int_equal(sim_seeds(&o, 1, 10, SIM_OK), 0);
}

/* What was destroyed is free soon, whoever has the other CPUs, and for how long. */
static void busy_body(u64 rdi) {
    (void)rdi;
    for (;;)
        sim_step();
}
static void busy_root(u64 cpu) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    startup_make((unsigned)cpu ^ 1);
    OK(nova_create_sm(S(0), SEL_PD, 0)); /* its table stays */
    OK(nova_revoke(crd_obj(S(0), 0, 0x1f), true));
    struct thread t = thread_make((unsigned)cpu ^ 1, true, (u64)busy_body);
    OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 1000000000)));
    u64 before = quiet_use();
    for (unsigned i = 0; i < 20; i++) {
        OK(nova_create_sm(S(0), SEL_PD, 0));
        OK(nova_revoke(crd_obj(S(0), 0, 0x1f), true));
        u64 until = sim_clock() + 1000000; /* 0.1 s */
        while (used(SEL_PD) != before && sim_clock() < until)
            sim_step();
        sim_expect_eq(used(SEL_PD), before);
    }
    sim_done();
}
static void freed_before_a_slice_ends(void **s) {
    (void)s;
    scenario(busy_root, 2, FEW(20));
}

/* Who may have one object can have the next one when the first is gone: what is about to be freed is waited for, however busy others are. */
static void tight_root(u64 cpu) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    startup_make((unsigned)cpu ^ 1);
    struct thread t = thread_make((unsigned)cpu ^ 1, true, (u64)busy_body);
    OK(nova_create_sm(S(0), SEL_PD, 0)); /* its table stays */
    OK(nova_revoke(crd_obj(S(0), 0, 0x1f), true));
    OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 1000000000)));
    (void)quiet_use();
    OK(nova_create_sm(S(0), SEL_PD, 0));
    OK(nova_extension(EXT_KMEM_LIMIT, SEL_PD, used(SEL_PD), (u64[2]){0}));
    sim_expect_eq(nova_create_sm(S(1), SEL_PD, 0), NOVA_BAD_MEM);
    for (unsigned i = 0; i < 10; i++) {
        OK(nova_revoke(crd_obj(S(0), 0, 0x1f), true));
        OK(nova_create_sm(S(0), SEL_PD, 0));
    }
    sim_done();
}
static void next_one_waits_for_the_last(void **s) {
    (void)s;
    scenario(tight_root, 2, 12);
}

/* RAM that becomes the kernel's while somebody more urgent interrupts the way: all of it is taken, from everybody, before it is kernel memory. */
static sel_t knock, never_up;
static void knocks(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 300; i++) {
        up(knock);
        for (unsigned n = sim_choose(SIM_WORKLOAD, 50); n; n--)
            sim_step();
    }
    down(never_up);
}
static void urgent(u64 rdi) {
    (void)rdi;
    for (;;)
        down(knock);
}
static void taken_root(u64 cpu) {
    u64 ram = RAM, out[2], total;
    space_step_work = 1; /* stopped wherever it can be */
    knock = sem_make(0), never_up = sem_make(0);
    startup_make(0), startup_make(1);
    ram_map(ABI_ROOT_UTCB, 5);
    for (u64 i = 0; i < 32; i++)
        (void)grab(ABI_ROOT_UTCB, crd_mem(ram + i, 0, 7), (TO + i) << 12, crd_mem(TO + i, 0, 7));
    OK(nova_extension(EXT_KMEM_FREE, 0, 0, out));
    total = out[1];
    thread_start((unsigned)cpu, 100, urgent);
    thread_start((unsigned)cpu ^ 1, 10, knocks);
    OK(nova_extension(EXT_KMEM_ADD, 0, crd_mem(RAM_PFN, 5, 7), NULL));
    OK(nova_extension(EXT_KMEM_FREE, 0, 0, out));
    sim_expect(out[1] > total && out[1] <= total + 32);
    for (u64 i = 0; i < 32; i++)
        sim_expect(!sim_mem_probe((ram + i) << PAGE_SHIFT, false) && !sim_mem_probe((TO + i) << PAGE_SHIFT, false));
    for (u64 i = 0; i < 2; i++) /* and how far it had come is not where the thread's next one begins */
        (void)grab(ABI_ROOT_UTCB, crd_mem(RAM_PFN + 64 + i, 0, 7), (ram + i) << 12 | ITEM_H, crd_mem(ram + i, 0, 7));
    OK(nova_revoke(crd_mem(ram, 1, 7), true));
    sim_expect(!sim_mem_probe(ram << PAGE_SHIFT, false) && !sim_mem_probe((ram + 1) << PAGE_SHIFT, false));
    sim_done();
}
static void taken_while_interrupted(void **s) {
    (void)s;
    scenario(taken_root, 2, 12);
}

/* A transfer that ran out of memory half-way leaves nothing that the next one would take for its own progress. */
static void cut_root(u64 cpu) {
    (void)cpu;
    for (u64 i = 0; i < 64; i++) /* one node each: the copies are so many pieces */
        (void)grab(ABI_ROOT_UTCB, crd_mem(RAM_PFN + i, 0, 7), (RAM + i) << 12 | ITEM_H, crd_mem(RAM + i, 0, 7));
    (void)grab(ABI_ROOT_UTCB, crd_mem(RAM, 0, 7), TO << 12, crd_mem(TO, 6, 7)); /* with the tables above it */
    sim_fail_allocs(8); /* and the kernel tries more than once */
    sim_expect_eq(send(grab_pt, crd_mem(RAM, 6, 7), TO << 12), NOVA_BAD_MEM);
    sim_fail_alloc(0);
    unsigned copies = 0;
    for (u64 i = 0; i < 64; i++) {
        u64 crd = crd_mem(TO + i, 0, 0);
        OK(nova_lookup(&crd));
        copies += crd != 0;
    }
    sim_expect(copies > 1 && copies < 64);
    OK(nova_revoke(crd_mem(RAM, 6, 7), false));
    OK(send(grab_pt, crd_mem(RAM, 1, 7), TO << 12));
    u64 crd = crd_mem(TO, 0, 0);
    OK(nova_lookup(&crd));
    sim_expect_eq(crd, crd_mem(TO, 0, 7));
    sim_done();
}
static void cut_transfer_is_forgotten(void **s) {
    (void)s;
    scenario(cut_root, 1, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_hypercall_every_allocation),   cmocka_unit_test(every_hypercall_every_limit),
        cmocka_unit_test(hostile_domain_has_its_own_account), cmocka_unit_test(exhausted_kernel_recovers),
        cmocka_unit_test(freed_before_a_slice_ends),          cmocka_unit_test(taken_while_interrupted),
        cmocka_unit_test(next_one_waits_for_the_last),        cmocka_unit_test(cut_transfer_is_forgotten),
    };
    return cmocka_run_group_tests_name("sim memory", tests, NULL, NULL);
}
