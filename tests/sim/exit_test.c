/* Goal: every exit code and every invalid state of a vCPU ends in the event of ABI section 4 and 8 (AMD-V) or shuts the vCPU down, never
 * the kernel (kernel-design.md 3, "bad state from a VMM crashes the kernel; exit code out of table"); a hostile guest starves nobody.
 * Method: a scripted guest that leaves with any code; a VMM that writes one wrong field at a time; the events are counted. */
#include "arch/ptab.h"
#include "core/ec.h"
#include "core/pd.h"
#include "simtest.h"

#define STEP     sizeof(struct sim_guest_step)
#define EXIT_HLT 0x78
#define NEVER    0x50ul
#define BASE     0x4000ul
#define EVENTS_N 256

static struct thread handler;
static sel_t vm_pd, vcpu, sc, done;
static unsigned seen[EVENTS_N], order[EVENTS_N], events;
static const struct sim_guest_step *script, *vectors; /* where injected events go on */
static struct abi_state last;

/* The state that a VMM sets at STARTUP; `spoil` makes one part of it wrong until the first 0xfd. */
static void (*spoil)(struct abi_state *);
static u32 exc_intercepts, ctrl[2];
static void state_good(struct abi_state *st) {
    *st = (struct abi_state){.rip = (u64)script,
                             .rdx = (u64)vectors,
                             .rflags = 2,
                             .cr0 = 0x10,
                             .dr7 = 0x400,
                             .cs = {0, 0x9b, 0xffff, 0},
                             .ss = {0, 0x93, 0xffff, 0},
                             .ctrl = {ctrl[0], ctrl[1] | 1}, /* VMRUN: section 8 */
                             .xcr0 = 1,
                             .pat = 0x0007040600070406,
                             .exc_intercepts = exc_intercepts};
    st->mtd = MTD_ACDB | MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS | MTD_INJ |
              MTD_XSAVE | MTD_PAT | MTD_MASKS | MTD_TSC_AUX;
}

static void on_event(u64 event) {
    struct abi_utcb *u = utcb_at(handler.utcb);
    struct abi_state *st = &u->state;
    last = *st;
    seen[event]++;
    order[events++ % EVENTS_N] = (unsigned)event;
    switch (event) {
    case EVT_VCPU_STARTUP:
        state_good(st);
        if (spoil)
            spoil(st);
        break;
    case EVT_SVM_INVALID:
        state_good(st);
        spoil = NULL;
        break;
    case EXIT_HLT:
        up(done);
        OK(nova_sm_down(NEVER, false, 0));
        break;
    default:
        st->mtd = 0;
    }
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 0);
    reply();
}

