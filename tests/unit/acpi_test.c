// LINK: src/arch/acpi.c
/* Goal: acpi_parse (arch/acpi.h) reads the tables it needs and survives any bytes.
 * Method: a set of tables built in memory, one damaged at a time, then random damage under ASan (with and without repaired checksums). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/acpi.h"
#include "phys_image.h"

enum {
    BASE = 0xe0000,
    RSDP = BASE + 0x10,
    RSDT = BASE + 0x100,
    XSDT = BASE + 0x180,
    MADT = BASE + 0x200,
    FADT = BASE + 0x300,
    HPET = BASE + 0x400,
    DMAR = BASE + 0x480,
    MCFG = BASE + 0x500,
    SIZE = 0x600
};
static const u64 tables[] = {MADT, FADT, HPET, DMAR, MCFG};
static struct acpi_info info;

static u8 *at(struct phys_image *m, u64 addr) { return m->bytes + (addr - m->base); }

static void seal(struct phys_image *m, u64 addr, u64 size, unsigned sum) {
    at(m, addr)[sum] = 0;
    at(m, addr)[sum] = (u8)-phys_checksum(at(m, addr), size);
}

static void header(struct phys_image *m, u64 addr, const char *signature, u32 size) {
    memcpy(at(m, addr), signature, 4);
    phys_put(m, addr + 4, 4, size);
}

static void seal_all(struct phys_image *m) {
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        u32 size;
        memcpy(&size, at(m, tables[i] + 4), 4);
        if (size >= 36 && phys_image_map(m, tables[i], size))
            seal(m, tables[i], size, 9);
    }
}

static struct phys_image image_make(void) {
    struct phys_image m = {.base = BASE, .size = SIZE, .bytes = calloc(1, SIZE)};
    memcpy(at(&m, RSDP), "RSD PTR ", 8);
    at(&m, RSDP)[15] = 2;
    phys_put(&m, RSDP + 16, 4, RSDT);
    phys_put(&m, RSDP + 20, 4, 36);
    phys_put(&m, RSDP + 24, 8, XSDT);
    seal(&m, RSDP, 20, 8);
    seal(&m, RSDP, 36, 32);
    header(&m, RSDT, "RSDT", 36 + 5 * 4);
    header(&m, XSDT, "XSDT", 36 + 5 * 8);
    for (unsigned i = 0; i < 5; i++) {
        phys_put(&m, RSDT + 36 + i * 4, 4, tables[i]);
        phys_put(&m, XSDT + 36 + i * 8, 8, tables[i]);
    }
    seal(&m, RSDT, 36 + 5 * 4, 9);
    seal(&m, XSDT, 36 + 5 * 8, 9);
    static const u8 madt[] = {0, 0,  0xe0, 0xfe, 1, 0, 0,    0, /* LAPIC address, 8259 present */
                              0, 8,  7,    0,    1, 0, 0,    0, /* CPU: ACPI id 7, APIC id 0, enabled */
                              0, 8,  8,    1,    0, 0, 0,    0, /* disabled */
                              9, 16, 0,    0,    0, 1, 0,    0,    1,   0, 0, 0, 9, 0, 0, 0, /* x2APIC 0x100 */
                              1, 12, 5,    0,    0, 0, 0xc0, 0xfe, 0,   0, 0, 0,             /* I/O APIC 5 */
                              2, 10, 0,    9,    9, 0, 0,    0,    0xf, 0,                   /* IRQ 9: level, low */
                              2, 10, 0,    0,    2, 0, 0,    0,    0,   0};                  /* IRQ 0 -> GSI 2 */
    header(&m, MADT, "APIC", 36 + sizeof(madt));
    memcpy(at(&m, MADT + 36), madt, sizeof(madt));
    header(&m, FADT, "FACP", 244);
    phys_put(&m, FADT + 76, 4, 0x608);
    at(&m, FADT)[91] = 4;
    phys_put(&m, FADT + 112, 4, 1 << 8);
    header(&m, HPET, "HPET", 56);
    phys_put(&m, HPET + 44, 8, 0xfed00000);
    header(&m, DMAR, "DMAR", 48 + 16);
    phys_put(&m, DMAR + 50, 2, 16);
    phys_put(&m, DMAR + 56, 8, 0xfed90000);
    header(&m, MCFG, "MCFG", 44 + 16);
    phys_put(&m, MCFG + 44, 8, 0xb0000000);
    at(&m, MCFG)[44 + 11] = 0xff;
    seal_all(&m);
    return m;
}

