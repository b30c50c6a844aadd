/* The short way from one thread to another, without a pass through core_resume: what most calls and replies take. */
#pragma once
#include "arch/mitigate.h"
#include "arch/space.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/pd.h"

/* What a thread needs besides the general registers: space, FPU, bases. Returns it. */
struct ec *core_thread_load(struct cpu *c, struct ec *ec);
/* The same for one that runs right after a thread of another domain: what mitigations do then. */
struct ec *core_domain_switch(struct cpu *c, struct ec *ec);

/* Must FPU registers be loaded or disabled? Their owner may find them disabled by a thread that has none, and then waits for #NM. */
static inline bool fpu_stale(const struct cpu *c, const struct ec *ec) {
    return c->fpu_owner != ec && (ec->fpu_used || c->fpu_on);
}

/* `from` has come from user mode, and c->ec, `to`, a thread in CONT_USER, runs next: it, with all that it needs, or NULL as core_syscall. */
static inline struct ec *core_switch(struct cpu *c, struct ec *from, struct ec *to) {
    if (unlikely(atomic_load_acq(&c->hazard) | atomic_load_rlx(&to->hazard)))
        return NULL;
    if (unlikely(fpu_stale(c, to)))
        return core_thread_load(c, to);
    arch_bases_switch(&from->bases, &to->bases); /* from has just run: they are its own */
    c->bases_owner = to;
    if (to->pd == from->pd)
        return to;
    if (unlikely(mitigations & (MIT_ISOLATION | MIT_DOMAIN_SWITCH)))
        return core_domain_switch(c, to);
    arch_space_switch(c, to->pd, false);
    return to;
}

/* The same when `to` has a message of `from` to receive. */
struct ec *core_receive(struct cpu *c, struct ec *from, struct ec *to);
