/* Invariants of a PD's spaces: index, derivation, and the caches of both (page tables, port bitmaps, object table). */
#include "arch/assert.h"
#include "arch/mem.h"
#include "core/space_priv.h"
#include "sim/check.h"
#include <string.h>

#define WORDS 512u /* entries of a table page */

/* --- index and derivation --- */

struct node *sim_node_from(const struct pd *pd, unsigned type, u64 sel) {
    struct node *n;
    do
        n = space_next(pd, type, &sel);
    while (!n && sel != ~0ul);
    return n;
}

/* A node belongs here, and does not overlap the one before it. */
static void node_check(const struct pd *pd, unsigned type, const struct node *n, u64 *free_from) {
    assert(n->pd == pd && n->type == type && n->perm && !(n->barred & ~n->perm));
    assert(n->base >= *free_from && !(n->base & ((1ul << n->order) - 1)));
    assert(type == CRD_OBJ ? !n->order : !(n->source & ((1ul << n->order) - 1)));
    assert(pd == &kernel_pd || node_last(n) < space_limit(type));
    *free_from = node_last(n) + 1;
}

/* Order and heap property of the treap. Returns how many nodes there are. */
static u64 index_check(const struct pd *pd, unsigned type, const struct node *n, u64 *free_from) {
    if (!n)
        return 0;
    u64 below = index_check(pd, type, n->left, free_from);
    node_check(pd, type, n, free_from);
    assert((!n->left || n->left->prio <= n->prio) && (!n->right || n->right->prio <= n->prio));
    return below + 1 + index_check(pd, type, n->right, free_from);
}

/* A child: part of what its parent has, no right more, in its parent's list. */
static void child_check(const struct node *n, const struct node *up) {
    assert(up->perm && !(n->perm & ~up->perm) && up->tree == n->tree && up->type == n->type);
    assert(n->type == CRD_OBJ ? n->source == up->source
                              : n->order <= up->order && n->source >> up->order == up->source >> up->order);
    assert(n->prev ? n->prev->next == n && n->prev->parent == up : up->child == n);
    assert(!(up->tables & NODE_UTCB)); /* never delegated */
}

static void top_check(const struct node *n) {
    assert(!n->next && !n->prev);
    assert(n->type != CRD_OBJ || n->tree == node_object(n)->tree);
}

static void derivation_check(const struct node *n) {
    if (n->parent)
        child_check(n, n->parent);
    else
        top_check(n);
    for (const struct node *c = n->child; c; c = c->next)
        assert(c->parent == n);
    unsigned hops = 0;
    for (const struct node *up = n; up->parent; up = up->parent)
        assert(++hops < 100000); /* ends: no circle */
}

/* --- page tables --- */

struct leaf_walk {
    void (*f)(void *, u64, unsigned, u64, unsigned);
    void *ctx;
    enum ptab_kind kind;
};

/* The formats as the manuals have them, not as ptab.c writes them: SDM vol 3 tables 4-20 and 29-7, APM vol 2 15.25.5, VT-d 9.8. */
static unsigned entry_perm(enum ptab_kind kind, u64 e) {
    bool paging = kind == PTAB_HOST || kind == PTAB_NPT;
    bool exec = paging ? !(e >> 63) : kind == PTAB_EPT && (e & 4);
    return (e & 1 ? PERM_MEM_R : 0u) | (e & 2 ? PERM_MEM_W : 0u) | (exec ? PERM_MEM_X : 0u);
}

static void leaves(const struct leaf_walk *w, const u64 *table, unsigned level, u64 vpn) {
    for (unsigned i = 0; i < WORDS; i++, vpn += 1ul << (9 * level)) {
        u64 e = table[i], frame = (e & 0x000ffffffffff000ul) >> PAGE_SHIFT;
        if (!e)
            continue;
        assert(e & 1 && ((w->kind != PTAB_HOST && w->kind != PTAB_NPT) || e & 4)); /* present; a user page */
        assert(level || !(e & 0x80)); /* there it would choose a memory type (PAT) */
        if (level && !(e & 0x80))
            leaves(w, arch_phys_ptr(PADDR(frame << PAGE_SHIFT)), level - 1, vpn);
        else
            w->f(w->ctx, vpn, 9 * level, frame & ~((1ul << (9 * level)) - 1), entry_perm(w->kind, e));
    }
}

unsigned sim_table_level(const struct ptab *t) { return t->kind == PTAB_DMA && sim_opt.iommu_39 ? 2 : 3; }

void sim_table_each(const struct ptab *t, void (*f)(void *, u64, unsigned, u64, unsigned), void *ctx) {
    struct leaf_walk w = {.f = f, .ctx = ctx, .kind = t->kind};
    if (t->root.v)
        leaves(&w, arch_phys_ptr(t->root), sim_table_level(t), 0);
}

struct table_check {
    const struct pd *pd;
    unsigned bit; /* NODE_HOST, NODE_GUEST, NODE_DMA */
    u64 pages;
};

