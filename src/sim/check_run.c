/* Invariants of what runs and what waits: queues, chains, semaphores, deadlines. */
#include "arch/assert.h"
#include "core/pd.h"
#include "core/sc.h"
#include "core/sm.h"
#include "sim/check.h"

#define ENDLESS 100000u /* a list that long is a circle */

struct run_counts {
    u32 ready, blocked, armed, helping;
};

/* Queues of a CPU: bitmap and lists agree, every SC is where its state says, circles close. */
static void queues_check(const struct cpu *c, struct run_counts *n) {
    for (unsigned p = 0; p < SC_PRIORITIES; p++) {
        const struct sc *first = c->sched.queue[p];
        assert(!!first == (c->sched.bitmap[p / 64] >> p % 64 & 1));
        for (const struct sc *sc = first; sc; sc = sc->next == first ? NULL : sc->next) {
            assert(sc->state == SC_READY && sc->cpu == c->id && sc->prio == p && sc->next->prev == sc);
            assert(++n->ready < ENDLESS);
        }
    }
    assert(c->sc && c->sc->state == SC_RUNNING && c->sc->cpu == c->id && c->ec && c->ec->cpu == c->id);
}

/* What runs is the end of the chain that the current SC pays for, and the links to it are counted. */
static void current_check(const struct cpu *c) {
    const struct ec *ec = c->sc->ec;
    u32 hops = 0;
    if (c->hazard & HZ_SCHED)
        return; /* picks anew before anything runs */
    for (unsigned n = 0;; n++) {
        assert(n < ENDLESS);
        if (ec->callee)
            ec = ec->callee, hops++;
        else if (ec->helping && ec->helping->cont != CONT_WAIT)
            ec = ec->helping, hops = 0;
        else
            break;
    }
    assert(c->ec == ec && c->hops == hops);
}

/* Pairing heap of deadlines: parents before children, links both ways, all of them blocked here. Returns how many. */
static u32 heap_check(const struct cpu *c, const struct timeout *t, const struct timeout *prev, u64 earliest) {
    u32 n = 0;
    for (; t; prev = t, t = t->next) {
        const struct ec *ec = container_of(t, struct ec, timeout);
        assert(t->armed && t->deadline >= earliest && t->prev == prev);
        assert(ec->cpu == c->id && ec->cont == CONT_BLOCKED && sim_alloc_at(ec));
        n += 1 + heap_check(c, t->child, t, t->deadline);
    }
    return n;
}

static void cpu_check(const struct cpu *c, struct run_counts *n) {
    queues_check(c, n);
    current_check(c);
    assert(!c->timeouts.top || !c->timeouts.top->next);
    n->armed += heap_check(c, c->timeouts.top, NULL, 0);
    assert(c->mach.locks_held == 0);
    assert(!c->rcu.idle || c->ec == c->idle_ec); /* grace periods do not wait for it */
    assert(c->hazard & HZ_SCHED || sim_interrupt_pending(&c->mach) || c->mach.deadline <= timeout_first(&c->timeouts));
    assert(!c->fpu_owner || (sim_alloc_at(c->fpu_owner) && c->fpu_owner->cpu == c->id));
    assert(!c->bases_owner || (sim_alloc_at(c->bases_owner) && c->bases_owner->cpu == c->id));
}

/* Calls: both ends know each other and share the CPU; who waits waits for something; no chain of waiting is a circle. */
static void chain_check(const struct ec *ec) {
    unsigned n = 0;
    assert(!ec->callee || (ec->callee->caller == ec && ec->callee->cpu == ec->cpu && ec->cont != CONT_BLOCKED));
    assert(!ec->caller || ec->caller->callee == ec);
    for (const struct ec *to = ec; to; to = to->callee ? to->callee : to->helping)
        assert(++n < ENDLESS);
    assert(!ec->callee || !ec->helping);
    assert(ec->kind == EC_IDLE || !ec->sc || ec->sc->ec == ec);
}

/* Helpers: in the list of the one they wait for, about to try their call or event again. Returns the length of ec's own list. */
static u32 helpers_check(const struct ec *ec) {
    u32 n = 0;
    const struct ec *prev = NULL;
    for (const struct ec *h = ec->helpers; h; prev = h, h = h->help_next) {
        assert(h->helping == ec && h->help_prev == prev && h->cpu == ec->cpu);
        assert(h->cont == CONT_SYSCALL || h->cont == CONT_EVENT);
        assert(++n < ENDLESS);
    }
    return n;
}

/* Parked SCs are in the list of one that cannot run; a blocked EC is on a semaphore or its wake-up is on the way. */
static u32 parked_check(const struct ec *ec) {
    u32 n = 0;
    const struct sc *prev = NULL;
    for (const struct sc *sc = ec->parked; sc; prev = sc, sc = sc->next) {
        assert(sc->state == SC_PARKED && sc->parked_on == ec && sc->cpu == ec->cpu && sc->prev == prev);
        assert(ec->cont == CONT_BLOCKED || ec->cont == CONT_WAIT);
        assert(++n < ENDLESS);
    }
    assert(ec->cont != CONT_BLOCKED || ec->sm || ec->wake.queued);
    assert(!ec->sm || ec->cont == CONT_BLOCKED);
    assert(ec->cont == CONT_BLOCKED || !ec->timeout.armed);
    return n;
}

/* A semaphore's queue: linked both ways, all blocked on it; none waits while the counter says one may go. Returns its length. */
static u32 semaphore_check(const struct sm *sm) {
    u32 n = 0;
    const struct ec *prev = NULL;
    for (const struct ec *ec = sm->head; ec; prev = ec, ec = ec->sm_next) {
        assert(ec->sm == sm && ec->sm_prev == prev && ec->cont == CONT_BLOCKED);
        assert(++n < ENDLESS);
    }
    assert(sm->tail == prev && !(sm->head && (sm->counter || sm->obj.dead)) && !sm->lock.owner);
    return n;
}

void sim_check_run_on(const struct cpu *c) {
    struct run_counts unused = {0};
    cpu_check(c, &unused);
    for (const struct ec *ec = c->ec; ec; ec = ec->caller) {
        chain_check(ec);
        helpers_check(ec);
        parked_check(ec);
    }
}

void sim_check_run(void) {
    struct run_counts listed = {0}, have = {0};
    u32 parked_listed = 0, parked = 0;
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        cpu_check(&sim_cpus[i], &listed);
    SIM_EACH (a) {
        const struct ec *ec = sim_alloc_ec(a);
        const struct sc *sc = sim_alloc_sc(a);
        const struct sm *sm = sim_alloc_sm(a);
        if (ec) {
            assert(ec->cpu < sim_opt.cpus);
            chain_check(ec);
            listed.helping += helpers_check(ec);
            parked_listed += parked_check(ec);
            have.blocked += ec->sm != NULL, have.armed += ec->timeout.armed, have.helping += ec->helping != NULL;
        } else if (sc) {
            assert(sc->unbound || sc->ec->sc == sc || sc->ec->kind == EC_IDLE);
            assert(sc->state != SC_RUNNING || sim_cpus[sc->cpu].sc == sc);
            have.ready += sc->state == SC_READY, parked += sc->state == SC_PARKED;
        } else if (sm) {
            listed.blocked += semaphore_check(sm);
        }
    }
    assert(have.ready == listed.ready && have.blocked == listed.blocked && have.armed == listed.armed);
    assert(have.helping == listed.helping && parked == parked_listed); /* each is in one list, the right one */
}
