#include "core/ipc.h"
#include "arch/assert.h"
#include "arch/mem.h"
#include "arch/vcpu.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/hypercall.h"
#include "core/pd.h"
#include "core/pt.h"
#include "core/switch.h"

/* Would `ec` wait for itself? Chains never form loops before this answer, so the walk ends. */
static bool help_loops(const struct ec *ec, const struct ec *target) {
    for (unsigned n = 1; target; target = target->callee ? target->callee : target->helping, n++) {
        if (target == ec)
            return true;
        if (n % CHAIN_STEP == 0)
            (void)arch_preempt_pending();
    }
    return false;
}

/* The message is still to be received. */
static force_inline void link_receiver(struct cpu *c, struct ec *ec, struct pt *pt) {
    struct ec *callee = pt->ec;
    assert(!ec->callee);
    link_call(c, ec, callee);
    callee->portal_ip = pt->ip;
    callee->portal_id = atomic_load_rlx(&pt->id);
    callee->cont = CONT_RECV;
    callee->xfer.started = false;
}

/* The callee is busy: ec's SC runs whatever the callee's chain ends in; ec tries again when it is scheduled next. */
static void help(struct cpu *c, struct ec *ec, struct ec *callee) {
    cpu_count_event(c, CNT_HELP);
    ec_help_begin(ec, callee);
    sched_activate(c);
}

static no_inline struct ec *call_refused(struct cpu *c, struct ec *ec, struct ec *callee) {
    if (callee->cpu != c->id) {
        ec_set_status(ec, NOVA_BAD_CPU);
    } else if (callee->cont == CONT_DEAD) {
        ec_set_status(ec, NOVA_ABORTED);
    } else if (ARG_FLAGS(&ec->regs) & HF_CALL_DB) {
        ec_set_status(ec, NOVA_TIMEOUT);
    } else if (help_loops(ec, callee)) {
        ec_set_status(ec, NOVA_ABORTED);
    } else {
        ec->cont = CONT_SYSCALL;
        help(c, ec, callee);
    }
    return NULL;
}

struct ec *ipc_call(struct cpu *c, struct ec *ec, struct pt *pt) {
    struct ec *callee = pt->ec;
    if (unlikely(callee->cpu != c->id || callee->cont != CONT_WAIT))
        return call_refused(c, ec, callee);
    link_receiver(c, ec, pt);
    return core_receive(c, ec, callee);
}

/* State of a thread at an exception, the MTD's fields only. */
static no_inline void thread_state_get(const struct ec *ec, struct abi_state *s, u32 mtd) {
    const struct uregs *r = &ec->regs;
    uregs_get(r, &r->rax, s, mtd);
    if (mtd & MTD_RSP)
        s->rsp = r->rsp;
    if (mtd & MTD_RIP) {
        s->rip = r->rip;
        s->inst_len = 0;
    }
    if (mtd & MTD_RFLAGS)
        s->rflags = r->rflags;
    if (mtd & MTD_QUAL) {
        s->qual[0] = r->err;
        s->qual[1] = ec->fault_addr;
    }
}

static no_inline void thread_state_set(struct ec *ec, const struct abi_state *s, u32 mtd) {
    struct uregs *r = &ec->regs;
    if (mtd & (MTD_ACDB | MTD_R8_R15))
        r->vec = 0; /* RCX and R11 count: arch/regs.h */
    uregs_set(r, &r->rax, s, mtd);
    if (mtd & MTD_RSP)
        r->rsp = s->rsp;
    if (mtd & MTD_RIP)
        r->rip = s->rip;
    if (mtd & MTD_RFLAGS)
        r->rflags = (r->rflags & ~RFLAGS_ARITH) | (s->rflags & RFLAGS_ARITH);
    if (unlikely(!user_ip_ok(r->rip))) {
        r->err = 0;
        ec->event = 13; /* #GP, raised when it resumes */
        ec->cont = CONT_EVENT;
    }
}

