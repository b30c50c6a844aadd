/* Goal: nothing in the kernel depends on a store being seen at once: where two CPUs each store and then look at what the other stored, there is a
 * fence or a locked operation (docs/locking.md).
 * Method: such pairs are raced with store buffers; storebuf_test.c shows that these lose the race without a fence. */
#include "simtest.h"
#include "core/cpu.h" /* after it: `cpus` */

static void fenced(void (*root)(u64), unsigned count, unsigned seeds) {
    const struct sim_options o = {.cpus = count, .root = root, .check_every = 16, .store_buffers = true};
    assert_int_equal(sim_seeds(&o, 1, seeds, SIM_OK), 0);
}

static u64 charged(void) {
    u64 out[2];
    static sel_t never;
    if (!never)
        never = sem_make(0);
    for (unsigned i = 0; i < 3; i++) /* all CPUs get idle, callbacks ripen */
        sim_expect_eq(nova_sm_down(never, false, sim_clock() + 100000), NOVA_TIMEOUT);
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}

/* inbox.c: the home CPU takes an item off and looks what there is to do; another one says what and posts the item. A PD that dies kills its
 * thread, and a moment later the thread's last capability goes: if the second post is lost, the thread is never freed. */
static void kill_and_destroy(unsigned cpu) {
    sel_t ec = 0x2000, pd = ec + 1; /* revoke gives up the last first */
    OK(nova_create_pd(pd, SEL_PD, 0));
    OK(nova_create_ec(ec, pd, UTCB_BASE, cpu, 0, 0, false));
    OK(nova_revoke(crd_obj(ec, 1, 0x1f), true));
}
static void inbox_root(u64 cpu) {
    kill_and_destroy((unsigned)cpu ^ 1); /* makes tables of ours that stay */
    u64 before = charged();
    for (unsigned i = 0; i < 24; i++)
        kill_and_destroy((unsigned)cpu ^ 1);
    sim_expect_eq(charged(), before);
    sim_done();
}
static void second_post_is_not_lost(void **s) {
    (void)s;
    fenced(inbox_root, 2, 100);
}

/* In every order, for a thread that was shut down before: then nothing locked lies between taking the item off and looking. */
static void dead_root(u64 cpu) {
    sel_t ec = 0x2000, pd = ec + 1, sc = ec + 2;
    kill_and_destroy((unsigned)cpu ^ 1);
    u64 before = charged();
    OK(nova_create_pd(pd, SEL_PD, 0));
    OK(nova_create_ec(ec, pd, UTCB_BASE, (u32)cpu ^ 1, 0, 0, true));
    OK(nova_create_sc(sc, SEL_PD, ec, QPD_MAKE(10, 1000)));
    (void)charged(); /* it has no portal for its STARTUP */
    OK(nova_revoke(crd_obj(sc, 0, 0x1f), true));
    (void)charged();
    sim_begin();
    OK(nova_revoke(crd_obj(ec, 1, 0x1f), true));
    sim_expect_eq(charged(), before);
    sim_done();
}
static void second_post_for_the_dead_is_not_lost(void **s) {
    (void)s;
    every_schedule(dead_root, DEEP, true);
}

/* rcu.c: a CPU that leaves idle says so, then follows pointers; who begins an epoch has unlinked before, then looks who is idle. A deadline wakes a
 * CPU, which takes the thread off its semaphore; at the same time that is destroyed, and freed when its destroyer gets idle. Address
 * sanitizer sees a use after that. */
static sel_t sm, go;
static void sleeper(u64 rdi) {
    (void)rdi;
    for (;;) {
        down(go);
        (void)nova_sm_down(sm, false, sim_clock() + 10 * sim_choose(SIM_WORKLOAD, 100));
    }
}
static void idle_root(u64 cpu) {
    sel_t never = sem_make(0);
    go = sem_make(0);
    startup_make((unsigned)cpu ^ 1);
    thread_start((unsigned)cpu ^ 1, 10, sleeper);
    for (unsigned i = 0; i < 100; i++) {
        OK(nova_create_sm(sm = 0x2000, SEL_PD, 0));
        up(go);
        for (u32 n = sim_choose(SIM_WORKLOAD, 200); n; n--)
            sim_step();
        OK(nova_revoke(crd_obj(sm, 0, 0x1f), true));
        sim_expect_eq(nova_sm_down(never, false, sim_clock() + 3000), NOVA_TIMEOUT);
    }
    sim_done();
}
static void no_idle_cpu_is_overlooked(void **s) {
    (void)s;
    fenced(idle_root, 2, 60);
}

