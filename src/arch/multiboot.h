/* What the boot loader says: Multiboot 1 (QEMU -kernel) and Multiboot 2 (GRUB) information, read defensively. Everything is copied;
 * the loader's memory is not needed afterwards, module bodies excepted.
 * Multiboot Specification 0.6.96 section 3.3 "Boot information format"; Multiboot2 Specification 2.0 section 3.6. */
#pragma once
#include "arch/phys.h"
#include "arch/range.h"

#define MULTIBOOT1_MAGIC   0x2badb002u
#define MULTIBOOT2_MAGIC   0x36d76289u
#define LOADER_MODULES_MAX 32
#define LOADER_STRINGS     8192

struct loader_module {
    u64 base, size;
    u32 cmdline; /* offset in strings */
};
enum { SCREEN_RGB = 1, SCREEN_TEXT = 2 };
struct loader_screen { /* Multiboot2 Specification 2.0, 3.6.12 "Framebuffer info" */
    u64 addr;
    u32 pitch, width, height; /* bytes; dots, or characters of SCREEN_TEXT */
    u8 bpp, type;             /* SCREEN_RGB, SCREEN_TEXT; all else is of no use */
};
struct loader_info {
    struct range_list map; /* page-aligned: RAM shrunk, all else grown; where entries overlap, what is not RAM wins */
    struct loader_module modules[LOADER_MODULES_MAX];
    u32 module_count;
    u32 modules_lost;            /* found but not usable: too many, unreadable or empty */
    u32 cmdline;                 /* offset in strings */
    u8 rsdp[36];                 /* copy of the ACPI root pointer, if the loader gave one */
    struct loader_screen screen; /* all zero: none */
    u32 rsdp_size;               /* 0, 20 or 36 */
    u32 strings_used;
    char strings[LOADER_STRINGS]; /* NUL-terminated; offset 0 is the empty string. What does not fit becomes empty. */
};
/* False, with a short reason in *why: not a multiboot loader, or no memory map. */
must_check bool multiboot_parse(u32 magic, u64 info, const struct phys_reader *r, struct loader_info *out,
                                const char **why);
