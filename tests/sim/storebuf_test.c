/* Goal: store-buffer mode is x86-TSO: what a processor may do is found, what it must not do never is (SDM vol 3 9.2.3, "Examples Illustrating
 * the Memory-Ordering Principles"; Sewell et al., "x86-TSO", CACM 53(7)).
 * Method: litmus tests with the kernel's own atomics, on up to four CPUs; a run fails when it sees the outcome in question. */
#include "arch/atomic.h"
#include "arch/spin.h"
#include "simtest.h"

#define ROUNDS 80
struct round {
    u32 x, y;
    u32 r[4];
    struct spinlock lock;
};
struct litmus {
    unsigned cpus;
    void (*part)(struct round *, unsigned cpu);
    bool (*seen)(const struct round *);
};
static const struct litmus *litmus;
static struct round rounds[ROUNDS];
static unsigned arrived;

static void barrier(void) {
    unsigned until = (arrived / litmus->cpus + 1) * litmus->cpus;
    for (arrived++; arrived < until;)
        sim_step();
}

static void litmus_thread(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < ROUNDS; i++) {
        barrier();
        litmus->part(&rounds[i], sim_cpu());
        atomic_fence();
        barrier();
        if (sim_cpu() == 0)
            sim_expect(!litmus->seen(&rounds[i]));
    }
}
static void litmus_root(u64 cpu) {
    sim_expect_eq(cpu, 0);
    for (unsigned c = 1; c < litmus->cpus; c++) {
        startup_make(c);
        thread_start(c, 70, litmus_thread);
    }
    litmus_thread(0);
    sim_done();
}

static struct sim_options options(const struct litmus *l) {
    litmus = l;
    return (struct sim_options){.cpus = l->cpus, .root = litmus_root, .store_buffers = true};
}
#define LITMUS(...) (&(const struct litmus){__VA_ARGS__})
static void found(const struct litmus *l) {
    const struct sim_options o = options(l);
    assert_int_not_equal(sim_count(&o, 1, 10, SIM_FAILED), 0);
}
static void never(const struct litmus *l) {
    const struct sim_options o = options(l);
    assert_int_equal(sim_count(&o, 1, 25, SIM_OK), 25);
}

/* Store buffering: both miss the other's store. The picture of rcu.c, shoot.c and svm.c. */
static bool sb_seen(const struct round *r) { return !r->r[0] && !r->r[1]; }
static void sb(struct round *r, unsigned cpu) {
    atomic_store_rel(cpu ? &r->y : &r->x, 1);
    r->r[cpu] = atomic_load_acq(cpu ? &r->x : &r->y);
}
static void sb_fence(struct round *r, unsigned cpu) {
    atomic_store_rel(cpu ? &r->y : &r->x, 1);
    atomic_fence();
    r->r[cpu] = atomic_load_acq(cpu ? &r->x : &r->y);
}
static void sb_one_fence(struct round *r, unsigned cpu) {
    atomic_store_rel(cpu ? &r->y : &r->x, 1);
    if (cpu)
        atomic_fence();
    r->r[cpu] = atomic_load_acq(cpu ? &r->x : &r->y);
}
static void sb_locked(struct round *r, unsigned cpu) {
    (void)atomic_xchg(cpu ? &r->y : &r->x, 1);
    r->r[cpu] = atomic_load_acq(cpu ? &r->x : &r->y);
}
static void sb_lock_between(struct round *r, unsigned cpu) {
    atomic_store_rel(cpu ? &r->y : &r->x, 1);
    spin_lock(&r->lock);
    r->r[cpu] = atomic_load_acq(cpu ? &r->x : &r->y);
    spin_unlock(&r->lock);
}
/* The unlock is a plain store: what follows it may be done before the other CPU sees what was stored under the lock. */
static void sb_unlock_between(struct round *r, unsigned cpu) {
    static struct spinlock own[2];
    spin_lock(&own[cpu]);
    atomic_store_rel(cpu ? &r->y : &r->x, 1);
    spin_unlock(&own[cpu]);
    r->r[cpu] = atomic_load_acq(cpu ? &r->x : &r->y);
}
static void stores_are_delayed(void **s) {
    (void)s;
    found(LITMUS(2, sb, sb_seen));
    found(LITMUS(2, sb_one_fence, sb_seen));
    found(LITMUS(2, sb_unlock_between, sb_seen));
    struct sim_options off = options(LITMUS(2, sb, sb_seen));
    off.store_buffers = false;
    assert_int_equal(sim_count(&off, 1, 10, SIM_OK), 10);
}
static void fences_and_locked_operations_let_them_out(void **s) {
    (void)s;
    never(LITMUS(2, sb_fence, sb_seen));
    never(LITMUS(2, sb_locked, sb_seen));
    never(LITMUS(2, sb_lock_between, sb_seen));
}

