/* New programs from old ones, and smaller ones that fail in the same way. */
#pragma once
#include "runner.h"

u64 random_next(u64 *state); /* splitmix64 */
static inline u32 random_below(u64 *state, u32 n) { return (u32)(((random_next(state) >> 32) * n) >> 32); }

/* A program of random operations. */
size_t program_random(u64 *rng, u8 *to);
/* Changes one in place; `other`: one to take operations from. Returns its new size. */
size_t program_mutate(u64 *rng, u8 *bytes, size_t size, const u8 *other, size_t other_size);
/* Removes operations and lowers values as long as `same` says so; at most `tries` times asked. */
size_t program_shrink(u8 *bytes, size_t size, bool (*same)(const u8 *, size_t, void *), void *context, unsigned tries);
