#include "arch/assert.h"
#include "arch/cpu.h"
#include "core/shoot.h"
#include "core/space_priv.h"

struct delegation {
    struct pd *src, *dst;
    unsigned type, mask, tables;
    struct sel_range from, to; /* of the same order */
    u64 pos;                   /* selectors done */
    i64 work;                  /* left in this step, in leaf entries; a piece counts as at least eight */
    bool flush;                /* something was installed over translations not yet flushed */
};

/* Largest piece: no more than 512 leaves, so that mapping one is a bounded step. */
static unsigned piece_order_max(unsigned type) {
    return type == CRD_MEM ? ptab_max_leaf_order + 9 : type == CRD_OBJ ? 0 : 16;
}

static i64 piece_work(unsigned type, unsigned order) {
    unsigned leaf = order >= 18 && ptab_max_leaf_order >= 18 ? 18 : order >= 9 ? 9 : 0;
    i64 leaves = type == CRD_MEM ? 1l << (order - leaf) : 1;
    return leaves > 8 ? leaves : 8;
}

/* What lies beyond an IOMMU's addresses is for its PD and guests only. */
static unsigned tables_at(unsigned tables, u64 sel) {
    return tables & NODE_DMA && sel >> 9 * ptab_dma_levels ? tables & ~(unsigned)NODE_DMA : tables;
}

/* [sel, 2^order) of dst becomes a child of `parent`. Both locks held. BAD_MEM. */
FOR_TYPE enum abi_status piece_install(struct node *parent, unsigned type, u64 source, struct pd *dst, u64 sel,
                                       unsigned order, unsigned perm, unsigned tables) {
    assert(type == CRD_OBJ || !(source & ((1ul << order) - 1)));
    struct node *n = slab_take(&node_cache, &dst->account);
    if (unlikely(!n))
        return NOVA_BAD_MEM;
    space_node_set(n, &(struct node){.base = sel,
                                     .source = source,
                                     .pd = dst,
                                     .parent = parent,
                                     .tree = parent->tree,
                                     .type = (u8)type,
                                     .order = (u8)order,
                                     .perm = (u8)perm,
                                     .tables = (u8)tables_at(tables, sel)});
    return type == CRD_OBJ ? space_object_install(n) : type == CRD_MEM ? space_pages_install(n) : space_node_install(n);
}

/* Installs the next piece of `parent` at g->pos, or skips what is in the way; not beyond `end`. Both locks held. */
static enum abi_status piece_delegate(struct delegation *g, struct node *parent, unsigned perm, u64 end) {
    struct space *s = space_of(g->dst, g->type);
    u64 sel = g->to.base + g->pos;
    g->work--;
    if (sel >= space_limit(g->type) || atomic_load_rlx(&g->dst->obj.dead)) {
        g->pos = sel_range_size(g->to);
        return NOVA_SUCCESS;
    }
    end = min_u64(end, space_limit(g->type) - g->to.base);
    struct node *there = space_at(g->dst, g->type, sel);
    if (there && there->base <= sel) { /* occupied: stays as it is */
        g->pos = min_u64(end, node_last(there) + 1 - g->to.base);
        return NOVA_SUCCESS;
    }
    if (there)
        end = min_u64(end, there->base - g->to.base);
    unsigned order = (unsigned)(63 - __builtin_clzl(end - g->pos)), max = piece_order_max(g->type);
    if (sel && (unsigned)__builtin_ctzl(sel) < order)
        order = (unsigned)__builtin_ctzl(sel);
    order = order < max ? order : max;
    u64 source = parent->source + (g->type == CRD_OBJ ? 0 : g->from.base + g->pos - parent->base);
    if (piece_install(parent, g->type, source, g->dst, sel, order, perm, g->tables) == NOVA_BAD_MEM)
        return NOVA_BAD_MEM;
    g->flush |= g->type == CRD_MEM && s->flushing;
    g->work -= piece_work(g->type, order);
    g->pos += 1ul << order;
    return NOVA_SUCCESS;
}

