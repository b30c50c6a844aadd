/* Guest-physical memory: RAM from 0, with the PCI hole below 4 GiB left out (the rest goes on at 4 GiB). The guest may change it at
 * any time, so everything is read once through the accessors of mem.h. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GMEM_HOLE_START 0xc0000000ull /* 3 GiB */
#define GMEM_HIGH_START 0x100000000ull

struct gmem {
    uint8_t *base; /* RAM in one piece, high part behind the low one */
    uint64_t size;
};

static inline uint64_t gmem_low_size(const struct gmem *g) {
    return g->size < GMEM_HOLE_START ? g->size : GMEM_HOLE_START;
}

static inline uint64_t gmem_high_size(const struct gmem *g) { return g->size - gmem_low_size(g); }

/* The RAM [gpa, gpa + len), or null if any of it is not RAM. */
uint8_t *gmem_ptr(const struct gmem *g, uint64_t gpa, uint64_t len);

/* False and nothing done if the range is not all RAM. */
bool gmem_read(const struct gmem *g, uint64_t gpa, void *buf, size_t len);
bool gmem_write(const struct gmem *g, uint64_t gpa, const void *buf, size_t len);
