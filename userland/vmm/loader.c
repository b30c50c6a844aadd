#include "loader.h"

#include "mem.h"
#include "tables.h"

#include <stdio.h>
#include <string.h>

/* Guest-physical layout of what the loader makes. */
#define GDT_ADDR     0x6000ull
#define PARAMS_ADDR  0x7000ull
#define CMDLINE_ADDR 0x8000ull
#define CMDLINE_MAX  4096u
#define TABLE_ADDR   0x10000ull /* PML4, PDPT, four PDs: 4 GiB one to one */
#define LOW_END      0x9fc00ull
#define MIB          0x100000ull

/* Offsets in the zero page and in the setup header (they agree from 0x1f1 on). */
enum {
    BP_RSDP = 0x070,
    BP_E820_COUNT = 0x1e8,
    BP_SETUP_SECTS = 0x1f1,
    BP_BOOT_FLAG = 0x1fe,
    BP_JUMP = 0x201,
    BP_MAGIC = 0x202,
    BP_VERSION = 0x206,
    BP_LOADER = 0x210,
    BP_LOADFLAGS = 0x211,
    BP_CODE32 = 0x214,
    BP_INITRD = 0x218,
    BP_INITRD_SIZE = 0x21c,
    BP_HEAP_END = 0x224,
    BP_CMDLINE = 0x228,
    BP_INITRD_MAX = 0x22c,
    BP_RELOCATABLE = 0x234,
    BP_XLOADFLAGS = 0x236,
    BP_CMDLINE_SIZE = 0x238,
    BP_PREF_ADDR = 0x258,
    BP_INIT_SIZE = 0x260,
    BP_E820 = 0x2d0,
};
#define SETUP_MAGIC 0x53726448u /* "HdrS" */

struct placement {
    uint64_t kernel_end; /* first byte behind all that the kernel needs before it has its own allocator */
    uint64_t initrd_max;
};

static uint64_t get(const uint8_t *p, unsigned size) {
    uint64_t v = 0;

    memcpy(&v, p, size);
    return v;
}

static void put(uint8_t *p, uint64_t v, unsigned size) { memcpy(p, &v, size); }

static bool too_small(const struct load_request *r, struct load_result *out, uint64_t end) {
    /* what Linux needs besides its image and the initrd until user space runs */
    uint64_t need = (end + 2 * r->initrd_size + 24 * MIB + 16 * MIB - 1) / (16 * MIB) * 16;

    if (r->mem->size >= need * MIB)
        return false;
    snprintf(out->error, sizeof(out->error),
             "memory of %u MiB is too small for %s: it needs at least %u MiB (memory = %uM)",
             (unsigned)(r->mem->size / MIB), r->kernel_name, (unsigned)need, (unsigned)need);
    return true;
}

static bool bad(struct load_result *out, const struct load_request *r, const char *what) {
    snprintf(out->error, sizeof(out->error), "kernel %s: %s", r->kernel_name, what);
    return false;
}

/* ---- ELF vmlinux ---- */

struct elf_segment {
    uint64_t offset, paddr, filesz, memsz;
};

static bool elf_segment_read(const struct load_request *r, unsigned n, struct elf_segment *s, struct load_result *out) {
    uint64_t phoff = get(r->kernel + 32, 8), size = get(r->kernel + 54, 2);

    if (size < 56 || phoff > r->kernel_size || (n + 1) * size > r->kernel_size - phoff)
        return bad(out, r, "damaged ELF file: program headers lie outside (build or fetch it again)");
    const uint8_t *p = r->kernel + phoff + n * size;

    *s = (struct elf_segment){
        .offset = get(p + 8, 8), .paddr = get(p + 24, 8), .filesz = get(p + 32, 8), .memsz = get(p + 40, 8)};
    if (get(p, 4) != 1 /* PT_LOAD */) {
        s->memsz = 0;
        return true;
    }
    if (s->offset > r->kernel_size || s->filesz > r->kernel_size - s->offset || s->filesz > s->memsz ||
        s->memsz > 1ull << 40 || s->paddr > 1ull << 40)
        return bad(out, r, "damaged or truncated ELF file: a segment lies outside (build or fetch it again)");
    if (s->memsz && s->paddr < MIB)
        return bad(out, r, "ELF segment below 1 MiB: not a Linux kernel that can be loaded directly");
    return true;
}

