/* Goal: VM entry is no way into the kernel: whatever a VMM writes into a vCPU's state, the vCPU runs and leaves with an event, or the entry comes back
 * as the invalid-guest-state event; and afterwards good state runs again (ABI sections 4 and 8).
 * Method: a handler that answers every event of a guest with the whole state, some words of it at and across the boundaries of validity; VMCB and
 * VMCS models with the manuals' entry checks. 500 states a run; SEEDS=n for more. */
#include "simtest.h"
#include <string.h>

#define STATES  500
#define MTD_ALL (0x1fffffu | ABI_MTD_EXT)
#define BASE    0x4000ul
#define STEP    sizeof(struct sim_guest_step)

static const struct sim_guest_step script[] = {
    {SIM_G_SET, 0, 7},
    {SIM_G_RDMSR, 0, 0xc0000082},
    {SIM_G_CR4, 0, 0x20},
    {SIM_G_CR0, 0, 0x31},
    {SIM_G_READ, 0, 0x1000},
    {SIM_G_EXCEPTION, 0, 1},
    {SIM_G_EXCEPTION, 0, 17},
    {SIM_G_XSETBV, 0, 1},
    {SIM_G_WRMSR, 0, 0xc0000084},
    {SIM_G_IO, 0, 0x80},
    {SIM_G_STI, 0, 0},
    {SIM_G_CPUID, 0, 0},
    {SIM_G_JUMP, 0, (u64)script},
};
static struct thread handler;
static unsigned events, invalid;
static bool was_good;

static u32 invalid_event(void) { return sim_is_intel() ? EVT_VMX_INVALID : EVT_SVM_INVALID; }

/* Real mode, anything that the entry needs. */
static void state_good(struct abi_state *s) {
    memset(&s->inst_len, 0, sizeof(*s) - offsetof(struct abi_state, inst_len));
    s->rip = s->rdx = (u64)&script[sim_choose(SIM_WORKLOAD, 12)];
    s->rflags = 2;
    s->cr0 = 0x30;
    s->dr7 = 0x400;
    s->pat = 0x0007040600070406;
    s->xcr0 = 1;
    s->ctrl[1] = !sim_is_intel();
    for (struct abi_seg *g = &s->es; g <= &s->idtr; g++)
        *g = (struct abi_seg){.ar = g == &s->cs     ? 0x9b
                                    : g == &s->ldtr ? 0x82
                                    : g == &s->tr   ? 0x8b
                                                    : 0x93,
                              .limit = 0xffff};
}

static void state_spoil(struct abi_utcb *u) {
    static const u64 edges[] = {0,
                                ~0ul,
                                0x00007ffffffffffful,
                                0x0000800000000000ul,
                                0xffff800000000000ul,
                                0xffff7ffffffffffful,
                                1ul << 40,
                                0xffffffff,
                                1ul << 32,
                                0x80000000,
                                0x80000b0d,
                                0x80000202};
    for (u32 n = 1 + sim_choose(SIM_WORKLOAD, 3); n; n--) {
        u64 *word = &u->w[1 + sim_choose(SIM_WORKLOAD, ABI_STATE_EXT_WORDS - 1)];
        switch (sim_choose(SIM_WORKLOAD, 3)) {
        case 0:
            *word ^= 1ul << sim_choose(SIM_WORKLOAD, 64);
            break;
        case 1:
            *word = edges[sim_choose(SIM_WORKLOAD, sizeof(edges) / sizeof(edges[0]))];
            break;
        default:
            *word = (u64)sim_choose(SIM_WORKLOAD, ~0u) << 32 | sim_choose(SIM_WORKLOAD, ~0u);
        }
    }
}

static void on_event(u64 number) {
    struct abi_utcb *u = utcb_at(handler.utcb);
    sim_expect(!was_good || number != invalid_event());
    invalid += number == invalid_event();
    events++;
    state_good(&u->state);
    was_good = sim_choose(SIM_WORKLOAD, 4) == 0;
    if (!was_good)
        state_spoil(u);
    u->state.mtd = MTD_ALL;
    u->items = UTCB_ITEMS(0, 0);
    reply();
}

static void root(u64 cpu) {
    unsigned other = (unsigned)cpu ^ 1;
    handler = thread_make(other, false, 0);
    for (unsigned e = 0; e < ABI_EVENTS_VCPU; e++) {
        OK(nova_create_pt(BASE + e, SEL_PD, handler.ec, 0, PORTAL(on_event)));
        OK(nova_pt_ctrl(BASE + e, e));
    }
    sel_t pd = sel_new(), vcpu = sel_new(), never = sem_make(0);
    OK(nova_create_pd(pd, SEL_PD, crd_obj(BASE, 8, 0x1f)));
    OK(nova_create_ec(vcpu, pd, 0, other, 0, 0, true));
    OK(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(20, 1000)));
    while (events < STATES) { /* a guest that waits for an interrupt, or has nothing that leaves, is recalled */
        unsigned before = events;
        sim_expect_eq(nova_sm_down(never, false, sim_clock() + 2000), NOVA_TIMEOUT);
        if (events == before)
            OK(nova_recall(vcpu));
    }
    sim_expect(invalid > STATES / 20 && invalid < STATES * 19 / 20);
    sim_done();
}

static void any_state_runs_or_comes_back(void **s) {
    (void)s;
    for (enum sim_vendor v = SIM_AMD; v <= SIM_INTEL; v++) {
        struct sim_options o = {.cpus = 2, .root = root, .check_every = 64, .vendor = v};
        assert_int_equal(sim_seeds(&o, 1, 20, SIM_OK), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_state_runs_or_comes_back)};
    return cmocka_run_group_tests_name("sim entry", tests, NULL, NULL);
}
