#include "rtc.h"

#include <string.h>

enum { REG_A = 10, REG_B = 11, REG_C = 12, REG_D = 13, REG_CENTURY = 0x32 };
enum { B_24H = 2, B_BINARY = 4, B_UIE = 0x10, B_AIE = 0x20, B_PIE = 0x40, B_SET = 0x80 };
enum { C_UF = 0x10, C_AF = 0x20, C_PF = 0x40, C_IRQF = 0x80 };
#define ALARM_ANY 0xc0 /* alarm bytes with both top bits set match every value */

struct civil {
    int64_t year;
    unsigned mon, day, hour, min, sec, wday;
};

/* Days since 1970 <-> civil date, proleptic Gregorian calendar, with the year starting in March. */
static int64_t days_of(int64_t y, unsigned m, unsigned d) {
    y -= m <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t yoe = y - era * 400;
    int64_t doy = (153 * (int64_t)((m + 9) % 12) + 2) / 5 + (int64_t)d - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static struct civil civil_of(int64_t s) {
    int64_t days = (s >= 0 ? s : s - 86399) / 86400;
    int64_t rest = s - days * 86400, z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    struct civil c = {.day = (unsigned)(doy - (153 * mp + 2) / 5 + 1), .mon = (unsigned)(mp < 10 ? mp + 3 : mp - 9)};

    c.year = yoe + era * 400 + (c.mon <= 2);
    c.hour = (unsigned)(rest / 3600);
    c.min = (unsigned)(rest / 60 % 60);
    c.sec = (unsigned)(rest % 60);
    c.wday = (unsigned)(((days % 7) + 11) % 7); /* 1970-01-01 was a Thursday */
    return c;
}

static uint8_t encode(const struct rtc *r, unsigned v) {
    return (uint8_t)(r->ram[REG_B] & B_BINARY ? v : (v / 10 % 10) << 4 | v % 10);
}

static unsigned decode(const struct rtc *r, uint8_t v) {
    return r->ram[REG_B] & B_BINARY ? v : (v >> 4) * 10u + (v & 15u);
}

static uint8_t encode_hour(const struct rtc *r, unsigned h) {
    if (r->ram[REG_B] & B_24H)
        return encode(r, h);
    return (uint8_t)(encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? 0x80 : 0));
}

