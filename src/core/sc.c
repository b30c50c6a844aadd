#include "core/sc.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/pd.h"
#include "core/sm.h"

static struct slab_cache sc_cache = {.name = "sc", .size = sizeof(struct sc), .align = 32};
u32 tsc_khz;

struct sc *sc_create(struct pd *owner, struct ec *ec, unsigned prio, u64 quantum_us) {
    struct sc *sc = kobj_alloc(&sc_cache, KOBJ_SC, owner);
    if (!sc)
        return NULL;
    kobj_get(&ec->obj);
    sc->ec = ec;
    sc->cpu = ec->cpu;
    sc->prio = (u8)prio;
    sc->quantum = min_u64(mul_div_u64(quantum_us, tsc_khz, 1000), ~0ul >> 1);
    sc->quantum += !sc->quantum;
    sc->left = sc->quantum;
    return sc;
}

u64 sc_time_us(struct sc *sc) {
    const struct cpu *c = cpus[sc->cpu];
    u64 ticks, now;
    u64 seq;
    do { /* all of it from between two changes: charge() and pick() on its CPU */
        while ((seq = atomic_load_acq(&c->sc_seq)) & 1)
            arch_cpu_relax();
        ticks = atomic_load_acq(&sc->used);
        u64 start = atomic_load_acq(&c->sc_start);
        bool running = atomic_load_acq(&c->sc) == sc;
        now = running ? arch_clock() : start;
        now = now > start ? now - start : 0;
    } while (atomic_load_acq(&c->sc_seq) != seq);
    return mul_div_u64(ticks + now, 1000, tsc_khz);
}

static void sc_free(struct rcu_head *h) {
    struct sc *sc = container_of(h, struct sc, obj.rcu);
    if (!sc->unbound)
        atomic_store_rel(&sc->ec->sc, NULL);
    kobj_put(&sc->ec->obj);
    kobj_free(&sc_cache, &sc->obj);
}

void sc_destroy(struct sc *sc) { inbox_post(sc->cpu, &sc->drop, INBOX_SC_DROP); }

static inline void dequeue(struct sched *s, struct sc *sc) {
    if (sc->next == sc) {
        s->queue[sc->prio] = NULL;
        s->bitmap[sc->prio / 64] &= ~(1ul << sc->prio % 64);
    } else {
        sc->next->prev = sc->prev;
        sc->prev->next = sc->next;
        if (s->queue[sc->prio] == sc)
            s->queue[sc->prio] = sc->next;
    }
}

void sched_enqueue(struct cpu *c, struct sc *sc, bool head) {
    assert(sc->cpu == c->id && sc->state != SC_READY && sc->state != SC_RUNNING);
    struct sched *s = &c->sched;
    struct sc **q = &s->queue[sc->prio];
    if (*q) {
        sc->next = *q;
        sc->prev = (*q)->prev;
        sc->prev->next = sc->next->prev = sc;
        if (head)
            *q = sc;
    } else {
        *q = sc->next = sc->prev = sc;
        s->bitmap[sc->prio / 64] |= 1ul << sc->prio % 64;
    }
    sc->state = SC_READY;
    if (sc->prio > c->sc->prio)
        cpu_hazard_set(c, HZ_SCHED);
}

/* Charges the current SC for the time since it became current. */
static inline void charge(struct cpu *c) {
    struct sc *sc = c->sc;
    atomic_fetch_add(&c->sc_seq, 1); /* even again in pick; before the clock: who still saw it even saw no later time */
    u64 now = arch_clock(), spent = now > c->sc_start ? now - c->sc_start : 0;
    atomic_store_rel(&sc->used, sc->used + spent);
    sc->left = spent < sc->left ? sc->left - spent : 0;
    atomic_store_rel(&c->sc_start, now);
}

/* Arms the hardware for what comes first: end of the quantum or a deadline. An earlier shot that is armed already just comes early. */
static void arm(struct cpu *c) {
    u64 first = timeout_first(&c->timeouts);
    if (c->sc != c->idle_sc && c->sc_start + c->sc->left < first)
        first = c->sc_start + c->sc->left;
    if (first < c->deadline) {
        c->deadline = first;
        arch_deadline_set(first);
    }
}

