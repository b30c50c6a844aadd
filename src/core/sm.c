#include "core/sm.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/pd.h"

static struct slab_cache sm_cache = {.name = "sm", .size = sizeof(struct sm), .align = 32};

struct sm *sm_create(struct pd *owner, u64 counter) {
    struct sm *sm = kobj_alloc(&sm_cache, KOBJ_SM, owner);
    if (!sm)
        return NULL;
    sm->counter = counter;
    sm->gsi = -1;
    return sm;
}

/* With the lock: ec leaves the queue, whoever did this decides what its down returns. */
static inline void unlink_ec(struct sm *sm, struct ec *ec, enum abi_status status) {
    assert(atomic_load_rlx(&ec->sm) == sm);
    if (ec->sm_prev)
        ec->sm_prev->sm_next = ec->sm_next;
    else
        sm->head = ec->sm_next;
    if (ec->sm_next)
        ec->sm_next->sm_prev = ec->sm_prev;
    else
        sm->tail = ec->sm_prev;
    ec->sm_next = ec->sm_prev = NULL;
    ec->wake_status = (u8)status;
    atomic_store_rel(&ec->sm, NULL);
}

static inline void wake(struct ec *ec) {
    struct cpu *c = arch_cpu_self();
    if (ec->cpu == c->id)
        ec_woken(c, ec);
    else
        inbox_post(ec->cpu, &ec->wake, INBOX_EC_WAKE);
}

enum abi_status sm_wake(struct sm *sm) {
    struct ec *ec = sm->head;
    if (ec)
        unlink_ec(sm, ec, NOVA_SUCCESS);
    spin_unlock(&sm->lock);
    if (!ec)
        return NOVA_BAD_PAR; /* at its maximum */
    wake(ec);                /* RCU keeps it; if it dies meanwhile ec_woken ignores it */
    return NOVA_SUCCESS;
}

enum abi_status sm_wait(struct cpu *c, struct sm *sm, u64 deadline) {
    struct ec *ec = c->ec;
    if (atomic_load_rlx(&sm->obj.dead)) { /* destroyed after our lookup: nobody would ever wake us */
        spin_unlock(&sm->lock);
        return NOVA_BAD_CAP;
    }
    ec->cont = CONT_BLOCKED; /* before it can be found in the queue */
    ec->sm_prev = sm->tail;
    ec->sm_next = NULL;
    if (sm->tail)
        sm->tail->sm_next = ec;
    else
        sm->head = ec;
    sm->tail = ec;
    atomic_store_rel(&ec->sm, sm);
    spin_unlock(&sm->lock);
    if (deadline)
        timeout_arm(&c->timeouts, &ec->timeout, deadline);
    return NOVA_SUCCESS;
}

bool sm_dequeue(struct ec *ec) {
    struct sm *sm = atomic_load_acq(&ec->sm); /* still allocated if set: unlinking precedes its grace period */
    if (!sm)
        return false;
    spin_lock(&sm->lock);
    bool queued = atomic_load_rlx(&ec->sm) == sm;
    if (queued)
        unlink_ec(sm, ec, NOVA_TIMEOUT);
    spin_unlock(&sm->lock);
    return queued;
}

void sm_timeout(struct cpu *c, struct ec *ec) {
    if (sm_dequeue(ec))
        ec_woken(c, ec);
    /* else an up was first: its wake is on the way */
}

void sm_unused(struct sm *sm) {
    if (sm->gsi >= 0)
        arch_irq_mask((unsigned)sm->gsi);
}

static void sm_free(struct rcu_head *h) { kobj_free(&sm_cache, container_of(h, struct kobj, rcu)); }

void sm_destroy(struct sm *sm) {
    struct ec *ec;
    do {
        spin_lock(&sm->lock);
        atomic_store_rel(&sm->obj.dead, 1);
        ec = sm->head;
        if (ec)
            unlink_ec(sm, ec, NOVA_BAD_CAP);
        spin_unlock(&sm->lock);
        if (ec)
            wake(ec);
        (void)arch_preempt_pending();
    } while (ec);
    rcu_call(&sm->obj.rcu, sm_free);
}
