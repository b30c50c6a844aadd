#include "pic.h"

#include <string.h>

static void chip_reset(struct pic_chip *c) {
    uint8_t lines = c->lines, elcr = c->elcr;
    memset(c, 0, sizeof(*c));
    c->lines = lines;
    c->elcr = elcr;
    c->irr = lines & elcr;
    c->lowest = 7;
}

/* Rank of an input: 0 is the highest priority. */
static unsigned rank_of(const struct pic_chip *c, unsigned input) { return (input - c->lowest - 1) & 7; }

static int best_of(const struct pic_chip *c, uint8_t set) {
    unsigned first = (c->lowest + 1u) & 7;
    unsigned by_rank = (set | (unsigned)set << 8) >> first;

    return set ? (int)((first + (unsigned)__builtin_ctz(by_rank)) & 7) : -1;
}

/* The input that the chip would signal now, or -1. */
static int chip_pending(const struct pic_chip *c, bool master) {
    if (c->icw_step)
        return -1;
    int req = best_of(c, c->irr & (uint8_t)~c->imr);
    if (req < 0)
        return -1;
    uint8_t blocking = c->isr;
    if (c->special_mask)
        blocking &= (uint8_t)~c->imr;
    if (master && c->special_nested) /* the slave may interrupt itself with a higher input */
        blocking &= (uint8_t) ~(1u << 2);
    int cur = best_of(c, blocking);
    if (cur >= 0 && rank_of(c, (unsigned)req) >= rank_of(c, (unsigned)cur))
        return -1;
    return req;
}

static void chip_line(struct pic_chip *c, unsigned input, bool level) {
    uint8_t bit = (uint8_t)(1u << input);
    if (c->elcr & bit) {
        c->irr = level ? c->irr | bit : c->irr & (uint8_t)~bit;
    } else if (level && !(c->lines & bit)) {
        c->irr |= bit;
    } else if (!level) {
        c->irr &= (uint8_t)~bit; /* an edge request lasts only while the line stays high (data sheet, IRR) */
    }
    c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
}

static void chip_ack(struct pic_chip *c, unsigned input) {
    uint8_t bit = (uint8_t)(1u << input);
    if (!(c->elcr & bit))
        c->irr &= (uint8_t)~bit;
    if (!c->auto_eoi)
        c->isr |= bit;
    else if (c->rotate_aeoi)
        c->lowest = (uint8_t)input;
}

void pic_init(struct pic *p) {
    memset(p, 0, sizeof(*p));
    for (int i = 0; i < 2; i++) {
        chip_reset(&p->chip[i]);
        p->chip[i].imr = 0xff;
    }
    p->chip[0].base = 0x08;
    p->chip[1].base = 0x70;
}

static void cascade_update(struct pic *p) {
    bool out = chip_pending(&p->chip[1], false) >= 0;
    struct pic_chip *m = &p->chip[0];
    m->irr = out ? m->irr | 4 : m->irr & (uint8_t)~4u;
}

void pic_set_line(struct pic *p, unsigned irq, bool level) {
    if (irq >= 16 || irq == 2)
        return;
    chip_line(&p->chip[irq >> 3], irq & 7, level);
    cascade_update(p);
}

bool pic_intr(const struct pic *p) { return chip_pending(&p->chip[0], true) >= 0; }

uint8_t pic_ack(struct pic *p) {
    struct pic_chip *m = &p->chip[0], *s = &p->chip[1];
    int in = chip_pending(m, true);
    if (in < 0)
        return (uint8_t)(m->base + 7);
    chip_ack(m, (unsigned)in);
    if (in != 2)
        return (uint8_t)(m->base + in);
    int sin = chip_pending(s, false);
    if (sin >= 0)
        chip_ack(s, (unsigned)sin);
    cascade_update(p);
    return (uint8_t)(s->base + (sin >= 0 ? sin : 7));
}

static void ocw2_write(struct pic_chip *c, uint8_t val) {
    unsigned op = val >> 5;
    int in = val & 7;
    if (op == 0 || op == 4) { /* rotate in automatic EOI mode: clear, set */
        c->rotate_aeoi = op == 4;
        return;
    }
    if (op == 6) { /* set priority */
        c->lowest = (uint8_t)in;
        return;
    }
    if (op == 1 || op == 5) /* non-specific: the highest in service */
        in = best_of(c, c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr);
    if (op == 2 || in < 0) /* 2: no operation */
        return;
    c->isr &= (uint8_t) ~(1u << in);
    if (op == 5 || op == 7)
        c->lowest = (uint8_t)in;
}

static void command_write(struct pic_chip *c, uint8_t val) {
    if (val & 0x10) { /* ICW1 */
        chip_reset(c);
        c->icw_step = 2;
        c->icw4_needed = val & 1;
        c->single = val >> 1 & 1;
    } else if (val & 0x08) { /* OCW3 */
        if (val & 0x02)
            c->read_isr = val & 1;
        if (val & 0x40)
            c->special_mask = val >> 5 & 1;
        c->poll = val >> 2 & 1;
    } else {
        ocw2_write(c, val);
    }
}

static void data_write(struct pic_chip *c, uint8_t val) {
    switch (c->icw_step) {
    case 0:
        c->imr = val;
        break;
    case 2:
        c->base = val & 0xf8;
        c->icw_step = !c->single ? 3 : c->icw4_needed ? 4 : 0;
        break;
    case 3: /* wiring of the cascade is fixed */
        c->icw_step = c->icw4_needed ? 4 : 0;
        break;
    default:
        c->auto_eoi = val >> 1 & 1;
        c->special_nested = val >> 4 & 1;
        c->icw_step = 0;
        break;
    }
}

void pic_write(struct pic *p, uint16_t port, uint8_t val) {
    if (port == 0x4d0 || port == 0x4d1) {
        /* inputs 0, 1, 2, 8 and 13 are edge-triggered always (ICH data sheet, ELCR) */
        struct pic_chip *c = &p->chip[port & 1];
        c->elcr = val & (port & 1 ? 0xde : 0xf8);
        c->irr = (c->irr & (uint8_t)~c->elcr) | (c->lines & c->elcr);
    } else {
        struct pic_chip *c = &p->chip[port >= 0xa0];
        if (port & 1)
            data_write(c, val);
        else
            command_write(c, val);
    }
    cascade_update(p);
}

uint8_t pic_read(struct pic *p, uint16_t port) {
    if (port == 0x4d0 || port == 0x4d1)
        return p->chip[port & 1].elcr;
    struct pic_chip *c = &p->chip[port >= 0xa0];
    if (c->poll) {
        c->poll = 0;
        int in = chip_pending(c, c == &p->chip[0]);
        if (in < 0)
            return 7;
        chip_ack(c, (unsigned)in);
        cascade_update(p);
        return (uint8_t)(0x80 | in);
    }
    if (port & 1)
        return c->imr;
    return c->read_isr ? c->isr : c->irr;
}

bool pic_save(const struct pic *p, struct record_buf *b) { return record_put(b, "pic", 1, p, sizeof(*p)); }

bool pic_restore(struct pic *p, const struct record_buf *b) {
    struct pic t;
    if (!record_get(b, "pic", 0, 1, &t, sizeof(t)))
        return false;
    for (int i = 0; i < 2; i++)
        if (t.chip[i].lowest > 7 || t.chip[i].icw_step > 4)
            return false;
    *p = t;
    return true;
}
