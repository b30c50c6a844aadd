/* Basic types. Addresses of different kinds do not mix. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

typedef struct {
    u64 v;
} paddr_t; /* host-physical byte address */
typedef struct {
    u64 v;
} uaddr_t; /* user virtual byte address */

#define PADDR(x)   ((paddr_t){(x)})
#define UADDR(x)   ((uaddr_t){(x)})
#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ul
#define PAGE_MASK  (PAGE_SIZE - 1)

#define likely(x)                       __builtin_expect(!!(x), 1)
#define unlikely(x)                     __builtin_expect(!!(x), 0)
#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define must_check                      __attribute__((warn_unused_result))
#define no_inline                       __attribute__((noinline))
#define force_inline                    inline __attribute__((always_inline))
#define static_assert _Static_assert

static inline u64 min_u64(u64 a, u64 b) { return a < b ? a : b; }
static inline u64 max_u64(u64 a, u64 b) { return a > b ? a : b; }
/* a * b / c with the product in 128 bits; ~0 where the result does not fit (c > 0). */
static inline u64 mul_div_u64(u64 a, u64 b, u64 c) {
    u64 low, high;
    __asm__("mulq %3" : "=a"(low), "=d"(high) : "a"(a), "r"(b) : "cc");
    if (high >= c)
        return ~0ul;
    __asm__("divq %2" : "+a"(low), "+d"(high) : "r"(c) : "cc");
    return low;
}
