/* Goal: no register and no page shows another domain's data (ABI sections 5, 8, 9; kernel-design.md 3, "FPU or recycled memory shows another PD's data").
 * Method: threads and guests fill every register, every UTCB word and every debug register that they have with a marker of their own, all the
 * time, on short quanta; everything that a thread, a fresh thread, a fresh vCPU, a handler or a server can see is looked at: zero, its own, or what
 * the interface puts there, never a marker of somebody else. */
#include "arch/mitigate.h"
#include "core/ec.h"
#include "simtest.h"

#define MARK    0xffffe7ul /* canonical above 40 bits, as a base must be */
#define NEVER   0x50ul
#define OWN(n)  (MARK << 40 | (u64)(n) << 16)
#define THREADS 4u
#define VM_BASE 0x4000ul
static sel_t done, pt[2];
static unsigned exit_hlt(void) { return sim_is_intel() ? 12 : 0x78; }
static unsigned numbers;

static bool foreign(u64 v, u64 own) { return v >> 40 == MARK && (v & ~0xfffful) != own; }
static u64 *reg(unsigned i) {
    struct uregs *r = sim_regs();
    u64 *const at[] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rbp, &r->rsi, &r->rdi, &r->r8,
                       &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15};
    return at[i];
}
#define REGS 15u
static void registers_fill(u64 own) {
    for (unsigned i = 0; i < REGS; i++)
        *reg(i) = own | i;
}
static void registers_look(u64 own) {
    for (unsigned i = 0; i < REGS; i++)
        sim_expect(!foreign(*reg(i), own));
    sim_expect(!foreign(sim_fs_base(), own) && !foreign(sim_gs_base(), own));
    for (unsigned i = 0; i < 8; i++)
        sim_expect(!foreign(sim_fpu_get(i), own));
}
static void others_fill(u64 own) {
    for (unsigned i = 0; i < 8; i++)
        sim_fpu_set(i, own | i);
    sim_fs_base_set(own);
    sim_gs_base_set(own);
}
static void utcb_fill(u64 utcb, u64 own) {
    struct abi_utcb *u = utcb_at(utcb);
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        u->w[i] = own | i;
    u->tls = own;
    u->xlt = u->del = own & ~3ul;
}

/* A server: what it sees at its entry is its own, and the words that were sent. */
static u64 server_utcb[2];
static unsigned sent;
static void server(u64 which) {
    u64 own = OWN(0x100 + which);
    for (unsigned i = 0; i < REGS; i++)
        if (reg(i) != &sim_regs()->rdi)
            sim_expect(!foreign(*reg(i), own));
    struct abi_utcb *u = utcb_at(server_utcb[which]);
    u64 n = u->items & 0xffff;
    for (unsigned i = (unsigned)n; i < UTCB_WORDS; i++)
        sim_expect(!foreign(u->w[i], own));
    sim_expect(!foreign(u->tls, own) && !foreign(u->xlt, own) && !foreign(u->del, own));
    registers_look(own);
    others_fill(own);
    utcb_fill(server_utcb[which], own);
    utcb_at(server_utcb[which])->items = 0;
    sent++;
    struct uregs *r = sim_regs();
    r->rbx = r->rbp = r->r9 = r->r10 = r->r12 = r->r13 = r->r14 = r->r15 = own;
    sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY, .rsi = own, .rdx = own, .rax = own, .r8 = own});
}
/* #UD of a marked thread: the message has nothing but what the MTD names. */
static struct thread handlers[2];
static void on_undefined(u64 which) {
    struct abi_utcb *u = utcb_at(handlers[which].utcb);
    u64 own = OWN(0x200 + which);
    for (unsigned i = 1; i < UTCB_WORDS; i++)
        if (i != offsetof(struct abi_state, rip) / 8 && i != offsetof(struct abi_state, inst_len) / 8)
            sim_expect(!foreign(u->w[i], own));
    utcb_fill(handlers[which].utcb, own);
    utcb_at(handlers[which].utcb)->w[0] = 0;
    utcb_at(handlers[which].utcb)->items = 0;
    reply();
}
static void marked(u64 rdi) {
    (void)rdi;
    unsigned n = numbers++, c = sim_cpu();
    u64 own = OWN(n + 1);
    registers_look(0); /* a new thread has nothing at all */
    for (unsigned i = 0; i < 8; i++)
        sim_expect_eq(sim_fpu_get(i), 0);
    sim_expect(sim_fs_base() == 0 && sim_gs_base() == 0);
    for (unsigned round = 0; round < 12; round++) {
        others_fill(own);
        registers_fill(own);
        for (u32 k = sim_choose(SIM_WORKLOAD, 40); k; k--)
            sim_step();
        for (unsigned i = 0; i < REGS; i++)
            sim_expect_eq(*reg(i), own | i);
        for (unsigned i = 0; i < 8; i++)
            sim_expect_eq(sim_fpu_get(i), own | i);
        sim_expect(sim_fs_base() == own && sim_gs_base() == own);
        if (round % 3 == 0) {
            registers_fill(own);
            sim_raise(6, 0);
        } else if (round % 3 == 1) {
            OK(nova_call(pt[c]));
        }
    }
    up(done);
}

