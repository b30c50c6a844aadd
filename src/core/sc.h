/* Scheduling context and the scheduler of a CPU: 128 priorities, a FIFO each, a bitmap. */
#pragma once
#include "core/inbox.h"
#include "core/kobj.h"
#include "core/pd.h"

#define SC_PRIORITIES 128
enum sc_state { SC_NEW, SC_READY, SC_RUNNING, SC_PARKED, SC_DROPPED };
struct ec;
struct cpu;
struct sc {
    struct kobj obj;
    struct ec *ec; /* referenced */
    u32 cpu;
    u8 prio;
    u8 state;               /* home CPU only */
    bool unbound;           /* never became its EC's SC */
    u8 dying;               /* home CPU only: no capability left; leaves when it is not donated */
    u64 quantum, left;      /* TSC ticks */
    u64 used;               /* atomic, TSC ticks */
    struct sc *next, *prev; /* run queue or parking list */
    struct ec *parked_on;   /* of SC_PARKED */
    struct inbox_item ready, drop;
};
struct sched {
    struct sc *queue[SC_PRIORITIES]; /* circular lists */
    u64 bitmap[2];
};
must_check struct sc *sc_create(struct pd *owner, struct ec *ec, unsigned prio, u64 quantum_us);
void sc_destroy(struct sc *sc);
/* Home CPU: no capability is left, or its owner died. */
static inline bool sc_dying(const struct sc *sc) { return sc->dying || atomic_load_rlx(&sc->obj.owner->obj.dead); }
u64 sc_time_us(struct sc *sc);
/* TSC frequency, set at boot. */
extern u32 tsc_khz;
/* Home CPU: puts sc into the queue of its priority; asks for rescheduling if it should run before the current one. */
void sched_enqueue(struct cpu *c, struct sc *sc, bool head);
/* Takes the current SC off (to the queue, `park_on`, or nowhere) and picks the next: sets c->sc and c->ec (end of its call chain). */
void sched_requeue(struct cpu *c); /* still runnable: head if budget is left, else tail with a fresh one */
void sched_park(struct cpu *c, struct ec *park_on); /* until park_on is woken */
void sched_drop(struct cpu *c);                     /* never again */
void sched_unpark_all(struct cpu *c, struct ec *ec);
void sched_inbox_drop(struct cpu *c, struct sc *sc);
#define CHAIN_STEP 64 /* links of a call chain between two preemption points */
/* Follows callee and helping links from the current SC's EC; sets c->ec, c->hops. */
void sched_activate(struct cpu *c);
void sched_timer(struct cpu *c);
