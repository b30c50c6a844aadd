/* The parsers and what must hold of their results. Inputs lie in allocations of exactly their size. */
#include "parsers.h"
#include "../../userland/root/acpi.h"
#include "../../userland/root/config.h"
#include "../../userland/vmm/loader.h"
#include "arch/acpi.h"
#include "arch/elf.h"
#include "arch/cmdline.h"
#include "arch/multiboot.h"
#include "core/klog.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define holds(x) ((x) ? (void)0 : broken(#x, __LINE__))
static void broken(const char *what, int line) {
    fprintf(stderr, "parsers.c:%d: does not hold: %s\n", line, what);
    abort();
}

static void put(u8 *p, size_t at, unsigned bytes, u64 v) { memcpy(p + at, &v, bytes); }
static u32 get32(const u8 *p) {
    u32 v;
    memcpy(&v, p, 4);
    return v;
}

/* --- physical memory with firmware's tables: byte 0 says what is repaired, the image begins behind the first 16 --- */
enum {
    HEAD = 16,
    BASE = 0xe0000,
    EBDA = 0x9fc00,
    RSDP = 0x10,
    RSDT = 0x100,
    XSDT = 0x180,
    MADT = 0x200,
    FADT = 0x300,
    HPET = 0x400,
    DMAR = 0x480,
    MCFG = 0x500,
    ACPI_SIZE = 0x600
};
static const u16 tables[] = {RSDT, XSDT, MADT, FADT, HPET, DMAR, MCFG};

struct memory {
    u64 base, size;
    const u8 *bytes, *bda;
};
static const void *memory_map(void *context, u64 addr, u64 size) {
    const struct memory *m = context;
    if (m->bda && addr == 0x40e && size == 2)
        return m->bda;
    u64 at = addr - (m->bda && addr < BASE ? EBDA : m->base);
    return size <= m->size && at <= m->size - size ? m->bytes + at : NULL;
}

static void seal(u8 *p, u64 size, unsigned sum) {
    p[sum] = 0;
    p[sum] = (u8)-phys_checksum(p, size);
}

static void acpi_seal(u8 *image, size_t size) {
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        u32 length = tables[i] + 8u <= size ? get32(image + tables[i] + 4) : 0;
        if (length > 9 && tables[i] + (u64)length <= size)
            seal(image + tables[i], length, 9);
    }
    if (size >= RSDP + 36) {
        seal(image + RSDP, 20, 8);
        seal(image + RSDP, 36, 32);
    }
}

static void table_head(u8 *image, unsigned at, const char *signature, u32 size) {
    memcpy(image + at, signature, 4);
    put(image, at + 4, 4, size);
}

static size_t acpi_seed(unsigned n, u8 *to) {
    static const u8 madt[] = {0,  0, 0xe0, 0xfe, 1,    0,    0, 0,  0, 8, 7,  0,  1, 0, 0, 0,    0,    8, 8, 1, 0,
                              0,  0, 0,    9,    16,   0,    0, 0,  1, 0, 0,  1,  0, 0, 0, 9,    0,    0, 0, 1, 12,
                              5,  0, 0,    0,    0xc0, 0xfe, 0, 0,  0, 0, 2,  10, 0, 0, 2, 0,    0,    0, 0, 0, 2,
                              10, 0, 9,    9,    0,    0,    0, 15, 0, 5, 12, 0,  0, 0, 0, 0xe0, 0xfe, 0, 0, 0, 0};
    if (n > 1)
        return 0;
    memset(to, 0, HEAD + ACPI_SIZE);
    to[0] = 1;
    put(to, 2, 2, n ? EBDA >> 4 : 0);
    u8 *image = to + HEAD;
    memcpy(image + RSDP, "RSD PTR ", 8);
    image[RSDP + 15] = n ? 0 : 2;
    put(image, RSDP + 16, 4, BASE + RSDT);
    put(image, RSDP + 20, 4, 36);
    put(image, RSDP + 24, 8, BASE + XSDT);
    table_head(image, RSDT, "RSDT", 36 + 5 * 4);
    table_head(image, XSDT, "XSDT", 36 + 5 * 8);
    for (unsigned i = 0; i < 5; i++) {
        put(image, RSDT + 36 + i * 4, 4, BASE + tables[2 + i]);
        put(image, XSDT + 36 + i * 8, 8, BASE + tables[2 + i]);
    }
    table_head(image, MADT, "APIC", 36 + sizeof(madt));
    memcpy(image + MADT + 36, madt, sizeof(madt));
    table_head(image, FADT, "FACP", 244);
    put(image, FADT + 76, 4, 0x608);
    image[FADT + 91] = 4;
    put(image, FADT + 112, 4, 1 << 8);
    image[FADT + 208] = 1;
    put(image, FADT + 212, 8, n ? 0 : 0x608);
    table_head(image, HPET, "HPET", 56);
    put(image, HPET + 44, 8, 0xfed00000);
    table_head(image, DMAR, "DMAR", 48 + 16);
    put(image, DMAR + 50, 2, 16);
    put(image, DMAR + 56, 8, 0xfed90000);
    table_head(image, MCFG, "MCFG", 44 + 16);
    put(image, MCFG + 44, 8, 0xb0000000);
    return HEAD + ACPI_SIZE;
}

