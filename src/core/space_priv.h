/* What the space*.c files share: nodes, the index of a space, tree locks. */
#pragma once
#include "core/pd.h"
#include "core/space.h"

/* Node fields change under the tree's lock AND the lock of the node's space: either one suffices for reading.
 * parent, child, next, prev: tree lock only. left, right: space lock only. A node is in the index and in its tree exactly
 * while perm != 0, and a child never has a permission that its parent lacks. */
extern struct slab_cache node_cache;
static inline u64 node_last(const struct node *n) { return n->base + (1ul << n->order) - 1; }
static inline struct space *space_of(struct pd *pd, unsigned type) {
    static_assert(CRD_MEM == 1 && CRD_PIO == 2 && CRD_OBJ == 3, "order in struct pd");
    return &pd->spaces[type - CRD_MEM];
}
/* Selectors of a space: nothing is installed at or above. */
static inline u64 space_limit(unsigned type) {
    return type == CRD_OBJ ? ABI_SEL_COUNT : type == CRD_MEM ? ABI_USER_END >> PAGE_SHIFT : 0x10000;
}
static inline struct kobj *node_object(const struct node *n) {
    return n->type == CRD_OBJ ? (struct kobj *)n->source : NULL;
}

/* The naturally aligned range that a CRD names; object selectors modulo SEL. */
struct sel_range {
    u64 base, order;
};
static inline u64 sel_range_size(struct sel_range r) { return 1ul << r.order; }
static inline struct sel_range sel_range_of(unsigned type, u64 crd) {
    struct sel_range r = {.base = CRD_BASE(crd), .order = CRD_ORDER(crd)};
    if (type == CRD_OBJ) {
        r.base %= ABI_SEL_COUNT;
        r.order = r.order < 26 ? r.order : 26;
    }
    r.base &= ~(sel_range_size(r) - 1);
    return r;
}
static inline struct sel_range node_range(unsigned type, const struct node *n) {
    return (struct sel_range){.base = n->base, .order = type == CRD_OBJ ? 0 : n->order};
}
/* A function for one type, which its callers know: a copy for each. */
#define FOR_TYPE static force_inline
/* Both are aligned, so `in` is inside or disjoint if it is the smaller one. */
static inline bool sel_range_has(struct sel_range r, struct sel_range in) {
    return in.order <= r.order && !((in.base ^ r.base) >> r.order);
}

/* Index of a space (space_index.c), under its lock. */
struct node *space_index_from(const struct space *s,
                              u64 sel);                   /* the node that covers sel, else the next above, else NULL */
void space_index_insert(struct space *s, struct node *n); /* n->base set; overlaps nothing; no object */
void space_index_remove(struct space *s, struct node *n);
/* The first node from *sel on; that of an object is looked for in a bounded step: if there is none so far, *sel says where to go on (~0: nowhere). */
struct node *space_next(const struct pd *pd, unsigned type, u64 *sel);
#define SPACE_NEXT_WORK 32 /* how many nodes looked at it counts as */
/* The node that covers sel or, not of objects, the next above; NULL: there is none. */
FOR_TYPE struct node *space_at(const struct pd *pd, unsigned type, u64 sel) {
    return type == CRD_OBJ ? atomic_load_acq(objtab_node(objtab_entry(&pd->objtab, sel)))
                           : space_index_from(&pd->spaces[type - CRD_MEM], sel);
}

/* Nothing in [first, last]: of object selectors just one. */
FOR_TYPE bool space_range_free(const struct pd *pd, unsigned type, u64 first, u64 last) {
    const struct node *there = space_at(pd, type, first);
    return !there || there->base > last;
}

/* The same without the lock: whether it is that node is seen under its tree's lock, until which it may have gone or been split. */
FOR_TYPE struct node *space_find(struct pd *pd, unsigned type, u64 sel) {
    if (type == CRD_OBJ)
        return space_at(pd, type, sel);
    struct space *s = space_of(pd, type);
    spin_lock(&s->lock);
    struct node *n = s->recent;
    if (!n || (sel - n->base) >> n->order)
        n = s->recent = space_index_from(s, sel);
    spin_unlock(&s->lock);
    return n;
}

/* Tree locks: 64 for all trees, taken before any space lock, one at a time. */
#define SPACE_TREES 64
extern struct space_tree {
    struct spinlock lock; /* rank tree: shape of the trees that hash here, permissions and ranges of their nodes */
    u64 splits;           /* of nodes of these trees: children have moved, a walk that stopped half-way begins anew */
} __attribute__((aligned(64))) space_trees[SPACE_TREES];
static inline void space_tree_lock(u32 tree) { spin_lock(&space_trees[tree % SPACE_TREES].lock); }
static inline void space_tree_unlock(u32 tree) { spin_unlock(&space_trees[tree % SPACE_TREES].lock); }
static inline u64 *space_tree_splits(u32 tree) { return &space_trees[tree % SPACE_TREES].splits; }

/* A node with base, source, pd, parent, tree, type, order, perm, tables and barred of `like`, to be linked and indexed; into memory of a node. */
static inline void space_node_set(struct node *n, const struct node *like) {
    n->base = like->base;
    n->source = like->source;
    n->pd = like->pd;
    n->parent = like->parent;
    n->tree = like->tree;
    n->type = like->type;
    n->order = like->order;
    n->perm = like->perm;
    n->tables = like->tables;
    n->barred = like->barred;
    n->child = NULL;
}
/* Enters it: tables first, then the index and the tree. Tree lock and space lock held. BAD_MEM: n is freed. */
must_check enum abi_status space_node_install(struct node *n);
must_check enum abi_status space_object_install(struct node *n); /* the same for CRD_OBJ */
must_check enum abi_status space_pages_install(struct node *n);  /* for CRD_MEM */
/* What the host table gives its threads. */
static inline unsigned space_node_host_perm(const struct node *n) {
    return n->tables & NODE_NX ? n->perm & ~(unsigned)PERM_MEM_X : n->perm;
}
/* Enters n's range into further tables (NODE_GUEST, NODE_DMA). Tree lock held. BAD_MEM. */
must_check enum abi_status space_node_widen(struct node *n, unsigned tables);
/* A node for half of one that is split: charged to its PD even beyond the limit, or the PD could keep others from revoking. */
must_check struct node *space_node_alloc_forced(struct pd *pd);
static inline void space_node_link(struct node *n, struct node *parent) {
    n->parent = parent;
    n->prev = n->next = NULL;
    if (!parent)
        return;
    n->next = parent->child;
    if (n->next)
        n->next->prev = n;
    parent->child = n;
}

static inline void space_node_unlink(struct node *n) {
    if (n->next)
        n->next->prev = n->prev;
    if (n->prev)
        n->prev->next = n->next;
    else if (n->parent)
        n->parent->child = n->next;
}

/* Splits n, its node and its page-table leaves, so that [source, 2^order) is a node of its own: n becomes that part, its buddies
 * are new nodes. No descendant straddles the part any more. Tree lock held. BAD_MEM: nothing changed. */
must_check enum abi_status space_node_split(struct node *n, u64 source, unsigned order);

/* The same with all descendants that straddle the part, in bounded steps: call again until *done. */
must_check enum abi_status space_part_split(struct node *n, u64 source, unsigned order, bool *done);

/* Revokes in [lo, hi) of a space (space_revoke.c): a range that divides a node is one naturally aligned part of it.
 * `only`: not NULL: nothing if another node stands there. */
must_check enum space_result space_revoke_range(struct pd *pd, unsigned type, u64 lo, u64 hi, unsigned mask, bool self,
                                                const struct node *only, struct space_progress *p);
