#include "rt.h"

#include "log.h"
#include "thread.h"

#include <string.h>

struct rt rt;

/* The TLS block of the main thread lies right below its structure, as the x86-64 TLS ABI wants it. */
#define MAIN_TLS_MAX 1024
static struct {
    uint8_t tls[MAIN_TLS_MAX];
    struct thread thread;
} rt_main_block __attribute__((aligned(64), used));
__asm__(".globl rt_main_thread\n.set rt_main_thread, rt_main_block + 1024");

extern const uint8_t __tls_start[];
extern const uint8_t __tls_file_size[], __tls_size[]; /* absolute symbols of user.ld */

void thread_tls_init(struct thread *t) {
    uint8_t *block = (uint8_t *)t - (uintptr_t)__tls_size;

    memcpy(block, __tls_start, (uintptr_t)__tls_file_size);
    memset(block + (uintptr_t)__tls_file_size, 0, (uintptr_t)__tls_size - (uintptr_t)__tls_file_size);
    t->self = (uint64_t)t;
}

#define RANGES 512
static struct range rt_sel_ranges[RANGES], rt_va_ranges[RANGES];

static bool rt_heap_grow(struct heap *h, size_t bytes) {
    size_t size = bytes < 0x20000 ? 0x20000 : (bytes + 4095) & ~4095ul;
    void *memory = rt.pages_alloc(size);

    if (!memory && size > bytes + 4096) {
        size = (bytes + 4095) & ~4095ul; /* the quota may still have that much */
        memory = rt.pages_alloc(size);
    }
    if (!memory)
        return false;
    heap_add(h, memory, size);
    return true;
}

void rt_init(sel_t sel, uint64_t sels, uint64_t va, uint64_t va_end) {
    range_init(&rt.sels, rt_sel_ranges, RANGES);
    range_init(&rt.vas, rt_va_ranges, RANGES);
    (void)range_add(&rt.sels, sel, sels);
    (void)range_add(&rt.vas, va >> 12, (va_end - va) >> 12);
    heap_init(&rt.heap, rt_heap_grow);
    /* The selector allocator's own lock needs a selector: nobody else runs yet. */
    if (!mutex_init(&rt.lock) || !mutex_init(&rt.heap_lock))
        panic("no kernel memory for the runtime's locks");
}

sel_t sel_alloc(uint32_t order) {
    uint64_t sel = 0;

    mutex_lock(&rt.lock);
    if (!range_alloc(&rt.sels, 1ul << order, 1ul << order, &sel))
        sel = 0;
    mutex_unlock(&rt.lock);
    return sel;
}

void sel_free(sel_t sel, uint32_t order) {
    mutex_lock(&rt.lock);
    range_free(&rt.sels, sel, 1ul << order);
    mutex_unlock(&rt.lock);
}

uint64_t va_alloc(uint64_t bytes, uint64_t align) {
    uint64_t page = 0;

    mutex_lock(&rt.lock);
    if (!range_alloc(&rt.vas, (bytes + 4095) >> 12, align >> 12, &page))
        page = 0;
    mutex_unlock(&rt.lock);
    return page << 12;
}

void va_free(uint64_t va, uint64_t bytes) {
    mutex_lock(&rt.lock);
    range_free(&rt.vas, va >> 12, (bytes + 4095) >> 12);
    mutex_unlock(&rt.lock);
}
