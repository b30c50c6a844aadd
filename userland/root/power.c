#include "root.h"

#include "clock.h"

#include <string.h>

static struct acpi_power power;

#define ACPI_TABLE_MAX 0x400000u

/* A table at a physical address, mapped and checked; null if it is not one. */
static const uint8_t *power_table(uint64_t pa, const char *signature, uint32_t *len) {
    if (!pa || !phys_map(pa, 36))
        return NULL;

    uint32_t size = acpi_table_length(phys_ptr(pa));

    if (size > ACPI_TABLE_MAX || !phys_map(pa, size))
        return NULL;
    *len = acpi_table_check(phys_ptr(pa), size, signature);
    return *len ? phys_ptr(pa) : NULL;
}

static uint64_t power_rsdp_in(uint64_t pa, uint64_t len) {
    long at = phys_map(pa, len) ? acpi_rsdp_find(phys_ptr(pa), len) : -1;

    return at < 0 ? 0 : pa + (uint64_t)at;
}

#define RSDP_AREA_MAX 0x400000u

/* ACPI 6.4, 5.2.5.1: first KiB of the EBDA or the BIOS area; 5.2.5.2, UEFI: somewhere, so we look through the memory that is ACPI's. */
static uint64_t power_rsdp(void) {
    uint64_t rsdp = 0;

    if (phys_map(0x40e, 2)) {
        uint16_t segment;

        memcpy(&segment, phys_ptr(0x40e), 2);
        if (segment >= 0x8000 && segment < 0xa000)
            rsdp = power_rsdp_in((uint64_t)segment << 4, 1024);
    }
    if (!rsdp)
        rsdp = power_rsdp_in(0xe0000, 0x20000);
    for (uint32_t i = 0; !rsdp && i < (uint32_t)(root.hip->length - root.hip->mem_offs) / root.hip->mem_size; i++) {
        const struct abi_hip_mem_desc *d = &root.hip->mem[i];

        if ((d->type == HIP_MEM_ACPI || d->type == HIP_MEM_NVS) && d->size <= RSDP_AREA_MAX)
            rsdp = power_rsdp_in(d->addr, d->size);
    }
    return rsdp;
}

static const uint8_t *power_find(const char *signature, const uint8_t *table, uint32_t len, bool xsdt,
                                 uint32_t *found_len) {
    const uint8_t *found = NULL;

    for (uint32_t i = 0; i < len / 4 && !found; i++) {
        uint64_t entry = acpi_root_entry(table, xsdt, i);

        if (entry)
            found = power_table(entry, signature, found_len);
    }
    return found;
}

void power_init(void) {
    uint64_t rsdp = power_rsdp();
    const uint8_t *table, *fadt, *madt;
    uint32_t len, found_len = 0;
    bool xsdt;

    acpi_isa_read(root.isa, NULL, 0);
    if (!rsdp) {
        root_log("no ACPI RSDP: the machine cannot be powered off by software, ISA interrupts are taken as they are");
        return;
    }
    table = power_table(acpi_rsdp_root(phys_ptr(rsdp), 36, &xsdt), NULL, &len);
    if (!table) {
        root_log("ACPI root table damaged: the machine cannot be powered off by software");
        return;
    }
    madt = power_find("APIC", table, len, xsdt, &found_len);
    acpi_isa_read(root.isa, madt, found_len);
    fadt = power_find("FACP", table, len, xsdt, &found_len);
    if (!fadt) {
        root_log("no ACPI FADT: the machine cannot be powered off by software");
        return;
    }
    acpi_fadt_read(&power, fadt, found_len);
    table = power_table(power.dsdt_xaddr, "DSDT", &len);
    if (!table)
        table = power_table(power.dsdt_addr, "DSDT", &len);
    if (!table || !acpi_s5_find(&power, table, len))
        root_log("no \\_S5 in the ACPI DSDT: the machine cannot be powered off by software");
}

uint8_t power_century_index(void) { return power.century < 128 ? power.century : 0; }

static _Noreturn void power_halt(void) {
    for (;;)
        (void)sem_down(root.wake);
}

/* A machine takes a moment to obey: only after that it is worth a word. */
static _Noreturn void power_disobeyed(const char *what) {
    uint64_t end = clock_tsc() + clock_us_to_tsc(3000000);

    while (nova_sm_down(root.wake, true, end) == NOVA_SUCCESS)
        ;
    root_log("%s: the machine did not obey", what);
    power_halt();
}

_Noreturn void power_off(void) {
    if (!power.s5 || !power.pm1a_cnt) {
        root_log("power off: no ACPI S5, please switch the machine off");
        power_halt();
    }
    console_flush();
    if (power.smi_cmd && power.acpi_enable && !(port_in16((uint16_t)power.pm1a_cnt) & 1)) {
        port_out8((uint16_t)power.smi_cmd, power.acpi_enable);
        for (uint32_t i = 0; i < 1000000 && !(port_in16((uint16_t)power.pm1a_cnt) & 1); i++)
            ; /* SCI_EN appears when the firmware has handed over */
    }
    /* ACPI 6.4, 4.8.3.2.1: SLP_TYP bits 10-12, SLP_EN bit 13 */
    port_out16((uint16_t)power.pm1a_cnt, (uint16_t)(power.slp_typ_a << 10 | 1u << 13));
    if (power.pm1b_cnt)
        port_out16((uint16_t)power.pm1b_cnt, (uint16_t)(power.slp_typ_b << 10 | 1u << 13));
    power_disobeyed("power off");
}

_Noreturn void power_reset(void) {
    console_flush();
    if (power.reset_space == 1 && power.reset_addr)
        port_out8((uint16_t)power.reset_addr, power.reset_value);
    port_out8(0xcf9, 0x02);
    port_out8(0xcf9, 0x06); /* hard reset: PCI chipsets */
    port_out8(0x64, 0xfe);  /* keyboard controller pulse */
    power_disobeyed("reboot");
}
