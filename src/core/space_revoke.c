#include "arch/assert.h"
#include "arch/cpu.h"
#include "arch/vcpu.h"
#include "core/cpu.h"
#include "core/shoot.h"
#include "core/space_priv.h"

/* Revoke works in steps of bounded length under a tree lock, with a flush and a preemption point between them.
 *
 * Going down it bars the mask (nothing more is delegated from there), coming back up it removes it, children first. So a
 * child never has what its parent lacks, a node without the mask has nothing below it to do, and whatever stops a revoke
 * half-way leaves a good tree. All table changes of a step are flushed before the step's end: nobody returns to user mode
 * owing a flush. */

#define REDUCE_WORK 16 /* changing a node counts as looking at so many */
#define BATCH_PDS   8

struct batch_pd {
    struct pd *pd;
    unsigned tables; /* what to flush: NODE_* */
    struct page_list pages;
};
struct revoke {
    struct pd *pd;
    u64 lo, hi;
    unsigned type, mask;
    bool self;
    const struct node *only;
    struct space_progress *p;
    i64 work;   /* left in this step */
    bool moved; /* this call has removed something: it may stop */
    /* what a step has changed and not flushed yet */
    struct batch_pd batch[BATCH_PDS];
    unsigned batch_count;
    struct node *dead; /* chained by `left` */
    /* the subtree in work: descendants of `top` within its part [source, 2^order) */
    struct node *top;
    u64 top_base, source;
    unsigned top_order, order;
    u64 splits;             /* when (at, next) was left */
    struct node *at, *next; /* next child of `at` to look at; NULL: none left, `at` itself is due */
};

/* Odd while the CPU has changed tables and not flushed: a revoke that finds a node already reduced waits for that flush. */
static struct { u64 seq; /* atomic, written by its CPU */ } __attribute__((aligned(64))) flush_owed[ABI_MAX_CPUS];
static void flush_owed_step(void) {
    u64 *seq = &flush_owed[arch_cpu_self()->id].seq;
    atomic_store_rel(seq, *seq + 1);
}

static struct batch_pd *batch_find(struct revoke *v, struct pd *pd) {
    for (unsigned i = 0; i < v->batch_count; i++)
        if (v->batch[i].pd == pd)
            return &v->batch[i];
    if (v->batch_count == BATCH_PDS)
        return NULL;
    if (!v->batch_count++)
        flush_owed_step();
    v->batch[v->batch_count - 1] = (struct batch_pd){.pd = pd};
    return &v->batch[v->batch_count - 1];
}

static void node_free(struct rcu_head *h) { slab_free(&node_cache, NULL, container_of(h, struct node, rcu)); }

/* Both with no lock held. */
static inline void tables_flush(struct pd *pd, unsigned tables) {
    if (!tables)
        return;
    shoot_down(pd, tables);
    spin_lock(&pd->mem.lock);
    pd->mem.flushing--;
    spin_unlock(&pd->mem.lock);
}
FOR_TYPE void node_drop(struct node *n, unsigned type) {
    struct kobj *obj = (struct kobj *)n->source;
    u32 left = n->prio;
    rcu_call_later(&n->rcu, node_free);
    if (type == CRD_OBJ)
        kobj_cap_gone(obj, left);
}

static void batch_finish(struct revoke *v) {
    for (unsigned i = 0; i < v->batch_count; i++) { // cppcheck-suppress ctuuninitvar ; it is
        struct batch_pd *b = &v->batch[i];
        tables_flush(b->pd, b->tables);
        ptab_pages_free(&b->pages, &b->pd->account);
    }
    if (v->batch_count)
        flush_owed_step();
    v->batch_count = 0;
    while (v->dead) {
        struct node *n = v->dead;
        v->dead = n->left;
        node_drop(n, n->type);
    }
}

/* Waits until every flush that other CPUs owed when this was called is done. False: preempted, if it may be. */
static no_inline bool others_await(bool may_stop) {
    u64 seen[ABI_MAX_CPUS];
    unsigned self = arch_cpu_self()->id;
    for (unsigned i = 0; i < cpu_count; i++)
        seen[i] = atomic_load_acq(&flush_owed[i].seq);
    for (unsigned i = 0; i < cpu_count; i++)
        while (i != self && (seen[i] & 1) && atomic_load_acq(&flush_owed[i].seq) == seen[i]) {
            if (arch_preempt_pending() && may_stop)
                return false;
            arch_cpu_relax();
        }
    return true;
}
static inline bool others_flushed(bool may_stop) { return cpu_count == 1 || others_await(may_stop); }

