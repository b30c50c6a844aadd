/* The scheduler of one CPU (src/core/sc.c), called directly: ABI sections 1 (SC), 5 (create_sc, sc_ctrl) and 6 (budget, donation, helping).
 * A tick is a nanosecond; every scheduling point costs ten, so times are compared in microseconds. */
#include "kernel_fixture.h"

#include "core/core.h"
#include "sim/internal.h"

#define US 1000ul
#define MS 1000000ul

static struct cpu *c;
static struct ec *ecs[12];
static struct sc *scs[12];
static u64 next_vpn = 0x1000;

static struct ec *ec_make(void) {
    struct ec *ec;
    assert_int_equal(ec_create(&kernel_pd, EC_GLOBAL, 0, next_vpn++, 0, 0, &ec), NOVA_SUCCESS);
    ec->cont = CONT_USER;
    return ec;
}

static struct sc *sc_make(unsigned n, unsigned prio, u64 us) {
    ecs[n] = ec_make();
    scs[n] = sc_create(&kernel_pd, ecs[n], prio, us);
    assert_non_null(scs[n]);
    return scs[n];
}

static bool about(u64 a, u64 b) { return a + 5 * US > b && b + 5 * US > a; }

static int group_setup(void **state) {
    (void)state;
    kernel_fixture_setup();
    tsc_khz = 1000000;
    return 0;
}

static int setup(void **state) {
    (void)state;
    c = &sim_cpus[0];
    memset(&c->sched, 0, sizeof(c->sched));
    memset(&c->timeouts, 0, sizeof(c->timeouts));
    c->hazard = 0, c->hops = 0;
    c->deadline = c->mach.deadline = ~0ul;
    struct ec *idle;
    assert_int_equal(ec_create(&kernel_pd, EC_IDLE, 0, 0, 0, 0, &idle), NOVA_SUCCESS);
    idle->cont = CONT_IDLE;
    c->idle_ec = c->ec = idle;
    c->idle_sc = c->sc = sc_create(&kernel_pd, idle, 0, 1000000);
    c->sc->state = SC_RUNNING;
    c->sc_start = arch_clock();
    return 0;
}

static void quantum_is_in_microseconds(void **state) {
    (void)state;
    struct sc *sc = sc_make(0, 1, 250);
    assert_int_equal(sc->quantum, 250 * US);
    assert_int_equal(sc->left, 250 * US);
    assert_int_equal(sc->used, 0);
    assert_int_equal(sc->prio, 1);
    assert_int_equal(sc->cpu, 0);
    assert_int_equal(sc->state, SC_NEW);
    assert_ptr_equal(sc->ec, ecs[0]);
    assert_int_equal(ecs[0]->obj.refs, 2);
    assert_int_equal(sc_make(0, 1, ~0ul >> 12)->quantum, (~0ul >> 12) * US);
    assert_int_equal(sc_make(0, 1, ~0ul / 999)->quantum, ~0ul >> 1); /* its end stays in the future */
    assert_int_equal(sc_make(0, 1, (1ul << 63) / 1000 + 5)->quantum, ~0ul >> 1);
    tsc_khz = 100;
    assert_int_equal(sc_make(0, 1, 1)->quantum, 1); /* never nothing */
    tsc_khz = 1000000;
}

static void higher_priority_asks_for_the_cpu(void **state) {
    (void)state;
    sched_enqueue(c, sc_make(0, 5, 1000), false);
    assert_int_equal(c->hazard, HZ_SCHED);
    sched_requeue(c);
    assert_ptr_equal(c->sc, scs[0]);
    assert_ptr_equal(c->ec, ecs[0]);
    assert_int_equal(scs[0]->state, SC_RUNNING);
    assert_int_equal(c->idle_sc->state, SC_NEW);
    c->hazard = 0;
    sched_enqueue(c, sc_make(1, 4, 1000), false);
    sched_enqueue(c, sc_make(2, 5, 1000), false);
    assert_int_equal(c->hazard, 0); /* lower or equal: not now */
    sched_enqueue(c, sc_make(3, 6, 1000), false);
    assert_int_equal(c->hazard, HZ_SCHED);
}

/* All priorities, also across the words of the bitmap; first come, first served within one. */
static void highest_first_then_in_order(void **state) {
    (void)state;
    static const u8 prio[] = {1, 63, 64, 127, 64, 1, 63, 127, 2, 65};
    static const u8 order[] = {3, 7, 9, 2, 4, 1, 6, 8, 0, 5};
    for (unsigned i = 0; i < sizeof(prio); i++)
        sched_enqueue(c, sc_make(i, prio[i], 1000), false);
    sched_requeue(c);
    for (unsigned i = 0; i < sizeof(order); i++) {
        assert_ptr_equal(c->sc, scs[order[i]]);
        sched_drop(c);
        assert_int_equal(scs[order[i]]->state, SC_DROPPED);
    }
    assert_ptr_equal(c->sc, c->idle_sc);
    assert_ptr_equal(c->ec, c->idle_ec);
    assert_int_equal(c->sched.bitmap[0] | c->sched.bitmap[1], 0);
}

