/* Direct boot of Linux: bzImage or ELF vmlinux, initrd, command line, memory map.
 * Facts: Linux documentation, "The Linux/x86 Boot Protocol" and "zero page". */
#pragma once
#include "gmem.h"

struct load_request {
    const struct gmem *mem;
    const uint8_t *kernel, *initrd; /* as mapped; initrd null: none */
    uint64_t kernel_size, initrd_size;
    const char *kernel_name, *initrd_name; /* for messages */
    const char *cmdline;
    uint64_t rsdp;
};

struct load_result {
    uint64_t entry;       /* guest-physical */
    uint64_t boot_params; /* RSI */
    uint64_t cr3, gdt;    /* long mode only */
    bool long_mode;       /* false: 32-bit protected mode without paging */
    char error[192];      /* one line that says what is wrong and what would help */
};

#define LOADER_GDT_LIMIT 0x1f
#define LOADER_CS        0x10
#define LOADER_DS        0x18

/* False: error is set and the VM must not start. */
bool loader_load(const struct load_request *r, struct load_result *out);
