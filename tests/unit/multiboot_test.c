// LINK: src/arch/multiboot.c src/arch/range.c
/* Goal: multiboot_parse (arch/multiboot.h) reads both formats and survives any bytes; range lists (arch/range.h) stay sorted and disjoint.
 * Method: built information blocks, then random damage under ASan; ranges against a page-by-page array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/multiboot.h"
#include "phys_image.h"

enum { BASE = 0x10000, SIZE = 0x3000, MODULE = BASE + 0x2000 };
static struct loader_info info;

static void memory_entry(struct phys_image *m, u64 at, u64 base, u64 size, u32 type) {
    phys_put(m, at, 8, base);
    phys_put(m, at + 8, 8, size);
    phys_put(m, at + 16, 4, type);
}

static struct phys_image image_new(void) {
    return (struct phys_image){.base = BASE, .size = SIZE, .bytes = calloc(1, SIZE)};
}

static void make1(struct phys_image *m) {
    phys_put(m, BASE, 4, 4 | 8 | 64 | 4096);
    phys_put(m, BASE + 88, 8, 0xfd000000); /* frame buffer: address, bytes a line, width, height, bits a dot, type */
    phys_put(m, BASE + 96, 4, 4096);
    phys_put(m, BASE + 100, 4, 1024);
    phys_put(m, BASE + 104, 4, 768);
    phys_put(m, BASE + 108, 2, 32 | 1 << 8);
    phys_put(m, BASE + 16, 4, BASE + 0x400); /* command line */
    strcpy((char *)m->bytes + 0x400, "novella debugcon");
    phys_put(m, BASE + 20, 4, 2);
    phys_put(m, BASE + 24, 4, BASE + 0x200);
    phys_put(m, BASE + 0x200, 4, MODULE);
    phys_put(m, BASE + 0x204, 4, MODULE + 0x100);
    phys_put(m, BASE + 0x208, 4, BASE + 0x420);
    strcpy((char *)m->bytes + 0x420, "root.elf a b");
    phys_put(m, BASE + 0x210, 4, MODULE + 0x1000);
    phys_put(m, BASE + 0x214, 4, MODULE + 0x1100); /* sticks out: not readable */
    phys_put(m, BASE + 44, 4, 3 * 24);
    phys_put(m, BASE + 48, 4, BASE + 0x300);
    for (unsigned i = 0; i < 3; i++)
        phys_put(m, BASE + 0x300 + i * 24, 4, 20);
    memory_entry(m, BASE + 0x304, 0x100000, 0x7f00000, 1);
    memory_entry(m, BASE + 0x31c, 0, 0x9fc00, 1);
    memory_entry(m, BASE + 0x334, 0x7ff0800, 0x100, 2); /* overlaps RAM: wins, with its whole page */
}

static u64 tag(struct phys_image *m, u64 at, u32 type, u32 size) {
    phys_put(m, at, 4, type);
    phys_put(m, at + 4, 4, size);
    return at + ((size + 7) & ~7u);
}

static void make2(struct phys_image *m) {
    u64 at = BASE + 8, next = tag(m, at, 1, 8 + 9);
    strcpy((char *)m->bytes + (at - BASE) + 8, "debugcon");
    at = next;
    next = tag(m, at, 3, 16 + 9);
    phys_put(m, at + 8, 4, MODULE);
    phys_put(m, at + 12, 4, MODULE + 0x100);
    strcpy((char *)m->bytes + (at - BASE) + 16, "root.elf");
    at = next;
    next = tag(m, at, 6, 16 + 2 * 24);
    phys_put(m, at + 8, 4, 24);
    memory_entry(m, at + 16, 0x100000, 0x7f00000, 1);
    memory_entry(m, at + 40, 0, 0x9fc00, 1);
    at = next;
    next = tag(m, at, 14, 28);
    memcpy(m->bytes + (at - BASE) + 8, "RSD PTR ", 8);
    at = next;
    next = tag(m, at, 8, 32);
    phys_put(m, at + 8, 8, 0xb8000);
    phys_put(m, at + 16, 4, 160);
    phys_put(m, at + 20, 4, 80);
    phys_put(m, at + 24, 4, 25);
    phys_put(m, at + 28, 2, 16 | 2 << 8);
    at = tag(m, next, 0, 8);
    phys_put(m, BASE, 4, at - BASE);
}

static void screen_is(u64 addr, u32 pitch, u32 width, u32 height, u32 bpp, u32 type) {
    assert_int_equal(info.screen.addr, addr);
    assert_int_equal(info.screen.pitch, pitch);
    assert_int_equal(info.screen.width, width);
    assert_int_equal(info.screen.height, height);
    assert_int_equal(info.screen.bpp, bpp);
    assert_int_equal(info.screen.type, type);
}

static void good1(void **state) {
    (void)state;
    struct phys_image m = image_new();
    struct phys_reader r = phys_image_reader(&m);
    const char *why;
    make1(&m);
    assert_true(multiboot_parse(MULTIBOOT1_MAGIC, BASE, &r, &info, &why));
    assert_string_equal(info.strings + info.cmdline, "novella debugcon");
    assert_int_equal(info.module_count, 1);
    assert_int_equal(info.modules_lost, 1);
    assert_int_equal(info.modules[0].base, MODULE);
    assert_int_equal(info.modules[0].size, 0x100);
    assert_string_equal(info.strings + info.modules[0].cmdline, "root.elf a b");
    screen_is(0xfd000000, 4096, 1024, 768, 32, SCREEN_RGB);
    assert_true(range_is(&info.map, 0, 0x9f000, HIP_MEM_RAM));
    assert_false(range_is(&info.map, 0x9f000, 0x1000, HIP_MEM_RAM));
    assert_true(range_is(&info.map, 0x7ff0000, 0x1000, HIP_MEM_RESERVED));
    assert_true(range_is(&info.map, 0x7ff1000, 0xf000, HIP_MEM_RAM));
    free(m.bytes);
}

