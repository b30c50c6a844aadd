#include "arch/multiboot.h"
#include "arch/mem.h"

#define CMDLINE_MAX 2048u
#define INFO_MAX    0x100000u

/* Copies a NUL-terminated string of at most `limit` bytes; anything odd becomes the empty string at offset 0. */
static u32 string_copy(struct loader_info *out, const struct phys_reader *r, u64 addr, u32 limit) {
    u32 start = out->strings_used, n = 0;
    for (;; n++) {
        const char *c = n < limit ? phys_map(r, addr + n, 1) : NULL;
        if (!c || start + n >= LOADER_STRINGS)
            return 0;
        out->strings[start + n] = *c;
        if (!*c)
            break;
    }
    if (!n)
        return 0;
    out->strings_used = start + n + 1;
    return start;
}

static void module_add(struct loader_info *out, const struct phys_reader *r, u64 start, u64 end, u64 string,
                       u32 limit) {
    if (out->module_count == LOADER_MODULES_MAX || start >= end || !phys_map(r, start, end - start)) {
        out->modules_lost++;
        return;
    }
    out->modules[out->module_count++] = (struct loader_module){
        .base = start, .size = end - start, .cmdline = string ? string_copy(out, r, string, limit) : 0};
}

static bool map_add(struct loader_info *out, u64 base, u64 size, u32 type, bool ram_pass) {
    bool ram = type == HIP_MEM_RAM;
    if (ram != ram_pass || base >= 1ul << 52)
        return true;
    u64 end = min_u64(base + size < base ? ~0ul : base + size, 1ul << 52);
    u64 first = ram ? base + PAGE_MASK : base, last = ram ? end : end + PAGE_MASK;
    first &= ~PAGE_MASK;
    last &= ~PAGE_MASK;
    bool known = type == HIP_MEM_RAM || type == HIP_MEM_ACPI || type == HIP_MEM_NVS;
    return first >= last || range_set(&out->map, first, last - first, known ? (i32)type : HIP_MEM_RESERVED);
}

/* Entries: base 64, length 64, type 32, at `stride` apart (multiboot 2), or each preceded by its size (multiboot 1: stride 0). */
static bool map_read(struct loader_info *out, const u8 *entries, u32 bytes, u32 stride) {
    for (int pass = 0; pass < 2; pass++)
        for (u32 at = 0; at < bytes;) {
            u32 head = stride ? 0 : 4, step = stride;
            if (bytes - at < head + 20)
                break;
            if (!stride) {
                u32 size = le32(entries + at);
                if (size < 20 || size > 1024)
                    break;
                step = size + 4;
            }
            const u8 *e = entries + at + head;
            if (!map_add(out, le64(e), le64(e + 8), le32(e + 16), pass == 0))
                return false;
            at += step;
        }
    return true;
}

/* Multiboot 1 and 2 have the same fields in the same order. */
static void screen_read(struct loader_info *out, const u8 *p) {
    out->screen = (struct loader_screen){.addr = le64(p),
                                         .pitch = le32(p + 8),
                                         .width = le32(p + 12),
                                         .height = le32(p + 16),
                                         .bpp = p[20],
                                         .type = p[21]};
}

static const char *parse1(u64 info, const struct phys_reader *r, struct loader_info *out) {
    enum { F_MEM = 1, F_CMDLINE = 4, F_MODS = 8, F_MMAP = 64, F_SCREEN = 4096 };
    const u8 *i = phys_map(r, info, 116);
    if (!i)
        return "multiboot information is not readable";
    u32 flags = le32(i);
    if (flags & F_MMAP) {
        u32 bytes = le32(i + 44);
        const u8 *entries = bytes <= INFO_MAX ? phys_map(r, le32(i + 48), bytes) : NULL;
        if (!entries || !map_read(out, entries, bytes, 0))
            return "memory map is not readable or too long";
    } else if (flags & F_MEM) {
        if (!map_add(out, 0, (u64)min_u64(le32(i + 4), 640) << 10, HIP_MEM_RAM, true) ||
            !map_add(out, 0x100000, (u64)le32(i + 8) << 10, HIP_MEM_RAM, true))
            return "memory map is too long";
    }
    if (flags & F_SCREEN)
        screen_read(out, i + 88);
    if (flags & F_CMDLINE)
        out->cmdline = string_copy(out, r, le32(i + 16), CMDLINE_MAX);
    u32 count = flags & F_MODS ? le32(i + 20) : 0;
    const u8 *mods = count <= 4096 ? phys_map(r, le32(i + 24), (u64)count * 16) : NULL;
    for (u32 m = 0; mods && m < count; m++)
        module_add(out, r, le32(mods + m * 16), le32(mods + m * 16 + 4), le32(mods + m * 16 + 8), CMDLINE_MAX);
    return NULL;
}

static const char *tag_read(u32 type, const u8 *tag, u64 addr, u32 size, const struct phys_reader *r,
                            struct loader_info *out) {
    enum { TAG_CMDLINE = 1, TAG_MODULE = 3, TAG_MMAP = 6, TAG_SCREEN = 8, TAG_RSDP1 = 14, TAG_RSDP2 = 15 };
    if (type == TAG_CMDLINE) {
        out->cmdline = string_copy(out, r, addr + 8, size - 8);
    } else if (type == TAG_MODULE && size >= 17) {
        module_add(out, r, le32(tag + 8), le32(tag + 12), addr + 16, size - 16);
    } else if (type == TAG_MMAP && size >= 16) {
        u32 stride = le32(tag + 8);
        if (stride < 20 || stride > 1024 || !map_read(out, tag + 16, size - 16, stride))
            return "memory map is damaged or too long";
    } else if (type == TAG_SCREEN && size >= 30) {
        screen_read(out, tag + 8);
    } else if ((type == TAG_RSDP1 && size >= 8 + 20 && !out->rsdp_size) || (type == TAG_RSDP2 && size >= 8 + 36)) {
        out->rsdp_size = type == TAG_RSDP1 ? 20 : 36;
        memcpy(out->rsdp, tag + 8, out->rsdp_size);
    }
    return NULL;
}

static const char *parse2(u64 info, const struct phys_reader *r, struct loader_info *out) {
    const u8 *head = phys_map(r, info, 8);
    u32 total = head ? le32(head) : 0;
    const u8 *i = total >= 16 && total <= INFO_MAX ? phys_map(r, info, total) : NULL;
    if (!i)
        return "multiboot 2 information is not readable";
    for (u32 at = 8; total - at >= 8;) {
        u32 type = le32(i + at), size = le32(i + at + 4);
        if (!type)
            break;
        if (size < 8 || size > total - at)
            return "multiboot 2 tag runs over the end";
        const char *why = tag_read(type, i + at, info + at, size, r, out);
        if (why)
            return why;
        u32 step = (size + 7) & ~7u;
        if (step >= total - at)
            break;
        at += step;
    }
    return NULL;
}

bool multiboot_parse(u32 magic, u64 info, const struct phys_reader *r, struct loader_info *out, const char **why) {
    memset(out, 0, sizeof(*out));
    out->strings_used = 1;
    if (magic != MULTIBOOT1_MAGIC && magic != MULTIBOOT2_MAGIC) {
        *why = "not started by a multiboot loader";
        return false;
    }
    *why = magic == MULTIBOOT1_MAGIC ? parse1(info, r, out) : parse2(info, r, out);
    if (!*why && !range_total(&out->map, HIP_MEM_RAM))
        *why = "the loader gave no memory map";
    return !*why;
}
