/* All of RAM, and everything below 4 GiB, at DIRECT_MAP (paging.c builds it). */
#pragma once
#include "arch/types.h"

#define DIRECT_MAP 0xffff800000000000ul
static inline void *arch_phys_ptr(paddr_t p) { return (void *)(p.v + DIRECT_MAP); }
static inline paddr_t arch_ptr_phys(const void *p) { return PADDR((u64)p - DIRECT_MAP); }
static inline void arch_words_copy(u64 *to, const u64 *from, u64 count) {
    __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count)::"memory");
}
/* Written back to memory, for devices that do not look into caches. SDM vol 2 "CLFLUSH": 64-byte lines on every 64-bit CPU. */
static inline void arch_cache_clean(const void *p, size_t n) {
    for (const char *line = (const char *)((u64)p & ~63ul); line < (const char *)p + n; line += 64)
        __asm__ volatile("clflush %0" ::"m"(*line));
    __asm__ volatile("mfence" ::: "memory");
}
static inline void arch_mem_poison(const void *p, size_t n) { (void)p, (void)n; }
static inline void arch_mem_unpoison(const void *p, size_t n) { (void)p, (void)n; }
