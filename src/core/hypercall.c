#include "core/hypercall.h"
#include "arch/assert.h"
#include "arch/iommu.h"
#include "arch/mem.h"
#include "core/core.h"
#include "core/ipc.h"
#include "core/klog.h"
#include "core/pd.h"
#include "core/pt.h"
#include "core/sm.h"
#include "core/switch.h"

/* Gives the fresh object its first capability, and that the creator's reference. */
static enum abi_status publish(struct ec *ec, struct kobj *obj, unsigned perm) {
    enum abi_status status = space_cap_create(ec->pd, arg_sel(&ec->regs), obj, perm);
    if (unlikely(status != NOVA_SUCCESS))
        kobj_put(obj);
    return status;
}

static bool slot_taken(const struct ec *ec) { return objtab_cap(&ec->pd->objtab, arg_sel(&ec->regs)) != 0; }

/* A hazard of ec's own comes with an IPI, or from itself: sys_other. */
static inline struct ec *finish(struct cpu *c, struct ec *ec, enum abi_status status) {
    ec->regs.rdi = (u32)status;
    return unlikely(atomic_load_acq(&c->hazard)) ? NULL : ec;
}

/* The same unless it has blocked, or is executed again. */
static inline struct ec *finish_or_wait(struct cpu *c, struct ec *ec, enum abi_status status) {
    return likely(ec->cont == CONT_USER) ? finish(c, ec, status) : NULL;
}

static force_inline struct ec *sys_call(struct cpu *c, struct ec *ec, u64 rdi) {
    struct pt *pt = LOOKUP(ec, ARG_SEL(rdi), KOBJ_PT, pt, PERM_PT_CALL);
    if (unlikely(!pt))
        return finish(c, ec, NOVA_BAD_CAP);
    struct ec *callee = pt->ec;
    if (unlikely(callee->cpu != c->id || callee->cont != CONT_WAIT || !words_transfer(ec, callee)))
        return ipc_call(c, ec, pt);
    link_call(c, ec, callee);
    portal_enter(callee, pt->ip, atomic_load_rlx(&pt->id));
    return core_switch(c, ec, callee);
}

static force_inline struct ec *sys_reply(struct cpu *c, struct ec *ec) {
    struct ec *to = ec->caller;
    if (unlikely(!to || !c->hops || sc_dying(c->sc)))
        return ipc_reply(c, ec);
    if (to->in_event)
        return likely(words_only(ec)) ? ipc_event_reply(c, ec, to) : ipc_reply(c, ec);
    if (unlikely(!words_transfer(ec, to)))
        return ipc_reply(c, ec);
    to->cont = CONT_USER;
    to->regs.rdi = NOVA_SUCCESS;
    unlink_call(ec, to);
    caller_resume(c, to);
    return core_switch(c, ec, to);
}

/* Second half of create_pd: the capability range for the new PD; may be restarted. */
static enum abi_status create_pd_delegate(struct ec *ec) {
    struct pd *pd = container_of(ec->pending, struct pd, obj);
    u64 crd = ec->regs.rdx, out;
    u64 window = CRD_MAKE(CRD_TYPE(crd), 0, 31, 0x1f);
    enum space_result result = SPACE_DONE;
    if (CRD_TYPE(crd) != CRD_NULL)
        result = space_delegate(ec->pd, pd, crd, ITEM_DELEGATE, window, &out, &ec->progress);
    if (result == SPACE_AGAIN) {
        ec->cont = CONT_SYSCALL;
        return NOVA_SUCCESS;
    }
    ec->pending = NULL;
    kobj_put(&pd->obj);
    ec->progress = (struct space_progress){0};
    if (result == SPACE_NOMEM) { /* take the new PD back */
        struct space_progress p = {0};
        while (space_revoke(ec->pd, CRD_MAKE(CRD_OBJ, arg_sel(&ec->regs), 0, 0x1f), true, &p) == SPACE_AGAIN)
            ;
        return NOVA_BAD_MEM;
    }
    return NOVA_SUCCESS;
}