static void vm_make(unsigned cpu) {
    handler = thread_make(cpu, false, 0);
    vm_pd = sel_new(), vcpu = sel_new(), sc = sel_new();
    events = 0;
    for (unsigned i = 0; i < EVENTS_N; i++) {
        seen[i] = 0;
        OK(nova_create_pt(BASE + i, SEL_PD, handler.ec, MTD_ACDB | MTD_RIP | MTD_QUAL, PORTAL(on_event)));
        OK(nova_pt_ctrl(BASE + i, i));
    }
    OK(nova_create_pd(vm_pd, SEL_PD, crd_obj(BASE, 8, 0x1f)));
    OK(nova_create_ec(vcpu, vm_pd, 0, cpu, 0, 0, true));
}
static void vm_start(void) { OK(nova_create_sc(sc, SEL_PD, vcpu, QPD_MAKE(20, 1000))); }
static void vm_end(void) {
    OK(nova_revoke(crd_obj(vm_pd, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(vcpu, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(sc, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(BASE, 8, 0x1f), true));
    OK(nova_revoke(crd_obj(handler.ec, 0, 0x1f), true));
}
static void prepare(void) {
    done = sem_make(0);
    OK(nova_create_sm(NEVER, SEL_PD, 0));
}
static const struct ec *ec_at(sel_t sel) {
    struct kobj *o = objtab_lookup(&root_pd->objtab, sel).obj;
    return o ? container_of(o, struct ec, obj) : NULL;
}

/* --- exit codes --- */
#define CODES 0xa0
#define LEAVE(code)                                                                                                    \
    { SIM_G_EXIT, 7, (code) == EXIT_HLT ? 0x77 : (code) } /* HLT ends it */
#define LEAVE8(c)                                                                                                      \
    LEAVE(c), LEAVE(c + 1), LEAVE(c + 2), LEAVE(c + 3), LEAVE(c + 4), LEAVE(c + 5), LEAVE(c + 6), LEAVE(c + 7)
#define LEAVE32(c) LEAVE8(c), LEAVE8(c + 8), LEAVE8(c + 16), LEAVE8(c + 24)
static const struct sim_guest_step codes[CODES + 1] = {LEAVE32(0),    LEAVE32(0x20), LEAVE32(0x40),
                                                       LEAVE32(0x60), LEAVE32(0x80), {SIM_G_HLT, 0, 0}};
static const struct sim_guest_step count_and_return[] = {{SIM_G_ADD, 0, 1}, {SIM_G_IRET, 0, 0}};
static bool by_kernel(unsigned code) { /* section 8: INTR, NMI; #DB #AC #MC, INVLPGA, STGI, XSETBV unless asked for */
    return code == 0x60 || code == 0x61 ||
           (!exc_intercepts &&
            (code == 0x41 || code == 0x51 || code == 0x52 || code == 0x7a || code == 0x84 || code == 0x8d));
}
static void codes_run(unsigned cpu) {
    script = codes, vectors = count_and_return;
    vm_make(cpu);
    vm_start();
    OK(nova_sm_down(done, false, sim_clock() + 100000000));
    for (unsigned i = 0; i < CODES; i++)
        sim_expect_eq(seen[i], by_kernel(i) ? 0 : i == 0x77 ? 2 : 1);
    sim_expect_eq(seen[EVT_SVM_INVALID] + seen[EVT_SVM_NPF] + seen[EVT_VCPU_RECALL], 0);
    sim_expect_eq(last.rax, exc_intercepts ? 0 : 6); /* those that the kernel reflects arrive in the guest */
    vm_end();
}
/* Codes outside of the table: the vCPU never runs again, the kernel goes on. */
#define ODD(code)                                                                                                      \
    {                                                                                                                  \
        {SIM_G_EXIT, 0, code}, { SIM_G_HLT, 0, 0 }                                                                     \
    }
static const struct sim_guest_step outside[][2] = {ODD(0xa0),   ODD(0xa5),      ODD(0xff),  ODD(0x100),
                                                   ODD(0x3ff),  ODD(0x401),     ODD(0x402), ODD(0x403),
                                                   ODD(0xffff), ODD(1ul << 32), ODD(~2ul),  ODD(1ul << 63)};
static const struct sim_guest_step minus_one[][2] = {ODD(~0ul), ODD(0xffffffff)};
static void odd_run(unsigned cpu, const struct sim_guest_step *program) {
    script = program;
    vm_make(cpu);
    vm_start();
    sim_expect_eq(nova_sm_down(done, false, sim_clock() + 100000), NOVA_TIMEOUT);
    sim_expect_eq(ec_at(vcpu)->cont, CONT_DEAD);
    sim_expect_eq(events, 1); /* STARTUP */
    vm_end();
}
/* Both forms of -1: invalid; the state counts as refused, though what we had was good. */
static void minus_one_run(unsigned cpu, const struct sim_guest_step *program) {
    script = program;
    vm_make(cpu);
    vm_start();
    for (unsigned i = 0; i < 1000 && !seen[EVT_SVM_INVALID]; i++)
        sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 1000), NOVA_TIMEOUT);
    sim_expect(seen[EVT_SVM_INVALID]);
    vm_end();
}
static void codes_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    prepare();
    exc_intercepts = ctrl[0] = ctrl[1] = 0;
    codes_run(c);
    exc_intercepts = 1u << 1 | 1u << 17 | 1u << 18;   /* the VMM asks for #DB #AC #MC, */
    ctrl[0] = 1u << 26, ctrl[1] = 1u << 4 | 1u << 13; /* INVLPGA; STGI, XSETBV (APM vol 2 appendix B) */
    codes_run(c);
    exc_intercepts = ctrl[0] = ctrl[1] = 0;
    odd_run(c, outside[sim_choose(SIM_WORKLOAD, ARRAY_SIZE(outside))]);
    minus_one_run(c, minus_one[sim_choose(SIM_WORKLOAD, 2)]);
    sim_done();
}
static void every_exit_code(void **s) {
    (void)s;
    scenario_on(SIM_AMD, codes_root, 2, 24);
}

