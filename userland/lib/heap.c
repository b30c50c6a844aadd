#include "heap.h"

#include <assert.h>
#include <string.h>

/* A block is a header word (size with header, low bit: in use) and a mark word, then the payload; a free block keeps its link in
 * the payload. Small blocks keep their class size for good; large ones split and merge with their neighbours in the list. */
struct heap_free {
    size_t size;
    size_t mark; /* HEAP_MARK ^ address while in use: a stray pointer or double free is found */
    struct heap_free *next;
};

#define HEAP_HEADER    16u
#define HEAP_MARK      0x68656170626c6bul
#define HEAP_MIN_LARGE 4096u

/* Block sizes with header. */
static const uint16_t heap_class_size[HEAP_CLASSES] = {32,  48,  64,  96,   128,  192,  256,
                                                       384, 512, 768, 1024, 1280, 1536, 2064};

void heap_init(struct heap *h, bool (*grow)(struct heap *h, size_t bytes)) { *h = (struct heap){.grow = grow}; }

/* Puts a block into the address-ordered list and joins it with both neighbours. */
static void heap_large_put(struct heap *h, struct heap_free *b) {
    struct heap_free **link = &h->large;
    struct heap_free *before = NULL;

    while (*link && *link < b) {
        before = *link;
        link = &before->next;
    }
    b->next = *link;
    *link = b;
    if (b->next && (uint8_t *)b + b->size == (uint8_t *)b->next) {
        b->size += b->next->size;
        b->next = b->next->next;
    }
    if (before && (uint8_t *)before + before->size == (uint8_t *)b) {
        before->size += b->size;
        before->next = b->next;
    }
}

void heap_add(struct heap *h, void *memory, size_t bytes) {
    uintptr_t start = ((uintptr_t)memory + 15) & ~15ul;
    uintptr_t end = ((uintptr_t)memory + bytes) & ~15ul;
    struct heap_free *b = (struct heap_free *)start;

    if (end < start + HEAP_MIN_LARGE)
        return;
    b->size = end - start;
    h->total += b->size;
    heap_large_put(h, b);
}

static struct heap_free *heap_large_take(struct heap *h, size_t size) {
    for (struct heap_free **link = &h->large; *link; link = &(*link)->next) {
        struct heap_free *b = *link;

        if (b->size < size)
            continue;
        if (b->size - size >= HEAP_MIN_LARGE) { /* cut from the end: the list stays as it is */
            b->size -= size;
            b = (struct heap_free *)((uint8_t *)b + b->size);
            b->size = size;
        } else {
            *link = b->next;
        }
        return b;
    }
    return NULL;
}

static struct heap_free *heap_large_get(struct heap *h, size_t size) {
    struct heap_free *b = heap_large_take(h, size);

    if (!b && h->grow && h->grow(h, size + 64))
        b = heap_large_take(h, size);
    return b;
}

/* Cuts a page-sized piece into blocks of the class. */
static bool heap_class_fill(struct heap *h, uint32_t class) {
    size_t size = heap_class_size[class];
    struct heap_free *chunk = heap_large_get(h, HEAP_MIN_LARGE + 16);

    if (!chunk)
        return false;
    size_t chunk_size = chunk->size; /* the first block overlays this header */

    for (size_t at = 0; at + size <= chunk_size; at += size) {
        struct heap_free *b = (struct heap_free *)((uint8_t *)chunk + at);

        b->size = size;
        b->next = h->small[class];
        h->small[class] = b;
    }
    return true;
}

static uint32_t heap_class(size_t size) {
    uint32_t class = 0;

    while (class < HEAP_CLASSES && heap_class_size[class] < size)
        class ++;
    return class;
}

void *heap_alloc(struct heap *h, size_t size) {
    struct heap_free *b;

    if (size > SIZE_MAX / 4)
        return NULL;
    size = (size + HEAP_HEADER + 15) & ~15ul;
    uint32_t class = heap_class(size);

    if (class < HEAP_CLASSES) {
        if (!h->small[class] && !heap_class_fill(h, class))
            return NULL;
        b = h->small[class];
        h->small[class] = b->next;
    } else {
        b = heap_large_get(h, size < HEAP_MIN_LARGE ? HEAP_MIN_LARGE : size);
        if (!b)
            return NULL;
    }
    h->used += b->size;
    b->mark = HEAP_MARK ^ (uintptr_t)b;
    return (uint8_t *)b + HEAP_HEADER;
}

static struct heap_free *heap_block(const void *block) {
    struct heap_free *b = (struct heap_free *)((uintptr_t)block - HEAP_HEADER);

    assert(b->mark == (HEAP_MARK ^ (uintptr_t)b));
    return b;
}

size_t heap_block_size(const void *block) { return heap_block(block)->size - HEAP_HEADER; }

void heap_free(struct heap *h, void *block) {
    if (!block)
        return;
    struct heap_free *b = heap_block(block);
    uint32_t class = heap_class(b->size);

    b->mark = 0;
    h->used -= b->size;
    if (class < HEAP_CLASSES) {
        b->next = h->small[class];
        h->small[class] = b;
    } else {
        heap_large_put(h, b);
    }
}
