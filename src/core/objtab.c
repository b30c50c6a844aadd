#include "arch/assert.h"
#include "arch/mem.h"
#include "core/abi.h"
#include "core/kmem.h"
#include "core/space.h"

static_assert(ABI_SEL_COUNT == 1ul << 26, "three levels");
#define ALL(n) [0 ... 511] = (union objtab_page *)&objtab_empty[n]
const union objtab_page objtab_empty[3] = {[1] = {.below = {ALL(0)}}, [2] = {.below = {ALL(1)}}};

/* The page of `level` that *slot points to, made if there is none. The lock of the space is held. */
static union objtab_page *level_make(union objtab_page **slot, unsigned level, struct account *a) {
    union objtab_page *page = atomic_load_rlx(slot);
    if (page != &objtab_empty[level])
        return page;
    page = kmem_pages_alloc(a, 0);
    if (!page)
        return NULL;
    memcpy(page, &objtab_empty[level], PAGE_SIZE);
    atomic_store_rel(slot, page); /* pairs with objtab_entry */
    return page;
}

u64 *objtab_make(struct objtab *t, u64 sel, struct account *a) {
    union objtab_page *root = level_make(&t->root, 2, a);
    union objtab_page *mid = root ? level_make(&root->below[sel >> 17 & 511], 1, a) : NULL;
    union objtab_page *page = mid ? level_make(&mid->below[sel >> 8 & 511], 0, a) : NULL;
    return page ? &page->cap[sel & 255] : NULL;
}

static void level_free(union objtab_page *page, unsigned level, struct account *a) {
    if (page != &objtab_empty[level])
        kmem_pages_free(a, page, 0);
}

void objtab_free(struct objtab *t, struct account *a) {
    union objtab_page *root = t->root;
    for (unsigned i = 0; i < 512; i++) {
        union objtab_page *mid = root->below[i];
        for (unsigned j = 0; mid != &objtab_empty[1] && j < 512; j++)
            level_free(mid->below[j], 0, a);
        level_free(mid, 1, a);
    }
    level_free(root, 2, a);
    *t = OBJTAB_INIT;
}
