/* The little of ACPI that root needs to power off, reset and find interrupts: pure functions over bytes of the firmware, every bound checked. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Offset of a valid RSDP in the area (16-byte steps; ACPI 6.4, 5.2.5.1), or -1. */
long acpi_rsdp_find(const uint8_t *area, size_t len);

/* Physical address of the root table that a valid RSDP names; *xsdt: its entries are 64 bits wide. */
uint64_t acpi_rsdp_root(const uint8_t *rsdp, size_t len, bool *xsdt);

/* Checks signature (4 letters, null: any), length and sum of a table whose first `len` bytes are there. Returns its length or 0;
 * with len < 36 or less than the table's own length it is 0. */
uint32_t acpi_table_check(const uint8_t *table, size_t len, const char *signature);

/* The length field of a table header of 36 bytes. */
uint32_t acpi_table_length(const uint8_t *header);

/* Entry i of a checked RSDT or XSDT, 0 beyond its end. */
uint64_t acpi_root_entry(const uint8_t *root, bool xsdt, uint32_t i);

struct acpi_power {
    uint32_t dsdt_addr;
    uint64_t dsdt_xaddr;
    uint32_t smi_cmd, pm1a_cnt, pm1b_cnt;
    uint8_t acpi_enable, century;     /* century: CMOS index, 0: none */
    uint8_t reset_space, reset_value; /* reset_space 1: I/O port */
    uint64_t reset_addr;              /* 0: no reset register */
    uint8_t slp_typ_a, slp_typ_b;
    bool s5;
};

/* ACPI 6.4, 5.2.9: from a checked FADT. */
void acpi_fadt_read(struct acpi_power *power, const uint8_t *fadt, uint32_t len);

/* Where the 16 interrupts of the ISA bus arrive, and how. */
struct acpi_isa {
    uint32_t gsi;
    bool level, low;
};

/* ACPI 6.4, 5.2.12.5: the bus's own order (same number, edge, high), changed by the overrides of a checked MADT; null: none there. */
void acpi_isa_read(struct acpi_isa isa[16], const uint8_t *madt, uint32_t len);

/* Looks for Name(\_S5, Package(..) {SLP_TYPa, SLP_TYPb, ..}) in a checked DSDT; false if it is not there or not constant. */
bool acpi_s5_find(struct acpi_power *power, const uint8_t *dsdt, uint32_t len);
