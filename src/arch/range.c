#include "arch/range.h"
#include "arch/mem.h"

static bool append(struct range_list *l, u64 base, u64 end, i32 type) {
    if (base >= end)
        return true;
    struct boot_range *last = l->count ? &l->r[l->count - 1] : NULL;
    if (last && last->type == type && last->base + last->size == base) {
        last->size += end - base;
        return true;
    }
    if (l->count == RANGE_MAX)
        return false;
    l->r[l->count++] = (struct boot_range){.base = base, .size = end - base, .type = type};
    return true;
}

bool range_set(struct range_list *l, u64 base, u64 size, i32 type) {
    if (!size)
        return true;
    u64 end = base + size < base ? ~0ul : base + size;
    struct range_list n = {.count = 0};
    bool fits = true, placed = false;
    for (unsigned i = 0; i < l->count; i++) {
        const struct boot_range *o = &l->r[i];
        u64 o_end = o->base + o->size;
        fits &= append(&n, o->base, min_u64(o_end, base), o->type);
        if (!placed && o_end > base) {
            fits &= append(&n, base, end, type);
            placed = true;
        }
        fits &= append(&n, max_u64(o->base, end), o_end, o->type);
    }
    if (!placed)
        fits &= append(&n, base, end, type);
    if (fits)
        *l = n;
    return fits;
}

bool range_is(const struct range_list *l, u64 base, u64 size, i32 type) {
    for (unsigned i = 0; i < l->count; i++)
        if (l->r[i].type == type && base >= l->r[i].base && size <= l->r[i].size &&
            base - l->r[i].base <= l->r[i].size - size)
            return true;
    return false;
}

u64 range_total(const struct range_list *l, i32 type) {
    u64 sum = 0;
    for (unsigned i = 0; i < l->count; i++)
        if (l->r[i].type == type)
            sum += l->r[i].size;
    return sum;
}

/* Highest place in [low, high): each collision moves the candidate below the range it met. */
static u64 place_below(u64 low, u64 high, u64 size, u64 align, const struct boot_range *avoid, unsigned avoid_count) {
    for (;;) {
        if (high < size || ((high - size) & ~(align - 1)) < low)
            return 0;
        u64 at = (high - size) & ~(align - 1);
        bool hit = false;
        for (unsigned i = 0; i < avoid_count && !hit; i++)
            if (avoid[i].size && at < avoid[i].base + avoid[i].size && avoid[i].base < at + size) {
                high = avoid[i].base;
                hit = true;
            }
        if (!hit)
            return at;
    }
}

u64 range_find(const struct range_list *l, u64 size, u64 align, i32 type, u64 low, u64 high,
               const struct boot_range *avoid, unsigned avoid_count) {
    for (unsigned i = l->count; i-- > 0;) {
        const struct boot_range *r = &l->r[i];
        if (r->type != type)
            continue;
        u64 at = place_below(max_u64(low, r->base), min_u64(high, r->base + r->size), size, align, avoid, avoid_count);
        if (at)
            return at;
    }
    return 0;
}