static no_inline unsigned tables_reduce(struct node *n, struct page_list *freed) {
    struct pd *pd = n->pd;
    unsigned changed = 0;
    if ((n->tables & NODE_HOST) && ptab_unmap(&pd->host, n->base, n->order, space_node_host_perm(n), freed))
        changed |= NODE_HOST;
    if ((n->tables & NODE_GUEST) && ptab_unmap(&pd->guest, n->base, n->order, n->perm, freed))
        changed |= NODE_GUEST;
    if ((n->tables & NODE_DMA) && ptab_unmap(&pd->dma, n->base, n->order, n->perm, freed))
        changed |= NODE_DMA;
    return changed;
}

/* `tables`: what is to be flushed of its space already. */
static inline unsigned mem_reduce(struct node *n, unsigned tables, struct page_list *freed) {
    unsigned changed;
    if (likely((n->tables & NODE_TABLES) == NODE_HOST))
        changed = ptab_unmap(&n->pd->host, n->base, n->order, space_node_host_perm(n), freed) ? NODE_HOST : 0;
    else
        changed = tables_reduce(n, freed);
    if (changed && !tables)
        n->pd->mem.flushing++;
    return tables | changed;
}

static no_inline void pio_reduce(struct node *n) {
    enum abi_status status = NOVA_SUCCESS;
    if (n->tables & NODE_HOST)
        status = arch_space_ports(n->pd, (unsigned)n->base, 1u << n->order, false);
    assert(status == NOVA_SUCCESS);
    if (n->tables & NODE_GUEST)
        status = arch_guest_ports(n->pd, (unsigned)n->base, 1u << n->order, false);
    assert(status == NOVA_SUCCESS);
}

/* Removes the mask from one node. True: that was its last permission, and it is gone. Tree lock held. For memory, what is to be flushed in
 * its space and freed then. */
FOR_TYPE bool node_reduce(struct node *n, unsigned type, unsigned mask, unsigned *tables, struct page_list *freed) {
    struct space *s = space_of(n->pd, type);
    spin_lock(&s->lock);
    unsigned perm = n->perm & ~mask;
    n->perm = (u8)perm;
    n->barred &= (u8)perm;
    if (type == CRD_MEM)
        *tables = mem_reduce(n, *tables, freed);
    else if (type == CRD_OBJ)
        objtab_set(objtab_entry(&n->pd->objtab, n->base), perm ? (struct kobj *)n->source : NULL, perm, n);
    else if (!perm)
        pio_reduce(n);
    if (!perm && type == CRD_OBJ)
        s->objects--, n->prio = --((struct kobj *)n->source)->caps;
    else if (!perm)
        space_index_remove(s, n);
    spin_unlock(&s->lock);
    if (perm)
        return false;
    assert(!n->child);
    space_node_unlink(n);
    account_refund(&n->pd->account, node_cache.size);
    return true;
}

/* False: the batch is full. */
static bool step_reduce(struct revoke *v, struct node *n) {
    struct batch_pd *b = NULL;
    if (n->type == CRD_MEM && !(b = batch_find(v, n->pd)))
        return false;
    if (node_reduce(n, v->type, v->mask, b ? &b->tables : NULL, b ? &b->pages : NULL)) {
        n->left = v->dead;
        v->dead = n;
    }
    v->work -=
        REDUCE_WORK + (n->type == CRD_MEM ? 3l << (n->order < 9 ? n->order : 9) : 0); /* leaves in three tables */
    v->moved = true;
    return true;
}

static bool in_part(const struct revoke *v, const struct node *n) {
    return v->type == CRD_OBJ || (n->source >> v->order == v->source >> v->order && n->order <= v->order);
}

static bool straddles(const struct revoke *v, const struct node *n) {
    return v->type != CRD_OBJ && n->order > v->order && n->source >> n->order == v->source >> n->order;
}

static bool overlaps(const struct revoke *v, const struct node *n) {
    return v->type == CRD_OBJ || !((n->source ^ v->source) >> (n->order > v->order ? n->order : v->order));
}

/* Splits every descendant of top that holds the part and more, deepest first, then (self) top. Tree lock held; BAD_MEM.
 * When the step is over before that: what is split stays split, so starting again goes on. */
static enum abi_status part_split(struct revoke *v, bool *done) {
    struct node *n = v->top, *c = n->child;
    for (;;) {
        bool stays = n == v->top && !v->self; /* then children that have nothing to lose may stay whole too */
        while (c && !(straddles(v, c) && (!stays || (c->perm & v->mask))))
            c = c->next;
        if (c) {
            n = c;
            c = n->child;
            continue;
        }
        bool top = n == v->top;
        struct node *up = n->parent, *next = n->next;
        if (n->order > v->order && !stays) {
            enum abi_status status = space_node_split(n, v->source, v->order);
            if (status != NOVA_SUCCESS)
                return status;
            v->work -= REDUCE_WORK;
            v->moved = true;
        }
        if (top) {
            v->top_base = n->base;
            v->top_order = n->order;
        }
        *done = top;
        if (top || v->work <= 0)
            return NOVA_SUCCESS;
        n = up;
        c = next;
    }
}

