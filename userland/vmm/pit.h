/* 8254 interval timer with the PC's port 0x61 (gate and output of channel 2).
 * Counters are not ticked: their value is computed from the time since they were loaded.
 * Facts: Intel 8254 data sheet; input clock 1193182 Hz. */
#pragma once
#include "dev.h"
#include "record.h"

#define PIT_HZ 1193182ull

struct pit_channel {
    uint64_t start_ns; /* when counting (re)started */
    uint32_t reload;   /* 1..65536 */
    uint16_t latch;    /* value held by a latch command or for the second byte of a read */
    uint8_t latched;   /* bytes of the latch still to be read, 0: none */
    uint8_t status;
    uint8_t status_latched;
    uint8_t mode;       /* 0..5 */
    uint8_t access;     /* 1 low, 2 high, 3 low then high */
    uint8_t write_high; /* the next write is the high byte */
    uint8_t read_high;
    uint8_t low; /* low byte of a write in progress */
    uint8_t gate;
    uint8_t loaded; /* a count was written since the mode was set */
    uint8_t bcd;
};

struct pit {
    struct pit_channel ch[3];
    uint64_t irq_next_ns; /* next rising edge of channel 0, DEV_NO_DEADLINE: none */
    uint8_t speaker;      /* port 0x61 bit 1 */
    struct irq_line irq;
};

void pit_init(struct pit *p, struct irq_line irq);
uint8_t pit_read(struct pit *p, uint16_t port, uint64_t now_ns);
void pit_write(struct pit *p, uint16_t port, uint8_t val, uint64_t now_ns);
uint64_t pit_deadline(const struct pit *p);
/* Raises the interrupt for edges that have passed; edges that were missed are not repeated. */
void pit_tick(struct pit *p, uint64_t now_ns);
bool pit_save(const struct pit *p, struct record_buf *b);
bool pit_restore(struct pit *p, const struct record_buf *b);
