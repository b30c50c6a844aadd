/* Physical memory of a test: bytes at an address, the rest not readable. The allocation ends exactly at the last byte (ASan sees overruns). */
#pragma once
#include <stdlib.h>
#include <string.h>

#include "arch/phys.h"

struct phys_image {
    u64 base, size;
    u8 *bytes;
};
static inline const void *phys_image_map(void *context, u64 addr, u64 size) {
    struct phys_image *m = context;
    return addr >= m->base && size <= m->size && addr - m->base <= m->size - size ? m->bytes + (addr - m->base) : NULL;
}
static inline struct phys_reader phys_image_reader(struct phys_image *m) {
    return (struct phys_reader){.map = phys_image_map, .context = m};
}
static inline void phys_put(struct phys_image *m, u64 addr, unsigned bytes, u64 v) {
    memcpy(m->bytes + (addr - m->base), &v, bytes);
}
