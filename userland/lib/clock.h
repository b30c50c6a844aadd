/* Time: the TSC, scaled with the kernel's frequency. */
#pragma once
#include "rt.h"

static inline uint64_t clock_tsc(void) {
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

/* value * factor / divisor with a 128-bit product; saturates. (The compiler would call libgcc's 128-bit division.) */
static inline uint64_t clock_scale(uint64_t value, uint64_t factor, uint64_t divisor) {
    unsigned __int128 product = (unsigned __int128)value * factor;
    uint64_t lo = (uint64_t)product;
    uint64_t hi = (uint64_t)(product >> 64);

    if (hi >= divisor)
        return UINT64_MAX;
    __asm__("divq %2" : "+a"(lo), "+d"(hi) : "r"(divisor) : "cc");
    return lo;
}

static inline uint64_t clock_us_to_tsc(uint64_t us) { return clock_scale(us, rt.tsc_khz, 1000); }
static inline uint64_t clock_tsc_to_us(uint64_t tsc) { return clock_scale(tsc, 1000, rt.tsc_khz); }
static inline uint64_t clock_tsc_to_ns(uint64_t tsc) { return clock_scale(tsc, 1000000, rt.tsc_khz); }
static inline uint64_t clock_ns_to_tsc(uint64_t ns) { return clock_scale(ns, rt.tsc_khz, 1000000); }

/* Wall clock, UTC nanoseconds since 1970. */
static inline uint64_t clock_wall_ns(uint64_t tsc) {
    return rt.epoch_s * 1000000000ull + clock_tsc_to_ns(tsc - rt.epoch_tsc);
}
