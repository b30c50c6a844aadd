/* Per-CPU state of core. */
#pragma once
#include "arch/cpu.h"
#include "core/abi.h"
#include "core/heap.h"
#include "core/inbox.h"
#include "core/rcu.h"
#include "core/sc.h"

enum cpu_hazard { /* cpu->hazard, set by anyone, tested at every kernel exit; lowest bit first (core.c) */
                  HZ_SHOOT = 1,
                  HZ_INBOX = 2,
                  HZ_SCHED = 4, /* pick again */
                  HZ_REAP = 8,  /* a dying PD or a dead EC's revoke waits for its next step */
                  HZ_RCU = 16,  /* an epoch waits for this CPU, or callbacks are ripe */
};
struct pd;
struct cpu {
    struct mach_cpu mach; /* first: entry assembly */
    unsigned id;
    u32 hazard;    /* atomic */
    struct ec *ec; /* runs now, or next */
    struct sc *sc; /* pays for it */
    u32 hops; /* callee links between the last helping link (or sc->ec) and ec: > 0 means ec's caller is on our path */
    struct ec *idle_ec;
    struct sc *idle_sc;
    u64 sc_start; /* clock when sc became current */
    u64 sc_seq;   /* atomic: odd while sc, sc_start and the time used by sc change together */
    struct sched sched;
    struct timeout_heap timeouts;
    u64 deadline;             /* armed in the hardware */
    struct inbox_item *inbox; /* atomic */
    struct pd *space;         /* atomic: host table loaded (set by arch_space_load); who shoots needs it, */
    struct pd *space_next;    /* atomic: and the one that is about to be; else the same */
    struct pd *trained_by;    /* whose threads or guests ran here last; NULL: somebody who may be freed, or nobody */
    struct pd *guest_space;   /* atomic: guest table in use by the vCPU that runs now, else NULL */
    u64 shoot_req, shoot_ack; /* atomic */
    struct ec *fpu_owner;     /* whose image is in the registers */
    bool fpu_on;              /* CR0.TS is clear */
    struct ec *bases_owner;   /* whose FS/GS bases are in the CPU; idle_ec: nobody's */
    struct {
        struct rcu_head *next, *wait; /* the last one first */
        u64 wait_epoch;               /* callbacks in `wait` are ripe when this epoch has ended */
        u32 count;                    /* atomic: callbacks that have not run */
        bool idle;                    /* atomic */
    } rcu;
    struct pd *reap;     /* atomic: dying PDs */
    struct ec *reap_ecs; /* atomic: dead ECs with a revoke to finish */
    u64 guest_flush_gen; /* arch/vcpu: generation of ASIDs on this CPU */
    u32 next_asid;
    u64 counters[ABI_COUNTERS]; /* atomic, written by this CPU */
};
extern struct cpu *cpus[ABI_MAX_CPUS]; /* by logical number; NULL: not enabled */
extern unsigned cpu_count;
void cpu_hazard_set(struct cpu *c, u32 bits);
static inline void cpu_count_event(struct cpu *c, u64 counter) { atomic_count(&c->counters[counter]); }
