/* ACPI tables of a guest: RSDP, XSDT, FADT, FACS, DSDT, MADT, written into its memory below 1 MiB. */
#pragma once
#include "gmem.h"

#define TABLES_ADDR 0xf0000ull /* where BIOSes keep the RSDP, too */
#define TABLES_SIZE 0x2000ull

/* Returns the address of the RSDP, 0 when memory is too small for it. */
uint64_t tables_write(const struct gmem *g, unsigned cpus);
