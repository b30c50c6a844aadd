/* What the compiler may call, and what it puts behind arrays on the stack. rep string instructions: fast on every CPU of the last decade, and one instruction under emulators. */
#include "arch/assert.h"
#include "arch/mem.h"
#include "hw/hw.h"
#include <mach/insn.h>

u64 __stack_chk_guard;
_Noreturn void __stack_chk_fail(void);

_Noreturn void __stack_chk_fail(void) {
    arch_panic("a function has written beyond its part of the stack", __FILE__, __LINE__);
}

/* SDM vol 1 7.3.17 "RDRAND": CPUID 1 ECX[30]; may have nothing. The lowest byte is zero, so that no string runs over it. */
void stack_guard_init(void) {
    u64 v = rdtsc() * 0x9e3779b97f4a7c15ul, random = 0;
    if (cpuid(1, 0).c >> 30 & 1)
        __asm__ volatile("rdrand %0" : "+r"(random)::"cc");
    __stack_chk_guard = (v ^ random) & ~0xfful;
}

void *memcpy(void *restrict d, const void *restrict s, size_t n) {
    void *to = d;
    size_t words = n / 8;
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(s), "+c"(words)::"memory");
    n &= 7;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(s), "+c"(n)::"memory");
    return d;
}

void *memmove(void *d, const void *s, size_t n) {
    if ((u64)d - (u64)s >= n)
        return memcpy(d, s, n);
    u8 *to = (u8 *)d + n - 1;
    const u8 *from = (const u8 *)s + n - 1;
    __asm__ volatile("std; rep movsb; cld" : "+D"(to), "+S"(from), "+c"(n)::"memory");
    return d;
}

void *memset(void *d, int v, size_t n) {
    void *to = d;
    size_t words = n / 8;
    u64 pattern = (u8)v * 0x0101010101010101ul;
    __asm__ volatile("rep stosq" : "+D"(to), "+c"(words) : "a"(pattern) : "memory");
    n &= 7;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(pattern) : "memory");
    return d;
}

int memcmp(const void *a, const void *b, size_t n) {
    const u8 *x = a, *y = b;
    for (; n; n--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}
