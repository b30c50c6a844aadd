/* Calls, helping, blocking: what changed in an EC's links between two looks at them. */
#include "core/sc.h"
#include "sim/trace_priv.h"
#include <stdio.h>

static void call_ended(const struct cpu *c, struct trace_obj *o, const struct ec *ec) {
    struct trace_obj *callee = o->callee;
    bool replied = callee->pending && !callee->trapped && callee->number_in == HC_REPLY;
    unsigned depth = trace_depth(o), perm = 0;
    if (!replied) {
        TRACE_EVENT(c, EV_REPLY, o, "its %s %s is cut", o->in_event ? "event at" : "call of", trace_label(callee));
        return;
    }
    char more[64] = "";
    if (o->in_event && ec->event == (ec->kind != EC_VCPU ? 14 : sim_is_intel() ? EVT_VMX_EPT : EVT_SVM_NPF)) {
        bool mapped = trace_mapped(ec->kind == EC_VCPU ? &ec->pd->guest : &ec->pd->host, ec->fault_addr, &perm);
        snprintf(more, sizeof(more), mapped ? ": the page is mapped %s%s%s now" : ": the page is not mapped",
                 perm & PERM_MEM_R ? "r" : "-", perm & PERM_MEM_W ? "w" : "-", perm & PERM_MEM_X ? "x" : "-");
    }
    u32 e = trace_event_add(c, EV_REPLY, callee, depth + 1, "replies to %s%s%s", o->in_event ? "the event of " : "",
                            trace_label(o), more);
    trace_arrow_add(FLOW_REPLY, callee->enter, e, c->id, depth + 1, depth);
}

static void call_begun(const struct cpu *c, struct trace_obj *o, const struct ec *ec) {
    struct trace_obj *callee = trace_obj(ec->callee);
    unsigned depth = trace_depth(o);
    if (!callee->name)
        trace_name(callee, trace_code(ec->callee->cont == CONT_RECV ? ec->callee->portal_ip : ec->callee->regs.rip));
    u32 e = ec->in_event
                ? TRACE_EVENT(c, EV_CALL, o, "event %s calls %s", trace_event_name(ec, ec->event), trace_label(callee))
                : TRACE_EVENT(c, EV_CALL, o, "calls %s", trace_label(callee));
    trace_arrow_add(FLOW_CALL, o->enter == NO_EVENT ? e : o->enter, e, c->id, depth, depth + 1);
}

static void help_compare(const struct cpu *c, struct trace_obj *o, const struct ec *ec) {
    struct trace_obj *now = trace_obj(ec->helping);
    if (now == o->helping)
        return;
    if (o->helping)
        TRACE_EVENT(c, EV_HELP, o, "no longer waits for %s", trace_label(o->helping));
    if (now) {
        u32 e = TRACE_EVENT(c, EV_HELP, o, "helps %s", trace_label(now));
        trace_arrow_add(FLOW_HELP, o->enter == NO_EVENT ? e : o->enter, e, c->id, trace_depth(o), trace_depth(now));
    }
    o->helping = now;
}

void trace_links(const struct cpu *c, struct trace_obj *o) {
    const struct ec *ec = ec_of(o);
    if (o->callee != trace_obj(ec->callee)) {
        if (o->callee)
            call_ended(c, o, ec);
        o->callee = NULL;
    }
    help_compare(c, o, ec);
    if (!o->callee && ec->callee)
        call_begun(c, o, ec);
    o->callee = trace_obj(ec->callee);
    o->in_event = ec->in_event;
    if (ec->cont == CONT_DEAD && o->cont != CONT_DEAD)
        TRACE_EVENT(c, EV_OBJECT, o, "is shut down");
    o->cont = ec->cont;
}

/* c did something to this semaphore's queue: o was on it, or is now. */
void trace_queue(const struct cpu *c, struct trace_obj *o, const struct ec *ec) {
    const struct lane *l = lane(c);
    struct trace_obj *now = trace_obj(ec->sm);
    if (now == o->blocked)
        return;
    if (now) {
        TRACE_EVENT(c, EV_BLOCK, o, "blocks on %s", trace_label(now));
    } else {
        const char *why = ec->wake_status == NOVA_SUCCESS   ? ""
                          : ec->wake_status == NOVA_TIMEOUT ? ": its deadline has passed"
                                                            : ": the semaphore is gone";
        const struct trace_obj *who = l->interrupt ? NULL : l->ec;
        u32 e = TRACE_EVENT(c, EV_WAKE, who, "wakes %s on %s%s", trace_label(o), trace_label(o->blocked), why);
        o->wake = trace_arrow_add(FLOW_WAKE, e, NO_EVENT, ec->cpu, trace_depth(who), trace_depth(o));
    }
    o->blocked = now;
}

void sim_trace_unlock(const struct spinlock *lock) {
    const struct cpu *c = arch_cpu_self();
    const struct sm *sm = container_of(lock, struct sm, lock);
    const struct trace_obj *o = trace_obj_known(sm);
    if (!o || o->type != KOBJ_SM)
        return;
    for (struct trace_obj *e = trace_list[KOBJ_EC]; e; e = e->next)
        if (e->blocked == o || (!e->blocked && ec_of(e)->sm == sm))
            trace_queue(c, e, ec_of(e));
}

void trace_payer(const struct cpu *c) {
    struct lane *l = lane(c);
    struct trace_obj *now = c->sc == c->idle_sc ? NULL : trace_obj(c->sc), *was = l->sc;
    l->sc = now;
    if (!now || !was || !was->p || was == now)
        return;
    const struct sc *before = container_of(was->p, struct sc, obj);
    if (before->state != SC_READY)
        return; /* it gave the CPU up */
    if (c->sc->prio > before->prio)
        TRACE_EVENT(c, EV_PREEMPT, l->ran, "is preempted: %s, priority %u, before %s, priority %u", trace_label(now),
                    c->sc->prio, trace_label(was), before->prio);
    else
        TRACE_EVENT(c, EV_PREEMPT, l->ran, "has used its time: %s is next after %s", trace_label(now),
                    trace_label(was));
}
