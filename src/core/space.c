#include "core/space.h"
#include "arch/assert.h"
#include "arch/vcpu.h"
#include "core/shoot.h"
#include "core/space_priv.h"

struct slab_cache node_cache = SLAB_CACHE(struct node);
i64 space_step_work = 1024;

struct space_tree space_trees[SPACE_TREES];

static u32 tree_new(void) {
    static u32 next; /* atomic: spreads memory and ports over the locks */
    return (u32)atomic_fetch_add(&next, 1);
}

struct node *space_node_alloc_forced(struct pd *pd) {
    struct node *n = slab_alloc(&node_cache, &kernel_account);
    if (!n)
        return NULL;
    account_refund(&kernel_account, node_cache.size);
    account_force(&pd->account, node_cache.size);
    return n;
}

static enum abi_status ports_enter(const struct node *n) {
    struct pd *pd = n->pd;
    unsigned first = (unsigned)n->base, count = 1u << n->order;
    if ((n->tables & NODE_HOST) && arch_space_ports(pd, first, count, true) != NOVA_SUCCESS)
        return NOVA_BAD_MEM;
    if (!(n->tables & NODE_GUEST) || arch_guest_ports(pd, first, count, true) == NOVA_SUCCESS)
        return NOVA_SUCCESS;
    if (n->tables & NODE_HOST) {
        enum abi_status undone = arch_space_ports(pd, first, count, false);
        assert(undone == NOVA_SUCCESS);
    }
    return NOVA_BAD_MEM;
}

/* Nothing is written before everything is reserved. */
static enum abi_status pages_enter(const struct node *n) {
    struct pd *pd = n->pd;
    struct ptab *tables[] = {&pd->host, &pd->guest, &pd->dma};
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        if ((n->tables >> i & 1) && ptab_reserve(tables[i], n->base, n->order) != NOVA_SUCCESS)
            return NOVA_BAD_MEM;
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++)
        if (n->tables >> i & 1)
            ptab_map(tables[i], n->base, n->source, n->order, i ? n->perm : space_node_host_perm(n));
    return NOVA_SUCCESS;
}

static inline enum abi_status object_enter(struct node *n) {
    struct pd *pd = n->pd;
    u64 *entry = objtab_reserve(&pd->objtab, n->base, &pd->account);
    if (!entry)
        return NOVA_BAD_MEM;
    struct kobj *obj = (struct kobj *)n->source; /* alive: by its creator or the parent, whose tree is locked */
    assert(atomic_load_rlx(&obj->refs));
    obj->caps++;
    objtab_set(entry, obj, n->perm, n);
    return NOVA_SUCCESS;
}

/* BAD_MEM, BAD_CAP: nothing is entered. */
static inline enum abi_status tables_enter(struct node *n, unsigned type) {
    if (type == CRD_OBJ)
        return object_enter(n);
    if (type == CRD_PIO)
        return ports_enter(n);
    if (!(n->perm & PERM_MEM_R))
        return NOVA_SUCCESS; /* rights without a translation */
    if (likely((n->tables & NODE_TABLES) == NODE_HOST))
        return ptab_enter(&n->pd->host, n->base, n->source, n->order, space_node_host_perm(n));
    return pages_enter(n);
}

FOR_TYPE enum abi_status node_install(struct node *n, unsigned type) {
    enum abi_status status = tables_enter(n, type);
    if (unlikely(status != NOVA_SUCCESS)) {
        slab_free(&node_cache, &n->pd->account, n);
        return status;
    }
    if (type == CRD_OBJ)
        n->pd->caps.objects++;
    else
        space_index_insert(space_of(n->pd, type), n);
    space_node_link(n, n->parent);
    return NOVA_SUCCESS;
}
enum abi_status space_node_install(struct node *n) { return node_install(n, n->type); }
enum abi_status space_object_install(struct node *n) { return node_install(n, CRD_OBJ); }
enum abi_status space_pages_install(struct node *n) { return node_install(n, CRD_MEM); }

enum abi_status space_node_widen(struct node *n, unsigned tables) {
    struct space *s = space_of(n->pd, n->type);
    struct node more = *n;
    more.tables = (u8)((tables & ~n->tables & NODE_TABLES) | (n->tables & NODE_NX));
    spin_lock(&s->lock);
    enum abi_status status = tables_enter(&more, more.type);
    if (status == NOVA_SUCCESS)
        n->tables |= more.tables;
    spin_unlock(&s->lock);
    return status;
}

/* A top node in a free range; `taken` if it is not free, BAD_CAP if its PD is dying. */
FOR_TYPE enum abi_status top_create(const struct node *n, unsigned type, enum abi_status taken) {
    struct space *s = space_of(n->pd, type);
    space_tree_lock(n->tree);
    spin_lock(&s->lock);
    enum abi_status status = taken;
    if (unlikely(atomic_load_rlx(&n->pd->obj.dead))) {
        status = NOVA_BAD_CAP;
    } else if (space_range_free(n->pd, type, n->base, node_last(n))) {
        struct node *fresh = slab_take(&node_cache, &n->pd->account);
        status = NOVA_BAD_MEM;
        if (likely(fresh)) {
            space_node_set(fresh, n);
            status = type == CRD_OBJ ? space_object_install(fresh) : space_node_install(fresh);
        }
    }
    bool flush = type == CRD_MEM && s->flushing;
    spin_unlock(&s->lock);
    space_tree_unlock(n->tree);
    if (flush)
        shoot_down(n->pd, NODE_TABLES);
    return status;
}

