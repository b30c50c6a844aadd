#include "core/space_priv.h"
#include "arch/assert.h"

/* A treap: ordered by base (nodes never overlap, so by every selector in them), heap by prio: a hash of the base, so that its shape depends on
 * what is in it and not on how that came, and the depth is O(log n) unless somebody chooses his selectors by the hash: then O(sqrt) of them. */
static u32 prio_of(u64 base) { /* splitmix64, shortened */
    u64 x = (base + 1) * 0x9e3779b97f4a7c15ul;
    return (u32)((x ^ x >> 32) * 0xbf58476d1ce4e5b9ul >> 32);
}

struct node *space_index_from(const struct space *s, u64 sel) {
    struct node *at = NULL, *above = NULL; /* with the last base up to sel, with the first beyond */
    for (struct node *n = s->root; n;) {
        u64 base = n->base;
        if (base > sel) {
            above = n;
            n = n->left;
        } else if (base < sel) {
            at = n;
            n = n->right;
        } else {
            return n;
        }
    }
    return at && node_last(at) >= sel ? at : above;
}

struct node *space_next(const struct pd *pd, unsigned type, u64 *sel) {
    if (type != CRD_OBJ) {
        struct node *n = space_index_from(&pd->spaces[type - CRD_MEM], *sel);
        *sel = ~0ul;
        return n;
    }
    u64 at = *sel;
    for (unsigned i = 0; pd->caps.objects && at < ABI_SEL_COUNT && i < 256; i++) {
        const union objtab_page *mid = pd->objtab.root->below[at >> 17], *page = mid->below[at >> 8 & 511];
        if (page->node[at & 255])
            return page->node[at & 255];
        at = (at | (mid == &objtab_empty[1] ? 0x1ffff : page == &objtab_empty[0] ? 0xff : 0)) + 1;
    }
    *sel = pd->caps.objects && at < ABI_SEL_COUNT ? at : ~0ul;
    return NULL;
}

void space_index_insert(struct space *s, struct node *n) {
    struct node **link = &s->root;
    n->prio = prio_of(n->base);
    while (*link && (*link)->prio >= n->prio)
        link = n->base < (*link)->base ? &(*link)->left : &(*link)->right;
    struct node *rest = *link, **below = &n->left, **above = &n->right;
    *link = n;
    while (rest)
        if (rest->base < n->base) {
            *below = rest;
            below = &rest->right;
            rest = rest->right;
        } else {
            *above = rest;
            above = &rest->left;
            rest = rest->left;
        }
    *below = *above = NULL;
}

void space_index_remove(struct space *s, struct node *n) {
    struct node **link = &s->root;
    while (*link != n) {
        assert(*link);
        link = n->base < (*link)->base ? &(*link)->left : &(*link)->right;
    }
    struct node *below = n->left, *above = n->right;
    while (below && above)
        if (below->prio > above->prio) {
            *link = below;
            link = &below->right;
            below = below->right;
        } else {
            *link = above;
            link = &above->left;
            above = above->left;
        }
    *link = below ? below : above;
    if (s->recent == n)
        s->recent = NULL;
}
