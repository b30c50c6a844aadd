/* Which simulated CPU goes on: seeded choice, virtual time, the trace hash. */
#include "arch/assert.h"
#include "sim/internal.h"
#include <stdio.h>
#include <stdlib.h>

u64 sim_now = 1000000;
i64 sim_fuel;
bool sim_running;

static struct {
    u64 rng[3]; /* one per enum sim_stream */
    u64 hash;
    u64 steps; /* points used up before the current allotment */
    i64 allotted;
    struct cpu *self;
    enum sim_result result;
    bool pct;
    unsigned density; /* random: mean points between decisions */
    i64 low;          /* PCT: next priority below all others */
    u64 window_end;   /* PCT: steps */
    u64 change[8];    /* PCT: steps at which the running CPU falls to the end */
    unsigned changes;
} s = {.self = sim_cpus};

#define PCT_WINDOW  3000u
#define RELAX_LIMIT 1000000u

struct cpu *arch_cpu_self(void) {
    return s.self;
}
u64 arch_clock(void) { return sim_now; }
u64 sim_clock(void) { return sim_now; }
u64 sim_hash(void) { return s.hash; }

void sim_hash_mix(u64 v) { s.hash = (s.hash ^ v) * 0x100000001b3ul ^ (s.hash >> 29); }

/* splitmix64 (Steele, Lea, Flood 2014). */
static u64 rng_next(u64 *state) {
    u64 z = (*state += 0x9e3779b97f4a7c15ul);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
    return z ^ (z >> 31);
}

u32 sim_choose(enum sim_stream stream, u32 n) {
    if (n < 2)
        return 0;
    u32 r = (u32)(((rng_next(&s.rng[stream]) >> 32) * n) >> 32);
    sim_hash_mix(r);
    return r;
}

static u64 steps_now(void) { return s.steps + (u64)(s.allotted - sim_fuel); }

static bool cpu_can_run(const struct mach_cpu *m) {
    switch (m->state) {
    case SIM_CPU_RUN:
        return true;
    case SIM_CPU_IDLE:
        return sim_interrupt_pending(m);
    case SIM_CPU_LOCK:
        return m->wait_lock->owner == 0;
    case SIM_CPU_OFF:
        break;
    }
    return false;
}

static u64 deadline_min(void) {
    u64 min = ~0ul;
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        min = min_u64(min, sim_cpus[i].mach.deadline);
    return min;
}

/* How long the chosen CPU goes on without being asked. */
static void refuel(void) {
    s.steps = steps_now();
    u64 fuel;
    if (s.pct) {
        u64 next = s.window_end;
        for (unsigned i = 0; i < s.changes; i++)
            if (s.change[i] > s.steps)
                next = min_u64(next, s.change[i]);
        fuel = next - s.steps;
    } else {
        fuel = sim_choose(SIM_SCHEDULE, 2 * s.density);
    }
    u64 deadline = deadline_min();
    if (deadline > sim_now)
        fuel = min_u64(fuel, (deadline - sim_now) / SIM_POINT_TICKS);
    s.allotted = sim_fuel = (i64)min_u64(fuel, 1u << 20);
}

static void pct_window(void) {
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        sim_cpus[i].mach.prio = 1 + sim_choose(SIM_SCHEDULE, 1u << 16);
    s.low = 0;
    s.window_end = s.steps + PCT_WINDOW;
    for (unsigned i = 0; i < s.changes; i++)
        s.change[i] = s.steps + sim_choose(SIM_SCHEDULE, PCT_WINDOW);
}

static void pct_advance(void) {
    s.steps = steps_now();
    s.allotted = sim_fuel = 0;
    for (unsigned i = 0; i < s.changes; i++)
        if (s.change[i] <= s.steps) {
            s.self->mach.prio = --s.low;
            s.change[i] = ~0ul;
        }
    if (s.steps >= s.window_end)
        pct_window();
}

static struct cpu *choose(struct cpu *const *can, unsigned n) {
    if (!s.pct)
        return can[sim_choose(SIM_SCHEDULE, n)];
    struct cpu *best = can[0];
    for (unsigned i = 1; i < n; i++)
        if (can[i]->mach.prio > best->mach.prio)
            best = can[i];
    return best;
}

/* The next CPU; `others`: not this one, if it can be avoided. Time jumps when all wait. */
static struct cpu *pick(bool others) {
    for (;;) {
        struct cpu *can[ABI_MAX_CPUS];
        unsigned n = 0;
        for (unsigned i = 0; i < sim_opt.cpus; i++)
            if (cpu_can_run(&sim_cpus[i].mach) && !(others && &sim_cpus[i] == s.self))
                can[n++] = &sim_cpus[i];
        if (n)
            return choose(can, n);
        u64 deadline = deadline_min();
        if (others) {
            /* A wait loop with nobody else to run: only time can help. */
            if (s.self->mach.relaxed > 64 && deadline != ~0ul)
                sim_now = max_u64(sim_now, deadline);
            return s.self;
        }
        if (deadline == ~0ul)
            sim_stop(SIM_DEADLOCK);
        sim_now = max_u64(sim_now, deadline);
    }
}