enum abi_status space_cap_create(struct pd *pd, u64 sel, struct kobj *obj, unsigned perm) {
    struct node n = {.base = sel % ABI_SEL_COUNT,
                     .source = (u64)obj,
                     .pd = pd,
                     .tree = obj->tree,
                     .type = CRD_OBJ,
                     .perm = (u8)perm};
    return top_create(&n, CRD_OBJ, NOVA_BAD_CAP);
}

static bool aligned(u64 base, u64 source, unsigned order) { return !((base | source) & ((1ul << order) - 1)); }

static enum abi_status range_create(struct pd *pd, unsigned type, u64 base, u64 source, unsigned order, unsigned perm,
                                    unsigned tables) {
    assert(type != CRD_OBJ && aligned(base, source, order) && order < 52 && perm);
    struct node n = {.base = base,
                     .source = source,
                     .pd = pd,
                     .tree = tree_new(),
                     .type = (u8)type,
                     .order = (u8)order,
                     .perm = (u8)perm,
                     .tables = (u8)tables};
    return top_create(&n, type, NOVA_BAD_PAR);
}

enum abi_status space_mem_create(struct pd *pd, u64 vpn, u64 pfn, unsigned order, unsigned perm, unsigned tables) {
    bool fits = vpn + (1ul << order) <= space_limit(CRD_MEM);
    return fits ? range_create(pd, CRD_MEM, vpn, pfn, order, perm, tables) : NOVA_BAD_PAR;
}

enum abi_status space_source_create(struct pd *pd, unsigned type, u64 base, u64 source, unsigned order, unsigned perm) {
    return range_create(pd, type, base, source, order, perm, 0);
}

void space_utcb_remove(struct pd *pd, u64 vpn, u64 pfn) {
    spin_lock(&pd->mem.lock);
    struct node *n = space_index_from(&pd->mem, vpn);
    bool ours = n && n->base == vpn && n->source == pfn && (n->tables & NODE_UTCB);
    spin_unlock(&pd->mem.lock);
    enum space_result r = ours ? SPACE_AGAIN : SPACE_DONE; /* one page and no descendants: restarts are few */
    while (r != SPACE_DONE) {
        struct space_progress p = {0};
        r = space_revoke_range(pd, CRD_MEM, vpn, vpn + 1, PERM_MEM_ALL, true, n, &p);
        assert(r != SPACE_NOMEM);
    }
}

u64 space_lookup(struct pd *pd, u64 crd) {
    unsigned type = CRD_TYPE(crd);
    if (type == CRD_NULL)
        return 0;
    u64 sel = type == CRD_OBJ ? CRD_BASE(crd) % ABI_SEL_COUNT : CRD_BASE(crd);
    struct space *s = space_of(pd, type);
    spin_lock(&s->lock);
    struct node *n = space_at(pd, type, sel);
    u64 found = n && n->base <= sel ? CRD_MAKE(type, n->base, n->order, n->perm) : 0;
    spin_unlock(&s->lock);
    return found;
}

/* The part of r in n's ancestors, nearest first, that lies in pd's window. Tree lock held. */
static u64 translate_up(const struct node *n, const struct pd *pd, struct sel_range r, struct sel_range window,
                        unsigned mask) {
    u64 source = n->type == CRD_OBJ ? n->source : n->source + (r.base - n->base);
    for (const struct node *up = n->parent; up; up = up->parent) {
        struct sel_range there = {.base = n->type == CRD_OBJ ? up->base : up->base + (source - up->source),
                                  .order = r.order};
        if (up->pd != pd)
            continue;
        if (sel_range_has(window, there))
            return CRD_MAKE(n->type, there.base, there.order, n->perm & mask);
        if (sel_range_has(there, window))
            return CRD_MAKE(n->type, window.base, window.order, n->perm & mask);
    }
    return 0;
}

u64 space_translate(struct pd *src, struct pd *dst, u64 crd, u64 window) {
    unsigned type = CRD_TYPE(crd);
    if (type == CRD_NULL || type != CRD_TYPE(window))
        return 0;
    struct sel_range r = sel_range_of(type, crd);
    struct node *n = space_find(src, type, r.base);
    if (!n)
        return 0;
    u64 found = 0;
    u32 tree = n->tree;
    space_tree_lock(tree);
    if ((n->perm & CRD_PERM(crd)) && n->base <= r.base && r.base <= node_last(n) && !(n->tables & NODE_UTCB)) {
        if (n->order < r.order)
            r.order = n->order;
        found = translate_up(n, dst, r, sel_range_of(type, window), CRD_PERM(crd));
    }
    space_tree_unlock(tree);
    return found;
}
