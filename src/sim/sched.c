/* Which simulated CPU goes on, virtual time, locks. What a strategy (strategy.c) decides is put into effect here. */
#include "arch/assert.h"
#include "sim/engine.h"

u64 sim_now = 1000000;
i64 sim_fuel;
bool sim_running;
bool sim_begun, sim_ending;

static struct {
    u64 steps; /* points used up before the current allotment, of all CPUs */
    i64 allotted;
    struct cpu *self;
    u64 since; /* points that self had when it got the CPU */
    enum sim_result result;
} s = {.self = sim_cpus};

#define FAIR_POINTS 4000u /* then the next CPU has a turn, whoever spins */
#define RELAX_LIMIT 1000000u
#define RELAX_APART 16u /* points between two iterations of a wait loop, at most */

struct cpu *arch_cpu_self(void) {
    return s.self;
}
u64 arch_clock(void) { return sim_now; }
u64 sim_clock(void) { return sim_now; }

void sim_clock_advance(u64 ticks) {
    sim_now += ticks;
    sim_sched_deadline(sim_now); /* what has come due comes soon */
}

/* Books the points that were passed since the allotment. */
static void settle(void) {
    u64 used = (u64)(s.allotted - sim_fuel);
    s.steps += used;
    s.self->mach.points += used;
    s.allotted = sim_fuel = 0;
}

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

static u64 cpus_ready(void) {
    u64 can = 0;
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        can |= (u64)cpu_can_run(&sim_cpus[i].mach) << i;
    return can;
}

static u64 deadline_min(void) {
    u64 min = ~0ul;
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        min = min_u64(min, sim_cpus[i].mach.deadline);
    return min;
}

static bool searching(void) { return sim_begun && !sim_ending; }

/* How long the chosen CPU goes on without being asked. */
static void refuel(bool alone) {
    const struct mach_cpu *m = &s.self->mach;
    u64 fuel = ~0ul;
    if (searching() && !(alone && sim_strategy_eager()))
        fuel = sim_strategy_fuel(s.self->id, m->points, s.steps);
    fuel = min_u64(fuel, s.since + FAIR_POINTS - m->points - 1);
    u64 deadline = deadline_min();
    if (deadline > sim_now)
        fuel = min_u64(fuel, (deadline - sim_now) / SIM_POINT_TICKS);
    s.allotted = sim_fuel = (i64)fuel;
}

/* The CPUs that can go on now, at least one. Time jumps when all wait. */
static u64 candidates(enum sim_moment moment) {
    for (;;) {
        u64 can = cpus_ready(), self = 1ul << s.self->id, deadline = deadline_min();
        if (moment == SIM_AT_RELAX) {
            if (can & ~self)
                return can & ~self;
            /* A wait loop with nobody else to run: only time can help. */
            if (s.self->mach.relaxed > 64 && deadline != ~0ul)
                sim_now = max_u64(sim_now, deadline);
            return self;
        }
        if (can)
            return can;
        if (deadline == ~0ul)
            sim_stop(SIM_DEADLOCK);
        sim_now = max_u64(sim_now, deadline);
    }
}

/* The first of `can` after this CPU, by number. */
static unsigned next_of(u64 can) {
    u64 later = can & ~((2ul << s.self->id) - 1);
    return (unsigned)__builtin_ctzl(later ? later : can);
}