static bool parse(struct phys_image *m) {
    struct phys_reader r = phys_image_reader(m);
    u64 rsdp = acpi_find_rsdp(&r);
    return rsdp && acpi_parse(&r, at(m, rsdp), 36, &info);
}

static void check_all(void) {
    assert_int_equal(info.lapic_addr, 0xfee00000);
    assert_true(info.has_8259);
    assert_int_equal(info.cpu_count, 2);
    assert_int_equal(info.cpus[0].acpi_id, 7);
    assert_int_equal(info.cpus[1].apic_id, 0x100);
    assert_int_equal(info.ioapic_count, 1);
    assert_int_equal(info.ioapics[0].addr, 0xfec00000);
    assert_true(info.isa[9].level && info.isa[9].low);
    assert_int_equal(info.isa[0].gsi, 2);
    assert_true(!info.isa[0].level && !info.isa[0].low);
    assert_int_equal(info.pm_timer, 0x608);
    assert_true(info.pm_timer_io && info.pm_timer_32);
    assert_int_equal(info.hpet_addr, 0xfed00000);
    assert_int_equal(info.drhd_count, 1);
    assert_int_equal(info.drhd[0], 0xfed90000);
    assert_int_equal(info.mcfg_count, 1);
    assert_int_equal(info.mcfg[0].bus_last, 0xff);
    assert_int_equal(info.damaged, 0);
}

static void good(void **state) {
    (void)state;
    struct phys_image m = image_make();
    assert_true(parse(&m));
    check_all();
    at(&m, XSDT)[9]++; /* then by the RSDT */
    assert_true(parse(&m));
    check_all();
    free(m.bytes);
}

static void one_table_damaged(void **state) {
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
        struct phys_image m = image_make();
        at(&m, tables[i])[40] ^= 0x10;
        assert_true(parse(&m));
        assert_int_equal(info.damaged, 1);
        assert_int_equal(info.lapic_addr != 0, i != 0);
        assert_int_equal(info.pm_timer != 0, i != 1);
        assert_int_equal(info.hpet_addr != 0, i != 2);
        assert_int_equal(info.drhd_count != 0, i != 3);
        assert_int_equal(info.mcfg_count != 0, i != 4);
        free(m.bytes);
    }
}

static void no_root_table(void **state) {
    (void)state;
    struct phys_image m = image_make();
    at(&m, XSDT)[9]++;
    at(&m, RSDT)[9]++;
    assert_false(parse(&m));
    assert_int_equal(info.isa[5].gsi, 5);
    at(&m, RSDP)[8]++;
    assert_false(parse(&m));
    free(m.bytes);
}

static void random_damage(void **state) {
    (void)state;
    srand(4);
    for (unsigned round = 0; round < 20000; round++) {
        struct phys_image m = image_make();
        for (unsigned n = 1 + (unsigned)rand() % 8; n; n--)
            at(&m, tables[rand() % 5])[4 + rand() % 120] = (u8)(rand() & 1 ? rand() : 0xff);
        if (round & 1)
            seal_all(&m);
        if (parse(&m))
            assert_true(info.cpu_count <= ACPI_MAX_CPUS && info.ioapic_count <= ACPI_MAX_IOAPICS &&
                        info.drhd_count <= ACPI_MAX_DRHDS && info.mcfg_count <= ACPI_MAX_MCFG);
        free(m.bytes);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(good), cmocka_unit_test(one_table_damaged),
                                       cmocka_unit_test(no_root_table), cmocka_unit_test(random_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