/* --- states that the hardware refuses --- */
#define SPOIL(name, code)                                                                                              \
    static void name(struct abi_state *st) { code; }
SPOIL(no_vmrun, st->ctrl[1] = 0)
SPOIL(cr0_nw, st->cr0 |= 1ul << 29)
SPOIL(cr0_high, st->cr0 |= 1ul << 32)
SPOIL(cr3_high, st->cr3 = 1ul << 52)
SPOIL(cr4_31, st->cr4 = 1ul << 31)
SPOIL(cr4_63, st->cr4 = 1ul << 63)
SPOIL(dr7_high, st->dr7 |= 1ul << 40)
SPOIL(efer_2, st->efer = 4)
SPOIL(efer_63, st->efer = 1ul << 63)
SPOIL(long_no_pae, (st->efer = 0x100, st->cr0 |= 1ul << 31 | 1))
SPOIL(long_no_pe, (st->efer = 0x100, st->cr0 |= 1ul << 31, st->cr4 = 0x20))
SPOIL(long_l_and_d, (st->efer = 0x100, st->cr0 |= 1ul << 31 | 1, st->cr4 = 0x20, st->cs.ar |= 0x600))
SPOIL(pat_2, st->pat = 2)
SPOIL(pat_3, st->pat = 0x0300)
SPOIL(pat_8, st->pat = 8ul << 56)
SPOIL(inj_1, st->inj_info = INJ_VALID | 1 << 8 | 32)
SPOIL(inj_7, st->inj_info = INJ_VALID | 7 << 8 | 32)
SPOIL(inj_exc_32, st->inj_info = INJ_VALID | 3 << 8 | 32)
SPOIL(inj_exc_nmi, st->inj_info = INJ_VALID | 3 << 8 | 2)
SPOIL(aux_high, st->tsc_aux = 1ul << 32)
SPOIL(xcr0_0, st->xcr0 = 0)
SPOIL(xcr0_avx_alone, st->xcr0 = 5)
SPOIL(xcr0_63, st->xcr0 = 1ul << 63 | 1)
SPOIL(xss_set, st->xss = 1)
static void (*const spoils[])(struct abi_state *) = {
    no_vmrun, cr0_nw,      cr0_high,    cr3_high,     cr4_31, cr4_63,         dr7_high, efer_2,
    efer_63,  long_no_pae, long_no_pe,  long_l_and_d, pat_2,  pat_3,          pat_8,    inj_1,
    inj_7,    inj_exc_32,  inj_exc_nmi, aux_high,     xcr0_0, xcr0_avx_alone, xcr0_63,  xss_set};
static const struct sim_guest_step halts[] = {{SIM_G_HLT, 0, 0}};
static void invalid_root(u64 cpu) {
    prepare();
    script = halts, vectors = halts;
    for (unsigned i = 0; i < ARRAY_SIZE(spoils); i++) {
        vm_make((unsigned)cpu);
        spoil = spoils[i];
        vm_start();
        OK(nova_sm_down(done, false, sim_clock() + 10000000));
        sim_expect_eq(events, 3); /* STARTUP, invalid, HLT: put right, it runs */
        sim_expect(order[0] == EVT_VCPU_STARTUP && order[1] == EVT_SVM_INVALID && order[2] == EXIT_HLT);
        if (events != 3)
            sim_log("sim: state %u\n", i);
        vm_end();
    }
    sim_done();
}
static void every_invalid_state(void **s) {
    (void)s;
    scenario_on(SIM_AMD, invalid_root, 2, 6);
}

