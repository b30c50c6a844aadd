/* Physical memory of the simulator: an arena at a fixed host address, there from program start. Low enough for Valgrind (its clients live below 64 GiB), or in
 * AddressSanitizer's high application memory. Odd numbers: no test uses them for anything else, so that the trace hash knows them. */
#pragma once
#include "arch/types.h"

#ifdef __SANITIZE_ADDRESS__
#define SIM_ARENA_BASE 0x295a5a000000ul
#define SIM_STACK_BASE 0x2a5a5a000000ul
#else
#define SIM_ARENA_BASE 0x95a000000ul
#define SIM_STACK_BASE 0xb5a000000ul
#endif
#define SIM_ARENA_SIZE (1ul << 30)
#define SIM_STACK_SIZE (1ul << 30) /* address space for the stacks of fibers */

static inline void *arch_phys_ptr(paddr_t p) { return (void *)(SIM_ARENA_BASE + p.v); }
static inline paddr_t arch_ptr_phys(const void *p) { return PADDR((u64)p - SIM_ARENA_BASE); }
static inline void arch_words_copy(u64 *to, const u64 *from, u64 count) {
    for (u64 i = 0; i < count; i++)
        to[i] = from[i];
}
static inline void arch_cache_clean(const void *p, size_t n) { (void)p, (void)n; }
void arch_mem_poison(void *p, size_t size);
void arch_mem_unpoison(void *p, size_t size);
