// LINK: src/arch/elf.c
/* Goal: elf_parse (arch/elf.h) accepts good executables and refuses every other image without reading outside it.
 * Method: a built image, then each field broken; then random bytes at exact-size allocations under ASan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "arch/elf.h"

enum { PHOFF = 64, PH = 56, FILE_SIZE = 0x400 };

static void put(u8 *p, unsigned bytes, u64 v) { memcpy(p, &v, bytes); }

static void program_header(u8 *image, unsigned i, u32 flags, u64 offset, u64 vaddr, u64 filesz, u64 memsz) {
    u8 *p = image + PHOFF + i * PH;
    put(p, 4, 1);
    put(p + 4, 4, flags);
    put(p + 8, 8, offset);
    put(p + 16, 8, vaddr);
    put(p + 32, 8, filesz);
    put(p + 40, 8, memsz);
}

static void image_make(u8 *image) {
    memset(image, 0, FILE_SIZE);
    memcpy(image, "\177ELF\2\1\1", 7);
    put(image + 16, 2, 2);
    put(image + 18, 2, 62);
    put(image + 24, 8, 0x401000);
    put(image + 32, 8, PHOFF);
    put(image + 54, 2, PH);
    put(image + 56, 2, 2);
    program_header(image, 0, ELF_R | ELF_X, 0x200, 0x401000, 0x100, 0x100);
    program_header(image, 1, ELF_R | ELF_W, 0x300, 0x402300, 0x80, 0x5000);
}

static void good(void **state) {
    (void)state;
    u8 image[FILE_SIZE];
    struct elf_info info;
    image_make(image);
    assert_true(elf_parse(image, FILE_SIZE, &info, NULL));
    assert_int_equal(info.count, 2);
    assert_int_equal(info.entry, 0x401000);
    assert_int_equal(info.segments[1].vaddr, 0x402300);
    assert_int_equal(info.segments[1].memsz, 0x5000);
    assert_int_equal(info.segments[1].filesz, 0x80);
    assert_int_equal(info.segments[0].flags, ELF_R | ELF_X);
}

static void broken_field(void **state) {
    (void)state;
    static const struct {
        unsigned at, bytes;
        u64 value;
    } breaks[] = {
        {0, 1, 0},                       /* magic */
        {4, 1, 1},                       /* 32 bit */
        {16, 2, 3},                      /* shared object */
        {18, 2, 3},                      /* i386 */
        {24, 8, 0x800000000000},         /* entry in the kernel half */
        {32, 8, ~0ul},                   /* program headers far away */
        {32, 8, FILE_SIZE - PH},         /* the second one sticks out */
        {54, 2, 32},                     /* odd size */
        {56, 2, 0},                      /* none */
        {56, 2, 0xffff},                 /* too many for the file */
        {PHOFF + 8, 8, FILE_SIZE + 1},   /* offset outside */
        {PHOFF + 8, 8, ~0xffful},        /* offset + size wraps */
        {PHOFF + 32, 8, 0x101},          /* file size above memory size */
        {PHOFF + 16, 8, 0x7ffffffffff8}, /* runs out of user space */
        {PHOFF + 40, 8, ~0ul},           /* memory size wraps */
        {PHOFF + 40, 8, 0x2000},         /* overlaps the next */
        {PHOFF + PH + 16, 8, 0x400000},  /* not ascending */
    };
    for (unsigned i = 0; i < ARRAY_SIZE(breaks); i++) {
        u8 image[FILE_SIZE];
        struct elf_info info;
        const char *why = NULL;
        image_make(image);
        put(image + breaks[i].at, breaks[i].bytes, breaks[i].value);
        if (elf_parse(image, FILE_SIZE, &info, &why))
            fail_msg("break %u accepted", i);
        assert_non_null(why);
    }
}

static void random_bytes(void **state) {
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        u8 full[FILE_SIZE];
        image_make(full);
        u64 size = (u64)rand() % (FILE_SIZE + 1);
        u8 *image = malloc(size ? size : 1);
        memcpy(image, full, size);
        for (unsigned n = (unsigned)rand() % 8; n && size; n--)
            image[(u64)rand() % (rand() & 1 && size > 176 ? 176 : size)] = (u8)rand();
        struct elf_info info;
        if (elf_parse(image, size, &info, NULL))
            for (u32 s = 0; s < info.count; s++)
                assert_true(info.segments[s].offset + info.segments[s].filesz <= size);
        free(image);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(broken_field),
                                       cmocka_unit_test(random_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