static no_inline enum abi_status sys_create_pd(struct ec *ec, struct pd *owner, unsigned perm) {
    if (slot_taken(ec))
        return NOVA_BAD_CAP;
    struct pd *pd = pd_create(owner);
    if (!pd)
        return NOVA_BAD_MEM;
    kobj_get(&pd->obj);
    enum abi_status status = publish(ec, &pd->obj, perm);
    if (status != NOVA_SUCCESS) {
        kobj_put(&pd->obj);
        return status;
    }
    ec->pending = &pd->obj;
    ec->progress = (struct space_progress){0};
    return create_pd_delegate(ec);
}

static no_inline enum abi_status sys_create_ec(struct ec *ec, struct pd *pd) {
    const struct uregs *r = &ec->regs;
    u64 utcb = r->rdx & ~PAGE_MASK;
    unsigned cpu = r->rdx & PAGE_MASK;
    if (utcb >= ABI_USER_END)
        return NOVA_BAD_PAR;
    if (cpu >= cpu_count || !cpus[cpu])
        return NOVA_BAD_CPU;
    if (slot_taken(ec))
        return NOVA_BAD_CAP;
    enum ec_kind kind = !utcb ? EC_VCPU : ARG_FLAGS(r) & HF_EC_GLOBAL ? EC_GLOBAL : EC_LOCAL;
    struct ec *fresh;
    enum abi_status status = ec_create(pd, kind, cpu, utcb >> PAGE_SHIFT, r->rax, r->r8, &fresh);
    if (status != NOVA_SUCCESS)
        return status;
    status = publish(ec, &fresh->obj, PERM_EC_ALL);
    if (status != NOVA_SUCCESS &&
        kind != EC_VCPU) /* RCU keeps it; its address is free now, not when its CPU gets at it */
        space_utcb_remove(pd, utcb >> PAGE_SHIFT, arch_ptr_phys(fresh->utcb).v >> PAGE_SHIFT);
    return status;
}

static no_inline enum abi_status sys_create_sc(struct ec *ec, struct pd *owner) {
    const struct uregs *r = &ec->regs;
    struct ec *target = LOOKUP(ec, r->rdx, KOBJ_EC, ec, PERM_EC_SC);
    u64 prio = r->rax & 0xff, quantum_us = r->rax >> 12;
    if (!target || target->kind == EC_LOCAL)
        return NOVA_BAD_CAP;
    if (!prio || prio >= SC_PRIORITIES || !quantum_us)
        return NOVA_BAD_PAR;
    if (slot_taken(ec) || !kobj_tryget(&target->obj))
        return NOVA_BAD_CAP;
    struct sc *sc = sc_create(owner, target, (unsigned)prio, quantum_us), *none = NULL;
    kobj_put(&target->obj);
    if (!sc)
        return NOVA_BAD_MEM;
    if (!atomic_cas(&target->sc, &none, sc)) {
        sc->unbound = true;
        kobj_put(&sc->obj);
        return NOVA_BAD_CAP;
    }
    kobj_get(&sc->obj);
    enum abi_status status = publish(ec, &sc->obj, PERM_SC_ALL);
    if (status == NOVA_SUCCESS) {
        inbox_post(sc->cpu, &sc->ready, INBOX_SC_READY);
    } else { /* nothing has changed: target may get another one at once */
        sc->unbound = true;
        atomic_store_rel(&target->sc, NULL);
    }
    kobj_put(&sc->obj);
    return status;
}

