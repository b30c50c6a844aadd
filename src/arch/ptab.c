#include "arch/ptab.h"
#include "arch/assert.h"
#include "arch/atomic.h"
#include "arch/mem.h"
#include "arch/mtrr.h"
#include "core/abi.h"
#include "core/kmem.h"

/* Levels count from the leaves: an entry of level l covers 2^(9l) pages; the root table holds entries of level 3, or
 * (ptab_dma_levels) 2. */
#define LEVELS    4u
#define ENTRIES   512u
#define ADDR_MASK 0x000ffffffffff000ul
#define LARGE     (1ul << 7) /* every format: this entry of level 1 or 2 is a leaf */
#define PRESENT   1ul        /* every format: a table, or a readable leaf */
#define USER_HALF 256u       /* entries of a host root table that are not the kernel's */

/* The bits in which the formats differ. An entry without read permission is 0 in all of them: x86 has no write-only
 * or execute-only pages, and execute-only EPT entries are not always supported. */
struct ptab_format {
    u64 link; /* entry that refers to a table */
    u64 leaf; /* readable leaf */
    u64 write, exec, no_exec;
    unsigned type_shift;   /* of the memory type in a leaf; 0: the MTRRs are asked by the processor itself */
    unsigned root_entries; /* that belong to the owner */
};
static const struct ptab_format formats[] = {
    /* Intel SDM vol 3 table 4-20: P 0, RW 1, US 2, NX 63 */
    [PTAB_HOST] = {.link = 7, .leaf = 5, .write = 2, .no_exec = 1ul << 63, .root_entries = USER_HALF},
    /* AMD APM vol 2 15.25.5: nested walks are user accesses, so US is always set */
    [PTAB_NPT] = {.link = 7, .leaf = 5, .write = 2, .no_exec = 1ul << 63, .root_entries = ENTRIES},
    /* Intel SDM vol 3 table 29-7: R 0, W 1, X 2, memory type 3-5 */
    [PTAB_EPT] = {.link = 7, .leaf = 1, .write = 2, .exec = 4, .type_shift = 3, .root_entries = ENTRIES},
    /* Intel VT-d 9.8: R 0, W 1 */
    [PTAB_DMA] = {.link = 3, .leaf = 1, .write = 2, .root_entries = ENTRIES},
};
unsigned ptab_max_leaf_order = 9, ptab_dma_levels = LEVELS;

static unsigned levels(const struct ptab *t) { return t->kind == PTAB_DMA ? ptab_dma_levels : LEVELS; }
static unsigned level_order(unsigned level) { return 9 * level; }
static unsigned level_index(u64 vpn, unsigned level) { return (unsigned)(vpn >> level_order(level)) % ENTRIES; }
static bool level_may_leaf(unsigned level) { return level_order(level) <= ptab_max_leaf_order; }
static bool entry_is_leaf(u64 e, unsigned level) { return e && (level == 0 || (e & LARGE)); }
static bool entry_is_link(u64 e, unsigned level) { return e && level && !(e & LARGE); }
static u64 *entry_table(u64 e) { return arch_phys_ptr(PADDR(e & ADDR_MASK)); }
static u64 entry_pfn(u64 e) { return (e & ADDR_MASK) >> PAGE_SHIFT; }
/* The table a root address or a link refers to. Only the holder of the space's lock writes, so plain loads suffice. */
static u64 *root_table(const struct ptab *t) { return arch_phys_ptr(t->root); }

static inline u64 leaf_make(const struct ptab_format *f, u64 pfn, unsigned perm, unsigned level) {
    if (!(perm & PERM_MEM_R))
        return 0;
    u64 type = f->type_shift ? mtrr_type(pfn << PAGE_SHIFT, PAGE_SIZE << level_order(level)) << f->type_shift : 0;
    return pfn << PAGE_SHIFT | f->leaf | type | (perm & PERM_MEM_W ? f->write : 0) |
           (perm & PERM_MEM_X ? f->exec : f->no_exec) | (level ? LARGE : 0);
}

static unsigned leaf_perm(const struct ptab_format *f, u64 e) {
    bool exec = f->exec ? (e & f->exec) != 0 : f->no_exec && !(e & f->no_exec);
    return PERM_MEM_R | (e & f->write ? PERM_MEM_W : 0) | (exec ? PERM_MEM_X : 0);
}

/* An IOMMU may walk memory past the caches (VT-d 4.0, 3.8 "Root and Context Entry Coherency", ECAP.C). */
static void table_clean(const struct ptab *t, const void *table) {
    if (t->kind == PTAB_DMA)
        arch_cache_clean(table, PAGE_SIZE);
}
static void entry_store(const struct ptab *t, u64 *entry, u64 v) {
    atomic_store_rel(entry, v);
    if (t->kind == PTAB_DMA)
        arch_cache_clean(entry, sizeof(*entry));
}

