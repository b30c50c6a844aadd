/* The physical memory map: sorted, disjoint, typed ranges in a fixed array. */
#pragma once
#include "arch/types.h"
#include "core/core.h"

#define RANGE_MAX 96 /* memory descriptors of the HIP: 147 in all, modules included */
struct range_list {
    struct boot_range r[RANGE_MAX];
    unsigned count;
};
/* [base, base + size) is of `type` from now on, whatever it was; neighbours of one type merge. False: list full, nothing changed. */
must_check bool range_set(struct range_list *l, u64 base, u64 size, i32 type);
/* True if all of [base, base + size) has `type`. */
bool range_is(const struct range_list *l, u64 base, u64 size, i32 type);
/* Bytes of `type` in all. */
u64 range_total(const struct range_list *l, i32 type);
/* The highest place for `size` bytes of `type`, aligned, within [low, high), that meets none of the `avoid` ranges. 0: none. */
u64 range_find(const struct range_list *l, u64 size, u64 align, i32 type, u64 low, u64 high,
               const struct boot_range *avoid, unsigned avoid_count);
