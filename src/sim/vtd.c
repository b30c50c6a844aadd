/* The machine's IOMMU: one VT-d unit whose tables and invalidation queue are the kernel's own, in the arena. It keeps what it has walked
 * (context cache and IOTLB, tagged by domain) until a descriptor invalidates it, also that nothing is there (caching mode). What the
 * specification forbids software to do is a panic. Intel VT-d 4.0: 3.4 "Address Translation", 6.2 "Caching", 6.5 "Invalidation", 9, 11. */
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "sim/internal.h"
#include <string.h>

enum {
    CAP = 0x08,
    ECAP = 0x10,
    GCMD = 0x18,
    GSTS = 0x1c,
    RTADDR = 0x20,
    FSTS = 0x34,
    IQH = 0x80,
    IQT = 0x88,
    IQA = 0x90,
    RECORD = 0x220
};
#define TE     (1u << 31)
#define SRTP   (1u << 30)
#define QIE    (1u << 26)
#define DOMAIN 16u /* CAP.ND 0: so few that they run out in tests */
#define CACHED 64u
#define LEVELS (sim_opt.iommu_39 ? 3u : 4u)

static struct {
    u32 status;
    u64 root, root_next, queue;
    unsigned head, tail;
    u64 fault[2]; /* the only record, 11.4.14 */
    bool overflow;
} vtd;
static struct context {
    bool valid;
    u16 rid, domain; /* domain 0: not present */
    unsigned reason; /* then: 1 no root entry, 2 no context entry */
    u64 table;
} contexts[CACHED];
static struct translation {
    bool valid;
    u16 domain;
    unsigned perm; /* 0: not present */
    u64 page, frame;
} iotlb[CACHED];

static u64 *mem(u64 pa) {
    void *p = sim_phys(PADDR(pa));
    assert(p); /* software has pointed the unit at something that is not memory */
    return p;
}

static void descriptor_run(u64 low, u64 high) {
    unsigned type = low & 0xf, grain = low >> 4 & 3;
    u16 domain = (u16)(low >> 16);
    switch (type) {
    case 1:
        assert(grain == 1 || grain == 2);
        for (unsigned i = 0; i < CACHED; i++)
            if (grain == 1 || contexts[i].domain == domain)
                contexts[i].valid = false;
        break;
    case 2:
        assert((grain == 1 || grain == 2) && !high);
        for (unsigned i = 0; i < CACHED; i++)
            if (grain == 1 || iotlb[i].domain == domain)
                iotlb[i].valid = false;
        break;
    case 5:
        assert(low & 1u << 5 && !(high & 3));
        *(u32 *)mem(high) = (u32)(low >> 32);
        break;
    default:
        assert(!"invalidation descriptor type");
    }
}

static void queue_run(void) {
    assert(vtd.status & QIE);
    while (vtd.head != vtd.tail) {
        const u64 *d = mem(vtd.queue + 16 * vtd.head);
        descriptor_run(d[0], d[1]);
        vtd.head = (vtd.head + 1) % (PAGE_SIZE / 16);
    }
}

static void command(u32 v) {
    u32 changed = (v ^ vtd.status) & ~SRTP;
    assert(!(changed & (changed - 1)) && (!changed || !(v & SRTP))); /* 11.4.4: one at a time */
    if (v & SRTP) {
        vtd.root = vtd.root_next;
        vtd.status |= SRTP;
    }
    if (changed & QIE && v & QIE)
        vtd.head = 0;
    assert(!(changed & TE) || vtd.status & SRTP);
    vtd.status = (vtd.status & SRTP) | (v & (TE | QIE));
}

static u64 reg_read(u64 pa) {
    sim_point();
    switch (pa - SIM_VTD_BASE) {
    case CAP:
        return (sim_opt.iommu_39 ? 0ul : 3ul) << 34 | (9ul * LEVELS + 11) << 16 | 1ul << (6 + LEVELS) |
               (u64)RECORD / 16 << 24 | 1ul << 7 |
               2; /* large pages or none, 39 or 48 bits, caching mode, 256 domains */
    case ECAP:
        return 1ul << 1;
    case GSTS:
        return vtd.status;
    case IQH:
        return vtd.head << 4;
    case FSTS:
        return (vtd.fault[1] >> 63 << 1) | vtd.overflow;
    case RECORD:
    case RECORD + 8:
        return vtd.fault[(pa - SIM_VTD_BASE - RECORD) / 8];
    }
    assert(!"IOMMU register");
    return 0;
}
u32 mmio_read32(u64 pa) { return (u32)reg_read(pa); }
u64 mmio_read64(u64 pa) { return reg_read(pa); }

void mmio_write32(u64 pa, u64 v) {
    sim_point();
    sim_stores_done(); /* uncached: behind all earlier stores */
    if (pa == SIM_VTD_BASE + FSTS) {
        vtd.overflow &= !(v & 1);
        return;
    }
    assert(pa == SIM_VTD_BASE + GCMD);
    command((u32)v);
}

