#include "arch/elf.h"
#include "arch/mem.h"

struct elf64_header {
    u8 ident[16];
    u16 type, machine;
    u32 version;
    u64 entry, phoff, shoff;
    u32 flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct elf64_program_header {
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};
static_assert(sizeof(struct elf64_header) == 64, "ELF-64 file header");
static_assert(sizeof(struct elf64_program_header) == 56, "ELF-64 program header");

enum { ET_EXEC = 2, EM_X86_64 = 62, PT_LOAD = 1 };
#define USER_LIMIT 0x800000000000ul

static const char *segment_read(const struct elf64_program_header *ph, u64 size, struct elf_info *out) {
    if (ph->offset > size || ph->filesz > size - ph->offset)
        return "segment outside the file";
    if (ph->filesz > ph->memsz)
        return "segment larger in the file than in memory";
    if (ph->vaddr >= USER_LIMIT || ph->memsz > USER_LIMIT - ph->vaddr)
        return "segment outside user space";
    if (out->count == ELF_MAX_SEGMENTS)
        return "too many segments";
    if (out->count) {
        const struct elf_segment *last = &out->segments[out->count - 1];
        if (ph->vaddr < last->vaddr + last->memsz)
            return "segments overlap or are not ascending";
    }
    out->segments[out->count++] = (struct elf_segment){
        .vaddr = ph->vaddr, .filesz = ph->filesz, .memsz = ph->memsz, .offset = ph->offset, .flags = ph->flags & 7};
    return NULL;
}

static const char *parse(const u8 *image, u64 size, struct elf_info *out) {
    struct elf64_header h;
    if (size < sizeof(h))
        return "too short";
    memcpy(&h, image, sizeof(h));
    static const u8 ident[7] = {0x7f, 'E', 'L', 'F', 2, 1, 1}; /* 64-bit, little endian, version 1 */
    if (memcmp(h.ident, ident, sizeof(ident)))
        return "not a 64-bit ELF file";
    if (h.type != ET_EXEC || h.machine != EM_X86_64)
        return "not a static x86-64 executable";
    if (h.phentsize != sizeof(struct elf64_program_header))
        return "odd program header size";
    if (h.phoff > size || (u64)h.phnum * h.phentsize > size - h.phoff)
        return "program headers outside the file";
    *out = (struct elf_info){.entry = h.entry};
    for (u32 i = 0; i < h.phnum; i++) {
        struct elf64_program_header ph;
        memcpy(&ph, image + h.phoff + (u64)i * sizeof(ph), sizeof(ph));
        if (ph.type != PT_LOAD || !ph.memsz)
            continue;
        const char *why = segment_read(&ph, size, out);
        if (why)
            return why;
    }
    if (!out->count)
        return "nothing to load";
    if (h.entry >= USER_LIMIT)
        return "entry point outside user space";
    return NULL;
}

bool elf_parse(const void *image, u64 size, struct elf_info *out, const char **why) {
    const char *reason = parse(image, size, out);
    if (why)
        *why = reason;
    return !reason;
}