static void acpi_run(const u8 *bytes, size_t size) {
    static struct acpi_info info;
    if (size < HEAD)
        return;
    u8 *image = malloc(size - HEAD);
    memcpy(image, bytes + HEAD, size - HEAD);
    if (bytes[0] & 1)
        acpi_seal(image, size - HEAD);
    struct memory m = {.base = BASE, .size = size - HEAD, .bytes = image, .bda = bytes + 2};
    struct phys_reader r = {memory_map, &m};
    u64 at = acpi_find_rsdp(&r);
    const u8 *rsdp = at ? phys_map(&r, at, 36) : NULL;
    if (rsdp && acpi_parse(&r, rsdp, bytes[0] & 2 ? 20 : 36, &info))
        holds(info.cpu_count <= ACPI_MAX_CPUS && info.ioapic_count <= ACPI_MAX_IOAPICS &&
              info.drhd_count <= ACPI_MAX_DRHDS && info.mcfg_count <= ACPI_MAX_MCFG);
    free(image);
}

/* --- root's reader of the same tables, and of the DSDT for \_S5 --- */
static size_t root_acpi_seed(unsigned n, u8 *to) {
    static const char aml[][18] = {
        "\x08_S5_\x12\x06\x04\x00\x00\x00\x00", "\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00",
        "\x08\\_S5_\x12\x08\x02\x01\x0a\x03\x00", "\x08_S5_\x12\x4a\x01\x04\x0c\x05\x00\x00\x00\x0b\x07\x00\x00"};
    if (n < 2)
        return acpi_seed(n, to);
    if (n > 5)
        return 0;
    memset(to, 0, HEAD + 36);
    to[0] = 4;
    memcpy(to + HEAD + 36, aml[n - 2], 17);
    return HEAD + 36 + 17;
}

static void root_acpi_run(const u8 *bytes, size_t size) {
    struct acpi_power power = {0};
    bool xsdt;
    if (size < HEAD)
        return;
    size_t len = size - HEAD;
    u8 *image = malloc(len);
    memcpy(image, bytes + HEAD, len);
    if (bytes[0] & 1)
        acpi_seal(image, len);
    if (bytes[0] & 4) {
        if (len >= 36)
            (void)acpi_s5_find(&power, image, (u32)len);
    } else {
        long at = acpi_rsdp_find(image, len);
        u64 root = at >= 0 ? acpi_rsdp_root(image + at, len - (size_t)at, &xsdt) : 0;
        u64 offset = root - BASE;
        u32 length = at >= 0 && offset < len ? acpi_table_check(image + offset, len - offset, NULL) : 0;
        for (u32 i = 0; length && i < 64; i++) {
            u64 table = acpi_root_entry(image + offset, xsdt, i) - BASE;
            u32 own = table < len ? acpi_table_check(image + table, len - table, "FACP") : 0;
            if (own)
                acpi_fadt_read(&power, image + table, own);
        }
    }
    free(image);
}