void mmio_write64(u64 pa, u64 v) {
    sim_point();
    sim_stores_done();
    switch (pa - SIM_VTD_BASE) {
    case RTADDR:
        assert(!(v & PAGE_MASK));
        vtd.root_next = v;
        return;
    case IQT:
        assert(!(v & 0xf) && v < PAGE_SIZE);
        vtd.tail = (unsigned)(v >> 4);
        if (vtd.status & QIE)
            queue_run();
        return;
    case RECORD + 8:
        vtd.fault[1] &= ~(v & 1ul << 63);
        return;
    case IQA:
        assert(!(v & PAGE_MASK) && !(vtd.status & QIE));
        vtd.queue = v;
        return;
    }
    assert(!"IOMMU register");
}

static const struct context *context_of(u16 rid) {
    struct context *c = &contexts[rid % CACHED];
    if (c->valid && c->rid == rid)
        return c;
    *c = (struct context){.valid = true, .rid = rid, .reason = 1};
    const u64 *r = mem(vtd.root + 16ul * (rid >> 8));
    if (!(r[0] & 1))
        return c;
    c->reason = 2;
    const u64 *e = mem((r[0] & ~PAGE_MASK) + 16ul * (rid & 0xff));
    if (!(e[0] & 1))
        return c;
    c->domain = (u16)(e[1] >> 8);
    c->table = e[0] & ~PAGE_MASK;
    /* 9.3: translation type 0 (second level), address width, domain in range and, in caching mode, not 0 */
    assert(!(e[0] & 0xe) && (e[1] & 7) == LEVELS - 2 && c->domain && c->domain < DOMAIN && !(e[1] >> 24));
    return c;
}

static const struct translation *walk(const struct context *c, u64 page) {
    struct translation *t = &iotlb[(page ^ c->domain) % CACHED];
    if (t->valid && t->domain == c->domain && t->page == page)
        return t;
    *t = (struct translation){.valid = true, .domain = c->domain, .page = page};
    u64 table = c->table;
    for (unsigned level = LEVELS - 1;; level--) {
        u64 v = mem(table)[page >> (9 * level) & 511];
        if (!(v & 3))
            return t;
        table = v & 0x000ffffffffff000ul;
        if (level && !(v & 0x80))
            continue;
        u64 mask = (1ul << (9 * level)) - 1;
        assert(level < (sim_opt.iommu_39 ? 1 : 3) && !(table >> PAGE_SHIFT & mask)); /* CAP.SLLPS */
        t->frame = table >> PAGE_SHIFT | (page & mask);
        t->perm = (v & 1 ? PERM_MEM_R : 0u) | (v & 2 ? PERM_MEM_W : 0u);
        return t;
    }
}

/* 7.2.1: the first fault is recorded, later ones are lost. */
static void fault(u16 rid, u64 addr, unsigned access, unsigned reason) {
    if (vtd.fault[1] >> 63) {
        vtd.overflow = true;
        return;
    }
    vtd.fault[0] = addr & ~PAGE_MASK;
    vtd.fault[1] = 1ul << 63 | (access == PERM_MEM_R ? 1ul << 62 : 0) | (u64)reason << 32 | rid;
}

/* NULL: refused, or no memory there. */
static u64 *translate(u16 rid, u64 addr, unsigned access) {
    sim_point();
    assert(!(addr & 7));
    if (!(vtd.status & TE))
        return sim_phys(PADDR(addr));
    const struct context *c = context_of(rid);
    bool wide = addr >> (9 * LEVELS + PAGE_SHIFT) != 0;
    const struct translation *t = c->domain && !wide ? walk(c, addr >> PAGE_SHIFT) : NULL;
    if (t && t->perm & access)
        return sim_phys(PADDR(t->frame << PAGE_SHIFT | (addr & PAGE_MASK)));
    fault(rid, addr, access, !c->domain ? c->reason : wide ? 4 : access == PERM_MEM_W ? 5 : 6);
    return NULL;
}

bool sim_dma_read(u16 rid, u64 addr, u64 *value) {
    const u64 *p = translate(rid, addr, PERM_MEM_R);
    if (p)
        *value = *p;
    return p;
}

bool sim_dma_write(u16 rid, u64 addr, u64 value) {
    u64 *p = translate(rid, addr, PERM_MEM_W);
    if (p)
        *p = value;
    return p;
}

void sim_contexts_each(void (*f)(const void *table)) {
    for (unsigned bus = 0; vtd.root && bus < 256; bus++)
        if (mem(vtd.root)[2 * bus] & 1)
            f(mem(mem(vtd.root)[2 * bus] & ~PAGE_MASK));
}

void sim_iotlb_each(void (*f)(u16 domain, u64 page, u64 frame, unsigned perm)) {
    for (unsigned i = 0; i < CACHED; i++)
        if (iotlb[i].valid && iotlb[i].perm)
            f(iotlb[i].domain, iotlb[i].page, iotlb[i].frame, iotlb[i].perm);
}