/* In every order: a deadline wakes two idle CPUs, and one of them destroys what the other one's thread waited for. */
static u64 deadline;
static void sleeper_once(u64 rdi) {
    (void)rdi;
    (void)nova_sm_down(sm, false, deadline);
    down(go); /* never */
}
static void idle_once_root(u64 cpu) {
    sel_t never = sem_make(0);
    go = sem_make(0);
    deadline = sim_clock() + 100000;
    OK(nova_create_sm(sm = 0x2000, SEL_PD, 0));
    startup_make((unsigned)cpu ^ 1);
    thread_start((unsigned)cpu ^ 1, 10, sleeper_once);
    sim_expect_eq(nova_sm_down(never, false, deadline - 10000), NOVA_TIMEOUT);
    sim_begin();
    sim_expect_eq(nova_sm_down(never, false, deadline), NOVA_TIMEOUT);
    OK(nova_revoke(crd_obj(sm, 0, 0x1f), true));
    sim_expect_eq(nova_sm_down(never, false, deadline + 20000), NOVA_TIMEOUT);
    sim_done();
}
static void no_idle_cpu_is_freed_under(void **s) {
    (void)s;
    every_schedule(idle_once_root, DEEP, true);
}

/* A guest that runs is shot out of it, and one that is about to run sees the new generation of its table; if both failed, it would read through a
 * translation after its revoke has returned.
 *
 * The guest copies a flag and writes to the page that comes and goes; root raises the flag when a revoke has returned. */
#define GPA          0x5000ul
#define GPA_FLAG     0x6000ul
#define GPA_COPY     0x6008ul
#define EXIT_VMMCALL 0x81u
#define VM_EVENTS    0x4000ul
static struct thread vmm;
static sel_t again, seen;             /* if set: the VMM ups `seen` and waits for `again` at each VMMCALL */
static unsigned loops, faults, stale; /* loops: since the last fault */

static const struct sim_guest_step writer[] = {
    {SIM_G_READ, 0, GPA_FLAG}, {SIM_G_WRITE, 0, GPA_COPY}, {SIM_G_WRITE, 0, GPA}, {SIM_G_VMMCALL, 0, 0}};

static void page_give(struct abi_utcb *u, u64 gpa) {
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
    u->w[UTCB_WORDS - 2] = crd_mem((RAM_VA + gpa - GPA) >> PAGE_SHIFT, 0, 7);
    u->w[UTCB_WORDS - 1] = (gpa >> PAGE_SHIFT) << 12 | ITEM_G | ITEM_DELEGATE;
}

static void pause_if_told(void) {
    if (!again)
        return;
    up(seen);
    down(again);
}

static void on_exit_event(u64 event) {
    volatile u64 *flag = sim_mem_ptr(RAM_VA + GPA_FLAG - GPA, true), *copy = flag + 1;
    struct abi_utcb *u = utcb_at(vmm.utcb);
    struct abi_state *st = &u->state;
    switch (event) {
    case EVT_VCPU_STARTUP:
        st->rflags = 2;
        st->cr0 = 0x10;
        st->cr2 = st->cr3 = st->cr4 = st->efer = 0;
        st->dr7 = 0x400;
        st->cs = st->ss = (struct abi_seg){0, 0x93, 0xffff, 0};
        st->ctrl[0] = 0;
        st->ctrl[1] = 3; /* VMRUN, VMMCALL */
        st->mtd = MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS;
        break;
    case EXIT_VMMCALL: /* the write before it went well */
        loops++;
        stale += *copy != 0;
        pause_if_told();
        st = &utcb_at(vmm.utcb)->state;
        st->mtd = 0;
        break;
    default:
        sim_expect_eq(event, EVT_SVM_NPF);
        faults++;
        if (loops)
            pause_if_told();
        loops = 0;
        *flag = 0;
        page_give(u, st->qual[1] & ~0xffful);
        st->mtd = 0;
    }
    st->rip = (u64)writer;
    st->mtd |= MTD_RIP;
    reply();
}

