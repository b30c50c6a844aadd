/* Kernel memory: a buddy allocator over the boot reserve (and pages that root adds), slab caches for objects, accounts.
 * Everything but slab_take's is zeroed when handed out. Nothing here panics when memory runs out: NULL. */
#pragma once
#include "arch/spin.h"
#include "arch/types.h"

/* Kernel memory used by one PD and by those it owns. Charged in bytes for every object, table page and mapping node that it owns; its
 * owner pays as well, so that nobody gets beyond a limit by making further PDs. */
struct account {
    u64 used;  /* atomic */
    u64 limit; /* atomic; 0: none */
    struct account
        *parent; /* of the PD that owns this one; NULL: root's, the kernel's: the pool alone is their bound */
};

void kmem_init(void);
/* Is the range of page frames large enough for its bookkeeping, or needs none? */
bool kmem_fits(u64 pfn, u64 pages);
/* Hands a range of RAM (direct map) to the pool; the first pages of a new range hold its bookkeeping. False: it is the pool's already. */
bool kmem_add(paddr_t base, u64 bytes);
#define KMEM_MAX_ORDER 10u
/* An allocated block of kernel_account's leaves the pool until kmem_add brings it back. */
void kmem_forget(void *pages, unsigned order);
/* 2^order contiguous, naturally aligned, zeroed pages charged to `a` (never NULL account: the kernel's own is kernel_account). */
must_check void *kmem_pages_alloc(struct account *a, unsigned order);
void kmem_pages_free(struct account *a, void *pages, unsigned order);
u64 kmem_pages_total(void);
u64 kmem_pages_available(void);

struct slab_cache {
    struct spinlock lock; /* rank kmem: partial, counters */
    const char *name;
    u32 size, align;
    u32 order, per_slab;  /* pages of a slab (log2), objects in it: computed at first use */
    struct slab *partial; /* slabs with a free object */
    u32 empty;            /* slabs among them that are wholly free: one is kept, more go back to the buddy */
};
#define SLAB_CACHE(type)                                                                                               \
    { .name = #type, .size = sizeof(type), .align = _Alignof(type) }
/* Objects up to 3 KiB; a slab is one page (or 2^n pages for big objects). */
must_check void *slab_alloc(struct slab_cache *c, struct account *a);
must_check void *slab_take(struct slab_cache *c, struct account *a); /* to be written over as a whole */
/* `a` NULL: nothing is refunded (account_refund was called before, e.g. when the object was handed to RCU). */
void slab_free(struct slab_cache *c, struct account *a, void *object);
must_check bool account_charge(struct account *a, u64 bytes);
void account_refund(struct account *a, u64 bytes);
/* Charges even beyond the limit. */
void account_force(struct account *a, u64 bytes);
/* For tests: the Nth allocation from now fails (0: none), and each `again`th after it (0: no other). */
extern u64 kmem_fail_at, kmem_fail_again;
extern struct account kernel_account;
