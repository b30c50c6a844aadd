/* Watches the kernel for the model. Six of its functions are wrapped by the linker (Makefile: SIM_LINK): everything that a call does to
 * capabilities happens inside of them, on the CPU of both ends. What runs at the same time is judged together, when all of it is done. */
#include "sim/lockstep.h"
#include "arch/assert.h"
#include "arch/mem.h"
#include "core/core.h"
#include "core/hypercall.h"
#include "core/ipc.h"
#include "core/kmem.h"
#include "core/space_priv.h"
#include "sim/check.h"

/* Undefined? Then the program is linked without SIM_LINK. */
struct ec *__real_core_syscall(struct cpu *c);
struct ec *__wrap_core_syscall(struct cpu *c);
void __real_hypercall_run(struct cpu *c, struct ec *ec);
void __wrap_hypercall_run(struct cpu *c, struct ec *ec);
bool __real_hypercall_finish(struct ec *ec);
bool __wrap_hypercall_finish(struct ec *ec);
void __real_ipc_receive(struct cpu *c, struct ec *ec);
void __wrap_ipc_receive(struct cpu *c, struct ec *ec);
struct ec *__real_ipc_reply(struct cpu *c, struct ec *ec);
struct ec *__wrap_ipc_reply(struct cpu *c, struct ec *ec);
void __real_ipc_reply_transfer(struct cpu *c, struct ec *ec);
void __wrap_ipc_reply_transfer(struct cpu *c, struct ec *ec);

/* A call in progress. It may be between two of its steps: preempted, to be executed again. */
static struct flight {
    struct ec *ec;
    struct step *step; /* NULL: not recorded, too many overlap */
    bool inside;
} flights[4 * ABI_MAX_CPUS];
static unsigned flying;
static bool overflow;     /* more overlap than orders are tried */
static bool memory_short; /* allocations were made to fail, or could */
static bool watching;     /* the model has the kernel's state */
struct sim_model_stats sim_model_stats;

/* --- a batch: steps that overlap --- */

static void account_limited(struct pd *pd) { memory_short |= pd->account.limit != 0; }

/* The kernel's functions are scheduling points, but nothing may move while we look. */
struct held {
    bool was;
    i64 fuel;
    u64 now;
};
static struct held world_hold(void) {
    struct held h = {sim_running, sim_fuel, sim_now};
    sim_running = false;
    sim_fuel = INT64_MAX;
    sim_race_ignore(true);
    return h;
}
static void world_go(struct held h) {
    sim_race_ignore(false);
    sim_fuel = h.fuel, sim_now = h.now;
    sim_running = h.was;
}

static bool memory_may_end(void) {
    struct held h = world_hold();
    memory_short |= kmem_fail_at || kmem_pages_available() < 64;
    sim_pds_each(account_limited);
    world_go(h);
    return memory_short;
}

static void batch_end(void) {
    bool unknown = overflow;
    for (unsigned i = 0; i < lockstep_count; i++)
        unknown |= lockstep_steps[i].unknown;
    if (unknown) {
        lockstep_adopt(&lockstep_model);
        sim_model_stats.unchecked += lockstep_count;
    } else if (lockstep_judge()) {
        *(lockstep_count > 1 ? &sim_model_stats.overlapping : &sim_model_stats.alone) += lockstep_count;
    } else {
        arch_panic("the reference model does not explain what the kernel did", __FILE__, __LINE__);
    }
    lockstep_count = 0;
    overflow = false;
    watching = !lockstep_model.too_large;
}

static void flight_end(struct flight *f, bool unknown) {
    if (f->step)
        f->step->unknown |= unknown;
    overflow |= !f->step;
    sim_model_stats.unchecked += !f->step;
    *f = flights[--flying];
}

/* What the running CPU has done is seen by all when its step is over: it is on its way to user mode, where user.c lets its stores out. */
static void flight_land(struct flight *f) {
    sim_stores_done();
    flight_end(f, false);
}

/* Its EC was shut down before it was done. The revoke of one that is destroyed is finished all the same. */
static bool given_up(const struct flight *f) {
    const struct ec *ec = f->ec;
    if (f->inside)
        return false;
    if (sim_alloc_at(ec) && ec->obj.dead && f->step && !f->step->transfer && (f->step->rdi & 0xf) == HC_REVOKE)
        return false;
    return !sim_alloc_at(ec) || (ec->cont != CONT_SYSCALL && ec->cont != CONT_RECV && ec->cont != CONT_REPLY);
}

/* Judges if nothing is in progress any more. No scheduling meanwhile. */
static void batch_try(void) {
    struct held h = world_hold();
    for (unsigned i = flying; i-- > 0;)
        if (given_up(&flights[i]))
            flight_end(&flights[i], true);
    if (!flying && lockstep_count && lockstep_quiet())
        batch_end();
    world_go(h);
}

