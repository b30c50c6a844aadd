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
struct pt;

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

/* ec, the current one, calls through pt: c->ec is the callee then, or helps and tries again later, or has its status. What runs next, as core_syscall says. */
struct ec *ipc_call(struct cpu *c, struct ec *ec, struct pt *pt);
/* It replies: transfers to its caller if any, then waits for the next call. The same. */
struct ec *ipc_reply(struct cpu *c, struct ec *ec);
/* Continuations CONT_RECV and CONT_REPLY, of messages with typed items; both may be preempted in long transfers and go on when called
 * again. */
void ipc_receive(struct cpu *c, struct ec *ec);
void ipc_reply_transfer(struct cpu *c, struct ec *ec);
/* c->ec raises event `number`: an implicit call of the portal at its event base + number. */
void ipc_event(struct cpu *c, unsigned number);