/* --- boot loader's information --- */
enum { LOADER_BASE = 0x10000, MODULE = 0x600, LOADER_SIZE = 0x700 };
static size_t multiboot_tag(u8 *p, size_t at, u32 type, u32 size) {
    put(p, at, 4, type);
    put(p, at + 4, 4, size);
    return at + ((size + 7) & ~7u);
}
static void map_entry(u8 *p, size_t at, u64 base, u64 size, u32 type) {
    put(p, at, 8, base);
    put(p, at + 8, 8, size);
    put(p, at + 16, 4, type);
}

static size_t multiboot_seed(unsigned n, u8 *to) {
    u8 *p = to + HEAD;
    if (n > 2)
        return 0;
    memset(to, 0, HEAD + LOADER_SIZE);
    to[0] = (u8)n;
    if (n != 1) { /* version 1; 2: without a map */
        put(p, 0, 4, n ? 1 | 4 | 8 : 4 | 8 | 64);
        put(p, 4, 4, 640);
        put(p, 8, 4, 0x10000);
        put(p, 16, 4, LOADER_BASE + 0x400);
        memcpy(p + 0x400, "novella debugcon", 16);
        put(p, 20, 4, 2);
        put(p, 24, 4, LOADER_BASE + 0x200);
        for (unsigned m = 0; m < 2; m++) {
            put(p, 0x200 + m * 16, 4, LOADER_BASE + MODULE + m * 0x80);
            put(p, 0x204 + m * 16, 4, LOADER_BASE + MODULE + m * 0x80 + 0x80);
            put(p, 0x208 + m * 16, 4, LOADER_BASE + 0x420);
        }
        memcpy(p + 0x420, "root.elf a b", 12);
        put(p, 44, 4, 3 * 24);
        put(p, 48, 4, LOADER_BASE + 0x300);
        for (unsigned i = 0; i < 3; i++)
            put(p, 0x300 + i * 24, 4, 20);
        map_entry(p, 0x304, 0x100000, 0x7f00000, 1);
        map_entry(p, 0x31c, 0, 0x9fc00, 1);
        map_entry(p, 0x334, 0x7ff0800, 0x100, 2);
        return HEAD + LOADER_SIZE;
    }
    size_t at = 8, next = multiboot_tag(p, at, 1, 8 + 9);
    memcpy(p + at + 8, "debugcon", 8);
    at = next, next = multiboot_tag(p, at, 3, 16 + 9);
    put(p, at + 8, 4, LOADER_BASE + MODULE);
    put(p, at + 12, 4, LOADER_BASE + MODULE + 0x80);
    memcpy(p + at + 16, "root.elf", 8);
    at = next, next = multiboot_tag(p, at, 6, 16 + 3 * 24);
    put(p, at + 8, 4, 24);
    map_entry(p, at + 16, 0x100000, 0x7f00000, 1);
    map_entry(p, at + 40, 0, 0x9fc00, 1);
    map_entry(p, at + 64, 0x7000000, 0x10000, 3);
    at = next, next = multiboot_tag(p, at, 14, 28);
    at = next, next = multiboot_tag(p, at, 15, 44);
    put(p, 0, 4, multiboot_tag(p, next, 0, 8));
    return HEAD + LOADER_SIZE;
}

static void multiboot_run(const u8 *bytes, size_t size) {
    static struct loader_info info;
    const char *why = NULL;
    if (size < HEAD)
        return;
    u8 *image = malloc(size - HEAD);
    memcpy(image, bytes + HEAD, size - HEAD);
    struct memory m = {.base = LOADER_BASE, .size = size - HEAD, .bytes = image};
    struct phys_reader r = {memory_map, &m};
    u32 magic = bytes[0] & 4 ? bytes[1] : bytes[0] & 1 ? MULTIBOOT2_MAGIC : MULTIBOOT1_MAGIC;
    bool ok = multiboot_parse(magic, LOADER_BASE + (u64)bytes[2] * (bytes[0] >> 3), &r, &info, &why);
    holds(ok == !why);
    holds(info.strings_used <= LOADER_STRINGS && info.module_count <= LOADER_MODULES_MAX &&
          info.map.count <= RANGE_MAX);
    for (unsigned i = 0; i < info.map.count; i++)
        holds(info.map.r[i].size && (!i || info.map.r[i - 1].base + info.map.r[i - 1].size <= info.map.r[i].base));
    for (unsigned i = 0; i < info.module_count; i++)
        holds(info.modules[i].size && info.modules[i].cmdline < info.strings_used);
    free(image);
}

