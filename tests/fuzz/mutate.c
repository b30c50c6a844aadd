#include "mutate.h"
#include <string.h>

u64 random_next(u64 *state) { /* Steele, Lea, Flood 2014 */
    u64 z = (*state += 0x9e3779b97f4a7c15ul);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
    return z ^ (z >> 31);
}

static void bytes_random(u64 *rng, u8 *to, size_t n) {
    for (size_t i = 0; i < n; i++)
        to[i] = (u8)random_next(rng);
}

size_t program_random(u64 *rng, u8 *to) {
    size_t size = PROGRAM_HEAD + OP_BYTES * (4 + random_below(rng, OPS_MAX - 4));
    bytes_random(rng, to, size);
    if (random_below(rng, 8))
        to[0] &= 3 | 32; /* a usual machine */
    return size < PROGRAM_MAX ? size : PROGRAM_MAX;
}

static u8 *op_any(u64 *rng, u8 *bytes, size_t size) {
    return bytes + PROGRAM_HEAD + OP_BYTES * random_below(rng, (u32)((size - PROGRAM_HEAD) / OP_BYTES));
}

/* Makes room for n operations in front of `at`. */
static size_t ops_insert(u8 *bytes, size_t size, u8 *at, size_t n) {
    if (size + n * OP_BYTES > PROGRAM_MAX)
        return size;
    memmove(at + n * OP_BYTES, at, size - (size_t)(at - bytes));
    return size + n * OP_BYTES;
}

static size_t mutate_once(u64 *rng, u8 *bytes, size_t size, const u8 *other, size_t other_size) {
    u8 *at = op_any(rng, bytes, size), fresh[OP_BYTES];
    size_t grown;
    switch (random_below(rng, 12)) {
    case 0: /* another schedule */
        bytes_random(rng, bytes + 1, 3);
        return size;
    case 1: /* another machine */
        bytes[0] = (u8)(random_below(rng, 4) ? bytes[0] ^ (1u << random_below(rng, 6)) : random_next(rng) & 63);
        return size;
    case 2:
    case 3:
        at[random_below(rng, OP_BYTES)] = (u8)random_next(rng);
        return size;
    case 4:
        at[random_below(rng, OP_BYTES)] ^= (u8)(1u << random_below(rng, 8));
        return size;
    case 5:
        at[2 + random_below(rng, OP_BYTES - 2)] += (u8)(random_below(rng, 2) ? 1 : -1);
        return size;
    case 6:
    case 7: /* a new operation, of an actor that is there */
        bytes_random(rng, fresh, sizeof(fresh));
        if (random_below(rng, 4))
            fresh[0] = at[0];
        grown = ops_insert(bytes, size, at, 1);
        memcpy(at, fresh, sizeof(fresh));
        return grown;
    case 8: /* remove */
        if (size < PROGRAM_HEAD + 3 * OP_BYTES)
            return size;
        memmove(at, at + OP_BYTES, size - (size_t)(at - bytes) - OP_BYTES);
        return size - OP_BYTES;
    case 9: /* two change places */
        memcpy(fresh, at, sizeof(fresh));
        u8 *there = op_any(rng, bytes, size);
        memmove(at, there, OP_BYTES);
        memcpy(there, fresh, sizeof(fresh));
        return size;
    default: { /* some of the other's */
        u32 have = (u32)((other_size - PROGRAM_HEAD) / OP_BYTES), from = random_below(rng, have);
        u32 n = 1 + random_below(rng, have - from < 12 ? have - from : 12);
        grown = ops_insert(bytes, size, at, n);
        if (grown != size)
            memcpy(at, other + PROGRAM_HEAD + from * OP_BYTES, n * OP_BYTES);
        return grown;
    }
    }
}

size_t program_mutate(u64 *rng, u8 *bytes, size_t size, const u8 *other, size_t other_size) {
    size -= (size - PROGRAM_HEAD) % OP_BYTES;
    for (u32 n = 1u << random_below(rng, 5); n; n--)
        size = mutate_once(rng, bytes, size, other, other_size);
    return size;
}

struct shrink {
    bool (*same)(const u8 *, size_t, void *);
    void *context;
    unsigned tries;
};

static bool try(struct shrink *s, u8 *bytes, size_t *size, const u8 *candidate, size_t n) {
    if (!s->tries || n < PROGRAM_HEAD || (n == *size && !memcmp(bytes, candidate, n)))
        return false;
    s->tries--;
    if (!s->same(candidate, n, s->context))
        return false;
    memcpy(bytes, candidate, n);
    *size = n;
    return true;
}

static bool shrink_ops(struct shrink *s, u8 *bytes, size_t *size) {
    u8 c[PROGRAM_MAX];
    bool any = false;
    for (size_t n = OPS_MAX / 2; n; n /= 2)
        for (size_t at = PROGRAM_HEAD; at < *size;) {
            size_t cut = n * OP_BYTES < *size - at ? n * OP_BYTES : *size - at;
            memcpy(c, bytes, at);
            memcpy(c + at, bytes + at + cut, *size - at - cut);
            if (try(s, bytes, size, c, *size - cut))
                any = true;
            else
                at += n * OP_BYTES;
        }
    return any;
}

static bool shrink_values(struct shrink *s, u8 *bytes, size_t *size) {
    u8 c[PROGRAM_MAX];
    bool any = false;
    for (size_t i = 0; i < *size; i++)
        for (u8 v = 0;;) {
            u8 old = bytes[i];
            memcpy(c, bytes, *size);
            c[i] = v;
            if (v < old && try(s, bytes, size, c, *size)) {
                any = true;
                break;
            }
            if (v >= old / 2)
                break;
            v = old / 2;
        }
    return any;
}

size_t program_shrink(u8 *bytes, size_t size, bool (*same)(const u8 *, size_t, void *), void *context, unsigned tries) {
    struct shrink s = {same, context, tries};
    bool more = true;
    while (more && s.tries) {
        more = shrink_ops(&s, bytes, &size);
        more |= shrink_values(&s, bytes, &size);
    }
    return size;
}
