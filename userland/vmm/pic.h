/* A pair of 8259A interrupt controllers with the edge/level control registers of PC chipsets.
 * Facts: Intel 8259A data sheet; ports 0x20/0x21, 0xa0/0xa1, ELCR 0x4d0/0x4d1. */
#pragma once
#include "dev.h"
#include "record.h"

struct pic_chip {
    uint8_t irr, isr, imr;
    uint8_t lines;    /* input levels */
    uint8_t elcr;     /* 1: level-triggered */
    uint8_t base;     /* vector of input 0 */
    uint8_t icw_step; /* 0: initialized, else the ICW that comes next */
    uint8_t icw4_needed;
    uint8_t single;
    uint8_t auto_eoi;
    uint8_t rotate_aeoi;
    uint8_t lowest; /* input with the lowest priority, 7 after reset */
    uint8_t read_isr;
    uint8_t special_mask;
    uint8_t special_nested;
    uint8_t poll;
};

struct pic {
    struct pic_chip chip[2];
};

void pic_init(struct pic *p);
void pic_set_line(struct pic *p, unsigned irq, bool level);
/* Level of the INTR output. */
bool pic_intr(const struct pic *p);
/* Interrupt acknowledge cycle: the vector; spurious (7 of the chip) when nothing is pending. */
uint8_t pic_ack(struct pic *p);
uint8_t pic_read(struct pic *p, uint16_t port);
void pic_write(struct pic *p, uint16_t port, uint8_t val);
bool pic_save(const struct pic *p, struct record_buf *b);
bool pic_restore(struct pic *p, const struct record_buf *b);