enum abi_status space_part_split(struct node *n, u64 source, unsigned order, bool *done) {
    struct revoke v = {.type = n->type,
                       .mask = 0xff,
                       .self = true,
                       .work = space_step_work,
                       .top = n,
                       .source = source,
                       .order = order};
    return part_split(&v, done);
}

/* Walks the part from (at, next) on. Tree lock held. True: done, false: the step is over. */
static bool part_walk(struct revoke *v) {
    while (v->work > 0) {
        v->work--;
        struct node *c = v->next;
        if (c && !(in_part(v, c) && (c->perm & v->mask))) {
            v->next = c->next;
        } else if (c) {
            c->barred |= (u8)(c->perm & v->mask);
            v->at = c;
            v->next = c->child;
        } else {
            struct node *n = v->at, *up = n->parent, *next = n->next;
            if (n == v->top && !v->self)
                return true;
            if (!step_reduce(v, n))
                return false;
            if (n == v->top)
                return true;
            v->at = up;
            v->next = next;
        }
    }
    return false;
}

/* Between two steps: everything flushed, pending interrupts let in. True: a preemption is pending, and something is done already. */
static bool step_end(struct revoke *v) {
    batch_finish(v);
    v->work = space_step_work;
    return arch_preempt_pending() && v->moved;
}

/* After a gap without the lock. False: top is gone or has another range: look for what is there now. */
static bool cursor_check(struct revoke *v) {
    const struct node *top = v->top;
    if (!top->perm || top->base != v->top_base || top->order != v->top_order)
        return false;
    if (!v->at->perm || *space_tree_splits(top->tree) != v->splits) {
        /* gone with all below it, or siblings have come and moved: from the top again, what is done is skipped */
        v->at = v->top;
        v->next = v->top->child;
    } else if (v->next && (!v->next->perm || v->next->parent != v->at)) {
        v->next = v->at->child;
    }
    return true;
}

/* The node at or after the position. False: none so far, the position has moved on. */
static bool top_find(struct revoke *v) {
    u64 sel = v->lo + v->p->pos; // cppcheck-suppress ctuuninitvar ; the batch is
    struct space *s = space_of(v->pd, v->type);
    spin_lock(&s->lock);
    struct node *n = space_next(v->pd, v->type, &sel);
    bool found = n && n->base < v->hi && (!v->only || n == v->only);
    if (found)
        v->top = n, v->top_base = n->base, v->top_order = n->order;
    else
        v->p->pos = (n ? v->hi : min_u64(v->hi, sel)) - v->lo;
    spin_unlock(&s->lock);
    v->moved |= !found;
    v->work -= v->type == CRD_OBJ ? SPACE_NEXT_WORK : 1;
    return found;
}

/* The part of top that is in the range: all of it, or (then it is the whole range) an aligned part. */
static void part_set(struct revoke *v) {
    const struct node *n = v->top;
    bool whole = n->base >= v->lo && node_last(n) < v->hi;
    v->order = whole ? n->order : (unsigned)__builtin_ctzl(v->hi - v->lo);
    v->source = n->type == CRD_OBJ || whole ? n->source : n->source + (v->lo - n->base);
}

/* All of one top node's part. False (SPACE_DONE): top changed meanwhile, position unchanged. */
static enum space_result top_revoke(struct revoke *v, bool *done) {
    u32 tree = v->top->tree; /* never changes, and the node is not freed before we leave the kernel */
    bool split = false;
    *done = false;
    space_tree_lock(tree);
    if (!v->top->perm || v->top->base != v->top_base || v->top->order != v->top_order) {
        space_tree_unlock(tree);
        return SPACE_DONE;
    }
    part_set(v);
    for (;;) {
        if (!(v->top->perm & v->mask))
            break; /* then nothing below has it either */
        if (!split) {
            if (part_split(v, &split) != NOVA_SUCCESS) {
                space_tree_unlock(tree);
                return SPACE_NOMEM;
            }
            v->at = v->top;
            v->next = v->top->child;
            if (split && v->self)
                v->top->barred |= (u8)(v->top->perm & v->mask);
        }
        if (split && part_walk(v))
            break;
        v->splits = *space_tree_splits(tree);
        space_tree_unlock(tree);
        if (step_end(v))
            return SPACE_AGAIN;
        space_tree_lock(tree);
        if (!cursor_check(v)) {
            space_tree_unlock(tree);
            return SPACE_DONE;
        }
    }
    space_tree_unlock(tree);
    *done = true;
    return SPACE_DONE;
}