static const char *event_obstacle(struct cpu *c, const struct ec *ec, const struct pt *pt) {
    if (atomic_load_rlx(&ec->pd->obj.dead))
        return "its domain dies"; /* the memory under it may be gone already: not worth a message to anybody */
    if (!pt)
        return "no portal for its event";
    if (pt->ec->cpu != c->id)
        return "the portal of its event is on another CPU";
    if (pt->ec->cont == CONT_DEAD)
        return "the handler of its event is dead";
    return help_loops(ec, pt->ec) ? "helping loop through an event" : NULL;
}

void ipc_event(struct cpu *c, unsigned number) {
    struct ec *ec = c->ec;
    const struct pt *pt = event_portal(c, ec, number);
    if (likely(pt)) {
        struct abi_utcb *u = event_enter(c, ec, pt);
        ec->kind == EC_VCPU ? arch_vcpu_get(ec, u, pt->mtd, number) : thread_state_get(ec, &u->state, pt->mtd);
        return;
    }
    pt = LOOKUP(ec, ec->evt_base + number, KOBJ_PT, pt, PERM_PT_CALL);
    const char *why = event_obstacle(c, ec, pt);
    if (why) {
        ec_event_failed(c, ec, number, why);
    } else {
        ec->cont = CONT_EVENT;
        help(c, ec, pt->ec);
    }
}

/* Window of an event's reply: the aligned 2^31-page range around the faulting page, for other events around 0 (section 4). */
static u64 event_window(const struct ec *ec) {
    bool fault = ec->kind == EC_VCPU ? arch_vcpu_faulted(ec->event) : ec->event == 14;
    u64 base = fault ? (ec->fault_addr >> PAGE_SHIFT) & ~((1ul << 31) - 1) : 0;
    return CRD_MAKE(CRD_MEM, base, 31, 0x1f);
}

enum transfer { TRANSFER_DONE, TRANSFER_AGAIN, TRANSFER_NOMEM };

/* Typed items of `from`'s message, at least one, into `to`'s spaces, resuming at ec->xfer.item. `tell`: its UTCB gets the results. */
static force_inline enum transfer transfer_items(struct ec *ec, struct ec *from, struct ec *to, bool tell) {
    do {
        u32 at = UTCB_WORDS - 2 - 2 * ec->xfer.item;
        u64 *src = &from->utcb->w[at];
        u64 crd = atomic_load_rlx(&src[0]), desc = atomic_load_rlx(&src[1]);
        if (desc & ITEM_DELEGATE) {
            enum space_result r =
                space_delegate(from->pd, to->pd, crd, desc, ec->xfer.del, &ec->xfer.crd, &ec->xfer.space);
            if (unlikely(r != SPACE_DONE))
                return r == SPACE_AGAIN || rcu_push(arch_cpu_self(), &ec->rcu_since) ? TRANSFER_AGAIN : TRANSFER_NOMEM;
        } else {
            ec->xfer.crd = space_translate(from->pd, to->pd, crd, ec->xfer.xlt);
        }
        ec->xfer.space = (struct space_progress){0};
        ec->rcu_since = 0;
        if (tell) {
            to->utcb->w[at] = ec->xfer.crd;
            to->utcb->w[at + 1] = desc & ITEM_DELEGATE;
        }
    } while (++ec->xfer.item < ec->xfer.typed);
    return TRANSFER_DONE;
}

static void items_begin(struct ec *ec, u32 typed, u64 xlt, u64 del) {
    ec->xfer.started = true;
    ec->xfer.item = 0;
    ec->xfer.typed = typed;
    ec->xfer.xlt = xlt;
    ec->xfer.del = del;
    ec->xfer.space = (struct space_progress){0}; /* the last transfer may have ended in the middle */
}

