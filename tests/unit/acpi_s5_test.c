// LINK: userland/root/acpi.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../userland/root/acpi.h"

static void sum_fix(uint8_t *p, size_t len, size_t at) {
    uint8_t sum = 0;

    p[at] = 0;
    for (size_t i = 0; i < len; i++)
        sum += p[i];
    p[at] = (uint8_t)-sum;
}

static bool s5(const char *aml, size_t len, struct acpi_power *power) {
    uint8_t *dsdt = calloc(1, 40 + len); /* exact size: the sanitizer watches its end */
    bool found;

    memcpy(dsdt + 40, aml, len);
    memset(power, 0, sizeof *power);
    found = acpi_s5_find(power, dsdt, (uint32_t)(40 + len));
    free(dsdt);
    return found;
}

static void acpi_s5_find_forms(void **state) {
    struct acpi_power p;

    (void)state;
    assert_true(s5("\x08_S5_\x12\x06\x04\x00\x00\x00\x00", 12, &p)); /* QEMU */
    assert_int_equal(p.slp_typ_a, 0);
    assert_true(s5("\x08_S5_\x12\x0a\x04\x0a\x05\x0a\x07\x00\x00", 14, &p));
    assert_int_equal(p.slp_typ_a, 5);
    assert_int_equal(p.slp_typ_b, 7);
    assert_true(s5("\x08\\_S5_\x12\x08\x02\x01\x0a\x03\x00", 13, &p));
    assert_int_equal(p.slp_typ_a, 1);
    assert_int_equal(p.slp_typ_b, 3);
    assert_false(s5("\x08_S5_\x12\x06\x04\x70\x00\x00\x00", 12, &p)); /* not a constant */
    assert_false(s5("\x14_S5_\x12\x06\x04\x00\x00\x00\x00", 12, &p)); /* not a Name */
}

static void acpi_s5_find_truncated(void **state) {
    static const char aml[] = "\x08_S5_\x12\x4a\x01\x04\x0c\x05\x00\x00\x00\x0b\x07\x00\x00";
    struct acpi_power p;

    (void)state;
    assert_true(s5(aml, 17, &p));
    for (size_t len = 0; len < 16; len++)
        assert_false(s5(aml, len, &p));
}

static void acpi_rsdp_find_checks_sum(void **state) {
    uint8_t area[128] = {0};
    bool xsdt;

    (void)state;
    memcpy(area + 32, "RSD PTR ", 8);
    area[32 + 16] = 0x78;
    assert_int_equal(acpi_rsdp_find(area, sizeof area), -1);
    sum_fix(area + 32, 20, 8);
    assert_int_equal(acpi_rsdp_find(area, sizeof area), 32);
    assert_int_equal(acpi_rsdp_find(area, 51), -1);
    assert_int_equal(acpi_rsdp_root(area + 32, 36, &xsdt), 0x78);
    assert_false(xsdt);
}

static void acpi_table_check_bounds(void **state) {
    uint8_t t[64] = "FACP";

    (void)state;
    t[4] = 60;
    sum_fix(t, 60, 9);
    assert_int_equal(acpi_table_check(t, 60, "FACP"), 60);
    assert_int_equal(acpi_table_check(t, 59, "FACP"), 0);
    assert_int_equal(acpi_table_check(t, 35, "FACP"), 0);
    assert_int_equal(acpi_table_check(t, 60, "DSDT"), 0);
    assert_int_equal(acpi_root_entry(t, false, 6), 0);
    t[20]++;
    assert_int_equal(acpi_table_check(t, 60, "FACP"), 0);
}

/* ACPI 6.4, 5.2.12.5: interrupt source overrides, among other entries. */
static void acpi_isa_overrides(void **state) {
    static const uint8_t entries[] = {0, 8,  0, 0,  1,    0, 0, 0,                     /* a CPU */
                                      2, 10, 0, 0,  2,    0, 0, 0, 0,   0,             /* 0 -> 2, as the bus */
                                      2, 10, 0, 9,  9,    0, 0, 0, 0xd, 0,             /* 9: level, high */
                                      2, 10, 0, 4,  0x14, 1, 0, 0, 0xf, 0,             /* 4 -> 276, level, low */
                                      2, 10, 0, 5,  5,    0, 0, 0, 0x5, 0,             /* 5: edge, high */
                                      2, 10, 0, 7,  7,    0, 0, 0, 0x7, 0,             /* 7: edge, low */
                                      2, 10, 1, 6,  3,    0, 0, 0, 0xf, 0,             /* another bus */
                                      2, 10, 0, 16, 3,    0, 0, 0, 0xf, 0,             /* no such interrupt */
                                      2, 9,  0, 8,  3,    0, 0, 0, 0xf, 2, 10, 0, 11}; /* too short; cut off */
    struct acpi_isa isa[16];
    uint8_t *madt = calloc(1, 44 + sizeof entries);

    (void)state;
    acpi_isa_read(isa, NULL, 0);
    for (uint32_t i = 0; i < 16; i++)
        assert_true(isa[i].gsi == i && !isa[i].level && !isa[i].low);
    memcpy(madt + 44, entries, sizeof entries);
    acpi_isa_read(isa, madt, 44 + sizeof entries);
    for (uint32_t i = 0; i < 16; i++) {
        assert_int_equal(isa[i].gsi, i == 0 ? 2 : i == 4 ? 276 : i);
        assert_int_equal(isa[i].level, i == 9 || i == 4);
        assert_int_equal(isa[i].low, i == 4 || i == 7);
    }
    for (uint32_t len = 0; len < 44 + sizeof entries; len++) { /* the sanitizer watches the end */
        uint8_t *cut = malloc(len ? len : 1);

        memcpy(cut, madt, len);
        acpi_isa_read(isa, cut, len);
        assert_int_equal(isa[0].gsi, len >= 44 + 18 ? 2 : 0);
        free(cut);
    }
    free(madt);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acpi_s5_find_forms),        cmocka_unit_test(acpi_s5_find_truncated),
        cmocka_unit_test(acpi_rsdp_find_checks_sum), cmocka_unit_test(acpi_table_check_bounds),
        cmocka_unit_test(acpi_isa_overrides),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