/* --- injections: types 0, 2, 3, 4 of every vector that has a meaning; 5 and 6 are exceptions on this hardware --- */
static u32 inject;
static void injects(struct abi_state *st) { st->inj_info = inject; }
static void injection_root(u64 cpu) {
    static const u8 types[] = {0, 2, 3, 4, 5, 6};
    prepare();
    script = halts, vectors = halts;
    for (unsigned n = 0; n < 40; n++) {
        unsigned type = types[sim_choose(SIM_WORKLOAD, 6)],
                 vector = type == 2 ? 2 : sim_choose(SIM_WORKLOAD, type == 0 || type == 4 ? 256 : 32);
        if (type == 3 || type == 5 || type == 6)
            vector += vector == 2;
        inject = INJ_VALID | type << 8 | vector;
        vm_make((unsigned)cpu);
        spoil = injects;
        vm_start();
        OK(nova_sm_down(done, false, sim_clock() + 10000000));
        sim_expect_eq(events, 2);
        sim_expect_eq(last.rcx,
                      vector); /* delivered before the first instruction: the model leaves the vector in RCX */
        spoil = NULL;
        vm_end();
    }
    sim_done();
}
static void every_injection(void **s) {
    (void)s;
    scenario_on(SIM_AMD, injection_root, 2, FEW(6));
}

