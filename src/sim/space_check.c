#include "arch/assert.h"
#include "core/space_priv.h"
#include "sim/internal.h"

/* Meant for quiet moments: takes locks one at a time, so a running revoke or delegation would show half its work. */

static void table_check(const struct node *n, const struct ptab *t, bool wanted) {
    u64 step = n->order > 9 ? 1ul << (n->order - 9) : 1; /* all pages of a small node, a sample of a large one */
    for (u64 i = 0; i < 1ul << n->order; i += step) {
        u64 pfn = 0;
        unsigned perm = 0;
        bool mapped = ptab_lookup(t, n->base + i, &pfn, &perm);
        if (!wanted || !(n->perm & PERM_MEM_R)) {
            assert(!mapped);
            continue;
        }
        unsigned want = t->kind == PTAB_DMA ? n->perm & ~(unsigned)PERM_MEM_X : n->perm;
        assert(mapped && pfn == n->source + i && perm == want);
    }
}

static void node_check(const struct node *n) {
    const struct node *up = n->parent;
    assert(n->perm && !(n->base & ((1ul << n->order) - 1)));
    assert(n->type == CRD_OBJ || !(n->source & ((1ul << n->order) - 1)));
    if (up) {
        assert(up->perm && !(n->perm & ~up->perm) && up->tree == n->tree && up->type == n->type);
        assert(n->type == CRD_OBJ ? n->source == up->source
                                  : n->order <= up->order && n->source >> up->order == up->source >> up->order);
        assert(n->prev ? n->prev->next == n : up->child == n);
    }
    for (const struct node *c = n->child; c; c = c->next)
        assert(c->parent == n);
    if (n->type == CRD_MEM) {
        table_check(n, &n->pd->host, n->tables & NODE_HOST);
        table_check(n, &n->pd->guest, n->tables & NODE_GUEST);
        table_check(n, &n->pd->dma, n->tables & NODE_DMA);
    } else if (n->type == CRD_OBJ) {
        struct cap cap = objtab_lookup(&n->pd->objtab, n->base);
        assert(cap.obj == node_object(n) && cap.perm == n->perm);
    }
}

void sim_space_check(struct pd *pd) {
    for (unsigned type = CRD_MEM; type <= CRD_OBJ; type++) {
        struct space *s = space_of(pd, type);
        struct node *n;
        for (u64 sel = 0; (n = space_index_from(s, sel)); sel = node_last(n) + 1) {
            assert(n->pd == pd && n->type == type && n->base >= sel);
            node_check(n);
        }
    }
}
