/* Invariants over the core's structures, looked at from outside while no CPU is in the kernel. A violation is a panic. */
#include "arch/assert.h"
#include "arch/ptab.h"
#include "core/pd.h"
#include "core/sc.h"
#include "sim/internal.h"

/* Queues of a CPU: bitmap and lists agree, every SC is where its state says, circles close. */
static void sched_check(const struct cpu *c) {
    for (unsigned p = 0; p < SC_PRIORITIES; p++) {
        const struct sc *first = c->sched.queue[p];
        assert(!!first == (c->sched.bitmap[p / 64] >> p % 64 & 1));
        const struct sc *sc = first;
        for (unsigned n = 0; sc && n < 100000; n++) {
            assert(sc->state == SC_READY && sc->cpu == c->id && sc->prio == p && sc->next->prev == sc);
            assert(sc->obj.type == KOBJ_SC && sc->ec->cpu == c->id);
            sc = sc->next == first ? NULL : sc->next;
        }
        assert(!sc);
    }
    assert(c->sc && c->sc->state == SC_RUNNING && c->ec && c->ec->cpu == c->id);
}

/* Call chains: both ends know each other, and following callees ends. */
static void ec_check(const struct ec *ec) {
    const struct ec *end = ec;
    unsigned n = 0;
    assert(ec->obj.type == KOBJ_EC && ec->cpu < sim_opt.cpus && (ec->obj.refs > 0 || ec->obj.dead));
    assert(!ec->callee || (ec->callee->caller == ec && ec->callee->cpu == ec->cpu));
    assert(!ec->caller || ec->caller->callee == ec);
    while (end->callee && ++n < 100000)
        end = end->callee;
    assert(!end->callee);
    assert(!ec->sc || ec->sc->ec == ec);
    for (const struct sc *sc = ec->parked; sc; sc = sc->next == ec->parked ? NULL : sc->next)
        assert(sc->state == SC_PARKED && sc->parked_on == ec);
}

static void pd_check(struct pd *pd) {
    assert(pd->obj.type == KOBJ_PD && !spin_held(&pd->mem.lock) && pd->mem.lock.owner == 0 && pd->caps.lock.owner == 0);
    for (const struct ec *ec = pd->ecs; ec; ec = ec->pd_next) {
        assert(ec->pd == pd);
        ec_check(ec);
    }
    sim_space_check(pd);
}

/* What a CPU's TLB holds is what the tables of its address space say, with no more rights, unless a flush is already asked for. */
static void tlb_check(const struct cpu *c) {
    if (c->shoot_req != c->shoot_ack || sim_opt.no_flush)
        return;
    for (unsigned i = 0; i < SIM_TLB_SIZE; i++) {
        const struct sim_tlb_entry *e = &c->mach.tlb[i];
        u64 pfn;
        unsigned perm;
        if (!e->page)
            continue;
        assert(ptab_lookup(&c->space->host, e->page - 1, &pfn, &perm));
        assert(pfn == e->frame && (e->perm & ~perm) == 0);
    }
}

bool sim_check_now(const struct cpu *self) {
    for (unsigned i = 0; i < sim_opt.cpus; i++) {
        const struct mach_cpu *m = &sim_cpus[i].mach;
        if (&sim_cpus[i] != self && m->state != SIM_CPU_IDLE && m->active == m->kernel)
            return false; /* inside the kernel: its structures are in motion */
    }
    bool was = sim_running;
    sim_running = false; /* no scheduling while we look */
    i64 fuel = sim_fuel;
    u64 now = sim_now;
    sim_fuel = INT64_MAX;
    sim_pds_each(pd_check);
    for (unsigned i = 0; i < sim_opt.cpus; i++) {
        sched_check(&sim_cpus[i]);
        tlb_check(&sim_cpus[i]);
    }
    sim_fuel = fuel, sim_now = now;
    sim_running = was;
    return true;
}

void sim_check(void) { sim_check_now(sim_running ? arch_cpu_self() : NULL); }