static no_inline enum abi_status sys_create_pt(struct ec *ec, struct pd *owner) {
    const struct uregs *r = &ec->regs;
    struct ec *target = LOOKUP(ec, r->rdx, KOBJ_EC, ec, PERM_EC_PT);
    if (!target || target->kind != EC_LOCAL)
        return NOVA_BAD_CAP;
    if (!user_ip_ok(r->r8))
        return NOVA_BAD_PAR;
    if (slot_taken(ec) || !kobj_tryget(&target->obj))
        return NOVA_BAD_CAP;
    struct pt *pt = pt_create(owner, target, (u32)r->rax, r->r8);
    kobj_put(&target->obj);
    return pt ? publish(ec, &pt->obj, PERM_PT_ALL) : NOVA_BAD_MEM;
}

static enum abi_status sys_create_sm(struct ec *ec, struct pd *owner) {
    if (slot_taken(ec))
        return NOVA_BAD_CAP;
    struct sm *sm = sm_create(owner, ec->regs.rdx);
    return sm ? publish(ec, &sm->obj, PERM_SM_ALL) : NOVA_BAD_MEM;
}

/* Churn never outruns grace periods: what runs out of memory is executed again as long as something that has died is not freed yet. */
static enum abi_status memory_awaited(struct cpu *c, struct ec *ec, enum abi_status status) {
    if (likely(status != NOVA_BAD_MEM))
        ec->rcu_since = 0;
    else if (rcu_push(c, &ec->rcu_since))
        ec->cont = CONT_SYSCALL;
    return status;
}

static enum abi_status create(struct ec *ec, unsigned number) {
    unsigned right = 1u << (number - HC_CREATE_PD);
    static_assert(PERM_PD_PD == 1 && 1 << (HC_CREATE_SM - HC_CREATE_PD) == PERM_PD_SM, "in the same order");
    if (ec->pending)
        return create_pd_delegate(ec);
    u64 cap = objtab_cap(&ec->pd->objtab, ec->regs.rsi);
    struct pd *owner = container_of(CAP_OBJECT(cap), struct pd, obj);
    if ((cap & CAP_HAS_MASK(right)) != CAP_HAS(KOBJ_PD, right))
        return NOVA_BAD_CAP;
    return number == HC_CREATE_PD   ? sys_create_pd(ec, owner, cap & 0xff)
           : number == HC_CREATE_EC ? sys_create_ec(ec, owner)
           : number == HC_CREATE_SC ? sys_create_sc(ec, owner)
           : number == HC_CREATE_PT ? sys_create_pt(ec, owner)
                                    : sys_create_sm(ec, owner);
}

static enum abi_status revoke(struct ec *ec) {
    enum space_result result = space_revoke(ec->pd, ec->regs.rsi, ARG_FLAGS(&ec->regs) & HF_REVOKE_SELF, &ec->progress);
    if (result == SPACE_AGAIN) {
        ec->cont = CONT_SYSCALL;
        return NOVA_SUCCESS;
    }
    ec->progress = (struct space_progress){0};
    return result == SPACE_NOMEM ? NOVA_BAD_MEM : NOVA_SUCCESS;
}

bool hypercall_half_done(const struct ec *ec) {
    unsigned number = ec->regs.rdi & 0xf;
    return ec->cont == CONT_SYSCALL && (number == HC_REVOKE || number == HC_EXTENSION);
}

bool hypercall_finish(struct ec *ec) {
    ec->cont = CONT_DEAD;
    (void)((ec->regs.rdi & 0xf) == HC_REVOKE ? revoke(ec) : extension_run(ec));
    return ec->cont == CONT_DEAD;
}

/* Both with the semaphore locked. */
static no_inline struct ec *down_wait(struct cpu *c, struct ec *ec, struct sm *sm) {
    enum abi_status status = sm_wait(c, sm, ec->regs.rsi << 32 | (u32)ec->regs.rdx); /* whoever wakes it says */
    if (unlikely(status != NOVA_SUCCESS))
        return finish(c, ec, status);
    if (unlikely(atomic_load_acq(&c->hazard)))
        return NULL;
    ec->regs.vec = REGS_SYSCALL; /* so that it can come back the same way */
    sched_park(c, ec);
    return c->ec->regs.vec == REGS_SYSCALL && c->ec->cont == CONT_USER ? core_switch(c, ec, c->ec) : NULL;
}
static no_inline struct ec *up_wake(struct cpu *c, struct ec *ec, struct sm *sm) { return finish(c, ec, sm_wake(sm)); }

