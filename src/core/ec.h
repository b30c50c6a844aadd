/* Execution context: threads and vCPUs. An EC has no kernel stack; what it does when next activated is its `cont`. */
#pragma once
#include "arch/cpu.h"
#include "arch/fpu.h"
#include "arch/regs.h"
#include "core/abi.h"
#include "core/heap.h"
#include "core/inbox.h"
#include "core/kobj.h"
#include "core/space.h"

enum ec_kind { EC_LOCAL, EC_GLOBAL, EC_VCPU, EC_IDLE };
enum ec_cont {
    CONT_WAIT,    /* local thread between calls (idle); global thread that replied: blocked for good */
    CONT_USER,    /* resume user or guest mode with regs */
    CONT_RECV,    /* callee: receive the caller's message, then enter at the portal's IP */
    CONT_REPLY,   /* callee: transfer the reply to the caller, then wait */
    CONT_SYSCALL, /* execute the hypercall in regs again: helping retry, or a restarted long operation */
    CONT_EVENT,   /* raise event `event` (startup, or retried because the handler was busy) */
    CONT_BLOCKED, /* on a semaphore until woken */
    CONT_IDLE,    /* the idle EC of a CPU */
    CONT_DEAD,    /* shut down; never runs again */
};
enum ec_hazard { EC_HZ_RECALL = 1, EC_HZ_KILL = 2 };

struct vcpu; /* arch/vcpu.h */
struct sc;
struct ec {
    struct kobj obj;
    struct uregs regs;
    u8 kind, cont;
    u8 in_event; /* as a caller: inside an event, not a call */
    u8 event;    /* number of the event being raised or served */
    u8 fpu_used; /* has FPU state of its own */
    bool gone;   /* destruction has begun on the home CPU */
    u32 cpu;
    u32 hazard;         /* atomic: enum ec_hazard */
    struct ec *callee;  /* the EC that works for me; its caller is me */
    struct ec *caller;  /* reply register */
    struct ec *helping; /* busy EC that my retry waits for; I am in its list `helpers` */
    struct ec *helpers, *help_next, *help_prev;
    struct sc *parked; /* SCs that wait for me to be woken, home CPU only */
    struct pd *pd;
    struct abi_utcb *utcb; /* kernel's own mapping; NULL for vCPUs */
    u64 utcb_vpn;
    u64 evt_base;
    u64 portal_ip, portal_id; /* of the portal being served, before CONT_RECV has an end */
    struct {                  /* message transfer in progress */
        bool started;
        u32 item, typed;
        u64 xlt, del; /* the receiver's windows, read once */
        u64 crd;      /* what it sees of the item */
        struct space_progress space;
    } xfer;
    struct space_progress progress; /* of a restarted hypercall */
    u64 rcu_since;                  /* memory ran out: it waits for what has died (rcu_push) */
    struct kobj *pending;           /* object that a restarted create is making */
    struct sm *sm;                  /* atomic: queued on; cleared under the semaphore's lock by whoever dequeues */
    struct ec *sm_next, *sm_prev;   /* when dead: sm_next is the next one of cpu->reap_ecs */
    u8 wake_status;                 /* enum abi_status the down returns */
    struct timeout timeout;         /* deadline of the down, home CPU only */
    struct inbox_item wake;         /* woken by another CPU */
    struct inbox_item work;         /* kill or destroy on the home CPU */
    struct arch_bases bases;
    void *fpu;         /* image, arch_fpu_size bytes */
    struct sc *sc;     /* atomic: bound SC (at most one), not referenced: the SC refers to us */
    struct vcpu *vcpu; /* kind EC_VCPU */
    u64 fault_addr;    /* of the last page fault or nested page fault */
    struct ec *pd_next, *pd_prev;
};
struct cpu;
/* Owner and home is pd. BAD_MEM, BAD_PAR (UTCB address occupied), BAD_FTR (vCPU), BAD_CAP (pd is dying). */
must_check enum abi_status ec_create(struct pd *pd, enum ec_kind kind, unsigned cpu, u64 utcb_vpn, u64 sp, u64 evt,
                                     struct ec **out);
/* ec waits until busy `target` is free, and lends its SC meanwhile (home CPU). */
void ec_help_begin(struct ec *ec, struct ec *target);
void ec_help_end(struct ec *ec);
/* Home CPU: never runs again, its caller gets ABORTED; after the reply if it has called on. Logs `why` unless quiet. */
void ec_kill(struct cpu *c, struct ec *ec, const char *why);
/* Home CPU: an event that cannot be delivered; logs number and reason, then as ec_kill. */
void ec_event_failed(struct cpu *c, struct ec *ec, unsigned number, const char *why);
/* Any CPU: asks the home CPU for ec_kill without a log line. */
void ec_kill_remote(struct ec *ec);
/* Last reference gone. */
void ec_destroy(struct ec *ec);
/* Home CPU: the next step of a revoke whose EC died half-way, then the EC is freed. True if there is more to do. */
bool ec_reap(struct cpu *c);
/* Inbox of the home CPU; ec_work: killed or destroyed. */
void ec_woken(struct cpu *c, struct ec *ec);
void ec_work(struct cpu *c, struct ec *ec);
/* Pends recall; kicks the home CPU if it may be running now. */
void ec_recall(struct ec *ec);
static inline void ec_set_status(struct ec *ec, enum abi_status s) {
    ec->regs.rdi = (u64)s;
    ec->cont = CONT_USER;
}