static void preempted_goes_to_the_head_and_used_up_to_the_tail(void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        sched_enqueue(c, sc_make(i, 10, 1000), false);
    sched_requeue(c);
    sim_now += 400 * US;
    sched_requeue(c); /* preempted */
    assert_ptr_equal(c->sc, scs[0]);
    assert_true(about(scs[0]->left, 600 * US));
    sim_now += 700 * US;
    sched_requeue(c); /* used up */
    assert_ptr_equal(c->sc, scs[1]);
    assert_int_equal(scs[0]->left, 1000 * US);
    assert_true(about(scs[0]->used, 1100 * US));
    assert_int_equal(scs[1]->left, 1000 * US);
    sched_drop(c);
    assert_ptr_equal(c->sc, scs[2]);
    sched_drop(c);
    assert_ptr_equal(c->sc, scs[0]); /* the tail */
}

static void deadline_is_the_end_of_the_slice_or_a_timeout(void **state) {
    (void)state;
    sched_requeue(c);
    assert_int_equal(c->mach.deadline, ~0ul); /* idle has no slice */
    sched_enqueue(c, sc_make(0, 10, 1000), false);
    sched_requeue(c);
    u64 end = c->sc_start + 1000 * US;
    assert_true(about(c->mach.deadline, end));
    assert_int_equal(c->deadline, c->mach.deadline);
    sim_now += 200 * US;
    timeout_arm(&c->timeouts, &ecs[0]->timeout, end + 100 * US);
    sched_requeue(c); /* a later one changes nothing */
    assert_true(about(c->mach.deadline, end));
    struct ec *other = ec_make();
    timeout_arm(&c->timeouts, &other->timeout, end - 300 * US);
    sched_requeue(c);
    assert_int_equal(c->mach.deadline, end - 300 * US);
    timeout_cancel(&c->timeouts, &other->timeout);
    sched_requeue(c); /* comes early, that is all */
    assert_int_equal(c->mach.deadline, end - 300 * US);
    sim_now = end - 300 * US;
    c->mach.deadline = ~0ul, c->hazard = 0;
    sched_timer(c);
    assert_int_equal(c->hazard & HZ_SCHED, 0); /* the slice is not over */
    assert_true(about(c->mach.deadline, end));
    sim_now = end + US;
    sched_timer(c);
    assert_int_equal(c->hazard & HZ_SCHED, HZ_SCHED);
    c->hazard = 0;
    timeout_cancel(&c->timeouts, &ecs[0]->timeout);
}

static void idle_wakes_for_a_timeout(void **state) {
    (void)state;
    struct ec *ec = ec_make();
    u64 at = arch_clock() + MS;
    timeout_arm(&c->timeouts, &ec->timeout, at);
    sched_requeue(c);
    assert_int_equal(c->mach.deadline, at);
    sim_now = at - 100 * US;
    sched_timer(c); /* too early: again */
    assert_true(ec->timeout.armed);
    assert_int_equal(c->mach.deadline, at);
    sim_now = at;
    c->mach.deadline = ~0ul;
    sched_timer(c);
    assert_false(ec->timeout.armed);
    assert_int_equal(c->mach.deadline, ~0ul);
    assert_int_equal(c->hazard & HZ_SCHED, 0);
}

static void time_used_is_shown(void **state) {
    (void)state;
    sched_enqueue(c, sc_make(0, 10, 10000), false);
    sched_enqueue(c, sc_make(1, 9, 10000), false);
    assert_int_equal(sc_time_us(scs[0]), 0);
    sched_requeue(c);
    sim_now += 5 * MS;
    assert_in_range(sc_time_us(scs[0]), 4995, 5005); /* while it runs */
    assert_int_equal(sc_time_us(scs[1]), 0);
    sched_drop(c);
    sim_now += 3 * MS;
    assert_in_range(sc_time_us(scs[0]), 4995, 5005);
    assert_in_range(sc_time_us(scs[1]), 2995, 3005);
    tsc_khz = 2000000;
    assert_in_range(sc_time_us(scs[0]), 2495, 2505);
    tsc_khz = 1000000;
}

static void parked_ones_come_back_together(void **state) {
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        sched_enqueue(c, sc_make(i, 10, 1000), false);
    struct ec *blocked = ec_make();
    sched_requeue(c);
    for (unsigned i = 0; i < 3; i++) {
        assert_ptr_equal(c->sc, scs[i]);
        sim_now += 1500 * US * (i == 1);
        sched_park(c, blocked);
        assert_int_equal(scs[i]->state, SC_PARKED);
        assert_ptr_equal(scs[i]->parked_on, blocked);
    }
    assert_int_equal(scs[1]->left, 0);
    assert_ptr_equal(c->sc, scs[3]);
    c->hazard = 0;
    sched_inbox_drop(c, scs[0]); /* one that dies while it is parked: last in the list */
    assert_int_equal(scs[0]->state, SC_DROPPED);
    sched_unpark_all(c, blocked);
    assert_null(blocked->parked);
    assert_int_equal(c->hazard & HZ_SCHED, 0);
    sched_drop(c);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(scs[i]->left >= 990 * US, 1); /* a fresh budget for the one that had none */
        assert_true(c->sc == scs[1] || c->sc == scs[2]);
        sched_drop(c);
    }
    assert_ptr_equal(c->sc, c->idle_sc);
}

