#include "core/ec.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "arch/mitigate.h"
#include "arch/vcpu.h"
#include "core/cpu.h"
#include "core/hypercall.h"
#include "core/klog.h"
#include "core/pd.h"
#include "core/sm.h"

static struct slab_cache ec_cache = {.name = "ec", .size = sizeof(struct ec), .align = 32};
static struct slab_cache fpu_cache = {.name = "fpu", .align = 64};

static void ec_free_parts(struct ec *ec) {
    struct pd *pd = ec->pd;
    if (ec->vcpu)
        arch_vcpu_fini(ec);
    if (ec->utcb)
        kmem_pages_free(&pd->account, ec->utcb, 0);
    if (ec->fpu)
        slab_free(&fpu_cache, &pd->account, ec->fpu);
    kobj_free(&ec_cache, &ec->obj);
}

static bool ec_join_pd(struct ec *ec) {
    struct pd *pd = ec->pd;
    spin_lock(&pd->ec_lock);
    bool alive = !atomic_load_rlx(&pd->obj.dead);
    if (alive) {
        ec->pd_next = pd->ecs;
        if (ec->pd_next)
            ec->pd_next->pd_prev = ec;
        pd->ecs = ec;
    }
    spin_unlock(&pd->ec_lock);
    return alive;
}

static void ec_leave_pd(struct ec *ec) {
    struct pd *pd = ec->pd;
    spin_lock(&pd->ec_lock);
    if (ec->pd_prev)
        ec->pd_prev->pd_next = ec->pd_next;
    else
        pd->ecs = ec->pd_next;
    if (ec->pd_next)
        ec->pd_next->pd_prev = ec->pd_prev;
    spin_unlock(&pd->ec_lock);
}

enum abi_status ec_create(struct pd *pd, enum ec_kind kind, unsigned cpu, u64 utcb_vpn, u64 sp, u64 evt,
                          struct ec **out) {
    struct ec *ec = kobj_alloc(&ec_cache, KOBJ_EC, pd);
    if (!ec)
        return NOVA_BAD_MEM;
    ec->pd = pd;
    ec->kind = (u8)kind;
    ec->cpu = cpu;
    ec->evt_base = evt;
    ec->regs.rsp = sp;
    ec->regs.rflags = RFLAGS_RESERVED1 | RFLAGS_IF;
    ec->regs.cs = USER_CS;
    ec->regs.ss = USER_SS;
    ec->cont = kind == EC_LOCAL ? CONT_WAIT : CONT_EVENT;
    ec->event = kind == EC_VCPU ? EVT_VCPU_STARTUP : EVT_THREAD_STARTUP;
    enum abi_status status = NOVA_BAD_MEM;
    if (kind == EC_IDLE)
        goto join;
    if (!fpu_cache.size)
        fpu_cache.size = arch_fpu_size;
    ec->fpu = slab_alloc(&fpu_cache, &pd->account);
    if (!ec->fpu)
        goto fail;
    arch_fpu_init_image(ec->fpu);
    ec->fpu_used = kind == EC_VCPU || (mitigations & MIT_EAGER_FPU);
    if (kind == EC_VCPU) {
        status = arch_vcpu_init(ec);
        if (status != NOVA_SUCCESS)
            goto fail;
    } else {
        ec->utcb = kmem_pages_alloc(&pd->account, 0);
        if (!ec->utcb)
            goto fail;
        ec->utcb_vpn = utcb_vpn;
        status = space_mem_create(pd, utcb_vpn, arch_ptr_phys(ec->utcb).v >> PAGE_SHIFT, 0, PERM_MEM_R | PERM_MEM_W,
                                  NODE_HOST | NODE_UTCB);
        if (status != NOVA_SUCCESS)
            goto fail;
    }
join:
    if (ec_join_pd(ec)) {
        *out = ec;
        return NOVA_SUCCESS;
    }
    if (ec->utcb)
        space_utcb_remove(pd, utcb_vpn, arch_ptr_phys(ec->utcb).v >> PAGE_SHIFT);
    status = NOVA_BAD_CAP;
fail:
    ec_free_parts(ec);
    return status;
}

/* Home CPU. Cuts the links with the one that called me: its call is over with ABORTED, an event cannot go on. */
static void caller_abort(struct cpu *c, struct ec *ec) {
    struct ec *caller = ec->caller;
    if (!caller)
        return;
    ec->caller = NULL;
    caller->callee = NULL;
    if (caller->in_event) {
        caller->in_event = 0;
        ec_kill(c, caller, atomic_load_rlx(&ec->pd->obj.dead) ? NULL : "the handler of its event is gone");
    } else {
        ec_set_status(caller, NOVA_ABORTED);
    }
}

void ec_help_end(struct ec *ec) {
    struct ec *target = ec->helping;
    if (!target)
        return;
    if (ec->help_prev)
        ec->help_prev->help_next = ec->help_next;
    else
        target->helpers = ec->help_next;
    if (ec->help_next)
        ec->help_next->help_prev = ec->help_prev;
    ec->helping = ec->help_next = ec->help_prev = NULL;
}

