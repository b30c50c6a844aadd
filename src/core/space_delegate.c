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
static unsigned tables_at(const struct delegation *g, u64 sel) {
    return sel >> 9 * ptab_dma_levels ? g->tables & ~(unsigned)NODE_DMA : g->tables;
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
    struct node *there = space_index_from(s, sel);
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
    u64 source = g->type == CRD_OBJ ? parent->source : parent->source + (g->from.base + g->pos - parent->base);
    assert(g->type == CRD_OBJ || !(source & ((1ul << order) - 1)));
    struct node *n = slab_take(&node_cache, &g->dst->account);
    if (!n)
        return NOVA_BAD_MEM;
    *n = (struct node){.base = sel,
                       .source = source,
                       .pd = g->dst,
                       .parent = parent,
                       .tree = parent->tree,
                       .type = (u8)g->type,
                       .order = (u8)order,
                       .perm = (u8)perm,
                       .tables = (u8)tables_at(g, sel)};
    enum abi_status status = space_node_install(n);
    if (status == NOVA_BAD_MEM)
        return status;
    g->flush |= g->type == CRD_MEM && space_is_flushing(s);
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
    enum abi_status status = space_node_widen(n, tables_at(g, n->base));
    g->work -= piece_work(g->type, n->order);
    if (status == NOVA_SUCCESS)
        g->pos = end;
    return status;
}

/* Goes on with the node at or after g->pos. */
static enum abi_status node_delegate(struct delegation *g) {
    struct space *from = space_of(g->src, g->type), *to = space_of(g->dst, g->type);
    u64 sel = g->from.base + g->pos, size = sel_range_size(g->from);
    g->work--;
    spin_lock(&from->lock);
    struct node *n = space_index_from(from, sel);
    if (!n || n->base >= g->from.base + size) {
        spin_unlock(&from->lock);
        g->pos = size;
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
static bool ranges_match(struct delegation *g, u64 hotspot) {
    if (g->type == CRD_PIO) {
        if (sel_range_has(g->to, g->from))
            g->to = g->from;
        else if (sel_range_has(g->from, g->to))
            g->from = g->to;
        else
            return false;
        return true;
    }
    struct sel_range *large = g->from.order > g->to.order ? &g->from : &g->to;
    unsigned order = g->from.order > g->to.order ? g->to.order : g->from.order;
    large->base += hotspot & (sel_range_size(*large) - 1) & ~((1ul << order) - 1);
    large->order = order;
    return true;
}

enum space_result space_delegate(struct pd *src, struct pd *dst, u64 crd, u64 item, u64 window, u64 *out,
                                 struct space_progress *p) {
    struct delegation g = {.src = (item & ITEM_H) && src->is_root ? &kernel_pd : src,
                           .dst = dst,
                           .type = CRD_TYPE(crd),
                           .mask = CRD_PERM(crd) & CRD_PERM(window),
                           .from = sel_range_of(crd),
                           .to = sel_range_of(window),
                           .pos = p->pos,
                           .work = space_step_work / 2};
    *out = 0;
    if (g.type == CRD_NULL || g.type != CRD_TYPE(window) || !g.mask || !ranges_match(&g, item >> 12))
        return SPACE_DONE;
    if (g.type != CRD_OBJ)
        g.tables = NODE_HOST | (item & ITEM_G ? NODE_GUEST : 0);
    if (g.type == CRD_MEM)
        g.tables |= (item & ITEM_D ? NODE_DMA : 0) | (item & ITEM_N ? NODE_NX : 0);
    *out = CRD_MAKE(g.type, g.to.base, g.to.order, g.mask);
    enum space_result result = SPACE_DONE;
    while (result == SPACE_DONE && g.pos < sel_range_size(g.from)) {
        if (node_delegate(&g) != NOVA_SUCCESS)
            result = SPACE_NOMEM;
        else if (g.work <= 0 && arch_preempt_pending())
            result = SPACE_AGAIN;
        if (g.work <= 0)
            g.work = space_step_work / 2;
    }
    p->pos = g.pos;
    unsigned flush = (g.flush ? NODE_TABLES : 0) | (g.tables & NODE_DMA); /* an IOMMU may cache what is not present */
    if (flush)
        shoot_down(dst, flush);
    return result;
}