/* --- the window of a nested fault's reply lies around the guest-physical page --- */
#define GPA_FAR ((3ul << 43) + 0x5008)
static const struct sim_guest_step reads_far[] = {{SIM_G_READ, 0, GPA_FAR}, {SIM_G_HLT, 0, 0}};
static void on_far_fault(u64 event) {
    struct abi_utcb *u = utcb_at(handler.utcb);
    seen[event]++;
    sim_expect_eq(u->state.qual[1], GPA_FAR);
    u->state.mtd = 0;
    u->w[UTCB_WORDS - 2] = crd_mem(RAM_VA >> PAGE_SHIFT, 0, 7);
    u->w[UTCB_WORDS - 1] = 5ul << 12 | ITEM_G | ITEM_DELEGATE; /* a page number in the window */
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
    reply();
}
static void window_root(u64 cpu) {
    u64 v = 0xfa12;
    prepare();
    ram_map(ABI_ROOT_UTCB, 4);
    sim_mem_write(RAM_VA + 8, &v, sizeof(v));
    script = reads_far, vectors = halts;
    vm_make((unsigned)cpu);
    OK(nova_revoke(crd_obj(BASE + EVT_SVM_NPF, 0, 0x1f), true)); /* also the VM's */
    OK(nova_revoke(crd_obj(vm_pd, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(vcpu, 0, 0x1f), true));
    OK(nova_create_pt(BASE + EVT_SVM_NPF, SEL_PD, handler.ec, MTD_QUAL, PORTAL(on_far_fault)));
    OK(nova_pt_ctrl(BASE + EVT_SVM_NPF, EVT_SVM_NPF));
    OK(nova_create_pd(vm_pd, SEL_PD, crd_obj(BASE, 8, 0x1f)));
    OK(nova_create_ec(vcpu, vm_pd, 0, (u32)cpu, 0, 0, true));
    vm_start();
    OK(nova_sm_down(done, false, sim_clock() + 10000000));
    sim_expect_eq(seen[EVT_SVM_NPF], 1);
    sim_expect_eq(last.rax, 0xfa12);
    sim_done();
}
static void nested_fault_window(void **s) {
    (void)s;
    scenario_on(SIM_AMD, window_root, 2, 12);
}

/* --- G and D: guest page table, guest port map, DMA table follow delegation and revocation --- */
static void tables_root(u64 cpu) {
    (void)cpu;
    u64 page = RAM_VA >> PAGE_SHIFT, to = 0x60000, pfn;
    unsigned perm;
    prepare();
    ram_map(ABI_ROOT_UTCB, 4);
    static const u32 flags[] = {0, ITEM_G, ITEM_D, ITEM_G | ITEM_D, ITEM_G | ITEM_N};
    for (unsigned i = 0; i < ARRAY_SIZE(flags); i++) {
        (void)grab(ABI_ROOT_UTCB, crd_mem(page, 0, 7), to << 12 | flags[i], crd_mem(to, 0, 7));
        sim_expect_eq(ptab_lookup(&root_pd->host, to, &pfn, &perm), true);
        sim_expect_eq(perm, flags[i] & ITEM_N ? 3 : 7);
        sim_expect_eq(ptab_lookup(&root_pd->guest, to, &pfn, &perm), (flags[i] & ITEM_G) != 0);
        if (flags[i] & ITEM_G)
            sim_expect(pfn == RAM_PFN && perm == 7);
        sim_expect_eq(ptab_lookup(&root_pd->dma, to, &pfn, &perm), (flags[i] & ITEM_D) != 0);
        if (flags[i] & ITEM_D)
            sim_expect(pfn == RAM_PFN && perm == 3); /* devices do not execute */
        OK(nova_revoke(crd_mem(page, 0, PERM_MEM_W), false));
        if (ptab_lookup(&root_pd->dma, to, &pfn, &perm))
            sim_expect_eq(perm, 1);
        OK(nova_revoke(crd_mem(page, 0, 7), false));
        sim_expect(!ptab_lookup(&root_pd->guest, to, &pfn, &perm) && !ptab_lookup(&root_pd->dma, to, &pfn, &perm));
    }
    sim_done();
}
static void dma_table_follows(void **s) {
    (void)s;
    scenario_on(SIM_AMD, tables_root, 1, 1);
}

/* A port with G does not leave; without G, or taken away, it does. */
static const struct sim_guest_step ports[] = {
    {SIM_G_IO, 0, 0x70}, {SIM_G_IO, 1, 0x71}, {SIM_G_IO, 0, 0x72}, {SIM_G_HLT, 0, 0}};
static u64 receiver_utcb, receiver_window;
static void receiver(u64 utcb) {
    utcb_at(utcb)->del = receiver_window;
    reply();
}
static unsigned io_exits;
static void on_io(u64 event) {
    struct abi_utcb *u = utcb_at(handler.utcb);
    (void)event;
    io_exits |= 1u << (u->state.qual[0] >> 16 & 3);
    u->state.rip = u->state.qual[1];
    u->state.mtd = MTD_RIP;
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 0);
    reply();
}
static void ports_root(u64 cpu) {
    prepare();
    script = ports, vectors = halts;
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_pio(0x70, 2), ITEM_H, crd_pio(0, 16)), crd_pio(0x70, 2));
    vm_make((unsigned)cpu);
    OK(nova_revoke(crd_obj(vm_pd, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(vcpu, 0, 0x1f), true));
    OK(nova_revoke(crd_obj(BASE + 0x7b, 0, 0x1f), true));
    OK(nova_create_pt(BASE + 0x7b, SEL_PD, handler.ec, MTD_RIP | MTD_QUAL, PORTAL(on_io)));
    OK(nova_create_pd(vm_pd, SEL_PD, crd_obj(BASE, 8, 0x1f)));
    OK(nova_create_ec(vcpu, vm_pd, 0, (u32)cpu, 0, 0, true));
    sel_t ec = sel_new(), pt = sel_new();
    receiver_utcb = 0x70000000, receiver_window = crd_pio(0, 16);
    OK(nova_create_ec(ec, vm_pd, receiver_utcb, (u32)cpu, 0, 0x200, false));
    OK(nova_create_pt(pt, SEL_PD, ec, 0, PORTAL(receiver)));
    OK(nova_pt_ctrl(pt, receiver_utcb));
    OK(nova_call(pt));
    struct abi_utcb *u = utcb_at(ABI_ROOT_UTCB);
    u->w[UTCB_WORDS - 2] = crd_pio(0x70, 1); /* 0x70 and 0x71 with, 0x72 without */
    u->w[UTCB_WORDS - 1] = ITEM_G | ITEM_DELEGATE;
    u->w[UTCB_WORDS - 4] = crd_pio(0x72, 0);
    u->w[UTCB_WORDS - 3] = ITEM_DELEGATE;
    u->items = UTCB_ITEMS(0, 2);
    OK(nova_call(pt));
    OK(nova_revoke(crd_pio(0x71, 0), false));
    vm_start();
    OK(nova_sm_down(done, false, sim_clock() + 10000000));
    sim_expect_eq(io_exits, 1u << 1 | 1u << 2);
    sim_done();
}
static void guest_memory_and_ports_by_g(void **s) {
    (void)s;
    scenario_on(SIM_AMD, ports_root, 2, 8);
}