void ec_help_begin(struct ec *ec, struct ec *target) {
    assert(!ec->helping && ec != target);
    ec->helping = target;
    ec->help_prev = NULL;
    ec->help_next = target->helpers;
    if (ec->help_next)
        ec->help_next->help_prev = ec;
    target->helpers = ec;
}

static void kobj_put_pending(struct ec *ec) {
    struct kobj *o = ec->pending;
    ec->pending = NULL;
    if (o)
        kobj_put(o);
}

static const char *const kind_names[] = {"local thread", "global thread", "vCPU", "idle"};

static void ec_free(struct rcu_head *h) { ec_free_parts(container_of(h, struct ec, obj.rcu)); }

/* Home CPU: it is shut down, and nothing refers to it any more. */
static void ec_bury(struct cpu *c, struct ec *ec, bool half_done) {
    ec->gone = true;
    if (c->fpu_owner == ec)
        c->fpu_owner = NULL;
    if (c->bases_owner == ec)
        c->bases_owner = c->idle_ec;
    ec_leave_pd(ec);
    if (ec->utcb)
        space_utcb_remove(ec->pd, ec->utcb_vpn, arch_ptr_phys(ec->utcb).v >> PAGE_SHIFT);
    if (half_done) {
        ec->sm_next = c->reap_ecs;
        atomic_store_rlx(&c->reap_ecs, ec);
        cpu_hazard_set(c, HZ_REAP);
    } else {
        rcu_call(&ec->obj.rcu, ec_free);
    }
}

bool ec_reap(struct cpu *c) {
    struct ec *ec = c->reap_ecs;
    if (ec && hypercall_finish(ec)) {
        atomic_store_rlx(&c->reap_ecs, ec->sm_next);
        rcu_call(&ec->obj.rcu, ec_free);
    }
    return c->reap_ecs != NULL;
}

static void ec_stop(struct cpu *c, struct ec *ec, const char *why) {
    assert(ec->cpu == c->id);
    if (ec->callee) {
        assert(ec->kind != EC_LOCAL || ec->caller);
        atomic_fetch_or(&ec->hazard, EC_HZ_KILL); /* the SC donated through it drives the server until the reply */
        return;
    }
    bool half_done = hypercall_half_done(ec);
    if (ec->cont != CONT_DEAD) {
        if (why)
            klog_warn("ec: %s on CPU %u (event base %lx, rip %lx) is shut down: %s\n", kind_names[ec->kind], ec->cpu,
                      ec->evt_base, ec->regs.rip, why);
        if (ec->cont == CONT_BLOCKED) {
            (void)sm_dequeue(ec);
            timeout_cancel(&c->timeouts, &ec->timeout);
        }
        ec->cont = CONT_DEAD;
        ec_help_end(ec);
        while (ec->helpers)
            ec_help_end(ec->helpers); /* they retry their calls, and find me dead */
        kobj_put_pending(ec);
        sched_unpark_all(c, ec);
        cpu_hazard_set(c, HZ_SCHED); /* the current SC's chain may lead through me */
        caller_abort(c, ec);
    }
    if (atomic_load_acq(&ec->obj.dead) && !ec->gone)
        ec_bury(c, ec, half_done);
}

void ec_kill(struct cpu *c, struct ec *ec, const char *why) { ec_stop(c, ec, why); }

void ec_event_failed(struct cpu *c, struct ec *ec, unsigned number, const char *why) {
    if (atomic_load_rlx(&ec->pd->obj.dead)) {
        ec_stop(c, ec, NULL); /* its domain dies: quietly */
        return;
    }
    klog_warn("ec: event %x, error %lx, address %lx\n", number, ec->regs.err, ec->fault_addr);
    ec_stop(c, ec, why);
}

void ec_kill_remote(struct ec *ec) {
    atomic_fetch_or(&ec->hazard, EC_HZ_KILL);
    inbox_post(ec->cpu, &ec->work, INBOX_EC_WORK);
}

void ec_destroy(struct ec *ec) {
    atomic_store_rel(&ec->obj.dead, 1);
    inbox_post(ec->cpu, &ec->work, INBOX_EC_WORK);
}

void ec_work(struct cpu *c, struct ec *ec) { ec_stop(c, ec, NULL); }

void ec_woken(struct cpu *c, struct ec *ec) {
    if (ec->cont != CONT_BLOCKED || atomic_load_acq(&ec->sm))
        return; /* died, or woken and blocked again before we looked */
    timeout_cancel(&c->timeouts, &ec->timeout);
    ec_set_status(ec, ec->wake_status);
    sched_unpark_all(c, ec);
}

void ec_recall(struct ec *ec) {
    atomic_fetch_or(&ec->hazard, EC_HZ_RECALL); /* pairs with the load in core_resume, the IPI follows it */
    if (ec->cpu != arch_cpu_self()->id)
        arch_ipi_send(ec->cpu);
}
