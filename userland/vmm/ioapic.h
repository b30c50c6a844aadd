/* I/O APIC with 24 inputs. Lines are given as asserted or not, so polarity is only stored.
 * Facts: Intel 82093AA data sheet. */
#pragma once
#include "dev.h"
#include "lapic.h"

#define IOAPIC_PINS 24
#define IOAPIC_ADDR 0xfec00000ull

struct ioapic {
    uint32_t select;
    uint32_t id;
    uint64_t rte[IOAPIC_PINS];
    uint32_t lines; /* asserted inputs */
    void (*send)(void *ctx, const struct apic_msg *m);
    void *ctx;
};

void ioapic_init(struct ioapic *io, void (*send)(void *ctx, const struct apic_msg *m), void *ctx);
void ioapic_set_line(struct ioapic *io, unsigned pin, bool level);
/* A CPU completed a level-triggered vector. */
void ioapic_eoi(struct ioapic *io, uint8_t vector);
/* offset: within the register page */
uint32_t ioapic_read(const struct ioapic *io, uint32_t offset);
void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t val);
bool ioapic_save(const struct ioapic *io, struct record_buf *b);
bool ioapic_restore(struct ioapic *io, const struct record_buf *b);
