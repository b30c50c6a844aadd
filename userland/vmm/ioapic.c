#include "ioapic.h"

#include <string.h>

#define RTE_REMOTE_IRR (1ull << 14)
#define RTE_LEVEL      (1ull << 15)
#define RTE_MASKED     (1ull << 16)
#define RTE_WRITABLE   0xff0000000001afffull
#define IOAPIC_VERSION (0x20u | (IOAPIC_PINS - 1) << 16) /* 0x20: has the EOI register */

void ioapic_init(struct ioapic *io, void (*send)(void *ctx, const struct apic_msg *m), void *ctx) {
    memset(io, 0, sizeof(*io));
    for (int i = 0; i < IOAPIC_PINS; i++)
        io->rte[i] = RTE_MASKED;
    io->send = send;
    io->ctx = ctx;
}

static void pin_send(struct ioapic *io, unsigned pin) {
    uint64_t e = io->rte[pin];
    struct apic_msg m = {.dest = (uint32_t)(e >> 56),
                         .vector = (uint8_t)e,
                         .delivery = e >> 8 & 7,
                         .logical = e >> 11 & 1,
                         .level = e & RTE_LEVEL};

    if (m.level)
        io->rte[pin] |= RTE_REMOTE_IRR;
    io->send(io->ctx, &m);
}

/* A level input that is asserted, unmasked and not in service is sent. */
static void level_check(struct ioapic *io, unsigned pin) {
    uint64_t e = io->rte[pin];

    if (e & RTE_LEVEL && !(e & (RTE_MASKED | RTE_REMOTE_IRR)) && io->lines >> pin & 1)
        pin_send(io, pin);
}

void ioapic_set_line(struct ioapic *io, unsigned pin, bool level) {
    if (pin >= IOAPIC_PINS)
        return;
    bool rise = level && !(io->lines >> pin & 1);

    io->lines = (io->lines & ~(1u << pin)) | (uint32_t)level << pin;
    if (io->rte[pin] & RTE_LEVEL)
        level_check(io, pin);
    else if (rise && !(io->rte[pin] & RTE_MASKED))
        pin_send(io, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector) {
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        uint64_t e = io->rte[pin];
        if ((uint8_t)e != vector || !(e & RTE_LEVEL) || !(e & RTE_REMOTE_IRR))
            continue;
        io->rte[pin] &= ~RTE_REMOTE_IRR;
        level_check(io, pin);
    }
}

uint32_t ioapic_read(const struct ioapic *io, uint32_t offset) {
    if ((offset & 0xff) == 0)
        return io->select;
    if ((offset & 0xff) != 0x10)
        return 0;
    switch (io->select) {
    case 0:
    case 2:
        return io->id << 24;
    case 1:
        return IOAPIC_VERSION;
    default:
        if (io->select < 0x10 || io->select >= 0x10 + 2 * IOAPIC_PINS)
            return 0xffffffff;
        return (uint32_t)(io->rte[(io->select - 0x10) >> 1] >> (io->select & 1) * 32);
    }
}

static void rte_write(struct ioapic *io, unsigned pin, bool high, uint32_t val) {
    uint64_t e = io->rte[pin];

    e = high ? (e & 0xffffffff) | (uint64_t)val << 32 : (e & ~0xffffffffull) | val;
    e = (e & RTE_WRITABLE) | (io->rte[pin] & RTE_REMOTE_IRR);
    if (!(e & RTE_LEVEL)) /* switching to edge drops the service state; drivers rely on it as a way to EOI */
        e &= ~RTE_REMOTE_IRR;
    io->rte[pin] = e;
    level_check(io, pin);
}

void ioapic_write(struct ioapic *io, uint32_t offset, uint32_t val) {
    switch (offset & 0xff) {
    case 0x00:
        io->select = val & 0xff;
        break;
    case 0x10:
        if (io->select == 0)
            io->id = val >> 24 & 15;
        else if (io->select >= 0x10 && io->select < 0x10 + 2 * IOAPIC_PINS)
            rte_write(io, (io->select - 0x10) >> 1, io->select & 1, val);
        break;
    case 0x40:
        ioapic_eoi(io, (uint8_t)val);
        break;
    default:
        break;
    }
}

bool ioapic_save(const struct ioapic *io, struct record_buf *b) {
    struct ioapic t = *io;

    t.send = NULL;
    t.ctx = NULL;
    return record_put(b, "ioapic", 1, &t, sizeof(t));
}

bool ioapic_restore(struct ioapic *io, const struct record_buf *b) {
    struct ioapic t;

    if (!record_get(b, "ioapic", 0, 1, &t, sizeof(t)))
        return false;
    t.send = io->send;
    t.ctx = io->ctx;
    *io = t;
    return true;
}
