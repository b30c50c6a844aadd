#include "core/kmem.h"
#include "arch/assert.h"
#include "arch/atomic.h"
#include "arch/mem.h"

/* Buddy allocator: blocks of 2^order pages, naturally aligned in physical memory. Each pool starts with its own
 * descriptor and a state byte per page: BLOCK_FREE | order at the first page of a free block, BLOCK_GONE at each page that
 * root has back, 0 elsewhere. */
#define MAX_ORDER  KMEM_MAX_ORDER
#define BLOCK_FREE 0x80u
#define BLOCK_GONE 0x40u

struct block { /* in the first bytes of a free block */
    struct block *next, *prev;
};
struct pool {
    struct pool *next;
    u64 first, end; /* page frames, the descriptor's own excluded */
    u8 state[];
};

static struct spinlock kmem_lock; /* rank kmem, below slab caches: pools, lists, counters */
static struct pool *pools;
static struct block *lists[MAX_ORDER + 1];
static u64 pages_total, pages_available;
static u64 pages_kept; /* atomic: of empty slabs that their caches keep */
struct account kernel_account;
u64 kmem_fail_at, kmem_fail_again;

static bool fail_injected(void) {
    if (likely(!kmem_fail_at) || --kmem_fail_at)
        return false;
    kmem_fail_at = kmem_fail_again;
    return true;
}

bool account_charge(struct account *a, u64 bytes) {
    for (struct account *up = a; up; up = up->parent) {
        u64 limit = atomic_load_rlx(&up->limit), used = atomic_load_rlx(&up->used);
        do
            if (unlikely(limit && used + bytes > limit)) {
                for (; a != up; a = a->parent)
                    atomic_fetch_add(&a->used, -bytes);
                return false;
            }
        while (!atomic_cas(&up->used, &used, used + bytes));
    }
    return true;
}

void account_force(struct account *a, u64 bytes) {
    for (; a; a = a->parent)
        atomic_fetch_add(&a->used, bytes);
}

void account_refund(struct account *a, u64 bytes) {
    for (; a; a = a->parent) {
        u64 before = atomic_fetch_add(&a->used, -bytes);
        assert(before >= bytes);
    }
}

static struct block *block_at(u64 pfn) { return arch_phys_ptr(PADDR(pfn << PAGE_SHIFT)); }

static struct pool *pool_of(u64 pfn) {
    for (struct pool *p = pools; p; p = p->next)
        if (pfn >= p->first && pfn < p->end)
            return p;
    return NULL;
}

static void list_push(struct pool *p, u64 pfn, unsigned order) {
    struct block *b = block_at(pfn);
    arch_mem_unpoison(b, sizeof(*b));
    *b = (struct block){.next = lists[order]};
    if (b->next)
        b->next->prev = b;
    lists[order] = b;
    p->state[pfn - p->first] = (u8)(BLOCK_FREE | order);
}

static void list_remove(struct pool *p, u64 pfn, unsigned order) {
    struct block *b = block_at(pfn);
    if (b->prev)
        b->prev->next = b->next;
    else
        lists[order] = b->next;
    if (b->next)
        b->next->prev = b->prev;
    p->state[pfn - p->first] = 0;
}

static void block_release(u64 pfn, unsigned order) {
    struct pool *p = pool_of(pfn);
    assert(p && !p->state[pfn - p->first]);
    atomic_store_rlx(&pages_available, pages_available + (1ul << order));
    arch_mem_poison(block_at(pfn), PAGE_SIZE << order);
    for (; order < MAX_ORDER; order++) {
        u64 buddy = pfn ^ (1ul << order);
        if (buddy < p->first || buddy + (1ul << order) > p->end || p->state[buddy - p->first] != (BLOCK_FREE | order))
            break;
        list_remove(p, buddy, order);
        arch_mem_poison(block_at(buddy), sizeof(struct block));
        pfn &= ~(1ul << order);
    }
    list_push(p, pfn, order);
}