static no_inline void chain_follow(struct cpu *c, struct ec *ec) {
    u32 hops = 0;
    for (unsigned n = 1;; n++) {
        if (n % CHAIN_STEP == 0)
            (void)arch_preempt_pending(); /* only marks: the links stay */
        if (ec->callee) {
            ec = ec->callee;
            hops++;
        } else if (ec->helping && ec->helping->cont != CONT_WAIT) {
            ec = ec->helping;
            hops = 0;
        } else {
            break;
        }
    }
    c->ec = ec;
    c->hops = hops;
}
static inline void activate(struct cpu *c, struct ec *ec) {
    if (unlikely(ec->callee || ec->helping)) {
        chain_follow(c, ec);
        return;
    }
    c->ec = ec;
    c->hops = 0;
}
void sched_activate(struct cpu *c) { activate(c, c->sc->ec); }

/* A dying SC stays while it is donated: it drives the server until the reply. One whose owner died leaves, but is not freed yet. */
static bool leaves(const struct sc *sc) { return unlikely(sc_dying(sc)) && !sc->ec->callee; }

static void sc_retire(struct sc *sc) {
    sc->state = SC_DROPPED;
    if (sc->dying)
        rcu_call(&sc->obj.rcu, sc_free);
}

static void pick(struct cpu *c) {
    cpu_count_event(c, CNT_SCHEDULE);
    struct sched *s = &c->sched;
    for (;;) {
        unsigned prio = s->bitmap[1]   ? 127 - (unsigned)__builtin_clzl(s->bitmap[1])
                        : s->bitmap[0] ? 63 - (unsigned)__builtin_clzl(s->bitmap[0])
                                       : 0;
        struct sc *sc = prio ? s->queue[prio] : c->idle_sc;
        if (prio)
            dequeue(s, sc);
        if (prio && leaves(sc)) {
            sc_retire(sc);
            continue;
        }
        sc->state = SC_RUNNING;
        atomic_store_rel(&c->sc, sc);
        atomic_store_rel(&c->sc_seq, c->sc_seq + 1);
        break;
    }
    activate(c, c->sc->ec);
    arm(c);
}

void sched_requeue(struct cpu *c) {
    struct sc *sc = c->sc;
    charge(c);
    sc->state = SC_NEW;
    if (leaves(sc)) {
        sc_retire(sc);
    } else if (sc != c->idle_sc) {
        bool head = sc->left != 0;
        if (!head)
            sc->left = sc->quantum;
        sched_enqueue(c, sc, head);
    }
    pick(c);
}

void sched_park(struct cpu *c, struct ec *park_on) {
    struct sc *sc = c->sc;
    assert(sc != c->idle_sc);
    charge(c);
    if (leaves(sc)) {
        sc_retire(sc);
    } else {
        sc->state = SC_PARKED;
        sc->parked_on = park_on;
        sc->prev = NULL;
        sc->next = park_on->parked;
        if (sc->next)
            sc->next->prev = sc;
        park_on->parked = sc;
    }
    pick(c);
}

void sched_drop(struct cpu *c) {
    charge(c);
    sc_retire(c->sc);
    pick(c);
}

void sched_unpark_all(struct cpu *c, struct ec *ec) {
    for (struct sc *sc = ec->parked, *next; sc; sc = next) {
        next = sc->next;
        if (!sc->left)
            sc->left = sc->quantum;
        sched_enqueue(c, sc, false);
    }
    ec->parked = NULL;
}

void sched_inbox_drop(struct cpu *c, struct sc *sc) {
    sc->dying = 1;
    switch (sc->state) {
    case SC_NEW: /* was never enqueued */
        sc_retire(sc);
        break;
    case SC_READY:
        if (leaves(sc)) {
            dequeue(&c->sched, sc);
            sc_retire(sc);
        }
        break;
    case SC_RUNNING:
        cpu_hazard_set(c, HZ_SCHED); /* sched_requeue retires it */
        break;
    case SC_PARKED:
        if (leaves(sc)) {
            if (sc->prev)
                sc->prev->next = sc->next;
            else
                sc->parked_on->parked = sc->next;
            if (sc->next)
                sc->next->prev = sc->prev;
            sc_retire(sc);
        }
        break;
    case SC_DROPPED:
        rcu_call(&sc->obj.rcu, sc_free);
        break;
    }
}

#define TIMER_STEP 64 /* deadlines in one interrupt: more of them raise the next one at once */

void sched_timer(struct cpu *c) {
    u64 now = arch_clock();
    c->deadline = ~0ul;
    for (unsigned n = 0; n < TIMER_STEP && timeout_first(&c->timeouts) <= now; n++) {
        struct ec *ec = container_of(c->timeouts.top, struct ec, timeout);
        timeout_cancel(&c->timeouts, &ec->timeout);
        sm_timeout(c, ec);
    }
    if (c->sc != c->idle_sc && now - c->sc_start >= c->sc->left)
        cpu_hazard_set(c, HZ_SCHED);
    else
        arm(c);
}
