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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acpi_s5_find_forms),
        cmocka_unit_test(acpi_s5_find_truncated),
        cmocka_unit_test(acpi_rsdp_find_checks_sum),
        cmocka_unit_test(acpi_table_check_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
