/* Heap: size classes of powers of two and midpoints up to 2 KiB, larger ones first fit from an address-ordered free list that
 * merges. Works on arenas that it is given, so it can be reset and runs on a host. Not locked. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_CLASSES 14

struct heap_free;
struct heap {
    struct heap_free *small[HEAP_CLASSES];
    struct heap_free *large; /* by address */
    size_t total, used;      /* bytes of arenas, bytes handed out (with headers) */
    bool (*grow)(struct heap *h,
                 size_t bytes); /* adds an arena of at least that many bytes, or says false; may be null */
};

void heap_init(struct heap *h, bool (*grow)(struct heap *h, size_t bytes));

/* Memory becomes the heap's for good. Aligned to 16 bytes by the heap itself. */
void heap_add(struct heap *h, void *memory, size_t bytes);

/* 16-byte aligned, contents undefined; null when it cannot grow. size 0 gives a unique block. */
void *heap_alloc(struct heap *h, size_t size);
void heap_free(struct heap *h, void *block);
size_t heap_block_size(const void *block);
