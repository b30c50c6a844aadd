#include "core/space_priv.h"
#include "arch/assert.h"
#include "arch/atomic.h"

/* A treap: ordered by base (nodes never overlap, so by every selector in them), heap by prio. Depth O(log n) with
 * priorities that selectors have no influence on. */

u32 space_index_prio(void) {
    static u64 counter;                                           /* atomic */
    u64 x = atomic_fetch_add(&counter, 1) * 0x9e3779b97f4a7c15ul; /* splitmix64 */
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
    x = (x ^ x >> 27) * 0x94d049bb133111ebul;
    return (u32)(x >> 32);
}

struct node *space_index_from(const struct space *s, u64 sel) {
    struct node *at = NULL, *above = NULL; /* with the last base up to sel, with the first beyond */
    for (struct node *n = s->root; n;)
        if (n->base == sel) {
            return n;
        } else if (n->base < sel) {
            at = n;
            n = n->right;
        } else {
            above = n;
            n = n->left;
        }
    return at && node_last(at) >= sel ? at : above;
}

void space_index_insert(struct space *s, struct node *n) {
    struct node **link = &s->root;
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
    n->left = n->right = NULL;
}