void kmem_init(void) {
    pools = NULL;
    memset(lists, 0, sizeof(lists));
    pages_total = pages_available = 0;
    kernel_account = (struct account){0};
}

static u64 pool_head(u64 pages) { return (sizeof(struct pool) + pages + PAGE_MASK) >> PAGE_SHIFT; }

bool kmem_fits(u64 pfn, u64 pages) {
    spin_lock(&kmem_lock);
    bool known = pool_of(pfn + pages - 1);
    spin_unlock(&kmem_lock);
    return known || pages > pool_head(pages);
}

/* kmem_lock held. The pool of a range that is not handed out now, made if it is new; NULL: the range is in use. */
static struct pool *pool_make(u64 first, u64 end) {
    u64 head = pool_head(end - first);
    struct pool *p = pool_of(end - 1);
    for (u64 pfn = first; p && pfn < end; pfn++)
        if (pfn < p->first || p->state[pfn - p->first] != BLOCK_GONE)
            return NULL;
    if (p)
        memset(p->state + (first - p->first), 0, end - first);
    if (p || end - first <= head)
        return p;
    p = arch_phys_ptr(PADDR(first << PAGE_SHIFT));
    arch_mem_unpoison(p, head << PAGE_SHIFT);
    memset(p, 0, head << PAGE_SHIFT);
    *p = (struct pool){.next = pools, .first = first + head, .end = end};
    return pools = p;
}

bool kmem_add(paddr_t base, u64 bytes) {
    u64 pfn = (base.v + PAGE_MASK) >> PAGE_SHIFT, end = (base.v + bytes) >> PAGE_SHIFT;
    spin_lock(&kmem_lock);
    struct pool *p = pfn < end ? pool_make(pfn, end) : NULL;
    pfn = p ? max_u64(pfn, p->first) : end;
    atomic_store_rlx(&pages_total, pages_total + (end - pfn));
    while (pfn < end) {
        unsigned order = 0;
        while (order < MAX_ORDER && !(pfn & (1ul << order)) && pfn + (2ul << order) <= end)
            order++;
        block_release(pfn, order);
        pfn += 1ul << order;
    }
    spin_unlock(&kmem_lock);
    return p;
}

static void *pages_take(unsigned order) {
    spin_lock(&kmem_lock);
    unsigned from = order;
    while (from <= MAX_ORDER && !lists[from])
        from++;
    void *block = NULL;
    if (from <= MAX_ORDER) {
        block = lists[from];
        u64 pfn = arch_ptr_phys(block).v >> PAGE_SHIFT;
        struct pool *p = pool_of(pfn);
        list_remove(p, pfn, from);
        while (from > order) {
            from--;
            list_push(p, pfn + (1ul << from), from);
        }
        atomic_store_rlx(&pages_available, pages_available - (1ul << order));
        arch_mem_unpoison(block, PAGE_SIZE << order);
    }
    spin_unlock(&kmem_lock);
    if (block)
        memset(block, 0, PAGE_SIZE << order);
    return block;
}

static void pages_give(void *block, unsigned order) {
    spin_lock(&kmem_lock);
    block_release(arch_ptr_phys(block).v >> PAGE_SHIFT, order);
    spin_unlock(&kmem_lock);
}

void kmem_forget(void *pages, unsigned order) {
    u64 pfn = arch_ptr_phys(pages).v >> PAGE_SHIFT;
    account_refund(&kernel_account, PAGE_SIZE << order);
    spin_lock(&kmem_lock);
    struct pool *p = pool_of(pfn);
    memset(p->state + (pfn - p->first), BLOCK_GONE, 1ul << order);
    atomic_store_rlx(&pages_total, pages_total - (1ul << order));
    spin_unlock(&kmem_lock);
}

void *kmem_pages_alloc(struct account *a, unsigned order) {
    if (fail_injected() || order > MAX_ORDER || !account_charge(a, PAGE_SIZE << order))
        return NULL;
    void *block = pages_take(order);
    if (!block)
        account_refund(a, PAGE_SIZE << order);
    return block;
}

