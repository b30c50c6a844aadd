/* Four ways to search: random walk, PCT, exhaustive, and none (a script). They decide who goes on where there is a choice. */
#include "arch/assert.h"
#include "sim/engine.h"
#include <stdio.h>
#include <string.h>

#define PCT_WINDOW 3000u

static struct {
    enum sim_sched kind;
    u64 rng;
    unsigned density; /* random: mean points between decisions */
    i64 low;          /* PCT: next priority below all others */
    u64 window_end;   /* PCT: steps */
    u64 change[8];    /* PCT: steps at which the running CPU falls to the end */
    unsigned changes;
    unsigned bound, spent; /* exhaustive: preemptions allowed, and in the script */
    u32 first
        [ABI_MAX_CPUS]; /* script: next deviation of each CPU in sim_engine->sorted, and where those of the CPU end */
    u32 last[ABI_MAX_CPUS];
    u32 followed; /* deviations of the script that took place */
} st;

static u32 draw(u32 n) { return (u32)(((sim_random(&st.rng) >> 32) * n) >> 32); }

/* --- PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte 2010), with a window that moves on because runs have no fixed length --- */

static void pct_window(u64 steps) {
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        sim_cpus[i].mach.prio = 1 + draw(1u << 16);
    st.low = 0;
    st.window_end = steps + PCT_WINDOW;
    for (unsigned i = 0; i < st.changes; i++)
        st.change[i] = steps + draw(PCT_WINDOW);
}

static unsigned pct_decide(const struct sim_decision *d) {
    for (unsigned i = 0; i < st.changes; i++)
        if (st.change[i] <= d->steps) {
            sim_cpus[d->cpu].mach.prio = --st.low;
            st.change[i] = ~0ul;
        }
    if (d->steps >= st.window_end)
        pct_window(d->steps);
    if (d->moment == SIM_AT_RELAX) /* or the one that it waits for would starve */
        sim_cpus[d->cpu].mach.prio = --st.low;
    unsigned best = d->otherwise;
    for (u64 can = d->can; can; can &= can - 1) {
        unsigned i = (unsigned)__builtin_ctzl(can);
        if (sim_cpus[i].mach.prio > sim_cpus[best].mach.prio)
            best = i;
    }
    return best;
}

static u64 pct_fuel(u64 steps) {
    u64 next = st.window_end;
    for (unsigned i = 0; i < st.changes; i++)
        if (st.change[i] > steps)
            next = min_u64(next, st.change[i]);
    return next > steps ? next - steps : 0;
}

static unsigned random_decide(const struct sim_decision *d) {
    u64 can = d->can;
    for (u32 n = draw((u32)__builtin_popcountl(can)); n; n--)
        can &= can - 1;
    return (unsigned)__builtin_ctzl(can);
}

/* --- script: deviations from the order without decisions --- */

/* Counting sort by CPU; the deviations of one CPU are in order already. */
static void script_begin(const struct sim_record *r) {
    u32 n = 0;
    for (unsigned c = 0; c < sim_opt.cpus; c++) {
        st.first[c] = n;
        for (u32 i = 0; i < r->deviations; i++)
            if (r->deviation[i].cpu == c)
                sim_engine->sorted[n++] = r->deviation[i];
        st.last[c] = n;
    }
    st.followed = 0;
}

static unsigned script_decide(const struct sim_decision *d) {
    u32 *i = &st.first[d->cpu];
    while (*i < st.last[d->cpu] && sim_engine->sorted[*i].at < d->at)
        ++*i;
    if (*i == st.last[d->cpu] || sim_engine->sorted[*i].at != d->at || !(d->can >> sim_engine->sorted[*i].to & 1))
        return d->otherwise;
    st.followed++;
    return sim_engine->sorted[(*i)++].to;
}

static u64 script_fuel(unsigned cpu, u64 at) {
    u32 i = st.first[cpu];
    while (i < st.last[cpu] && sim_engine->sorted[i].at <= at)
        i++;
    return i < st.last[cpu] ? sim_engine->sorted[i].at - at - 1 : ~0ul;
}

