/* Goal: the ThreadSanitizer build (make check-tsan) sees a race of two CPUs, and none where a lock or an atomic orders them.
 * Method: the deadline heap of core/heap.c, which has no lock of its own, shared by two CPUs. Other builds only see that the lock works. */
#include "arch/spin.h"
#include "core/heap.h"
#include "sim/race.h"
#include "simtest.h"

static struct timeout_heap heap;
static struct timeout deadlines[2];
static struct spinlock lock;
static bool locked;
static unsigned finished;

static void armer(u64 rdi) {
    (void)rdi;
    struct timeout *mine = &deadlines[sim_cpu()];
    sim_race_ignore(false); /* kernel code follows */
    for (unsigned i = 0; i < 20; i++) {
        if (locked)
            spin_lock(&lock);
        timeout_arm(&heap, mine, sim_choose(SIM_WORKLOAD, 100));
        timeout_cancel(&heap, mine);
        if (locked)
            spin_unlock(&lock);
        sim_step();
    }
    sim_race_ignore(true);
    finished++;
}
static void heap_root(u64 cpu) {
    startup_make((unsigned)cpu ^ 1);
    thread_start((unsigned)cpu ^ 1, 10, armer);
    armer(0);
    while (finished < 2)
        sim_step();
    sim_expect(!heap.top);
    sim_done();
}
static void a_lock_orders(void **s) {
    (void)s;
    locked = true;
    scenario(heap_root, 2, 10);
}
static void a_race_is_seen(void **s) {
    (void)s;
#ifdef SIM_TSAN
    const struct sim_options o = {.cpus = 2, .root = heap_root};
    locked = false;
    assert_int_equal(sim_seeds(&o, 1, 10, (enum sim_result)(1000 + SIM_RACE_STATUS)), 0);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lock_orders),
        cmocka_unit_test(a_race_is_seen),
    };
    return cmocka_run_group_tests_name("sim race", tests, NULL, NULL);
}
