#include "ring.h"

#include "mem.h"

void ring_init(struct ring *r, struct ring_mem *mem, uint32_t size) { *r = (struct ring){.mem = mem, .size = size}; }

void ring_resume(struct ring *r, bool producer) { r->mine = mem_load_acq32(producer ? &r->mem->head : &r->mem->tail); }

/* A peer's index outside of what it can be counts as "nothing there" and "no space": the peer only hurts itself. */
static uint32_t ring_fill(const struct ring *r, uint32_t head, uint32_t tail, uint32_t otherwise) {
    uint32_t fill = head - tail;

    return fill <= r->size ? fill : otherwise;
}

uint32_t ring_space(const struct ring *r) {
    return r->size - ring_fill(r, r->mine, mem_load_acq32(&r->mem->tail), r->size);
}

uint32_t ring_used(const struct ring *r) { return ring_fill(r, mem_load_acq32(&r->mem->head), r->mine, 0); }

uint32_t ring_put(struct ring *r, const void *bytes, uint32_t len) {
    uint32_t space = ring_space(r);
    uint32_t at = r->mine & (r->size - 1);
    uint32_t first;

    if (len > space)
        len = space;
    first = len < r->size - at ? len : r->size - at;
    mem_copy_to(r->mem->data + at, bytes, first);
    mem_copy_to(r->mem->data, (const uint8_t *)bytes + first, len - first);
    r->mine += len;
    mem_store_rel32(&r->mem->head, r->mine); /* pairs with the acquire in ring_used */
    return len;
}

uint32_t ring_get(struct ring *r, void *bytes, uint32_t size) {
    uint32_t used = ring_used(r);
    uint32_t at = r->mine & (r->size - 1);
    uint32_t first;

    if (size > used)
        size = used;
    first = size < r->size - at ? size : r->size - at;
    mem_copy_from(bytes, r->mem->data + at, first);
    mem_copy_from((uint8_t *)bytes + first, r->mem->data, size - first);
    r->mine += size;
    mem_store_rel32(&r->mem->tail, r->mine); /* pairs with the acquire in ring_space */
    return size;
}

/*  waiter: flag = 1; fence; look at the index      other: index = n; fence; look at the flag
 *  At least one of the two sees the other's store. */
static bool ring_wake(uint32_t *flag) {
    mem_fence();
    return mem_read32(flag) && mem_xchg32(flag, 0);
}

static void ring_sleep(uint32_t *flag) {
    mem_write32(flag, 1);
    mem_fence();
}

bool ring_wake_reader(struct ring *r) { return ring_wake(&r->mem->reader_sleeps); }
bool ring_wake_writer(struct ring *r) { return ring_wake(&r->mem->writer_sleeps); }
void ring_sleep_reader(struct ring *r) { ring_sleep(&r->mem->reader_sleeps); }
void ring_sleep_writer(struct ring *r) { ring_sleep(&r->mem->writer_sleeps); }