/* A CPU sees its own store before the others do, by atomic and by plain loads. */
static bool forward_seen(const struct round *r) { return r->r[2] == 1 && r->r[3] == 1 && !r->r[0] && !r->r[1]; }
static void forward(struct round *r, unsigned cpu) {
    atomic_store_rlx(cpu ? &r->y : &r->x, 1);
    r->r[2 + cpu] = cpu ? *(volatile u32 *)&r->y : atomic_load_rlx(&r->x);
    r->r[cpu] = atomic_load_rlx(cpu ? &r->x : &r->y);
}
static bool not_forwarded(const struct round *r) { return r->r[2] != 1 || r->r[3] != 1; }
static void own_stores_are_forwarded(void **s) {
    (void)s;
    found(LITMUS(2, forward, forward_seen));
    never(LITMUS(2, forward, not_forwarded));
}

/* Message passing: stores become visible in order; two to one place too, and of different sizes. */
static bool mp_seen(const struct round *r) { return r->r[0] == 1 && r->r[1] == 0; }
static void mp(struct round *r, unsigned cpu) {
    if (cpu == 0) {
        atomic_store_rlx(&r->x, 1);
        atomic_store_rlx(&r->y, 1);
    } else {
        r->r[0] = atomic_load_rlx(&r->y);
        r->r[1] = atomic_load_rlx(&r->x);
    }
}
static bool back_seen(const struct round *r) { return r->r[0] > r->r[1]; }
static void back(struct round *r, unsigned cpu) {
    if (cpu == 0) {
        atomic_store_rlx(&r->x, 1);
        atomic_store_rlx((u8 *)&r->x, 2);
        atomic_store_rlx(&r->x, 3);
    } else {
        r->r[0] = atomic_load_rlx(&r->x);
        r->r[1] = atomic_load_rlx(&r->x);
    }
}
/* Load buffering. */
static bool lb_seen(const struct round *r) { return r->r[0] == 1 && r->r[1] == 1; }
static void lb(struct round *r, unsigned cpu) {
    r->r[cpu] = atomic_load_rlx(cpu ? &r->x : &r->y);
    atomic_store_rlx(cpu ? &r->y : &r->x, 1);
}
/* Independent reads of independent writes: one order of stores for all readers. */
static bool iriw_seen(const struct round *r) { return r->r[0] == 1 && r->r[1] == 0 && r->r[2] == 1 && r->r[3] == 0; }
static void iriw(struct round *r, unsigned cpu) {
    if (cpu < 2) {
        atomic_store_rlx(cpu ? &r->y : &r->x, 1);
    } else {
        r->r[2 * (cpu - 2)] = atomic_load_rlx(cpu == 2 ? &r->x : &r->y);
        r->r[2 * (cpu - 2) + 1] = atomic_load_rlx(cpu == 2 ? &r->y : &r->x);
    }
}
/* Write-to-read causality over three CPUs. */
static bool wrc_seen(const struct round *r) { return r->r[0] == 1 && r->r[1] == 1 && r->r[2] == 0; }
static void wrc(struct round *r, unsigned cpu) {
    if (cpu == 0) {
        atomic_store_rlx(&r->x, 1);
    } else if (cpu == 1) {
        r->r[0] = atomic_load_rlx(&r->x);
        atomic_store_rlx(&r->y, r->r[0]);
    } else {
        r->r[1] = atomic_load_rlx(&r->y);
        r->r[2] = atomic_load_rlx(&r->x);
    }
}
static void stores_keep_their_order(void **s) {
    (void)s;
    never(LITMUS(2, mp, mp_seen));
    never(LITMUS(2, back, back_seen));
    never(LITMUS(2, lb, lb_seen));
    never(LITMUS(4, iriw, iriw_seen));
    never(LITMUS(3, wrc, wrc_seen));
}

/* What a lock protects is complete when the next holder has it, also when that is not stored by atomics. */
static void lock_protects(struct round *r, unsigned cpu) {
    for (unsigned i = 0; i < 4; i++) {
        spin_lock(&r->lock);
        u32 v = r->y;
        if (atomic_load_rlx(&r->x) != v)
            r->r[1] = 1; /* a store under the lock before us was missed */
        r->y = v + 1;
        atomic_store_rlx(&r->x, v + 1);
        spin_unlock(&r->lock);
    }
    (void)cpu;
}
static bool update_lost(const struct round *r) { return r->r[1] || r->y != 12 || r->x != 12; }
static void locks_protect(void **s) {
    (void)s;
    never(LITMUS(3, lock_protects, update_lost));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stores_are_delayed),
        cmocka_unit_test(fences_and_locked_operations_let_them_out),
        cmocka_unit_test(own_stores_are_forwarded),
        cmocka_unit_test(stores_keep_their_order),
        cmocka_unit_test(locks_protect),
    };
    return cmocka_run_group_tests_name("sim store buffers", tests, NULL, NULL);
}
