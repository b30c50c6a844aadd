/* ELF64 executables (x86-64, statically linked): a pure, bounds-checked reader over bytes. ELF-64 object file format, version 1.5. */
#pragma once
#include "arch/types.h"

#define ELF_MAX_SEGMENTS 16

enum elf_flag { ELF_X = 1, ELF_W = 2, ELF_R = 4 }; /* elf_segment.flags, as in the file */
struct elf_segment {
    u64 vaddr;  /* below 2^47, vaddr + memsz does not wrap; any alignment */
    u64 filesz; /* <= memsz */
    u64 memsz;
    u64 offset; /* in the image; offset + filesz lies in it */
    u32 flags;
};
struct elf_info {
    u64 entry;
    u32 count; /* PT_LOAD segments with memsz > 0, in file order (ascending, page ranges may touch, never overlap) */
    struct elf_segment segments[ELF_MAX_SEGMENTS];
};
/* False: not a usable executable (*out is then undefined). `why`, if not NULL, gets a short reason. The image may have any alignment. */
must_check bool elf_parse(const void *image, u64 size, struct elf_info *out, const char **why);