/* A place in the tree: the entry of `level` that covers a page. */
struct place { /* small enough for two registers */
    u64 *entry;
    unsigned level;
};

/* Descends towards vpn while there are tables and the entry covers more than 2^order pages. */
static struct place place_find(const struct ptab *t, u64 vpn, unsigned order) {
    unsigned level = levels(t) - 1, shift = level_order(level);
    for (u64 *table = root_table(t);; level--, shift -= 9) {
        u64 *entry = &table[(vpn >> shift) % ENTRIES], value = *entry;
        if (shift <= order || !value || (value & LARGE))
            return (struct place){entry, level};
        table = entry_table(value);
    }
}

/* The entry of one page of a host table if there are tables down to it, as most often: else NULL. */
static inline u64 *page_entry(const struct ptab *t, u64 vpn) {
    u64 *table = root_table(t);
    if (unlikely(t->kind != PTAB_HOST || !t->root.v))
        return NULL;
#pragma GCC unroll 3
    for (unsigned level = LEVELS - 1; level; level--) {
        u64 value = table[level_index(vpn, level)];
        if (unlikely((value & (LARGE | PRESENT)) != PRESENT))
            return NULL;
        table = entry_table(value);
    }
    return &table[vpn % ENTRIES];
}

/* Puts a table below an entry that has none: empty, or the same translation as a large leaf in finer pieces. The table is
 * complete before the one store that makes it visible. */
static bool place_refine(const struct ptab *t, struct place p) {
    u64 *table = kmem_pages_alloc(t->account, 0), value = *p.entry;
    if (!table)
        return false;
    if (value) {
        u64 step = PAGE_SIZE << level_order(p.level - 1), leaf = p.level == 1 ? value & ~LARGE : value;
        for (unsigned i = 0; i < ENTRIES; i++)
            table[i] = leaf + i * step;
    }
    table_clean(t, table);
    entry_store(t, p.entry, arch_ptr_phys(table).v | formats[t->kind].link);
    return true;
}

/* Pages to go over at the place, at most what is left of a range of `left` pages. */
static u64 place_extent(struct place p, u64 vpn, u64 left) {
    u64 size = 1ul << level_order(p.level);
    return min_u64(size - (vpn & (size - 1)), left);
}

enum abi_status ptab_root(struct ptab *t) {
    void *root = t->root.v ? NULL : kmem_pages_alloc(t->account, 0);
    if (root) {
        table_clean(t, root);
        t->root = arch_ptr_phys(root);
    }
    return t->root.v ? NOVA_SUCCESS : NOVA_BAD_MEM;
}

enum abi_status ptab_reserve(struct ptab *t, u64 vpn, unsigned order) {
    if (ptab_root(t) != NOVA_SUCCESS)
        return NOVA_BAD_MEM;
    for (u64 end = vpn + (1ul << order); vpn < end;) {
        struct place p = place_find(t, vpn, order);
        bool whole = level_order(p.level) <= order;
        if (whole && level_may_leaf(p.level))
            vpn += place_extent(p, vpn, end - vpn); /* a leaf fits, or finer tables stand there already */
        else if (whole && entry_is_link(*p.entry, p.level))
            order = level_order(p.level - 1); /* too big for a leaf: the same for each finer part */
        else if (!place_refine(t, p))
            return NOVA_BAD_MEM;
    }
    return NOVA_SUCCESS;
}

void ptab_map(struct ptab *t, u64 vpn, u64 pfn, unsigned order, unsigned perm) {
    const struct ptab_format *f = &formats[t->kind];
    u64 end = vpn + (1ul << order);
    unsigned part = order < ptab_max_leaf_order ? order : ptab_max_leaf_order;
    assert(!(vpn & ((1ul << order) - 1)) && !(pfn & ((1ul << order) - 1)));
    while (vpn < end) {
        struct place p = place_find(t, vpn, part);
        while (entry_is_link(*p.entry, p.level)) { /* finer tables stay: replacing them would need a flush */
            p.level--;
            p.entry = &entry_table(*p.entry)[level_index(vpn, p.level)];
        }
        assert(level_order(p.level) <= part);
        entry_store(t, p.entry, leaf_make(f, pfn, perm, p.level));
        vpn += 1ul << level_order(p.level);
        pfn += 1ul << level_order(p.level);
    }
}

static no_inline enum abi_status range_enter(struct ptab *t, u64 vpn, u64 pfn, unsigned order, unsigned perm) {
    if (ptab_reserve(t, vpn, order) != NOVA_SUCCESS)
        return NOVA_BAD_MEM;
    ptab_map(t, vpn, pfn, order, perm);
    return NOVA_SUCCESS;
}

