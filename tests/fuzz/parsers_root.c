/* Root's ELF loader has the kernel's name and header names: it is compiled into this file under another one. */
#define elf_parse root_elf_parse
#include "../../userland/root/elf.c"
#include <stdio.h>
#include <stdlib.h>

void root_elf_run(const uint8_t *bytes, size_t size);

void root_elf_run(const uint8_t *bytes, size_t size) {
    const uint64_t first = 0x1000, end = 0x10000000;
    struct elf_image elf;
    uint8_t *image = malloc(size);
    memcpy(image, bytes, size);
    if (!root_elf_parse(&elf, image, size, first, end)) {
        for (uint32_t i = 0; i < elf.count; i++) {
            const struct elf_segment *s = &elf.segment[i];
            if (s->va % 4096 || s->mem_size % 4096 || s->va < first || s->va + s->mem_size > end ||
                s->file_offset > size || s->file_size > size - s->file_offset ||
                s->copy_offset + s->file_size > s->mem_size ||
                (s->perm & (PERM_MEM_W | PERM_MEM_X)) == (PERM_MEM_W | PERM_MEM_X)) {
                fprintf(stderr, "parsers_root.c: does not hold: segment %u\n", i);
                abort();
            }
        }
    }
    free(image);
}
