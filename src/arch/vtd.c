#include "arch/acpi.h"
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/iommu.h"
#include "arch/mem.h"
#include "core/cpu.h"
#include "core/klog.h"
#include "core/pd.h"
#include "core/shoot.h"

/* Registers and bits: VT-d 4.0 chapter 11 "Register Descriptions". */
enum { CAP = 0x08, ECAP = 0x10, GCMD = 0x18, GSTS = 0x1c, RTADDR = 0x20, FSTS = 0x34, IQT = 0x88, IQA = 0x90 };
#define CAP_DOMAINS(cap) (16u << 2 * ((cap)&7))
#define CAP_RWBF         (1ul << 4)       /* writes to tables need a flush of their own */
#define CAP_WIDTHS(cap)  ((cap) >> 9 & 3) /* SAGAW: bit 0 of it 39 bits in three levels, bit 1 48 in four */
#define CAP_LARGE(cap)   ((cap) >> 34 & 3)
#define CAP_RECORDS(cap) (((cap) >> 40 & 0xff) + 1)   /* NFR */
#define CAP_RECORD(cap)  (((cap) >> 24 & 0x3ff) * 16) /* FRO: where they begin */
#define FSTS_OVERFLOW    1u
#define FSTS_PENDING     2u
#define RECORD_FAULT     (1ul << 63) /* of the high half of a record (11.4.14): until 1 is written to it */
#define RECORD_READ      (1ul << 62)
#define RECORD_REASON(r) ((unsigned)((r) >> 32 & 0xff))
#define ECAP_QI          (1ul << 1)
#define GCMD_TE          (1u << 31)
#define GCMD_SRTP        (1u << 30)
#define GCMD_QIE         (1u << 26)
#define GSTS_LASTING     0x96ffffffu /* what a write of GCMD has to repeat (11.4.4) */

/* Invalidation descriptors, 6.5.2: type, granularity (bits 4-5: 1 global, 2 domain), domain from bit 16. */
#define INV_CONTEXT       1ul
#define INV_IOTLB         (2ul | 3ul << 6)            /* and drain reads and writes */
#define INV_WAIT          (5ul | 1ul << 5 | 1ul << 6) /* write a status; nothing behind it starts before */
#define INV_GRAIN(domain) ((domain) ? 2ul << 4 | (u64)(domain) << 16 : 1ul << 4)
#define QUEUE_SIZE        256u /* descriptors in a page; at most three are under way for each CPU */
static_assert(3 * ABI_MAX_CPUS < QUEUE_SIZE, "the queue never fills");

struct entry { /* of root table (256 buses), context table (256 functions) and queue */
    u64 low, high;
};
#define ENTRY_P          1ul
#define CTX_WIDTH        (ptab_dma_levels - 2ul) /* 1 for three levels, 2 for four: 9.3 "Context Entry" */
#define CTX_DOMAIN(high) ((u16)((high) >> 8))

static struct unit {
    struct spinlock lock; /* rank iommu: the queue's tail */
    u64 regs;
    struct entry *queue;
    u32 *done; /* atomic, by CPU: the last wait descriptor of that CPU that the unit has come to */
    unsigned tail;
} * units;
static unsigned unit_count;
static u32 waits[ABI_MAX_CPUS]; /* each written by its CPU */

static struct spinlock tables_lock; /* rank iommu: root and context entries, taking a domain */
static struct entry *root;          /* NULL: no IOMMU */
static u64 domains[1024];           /* atomic; in use: a bit each; 0 is reserved (6.2.2.1, caching mode) */
static unsigned domain_count;
static u64 widths = 3; /* CAP_WIDTHS of all units */

static void entry_store(u64 *word, u64 v) {
    atomic_store_rel(word, v);
    arch_cache_clean(word, sizeof(*word));
}

/* Has all units forget a domain, 0: everything. */
static void invalidate(u16 domain) {
    struct cpu *self = arch_cpu_self();
    u32 seq = ++waits[self->id];
    for (struct unit *u = units; u < units + unit_count; u++) {
        const u64 low[] = {INV_CONTEXT | INV_GRAIN(domain), INV_IOTLB | INV_GRAIN(domain), INV_WAIT | (u64)seq << 32};
        spin_lock(&u->lock);
        for (unsigned i = 0; i < ARRAY_SIZE(low); i++) {
            struct entry *e = &u->queue[u->tail];
            entry_store(&e->high, i == 2 ? arch_ptr_phys(&u->done[self->id]).v : 0);
            entry_store(&e->low, low[i]);
            u->tail = (u->tail + 1) % QUEUE_SIZE;
        }
        mmio_write64(u->regs + IQT, u->tail << 4);
        spin_unlock(&u->lock);
    }
    for (struct unit *u = units; u < units + unit_count; u++)
        while (atomic_load_acq(&u->done[self->id]) != seq) {
            shoot_serve(self);
            arch_cpu_relax();
        }
}