enum space_result space_revoke_range(struct pd *pd, unsigned type, u64 lo, u64 hi, unsigned mask, bool self,
                                     const struct node *only, struct space_progress *p) {
    struct revoke v;
    v.pd = pd;
    v.lo = lo, v.hi = hi;
    v.type = type, v.mask = mask, v.self = self, v.only = only, v.p = p;
    v.work = space_step_work;
    v.moved = false;
    v.batch_count = 0;
    v.dead = NULL;
    enum space_result result = SPACE_DONE;
    while (result == SPACE_DONE && lo + p->pos < hi) {
        bool done = false;
        if (top_find(&v))
            result = top_revoke(&v, &done);
        if (done) {
            v.moved = true;
            p->pos = min_u64(hi, v.top_base + (1ul << v.top_order)) - lo;
        }
        if (result == SPACE_DONE && v.work <= 0 && lo + p->pos < hi && step_end(&v))
            result = SPACE_AGAIN;
    }
    batch_finish(&v);
    if (result == SPACE_DONE && type == CRD_MEM && !others_flushed(!only)) /* a UTCB's: what is pending waits for it */
        result = SPACE_AGAIN;
    return result;
}

/* The only node that changes: top without children, or its only child that has anything to lose, without children; one object or page. False:
 * there are more. */
FOR_TYPE bool leaf_find(const struct revoke *v, struct node **out) {
    struct node *top = v->top, *n = v->self ? top : NULL; // cppcheck-suppress ctuuninitvar ; the batch is
    if (v->self && (top->child || (v->type != CRD_OBJ && top->order)))
        return false;
    for (struct node *c = top->child; c; c = c->next)
        if (c->perm & v->mask && overlaps(v, c)) {
            if (n || c->child || (v->type != CRD_OBJ && c->order))
                return false;
            n = c;
        }
    *out = n;
    return true;
}

/* What most revokes are: within one node, and one node changes. A walk with one step, which cannot fail and frees no tables. False: it is not so,
 * and nothing is done. */
FOR_TYPE bool leaf_revoke(struct pd *pd, unsigned type, u64 crd, bool self) {
    struct revoke v;
    struct sel_range r = sel_range_of(type, crd);
    struct node *top = space_find(pd, type, r.base), *n = NULL;
    if (!top)
        return false;
    u32 tree = top->tree; /* never changes, and the node is not freed before we leave the kernel */
    bool gone = false;
    unsigned tables = 0;
    space_tree_lock(tree);
    v.top = top, v.type = type, v.mask = CRD_PERM(crd), v.self = self, v.order = r.order;
    v.source = type == CRD_OBJ ? 0 : top->source + (r.base - top->base);
    bool leaf = top->perm && sel_range_has(node_range(type, top), r) && leaf_find(&v, &n);
    if (leaf && n) {
        if (type == CRD_MEM)
            flush_owed_step();
        gone = node_reduce(n, type, v.mask, &tables, NULL);
    }
    space_tree_unlock(tree);
    if (type == CRD_MEM && n) {
        tables_flush(n->pd, tables);
        flush_owed_step();
    }
    if (gone)
        node_drop(n, type);
    return leaf;
}
enum space_result space_revoke(struct pd *pd, u64 crd, bool self, struct space_progress *p) {
    unsigned type = CRD_TYPE(crd);
    if (type == CRD_NULL || !CRD_PERM(crd))
        return SPACE_DONE;
    if (type == CRD_OBJ && leaf_revoke(pd, CRD_OBJ, crd, self))
        return SPACE_DONE;
    if (type == CRD_MEM && leaf_revoke(pd, CRD_MEM, crd, self))
        return others_flushed(true) ? SPACE_DONE : SPACE_AGAIN;
    struct sel_range r = sel_range_of(type, crd);
    return space_revoke_range(pd, type, r.base, r.base + sel_range_size(r), CRD_PERM(crd), self, NULL, p);
}

enum space_result space_clear(struct pd *pd, struct space_progress *p) {
    for (; p->step < 3; p->step++, p->pos = 0) {
        enum space_result r =
            space_revoke_range(pd, CRD_MEM + p->step, 0, space_limit(CRD_MEM + p->step), 0xff, true, NULL, p);
        if (r != SPACE_DONE)
            return r;
    }
    /* Nothing is installed any more (obj.dead): empty tables go, the roots stay loadable until the shell is freed. */
    struct page_list pages = {0};
    spin_lock(&pd->mem.lock);
    bool changed = ptab_unmap(&pd->host, 0, 35, 0, &pages);
    changed |= ptab_unmap(&pd->guest, 0, 36, 0, &pages);
    changed |= ptab_unmap(&pd->dma, 0, 36, 0, &pages);
    spin_unlock(&pd->mem.lock);
    if (changed)
        shoot_down(pd, NODE_TABLES);
    ptab_pages_free(&pages, &pd->account);
    return SPACE_DONE;
}
