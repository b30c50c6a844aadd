/* What CPUs remember of page tables is what the tables say, with no more rights, unless a flush is already asked for (or the machine is
 * the mutant that forgets flushes: programs are to find it). */
#include "arch/assert.h"
#include "core/ec.h"
#include "core/pd.h"
#include "sim/check.h"

static void entry_check(const struct sim_tlb_entry *e, const struct ptab *t) {
    u64 pfn;
    unsigned perm;
    assert(ptab_lookup(t, e->page - 1, &pfn, &perm));
    assert(pfn == e->frame && !(e->perm & ~perm));
}

void sim_check_tlb(const struct cpu *c) {
    for (unsigned i = 0; !sim_opt.no_flush && c->shoot_req == c->shoot_ack && i < SIM_TLB_SIZE; i++)
        if (c->mach.tlb[i].page)
            entry_check(&c->mach.tlb[i], &c->space->host);
}

/* A vCPU that would be entered as it is, without a new ASID or VPID and without a flush, finds what its table says. */
static void vcpu_check(const struct ec *ec) {
    const struct cpu *c = &sim_cpus[ec->cpu];
    struct sim_vcpu v = sim_vcpu_of(ec);
    if (sim_opt.no_flush || !v.enters_as_it_is)
        return;
    for (unsigned i = 0; i < SIM_TLB_SIZE; i++)
        if (c->mach.guest_tlb[i].page && c->mach.guest_tlb[i].tag == v.tag)
            entry_check(&c->mach.guest_tlb[i], &ec->pd->guest);
}

static const struct pd *domain_of;
static u16 domain_wanted;
static void domain_match(struct pd *pd) {
    if (pd->dma_domain == domain_wanted)
        domain_of = pd;
}

/* What the IOMMU remembers for a domain: flushed before the domain is somebody else's. */
static void iotlb_check(u16 domain, u64 page, u64 frame, unsigned perm) {
    const struct sim_tlb_entry e = {.page = page + 1, .frame = frame, .perm = perm};
    domain_of = NULL;
    domain_wanted = domain;
    sim_pds_each(domain_match);
    assert(domain_of);
    entry_check(&e, &domain_of->dma);
}

void sim_check_translations(void) {
    sim_iotlb_each(iotlb_check);
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        sim_check_tlb(&sim_cpus[i]);
    SIM_EACH_OBJECT(a, ec, ec)
    if (ec->vcpu)
        vcpu_check(ec);
}