static bool elf_load(const struct load_request *r, uint8_t *params, struct load_result *out, struct placement *pl) {
    unsigned count = (unsigned)get(r->kernel + 56, 2);
    struct elf_segment s;

    if (r->kernel_size < 64 || r->kernel[4] != 2 || get(r->kernel + 18, 2) != 62 || get(r->kernel + 16, 2) != 2)
        return bad(out, r, "not an x86-64 executable ELF file");
    for (unsigned i = 0; i < count; i++) {
        if (!elf_segment_read(r, i, &s, out))
            return false;
        if (s.memsz && s.paddr + s.memsz > pl->kernel_end)
            pl->kernel_end = s.paddr + s.memsz;
    }
    if (!pl->kernel_end)
        return bad(out, r, "ELF file without loadable segments");
    if (too_small(r, out, pl->kernel_end))
        return false;
    for (unsigned i = 0; i < count; i++) {
        uint8_t *dst;
        if (!elf_segment_read(r, i, &s, out))
            return false;
        if (!s.memsz)
            continue;
        if (!(dst = gmem_ptr(r->mem, s.paddr, s.memsz)))
            return bad(out, r, "an ELF segment does not fit into the guest's memory");
        mem_copy_to(dst, r->kernel + s.offset, s.filesz);
        mem_zero(dst + s.filesz, s.memsz - s.filesz);
    }
    out->entry = get(r->kernel + 24, 8);
    out->long_mode = true;
    pl->initrd_max = 0x7fffffff;
    put(params + BP_BOOT_FLAG, 0xaa55, 2);
    put(params + BP_MAGIC, SETUP_MAGIC, 4);
    put(params + BP_VERSION, 0x020f, 2);
    return true;
}

/* ---- bzImage ---- */

static bool bzimage_load(const struct load_request *r, uint8_t *params, struct load_result *out, struct placement *pl) {
    const uint8_t *k = r->kernel;
    uint64_t setup = (k[BP_SETUP_SECTS] ? k[BP_SETUP_SECTS] : 4u) * 512ull + 512;
    unsigned version = (unsigned)get(k + BP_VERSION, 2), header_end = 0x202u + k[BP_JUMP];

    if (version < 0x020a)
        return bad(out, r, "boot protocol older than 2.10: use a kernel of 2.6.31 or later");
    if (setup >= r->kernel_size || header_end > 0x290)
        return bad(out, r, "damaged or truncated bzImage (build or fetch it again)");
    bool long_mode = version >= 0x020c && k[BP_XLOADFLAGS] & 1;
    uint64_t size = r->kernel_size - setup, init_size = get(k + BP_INIT_SIZE, 4);
    uint64_t addr = long_mode && k[BP_RELOCATABLE] ? get(k + BP_PREF_ADDR, 8) : MIB;
    /* the 64-bit code says itself how far the file reaches: syssize, in 16-byte units */
    if (get(k + 0x1f4, 4) * 16 > size + 15)
        return bad(out, r, "truncated bzImage (build or fetch it again)");
    if (addr < MIB || addr > 1ull << 32 || size > 1ull << 32)
        return bad(out, r, "damaged bzImage: preferred address out of range");
    pl->kernel_end = addr + (init_size > size ? init_size : size);
    pl->initrd_max = get(k + BP_INITRD_MAX, 4);
    if (too_small(r, out, pl->kernel_end))
        return false;
    uint8_t *dst = gmem_ptr(r->mem, addr, pl->kernel_end - addr);
    if (!dst)
        return bad(out, r, "does not fit into the guest's memory");
    mem_copy_to(dst, k + setup, size);
    memcpy(params + BP_SETUP_SECTS, k + BP_SETUP_SECTS, header_end - BP_SETUP_SECTS);
    put(params + BP_CODE32, addr, 4);
    out->entry = long_mode ? addr + 0x200 : addr;
    out->long_mode = long_mode;
    if (strlen(r->cmdline) > get(k + BP_CMDLINE_SIZE, 4))
        return bad(out, r, "the command line is longer than this kernel takes");
    return true;
}

/* ---- common ---- */