static bool active(void) {
    if (!sim_opt.model || !sim_running || !root_pd)
        return false;
    if (!lockstep_model.cap) {
        struct held h = world_hold();
        model_init(&lockstep_model, lockstep_kernel_has);
        lockstep_adopt(&lockstep_model);
        watching = true;
        world_go(h);
    }
    return watching;
}

static struct flight *flight_of(const struct ec *ec) {
    for (unsigned i = 0; i < flying; i++)
        if (flights[i].ec == ec)
            return &flights[i];
    return NULL;
}

/* The step is NULL if too many overlap already. */
static struct step *flight_begin(struct ec *ec) {
    batch_try();
    struct flight *f = flight_of(ec);
    if (f) /* what it was at before has been given up, and not noticed yet */
        flight_end(f, true);
    assert(flying < ARRAY_SIZE(flights));
    f = &flights[flying++];
    *f = (struct flight){.ec = ec, .inside = true};
    if (lockstep_count == STEPS_MAX) {
        overflow = true;
        return NULL;
    }
    f->step = &lockstep_steps[lockstep_count++];
    *f->step = (struct step){.pd = (u64)ec->pd, .no_memory = memory_may_end()};
    return f->step;
}

/* --- hypercalls --- */

static bool concerns_model(const struct ec *ec) {
    unsigned number = ec->regs.rdi & 0xf, op = ec->regs.rdi >> 4 & 0xf;
    return number != HC_REPLY && number <= HC_SM_CTRL ? true : number == HC_EXTENSION && op == EXT_KMEM_ADD;
}

static void hypercall_done(struct ec *ec, struct step *s) {
    unsigned number = s->rdi & 0xf;
    s->no_memory |= memory_may_end();
    s->passed = ec->cont != CONT_USER || ec->callee || ec->helping;
    s->status = s->passed ? NOVA_SUCCESS : (unsigned)ec->regs.rdi & 0xff;
    s->out = ec->regs.rsi;
    s->unknown |= number == HC_EXTENSION || (number == HC_REVOKE && s->status == NOVA_BAD_MEM && s->no_memory);
    if (number >= HC_CREATE_PD && number <= HC_CREATE_SM && s->status == NOVA_SUCCESS) {
        u64 sel = (s->rdi >> 8) % ABI_SEL_COUNT; /* not objtab_lookup: that is a scheduling point */
        sim_race_ignore(true);
        const struct node *n = sim_node_from(ec->pd, CRD_OBJ, sel);
        sim_race_ignore(false);
        s->token = n && n->base == sel ? n->source : ~(u64)s; /* revoked already */
    }
}

static bool hypercall_begin(struct ec *ec) {
    if (!active() || !concerns_model(ec))
        return false;
    struct flight *f = ec->cont == CONT_SYSCALL ? flight_of(ec) : NULL;
    if (!f) {
        const struct uregs *r = &ec->regs;
        struct step *s = flight_begin(ec);
        if (s)
            s->rdi = r->rdi, s->rsi = r->rsi, s->rdx = r->rdx, s->rax = r->rax, s->r8 = r->r8;
        f = flight_of(ec);
    }
    f->inside = true;
    return true;
}

/* Of a call whose message is received within it, when that begins. */
static void hypercall_end(struct ec *ec, bool call) {
    struct flight *f = flight_of(ec);
    if (!f)
        return;
    f->inside = false;
    if (ec->cont == CONT_SYSCALL && !call)
        return;
    if (f->step)
        hypercall_done(ec, f->step);
    flight_land(f);
    batch_try();
}

struct ec *__wrap_core_syscall(struct cpu *c) {
    struct ec *ec = c->ec;
    bool call = (ec->regs.rdi & 0xf) == HC_CALL, watched = hypercall_begin(ec);
    struct ec *next = __real_core_syscall(c);
    if (watched)
        hypercall_end(ec, call);
    return next;
}

void __wrap_hypercall_run(struct cpu *c, struct ec *ec) {
    bool call = (ec->regs.rdi & 0xf) == HC_CALL, watched = hypercall_begin(ec);
    __real_hypercall_run(c, ec);
    if (watched)
        hypercall_end(ec, call);
}

bool __wrap_hypercall_finish(struct ec *ec) {
    struct flight *f = active() ? flight_of(ec) : NULL;
    if (f)
        f->inside = true;
    bool done = __real_hypercall_finish(ec);
    f = f ? flight_of(ec) : NULL;
    if (!f)
        return done;
    f->inside = false;
    if (!done)
        return false;
    if (f->step)
        hypercall_done(ec, f->step);
    flight_land(f);
    batch_try();
    return true;
}

