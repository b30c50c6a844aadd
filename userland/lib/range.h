/* Allocator of number ranges (physical pages, address space, selectors): sorted free ranges in an array, best fit, merged
 * when given back, so that returning everything restores the initial state exactly. Pure: no locking, no memory of its own. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct range {
    uint64_t start, len;
};

struct range_pool {
    struct range *free; /* sorted, never adjacent */
    uint32_t count, capacity;
    uint32_t live; /* allocations that may each split the free ranges once more */
};

void range_init(struct range_pool *p, struct range *storage, uint32_t capacity);

/* Adds fresh numbers. False when the array is full; overlap with free numbers is dropped. */
bool range_add(struct range_pool *p, uint64_t start, uint64_t len);

/* Takes a given range out of the free numbers as far as it is free (reserved areas); false when the array is full. */
bool range_reserve(struct range_pool *p, uint64_t start, uint64_t len);

/* align: power of two. False when nothing fits. Room for giving the range back is kept, so range_free cannot fail. */
bool range_alloc(struct range_pool *p, uint64_t len, uint64_t align, uint64_t *start);

/* Exactly a range that range_alloc returned. */
void range_free(struct range_pool *p, uint64_t start, uint64_t len);
uint64_t range_total(const struct range_pool *p);
uint64_t range_largest(const struct range_pool *p);
