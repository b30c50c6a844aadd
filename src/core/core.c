/* The dispatch loop: what every kernel exit goes through. */
#include "core/core.h"
#include "arch/assert.h"
#include "arch/iommu.h"
#include "arch/mitigate.h"
#include "arch/ptab.h"
#include "arch/vcpu.h"
#include "core/hypercall.h"
#include "core/ipc.h"
#include "core/klog.h"
#include "core/pd.h"
#include "core/shoot.h"
#include "core/sm.h"
#include "core/switch.h"

struct cpu *cpus[ABI_MAX_CPUS];
unsigned cpu_count;

/* One kind at a time, in this order; RCU last, when nothing dead can be reached from this CPU any more. */
static void hazards(struct cpu *c, u32 hz) {
    if (hz & HZ_SHOOT) {
        atomic_fetch_and(&c->hazard, ~(u32)HZ_SHOOT);
        shoot_serve(c);
    } else if (hz & HZ_INBOX) {
        atomic_fetch_and(&c->hazard, ~(u32)HZ_INBOX);
        inbox_drain(c);
    } else if (hz & HZ_SCHED) {
        atomic_fetch_and(&c->hazard, ~(u32)HZ_SCHED);
        sched_requeue(c);
        if (rcu_pending(c))
            cpu_hazard_set(c, HZ_RCU);
    } else if (hz & HZ_REAP) {
        if (!pd_reap(c))
            atomic_fetch_and(&c->hazard, ~(u32)HZ_REAP);
    } else {
        atomic_fetch_and(&c->hazard, ~(u32)HZ_RCU);
        arch_space_load(c, c->ec->pd); /* what is loaded now may be freed by a callback */
        c->trained_by = NULL;
        rcu_quiescent(c);
    }
}

static bool ec_hazards(struct cpu *c, struct ec *ec) {
    u32 hz = atomic_load_acq(&ec->hazard);
    if (hz & EC_HZ_KILL) {
        ec_kill(c, ec, NULL);
        return true;
    }
    if (hz & EC_HZ_RECALL) {
        atomic_fetch_and(&ec->hazard, ~(u32)EC_HZ_RECALL);
        ipc_event(c, ec->kind == EC_VCPU ? EVT_VCPU_RECALL : EVT_THREAD_RECALL);
        return true;
    }
    return false;
}

static no_inline struct ec *predictors_clear(struct cpu *c, struct ec *ec) {
    c->trained_by = ec->pd;
    if (mitigations & MIT_DOMAIN_SWITCH)
        mitigate_domain_switch();
    return ec;
}

/* The FPU and the FS and GS bases are not switched at every entry: they have an owner. */
static inline void fpu_load(struct cpu *c, struct ec *ec) {
    if (!c->fpu_on)
        arch_fpu_enable();
    c->fpu_on = true;
    if (c->fpu_owner == ec)
        return;
    if (c->fpu_owner)
        arch_fpu_save(c->fpu_owner->fpu);
    arch_fpu_load(ec->fpu);
    c->fpu_owner = ec;
}

/* Returns ec, who is next. */
static inline struct ec *predictors_check(struct cpu *c, struct ec *ec) {
    if (likely(!(mitigations & MIT_DOMAIN_SWITCH) || c->trained_by == ec->pd))
        return ec;
    return predictors_clear(c, ec);
}

struct ec *core_thread_load(struct cpu *c, struct ec *ec) {
    if (c->space != ec->pd)
        arch_space_load(c, ec->pd);
    if (c->bases_owner != ec) {
        arch_bases_switch(&c->bases_owner->bases, &ec->bases);
        c->bases_owner = ec;
    }
    if (unlikely(fpu_stale(c, ec))) {
        if (ec->fpu_used)
            fpu_load(c, ec);
        else
            arch_fpu_disable();
        c->fpu_on = ec->fpu_used;
    }
    return predictors_check(c, ec);
}

struct ec *core_domain_switch(struct cpu *c, struct ec *ec) {
    arch_space_load(c, ec->pd);
    return predictors_clear(c, ec);
}

/* A guest has its own tables (guest_space), and its host finds those of the VMM again, and its bases. Whether the guest may use the FPU says
 * its own CR0. */
static no_inline struct ec *guest_load(struct cpu *c, struct ec *ec) {
    fpu_load(c, ec);
    return predictors_check(c, ec);
}