/* Delegating a range to itself: its slots are occupied, by the very capabilities that are delegated. With G or D a PD makes its own
 * memory (at guest-physical = virtual address) and ports those of its guests and devices, as far as it passes on all its rights. */
static enum abi_status self_delegate(struct delegation *g, struct node *n, u64 end) {
    if (n->order > g->from.order) {
        bool done;
        enum abi_status status = space_part_split(n, n->source + (g->from.base - n->base), g->from.order, &done);
        if (status != NOVA_SUCCESS || !done) {
            g->work = 0; /* the position stays: goes on after the preemption point */
            return status;
        }
    }
    enum abi_status status = space_node_widen(n, tables_at(g->tables, n->base));
    g->work -= piece_work(g->type, n->order);
    if (status == NOVA_SUCCESS)
        g->pos = end;
    return status;
}

/* Goes on with the node at or after g->pos. */
static enum abi_status node_delegate(struct delegation *g) {
    struct space *from = space_of(g->src, g->type), *to = space_of(g->dst, g->type);
    u64 sel = g->from.base + g->pos, size = sel_range_size(g->from), next = sel;
    g->work -= g->type == CRD_OBJ ? SPACE_NEXT_WORK : 1;
    spin_lock(&from->lock);
    struct node *n = space_next(g->src, g->type, &next);
    if (!n || n->base >= g->from.base + size) {
        spin_unlock(&from->lock);
        g->pos = n ? size : min_u64(size, next - g->from.base);
        return NOVA_SUCCESS;
    }
    u64 base = n->base;
    u32 tree = n->tree;
    unsigned order = n->order;
    spin_unlock(&from->lock);

    enum abi_status status = NOVA_SUCCESS;
    space_tree_lock(tree); /* n may have gone or been split before this: then look again */
    if (n->perm && n->base == base && n->order == order) {
        u64 end = min_u64(size, node_last(n) + 1 - g->from.base);
        unsigned perm = n->perm & ~n->barred & g->mask;
        if (base > sel)
            g->pos = base - g->from.base;
        if (!perm || (n->tables & NODE_UTCB)) {
            g->pos = end;
        } else if (from == to && g->from.base == g->to.base) {
            if (perm == n->perm && (g->tables & ~n->tables))
                status = self_delegate(g, n, end);
            else
                g->pos = end;
        } else {
            spin_lock(&to->lock);
            do /* at least one, so that each step gets on */
                status = piece_delegate(g, n, perm, end);
            while (status == NOVA_SUCCESS && g->pos < end && g->work > 0);
            spin_unlock(&to->lock);
        }
    }
    space_tree_unlock(tree);
    return status;
}

/* Source and destination range by intersection and hotspot. False: ports that the window does not allow. */
FOR_TYPE bool ranges_match(unsigned type, struct sel_range *from, struct sel_range *to, u64 hotspot) {
    if (type == CRD_PIO) {
        if (sel_range_has(*to, *from))
            *to = *from;
        else if (sel_range_has(*from, *to))
            *from = *to;
        else
            return false;
        return true;
    }
    u64 order = min_u64(from->order, to->order);
    u64 spot = hotspot & ~((1ul << order) - 1);
    from->base += spot & (sel_range_size(*from) - 1); /* 0 for the smaller one */
    to->base += spot & (sel_range_size(*to) - 1);
    from->order = to->order = order;
    return true;
}

static inline void delegated_flush(const struct delegation *g) {
    unsigned flush = (g->flush ? NODE_TABLES : 0) | (g->tables & NODE_DMA); /* an IOMMU may cache what is not present */
    if (unlikely(flush))
        shoot_down(g->dst, flush);
}