/* Message from one thread's UTCB to another's. `ec` is the one of them that is active and keeps the progress. */
static force_inline enum transfer transfer(struct ec *ec, struct ec *from, struct ec *to) {
    struct abi_utcb *src = from->utcb, *dst = to->utcb;
    if (!ec->xfer.started) {
        u64 items = atomic_load_rlx(&src->items); /* user memory: read once */
        u32 untyped = (u32)min_u64(items & 0xffff, UTCB_WORDS);
        u32 typed = (u32)min_u64(items >> 16 & 0xffff, (UTCB_WORDS - untyped) / 2);
        dst->items = UTCB_ITEMS(untyped, typed);
        for (u32 i = 0; i < untyped; i++)
            dst->w[i] = src->w[i];
        if (likely(!typed))
            return TRANSFER_DONE;
        items_begin(ec, typed, atomic_load_rlx(&dst->xlt), atomic_load_rlx(&dst->del));
    }
    return transfer_items(ec, from, to, true);
}

void ipc_receive(struct cpu *c, struct ec *ec) {
    struct ec *from = ec->caller;
    assert(from);
    switch (transfer(ec, from, ec)) {
    case TRANSFER_DONE:
        break;
    case TRANSFER_AGAIN:
        cpu_hazard_set(c, HZ_SCHED);
        return;
    case TRANSFER_NOMEM:
        ec->caller = NULL;
        from->callee = NULL;
        ec->cont = CONT_WAIT;
        ec_set_status(from, NOVA_BAD_MEM);
        sched_activate(c);
        return;
    }
    portal_enter(ec, ec->portal_ip, ec->portal_id);
}

/* The end of a reply to an event: the state that the handler's MTD selects. */
static inline void event_end(struct ec *to, const struct abi_utcb *u) {
    u32 mtd = (u32)atomic_load_rlx(&u->state.mtd);
    to->in_event = 0;
    to->kind == EC_VCPU ? arch_vcpu_set(to, u, mtd) : thread_state_set(to, &u->state, mtd);
}

/* Typed items of a reply to an event. */
static enum transfer event_items(struct ec *ec, struct ec *to) {
    if (!ec->xfer.started) {
        u64 items = atomic_load_rlx(&ec->utcb->items);
        u32 untyped = (u32)min_u64(items & 0xffff, UTCB_WORDS);
        items_begin(ec, (u32)min_u64(items >> 16 & 0xffff, (UTCB_WORDS - untyped) / 2), 0, event_window(to));
    }
    return ec->xfer.typed ? transfer_items(ec, ec, to, false) : TRANSFER_DONE;
}

void ipc_reply_transfer(struct cpu *c, struct ec *ec) {
    struct ec *to = ec->caller;
    if (unlikely(
            !to)) { /* nobody called, or the caller is gone: a global thread blocks for good, a local one is free */
        ec->cont = CONT_WAIT;
        if (ec->kind == EC_LOCAL)
            sched_activate(c);
        return;
    }
    enum transfer result = to->in_event ? event_items(ec, to) : transfer(ec, ec, to);
    if (result == TRANSFER_AGAIN) {
        cpu_hazard_set(c, HZ_SCHED);
        return;
    }
    to->cont = CONT_USER;
    unlink_call(ec, to);
    if (unlikely(!c->hops)) {
        sched_activate(c); /* we were helping: the helper tries again, the caller has an SC of its own */
    } else {
        caller_resume(c, to);
        if (unlikely(sc_dying(c->sc)))
            cpu_hazard_set(c, HZ_SCHED);
    }
    if (to->in_event)
        event_end(to, ec->utcb);
    else
        to->regs.rdi = result == TRANSFER_NOMEM ? NOVA_BAD_MEM : NOVA_SUCCESS;
}

struct ec *ipc_reply(struct cpu *c, struct ec *ec) {
    ec->xfer.started = false;
    ec->cont = CONT_REPLY;
    ipc_reply_transfer(c, ec);
    return NULL;
}

struct ec *ipc_event_reply(struct cpu *c, struct ec *ec, struct ec *to) {
    to->cont = CONT_USER;
    unlink_call(ec, to);
    caller_resume(c, to);
    event_end(to, ec->utcb);
    return NULL;
}
