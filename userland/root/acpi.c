#include "acpi.h"

#include <string.h>

static uint32_t read32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
static uint64_t read64(const uint8_t *p) { return read32(p) | (uint64_t)read32(p + 4) << 32; }

static bool acpi_sum_zero(const uint8_t *p, size_t len) {
    uint8_t sum = 0;

    while (len--)
        sum += *p++;
    return sum == 0;
}

long acpi_rsdp_find(const uint8_t *area, size_t len) {
    for (size_t at = 0; at + 20 <= len; at += 16)
        if (!memcmp(area + at, "RSD PTR ", 8) && acpi_sum_zero(area + at, 20))
            return (long)at;
    return -1;
}

uint64_t acpi_rsdp_root(const uint8_t *rsdp, size_t len, bool *xsdt) {
    /* ACPI 6.4, table 5.3: revision 15, RSDT 16, length 20, XSDT 24 */
    *xsdt = len >= 36 && rsdp[15] >= 2 && read32(rsdp + 20) <= len && acpi_sum_zero(rsdp, read32(rsdp + 20)) &&
            read64(rsdp + 24);
    return *xsdt ? read64(rsdp + 24) : read32(rsdp + 16);
}

uint32_t acpi_table_length(const uint8_t *header) { return read32(header + 4); }

uint32_t acpi_table_check(const uint8_t *table, size_t len, const char *signature) {
    uint32_t own = len >= 36 ? acpi_table_length(table) : 0;

    if (own < 36 || own > len || (signature && memcmp(table, signature, 4)) || !acpi_sum_zero(table, own))
        return 0;
    return own;
}

uint64_t acpi_root_entry(const uint8_t *root, bool xsdt, uint32_t i) {
    uint32_t size = xsdt ? 8 : 4;

    if (i >= (acpi_table_length(root) - 36) / size)
        return 0;
    return xsdt ? read64(root + 36 + 8ul * i) : read32(root + 36 + 4ul * i);
}

void acpi_fadt_read(struct acpi_power *power, const uint8_t *fadt, uint32_t len) {
    /* ACPI 6.4, table 5.9: offsets of the fields */
    if (len < 76)
        return;
    power->dsdt_addr = read32(fadt + 40);
    power->smi_cmd = read32(fadt + 48);
    power->acpi_enable = fadt[52];
    power->pm1a_cnt = read32(fadt + 64);
    power->pm1b_cnt = read32(fadt + 68);
    if (len > 108)
        power->century = fadt[108];
    if (len >= 129 && read32(fadt + 112) & 1u << 10) { /* RESET_REG_SUP */
        power->reset_space = fadt[116];
        power->reset_addr = read64(fadt + 120);
        power->reset_value = fadt[128];
    }
    if (len >= 148)
        power->dsdt_xaddr = read64(fadt + 140);
}

void acpi_isa_read(struct acpi_isa isa[16], const uint8_t *madt, uint32_t len) {
    for (uint32_t irq = 0; irq < 16; irq++)
        isa[irq] = (struct acpi_isa){.gsi = irq};
    if (!madt)
        return;
    /* Type 2: bus 2, interrupt 3, GSI 4, flags 8: polarity bits 0-1, trigger bits 2-3; 0 as the bus has it, 3 low, 3 level */
    for (uint32_t at = 44; at + 2 <= len && madt[at + 1] >= 2 && madt[at + 1] <= len - at; at += madt[at + 1]) {
        const uint8_t *e = madt + at;

        if (e[0] == 2 && e[1] >= 10 && e[2] == 0 && e[3] < 16)
            isa[e[3]] = (struct acpi_isa){.gsi = read32(e + 4), .level = (e[8] >> 2 & 3) == 3, .low = (e[8] & 3) == 3};
    }
}

/* An integer constant of AML (ACPI 6.4, 20.2.3): returns the bytes it takes, 0 if it is none. */
static uint32_t acpi_aml_integer(const uint8_t *p, uint32_t len, uint32_t *value) {
    if (len < 1)
        return 0;
    switch (p[0]) {
    case 0x00:
        *value = 0;
        return 1; /* ZeroOp */
    case 0x01:
        *value = 1;
        return 1; /* OneOp */
    case 0x0a:    /* BytePrefix */
        if (len < 2)
            return 0;
        *value = p[1];
        return 2;
    case 0x0b: /* WordPrefix */
        if (len < 3)
            return 0;
        *value = p[1] | (uint32_t)p[2] << 8;
        return 3;
    case 0x0c: /* DWordPrefix */
        if (len < 5)
            return 0;
        *value = read32(p + 1);
        return 5;
    default:
        return 0;
    }
}

bool acpi_s5_find(struct acpi_power *power, const uint8_t *dsdt, uint32_t len) {
    for (uint32_t at = 37; at + 8 < len; at++) {
        uint32_t a, b, used;
        const uint8_t *p = dsdt + at;

        if (memcmp(p, "_S5_", 4) || p[4] != 0x12) /* PackageOp */
            continue;
        if (p[-1] != 0x08 && !(p[-1] == '\\' && p[-2] == 0x08)) /* NameOp, maybe with a root prefix */
            continue;
        /* PkgLength: the top two bits of its first byte count further bytes (20.2.4); then the number of elements */
        uint32_t skip = 5 + 1 + (p[5] >> 6) + 1;

        if (skip >= len - at)
            continue;
        used = acpi_aml_integer(p + skip, len - at - skip, &a);
        if (!used || skip + used >= len - at || !acpi_aml_integer(p + skip + used, len - at - skip - used, &b))
            continue;
        power->slp_typ_a = a & 7;
        power->slp_typ_b = b & 7;
        power->s5 = true;
        return true;
    }
    return false;
}
