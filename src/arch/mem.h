/* Physical memory as the kernel sees it: all of RAM is reachable through one direct map. From mach/mem.h, inline:
 *   void *arch_phys_ptr(paddr_t);  paddr_t arch_ptr_phys(const void *);  (pointers into the direct map only)
 *   void arch_words_copy(u64 *to, const u64 *from, u64 count);
 *   void arch_cache_clean(const void *, size_t);        written back to memory: devices may not look into caches
 *   void arch_mem_poison(void *, size_t);  void arch_mem_unpoison(void *, size_t);   freed memory, for Valgrind and ASan */
#pragma once
#include "arch/types.h"
#include <mach/mem.h>
void *memcpy(void *restrict, const void *restrict, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