/* --- messages --- */

static u64 *item_word(const struct abi_utcb *u, unsigned i) { return (u64 *)&u->w[UTCB_WORDS - 2 - 2 * i]; }

static unsigned typed_of(const struct abi_utcb *u) {
    unsigned untyped = (unsigned)min_u64(u->items & 0xffff, UTCB_WORDS);
    return (unsigned)min_u64(u->items >> 16 & 0xffff, (UTCB_WORDS - untyped) / 2);
}

/* Section 4: the aligned range of 2^31 pages that holds the faulting page, for other events the first one. */
static u64 event_window(const struct ec *ec) {
    bool fault = ec->kind == EC_VCPU ? ec->event == EVT_SVM_NPF : ec->event == 14;
    return CRD_MAKE(CRD_MEM, fault ? ec->fault_addr >> PAGE_SHIFT >> 31 << 31 : 0, 31, 0x1f);
}

static void message_begin(struct ec *ec, const struct ec *from, const struct ec *to) {
    bool event = to->in_event && from == ec;
    unsigned items = typed_of(from->utcb);
    struct step *s = items ? flight_begin(ec) : NULL;
    if (!s)
        return;
    s->transfer = true;
    s->visible = !event;
    s->pd = (u64)from->pd, s->pd_to = (u64)to->pd;
    s->from = from->utcb, s->to = event ? NULL : to->utcb;
    s->xlt = event ? 0 : to->utcb->xlt;
    s->del = event ? event_window(to) : to->utcb->del;
    s->items = items;
    for (unsigned i = 0; i < items; i++)
        s->item[i][0] = item_word(from->utcb, i)[0], s->item[i][1] = item_word(from->utcb, i)[1];
}

/* `done`: or it is to be continued. */
static void message_end(const struct ec *ec, const struct ec *waits, bool done) {
    struct flight *f = flight_of(ec);
    if (!f)
        return;
    f->inside = false;
    struct step *s = f->step;
    if (!done)
        return;
    if (s && s->transfer) {
        s->no_memory |= memory_may_end();
        s->status =
            s->visible && waits && !waits->callee && waits->regs.rdi == NOVA_BAD_MEM ? NOVA_BAD_MEM : NOVA_SUCCESS;
        s->unknown |=
            !waits || (s->no_memory && (!s->visible || s->status == NOVA_BAD_MEM)) || s->items != typed_of(s->from);
        for (unsigned i = 0; i < s->items && !s->unknown; i++) {
            s->unknown |= s->item[i][0] != item_word(s->from, i)[0] || s->item[i][1] != item_word(s->from, i)[1];
            if (s->visible)
                s->seen[i][0] = item_word(s->to, i)[0], s->seen[i][1] = item_word(s->to, i)[1];
        }
        s->unknown |= s->visible && !s->unknown && (s->xlt != s->to->xlt || s->del != s->to->del);
        s->from = s->to = NULL;
    }
    flight_land(f);
    batch_try();
}

void sim_model_user_write(const void *p) {
    for (unsigned i = 0; i < flying; i++) {
        struct step *s = flights[i].step;
        if (s && s->transfer &&
            ((u64)s->from >> PAGE_SHIFT == (u64)p >> PAGE_SHIFT || (u64)s->to >> PAGE_SHIFT == (u64)p >> PAGE_SHIFT))
            s->unknown = true;
    }
}

void __wrap_ipc_receive(struct cpu *c, struct ec *ec) {
    const struct ec *from = ec->caller;
    bool on = active();
    if (on && from && !from->in_event && !ec->xfer.started) {
        hypercall_end(ec->caller, true);
        message_begin(ec, from, ec);
    }
    struct flight *f = on ? flight_of(ec) : NULL;
    if (f)
        f->inside = true;
    __real_ipc_receive(c, ec);
    if (f)
        message_end(ec, from, ec->cont != CONT_RECV);
}

struct ec *__wrap_ipc_reply(struct cpu *c, struct ec *ec) {
    struct ec *to = ec->caller;
    bool on = active();
    if (on && to)
        message_begin(ec, ec, to);
    struct ec *next = __real_ipc_reply(c, ec);
    if (on)
        message_end(ec, to, ec->cont != CONT_REPLY);
    return next;
}

void __wrap_ipc_reply_transfer(struct cpu *c, struct ec *ec) {
    const struct ec *to = ec->caller;
    struct flight *f = active() ? flight_of(ec) : NULL;
    if (f)
        f->inside = true;
    __real_ipc_reply_transfer(c, ec);
    if (f)
        message_end(ec, to, ec->cont != CONT_REPLY);
}