/* False: nothing is to be delegated. Else *out is what the receiver sees. */
FOR_TYPE bool delegation_make(struct delegation *g, struct pd *src, struct pd *dst, unsigned type, u64 crd, u64 item,
                              u64 window, u64 *out) {
    g->src = unlikely(item & ITEM_H) && src->is_root ? &kernel_pd : src;
    g->dst = dst;
    g->type = type;
    g->mask = CRD_PERM(crd & window);
    g->tables = type == CRD_OBJ ? 0 : NODE_HOST;
    g->from = sel_range_of(type, crd);
    g->to = sel_range_of(type, window);
    if (type != CRD_TYPE(window) || !g->mask || !ranges_match(type, &g->from, &g->to, item >> 12))
        return false;
    if (type != CRD_OBJ && unlikely(item & (ITEM_G | ITEM_D | ITEM_N))) {
        g->tables |= item & ITEM_G ? NODE_GUEST : 0;
        if (type == CRD_MEM)
            g->tables |= (item & ITEM_D ? NODE_DMA : 0) | (item & ITEM_N ? NODE_NX : 0);
    }
    *out = CRD_MAKE(type, g->to.base, g->to.order, g->mask);
    return true;
}

enum space_result space_delegate_range(struct pd *src, struct pd *dst, u64 crd, u64 item, u64 window, u64 *out,
                                       struct space_progress *p) {
    struct delegation g;
    bool some = delegation_make(&g, src, dst, CRD_TYPE(crd), crd, item, window, out);
    enum space_result result = SPACE_DONE;
    g.pos = p->pos;
    g.work = space_step_work / 2;
    g.flush = false;
    while (some && result == SPACE_DONE && g.pos < sel_range_size(g.from)) {
        if (node_delegate(&g) != NOVA_SUCCESS)
            result = SPACE_NOMEM;
        else if (g.work <= 0 && arch_preempt_pending())
            result = SPACE_AGAIN;
        if (g.work <= 0)
            g.work = space_step_work / 2;
    }
    p->pos = g.pos;
    delegated_flush(&g);
    return result;
}

/* One selector of one node to a free one: there is nothing to split, to skip or to put off. */
FOR_TYPE enum space_result one_delegate(unsigned type, struct pd *src, struct pd *dst, u64 crd, u64 item, u64 window,
                                        u64 *out) {
    struct delegation g;
    if (!delegation_make(&g, src, dst, type, crd, item, window, out))
        return SPACE_DONE;
    u64 sel = g.from.base, to = g.to.base;
    if (to >= space_limit(type) || (g.src == dst && sel == to))
        return SPACE_RANGE;
    struct space *s = space_of(dst, type);
    struct node *n = space_find(g.src, type, sel);
    if (!n)
        return SPACE_RANGE;
    enum abi_status status = NOVA_SUCCESS;
    u32 tree = n->tree;
    space_tree_lock(tree); /* n may have gone or been split before this */
    unsigned perm = n->perm & ~n->barred & g.mask;
    bool one = perm && !(n->tables & NODE_UTCB) && sel_range_has(node_range(type, n), (struct sel_range){.base = sel});
    if (likely(one)) {
        spin_lock(&s->lock);
        one = space_range_free(dst, type, to, to) && !atomic_load_rlx(&dst->obj.dead);
        if (likely(one)) {
            u64 source = n->source + (type == CRD_OBJ ? 0 : sel - n->base);
            status = piece_install(n, type, source, dst, to, 0, perm, g.tables);
        }
        g.flush = type == CRD_MEM && s->flushing;
        spin_unlock(&s->lock);
    }
    space_tree_unlock(tree);
    if (unlikely(!one))
        return SPACE_RANGE;
    delegated_flush(&g);
    return status == NOVA_BAD_MEM ? SPACE_NOMEM : SPACE_DONE;
}

enum space_result space_delegate_one(struct pd *src, struct pd *dst, u64 crd, u64 item, u64 window, u64 *out) {
    *out = 0;
    if (CRD_TYPE(crd) == CRD_OBJ && !CRD_ORDER(crd))
        return one_delegate(CRD_OBJ, src, dst, crd, item, window, out);
    if (CRD_TYPE(crd) == CRD_MEM && !CRD_ORDER(crd))
        return one_delegate(CRD_MEM, src, dst, crd, item, window, out);
    return CRD_TYPE(crd) != CRD_NULL ? SPACE_RANGE : SPACE_DONE;
}
