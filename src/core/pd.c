#include "core/pd.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "arch/iommu.h"
#include "arch/vcpu.h"
#include "core/cpu.h"
#include "core/ec.h"

static struct slab_cache pd_cache = {.name = "pd", .size = sizeof(struct pd), .align = 32};
struct pd kernel_pd;
struct pd *root_pd;

void pd_setup(struct pd *pd) {
    pd->objtab = OBJTAB_INIT;
    pd->host = (struct ptab){.kind = PTAB_HOST, .account = &pd->account};
    pd->guest = (struct ptab){.kind = arch_vcpu_ptab(), .account = &pd->account};
    pd->dma = (struct ptab){.kind = PTAB_DMA, .account = &pd->account};
}

struct pd *pd_create(struct pd *owner) {
    struct pd *pd = kobj_alloc(&pd_cache, KOBJ_PD, owner);
    if (!pd)
        return NULL;
    pd->account.parent = owner == &kernel_pd ? NULL : &owner->account;
    pd_setup(pd);
    if (arch_space_init(pd) == NOVA_SUCCESS)
        return pd;
    arch_space_fini(pd);
    ptab_free(&pd->host);
    kobj_free(&pd_cache, &pd->obj);
    return NULL;
}

#define KILL_STEP 64 /* ECs between two preemption points */

void pd_die(struct pd *pd) {
    struct cpu *c = arch_cpu_self();
    unsigned killed;
    do {
        killed = 0;
        spin_lock(&pd->ec_lock);
        atomic_store_rel(&pd->obj.dead, 1); /* ec_join_pd refuses from here on */
        for (struct ec *ec = pd->ecs; ec && killed < KILL_STEP; ec = ec->pd_next)
            if (!(atomic_load_rlx(&ec->hazard) & EC_HZ_KILL)) {
                ec_kill_remote(ec);
                killed++;
            }
        spin_unlock(&pd->ec_lock);
        (void)arch_preempt_pending();
    } while (killed == KILL_STEP);
    for (unsigned i = 0; i < cpu_count; i++) { /* the SCs that it owns leave: sc_dying */
        cpu_hazard_set(cpus[i], HZ_SCHED);
        arch_ipi_send(i);
    }
    kobj_get(&pd->obj); /* until its spaces are empty */
    pd->reap_next = c->reap;
    atomic_store_rlx(&c->reap, pd);
    cpu_hazard_set(c, HZ_REAP);
}

bool pd_reap(struct cpu *c) {
    struct pd *pd = c->reap;
    if (!pd)
        return ec_reap(c);
    arch_iommu_detach(pd);
    if (space_clear(pd, &pd->reap) == SPACE_DONE) {
        /* clearing may have pushed further PDs before this one */
        struct pd **link = &c->reap;
        while (*link != pd)
            link = &(*link)->reap_next;
        atomic_store_rlx(link, pd->reap_next);
        kobj_put(&pd->obj);
    }
    return c->reap || c->reap_ecs;
}

static void pd_free(struct rcu_head *h) {
    struct pd *pd = container_of(h, struct pd, obj.rcu);
    assert(!pd->ecs);
    arch_guest_ports_free(pd);
    arch_space_fini(pd);
    ptab_free(&pd->guest);
    ptab_free(&pd->dma);
    ptab_free(&pd->host);
    objtab_free(&pd->objtab, &pd->account);
    assert(atomic_load_rlx(&pd->account.used) == 0);
    kobj_free(&pd_cache, &pd->obj);
}

void pd_destroy(struct pd *pd) { rcu_call(&pd->obj.rcu, pd_free); }
