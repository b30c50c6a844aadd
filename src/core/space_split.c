#include "arch/assert.h"
#include "core/space_priv.h"

/* Splitting a node of order o around a part of order s:
 *
 *   |        buddy o-1        | buddy s+1 |part|b s|       o - s buddies, one of each order, and the part
 *
 * Descendants are naturally aligned in the same way, so each lies inside one piece (those that hold the part are split
 * before their parent). Nothing changes for anybody: same selectors, same permissions, same translations. */

static enum abi_status leaves_split(struct node *n, u64 base, unsigned order) {
    struct ptab *tables[] = {n->tables & NODE_HOST ? &n->pd->host : NULL, n->tables & NODE_GUEST ? &n->pd->guest : NULL,
                             n->tables & NODE_DMA ? &n->pd->dma : NULL};
    if (n->type != CRD_MEM || !(n->perm & PERM_MEM_R))
        return NOVA_SUCCESS;
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        if (!tables[i])
            continue;
        /* as for the nodes: a PD at its limit cannot keep others from revoking */
        struct account own = {0};
        tables[i]->account = &own;
        enum abi_status status = ptab_reserve(tables[i], base, order);
        tables[i]->account = &n->pd->account;
        account_force(&n->pd->account, own.used);
        if (status != NOVA_SUCCESS)
            return status;
    }
    return NOVA_SUCCESS;
}

/* n's children go to the piece that holds them. */
static void children_sort(struct node *n, u64 old_source, struct node *const *buddy) {
    u64 part = n->source - old_source;
    for (struct node *c = n->child, *next; c; c = next) {
        next = c->next;
        u64 apart = ((c->source - old_source) ^ part) >> n->order;
        if (!apart) {
            assert(c->order <= n->order);
            continue;
        }
        struct node *piece = buddy[63 - __builtin_clzl(apart)];
        assert(c->order <= piece->order);
        space_node_unlink(c);
        space_node_link(c, piece);
    }
}

enum abi_status space_node_split(struct node *n, u64 source, unsigned order) {
    struct node *buddy[52];
    unsigned count = n->order - order;
    u64 part = source - n->source, old_base = n->base, old_source = n->source;
    struct space *s = space_of(n->pd, n->type);
    assert(count && count < ARRAY_SIZE(buddy) && n->type != CRD_OBJ);
    for (unsigned i = 0; i < count; i++) {
        buddy[i] = space_node_alloc_forced(n->pd);
        if (buddy[i])
            continue;
        while (i)
            slab_free(&node_cache, &n->pd->account, buddy[--i]);
        return NOVA_BAD_MEM;
    }
    spin_lock(&s->lock);
    enum abi_status status = leaves_split(n, old_base + part, order);
    if (status == NOVA_SUCCESS) {
        space_index_remove(s, n);
        for (unsigned i = 0; i < count; i++) {
            u64 at = ((part >> (order + i)) ^ 1) << (order + i);
            struct node *b = buddy[i];
            space_node_set(b, n);
            b->base = old_base + at;
            b->source = old_source + at;
            b->order = (u8)(order + i);
            space_index_insert(s, b);
        }
        n->base = old_base + part;
        n->source = source;
        n->order = (u8)order;
        space_index_insert(s, n);
    }
    spin_unlock(&s->lock);
    if (status != NOVA_SUCCESS) {
        for (unsigned i = 0; i < count; i++)
            slab_free(&node_cache, &n->pd->account, buddy[i]);
        return status;
    }
    for (unsigned i = 0; i < count; i++)
        space_node_link(buddy[i], n->parent);
    children_sort(n, old_source, buddy);
    ++*space_tree_splits(n->tree);
    return NOVA_SUCCESS;
}