static unsigned decode_hour(const struct rtc *r, uint8_t v) {
    if (r->ram[REG_B] & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

static int64_t seconds_at(const struct rtc *r, uint64_t ns) { return r->offset_s + (int64_t)(ns / NS_PER_SEC); }

static uint8_t time_read(const struct rtc *r, unsigned reg, int64_t s) {
    struct civil c = civil_of(s);

    switch (reg) {
    case 0:
        return encode(r, c.sec);
    case 2:
        return encode(r, c.min);
    case 4:
        return encode_hour(r, c.hour);
    case 6:
        return encode(r, c.wday + 1);
    case 7:
        return encode(r, c.day);
    case 8:
        return encode(r, c.mon);
    case 9:
        return encode(r, (unsigned)(c.year % 100));
    case REG_CENTURY:
        return encode(r, (unsigned)(c.year / 100));
    default:
        return r->ram[reg];
    }
}

/* A time register was written: the offset moves by what changed. Values out of range are taken modulo a valid date. */
static void time_write(struct rtc *r, unsigned reg, uint8_t val, uint64_t now_ns) {
    struct civil c = civil_of(seconds_at(r, now_ns));
    unsigned v = decode(r, val);

    switch (reg) {
    case 0:
        c.sec = v % 60;
        break;
    case 2:
        c.min = v % 60;
        break;
    case 4:
        c.hour = decode_hour(r, val) % 24;
        break;
    case 7:
        c.day = v >= 1 && v <= 31 ? v : 1;
        break;
    case 8:
        c.mon = v >= 1 && v <= 12 ? v : 1;
        break;
    case 9:
        c.year = c.year / 100 * 100 + v % 100;
        break;
    case REG_CENTURY:
        c.year = v % 100 * 100 + c.year % 100;
        break;
    default:
        return; /* the day of the week follows from the date */
    }
    int64_t s = days_of(c.year, c.mon, c.day) * 86400 + c.hour * 3600 + c.min * 60 + c.sec;
    r->offset_s = s - (int64_t)(now_ns / NS_PER_SEC);
}

/* Period of the periodic interrupt in ticks of 32768 Hz, 0: off (data sheet, table "Periodic interrupt rate"). */
static uint32_t period_ticks(const struct rtc *r) {
    unsigned rate = r->ram[REG_A] & 15;

    return !rate ? 0 : rate < 3 ? 128u << (rate - 1) : 1u << (rate - 1);
}

static bool alarm_matches(const struct rtc *r, int64_t s) {
    struct civil c = civil_of(s);

    return ((r->ram[1] & ALARM_ANY) == ALARM_ANY || decode(r, r->ram[1]) == c.sec) &&
           ((r->ram[3] & ALARM_ANY) == ALARM_ANY || decode(r, r->ram[3]) == c.min) &&
           ((r->ram[5] & ALARM_ANY) == ALARM_ANY || decode_hour(r, r->ram[5]) == c.hour);
}

static void irq_update(struct rtc *r) {
    bool on = r->ram[REG_B] & r->ram[REG_C] & (C_UF | C_AF | C_PF);

    r->ram[REG_C] = (uint8_t)((r->ram[REG_C] & ~C_IRQF) | (on ? C_IRQF : 0));
    irq_line_set(&r->irq, on);
}

static uint64_t periodic_index(const struct rtc *r, uint64_t ns, uint32_t ticks) {
    return ns <= r->periodic_from_ns ? 0 : scale_u64(ns - r->periodic_from_ns, 32768, NS_PER_SEC) / ticks;
}

/* Takes everything that happened up to now into register C. */
static void catch_up(struct rtc *r, uint64_t now_ns) {
    uint32_t ticks = period_ticks(r);
    uint64_t from = r->checked_ns / NS_PER_SEC, to = now_ns / NS_PER_SEC;

    if (ticks && periodic_index(r, now_ns, ticks) != periodic_index(r, r->checked_ns, ticks))
        r->ram[REG_C] |= C_PF;
    if (to > from && !(r->ram[REG_B] & B_SET)) {
        r->ram[REG_C] |= C_UF;
        if (to - from > 86400) /* an alarm time repeats daily: one day back is enough */
            from = to - 86400;
        for (uint64_t s = from + 1; r->ram[REG_B] & B_AIE && !(r->ram[REG_C] & C_AF) && s <= to; s++)
            if (alarm_matches(r, r->offset_s + (int64_t)s))
                r->ram[REG_C] |= C_AF;
    }
    r->checked_ns = now_ns;
    irq_update(r);
}

void rtc_init(struct rtc *r, int64_t epoch_s, uint64_t ram_bytes, struct irq_line irq) {
    memset(r, 0, sizeof(*r));
    r->ram[REG_A] = 0x26;
    r->ram[REG_B] = B_24H;
    r->ram[REG_D] = 0x80;
    r->offset_s = epoch_s;
    r->irq = irq;
    /* memory sizes where firmware looks for them: KiB above 1 MiB, 64 KiB units above 16 MiB */
    uint64_t kib = ram_bytes > 0x100000 ? (ram_bytes - 0x100000) >> 10 : 0;
    uint64_t units = ram_bytes > 0x1000000 ? (ram_bytes - 0x1000000) >> 16 : 0;
    kib = kib > 0xffff ? 0xffff : kib;
    units = units > 0xffff ? 0xffff : units;
    r->ram[0x15] = 0x80;
    r->ram[0x16] = 0x02;
    r->ram[0x17] = r->ram[0x30] = (uint8_t)kib;
    r->ram[0x18] = r->ram[0x31] = (uint8_t)(kib >> 8);
    r->ram[0x34] = (uint8_t)units;
    r->ram[0x35] = (uint8_t)(units >> 8);
}

uint8_t rtc_read(struct rtc *r, uint16_t port, uint64_t now_ns) {
    if (!(port & 1))
        return 0xff; /* the index register is write-only */
    unsigned reg = r->index;

    if (reg == REG_A) { /* update in progress during the last 244 us of a second */
        bool uip = !(r->ram[REG_B] & B_SET) && now_ns % NS_PER_SEC >= NS_PER_SEC - 244000;
        return (uint8_t)(r->ram[REG_A] | (uip ? 0x80 : 0));
    }
    if (reg == REG_C) {
        catch_up(r, now_ns);
        uint8_t v = r->ram[REG_C];
        r->ram[REG_C] = 0;
        irq_update(r);
        return v;
    }
    return time_read(r, reg, seconds_at(r, now_ns));
}

void rtc_write(struct rtc *r, uint16_t port, uint8_t val, uint64_t now_ns) {
    if (!(port & 1)) {
        r->index = val & 0x7f;
        return;
    }
    catch_up(r, now_ns);
    switch (r->index) {
    case REG_A:
        r->ram[REG_A] = val & 0x7f;
        r->periodic_from_ns = now_ns;
        break;
    case REG_B:
        r->ram[REG_B] = val & 0xff;
        irq_update(r);
        break;
    case REG_C:
    case REG_D:
        break;
    default:
        r->ram[r->index] = val;
        time_write(r, r->index, val, now_ns);
    }
}

uint64_t rtc_deadline(const struct rtc *r, uint64_t now_ns) {
    uint64_t d = DEV_NO_DEADLINE;
    uint32_t ticks = period_ticks(r);

    if (r->ram[REG_C] & C_IRQF)
        return d; /* nothing new to signal until register C was read */
    if (r->ram[REG_B] & B_PIE && ticks)
        d = r->periodic_from_ns + scale_up_u64((periodic_index(r, now_ns, ticks) + 1) * ticks, NS_PER_SEC, 32768);
    if (r->ram[REG_B] & (B_UIE | B_AIE)) {
        uint64_t second = (now_ns / NS_PER_SEC + 1) * NS_PER_SEC;
        d = second < d ? second : d;
    }
    return d;
}

void rtc_tick(struct rtc *r, uint64_t now_ns) { catch_up(r, now_ns); }

bool rtc_save(const struct rtc *r, struct record_buf *b) {
    struct rtc t = *r;

    memset(&t.irq, 0, sizeof(t.irq));
    return record_put(b, "rtc", 1, &t, sizeof(t));
}

bool rtc_restore(struct rtc *r, const struct record_buf *b) {
    struct rtc t;

    if (!record_get(b, "rtc", 0, 1, &t, sizeof(t)) || t.index > 0x7f)
        return false;
    t.irq = r->irq;
    *r = t;
    return true;
}
