/* How pure parsers of firmware and boot loader tables see physical memory. */
#pragma once
#include "arch/types.h"

struct phys_reader {
    /* Bytes [addr, addr + size) of physical memory, or NULL if they cannot be read (not there, or the sum wraps). Any alignment. */
    const void *(*map)(void *context, u64 addr, u64 size);
    void *context;
};
static inline const void *phys_map(const struct phys_reader *r, u64 addr, u64 size) {
    return r->map(r->context, addr, size);
}
/* Sum of all bytes modulo 256; firmware tables are built so that it is 0. */
static inline u8 phys_checksum(const void *bytes, u64 size) {
    u8 sum = 0;
    for (u64 i = 0; i < size; i++)
        sum = (u8)(sum + ((const u8 *)bytes)[i]);
    return sum;
}
/* Numbers in such tables: little-endian, of any alignment. */
typedef u16 le16_t __attribute__((aligned(1)));
typedef u32 le32_t __attribute__((aligned(1)));
typedef u64 le64_t __attribute__((aligned(1)));
static inline u16 le16(const void *p) { return *(const le16_t *)p; }
static inline u32 le32(const void *p) { return *(const le32_t *)p; }
static inline u64 le64(const void *p) { return *(const le64_t *)p; }