/* Guests: FPU and debug register 0 hold a marker when another one comes; a fresh one sees zero. */
#define PROGRAM(n)                                                                                                     \
    {                                                                                                                  \
        {SIM_G_FPU, 1, 0}, {SIM_G_HLT, 0, 0}, {SIM_G_DR, 1, 0}, {SIM_G_HLT, 0, 0}, {SIM_G_FPU, 0, OWN(0x300 + n)},     \
            {SIM_G_DR, 0, OWN(0x300 + n)}, {SIM_G_ADD, 0, 1}, {                                                        \
            SIM_G_JUMP, 0, (u64)programs[n]                                                                            \
        }                                                                                                              \
    }
static const struct sim_guest_step programs[2][8] = {PROGRAM(0), PROGRAM(1)};
static struct thread vm_handler;
static u64 results[2][2];
static unsigned results_count[2];
static void on_vm(u64 pid) {
    struct abi_utcb *u = utcb_at(vm_handler.utcb);
    struct abi_state *st = &u->state;
    unsigned n = (unsigned)(pid >> 8) & 1;
    if ((pid & 0xff) == EVT_VCPU_STARTUP) {
        for (unsigned i = 6; i < 22; i++) /* all general registers of a new vCPU */
            sim_expect_eq(u->w[i], 0);
        *st = (struct abi_state){.rip = (u64)programs[n],
                                 .rflags = 2,
                                 .cr0 = 0x10,
                                 .dr7 = 0x400,
                                 .cs = {0, 0x93, 0xffff, 0},
                                 .ss = {0, 0x93, 0xffff, 0},
                                 .ctrl = {0, !sim_is_intel()}};
        st->mtd = MTD_ACDB | MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS;
    } else { /* HLT: RAX is what it has read */
        if (results_count[n] < 40)
            sim_expect(!foreign(st->rax, OWN(0x300 + n)));
        results[n][results_count[n]++ & 1] = st->rax;
        st->rip += sizeof(struct sim_guest_step);
        st->mtd = MTD_RIP;
        if (results_count[n] == 12)
            up(done);
    }
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 0);
    reply();
}
static void guests_start(unsigned c) {
    vm_handler = thread_make(c, false, 0);
    for (unsigned n = 0; n < 2; n++) {
        sel_t base = VM_BASE + 0x100 * n, vm = sel_new(), vcpu = sel_new();
        OK(nova_create_pt(base + EVT_VCPU_STARTUP, SEL_PD, vm_handler.ec, MTD_ACDB | MTD_BSD | MTD_RSP | MTD_R8_R15,
                          PORTAL(on_vm)));
        OK(nova_pt_ctrl(base + EVT_VCPU_STARTUP, n << 8 | EVT_VCPU_STARTUP));
        OK(nova_create_pt(base + exit_hlt(), SEL_PD, vm_handler.ec, MTD_ACDB | MTD_RIP, PORTAL(on_vm)));
        OK(nova_pt_ctrl(base + exit_hlt(), n << 8 | exit_hlt()));
        OK(nova_create_pd(vm, SEL_PD, crd_obj(base, 8, 0x1f)));
        OK(nova_create_ec(vcpu, vm, 0, c, 0, 0, true));
        OK(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(10, 100 + 35 * n)));
    }
}
/* Objects die with their markers; what is made of their memory next is clean. */
static void recycle(unsigned c) {
    sel_t ec = sel_new();
    for (unsigned i = 0; i < 10; i++) {
        u64 at = utcb_new();
        OK(nova_create_ec(ec, SEL_PD, at, c, OWN(0x400), EVENTS(c), i & 1));
        const struct abi_utcb *u = utcb_at(at);
        for (unsigned k = 0; k < UTCB_WORDS; k++)
            sim_expect_eq(u->w[k], 0);
        sim_expect_eq(u->items | u->xlt | u->del | u->tls, 0);
        utcb_fill(at, OWN(0x400));
        OK(nova_revoke(crd_obj(ec, 0, 0x1f), true));
        (void)nova_sm_down(NEVER, false, sim_clock() + 10 * sim_choose(SIM_WORKLOAD, 300));
    }
}
static void secrets_root(u64 cpu) {
    done = sem_make(0);
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    for (unsigned c = 0; c < 2; c++) {
        startup_make(c);
        handlers[c] = thread_make(c, false, 0);
        portal_make(&handlers[c], on_undefined, MTD_RIP, EVENTS(c) + 6);
        OK(nova_pt_ctrl(EVENTS(c) + 6, c));
        struct thread s = {.ec = sel_new(), .utcb = utcb_new(), .cpu = c};
        sel_t domain = SEL_PD; /* one server is in its callers' domain, the other one is not */
        if (c) {
            domain = sel_new();
            OK(nova_create_pd(domain, SEL_PD, 0));
        }
        OK(nova_create_ec(s.ec, domain, s.utcb, c, 0, EVENTS(c), false));
        server_utcb[c] = s.utcb;
        pt[c] = portal_make(&s, server, 0, sel_new());
        OK(nova_pt_ctrl(pt[c], c));
        for (unsigned i = 0; i < THREADS; i++) {
            struct thread t = thread_make(c, true, PORTAL(marked));
            OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 15 + 6 * i))); /* short quanta */
        }
    }
    guests_start((unsigned)cpu);
    recycle((unsigned)cpu);
    for (unsigned i = 0; i < 2 * THREADS + 2; i++)
        OK(nova_sm_down(done, false, sim_clock() + 1000000000));
    sim_expect(sent > 0);
    for (unsigned n = 0; n < 2; n++) { /* and they see their own */
        sim_expect_eq(results[n][0], OWN(0x300 + n));
        sim_expect_eq(results[n][1], OWN(0x300 + n));
    }
    sim_done();
}
static void secrets_stay_secret(void **s) {
    (void)s;
    scenario(secrets_root, 2, FEW(60));
}

