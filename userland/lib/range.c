#include "range.h"

#include <string.h>

void range_init(struct range_pool *p, struct range *storage, uint32_t capacity) {
    *p = (struct range_pool){.free = storage, .capacity = capacity};
}

static void range_delete(struct range_pool *p, uint32_t i) {
    p->count--;
    memmove(&p->free[i], &p->free[i + 1], (p->count - i) * sizeof p->free[0]);
}

static void range_insert(struct range_pool *p, uint32_t i, uint64_t start, uint64_t len) {
    memmove(&p->free[i + 1], &p->free[i], (p->count - i) * sizeof p->free[0]);
    p->free[i] = (struct range){start, len};
    p->count++;
}

/* First free range that ends after start. */
static uint32_t range_find(const struct range_pool *p, uint64_t start) {
    uint32_t lo = 0;
    uint32_t hi = p->count;

    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (p->free[mid].start + p->free[mid].len > start)
            hi = mid;
        else
            lo = mid + 1;
    }
    return lo;
}

/* [start, start + len) overlaps no free range; there is room in the array. */
static void range_put(struct range_pool *p, uint64_t start, uint64_t len) {
    uint32_t i = range_find(p, start);
    bool joins_before = i > 0 && p->free[i - 1].start + p->free[i - 1].len == start;
    bool joins_after = i < p->count && p->free[i].start == start + len;

    if (joins_before && joins_after) {
        p->free[i - 1].len += len + p->free[i].len;
        range_delete(p, i);
    } else if (joins_before) {
        p->free[i - 1].len += len;
    } else if (joins_after) {
        p->free[i].start = start;
        p->free[i].len += len;
    } else {
        range_insert(p, i, start, len);
    }
}

static bool range_room(const struct range_pool *p) { return p->count + p->live < p->capacity; }

bool range_reserve(struct range_pool *p, uint64_t start, uint64_t len) {
    uint64_t end = start + len;

    for (uint32_t i = range_find(p, start); i < p->count && p->free[i].start < end;) {
        struct range r = p->free[i];
        uint64_t r_end = r.start + r.len;

        if (r.start < start && r_end > end) {
            if (!range_room(p))
                return false;
            p->free[i].len = start - r.start;
            range_insert(p, i + 1, end, r_end - end);
            return true;
        }
        if (r.start < start) {
            p->free[i++].len = start - r.start;
        } else if (r_end > end) {
            p->free[i] = (struct range){end, r_end - end};
            return true;
        } else {
            range_delete(p, i);
        }
    }
    return true;
}

bool range_add(struct range_pool *p, uint64_t start, uint64_t len) {
    if (!range_reserve(p, start, len))
        return false;
    if (!range_room(p))
        return false;
    if (len)
        range_put(p, start, len);
    return true;
}

bool range_alloc(struct range_pool *p, uint64_t len, uint64_t align, uint64_t *start) {
    uint32_t best = p->count;
    uint64_t best_at = 0;

    if (!len || p->count + p->live + 2 > p->capacity)
        return false;
    for (uint32_t i = 0; i < p->count; i++) {
        struct range r = p->free[i];
        uint64_t at = (r.start + align - 1) & ~(align - 1);

        if (at < r.start || at - r.start > r.len || r.len - (at - r.start) < len)
            continue;
        if (best == p->count || r.len < p->free[best].len) {
            best = i;
            best_at = at;
        }
    }
    if (best == p->count)
        return false;
    p->live++;
    struct range r = p->free[best];
    uint64_t before = best_at - r.start;
    uint64_t after = r.len - before - len;

    if (before && after) {
        p->free[best].len = before;
        range_insert(p, best + 1, best_at + len, after);
    } else if (before) {
        p->free[best].len = before;
    } else if (after) {
        p->free[best] = (struct range){best_at + len, after};
    } else {
        range_delete(p, best);
    }
    *start = best_at;
    return true;
}

void range_free(struct range_pool *p, uint64_t start, uint64_t len) {
    p->live--;
    range_put(p, start, len);
}

uint64_t range_total(const struct range_pool *p) {
    uint64_t total = 0;

    for (uint32_t i = 0; i < p->count; i++)
        total += p->free[i].len;
    return total;
}

uint64_t range_largest(const struct range_pool *p) {
    uint64_t largest = 0;

    for (uint32_t i = 0; i < p->count; i++)
        if (p->free[i].len > largest)
            largest = p->free[i].len;
    return largest;
}
