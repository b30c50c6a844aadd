// LINK: userland/root/elf.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../userland/root/elf.h"
#include "core/abi.h"

/* One text and one data segment: header 64 bytes, two program headers of 56, contents at 0x1000 and 0x2000. */
static uint8_t image[0x3000];

static void put(size_t at, uint64_t value, size_t size) { memcpy(image + at, &value, size); }

static void put_segment(size_t index, uint32_t flags, uint64_t offset, uint64_t va, uint64_t file_size,
                        uint64_t mem_size) {
    size_t at = 64 + 56 * index;

    put(at, 1, 4);
    put(at + 4, flags, 4);
    put(at + 8, offset, 8);
    put(at + 16, va, 8);
    put(at + 32, file_size, 8);
    put(at + 40, mem_size, 8);
}

static int setup(void **state) {
    static const uint8_t ident[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};

    (void)state;
    memset(image, 0, sizeof image);
    memcpy(image, ident, sizeof ident);
    put(16, 2, 2);
    put(18, 62, 2);
    put(24, 0x400010, 8);
    put(32, 64, 8);
    put(54, 56, 2);
    put(56, 2, 2);
    put_segment(0, 5, 0x1000, 0x400000, 0x800, 0x800);
    put_segment(1, 6, 0x2010, 0x401010, 0x100, 0x2100);
    return 0;
}

static const char *parse(struct elf_image *elf) { return elf_parse(elf, image, sizeof image, 0x1000, 0x10000000); }

static void elf_parse_good(void **state) {
    struct elf_image elf;

    (void)state;
    assert_null(parse(&elf));
    assert_int_equal(elf.count, 2);
    assert_int_equal(elf.entry, 0x400010);
    assert_int_equal(elf.segment[0].perm, PERM_MEM_R | PERM_MEM_X);
    assert_int_equal(elf.segment[1].va, 0x401000);
    assert_int_equal(elf.segment[1].copy_offset, 0x10);
    assert_int_equal(elf.segment[1].mem_size, 0x3000);
    assert_int_equal(elf.segment[1].perm, PERM_MEM_R | PERM_MEM_W);
}

static void elf_parse_truncated(void **state) {
    struct elf_image elf;

    (void)state;
    for (size_t size = 0; size < 0x2110; size += size < 0x200 ? 1 : 61) {
        uint8_t *copy = malloc(size + 1); /* the sanitizer watches its end */

        memcpy(copy, image, size);
        assert_non_null(elf_parse(&elf, copy, size, 0x1000, 0x10000000));
        free(copy);
    }
}

static void elf_parse_bad_segments(void **state) {
    static const struct {
        uint32_t flags;
        uint64_t offset, va, file_size, mem_size;
    } bad[] = {
        {7, 0x1000, 0x500000, 1, 1},          /* writable and executable */
        {4, 0x1000, 0x400000, 1, 1},          /* shares a page */
        {4, 0x1000, 0x10000000, 1, 1},        /* beyond the range */
        {4, 0x1000, 0x500000, 1, UINT64_MAX}, /* wraps */
        {4, UINT64_MAX, 0x500000, 1, 1},      /* outside the file */
        {4, 0x1000, 0x500000, UINT64_MAX, UINT64_MAX},
        {4, 0x1000, 0x500000, 2, 1}, /* file longer than memory */
        {4, 0x1000, 0, 1, 1},        /* page 0 */
    };
    struct elf_image elf;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        put_segment(1, bad[i].flags, bad[i].offset, bad[i].va, bad[i].file_size, bad[i].mem_size);
        assert_non_null(parse(&elf));
    }
}

static void elf_parse_entry_outside_text(void **state) {
    struct elf_image elf;

    (void)state;
    put(24, 0x401020, 8);
    assert_non_null(parse(&elf));
}

static void elf_parse_random_damage(void **state) {
    struct elf_image elf;

    (void)state;
    srand(7);
    for (int round = 0; round < 20000; round++) {
        if (round % 16 == 0)
            setup(NULL);
        image[rand() % 176] = (uint8_t)rand();
        if (parse(&elf))
            continue;
        for (uint32_t i = 0; i < elf.count; i++) {
            assert_true(elf.segment[i].file_offset + elf.segment[i].file_size <= sizeof image);
            assert_true(elf.segment[i].copy_offset + elf.segment[i].file_size <= elf.segment[i].mem_size);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(elf_parse_good, setup),
        cmocka_unit_test_setup(elf_parse_truncated, setup),
        cmocka_unit_test_setup(elf_parse_bad_segments, setup),
        cmocka_unit_test_setup(elf_parse_entry_outside_text, setup),
        cmocka_unit_test_setup(elf_parse_random_damage, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