/* --- exhaustive: depth first by running again, context bounds as in CHESS (Musuvathi, Qadeer 2007) --- */

static bool at_frontier(void) { return st.followed == sim_engine->script.deviations; }

static void branch_note(const struct sim_decision *d) {
    u16 cost = d->moment != SIM_AT_WAIT;
    if (st.spent + cost > st.bound)
        return;
    if (sim_engine->path_length == SIM_MAX_PATH) {
        sim_engine->stats.clipped = true;
        return;
    }
    sim_engine->path[sim_engine->path_length++] = (struct sim_branch){
        .taken = {d->at, (u16)d->cpu, (u16)d->otherwise},
        .otherwise = (u16)d->otherwise,
        .cost = cost,
        .rest = d->can & ~(1ul << d->otherwise),
    };
}

bool sim_strategy_next(void) {
    struct sim_engine *e = sim_engine;
    while (e->path_length && !e->path[e->path_length - 1].rest)
        e->path_length--;
    if (!e->path_length)
        return false;
    struct sim_branch *b = &e->path[e->path_length - 1];
    b->taken.to = (u16)__builtin_ctzl(b->rest);
    b->rest &= b->rest - 1;
    e->script.deviations = 0;
    for (u32 i = 0; i < e->path_length; i++)
        if (e->path[i].taken.to != e->path[i].otherwise)
            e->script.deviation[e->script.deviations++] = e->path[i].taken;
    return true;
}

static unsigned spent_in_path(void) {
    unsigned n = 0;
    for (u32 i = 0; i < sim_engine->path_length; i++)
        if (sim_engine->path[i].taken.to != sim_engine->path[i].otherwise)
            n += sim_engine->path[i].cost;
    return n;
}

/* --- */

void sim_strategy_begin(void) {
    st.rng = sim_opt.seed * 0x2545f4914f6cdd1dul + SIM_STREAMS * 0x632be59bd9b4e019ul; /* as record.c's */
    u32 kind = draw(8);
    st.kind = sim_opt.sched != SIM_AUTO ? sim_opt.sched : kind < 4 ? SIM_RANDOM : SIM_PCT;
    st.density = 1u << (2 * (kind & 3)); /* 1, 4, 16, 64 */
    st.changes = sim_opt.depth ? (unsigned)min_u64(sim_opt.depth, ARRAY_SIZE(st.change)) : 1 + (kind & 3);
    if (st.kind == SIM_PCT)
        pct_window(0);
    if (st.kind == SIM_SCRIPT || st.kind == SIM_EXHAUSTIVE)
        script_begin(&sim_engine->script);
    st.bound = sim_opt.preemptions == 0 ? 2 : sim_opt.preemptions < 0 ? 0 : (unsigned)sim_opt.preemptions;
    st.spent = st.kind == SIM_EXHAUSTIVE ? spent_in_path() : 0;
}

unsigned sim_strategy_decide(const struct sim_decision *d) {
    switch (st.kind) {
    case SIM_PCT:
        return pct_decide(d);
    case SIM_SCRIPT:
        return script_decide(d);
    case SIM_EXHAUSTIVE:
        if (!at_frontier())
            return script_decide(d);
        branch_note(d);
        return d->otherwise;
    case SIM_AUTO:
    case SIM_RANDOM:
        break;
    }
    return random_decide(d);
}

u64 sim_strategy_fuel(unsigned cpu, u64 at, u64 steps) {
    switch (st.kind) {
    case SIM_PCT:
        return pct_fuel(steps);
    case SIM_SCRIPT:
        return script_fuel(cpu, at);
    case SIM_EXHAUSTIVE:
        return at_frontier() ? (st.spent < st.bound ? 0 : ~0ul) : script_fuel(cpu, at);
    case SIM_AUTO:
    case SIM_RANDOM:
        break;
    }
    return draw(2 * st.density);
}

bool sim_strategy_eager(void) { return st.kind == SIM_PCT || st.kind == SIM_EXHAUSTIVE; }