static void dying_leaves_unless_donated(void **state) {
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        sc_make(i, 10 + i, 1000);
    sched_inbox_drop(c, scs[0]); /* never enqueued */
    assert_int_equal(scs[0]->state, SC_DROPPED);
    sched_enqueue(c, scs[1], false);
    sched_inbox_drop(c, scs[1]); /* in the queue */
    assert_int_equal(scs[1]->state, SC_DROPPED);
    assert_int_equal(c->sched.bitmap[0], 0);
    sched_enqueue(c, scs[2], false);
    ecs[2]->callee = ecs[3], ecs[3]->caller = ecs[2];
    sched_inbox_drop(c, scs[2]); /* donated: stays until the reply */
    assert_int_equal(scs[2]->state, SC_READY);
    sched_requeue(c);
    assert_ptr_equal(c->sc, scs[2]);
    assert_ptr_equal(c->ec, ecs[3]);
    sched_requeue(c);
    assert_ptr_equal(c->sc, scs[2]);
    ecs[2]->callee = NULL, ecs[3]->caller = NULL;
    sched_requeue(c);
    assert_int_equal(scs[2]->state, SC_DROPPED);
    assert_ptr_equal(c->sc, c->idle_sc);
    sched_enqueue(c, scs[4], false);
    sched_requeue(c);
    c->hazard = 0;
    sched_inbox_drop(c, scs[4]); /* running: at the next switch */
    assert_int_equal(c->hazard & HZ_SCHED, HZ_SCHED);
    assert_int_equal(scs[4]->state, SC_RUNNING);
    sched_park(c, ecs[0]);
    assert_int_equal(scs[4]->state, SC_DROPPED);
    assert_null(ecs[0]->parked);
}

/* The end of the chain runs; `hops` counts callee links since the last helping link. */
static void chain_is_followed_to_its_end(void **state) {
    (void)state;
    struct ec *e[5];
    for (unsigned i = 0; i < 5; i++)
        e[i] = ec_make();
    struct sc *sc = sc_make(0, 10, 1000);
    ecs[0]->callee = e[0];
    e[0]->callee = e[1];
    c->sc = sc;
    sched_activate(c);
    assert_ptr_equal(c->ec, e[1]);
    assert_int_equal(c->hops, 2);
    ec_help_begin(e[1], e[2]);
    sched_activate(c);
    assert_ptr_equal(c->ec, e[2]);
    assert_int_equal(c->hops, 0);
    e[2]->callee = e[3];
    sched_activate(c);
    assert_ptr_equal(c->ec, e[3]);
    assert_int_equal(c->hops, 1);
    e[2]->callee = NULL;
    e[2]->cont = CONT_WAIT; /* free again: the helper tries its call */
    sched_activate(c);
    assert_ptr_equal(c->ec, e[1]);
    assert_int_equal(c->hops, 2);
    ec_help_begin(e[3], e[2]);
    ec_help_begin(e[4], e[2]);
    ec_help_end(e[3]); /* in the middle */
    assert_ptr_equal(e[2]->helpers, e[4]);
    assert_ptr_equal(e[4]->help_next, e[1]);
    assert_ptr_equal(e[1]->help_prev, e[4]);
    ec_help_end(e[4]);
    ec_help_end(e[4]); /* a second time is nothing */
    assert_ptr_equal(e[2]->helpers, e[1]);
    assert_null(e[1]->help_prev);
    ec_help_end(e[1]);
    assert_null(e[2]->helpers);
    assert_true(!e[1]->helping && !e[1]->help_next);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(quantum_is_in_microseconds, setup),
        cmocka_unit_test_setup(higher_priority_asks_for_the_cpu, setup),
        cmocka_unit_test_setup(highest_first_then_in_order, setup),
        cmocka_unit_test_setup(preempted_goes_to_the_head_and_used_up_to_the_tail, setup),
        cmocka_unit_test_setup(deadline_is_the_end_of_the_slice_or_a_timeout, setup),
        cmocka_unit_test_setup(idle_wakes_for_a_timeout, setup),
        cmocka_unit_test_setup(time_used_is_shown, setup),
        cmocka_unit_test_setup(parked_ones_come_back_together, setup),
        cmocka_unit_test_setup(dying_leaves_unless_donated, setup),
        cmocka_unit_test_setup(chain_is_followed_to_its_end, setup),
    };
    return cmocka_run_group_tests_name("scheduler", tests, group_setup, NULL);
}
