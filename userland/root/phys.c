#include "root.h"

#include "log.h"

#include <string.h>

#define PHYS_RANGES 4096
static struct range phys_ranges[PHYS_RANGES];
static struct range_pool phys_pool;
static struct mutex phys_lock;
static uint64_t phys_total;
static bool phys_ready;

#define LOW_MEMORY 0x100000ul /* firmware areas, boot code of CPUs: never handed out */

static void phys_add(const struct abi_hip_mem_desc *d) {
    uint64_t first = (d->addr + 4095) >> 12;
    uint64_t end = (d->addr + d->size) >> 12;

    if (first < LOW_MEMORY >> 12)
        first = LOW_MEMORY >> 12;
    if (end > ROOT_PHYS_MAX >> 12)
        end = ROOT_PHYS_MAX >> 12;
    if (first < end && !range_add(&phys_pool, first, end - first))
        root_log("memory at %#lx ignored: too many ranges", (unsigned long)d->addr);
}

static void phys_remove(uint64_t addr, uint64_t size) {
    uint64_t first = addr >> 12;
    uint64_t end = (addr + size + 4095) >> 12;

    if (!range_reserve(&phys_pool, first, end - first))
        panic("memory map of the boot loader has too many ranges");
}

void phys_init(const struct abi_hip *hip) {
    uint32_t count = (hip->length - hip->mem_offs) / hip->mem_size;

    range_init(&phys_pool, phys_ranges, PHYS_RANGES);
    for (uint32_t i = 0; i < count; i++)
        if (hip->mem[i].type == HIP_MEM_RAM)
            phys_add(&hip->mem[i]);
    for (uint32_t i = 0; i < count; i++) {
        const struct abi_hip_mem_desc *d = &hip->mem[i];

        if (d->type != HIP_MEM_RAM)
            phys_remove(d->addr, d->size);
        if (d->type == HIP_MEM_MODULE && d->aux)
            phys_remove(d->aux, 4096); /* its command line */
    }
    phys_total = range_total(&phys_pool);
    for (uint32_t i = 0; i < phys_pool.count; i++)
        if (!grab_memory(phys_pool.free[i].start, phys_pool.free[i].len))
            panic("the kernel gives no memory at page %#lx", (unsigned long)phys_pool.free[i].start);
    if (!mutex_init(&phys_lock))
        panic("no kernel memory");
    phys_ready = true;
}

bool phys_alloc(uint64_t pages, uint64_t align_pages, uint64_t *page) {
    bool ok;

    mutex_lock(&phys_lock);
    ok = range_alloc(&phys_pool, pages, align_pages, page);
    mutex_unlock(&phys_lock);
    return ok;
}

void phys_free(uint64_t page, uint64_t pages) {
    mutex_lock(&phys_lock);
    range_free(&phys_pool, page, pages);
    mutex_unlock(&phys_lock);
}

/* 64 bytes a step: a byte-wise `rep stos` costs an emulator one step for each element. */
void phys_wipe(uint64_t page, uint64_t pages) {
    typedef long long v2 __attribute__((vector_size(16)));
    v2 *p = phys_ptr(page << 12);

    for (uint64_t n = pages * 64; n; n--, p += 4)
        p[0] = p[1] = p[2] = p[3] = (v2){0, 0};
}

void phys_revoke(uint64_t page, uint64_t pages) {
    while (pages) {
        uint64_t at = (ROOT_PHYS_VA >> 12) + page;
        uint32_t order = msg_range_order(at, at, pages);

        (void)nova_revoke(crd_mem(at, order, PERM_MEM_ALL), false);
        page += 1ul << order;
        pages -= 1ul << order;
    }
}

uint64_t phys_free_pages(void) {
    mutex_lock(&phys_lock);
    uint64_t pages = range_total(&phys_pool);

    mutex_unlock(&phys_lock);
    return pages;
}

uint64_t phys_total_pages(void) { return phys_total; }

uint64_t phys_largest_pages(void) {
    mutex_lock(&phys_lock);
    uint64_t pages = range_largest(&phys_pool);

    mutex_unlock(&phys_lock);
    return pages;
}

void *root_pages_alloc(size_t bytes) {
    uint64_t pages = (bytes + 4095) >> 12;
    uint64_t page;

    rt_assert(phys_ready);
    if (!phys_alloc(pages, 1, &page))
        return NULL;
    phys_wipe(page, pages);
    return phys_ptr(page << 12);
}