static void guest_make(u64 cpu) {
    static const unsigned events[] = {EXIT_VMMCALL, EVT_SVM_NPF, EVT_VCPU_STARTUP};
    sel_t pd = sel_new(), vcpu = sel_new();
    ram_map(ABI_ROOT_UTCB, 1);
    vmm = thread_make((unsigned)cpu ^ 1, false, 0);
    for (unsigned i = 0; i < 3; i++) {
        sel_t pt = VM_EVENTS + events[i];
        OK(nova_create_pt(pt, SEL_PD, vmm.ec, MTD_RIP | MTD_QUAL, PORTAL(on_exit_event)));
        OK(nova_pt_ctrl(pt, events[i]));
    }
    OK(nova_create_pd(pd, SEL_PD, crd_obj(VM_EVENTS, 8, 0x1f)));
    OK(nova_create_ec(vcpu, pd, 0, (u32)cpu ^ 1, 0, 0, true));
    OK(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(10, 1000)));
}

static void page_take(unsigned rights) {
    unsigned before = faults;
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 0, rights), false));
    u64 *flag = sim_mem_ptr(RAM_VA + GPA_FLAG - GPA, true);
    *flag = faults == before; /* else it may have the page again */
}

static void guest_root(u64 cpu) {
    guest_make(cpu);
    for (unsigned i = 0; i < 40; i++) {
        for (unsigned n = sim_choose(SIM_WORKLOAD, 3); loops <= n;)
            sim_step();
        page_take(7);
    }
    sim_expect_eq(stale, 0);
    sim_done();
}
static void no_guest_keeps_a_translation(void **s) {
    (void)s;
    fenced(guest_root, 2, 60);
}

/* One entry against one revoke, in every order. Only the right to write goes: no memory is freed, so no grace period draws the guest out of
 * its entry. With stores that stay in their buffers two preemptions lose the race. */
static void once_root(u64 cpu) {
    again = sem_make(0), seen = sem_make(0);
    guest_make(cpu);
    down(seen); /* has written to the page */
    sim_begin();
    up(again);
    page_take(PERM_MEM_W);
    down(seen);
    sim_expect_eq(stale, 0);
    sim_done();
}
static void no_entry_keeps_a_translation(void **s) {
    (void)s;
    every_schedule(once_root, 2, true);
}

/* The same for a CPU that comes from idle and loads the tables out of which a page is taken: it walks them as they are then, or is told. Again only
 * the right to write goes: a node that is gone is refunded, which is a locked operation. */
#define PAGE_VA 0x60000000ul
static void reader(u64 rdi) {
    (void)rdi;
    u64 v;
    down(again);
    sim_mem_read(PAGE_VA, &v, sizeof(v));
    up(seen);
    down(go); /* never */
}
static bool may_write(unsigned cpu, u64 va) {
    for (unsigned i = 0; i < SIM_TLB_SIZE; i++) {
        const struct sim_tlb_entry *e = &cpus[cpu]->mach.tlb[i];
        if (e->page == (va >> PAGE_SHIFT) + 1 && e->perm & PERM_MEM_W)
            return true;
    }
    return false;
}
static void switch_root(u64 cpu) {
    unsigned other = (unsigned)cpu ^ 1;
    u64 page = PAGE_VA >> PAGE_SHIFT;
    again = sem_make(0), seen = sem_make(0), go = sem_make(0);
    ram_map(ABI_ROOT_UTCB, 0);
    (void)grab(ABI_ROOT_UTCB, crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7), page << 12, crd_mem(page, 0, 7));
    startup_make(other);
    thread_start(other, 10, reader);
    while (!sim_cpu_is_idle(other))
        sim_step();
    sim_begin();
    up(again);
    OK(nova_revoke(crd_mem(RAM_VA >> PAGE_SHIFT, 0, PERM_MEM_W), false));
    sim_expect(!may_write(other, PAGE_VA));
    down(seen);
    sim_done();
}
static void no_switch_keeps_a_translation(void **s) {
    (void)s;
    every_schedule(switch_root, 2, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(second_post_is_not_lost),       cmocka_unit_test(second_post_for_the_dead_is_not_lost),
        cmocka_unit_test(no_idle_cpu_is_overlooked),     cmocka_unit_test(no_idle_cpu_is_freed_under),
        cmocka_unit_test(no_guest_keeps_a_translation),  cmocka_unit_test(no_entry_keeps_a_translation),
        cmocka_unit_test(no_switch_keeps_a_translation),
    };
    return cmocka_run_group_tests_name("sim fences", tests, NULL, NULL);
}