enum abi_status ptab_enter(struct ptab *t, u64 vpn, u64 pfn, unsigned order, unsigned perm) {
    u64 *page = order ? NULL : page_entry(t, vpn);
    if (unlikely(!page))
        return range_enter(t, vpn, pfn, order, perm);
    atomic_store_rel(page, leaf_make(&formats[PTAB_HOST], pfn, perm, 0));
    return NOVA_SUCCESS;
}

static void page_push(struct page_list *l, u64 *page) {
    /* A walker may still come here until the flush: a page-aligned pointer is a not-present entry in every format. */
    atomic_store_rel(&page[0], (u64)l->head);
    l->head = page;
}

/* Takes the table below an unlinked entry of `level` with everything under it. */
static void tables_collect(u64 link, unsigned level, struct page_list *freed) {
    struct {
        u64 *table;
        unsigned next;
    } stack[LEVELS];
    stack[level].table = entry_table(link);
    stack[level].next = 0;
    for (unsigned top = level; top <= level;) { /* stack[l]: a table with entries of level l - 1 */
        u64 *table = stack[top].table;
        unsigned i = stack[top].next++;
        if (top == 1 || i == ENTRIES) {
            page_push(freed, table);
            top++;
        } else if (entry_is_link(table[i], top - 1)) {
            top--;
            stack[top].table = entry_table(table[i]);
            stack[top].next = 0;
        }
    }
}

/* What is left of a leaf. */
static inline u64 leaf_less(const struct ptab_format *f, u64 value, unsigned level, unsigned keep_perm) {
    if (!value || !(keep_perm & PERM_MEM_R))
        return 0;
    unsigned perm = leaf_perm(f, value);
    return perm & ~keep_perm ? leaf_make(f, entry_pfn(value), perm & keep_perm, level) : value;
}

static no_inline bool range_unmap(struct ptab *t, u64 vpn, unsigned order, unsigned keep_perm,
                                  struct page_list *freed) {
    bool changed = false, keep = keep_perm & PERM_MEM_R;
    if (!t->root.v)
        return false;
    for (u64 end = min_u64(vpn + (1ul << order), 1ul << level_order(levels(t))); vpn < end;) {
        struct place p = place_find(t, vpn, order);
        if (keep)
            while (entry_is_link(*p.entry, p.level)) {
                p.level--;
                p.entry = &entry_table(*p.entry)[level_index(vpn, p.level)];
            }
        u64 value = *p.entry;
        if (entry_is_link(value, p.level)) {
            entry_store(t, p.entry, 0);
            tables_collect(value, p.level, freed);
            changed = true;
        } else if (entry_is_leaf(value, p.level)) {
            assert(level_order(p.level) <= order); /* ptab_reserve has split what is larger */
            u64 less = leaf_less(&formats[t->kind], value, p.level, keep_perm);
            if (less != value) {
                entry_store(t, p.entry, less);
                changed = true;
            }
        }
        vpn += place_extent(p, vpn, end - vpn);
    }
    return changed;
}

bool ptab_unmap(struct ptab *t, u64 vpn, unsigned order, unsigned keep_perm, struct page_list *freed) {
    u64 *page = order ? NULL : page_entry(t, vpn);
    if (unlikely(!page))
        return range_unmap(t, vpn, order, keep_perm, freed);
    u64 value = *page, less = leaf_less(&formats[PTAB_HOST], value, 0, keep_perm);
    if (less == value)
        return false;
    atomic_store_rel(page, less);
    return true;
}

bool ptab_lookup(const struct ptab *t, u64 vpn, u64 *pfn, unsigned *perm) {
    if (!t->root.v || vpn >> level_order(levels(t)))
        return false;
    struct place p = place_find(t, vpn, 0);
    u64 value = *p.entry;
    if (!entry_is_leaf(value, p.level))
        return false;
    u64 size = 1ul << level_order(p.level);
    *pfn = (entry_pfn(value) & ~(size - 1)) + (vpn & (size - 1));
    *perm = leaf_perm(&formats[t->kind], value);
    return true;
}

void ptab_free(struct ptab *t) {
    struct page_list freed = {0};
    if (!t->root.v)
        return;
    u64 *root = root_table(t);
    for (unsigned i = 0; i < formats[t->kind].root_entries; i++)
        if (entry_is_link(root[i], levels(t) - 1))
            tables_collect(root[i], levels(t) - 1, &freed);
    page_push(&freed, root);
    t->root = PADDR(0);
    ptab_pages_free(&freed, t->account);
}

void ptab_pages_free(struct page_list *l, struct account *a) {
    while (l->head) {
        u64 *page = l->head;
        l->head = (void *)page[0];
        kmem_pages_free(a, page, 0);
    }
}
