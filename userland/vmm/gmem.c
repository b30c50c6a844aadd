#include "gmem.h"

#include "mem.h"

uint8_t *gmem_ptr(const struct gmem *g, uint64_t gpa, uint64_t len) {
    uint64_t low = gmem_low_size(g), high = gmem_high_size(g);

    if (gpa < low)
        return len <= low - gpa ? g->base + gpa : NULL;
    if (gpa >= GMEM_HIGH_START && gpa - GMEM_HIGH_START < high)
        return len <= high - (gpa - GMEM_HIGH_START) ? g->base + low + (gpa - GMEM_HIGH_START) : NULL;
    return NULL;
}

bool gmem_read(const struct gmem *g, uint64_t gpa, void *buf, size_t len) {
    const uint8_t *p = gmem_ptr(g, gpa, len);

    if (!p)
        return false;
    mem_copy_from(buf, p, len);
    return true;
}

bool gmem_write(const struct gmem *g, uint64_t gpa, const void *buf, size_t len) {
    uint8_t *p = gmem_ptr(g, gpa, len);

    if (!p)
        return false;
    mem_copy_to(p, buf, len);
    return true;
}