void arch_iommu_flush(struct pd *pd) {
    atomic_fence(); /* the caller's table stores before this load; pairs with the one in arch_iommu_attach */
    u16 domain = atomic_load_acq(&pd->dma_domain);
    if (domain)
        invalidate(domain);
}

static u16 domain_alloc(void) {
    for (unsigned d = 1; d < domain_count; d++)
        if (!(atomic_load_acq(&domains[d / 64]) >> d % 64 & 1)) {
            atomic_fetch_or(&domains[d / 64], 1ul << d % 64);
            return (u16)d;
        }
    return 0;
}

static struct entry *table_of(u64 low) { return arch_phys_ptr(PADDR(low & ~PAGE_MASK)); }

/* The context entry of a device; NULL: no memory for its bus. */
static struct entry *context_of(u16 rid) {
    struct entry *r = &root[rid >> 8];
    if (!(r->low & ENTRY_P)) {
        void *table = kmem_pages_alloc(&kernel_account, 0);
        if (!table)
            return NULL;
        arch_cache_clean(table, PAGE_SIZE);
        entry_store(&r->low, arch_ptr_phys(table).v | ENTRY_P);
    }
    return table_of(r->low) + (rid & 0xff);
}

static enum abi_status context_set(struct pd *pd, u16 rid) {
    struct entry *e = context_of(rid);
    u16 domain = pd->dma_domain ? pd->dma_domain : e ? domain_alloc() : 0;
    if (!e || !domain)
        return NOVA_BAD_MEM;
    atomic_store_rel(&pd->dma_domain, domain);
    atomic_fence(); /* a revoke that still sees no domain has changed the table before the device can walk it */
    entry_store(&e->low, 0);
    entry_store(&e->high, CTX_WIDTH | (u64)domain << 8);
    entry_store(&e->low, pd->dma.root.v | ENTRY_P);
    return NOVA_SUCCESS;
}

enum abi_status arch_iommu_attach(struct pd *pd, u16 rid) {
    if (!root)
        return NOVA_BAD_DEV;
    spin_lock(&pd->mem.lock);
    enum abi_status status = ptab_root(&pd->dma);
    spin_unlock(&pd->mem.lock);
    if (status != NOVA_SUCCESS)
        return status;
    spin_lock(&tables_lock);
    status = atomic_load_acq(&pd->obj.dead) ? NOVA_BAD_CAP : context_set(pd, rid);
    spin_unlock(&tables_lock);
    if (status == NOVA_SUCCESS)
        invalidate(0);
    return status;
}

void arch_iommu_detach(struct pd *pd) {
    spin_lock(&tables_lock); /* nothing is attached any more: the PD is dead */
    u16 domain = pd->dma_domain;
    for (unsigned bus = 0; domain && bus < 256; bus++)
        for (unsigned i = 0; root[bus].low & ENTRY_P && i < 256; i++) {
            struct entry *e = table_of(root[bus].low) + i;
            if (e->low & ENTRY_P && CTX_DOMAIN(e->high) == domain)
                entry_store(&e->low, 0);
        }
    pd->dma_domain = 0;
    spin_unlock(&tables_lock);
    if (!domain)
        return;
    invalidate(0);
    atomic_fetch_and(&domains[domain / 64], ~(1ul << domain % 64));
}

/* Fault reasons 7.1.3: 1 and 2, no root or context entry; 4, beyond the address width; 5 and 6, no right to write or read. */
static const char *reason_name(unsigned reason) {
    return reason == 1 || reason == 2   ? "nobody has it"
           : reason == 4                ? "beyond its address width"
           : reason == 5 || reason == 6 ? "its PD gives no right to that with D"
                                        : "";
}