void kmem_pages_free(struct account *a, void *block, unsigned order) {
    account_refund(a, PAGE_SIZE << order);
    pages_give(block, order);
}

u64 kmem_pages_total(void) { return atomic_load_rlx(&pages_total); }
u64 kmem_pages_available(void) { return atomic_load_rlx(&pages_available) + atomic_load_rlx(&pages_kept); }

/* A slab is 2^order pages, naturally aligned, so its header is found from any object in it. */
struct slab {
    struct slab *next, *prev; /* in the cache's list `partial` while an object is free */
    void *free;               /* linked through the objects' first word */
    u32 used;
};

static void cache_prepare(struct slab_cache *c) {
    assert(c->align >= 8 && !(c->align & (c->align - 1)) && c->size >= 8);
    c->size = (c->size + c->align - 1) & ~(c->align - 1);
    u32 head = (sizeof(struct slab) + c->align - 1) & ~(c->align - 1);
    c->order = 0;
    while (((u32)PAGE_SIZE << c->order) - head < 4 * c->size && c->order < 3)
        c->order++;
    c->per_slab = (((u32)PAGE_SIZE << c->order) - head) / c->size;
    assert(c->per_slab);
}

/* s->prev is NULL: it is fresh, or got full at the head. */
static void slab_link(struct slab_cache *c, struct slab *s) {
    s->next = c->partial;
    if (s->next)
        s->next->prev = s;
    c->partial = s;
}

static void slab_unlink(struct slab_cache *c, struct slab *s) {
    if (s->prev)
        s->prev->next = s->next;
    else
        c->partial = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

static struct slab *slab_grow(struct slab_cache *c) {
    struct slab *s = pages_take(c->order);
    if (!s)
        return NULL;
    char *end = (char *)s + (PAGE_SIZE << c->order);
    for (u32 i = 0; i < c->per_slab; i++) {
        void **object = (void **)(end - (u64)(i + 1) * c->size);
        *object = s->free;
        s->free = object;
        arch_mem_poison((char *)object + 8, c->size - 8);
    }
    slab_link(c, s);
    c->empty++;
    atomic_fetch_add(&pages_kept, 1ul << c->order);
    return s;
}

void *slab_take(struct slab_cache *c, struct account *a) {
    spin_lock(&c->lock);
    if (unlikely(!c->per_slab))
        cache_prepare(c);
    void **object = NULL;
    if (!fail_injected() && account_charge(a, c->size)) {
        struct slab *s = c->partial ? c->partial : slab_grow(c);
        if (s) {
            object = s->free;
            s->free = *object;
            if (!s->used++) {
                c->empty--;
                atomic_fetch_add(&pages_kept, -(1ul << c->order));
            }
            if (!s->free)
                slab_unlink(c, s);
        } else {
            account_refund(a, c->size);
        }
    }
    spin_unlock(&c->lock);
    if (object)
        arch_mem_unpoison(object, c->size);
    return object;
}

void *slab_alloc(struct slab_cache *c, struct account *a) {
    void *object = slab_take(c, a);
    return object ? memset(object, 0, c->size) : NULL;
}

void slab_free(struct slab_cache *c, struct account *a, void *object) {
    if (a)
        account_refund(a, c->size);
    struct slab *s = (struct slab *)((u64)object & ~((PAGE_SIZE << c->order) - 1));
    arch_mem_poison((char *)object + 8, c->size - 8);
    spin_lock(&c->lock);
    assert(s->used);
    if (!s->free)
        slab_link(c, s);
    *(void **)object = s->free;
    s->free = object;
    struct slab *give = NULL;
    if (--s->used == 0 && c->empty++ >= 1) {
        c->empty--;
        slab_unlink(c, s);
        give = s;
    } else if (!s->used) {
        atomic_fetch_add(&pages_kept, 1ul << c->order);
    }
    spin_unlock(&c->lock);
    if (give) {
        arch_mem_unpoison(give, PAGE_SIZE << c->order);
        pages_give(give, c->order);
    }
}
