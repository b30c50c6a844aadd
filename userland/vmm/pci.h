/* PCI configuration mechanism 1 (ports 0xcf8, 0xcfc) with a host bridge at 00:00.0 and nothing else. */
#pragma once
#include "dev.h"
#include "record.h"

struct pci {
    uint32_t address;
};

void pci_init(struct pci *p);
/* Ports 0xcf8..0xcff; size 1, 2 or 4. */
uint32_t pci_read(const struct pci *p, uint16_t port, unsigned size);
void pci_write(struct pci *p, uint16_t port, unsigned size, uint32_t val);
bool pci_save(const struct pci *p, struct record_buf *b);
bool pci_restore(struct pci *p, const struct record_buf *b);
