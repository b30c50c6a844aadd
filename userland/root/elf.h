/* ELF64 executables of components: pure parser, every bound checked against the image and the given address range. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define ELF_SEGMENTS_MAX 8

struct elf_segment {
    uint64_t va, mem_size; /* page-aligned start and length */
    uint64_t copy_offset;  /* where in the segment the file bytes go */
    uint64_t file_offset, file_size;
    uint32_t perm; /* PERM_MEM_* */
};

struct elf_image {
    uint64_t entry;
    uint32_t count;
    struct elf_segment segment[ELF_SEGMENTS_MAX];
};

/* Null when the image is good, else why not (one phrase). Segments must lie in [va_start, va_end), not overlap pages of each
 * other and not be writable and executable at once. */
const char *elf_parse(struct elf_image *elf, const void *image, size_t size, uint64_t va_start, uint64_t va_end);