/* Empties the records of a unit; logs the first one unless that has been said. */
static void faults_take(const struct unit *u, bool *said) {
    u64 cap = mmio_read64(u->regs + CAP), at = u->regs + CAP_RECORD(cap);
    for (u64 end = at + 16 * CAP_RECORDS(cap); at < end; at += 16) {
        u64 page = mmio_read64(at), r = mmio_read64(at + 8);
        if (!(r & RECORD_FAULT))
            continue;
        if (!*said)
            klog_warn("iommu: device %x:%x.%u: %s of %lx refused: %s (reason %u)\n", (unsigned)(r >> 8 & 0xff),
                      (unsigned)(r >> 3 & 0x1f), (unsigned)(r & 7), r & RECORD_READ ? "read" : "write",
                      page & ~PAGE_MASK, reason_name(RECORD_REASON(r)), RECORD_REASON(r));
        *said = true;
        mmio_write64(at + 8, RECORD_FAULT);
    }
    mmio_write32(u->regs + FSTS, FSTS_OVERFLOW);
}

void arch_iommu_poll(void) {
    static u64 next; /* atomic */
    u64 now = arch_clock(), due = atomic_load_rlx(&next);
    bool said = false;
    if (!unit_count || now < due || !atomic_cas(&next, &due, now + tsc_khz * 1000ul))
        return;
    for (struct unit *u = units; u < units + unit_count; u++)
        if (mmio_read32(u->regs + FSTS) & (FSTS_OVERFLOW | FSTS_PENDING))
            faults_take(u, &said);
}

static bool command(const struct unit *u, u32 bit, bool on) {
    u32 lasting = mmio_read32(u->regs + GSTS) & GSTS_LASTING;
    u64 limit = arch_clock() + tsc_khz * 1000ul;
    mmio_write32(u->regs + GCMD, on ? lasting | bit : lasting & ~bit);
    while (!!(mmio_read32(u->regs + GSTS) & bit) != on) {
        if (arch_clock() > limit)
            return false;
        arch_cpu_relax();
    }
    return true;
}

/* What it cannot do, or NULL: its queue is ready. */
static const char *unit_init(struct unit *u, u64 regs) {
    u64 cap = mmio_read64(regs + CAP), ecap = mmio_read64(regs + ECAP);
    widths &= CAP_WIDTHS(cap);
    if (!widths)
        return "addresses of 39 or 48 bits, like the others";
    if (!(ecap & ECAP_QI) || (cap & CAP_RWBF))
        return "queued invalidation or coherent writes";
    void *queue = kmem_pages_alloc(&kernel_account, 1); /* and a page of status words */
    if (!queue)
        return "memory for its queue";
    *u = (struct unit){.regs = regs, .queue = queue, .done = (u32 *)((char *)queue + PAGE_SIZE)};
    ptab_max_leaf_order = (unsigned)min_u64(ptab_max_leaf_order, CAP_LARGE(cap) == 3 ? 18 : CAP_LARGE(cap) ? 9 : 0);
    domain_count = (unsigned)min_u64(domain_count, CAP_DOMAINS(cap));
    return NULL;
}

/* Translation with empty tables. The firmware may have left its own queue or tables on. */
static const char *unit_start(struct unit *u) {
    if (!command(u, GCMD_QIE, false))
        return "an end of its old queue";
    mmio_write64(u->regs + IQT, 0);
    mmio_write64(u->regs + IQA, arch_ptr_phys(u->queue).v);
    mmio_write64(u->regs + RTADDR, arch_ptr_phys(root).v);
    return command(u, GCMD_QIE, true) && command(u, GCMD_SRTP, true) && command(u, GCMD_TE, true) ? NULL : "an answer";
}

u32 arch_iommu_init(const u64 *regs, unsigned count) {
    const char *lacks = NULL;
    domain_count = 64 * ARRAY_SIZE(domains);
    domains[0] = 1;
    units = count ? kmem_pages_alloc(&kernel_account, 0) : NULL;
    struct entry *table = units ? kmem_pages_alloc(&kernel_account, 0) : NULL;
    static_assert(sizeof(struct unit) * ACPI_MAX_DRHDS <= PAGE_SIZE, "units in one page");
    if (count && !table)
        lacks = "memory for its tables";
    unsigned n = 0;
    for (; !lacks && n < count; n++)
        lacks = unit_init(&units[n], regs[n]);
    root = table;
    ptab_dma_levels = widths & 2 ? 4 : 3;
    for (n = 0; !lacks && n < count; n++)
        lacks = unit_start(&units[n]);
    if (!lacks && count) {
        unit_count = count;
        invalidate(0);
        return HIP_IOMMU;
    }
    root = NULL;
    if (lacks)
        klog_warn(
            "missing: IOMMU: the VT-d unit at %lx lacks %s; no device can be assigned, devices reach all memory\n",
            n ? regs[n - 1] : regs[0], lacks);
    return 0;
}
