/* Wall clock of the machine: MC146818 (its data sheet: registers 0-9 time, A bit 7 update in progress, B bit 1 24 h, bit 2 binary). */
#include "root.h"

static uint8_t rtc_register(uint8_t index) {
    port_out8(0x70, index | 0x80); /* bit 7: NMI off while we look */
    return port_in8(0x71);
}

struct rtc_time {
    uint8_t second, minute, hour, day, month, year, century;
};

static void rtc_sample(struct rtc_time *t, uint8_t century_index) {
    for (uint32_t tries = 0; tries < 100000 && rtc_register(0xa) & 0x80; tries++)
        ; /* update in progress: 2 ms at most */
    *t = (struct rtc_time){rtc_register(0),
                           rtc_register(2),
                           rtc_register(4),
                           rtc_register(7),
                           rtc_register(8),
                           rtc_register(9),
                           century_index ? rtc_register(century_index) : 0};
}

static uint32_t rtc_number(uint8_t value, bool binary) {
    return binary ? value : (uint32_t)(value >> 4) * 10 + (value & 15);
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static uint64_t rtc_days(uint32_t year, uint32_t month, uint32_t day) {
    if (month <= 2) { /* count years from March, so that the leap day is the last */
        year--;
        month += 12;
    }
    return 365ul * year + year / 4 - year / 100 + year / 400 + (153 * (month - 3) + 2) / 5 + day - 1 - 719468;
}

uint64_t rtc_read_epoch(uint8_t century_index) {
    struct rtc_time a, b;
    uint8_t status;
    bool binary;

    rtc_sample(&b, century_index);
    for (uint32_t tries = 0; tries < 10; tries++) { /* two equal samples: none was torn */
        a = b;
        rtc_sample(&b, century_index);
        if (!__builtin_memcmp(&a, &b, sizeof a))
            break;
    }
    status = rtc_register(0xb);
    binary = status & 4;

    uint32_t hour = rtc_number(b.hour & 0x7f, binary);

    if (!(status & 2))
        hour = hour % 12 + (b.hour & 0x80 ? 12 : 0);

    uint32_t century = rtc_number(b.century, binary);
    uint32_t year = rtc_number(b.year, binary) + 100 * (century >= 19 && century <= 21 ? century : 20);
    uint32_t month = rtc_number(b.month, binary);

    if (month < 1 || month > 12)
        return 0;
    return ((rtc_days(year, month, rtc_number(b.day, binary)) * 24 + hour) * 60 + rtc_number(b.minute, binary)) * 60 +
           rtc_number(b.second, binary);
}