static void good2(void **state) {
    (void)state;
    struct phys_image m = image_new();
    struct phys_reader r = phys_image_reader(&m);
    const char *why;
    make2(&m);
    assert_true(multiboot_parse(MULTIBOOT2_MAGIC, BASE, &r, &info, &why));
    assert_string_equal(info.strings + info.cmdline, "debugcon");
    assert_int_equal(info.module_count, 1);
    assert_string_equal(info.strings + info.modules[0].cmdline, "root.elf");
    screen_is(0xb8000, 160, 80, 25, 16, SCREEN_TEXT);
    assert_int_equal(info.rsdp_size, 20);
    assert_memory_equal(info.rsdp, "RSD PTR ", 8);
    assert_true(range_is(&info.map, 0x100000, 0x7f00000, HIP_MEM_RAM));
    free(m.bytes);
}

static void bad(void **state) {
    (void)state;
    struct phys_image m = image_new();
    struct phys_reader r = phys_image_reader(&m);
    const char *why = NULL;
    assert_false(multiboot_parse(0x1234, BASE, &r, &info, &why));
    assert_non_null(why);
    assert_false(multiboot_parse(MULTIBOOT1_MAGIC, BASE + SIZE - 4, &r, &info, &why));
    assert_false(multiboot_parse(MULTIBOOT1_MAGIC, BASE, &r, &info, &why)); /* no memory map */
    assert_false(multiboot_parse(MULTIBOOT2_MAGIC, BASE, &r, &info, &why));
    free(m.bytes);
}

static void damaged(void **state) {
    (void)state;
    srand(2);
    for (unsigned round = 0; round < 20000; round++) {
        struct phys_image m = image_new();
        struct phys_reader r = phys_image_reader(&m);
        const char *why;
        bool two = round & 1;
        (two ? make2 : make1)(&m);
        for (unsigned n = 1 + (unsigned)rand() % 6; n; n--)
            m.bytes[rand() % (two ? 0xc0 : 0x440)] = (u8)(rand() & 1 ? rand() : 0xff);
        if (multiboot_parse(two ? MULTIBOOT2_MAGIC : MULTIBOOT1_MAGIC, BASE, &r, &info, &why)) {
            assert_true(info.strings_used <= LOADER_STRINGS && info.module_count <= LOADER_MODULES_MAX);
            for (unsigned i = 1; i < info.map.count; i++)
                assert_true(info.map.r[i - 1].base + info.map.r[i - 1].size <= info.map.r[i].base);
        }
        free(m.bytes);
    }
}

static void ranges_random(void **state) {
    (void)state;
    enum { PAGES = 64 };
    srand(3);
    for (unsigned round = 0; round < 2000; round++) {
        static struct range_list l;
        i32 model[PAGES] = {0};
        l.count = 0;
        for (unsigned n = 0; n < 20; n++) {
            u64 base = (u64)rand() % PAGES, size = (u64)rand() % (PAGES - base + 1);
            i32 type = 1 + rand() % 3;
            assert_true(range_set(&l, base << 12, size << 12, type));
            for (u64 p = base; p < base + size; p++)
                model[p] = type;
        }
        u64 total[4] = {0};
        for (u64 p = 0; p < PAGES; p++) {
            total[model[p]]++;
            for (i32 type = 1; type <= 3; type++)
                assert_int_equal(range_is(&l, p << 12, 4096, type), model[p] == type);
        }
        for (i32 type = 1; type <= 3; type++)
            assert_int_equal(range_total(&l, type), total[type] << 12);
        for (unsigned i = 1; i < l.count; i++)
            assert_true(l.r[i - 1].base + l.r[i - 1].size <= l.r[i].base && l.r[i].size);
        const struct boot_range avoid = {.base = 40 << 12, .size = 3 << 12};
        u64 at = range_find(&l, 2 << 12, 0x2000, 1, 0x4000, 60 << 12, &avoid, 1) >> 12;
        if (at)
            assert_true(model[at] == 1 && model[at + 1] == 1 && at % 2 == 0 && at >= 4 && at + 2 <= 60 &&
                        (at + 2 <= 40 || at >= 43));
    }
}

static void ranges_full(void **state) {
    (void)state;
    static struct range_list l;
    l.count = 0;
    for (u64 i = 0; i < RANGE_MAX; i++)
        assert_true(range_set(&l, i << 13, 4096, 1));
    assert_false(range_set(&l, (u64)RANGE_MAX << 13, 4096, 1));
    assert_int_equal(l.count, RANGE_MAX);
    assert_true(range_set(&l, 0, (u64)RANGE_MAX << 13, 2));
    assert_int_equal(l.count, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(good1),         cmocka_unit_test(good2),
                                       cmocka_unit_test(bad),           cmocka_unit_test(damaged),
                                       cmocka_unit_test(ranges_random), cmocka_unit_test(ranges_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