static bool initrd_load(const struct load_request *r, uint8_t *params, struct load_result *out,
                        const struct placement *pl) {
    uint64_t top = gmem_low_size(r->mem), size = r->initrd_size;

    if (!r->initrd || !size)
        return true;
    if (top > pl->initrd_max + 1)
        top = pl->initrd_max + 1;
    if (size > top || ((top - size) & ~4095ull) < pl->kernel_end) {
        uint64_t need = (pl->kernel_end + 2 * size + 40 * MIB) / (16 * MIB) * 16;
        snprintf(out->error, sizeof(out->error), "initrd %s of %u MiB does not fit: memory must be at least %u MiB",
                 r->initrd_name, (unsigned)(size / MIB), (unsigned)need);
        return false;
    }
    uint64_t addr = (top - size) & ~4095ull;
    uint8_t *dst = gmem_ptr(r->mem, addr, size);

    if (!dst)
        return bad(out, r, "no memory for the initrd");
    mem_copy_to(dst, r->initrd, size);
    put(params + BP_INITRD, addr, 4);
    put(params + BP_INITRD_SIZE, size, 4);
    return true;
}

static void e820_add(uint8_t *params, uint64_t addr, uint64_t size, uint32_t type) {
    unsigned n = params[BP_E820_COUNT];

    if (!size)
        return;
    put(params + BP_E820 + n * 20, addr, 8);
    put(params + BP_E820 + n * 20 + 8, size, 8);
    put(params + BP_E820 + n * 20 + 16, type, 4);
    params[BP_E820_COUNT] = (uint8_t)(n + 1);
}

static bool long_mode_tables(const struct gmem *g) {
    uint8_t *t = gmem_ptr(g, TABLE_ADDR, 6 * 4096);

    if (!t)
        return false;
    mem_zero(t, 6 * 4096);
    mem_write64(t, (TABLE_ADDR + 0x1000) | 3);
    for (unsigned i = 0; i < 4; i++)
        mem_write64(t + 0x1000 + i * 8, (TABLE_ADDR + 0x2000 + i * 0x1000) | 3);
    for (uint64_t i = 0; i < 2048; i++)
        mem_write64(t + 0x2000 + i * 8, i << 21 | 0x83); /* present, writable, 2 MiB */
    return true;
}

bool loader_load(const struct load_request *r, struct load_result *out) {
    static uint8_t params[4096];
    struct placement pl = {0};
    size_t cmdline = strlen(r->cmdline) + 1;

    memset(out, 0, sizeof(*out));
    memset(params, 0, sizeof(params));
    if (cmdline > CMDLINE_MAX)
        return bad(out, r, "the command line is longer than 4095 characters");
    if (r->kernel_size < 0x290)
        return bad(out, r, "file too short for a kernel (build or fetch it again)");
    if (get(r->kernel, 4) == 0x464c457f) {
        if (!elf_load(r, params, out, &pl))
            return false;
    } else if (get(r->kernel + BP_MAGIC, 4) == SETUP_MAGIC && get(r->kernel + BP_BOOT_FLAG, 2) == 0xaa55) {
        if (!bzimage_load(r, params, out, &pl))
            return false;
    } else {
        return bad(out, r, "neither a bzImage nor an ELF kernel");
    }
    if (!initrd_load(r, params, out, &pl))
        return false;
    params[BP_LOADER] = 0xff; /* no assigned loader id */
    params[BP_LOADFLAGS] = (uint8_t)((params[BP_LOADFLAGS] | 1) & ~0x80);
    put(params + BP_HEAP_END, 0, 2);
    put(params + BP_CMDLINE, CMDLINE_ADDR, 4);
    put(params + BP_RSDP, r->rsdp, 8);
    e820_add(params, 0, LOW_END, 1);
    e820_add(params, LOW_END, MIB - LOW_END, 2);
    e820_add(params, MIB, gmem_low_size(r->mem) - MIB, 1);
    e820_add(params, GMEM_HIGH_START, gmem_high_size(r->mem), 1);

    static const uint64_t gdt[4] = {0, 0, 0x00af9a000000ffff, 0x00cf92000000ffff};
    static const uint64_t gdt32[4] = {0, 0, 0x00cf9a000000ffff, 0x00cf92000000ffff};
    out->boot_params = PARAMS_ADDR;
    out->gdt = GDT_ADDR;
    out->cr3 = TABLE_ADDR;
    if (!gmem_write(r->mem, GDT_ADDR, out->long_mode ? gdt : gdt32, sizeof(gdt)) || !long_mode_tables(r->mem) ||
        !gmem_write(r->mem, CMDLINE_ADDR, r->cmdline, cmdline) ||
        !gmem_write(r->mem, PARAMS_ADDR, params, sizeof(params)))
        return bad(out, r, "no memory for boot parameters");
    return true;
}
