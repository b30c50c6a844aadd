/* Goal: interrupts are semaphores (ABI section 5 "Interrupts"): masked until the first down, one up for each edge, level lines masked on
 * arrival, masked again when no capability is left.
 * Method: the simulator's lines keep what comes while they are masked; the counter is read inside the kernel, for a down would unmask. */
#include "core/pd.h"
#include "core/sm.h"
#include "simtest.h"

static sel_t irq;
static u64 counter(void) {
    for (unsigned i = 0; i < 200; i++) /* until what was raised has arrived */
        sim_step();
    sim_expect_eq(nova_sm_down(0x50, false, sim_clock() + 2000), NOVA_TIMEOUT);
    struct kobj *o = objtab_lookup(&root_pd->objtab, irq).obj;
    return o ? container_of(o, struct sm, obj)->counter : ~0ul;
}
static void take(unsigned gsi) {
    grab(ABI_ROOT_UTCB, crd_obj(ABI_MAX_CPUS + gsi, 0, PERM_SM_ALL), irq << 12 | ITEM_H, crd_obj(irq, 0, 0x1f));
}
static void start(unsigned gsi) {
    if (!irq) {
        irq = sel_new();
        OK(nova_create_sm(0x50, SEL_PD, 0)); /* nobody ups it */
    } else {
        OK(nova_revoke(crd_obj(irq, 0, 0x1f), true));
    }
    take(gsi);
    OK(nova_assign_gsi(irq, 0, sim_choose(SIM_WORKLOAD, 2), NULL));
}
static void unmask(void) { sim_expect_eq(nova_sm_down(irq, true, sim_clock() + 3000), NOVA_TIMEOUT); }
static void raise_irq(unsigned gsi) {
    sim_irq(gsi);
    (void)counter();
}

static void masked_root(u64 cpu) {
    (void)cpu;
    for (unsigned gsi = 3; gsi < 24; gsi += 10) { /* an ISA one, one above */
        start(gsi);
        sim_irq(gsi);
        sim_expect_eq(counter(), 0);
        OK(nova_sm_down(irq, false, sim_clock() + 100000)); /* unmasks first: it comes now */
        sim_expect_eq(counter(), 0);
    }
    sim_done();
}
static void interrupt_masked_until_down(void **s) {
    (void)s;
    scenario(masked_root, 2, 20);
}

static void edge_root(u64 cpu) {
    (void)cpu;
    start(5);
    unmask();
    for (unsigned i = 1; i <= 5; i++) {
        raise_irq(5);
        sim_expect_eq(counter(), i);
    }
    OK(nova_sm_down(irq, true, 1));
    sim_expect_eq(counter(), 0);
    sim_done();
}
static void interrupt_edge_counts(void **s) {
    (void)s;
    scenario(edge_root, 2, 20);
}

static void level_check(unsigned gsi) {
    unmask();
    raise_irq(gsi);
    sim_expect_eq(counter(), 1);
    raise_irq(gsi); /* held back */
    sim_expect_eq(counter(), 1);
    OK(nova_sm_down(irq, false, 1)); /* takes the first, lets the second in */
    sim_expect_eq(counter(), 1);
    OK(nova_sm_down(irq, false, 1));
    sim_expect_eq(counter(), 0);
}
static void level_root(u64 cpu) {
    (void)cpu;
    start(20);
    level_check(20);
    start(6);
    OK(nova_extension(EXT_GSI_CONFIG, irq, 1, NULL));
    level_check(6);
    sim_done();
}
static void interrupt_level_masks(void **s) {
    (void)s;
    scenario(level_root, 2, 20);
}

/* ISA numbers are edges, those above levels, until EXT_GSI_CONFIG says otherwise. */
static void defaults_root(u64 cpu) {
    (void)cpu;
    for (unsigned i = 0; i < 8; i++) {
        unsigned gsi = i < 4 ? 2 + 4 * i : 15 + 2 * (i - 3);
        bool level = gsi > 15;
        start(gsi);
        unmask();
        raise_irq(gsi);
        raise_irq(gsi);
        sim_expect_eq(counter(), level ? 1 : 2);
        OK(nova_sm_down(irq, true, 1)); /* and what was held back */
        (void)counter();
        (void)nova_sm_down(irq, true, 1);
        OK(nova_extension(EXT_GSI_CONFIG, irq, !level, NULL));
        unmask();
        raise_irq(gsi);
        raise_irq(gsi);
        sim_expect_eq(counter(), level ? 2 : 1);
    }
    sim_done();
}
static void interrupt_defaults(void **s) {
    (void)s;
    scenario(defaults_root, 2, 10);
}

static void unused_check(unsigned gsi) {
    start(gsi);
    unmask();
    sel_t copy = sel_new();
    (void)grab(ABI_ROOT_UTCB, crd_obj(irq, 0, 0x1f), copy << 12, crd_obj(copy, 0, 0x1f));
    OK(nova_revoke(crd_obj(copy, 0, 0x1f), true)); /* one is left */
    raise_irq(gsi);
    sim_expect_eq(counter(), 1);
    OK(nova_sm_down(irq, true, 1));
    OK(nova_revoke(crd_obj(irq, 0, 0x1f), true)); /* none */
    sim_irq(gsi);
    (void)counter();
    take(gsi);
    sim_expect_eq(counter(), 0);
    OK(nova_sm_down(irq, false, sim_clock() + 100000));
}
static void unused_root(u64 cpu) {
    (void)cpu;
    unused_check(9);
    unused_check(0);
    sim_done();
}
static void interrupt_unused_is_masked(void **s) {
    (void)s;
    scenario(unused_root, 2, 20);
}

/* One CPU says that the line is level-triggered, another one where it goes, at once: both hold. */
static sel_t go, ended;
static u64 target;
static void assigns(u64 utcb) {
    (void)utcb;
    down(go);
    OK(nova_assign_gsi(irq, 0, target, NULL));
    up(ended);
    down(go);
}
static u64 interrupts_of(u64 cpu) {
    OK(nova_extension(EXT_COUNTERS, cpu, 0, NULL));
    return utcb_at(ABI_ROOT_UTCB)->w[CNT_INTERRUPT];
}
static void race_root(u64 cpu) {
    target = cpu ^ 1;
    irq = sel_new();
    OK(nova_create_sm(0x50, SEL_PD, 0));
    take(5);
    OK(nova_assign_gsi(irq, 0, cpu, NULL));
    go = sem_make(0), ended = sem_make(0);
    startup_make((unsigned)target);
    thread_start((unsigned)target, 10, assigns);
    (void)counter(); /* it waits */
    sim_begin();
    up(go);
    OK(nova_extension(EXT_GSI_CONFIG, irq, 1, NULL));
    down(ended);
    u64 before = interrupts_of(target);
    level_check(5);
    sim_expect_eq(interrupts_of(target), before + 2);
    sim_done();
}
static void interrupt_assigned_while_configured(void **s) {
    (void)s;
    every_schedule(race_root, 1, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interrupt_masked_until_down), cmocka_unit_test(interrupt_edge_counts),
        cmocka_unit_test(interrupt_level_masks),       cmocka_unit_test(interrupt_defaults),
        cmocka_unit_test(interrupt_unused_is_masked),  cmocka_unit_test(interrupt_assigned_while_configured),
    };
    return cmocka_run_group_tests_name("sim interrupts", tests, NULL, NULL);
}
