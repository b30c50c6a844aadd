/* Calls, replies and events: the caller and callee links, and what moves along them. Home CPU of both ends only.
 *
 *    SC ---> client --callee--> server --callee--> deeper server      the SC runs the end of the chain; c->hops counts the
 *               <--caller--        <--caller--                        links up to the last helping one
 */
#pragma once
#include "core/status.h"
#include "arch/assert.h"
#include "arch/mem.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/hypercall.h"
#include "core/pt.h"

/* The parts of a call and its reply. */
static inline void link_call(struct cpu *c, struct ec *ec, struct ec *callee) {
    assert(!callee->caller);
    ec->callee = callee;
    callee->caller = ec;
    c->ec = callee;
    c->hops++;
}

static inline void portal_enter(struct ec *ec, u64 ip, u64 id) {
    ec->regs.rip = ip;
    ec->regs.rdi = id;
    ec->regs.rflags = RFLAGS_RESERVED1 | RFLAGS_IF;
    ec->cont = CONT_USER;
}

/* A message of words only, as most are. False: it has typed items, or more words than there can be; nothing is done. */
static inline bool words_transfer(const struct ec *from, struct ec *to) {
    const struct abi_utcb *src = from->utcb;
    struct abi_utcb *dst = to->utcb;
    u64 items = atomic_load_rlx((const u32 *)&src->items); /* both counts; user memory: read once */
    if (unlikely(items > UTCB_WORDS))
        return false;
    dst->items = items;
    arch_words_copy(dst->w, src->w, items);
    return true;
}

static inline bool words_only(const struct ec *from) { return !(atomic_load_rlx(&from->utcb->items) >> 16 & 0xffff); }

static inline void unlink_call(struct ec *ec, struct ec *to) {
    ec->caller = NULL;
    ec->cont = CONT_WAIT;
    to->callee = NULL;
}

/* The caller runs on at once: it is on the current SC's path. */
static inline void caller_resume(struct cpu *c, struct ec *to) {
    c->hops--;
    c->ec = to;
}

/* The portal of an event of ec, the current one, if its handler waits. */
static force_inline const struct pt *event_portal(struct cpu *c, struct ec *ec, unsigned number) {
    struct pt *pt = LOOKUP(ec, ec->evt_base + number, KOBJ_PT, pt, PERM_PT_CALL);
    ec->event = (u8)number;
    bool waits = pt && pt->ec->cont == CONT_WAIT && pt->ec->cpu == c->id && !atomic_load_rlx(&ec->pd->obj.dead);
    return likely(waits) ? pt : NULL;
}

/* Nothing in the state of an event can make it wait: the handler is entered at once. Returns its UTCB, which has all but the state yet. */
static force_inline struct abi_utcb *event_enter(struct cpu *c, struct ec *ec, const struct pt *pt) {
    struct ec *callee = pt->ec;
    struct abi_utcb *u = callee->utcb;
    assert(!ec->callee);
    link_call(c, ec, callee);
    ec->in_event = true;
    portal_enter(callee, pt->ip, atomic_load_rlx(&pt->id));
    u->items = pt->event_words;
    u->state.mtd = pt->mtd;
    return u;
}

/* ec, the current one, calls through pt: c->ec is the callee then, or helps and tries again later, or has its status. What runs next, as core_syscall says. */
struct ec *ipc_call(struct cpu *c, struct ec *ec, struct pt *pt);
/* It replies: transfers to its caller if any, then waits for the next call. The same. */
struct ec *ipc_reply(struct cpu *c, struct ec *ec);
/* The same to an event of `to`, its caller, on whose path the current SC is; without typed items. */
struct ec *ipc_event_reply(struct cpu *c, struct ec *ec, struct ec *to);
/* Continuations CONT_RECV and CONT_REPLY, of messages with typed items; both may be preempted in long transfers and go on when called
 * again. */
void ipc_receive(struct cpu *c, struct ec *ec);
void ipc_reply_transfer(struct cpu *c, struct ec *ec);
/* c->ec raises event `number`: an implicit call of the portal at its event base + number. */
void ipc_event(struct cpu *c, unsigned number);