/* --- a hostile guest: exits, faults, exceptions that never end, caches off; a more important thread is never late --- */
#define LATE_MAX 1000 /* ticks: 100 us of virtual time; 470 were seen */
#define BAD_CPUID                                                                                                      \
    { SIM_G_CPUID, 0, 0 }
#define BAD(code)                                                                                                      \
    { SIM_G_EXIT, 0, code }
static const struct sim_guest_step flood[4][6] = {
    {BAD_CPUID, {SIM_G_IO, 0, 0x80}, {SIM_G_RDMSR, 0, 0x10}, BAD(0x41), BAD(0x84), {SIM_G_JUMP, 0, (u64)flood[0]}},
    {BAD(0x41), BAD(0x41), BAD(0x52), BAD(0x8d), BAD(0x51), {SIM_G_JUMP, 0, (u64)flood[1]}},
    {BAD_CPUID, BAD_CPUID, BAD_CPUID, BAD_CPUID, BAD_CPUID, {SIM_G_JUMP, 0, (u64)flood[2]}},
    {BAD(0x8d), BAD_CPUID, BAD(0x7a), {SIM_G_IO, 1, 0x80}, BAD(0x60), {SIM_G_JUMP, 0, (u64)flood[3]}},
};
static const struct sim_guest_step again[] = {{SIM_G_EXIT, 0, 0x41}, {SIM_G_JUMP, 0, (u64)again}};
static void caches_off(struct abi_state *st) { st->cr0 |= 1ul << 30; }
static u64 late;
static void punctual(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 200; i++) {
        u64 until = sim_clock() + 10 * sim_choose(SIM_WORKLOAD, 400);
        sim_expect_eq(nova_sm_down(NEVER, false, until), NOVA_TIMEOUT);
        late = max_u64(late, sim_clock() - until);
    }
    up(done);
}
static void hostile_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    prepare();
    startup_make(c);
    script = flood[sim_choose(SIM_WORKLOAD, 4)], vectors = sim_choose(SIM_WORKLOAD, 2) ? again : count_and_return;
    spoil = caches_off;
    vm_make(c);
    vm_start();
    thread_start(c, 50, punctual);
    OK(nova_sm_down(done, false, sim_clock() + 1000000000));
    sim_expect(late <= LATE_MAX);
    if (late > LATE_MAX)
        sim_log("sim: %lu ticks late\n", late);
    sim_expect_eq(seen[EVT_SVM_INVALID], 0);
    sim_done();
}
static void hostile_guest_starves_nobody(void **s) {
    (void)s;
    scenario_on(SIM_AMD, hostile_root, 1, FEW(40));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_exit_code),
        cmocka_unit_test(every_invalid_state),
        cmocka_unit_test(every_injection),
        cmocka_unit_test(nested_fault_window),
        cmocka_unit_test(dma_table_follows),
        cmocka_unit_test(guest_memory_and_ports_by_g),
        cmocka_unit_test(hostile_guest_starves_nobody),
    };
    return cmocka_run_group_tests_name("sim exit", tests, NULL, NULL);
}