static void go_on(enum sim_moment moment) {
    settle();
    struct cpu *prev = s.self;
    struct mach_cpu *m = &prev->mach;
    if (moment != SIM_AT_POINT) { /* counts as one, so that no number means two decisions */
        m->points++;
        s.steps++;
    }
    bool fair = moment == SIM_AT_POINT && m->points - s.since >= FAIR_POINTS;
    if (sim_storebuf && fair)
        sim_stores_done(); /* so long nothing stays in a buffer */
    if (sim_storebuf)
        sim_storebuf_hide(moment != SIM_AT_POINT);
    u64 can = candidates(moment);
    unsigned next = moment == SIM_AT_POINT && !fair ? prev->id : next_of(can);
    if ((can & (can - 1)) && !fair && searching()) {
        const struct sim_decision d = {moment, prev->id, next, m->points, s.steps, can};
        next = sim_strategy_decide(&d);
        sim_record_switch(&d, next);
    }
    if (s.steps > sim_opt.steps)
        sim_stop(SIM_BUDGET);
    s.self = &sim_cpus[next];
    if (sim_storebuf)
        sim_storebuf_show(s.self, s.self != prev && moment == SIM_AT_POINT);
    if (s.self != prev || fair || moment != SIM_AT_POINT)
        s.since = s.self->mach.points;
    refuel(!(can & (can - 1)));
    if (s.self == prev)
        return;
    sim_hash_mix(m->points << 16 | prev->id << 8 | next);
    sim_race_cpu(s.self);
    sim_fiber_switch(m->active, s.self->mach.active);
}

void sim_point_slow(void) {
    if (sim_running)
        go_on(SIM_AT_POINT);
    else
        sim_fuel = INT64_MAX;
}

void sim_sched_wait(void) { go_on(SIM_AT_WAIT); }

void sim_sched_wake(void) {
    if (sim_running && searching() && sim_strategy_eager())
        settle();
}

void sim_sched_deadline(u64 tsc) {
    u64 fuel = tsc > sim_now ? (tsc - sim_now) / SIM_POINT_TICKS : 0;
    if ((i64)fuel >= sim_fuel || sim_fuel < 0)
        return;
    settle();
    s.allotted = sim_fuel = (i64)fuel;
}

void arch_cpu_relax(void) {
    if (!sim_running)
        return;
    settle();
    struct mach_cpu *m = &s.self->mach;
    m->relaxed = m->points - m->relaxed_at <= RELAX_APART ? m->relaxed + 1 : 0;
    m->relaxed_at = m->points;
    if (m->relaxed > RELAX_LIMIT)
        sim_stop(SIM_BUDGET);
    sim_now += SIM_POINT_TICKS;
    if (sim_storebuf)
        sim_storebuf_relax();
    go_on(SIM_AT_RELAX);
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
    sim_race_acquire(l);
    c->mach.locks_held++;
    sim_check_touched(l);
}

bool spin_trylock(struct spinlock *l) {
    sim_point();
    sim_stores_done();
    if (l->owner)
        return false;
    l->owner = s.self->id + 1;
    sim_race_acquire(l);
    s.self->mach.locks_held++;
    return true;
}

void spin_unlock(struct spinlock *l) {
    if (l->owner != s.self->id + 1)
        arch_panic("spin_unlock: not held by this CPU", __FILE__, __LINE__);
    sim_race_release(l);
    sim_store_delayed(&l->owner, sizeof(l->owner)); /* a plain store on hardware */
    l->owner = 0;
    s.self->mach.locks_held--;
    TRACE(unlock, l);
    sim_sched_wake();
    sim_point();
}

void sim_sched_begin(void) {
    s.steps = 0;
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        sim_cpus[i].mach.points = 0;
    s.since = 0;
    sim_begun = true;
    sim_record_begin();
    sim_strategy_begin();
    if (sim_opt.store_buffers)
        sim_storebuf_start();
}

static void leave(enum sim_result r) {
    settle();
    s.result = r;
    sim_storebuf_stop();
    sim_running = false;
    sim_fuel = INT64_MAX;
    sim_race_cpu(NULL);
    sim_fiber_switch(s.self->mach.active, &sim_main_fiber);
}

void sim_stop(enum sim_result r) {
    leave(r);
    __builtin_unreachable();
}

void sim_pause(void) { leave(SIM_PAUSED); }

u64 sim_sched_steps(void) { return s.steps; }

enum sim_result sim_sched_run(void) {
    sim_running = true;
    s.allotted = sim_fuel = 0; /* the next point is a decision */
    sim_race_cpu(s.self);
    sim_fiber_switch(&sim_main_fiber, s.self->mach.active);
    return s.result;
}