static inline struct ec *down(struct cpu *c, struct ec *ec, struct sm *sm, u64 rdi) {
    return sm_take(sm, rdi >> 4 & HF_SM_ZERO) ? finish(c, ec, NOVA_SUCCESS) : down_wait(c, ec, sm);
}

static no_inline struct ec *down_interrupt(struct cpu *c, struct ec *ec, struct sm *sm, u64 rdi) {
    gsi_unmask((unsigned)sm->gsi);
    return down(c, ec, sm, rdi);
}

static inline struct ec *sys_sm_down(struct cpu *c, struct ec *ec, u64 rdi) {
    struct sm *sm = LOOKUP(ec, ARG_SEL(rdi), KOBJ_SM, sm, PERM_SM_DN);
    if (!sm)
        return finish(c, ec, NOVA_BAD_CAP);
    return unlikely(sm->gsi >= 0) ? down_interrupt(c, ec, sm, rdi) : down(c, ec, sm, rdi);
}

static inline struct ec *sys_sm_up(struct cpu *c, struct ec *ec, u64 rdi) {
    struct sm *sm = LOOKUP(ec, ARG_SEL(rdi), KOBJ_SM, sm, PERM_SM_UP);
    if (!sm)
        return finish(c, ec, NOVA_BAD_CAP);
    return sm_give(sm) ? finish(c, ec, NOVA_SUCCESS) : up_wake(c, ec, sm);
}

/* The physical address of what must be a device's configuration page, mapped for the caller. */
static bool device_page(const struct ec *ec, u64 va, u64 *addr) {
    u64 pfn;
    unsigned perm;
    if (va >= ABI_USER_END || !ptab_lookup(&ec->pd->host, va >> PAGE_SHIFT, &pfn, &perm))
        return false;
    *addr = pfn << PAGE_SHIFT;
    return true;
}

/* The page tells the routing id; the one in RDX is only a hint which IOMMU to use, and ours all have the same tables. */
static enum abi_status sys_assign_pci(struct ec *ec) {
    struct pd *pd = LOOKUP(ec, arg_sel(&ec->regs), KOBJ_PD, pd, 0);
    u64 addr;
    u16 rid;
    if (!pd)
        return NOVA_BAD_CAP;
    return device_page(ec, ec->regs.rsi, &addr) && core_device(addr, &rid) ? arch_iommu_attach(pd, rid) : NOVA_BAD_DEV;
}

static enum abi_status sys_assign_gsi(struct ec *ec) {
    struct uregs *r = &ec->regs;
    struct sm *sm = LOOKUP(ec, arg_sel(r), KOBJ_SM, sm, 0);
    if (!sm || sm->gsi < 0)
        return NOVA_BAD_CAP;
    u64 page;
    if (!arch_irq_has_pin((unsigned)sm->gsi) && !device_page(ec, r->rsi, &page))
        return NOVA_BAD_DEV; /* an MSI needs the device's configuration page, mapped */
    if (r->rdx >= cpu_count || !cpus[r->rdx])
        return NOVA_BAD_CPU;
    u32 addr = 0, data = 0;
    gsi_assign((unsigned)sm->gsi, (unsigned)r->rdx, &addr, &data);
    r->rsi = addr;
    r->rdx = data;
    return NOVA_SUCCESS;
}

static enum abi_status sys_ec_ctrl(struct ec *ec) {
    struct ec *target = LOOKUP(ec, arg_sel(&ec->regs), KOBJ_EC, ec, PERM_EC_CT);
    if (!target)
        return NOVA_BAD_CAP;
    ec_recall(target);
    return NOVA_SUCCESS;
}