/* --- boot command line --- */
static size_t cmdline_seed(unsigned n, u8 *to) {
    static const char text[] =
        "/novella.elf debugcon nosmp noiommu nofb loglevel=1 serial=com2,9600 serial=0x3f8 serial=pci root.x";
    memcpy(to, text, sizeof(text));
    return n ? 0 : sizeof(text);
}

static void cmdline_run(const u8 *bytes, size_t size) {
    struct cmdline c;
    char *text = malloc(size + 1);
    memcpy(text, bytes, size);
    text[size] = 0;
    cmdline_parse(text, &c);
    holds(c.loglevel <= KLOG_INFO && c.serial <= SERIAL_NONE && c.serial_port >= 8 && BAUD_MAX % c.serial_baud == 0);
    holds(memchr(c.word, 0, sizeof(c.word)) && (c.bad != 0) == (c.word[0] != 0));
    free(text);
}

/* --- ELF: the kernel's loader of root, root's of components, the VMM's of guests --- */
static void elf_head(u8 *p, u64 entry, unsigned segments) {
    memcpy(p, "\177ELF\2\1\1", 7);
    put(p, 16, 2, 2);
    put(p, 18, 2, 62);
    put(p, 24, 8, entry);
    put(p, 32, 8, 64);
    put(p, 54, 2, 56);
    put(p, 56, 2, segments);
}
static void elf_segment_put(u8 *p, unsigned i, u32 flags, u64 offset, u64 vaddr, u64 filesz, u64 memsz) {
    size_t at = 64 + i * 56;
    put(p, at, 4, 1);
    put(p, at + 4, 4, flags);
    put(p, at + 8, 8, offset);
    put(p, at + 16, 8, vaddr);
    put(p, at + 24, 8, vaddr);
    put(p, at + 32, 8, filesz);
    put(p, at + 40, 8, memsz);
}

static size_t elf_seed(unsigned n, u8 *to) {
    if (n)
        return 0;
    memset(to, 0, 0x400);
    elf_head(to, 0x401000, 3);
    elf_segment_put(to, 0, 5, 0x200, 0x401000, 0x100, 0x100);
    elf_segment_put(to, 1, 4, 0x280, 0x402000, 0x40, 0x40);
    elf_segment_put(to, 2, 6, 0x300, 0x403300, 0x80, 0x5000);
    return 0x400;
}

static void elf_run(const u8 *bytes, size_t size) {
    struct elf_info info;
    const char *why;
    u8 *image = malloc(size);
    memcpy(image, bytes, size);
    bool ok = elf_parse(image, size, &info, &why);
    holds(ok == !why);
    for (unsigned i = 0; ok && i < info.count; i++) {
        const struct elf_segment *s = &info.segments[i];
        holds(s->memsz && s->filesz <= s->memsz && s->offset <= size && s->filesz <= size - s->offset);
        holds(s->vaddr < 1ul << 47 && s->memsz <= (1ul << 47) - s->vaddr);
        holds(!i || s[-1].vaddr + s[-1].memsz <= s->vaddr);
    }
    free(image);
}

/* The same name in another program: parsers_root.c includes it under this one. */
void root_elf_run(const u8 *bytes, size_t size);

/* --- configuration --- */
static size_t config_seed(unsigned n, u8 *to) {
    static const char *const texts[] = {
        "# a comment\n[system]\non_last_exit = poweroff\nlog_level = debug\n[component console]\nimage = "
        "console.elf\ncpu = 0\n"
        "ports = 0x3f8-0x3ff, 0x80\nirq = 4\nmemory = 4M\nrestart = yes\nservices = console, log\n[vm linux]\nkernel = "
        "guest/vmlinux\n"
        "initrd = guest/initrd\ncmdline = console=ttyS0 rdinit=/init\nmemory=1G\ncpu = 1, 2\ncpus = 2\nconsole = "
        "1\nautostart = yes\n",
        "[vm a]\r\n  kernel = k\t\n[vm b]\nkernel = k\npriority = 30\nuses = console\nimage=x.elf",
    };
    if (n >= ARRAY_SIZE(texts))
        return 0;
    memcpy(to, texts[n], strlen(texts[n]));
    return strlen(texts[n]);
}