static void go_on(bool others) {
    if (s.pct)
        pct_advance();
    if (sim_storebuf)
        sim_storebuf_hide();
    struct cpu *next = pick(others), *prev = s.self;
    if (sim_storebuf)
        sim_storebuf_show(next);
    refuel();
    if (s.steps > sim_opt.steps)
        sim_stop(SIM_BUDGET);
    if (next == prev)
        return;
    sim_hash_mix(next->id + 1);
    s.self = next;
    sim_fiber_switch(prev->mach.active, next->mach.active);
}

void sim_point_slow(void) {
    if (!sim_running) {
        sim_fuel = INT64_MAX;
        return;
    }
    s.self->mach.relaxed = 0;
    go_on(false);
}

void sim_sched_wait(void) { go_on(false); }

void sim_sched_wake(void) {
    if (!s.pct || !sim_running)
        return;
    s.steps = steps_now();
    s.allotted = sim_fuel = 0;
}

void sim_sched_deadline(u64 tsc) {
    u64 fuel = tsc > sim_now ? (tsc - sim_now) / SIM_POINT_TICKS : 0;
    if ((i64)fuel >= sim_fuel || sim_fuel < 0)
        return;
    s.steps = steps_now();
    s.allotted = sim_fuel = (i64)fuel;
}

void arch_cpu_relax(void) {
    if (!sim_running)
        return;
    struct mach_cpu *m = &s.self->mach;
    if (++m->relaxed > RELAX_LIMIT)
        sim_stop(SIM_BUDGET);
    m->prio = --s.low;
    sim_now += SIM_POINT_TICKS;
    if (sim_storebuf)
        sim_storebuf_relax();
    go_on(true);
}

void spin_lock(struct spinlock *l) {
    sim_point();
    sim_stores_done();
    if (sim_storebuf)
        sim_point(); /* who waits for a lock that we have just given up gets its chance, as by its ticket on hardware */
    struct cpu *c = s.self;
    if (l->owner == c->id + 1)
        arch_panic("spin_lock: held by this CPU already", __FILE__, __LINE__);
    while (l->owner) {
        assert(sim_running); /* outside a run nobody could free it */
        c->mach.state = SIM_CPU_LOCK;
        c->mach.wait_lock = l;
        TRACE(lock, c, true);
        sim_sched_wait();
        c->mach.state = SIM_CPU_RUN;
        TRACE(lock, c, false);
    }
    l->owner = c->id + 1;
    c->mach.locks_held++;
    sim_check_touched(l);
}

bool spin_trylock(struct spinlock *l) {
    sim_point();
    sim_stores_done();
    if (l->owner)
        return false;
    l->owner = s.self->id + 1;
    s.self->mach.locks_held++;
    return true;
}

void spin_unlock(struct spinlock *l) {
    if (l->owner != s.self->id + 1)
        arch_panic("spin_unlock: not held by this CPU", __FILE__, __LINE__);
    sim_store_delayed(&l->owner, sizeof(l->owner)); /* a plain store on hardware */
    l->owner = 0;
    s.self->mach.locks_held--;
    TRACE(unlock, l);
    sim_sched_wake();
    sim_point();
}

bool spin_held(const struct spinlock *l) { return l->owner == s.self->id + 1; }

void sim_sched_init(void) {
    for (unsigned i = 0; i < ARRAY_SIZE(s.rng); i++)
        s.rng[i] = sim_opt.seed * 0x2545f4914f6cdd1dul + i * 0x632be59bd9b4e019ul;
    s.hash = 0xcbf29ce484222325ul;
    s.self = sim_cpus;
    u32 kind = sim_choose(SIM_SCHEDULE, 8);
    s.pct = sim_opt.sched == SIM_PCT || (sim_opt.sched == SIM_AUTO && kind >= 4);
    s.density = 1u << (2 * (kind & 3)); /* 1, 4, 16, 64 */
    s.changes = sim_opt.depth ? (unsigned)min_u64(sim_opt.depth, 8) : 1 + (kind & 3);
    s.steps = 0;
    s.allotted = sim_fuel = 0;
    if (s.pct)
        pct_window();
    if (sim_opt.store_buffers)
        sim_storebuf_start();
}

void sim_stop(enum sim_result r) {
    s.result = r;
    sim_storebuf_stop();
    sim_running = false;
    sim_fuel = INT64_MAX;
    sim_fiber_switch(s.self->mach.active, &sim_main_fiber);
    __builtin_unreachable();
}

enum sim_result sim_sched_run(void) {
    sim_running = true;
    sim_fiber_switch(&sim_main_fiber, sim_cpus[0].mach.active);
    return s.result;
}
