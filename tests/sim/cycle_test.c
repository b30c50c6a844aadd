/* Goal: domains that come and go leave the number of free kernel pages unchanged (kernel-design.md 3, "hang after about 4096 process starts"; issue 3).
 * Method: CYCLES cycles (environment; 100,000 in check-full) of a domain with a server, a running thread, portals, semaphores, memory with
 * guest and DMA tables, ports and a vCPU that runs, on changing CPUs; free pages are compared at the ends of equal halves. */
#include "core/kmem.h"
#include "simtest.h"
#include <string.h>

#define CHILD_VA 0x60000000ul
#define CPUS     2u
#define NEVER    0x50ul
#define KEPT     8u       /* pages: a slab cache keeps an empty slab, or does not */
#define BLOCK    0x2000ul /* 64 selectors of a cycle */
#define EXIT_HLT 0x78
#define VM_BASE  0x4000ul

static struct thread handlers[CPUS];
static sel_t ran;
static unsigned woken, halted;

static const struct sim_guest_step halts[] = {{SIM_G_HLT, 0, 0}};
static void on_vm(u64 pid) { /* STARTUP: runs; HLT: told, and the next entry is its end (no portal for 0xfd) */
    struct abi_state *st = &utcb_at(handlers[pid >> 8].utcb)->state;
    if ((pid & 0xff) == EXIT_HLT) {
        up(ran);
        halted++;
        st->mtd = MTD_CTRL;
        st->ctrl[0] = st->ctrl[1] = 0;
        reply();
    }
    *st = (struct abi_state){.rip = (u64)halts, .rflags = 2, .cr0 = 0x10, .dr7 = 0x400, .ctrl = {0, 1}};
    st->mtd = MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER;
    reply();
}
static void child_thread(u64 rdi) {
    (void)rdi;
    (void)nova_sm_up(0x29); /* `ran` */
}
static void child_server(u64 utcb) {
    utcb_at(CHILD_VA)->del = utcb;
    reply();
}
static void send(sel_t pt, u64 crd, u64 desc) {
    struct abi_utcb *u = utcb_at(ABI_ROOT_UTCB);
    u->w[UTCB_WORDS - 2] = crd;
    u->w[UTCB_WORDS - 1] = desc | ITEM_DELEGATE;
    u->items = UTCB_ITEMS(0, 1);
    OK(nova_call(pt));
    utcb_at(ABI_ROOT_UTCB)->items = 0;
}
static void cycle(unsigned n, unsigned home) {
    unsigned c = n % CPUS;
    sel_t pd = BLOCK, s = BLOCK + 8;
    OK(nova_create_pd(pd, SEL_PD, crd_obj(VM_BASE + 0x100 * c, 8, 0x1f)));
    OK(nova_create_ec(s, pd, CHILD_VA, home, 0, 0x200, false));
    OK(nova_create_pt(s + 1, pd, s, 0, PORTAL(child_server)));
    OK(nova_pt_ctrl(s + 1, n & 1 ? crd_obj(0, 31, 0x1f) : crd_mem(0x70000, 9, 7)));
    OK(nova_create_sm(s + 2, pd, n));
    OK(nova_call(s + 1));
    if (n & 1) {
        send(s + 1, crd_obj(s + 2, 0, 0x1f), 0x8000ul << 12);
    } else {
        send(s + 1, crd_mem(RAM_VA >> PAGE_SHIFT, 4, 7), (0x70010ul) << 12 | ITEM_G | ITEM_D);
        OK(nova_revoke(crd_mem((RAM_VA >> PAGE_SHIFT) + 5, 0, 7), false)); /* splits */
    }
    OK(nova_create_ec(s + 3, pd, CHILD_VA + 0x1000, c, PORTAL(child_thread), 0, true));
    OK(nova_create_sc(s + 4, pd, s + 3, QPD_MAKE(20, 1000)));
    OK(nova_create_ec(s + 5, pd, 0, c, 0, 0, true));
    OK(nova_create_sc(s + 6, SEL_PD, s + 5, QPD_MAKE(20, 1000)));
    for (unsigned i = 0; i < (n % 4 ? 2 : n % 3); i++) /* mostly both have run, sometimes they die on the way */
        woken += nova_sm_down(ran, false, sim_clock() + 10000) == NOVA_SUCCESS;
    OK(nova_revoke(n & 2 ? crd_obj(BLOCK, 6, 0x1f) : crd_obj(pd, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(BLOCK, 6, 0x1f), true));
    (void)nova_sm_down(ran, true, 1);
}
/* What is free once everything that was given up has gone. */
static u64 free_pages(void) {
    u64 out[2], best = 0;
    for (unsigned i = 0; i < 20; i++) {
        (void)nova_sm_down(NEVER, false, sim_clock() + 100000);
        OK(nova_extension(EXT_KMEM_FREE, 0, 0, out));
        best = max_u64(best, out[0]);
    }
    return best;
}
static u64 root_use(void) {
    u64 out[2] = {0, 0};
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    return out[0];
}
static unsigned cycles(void) {
    const char *v = getenv("CYCLES");
    return v && *v ? (unsigned)strtoul(v, NULL, 0) : 400;
}
static void cycles_root(u64 cpu) {
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    ran = sem_make(0);
    ram_map(ABI_ROOT_UTCB, 5);
    for (unsigned c = 0; c < CPUS; c++) {
        sel_t base = VM_BASE + 0x100 * c;
        handlers[c] = thread_make(c, false, 0);
        startup_make(c);
        (void)grab(ABI_ROOT_UTCB, crd_obj(EVENTS(c) + EVT_THREAD_STARTUP, 0, 0x1f), (base + EVT_THREAD_STARTUP) << 12,
                   crd_obj(0, 31, 0x1f));
        (void)grab(ABI_ROOT_UTCB, crd_obj(ran, 0, 0x1f), (base + 0x29) << 12, crd_obj(0, 31, 0x1f));
        OK(nova_create_pt(base + EVT_VCPU_STARTUP, SEL_PD, handlers[c].ec, 0, PORTAL(on_vm)));
        OK(nova_pt_ctrl(base + EVT_VCPU_STARTUP, c << 8));
        OK(nova_create_pt(base + EXIT_HLT, SEL_PD, handlers[c].ec, 0, PORTAL(on_vm)));
        OK(nova_pt_ctrl(base + EXIT_HLT, c << 8 | EXIT_HLT));
    }
    for (unsigned n = 0; n < 40; n++)
        cycle(n, (unsigned)cpu);
    u64 before = free_pages(), used = root_use();
    for (unsigned n = 0; n < cycles(); n++)
        cycle(n, (unsigned)cpu);
    u64 after = free_pages();
    sim_expect_eq(root_use(), used); /* to the byte, with all that root's children and theirs are charged for */
    sim_expect(after + KEPT >= before);
    sim_expect(woken >= cycles() && halted >= cycles() / 2); /* threads and guests did run */
    sim_log("sim: %u cycles, %u wake-ups, %u guests, %lu pages free before, %lu after\n", cycles(), woken, halted,
            before, after);
    sim_done();
}
static void cycles_leave_free_pages_unchanged(void **s) {
    (void)s;
    struct sim_options o = {.cpus = CPUS, .root = cycles_root, .steps = ~0ul};
    assert_int_equal(sim_seeds(&o, 1, cycles() > 1000 ? 1 : 4, SIM_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cycles_leave_free_pages_unchanged)};
    return cmocka_run_group_tests_name("sim cycles", tests, NULL, NULL);
}
