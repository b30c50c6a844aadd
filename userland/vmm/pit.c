#include "pit.h"

#include <string.h>

static uint64_t ticks_since(const struct pit_channel *c, uint64_t now_ns) {
    return now_ns <= c->start_ns ? 0 : scale_u64(now_ns - c->start_ns, PIT_HZ, NS_PER_SEC);
}

static bool periodic(const struct pit_channel *c) { return c->mode == 2 || c->mode == 3; }

static bool counting(const struct pit_channel *c) { return c->loaded && (c->gate || c->mode == 1 || c->mode == 5); }

static uint16_t to_bcd(uint32_t v) {
    return (uint16_t)(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

static uint32_t from_bcd(uint16_t v) {
    return (v & 15u) + (v >> 4 & 15u) * 10 + (v >> 8 & 15u) * 100 + (v >> 12 & 15u) * 1000;
}

static uint16_t count_read(const struct pit_channel *c, uint64_t now_ns) {
    uint32_t modulus = c->bcd ? 10000 : 0x10000;
    uint64_t t = counting(c) ? ticks_since(c, now_ns) : 0;
    uint32_t v;

    if (c->mode == 3) /* counts down by two, twice a period */
        v = c->reload - (uint32_t)(2 * t % c->reload);
    else if (c->mode == 2)
        v = c->reload - (uint32_t)(t % c->reload);
    else
        v = (uint32_t)((c->reload + modulus - t % modulus) % modulus);
    return c->bcd ? to_bcd(v % modulus) : (uint16_t)v;
}

static bool output(const struct pit_channel *c, uint64_t now_ns) {
    uint64_t t = ticks_since(c, now_ns);

    if (!c->loaded)
        return c->mode != 0;
    switch (c->mode) {
    case 0:
    case 1:
        return counting(c) && t >= c->reload;
    case 2:
        return !c->gate || t % c->reload != c->reload - 1;
    case 3:
        return !c->gate || t % c->reload < (c->reload + 1) / 2;
    default:
        return t != c->reload;
    }
}

/* Next rising edge of channel 0 after the time `now`. */
static void irq_plan(struct pit *p, uint64_t now_ns) {
    struct pit_channel *c = &p->ch[0];
    uint64_t t = ticks_since(c, now_ns), edge;

    p->irq_next_ns = DEV_NO_DEADLINE;
    if (!counting(c))
        return;
    if (periodic(c))
        edge = (t / c->reload + 1) * c->reload;
    else if (t < c->reload)
        edge = c->reload;
    else
        return;
    p->irq_next_ns = c->start_ns + scale_up_u64(edge, NS_PER_SEC, PIT_HZ);
}

void pit_init(struct pit *p, struct irq_line irq) {
    memset(p, 0, sizeof(*p));
    for (int i = 0; i < 3; i++) {
        p->ch[i].reload = 0x10000;
        p->ch[i].access = 3;
        p->ch[i].mode = 3;
        p->ch[i].gate = i != 2;
    }
    p->irq_next_ns = DEV_NO_DEADLINE;
    p->irq = irq;
}

static void count_write(struct pit *p, unsigned n, uint16_t val, uint64_t now_ns) {
    struct pit_channel *c = &p->ch[n];
    uint32_t v = c->bcd ? from_bcd(val) : val;

    c->reload = v ? v : c->bcd ? 10000 : 0x10000;
    if (periodic(c) && c->reload == 1)
        c->reload = 2; /* 1 is illegal in modes 2 and 3 */
    c->start_ns = now_ns;
    c->loaded = 1;
    if (n == 0) {
        irq_line_set(&p->irq, c->mode != 0);
        irq_plan(p, now_ns);
    }
}

static void latch_take(struct pit_channel *c, uint64_t now_ns) {
    if (c->latched)
        return; /* a second latch command is ignored until the first was read */
    c->latch = count_read(c, now_ns);
    c->latched = c->access == 3 ? 2 : 1;
}

static void control_write(struct pit *p, uint8_t val, uint64_t now_ns) {
    unsigned n = val >> 6;

    if (n == 3) { /* read-back */
        for (unsigned i = 0; i < 3; i++) {
            struct pit_channel *c = &p->ch[i];
            if (!(val & 2u << i))
                continue;
            if (!(val & 0x20))
                latch_take(c, now_ns);
            if (!(val & 0x10) && !c->status_latched) {
                c->status =
                    (uint8_t)(output(c, now_ns) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1 | c->bcd);
                c->status_latched = 1;
            }
        }
        return;
    }
    struct pit_channel *c = &p->ch[n];
    if (!(val & 0x30)) {
        latch_take(c, now_ns);
        return;
    }
    c->access = val >> 4 & 3;
    c->mode = val >> 1 & 7;
    if (c->mode > 5)
        c->mode -= 4; /* bit 2 is "don't care" for modes 2 and 3 */
    c->bcd = val & 1;
    c->loaded = c->write_high = c->read_high = c->latched = c->status_latched = 0;
    if (n == 0) {
        p->irq_next_ns = DEV_NO_DEADLINE;
        irq_line_set(&p->irq, c->mode != 0);
    }
}

static uint8_t counter_read(struct pit_channel *c, uint64_t now_ns) {
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    uint16_t v = c->latched ? c->latch : count_read(c, now_ns);
    bool high = c->access == 2 || (c->access == 3 && c->read_high);

    if (c->access == 3)
        c->read_high ^= 1;
    if (c->latched)
        c->latched--;
    return (uint8_t)(high ? v >> 8 : v);
}

static void counter_write(struct pit *p, unsigned n, uint8_t val, uint64_t now_ns) {
    struct pit_channel *c = &p->ch[n];

    switch (c->access) {
    case 1:
        count_write(p, n, val, now_ns);
        break;
    case 2:
        count_write(p, n, (uint16_t)(val << 8), now_ns);
        break;
    default:
        if (!c->write_high) {
            c->low = val;
            c->write_high = 1;
        } else {
            c->write_high = 0;
            count_write(p, n, (uint16_t)(val << 8 | c->low), now_ns);
        }
    }
}

uint8_t pit_read(struct pit *p, uint16_t port, uint64_t now_ns) {
    if (port == 0x61) /* bit 4 toggles with the refresh timer, about every 15 us */
        return (uint8_t)(p->ch[2].gate | p->speaker << 1 | (now_ns / 15085 & 1) << 4 | output(&p->ch[2], now_ns) << 5);
    if (port < 0x40 || port > 0x42)
        return 0xff;
    return counter_read(&p->ch[port - 0x40], now_ns);
}

void pit_write(struct pit *p, uint16_t port, uint8_t val, uint64_t now_ns) {
    if (port == 0x61) {
        struct pit_channel *c = &p->ch[2];
        bool rise = (val & 1) && !c->gate;
        c->gate = val & 1;
        p->speaker = val >> 1 & 1;
        if (rise) /* modes 1, 2, 3, 5 restart; 0 and 4 resume, which nobody uses on channel 2 with a partial count */
            c->start_ns = now_ns;
    } else if (port == 0x43) {
        control_write(p, val, now_ns);
    } else if (port >= 0x40 && port <= 0x42) {
        counter_write(p, port - 0x40u, val, now_ns);
    }
}

uint64_t pit_deadline(const struct pit *p) { return p->irq_next_ns; }

void pit_tick(struct pit *p, uint64_t now_ns) {
    if (now_ns < p->irq_next_ns)
        return;
    irq_line_set(&p->irq, false);
    irq_line_set(&p->irq, true);
    irq_plan(p, now_ns);
}

bool pit_save(const struct pit *p, struct record_buf *b) {
    struct pit t = *p;

    memset(&t.irq, 0, sizeof(t.irq));
    return record_put(b, "pit", 1, &t, sizeof(t));
}

bool pit_restore(struct pit *p, const struct record_buf *b) {
    struct pit t;

    if (!record_get(b, "pit", 0, 1, &t, sizeof(t)))
        return false;
    for (int i = 0; i < 3; i++)
        if (!t.ch[i].reload || t.ch[i].reload > 0x10000 || t.ch[i].mode > 5)
            return false;
    t.irq = p->irq;
    *p = t;
    return true;
}