/* What is mapped is a node's, with exactly its rights. */
static void leaf_check(void *ctx, u64 vpn, unsigned order, u64 pfn, unsigned perm) {
    struct table_check *t = ctx;
    const struct node *n = space_index_from(&t->pd->mem, vpn);
    assert(n && n->base <= vpn && vpn + (1ul << order) - 1 <= node_last(n) && (n->tables & t->bit));
    assert(pfn == n->source + (vpn - n->base));
    bool never = t->bit == NODE_DMA || (t->bit == NODE_HOST && n->tables & NODE_NX);
    assert(perm == (never ? n->perm & ~(unsigned)PERM_MEM_X : n->perm));
    t->pages += 1ul << order;
}

static u64 pages_with(const struct node *n, unsigned bit) {
    if (!n)
        return 0;
    u64 own = (n->tables & bit) && (n->perm & PERM_MEM_R) ? 1ul << n->order : 0;
    return own + pages_with(n->left, bit) + pages_with(n->right, bit);
}

/* Both directions: every leaf is a node's, and there are as many pages as the nodes have. */
static void table_check(const struct pd *pd, const struct ptab *table, unsigned bit) {
    struct table_check t = {.pd = pd, .bit = bit};
    sim_table_each(table, leaf_check, &t);
    assert(t.pages == pages_with(pd->mem.root, bit));
}

/* --- port bitmaps and object table --- */

static void ports_allow(const struct node *n, unsigned bit, u8 *map) {
    if (!n)
        return;
    if (n->tables & bit && n->order >= 3)
        memset(map + n->base / 8, 0, 1ul << (n->order - 3));
    else if (n->tables & bit)
        map[n->base / 8] &= (u8) ~(((1u << (1u << n->order)) - 1) << n->base % 8);
    ports_allow(n->left, bit, map);
    ports_allow(n->right, bit, map);
}

static bool ports_with(const struct node *n, unsigned bit) {
    return n && (n->tables & bit || ports_with(n->left, bit) || ports_with(n->right, bit));
}

/* A bitmap has 0 for the ports of the nodes and 1 for all others, those beyond the last one too. */
static void ports_check(const struct pd *pd, const u8 *have, unsigned bit, size_t bytes) {
    static u8 want[4 * PAGE_SIZE];
    if (!have) {
        assert(!ports_with(pd->pio.root, bit)); /* no bitmap: all denied */
        return;
    }
    memset(want, 0xff, bytes);
    ports_allow(pd->pio.root, bit, want);
    assert(!memcmp(have, want, bytes));
}

static u64 entries_used(const union objtab_page *page) {
    u64 n = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(page->cap); i++) {
        assert(!page->cap[i] == !page->node[i]);
        n += page->cap[i] != 0;
    }
    return n;
}

/* Every entry has a node, and what it says. */
static void objtab_check(const struct pd *pd) {
    const union objtab_page *root = pd->objtab.root;
    u64 entries = 0, nodes = 0, free_from = 0;
    for (unsigned i = 0; root != &objtab_empty[2] && i < WORDS; i++)
        for (unsigned j = 0; root->below[i] != &objtab_empty[1] && j < WORDS; j++)
            if (root->below[i]->below[j] != &objtab_empty[0])
                entries += entries_used(root->below[i]->below[j]);
    assert(!entries_used(&objtab_empty[0])); /* nobody has written to what stands for an empty page */
    struct node *n;
    for (u64 sel = 0; (n = sim_node_from(pd, CRD_OBJ, sel)); sel = n->base + 1, nodes++) {
        struct cap cap = objtab_lookup(&pd->objtab, n->base);
        node_check(pd, CRD_OBJ, n, &free_from);
        assert(*objtab_node(objtab_entry(&pd->objtab, n->base)) == n);
        assert(cap.obj == node_object(n) && cap.perm == n->perm);
    }
    assert(entries == nodes && pd->caps.objects == nodes && !pd->caps.root);
}

void space_check_type(const struct pd *pd, unsigned type) {
    const struct space *s = type == CRD_MEM ? &pd->mem : type == CRD_PIO ? &pd->pio : &pd->caps;
    struct node *n;
    u64 free_from = 0;
    (void)index_check(pd, type, s->root, &free_from);
    for (u64 sel = 0; (n = sim_node_from(pd, type, sel)); sel = node_last(n) + 1)
        derivation_check(n);
    assert(!s->recent || s->recent == sim_node_from(pd, type, s->recent->base));
    assert(s->flushing == 0 && !s->lock.owner); /* whoever changes tables flushes before it leaves the kernel */
    if (type == CRD_MEM) {
        table_check(pd, &pd->host, NODE_HOST);
        table_check(pd, &pd->guest, NODE_GUEST);
        table_check(pd, &pd->dma, NODE_DMA);
    } else if (type == CRD_PIO) {
        ports_check(pd, pd->pio_bitmap, NODE_HOST, 2 * PAGE_SIZE);
        ports_check(pd, pd->guest_pio_bitmap, NODE_GUEST, 4 * PAGE_SIZE);
    } else {
        objtab_check(pd);
    }
}

void sim_space_check(const struct pd *pd) {
    for (unsigned type = CRD_MEM; type <= CRD_OBJ; type++)
        space_check_type(pd, type);
}
