#include "elf.h"

#include "core/abi.h"

#include <stdbool.h>
#include <string.h>

/* System V ABI, chapter 4 and 5 (ELF-64 object file format). */
struct elf64_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf64_phdr {
    uint32_t type, flags;
    uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
_Static_assert(sizeof(struct elf64_header) == 64 && sizeof(struct elf64_phdr) == 56, "ELF-64");
enum { ET_EXEC = 2, EM_X86_64 = 62, PT_LOAD = 1, PF_X = 1, PF_W = 2, PF_R = 4 };

static const char *elf_segment_add(struct elf_image *elf, const struct elf64_phdr *ph, size_t size, uint64_t va_start,
                                   uint64_t va_end) {
    if (elf->count == ELF_SEGMENTS_MAX)
        return "too many segments";
    if (ph->filesz > ph->memsz || ph->offset > size || ph->filesz > size - ph->offset)
        return "a segment reaches beyond the end of the file (truncated?)";
    if (ph->vaddr < va_start || ph->vaddr >= va_end || ph->memsz > va_end - ph->vaddr)
        return "a segment lies outside the address range for components";
    if ((ph->flags & (PF_W | PF_X)) == (PF_W | PF_X))
        return "a segment is both writable and executable";

    struct elf_segment *s = &elf->segment[elf->count];

    s->va = ph->vaddr & ~4095ul;
    s->copy_offset = ph->vaddr & 4095;
    s->mem_size = (s->copy_offset + ph->memsz + 4095) & ~4095ul;
    s->file_offset = ph->offset;
    s->file_size = ph->filesz;
    s->perm = PERM_MEM_R | (ph->flags & PF_W ? PERM_MEM_W : 0) | (ph->flags & PF_X ? PERM_MEM_X : 0);
    for (uint32_t i = 0; i < elf->count; i++)
        if (s->va < elf->segment[i].va + elf->segment[i].mem_size && elf->segment[i].va < s->va + s->mem_size)
            return "two segments share a page";
    elf->count++;
    return NULL;
}

const char *elf_parse(struct elf_image *elf, const void *image, size_t size, uint64_t va_start, uint64_t va_end) {
    static const uint8_t magic[] = {0x7f, 'E', 'L', 'F', 2, 1, 1}; /* 64-bit, little-endian, version 1 */
    struct elf64_header h;

    *elf = (struct elf_image){0};
    if (size < sizeof h)
        return "too short for an ELF file";
    memcpy(&h, image, sizeof h);
    if (memcmp(h.ident, magic, sizeof magic))
        return "not a 64-bit ELF file";
    if (h.type != ET_EXEC || h.machine != EM_X86_64)
        return "not an x86-64 executable";
    if (h.phentsize != sizeof(struct elf64_phdr) || h.phoff > size ||
        h.phnum > (size - h.phoff) / sizeof(struct elf64_phdr))
        return "program headers lie outside the file";
    for (uint32_t i = 0; i < h.phnum; i++) {
        struct elf64_phdr ph;

        memcpy(&ph, (const uint8_t *)image + h.phoff + i * sizeof ph, sizeof ph);
        if (ph.type != PT_LOAD || !ph.memsz)
            continue;

        const char *error = elf_segment_add(elf, &ph, size, va_start, va_end);

        if (error)
            return error;
    }
    elf->entry = h.entry;
    for (uint32_t i = 0; i < elf->count; i++)
        if (elf->segment[i].perm & PERM_MEM_X && h.entry >= elf->segment[i].va &&
            h.entry - elf->segment[i].va < elf->segment[i].mem_size)
            return NULL;
    return "the entry point lies in no executable segment";
}