/* Between a guest and the thread that handles its exits mostly nothing is to be loaded. */
static inline struct ec *ec_load(struct cpu *c, struct ec *ec) {
    if (likely(c->bases_owner == ec && c->space == ec->pd && !fpu_stale(c, ec)))
        return predictors_check(c, ec);
    return ec->kind == EC_VCPU ? guest_load(c, ec) : core_thread_load(c, ec);
}

struct ec *core_receive(struct cpu *c, struct ec *from, struct ec *to) {
    ipc_receive(c, to);
    return to->cont == CONT_USER ? core_switch(c, from, to) : NULL;
}

static no_inline struct ec *resume(struct cpu *c) {
    u32 ignore = 0; /* teardown: one step at every kernel exit, not more, as who runs next has other things to do */
    rcu_idle_leave(c);
    for (;;) {
        u32 hz = atomic_load_acq(&c->hazard) & ~ignore;
        if (unlikely(hz)) {
            hazards(c, hz);
            if ((hz & -hz) == HZ_REAP && c->sc != c->idle_sc)
                ignore = HZ_REAP;
            continue;
        }
        struct ec *ec = c->ec;
        switch ((enum ec_cont)__builtin_expect(ec->cont, CONT_USER)) {
        case CONT_USER:
            if (unlikely(atomic_load_rlx(&ec->hazard)) && ec_hazards(c, ec))
                continue;
            return ec_load(c, ec);
        case CONT_RECV:
            ipc_receive(c, ec);
            break;
        case CONT_REPLY:
            ipc_reply_transfer(c, ec);
            break;
        case CONT_SYSCALL:
            ec_help_end(ec);               /* a helper tries again, whatever comes of it */
            (void)core_thread_load(c, ec); /* as if it came from user mode: core_switch */
            hypercall_run(c, ec);
            break;
        case CONT_EVENT:
            ec_help_end(ec);
            ipc_event(c, ec->event);
            break;
        case CONT_BLOCKED:
        case CONT_WAIT:
            sched_park(c, ec);
            break;
        case CONT_DEAD:
            sched_drop(c);
            break;
        case CONT_IDLE:
            arch_space_load(c, ec->pd); /* holds on to nobody's tables */
            c->trained_by = NULL;
            if (rcu_pending(c))
                rcu_quiescent(c);
            rcu_idle_enter(c);
            if (atomic_load_acq(&c->hazard)) {
                rcu_idle_leave(c);
                ignore = 0;
                continue;
            }
            return ec;
        }
    }
}

/* What most find needs no loop, and no look at RCU: nobody but the idle EC leaves idle. */
static force_inline struct ec *resume_soon(struct cpu *c) {
    struct ec *ec = c->ec;
    if (unlikely(atomic_load_acq(&c->hazard) | atomic_load_rlx(&ec->hazard)) || unlikely(ec->cont != CONT_USER))
        return resume(c);
    return ec_load(c, ec);
}

struct ec *core_resume(struct cpu *c) {
    return resume_soon(c);
}

struct ec *core_exception(struct cpu *c, u64 fault_addr) {
    struct ec *ec = c->ec;
    assert(ec->kind != EC_IDLE);
    if (ec->regs.vec == 7 && !c->fpu_on) { /* #NM: first use, or after a thread without FPU state */
        ec->fpu_used = 1;
        fpu_load(c, ec);
        return core_resume(c);
    }
    cpu_count_event(c, CNT_EXCEPTION);
    ec->fault_addr = fault_addr;
    ipc_event(c, (unsigned)ec->regs.vec);
    return core_resume(c);
}

struct ec *core_vmexit(struct cpu *c, unsigned event) {
    struct ec *ec = c->ec;
    cpu_count_event(c, CNT_VMEXIT);
    const struct pt *pt = event_portal(c, ec, event);
    if (likely(pt))
        arch_vcpu_get(ec, event_enter(c, ec, pt), pt->mtd, event);
    else
        ipc_event(c, event);
    return resume_soon(c);
}

void core_ipi(struct cpu *c) {
    cpu_count_event(c, CNT_IPI);
    rcu_idle_leave(c);
    if (atomic_load_acq(&c->hazard) & HZ_SHOOT)
        shoot_serve(c);
    /* everything else waits for core_resume */
}

void core_timer(struct cpu *c) {
    cpu_count_event(c, CNT_TIMER);
    rcu_idle_leave(c);
    sched_timer(c);
    arch_iommu_poll();
}
