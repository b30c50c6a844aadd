/* When the invariants are looked at: no CPU is inside the kernel then, and nobody moves meanwhile. */
#include "arch/assert.h"
#include "core/pd.h"
#include "core/space_priv.h"
#include "sim/check.h"

/* Locks taken since the last look: nearly all shared structures change under one. */
#define TOUCHED 16u
static const struct spinlock *touched[TOUCHED];
static unsigned touched_count; /* TOUCHED + 1: too many to remember */

void sim_check_touched(const struct spinlock *l) {
    if (sim_opt.check_every != SIM_CHECK_CALLS || touched_count > TOUCHED)
        return;
    for (unsigned i = 0; i < touched_count; i++)
        if (touched[i] == l)
            return;
    if (touched_count < TOUCHED)
        touched[touched_count] = l;
    touched_count++;
}

static bool is_touched(const struct spinlock *l) {
    for (unsigned i = 0; i < touched_count; i++)
        if (touched[i] == l)
            return true;
    return false;
}

static void pd_check(struct pd *pd) {
    assert(pd->obj.type == KOBJ_PD && !pd->ec_lock.owner);
    for (const struct ec *ec = pd->ecs, *prev = NULL; ec; prev = ec, ec = ec->pd_next)
        assert(ec->pd == pd && ec->pd_prev == prev && sim_alloc_at(ec));
    sim_space_check(pd);
}

static void pd_check_touched(struct pd *pd) {
    for (unsigned type = CRD_MEM; type <= CRD_OBJ; type++)
        if (is_touched(&space_of(pd, type)->lock))
            space_check_type(pd, type);
}

static void check_all(void) {
    sim_pds_each(pd_check);
    sim_check_run();
    sim_check_memory();
    sim_check_translations();
}

static void check_call(const struct cpu *c) {
    sim_check_run_on(c);
    if (!touched_count)
        return;
    sim_pds_each(pd_check_touched);
    if (is_touched(&node_cache.lock))
        sim_check_references();
    if (is_touched(&c->space->mem.lock))
        sim_check_tlb(c);
}

static bool inside_kernel(const struct mach_cpu *m) {
    return m->state != SIM_CPU_IDLE && m->active == m->kernel && !m->in_guest;
}

/* On behalf of `self`; calls: only what the calls on it have touched. */
static bool look(const struct cpu *self, bool calls) {
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        if (&sim_cpus[i] != self && inside_kernel(&sim_cpus[i].mach))
            return false; /* its structures are in motion */
    bool was = sim_running;
    i64 fuel = sim_fuel;
    u64 now = sim_now;
    sim_running = false; /* no scheduling while we look */
    sim_race_ignore(true);
    sim_fuel = INT64_MAX;
    if (calls && touched_count <= TOUCHED)
        check_call(self);
    else
        check_all();
    touched_count = 0;
    sim_race_ignore(false);
    sim_fuel = fuel, sim_now = now;
    sim_running = was;
    return true;
}

bool sim_check_now(const struct cpu *self) { return look(self, false); }
void sim_check(void) { look(sim_running ? arch_cpu_self() : NULL, false); }

void sim_check_exit(struct cpu *self) {
    sim_speculate(self);
    static unsigned exits;
    static bool due; /* at the next exit that finds the other CPUs outside */
    bool calls = sim_opt.check_every == SIM_CHECK_CALLS;
    if (sim_ending && look(self, false))
        sim_stop(SIM_OK);
    if (!sim_running || sim_opt.check_every == SIM_CHECK_END) /* unit tests enter guests outside a run */
        return;
    due |= ++exits % (calls ? SIM_CHECK_DEFAULT : sim_opt.check_every) == 0;
    if (due || calls)
        due &= !look(self, !due);
}
