#include "arch/assert.h"
#include "arch/atomic.h"
#include "core/abi.h"
#include "core/kmem.h"
#include "core/space.h"

/* Three levels of one page each: 8 + 9 + 9 bits. An entry packs a capability into one word, so that a reader sees object and
 * permissions of the same moment: pointer bits 0-47 (sign-extended) above, permissions in the low 16. */
#define LEAF_BITS 9
#define MID_BITS  9
static_assert(ABI_SEL_COUNT <= 1ul << (LEAF_BITS + MID_BITS + 9), "a root page suffices");

struct objtab_leaf {
    u64 cap[1 << LEAF_BITS]; /* atomic */
};
struct objtab_mid {
    struct objtab_leaf *leaf[1 << MID_BITS]; /* atomic */
};
struct objtab_root {
    struct objtab_mid *mid[512]; /* atomic */
};

static u64 *entry_find(const struct objtab *t, u64 sel) {
    struct objtab_root *root = atomic_load_acq(&t->root); /* pairs with the release in level_make */
    struct objtab_mid *mid = root ? atomic_load_acq(&root->mid[sel >> (LEAF_BITS + MID_BITS)]) : NULL;
    struct objtab_leaf *leaf = mid ? atomic_load_acq(&mid->leaf[sel >> LEAF_BITS & ((1 << MID_BITS) - 1)]) : NULL;
    return leaf ? &leaf->cap[sel & ((1 << LEAF_BITS) - 1)] : NULL;
}

struct cap objtab_lookup(const struct objtab *t, u64 sel) {
    u64 *entry = entry_find(t, sel % ABI_SEL_COUNT);
    u64 cap = entry ? atomic_load_acq(entry) : 0;
    return (struct cap){.obj = (struct kobj *)((i64)cap >> 16), .perm = cap & 0xffff};
}

/* The page that *slot points to, made if there is none. Two CPUs may try: one page stays. */
static void *level_make(void **slot, struct account *a) {
    void *page = atomic_load_acq(slot);
    if (page)
        return page;
    void *fresh = kmem_pages_alloc(a, 0);
    if (!fresh)
        return NULL;
    if (atomic_cas(slot, &page, fresh))
        return fresh;
    kmem_pages_free(a, fresh, 0);
    return page;
}

enum abi_status objtab_reserve(struct objtab *t, u64 sel, struct account *a) {
    sel %= ABI_SEL_COUNT;
    struct objtab_root *root = level_make(&t->root, a);
    struct objtab_mid *mid = root ? level_make((void **)&root->mid[sel >> (LEAF_BITS + MID_BITS)], a) : NULL;
    void *leaf = mid ? level_make((void **)&mid->leaf[sel >> LEAF_BITS & ((1 << MID_BITS) - 1)], a) : NULL;
    return leaf ? NOVA_SUCCESS : NOVA_BAD_MEM;
}

void objtab_set(struct objtab *t, u64 sel, struct kobj *obj, unsigned perm) {
    u64 *entry = entry_find(t, sel % ABI_SEL_COUNT);
    u64 cap = obj ? (u64)obj << 16 | perm : 0;
    assert(entry && perm <= 0xffff && (struct kobj *)((i64)cap >> 16) == obj);
    atomic_store_rel(entry, cap);
}

void objtab_free(struct objtab *t, struct account *a) {
    struct objtab_root *root = t->root;
    if (!root)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(root->mid); i++) {
        struct objtab_mid *mid = root->mid[i];
        if (!mid)
            continue;
        for (unsigned j = 0; j < ARRAY_SIZE(mid->leaf); j++)
            if (mid->leaf[j])
                kmem_pages_free(a, mid->leaf[j], 0);
        kmem_pages_free(a, mid, 0);
    }
    kmem_pages_free(a, root, 0);
    t->root = NULL;
}