static void config_message(void *context, const char *line) {
    (void)context;
    holds(strlen(line) < 4096 && !strchr(line, '\n'));
}

static void config_run(const u8 *bytes, size_t size) {
    static struct config c;
    char *text = malloc(size);
    memcpy(text, bytes, size);
    config_parse(&c, "f", text, size, config_message, NULL);
    holds(c.unit_count <= CONFIG_UNITS_MAX && c.log_level <= 3);
    for (unsigned i = 0; i < c.unit_count; i++) {
        const struct config_unit *u = &c.unit[i];
        holds(memchr(u->name, 0, sizeof(u->name)) && memchr(u->image, 0, sizeof(u->image)) &&
              memchr(u->cmdline, 0, sizeof(u->cmdline)));
        holds(memchr(u->kernel, 0, sizeof(u->kernel)) && memchr(u->initrd, 0, sizeof(u->initrd)));
        holds(memchr(u->services, 0, sizeof(u->services)) && memchr(u->uses, 0, sizeof(u->uses)));
        holds(u->port_count <= CONFIG_PORTS_MAX && u->cpu_count <= CONFIG_CPUS_MAX);
        for (unsigned p = 0; p < u->port_count && !u->bad; p++)
            holds(u->ports[p].first <= u->ports[p].last && u->ports[p].last <= 0xffff);
        (void)config_list_has(u->uses, "console");
    }
    free(text);
}

/* --- guests' kernels --- */
#define GUEST_RAM (32ul << 20)
static size_t loader_seed(unsigned n, u8 *to) {
    if (n > 2)
        return 0;
    memset(to, 0, 0x1000);
    if (n == 0) {
        elf_head(to, 0x200123, 2);
        elf_segment_put(to, 0, 5, 0x400, 0x200000, 0x200, 0x1000);
        elf_segment_put(to, 1, 6, 0x600, 0x202000, 0x100, 0x2000);
        return 0x1000;
    }
    to[0x1f1] = 4;
    put(to, 0x1f4, 4, (0x1000 - 5 * 512) / 16);
    put(to, 0x1fe, 2, 0xaa55);
    put(to, 0x200, 2, 0x66eb);
    put(to, 0x202, 4, 0x53726448);
    put(to, 0x206, 2, 0x20f);
    put(to, 0x22c, 4, 0x7fffffff);
    to[0x234] = 1;
    put(to, 0x236, 2, n & 1);
    put(to, 0x238, 4, 2047);
    put(to, 0x258, 8, 0x100000);
    put(to, 0x260, 4, 0x20000);
    return 0x1000;
}

static void loader_run(const u8 *bytes, size_t size) {
    static u8 *ram;
    struct load_result out;
    if (!ram)
        ram = malloc(GUEST_RAM);
    struct gmem mem = {.base = ram, .size = GUEST_RAM};
    u8 *image = malloc(size), initrd[64] = {0};
    memcpy(image, bytes, size);
    bool small = size && image[size - 1] & 1;
    struct load_request r = {.mem = &mem,
                             .kernel = image,
                             .kernel_size = size,
                             .kernel_name = "k",
                             .initrd = small ? initrd : NULL,
                             .initrd_size = sizeof(initrd),
                             .initrd_name = "i",
                             .cmdline = "console=ttyS0",
                             .rsdp = 0xf0000};
    bool ok = loader_load(&r, &out);
    holds(memchr(out.error, 0, sizeof(out.error)) && ok == !out.error[0]);
    free(image);
}

const struct parser parsers[] = {
    {"acpi", false, acpi_seed, acpi_run},         {"multiboot", false, multiboot_seed, multiboot_run},
    {"cmdline", true, cmdline_seed, cmdline_run}, {"elf", false, elf_seed, elf_run},
    {"root_elf", false, elf_seed, root_elf_run},  {"root_acpi", false, root_acpi_seed, root_acpi_run},
    {"config", true, config_seed, config_run},    {"loader", false, loader_seed, loader_run},
};
const unsigned parser_count = ARRAY_SIZE(parsers);
