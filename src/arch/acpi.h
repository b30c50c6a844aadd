/* ACPI tables that a microkernel needs at boot, read defensively: lengths and checksums are checked, what is damaged is left out.
 * ACPI Specification 6.4: 5.2.5 RSDP, 5.2.7 RSDT, 5.2.8 XSDT, 5.2.9 FADT, 5.2.12 MADT; IA-PC HPET 1.0a section 3.2.4;
 * Intel VT-d specification 4.0 chapter 8 DMAR; PCI Firmware 3.2 section 4.1.2 MCFG. */
#pragma once
#include "arch/phys.h"

#define ACPI_MAX_CPUS    512
#define ACPI_MAX_IOAPICS 16
#define ACPI_MAX_DRHDS   64
#define ACPI_MAX_MCFG    8
struct acpi_cpu {
    u32 apic_id, acpi_id;
};
struct acpi_ioapic {
    u64 addr;
    u32 id, gsi_base;
};
struct acpi_mcfg {
    u64 base;
    u16 segment;
    u8 bus_first, bus_last;
};
struct acpi_info {
    u64 lapic_addr; /* 0: no MADT */
    bool has_8259;
    u32 cpu_count, cpus_lost; /* enabled CPUs in table order; beyond the array's end */
    struct acpi_cpu cpus[ACPI_MAX_CPUS];
    u32 ioapic_count;
    struct acpi_ioapic ioapics[ACPI_MAX_IOAPICS];
    struct { /* legacy IRQ -> GSI, trigger and polarity, ISA defaults filled in */
        u32 gsi;
        bool level, low;
    } isa[16];
    u64 hpet_addr;    /* 0: none */
    u64 pm_timer;     /* 0: none */
    bool pm_timer_io; /* port, else memory */
    bool pm_timer_32; /* 32 bits, else 24 */
    u32 drhd_count;
    u64 drhd[ACPI_MAX_DRHDS]; /* register pages of VT-d units, PCI segment 0, below 4 GiB */
    u32 mcfg_count;
    struct acpi_mcfg mcfg[ACPI_MAX_MCFG];
    u32 drhds_lost; /* others */
    u32 damaged;    /* tables left out for a bad length or checksum */
};
/* Physical address of a valid RSDP in the BIOS areas (section 5.2.5.1), or 0. */
u64 acpi_find_rsdp(const struct phys_reader *r);
/* Reads everything reachable from the RSDP copy (20 or 36 bytes). False: no usable RSDP, RSDT or XSDT; *out has the defaults then. */
must_check bool acpi_parse(const struct phys_reader *r, const void *rsdp, u32 rsdp_size, struct acpi_info *out);
/* Routing id (PCI bus, device, function) of the device whose configuration page is at addr, segment 0 only. PCI Firmware 3.2, 4.1.1. */
must_check bool acpi_device(const struct acpi_mcfg *mcfg, u32 count, u64 addr, u16 *rid);
