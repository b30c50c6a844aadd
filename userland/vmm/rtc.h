/* MC146818 real-time clock and CMOS memory at ports 0x70/0x71. Time is UTC: wall time at VM start plus what the guest set.
 * Periodic, alarm and update-ended interrupts on IRQ 8. Facts: Motorola MC146818A data sheet. */
#pragma once
#include "dev.h"
#include "record.h"

struct rtc {
    uint8_t index;
    uint8_t ram[128];          /* registers A-D at 10..13; time registers 0..9 are computed */
    int64_t offset_s;          /* UTC seconds since 1970 at VM time 0, changed when the guest sets the clock */
    uint64_t periodic_from_ns; /* start of the current periodic rate */
    uint64_t checked_ns;       /* events up to here were taken into register C */
    struct irq_line irq;
};

void rtc_init(struct rtc *r, int64_t epoch_s, uint64_t ram_bytes, struct irq_line irq);
uint8_t rtc_read(struct rtc *r, uint16_t port, uint64_t now_ns);
void rtc_write(struct rtc *r, uint16_t port, uint8_t val, uint64_t now_ns);
uint64_t rtc_deadline(const struct rtc *r, uint64_t now_ns);
void rtc_tick(struct rtc *r, uint64_t now_ns);
bool rtc_save(const struct rtc *r, struct record_buf *b);
bool rtc_restore(struct rtc *r, const struct record_buf *b);
