/* Access to memory that is shared with others (rings, startup page, guest memory): plain loads and stores on hardware; the
 * simulator supplies another header of this name that walks its page tables. Pointers are addresses of this component. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint8_t mem_read8(const void *p) { return *(const volatile uint8_t *)p; }
static inline uint16_t mem_read16(const void *p) { return *(const volatile uint16_t *)p; }
static inline uint32_t mem_read32(const void *p) { return *(const volatile uint32_t *)p; }
static inline uint64_t mem_read64(const void *p) { return *(const volatile uint64_t *)p; }
static inline void mem_write8(void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void mem_write16(void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void mem_write32(void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
static inline void mem_write64(void *p, uint64_t v) { *(volatile uint64_t *)p = v; }

static inline void mem_copy_from(void *dst, const void *shared, size_t len) { memcpy(dst, shared, len); }
static inline void mem_copy_to(void *shared, const void *src, size_t len) { memcpy(shared, src, len); }
static inline void mem_zero(void *shared, size_t len) { memset(shared, 0, len); }

/* Index words of rings and request words: acquire and release pair producer with consumer; the exchange and the fence are
 * sequentially consistent, because sleeping consumers rely on store-then-load order. */
static inline uint32_t mem_load_acq32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
static inline void mem_store_rel32(uint32_t *p, uint32_t v) { __atomic_store_n(p, v, __ATOMIC_RELEASE); }
static inline uint32_t mem_xchg32(uint32_t *p, uint32_t v) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); }
static inline uint32_t mem_or32(uint32_t *p, uint32_t v) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); }
static inline void mem_fence(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