static enum abi_status sys_sc_ctrl(struct ec *ec) {
    struct sc *sc = LOOKUP(ec, arg_sel(&ec->regs), KOBJ_SC, sc, PERM_SC_CT);
    if (!sc)
        return NOVA_BAD_CAP;
    u64 us = sc_time_us(sc);
    ec->regs.rsi = us >> 32;
    ec->regs.rdx = (u32)us;
    return NOVA_SUCCESS;
}

static inline enum abi_status sys_pt_ctrl(struct ec *ec, u64 rdi) {
    struct pt *pt = LOOKUP(ec, ARG_SEL(rdi), KOBJ_PT, pt, PERM_PT_CT);
    if (!pt)
        return NOVA_BAD_CAP;
    atomic_store_rlx(&pt->id, ec->regs.rsi);
    return NOVA_SUCCESS;
}

static enum abi_status other(struct ec *ec, unsigned number) {
    switch (number) {
    case HC_LOOKUP:
        ec->regs.rsi = space_lookup(ec->pd, ec->regs.rsi);
        return NOVA_SUCCESS;
    case HC_EC_CTRL:
        return sys_ec_ctrl(ec);
    case HC_SC_CTRL:
        return sys_sc_ctrl(ec);
    case HC_ASSIGN_PCI:
        return sys_assign_pci(ec);
    case HC_ASSIGN_GSI:
        return sys_assign_gsi(ec);
    default:
        return extension_run(ec);
    }
}

/* What is not done all the time. */
static no_inline struct ec *sys_create(struct cpu *c, struct ec *ec, unsigned number) {
    return finish_or_wait(c, ec, memory_awaited(c, ec, create(ec, number)));
}
static no_inline struct ec *sys_other(struct cpu *c, struct ec *ec, unsigned number) {
    struct ec *next = finish_or_wait(c, ec, other(ec, number));
    return unlikely(atomic_load_rlx(&ec->hazard)) ? NULL : next;
}

static no_inline struct ec *sys_revoke(struct cpu *c, struct ec *ec) {
    struct ec *next = finish_or_wait(c, ec, memory_awaited(c, ec, revoke(ec)));
    if (unlikely(!next) && ec->cont == CONT_USER && atomic_load_acq(&c->hazard) == HZ_RCU) {
        atomic_fetch_and(&c->hazard, ~(u32)HZ_RCU); /* as core_resume would do, but nobody else runs next */
        assert(c->space == ec->pd);
        rcu_quiescent(c);
        next = finish(c, ec, (enum abi_status)ec->regs.rdi);
    }
    return next;
}

/* Each a function of its own, so that none saves registers for another; compared, not looked up: an indirect branch costs more with retpolines. */
static force_inline struct ec *run(struct cpu *c, struct ec *ec, u64 rdi) {
    unsigned number = rdi & 0xf;
    if (number == HC_CALL)
        return sys_call(c, ec, rdi);
    if (number == HC_REPLY)
        return sys_reply(c, ec);
    if (number == HC_PT_CTRL)
        return finish(c, ec, sys_pt_ctrl(ec, rdi));
    if (number == HC_SM_CTRL)
        return rdi >> 4 & HF_SM_DOWN ? sys_sm_down(c, ec, rdi) : sys_sm_up(c, ec, rdi);
    if (number == HC_REVOKE)
        return sys_revoke(c, ec);
    return number <= HC_CREATE_SM ? sys_create(c, ec, number) : sys_other(c, ec, number);
}

void hypercall_run(struct cpu *c, struct ec *ec) {
    assert(ec == c->ec);
    ec->cont = CONT_USER;
    (void)run(c, ec, ec->regs.rdi);
}

struct ec *core_syscall(struct cpu *c) {
    struct ec *ec = c->ec;
    u64 rdi = ec->regs.rdi;
    cpu_count_event(c, rdi & 0xf);
    return run(c, ec, rdi);
}
