#include "arch/assert.h"
#include "arch/iommu.h"
#include "arch/mem.h"
#include "core/core.h"
#include "core/hypercall.h"
#include "core/klog.h"
#include "core/sm.h"
#include "core/space_priv.h"

static enum abi_status account_ctrl(struct ec *ec, bool set) {
    struct uregs *r = &ec->regs;
    struct pd *pd = LOOKUP(ec, arg_sel(r), KOBJ_PD, pd, set ? PERM_PD_ALL : 0);
    if (!pd)
        return NOVA_BAD_CAP;
    if (set) {
        atomic_store_rlx(&pd->account.limit, r->rsi);
    } else {
        r->rsi = atomic_load_rlx(&pd->account.used);
        r->rdx = atomic_load_rlx(&pd->account.limit);
    }
    return NOVA_SUCCESS;
}

static enum abi_status gsi_config(struct ec *ec) {
    struct sm *sm = LOOKUP(ec, arg_sel(&ec->regs), KOBJ_SM, sm, PERM_SM_DN);
    if (!sm || sm->gsi < 0)
        return NOVA_BAD_CAP;
    gsi_configure((unsigned)sm->gsi, ec->regs.rsi & 1, ec->regs.rsi & 2);
    return NOVA_SUCCESS;
}

/* A range of RAM, by number as for H, becomes the kernel's: everybody loses it, root's right to hand it out included. */
static enum abi_status kmem_take_over(struct ec *ec) {
    u64 crd = ec->regs.rsi, found = space_lookup(&kernel_pd, crd);
    struct sel_range r = sel_range_of(CRD_MEM, crd);
    if (!ec->progress.step) { /* else it is on its way already */
        bool ours = found && CRD_TYPE(crd) == CRD_MEM && CRD_ORDER(found) >= r.order; /* H would give all of it */
        if (!ours || !core_is_ram(r.base, sel_range_size(r)) || !kmem_fits(r.base, sel_range_size(r)))
            return NOVA_BAD_PAR;
        ec->progress.step = 1;
    }
    enum space_result result = space_revoke_range(&kernel_pd, CRD_MEM, r.base, r.base + sel_range_size(r), PERM_MEM_ALL,
                                                  true, NULL, &ec->progress);
    if (result == SPACE_AGAIN) {
        ec->cont = CONT_SYSCALL;
        return NOVA_SUCCESS;
    }
    ec->progress = (struct space_progress){0};
    if (result == SPACE_NOMEM)
        return NOVA_BAD_MEM;
    return kmem_add(PADDR(r.base << PAGE_SHIFT), PAGE_SIZE << r.order) ? NOVA_SUCCESS : NOVA_BAD_PAR;
}

/* And back: 2^order pages that the kernel does not use, wiped, can be had by H from now on. */
static enum abi_status kmem_give_back(struct uregs *r) {
    if (r->rsi > KMEM_MAX_ORDER)
        return NOVA_BAD_PAR;
    unsigned order = (unsigned)r->rsi;
    void *pages = kmem_pages_alloc(&kernel_account, order);
    if (!pages)
        return NOVA_BAD_MEM;
    u64 pfn = arch_ptr_phys(pages).v >> PAGE_SHIFT;
    kmem_forget(pages, order);
    enum abi_status status = space_source_create(&kernel_pd, CRD_MEM, pfn, pfn, order, PERM_MEM_ALL);
    if (status == NOVA_SUCCESS) {
        r->rsi = CRD_MAKE(CRD_MEM, pfn, order, PERM_MEM_ALL);
    } else {
        bool back = kmem_add(PADDR(pfn << PAGE_SHIFT), PAGE_SIZE << order);
        assert(back && status == NOVA_BAD_MEM);
    }
    return status;
}

static enum abi_status counters_read(struct ec *ec) {
    u64 id = arg_sel(&ec->regs);
    if (id >= cpu_count || !cpus[id])
        return NOVA_BAD_CPU;
    for (unsigned i = 0; i < ABI_COUNTERS; i++)
        ec->utcb->w[i] = atomic_load_rlx(&cpus[id]->counters[i]);
    ec->regs.rdx = ABI_COUNTERS;
    return NOVA_SUCCESS;
}

enum abi_status extension_run(struct ec *ec) {
    struct uregs *r = &ec->regs;
    unsigned op = ARG_FLAGS(r);
    if (op == EXT_KMEM_LIMIT || op == EXT_KMEM_USAGE)
        return account_ctrl(ec, op == EXT_KMEM_LIMIT);
    if (op == EXT_GSI_CONFIG)
        return gsi_config(ec);
    if (op > EXT_KMEM_TAKE)
        return NOVA_BAD_HYP;
    if (!ec->pd->is_root)
        return NOVA_BAD_CAP;
    switch (op) {
    case EXT_KMEM_FREE:
        r->rsi = kmem_pages_available();
        r->rdx = kmem_pages_total();
        return NOVA_SUCCESS;
    case EXT_KLOG_READ:
        arch_iommu_poll();
        r->rdx = klog_read(&r->rsi, (char *)ec->utcb->w, sizeof(ec->utcb->w));
        return NOVA_SUCCESS;
    case EXT_CMDLINE_READ:
        r->rdx = core_cmdline_read(&r->rsi, (char *)ec->utcb->w, sizeof(ec->utcb->w));
        return NOVA_SUCCESS;
    case EXT_COUNTERS:
        return counters_read(ec);
    case EXT_KMEM_ADD:
        return kmem_take_over(ec);
    default:
        return kmem_give_back(r);
    }
}