/* The same with what processors need that leak by speculation: at each entry of a thread or guest the simulator looks whether the predictors
 * were cleared since another domain ran, the L1 data cache before a guest, and whether the FPU holds this thread's registers. */
static void secrets_from_speculation(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2,
                            .root = secrets_root,
                            .check_every = 16,
                            .vendor = SIM_ANY,
                            .mitigations = MIT_IBPB | MIT_RSB | MIT_L1D | MIT_EAGER_FPU};
    assert_int_equal(sim_seeds(&o, 1, 12, SIM_OK), 0);
}

/* Nor on the shortest way there and back: nobody uses the FPU, and it is switched lazily. */
static void answers(u64 rdi) {
    (void)rdi;
    reply();
}
static void short_root(u64 cpu) {
    sel_t domain = sel_new();
    struct thread s = {.ec = sel_new(), .utcb = utcb_new(), .cpu = (unsigned)cpu};
    OK(nova_create_pd(domain, SEL_PD, 0));
    OK(nova_create_ec(s.ec, domain, s.utcb, s.cpu, 0, EVENTS(cpu), false));
    sel_t portal = portal_make(&s, answers, 0, sel_new());
    for (unsigned i = 0; i < 4; i++)
        OK(nova_call(portal));
    sim_done();
}
static void short_calls_clear_predictors(void **s) {
    (void)s;
    const struct sim_options o = {.cpus = 1, .root = short_root, .vendor = SIM_ANY, .mitigations = MIT_IBPB | MIT_RSB};
    assert_int_equal(sim_seeds(&o, 1, 4, SIM_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(secrets_stay_secret),
                                       cmocka_unit_test(secrets_from_speculation),
                                       cmocka_unit_test(short_calls_clear_predictors)};
    return cmocka_run_group_tests_name("sim secrets", tests, NULL, NULL);
}
