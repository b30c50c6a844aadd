// LINK: userland/vmm/uart.c userland/vmm/pit.c userland/vmm/rtc.c userland/vmm/acpi_pm.c userland/vmm/pci.c userland/vmm/record.c
/* Goal: serial port, timers, clock and power control behave as drivers expect.
 * Method: register accesses with a clock of our own; levels of the interrupt line are recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "acpi_pm.h"
#include "pci.h"
#include "pit.h"
#include "rtc.h"
#include "uart.h"

static bool level;
static unsigned rises;
static void line_set(void *ctx, unsigned pin, bool l) {
    (void)ctx;
    (void)pin;
    rises += l && !level;
    level = l;
}
static const struct irq_line line = {.set = line_set};

static char out[64];
static unsigned out_len, out_limit;
static bool sink(void *ctx, uint8_t byte) {
    (void)ctx;
    out[out_len++ & 63] = (char)byte;
    return out_len < out_limit;
}

static void uart_fresh(struct uart *u) {
    out_len = 0;
    out_limit = 64;
    level = false;
    rises = 0;
    uart_init(u, line, sink, NULL);
    uart_write(u, 2, 0xc7); /* FIFO on, cleared, trigger level 14 */
    uart_write(u, 4, 0x0b); /* DTR RTS OUT2 */
}

static void uart_transmit_interrupts(void **state) {
    (void)state;
    struct uart u;
    uart_fresh(&u);
    assert_int_equal(uart_read(&u, 2), 0xc1);
    uart_write(&u, 1, 2);
    assert_true(level);
    assert_int_equal(uart_read(&u, 2), 0xc2); /* reading it clears it */
    assert_false(level);
    uart_write(&u, 0, 'x');
    assert_true(level);
    assert_int_equal(out[0], 'x');
    assert_int_equal(rises, 2);
    uart_write(&u, 0, 'y'); /* a fresh edge although it was pending */
    assert_int_equal(rises, 3);
    uart_write(&u, 4, 3); /* OUT2 off: no interrupts */
    assert_false(level);
}

static void uart_pauses_when_sink_is_full(void **state) {
    (void)state;
    struct uart u;
    uart_fresh(&u);
    out_limit = 1;
    uart_write(&u, 1, 2);
    (void)uart_read(&u, 2);
    uart_write(&u, 0, 'x');
    assert_false(level);
    assert_int_equal(uart_read(&u, 5) & 0x60, 0);
    uart_tx_resume(&u);
    assert_true(level);
    assert_int_equal(uart_read(&u, 5) & 0x60, 0x60);
}

static void uart_receive_fifo(void **state) {
    (void)state;
    struct uart u;
    uart_fresh(&u);
    uart_write(&u, 1, 1);
    assert_int_equal(uart_room(&u), 16);
    uart_receive(&u, 'a');
    assert_true(level);
    assert_int_equal(uart_read(&u, 2), 0xcc); /* below the trigger level: timeout */
    for (int i = 0; i < 16; i++)
        uart_receive(&u, (uint8_t)('b' + i));
    assert_int_equal(uart_room(&u), 0);
    assert_int_equal(uart_read(&u, 5), 0x63); /* overrun once */
    assert_int_equal(uart_read(&u, 5), 0x61);
    for (int i = 0; i < 16; i++)
        assert_int_equal(uart_read(&u, 0), 'a' + i);
    assert_false(level);
    assert_int_equal(uart_read(&u, 5), 0x60);
}

static void uart_loopback_and_scratch(void **state) {
    (void)state;
    struct uart u;
    uart_fresh(&u);
    uart_write(&u, 4, 0x1f);
    assert_int_equal(uart_read(&u, 6) & 0xf0, 0xf0);
    uart_write(&u, 0, 'q');
    assert_int_equal(out_len, 0);
    assert_int_equal(uart_read(&u, 0), 'q');
    uart_write(&u, 7, 0x5a);
    assert_int_equal(uart_read(&u, 7), 0x5a);
    uart_write(&u, 3, 0x83);
    uart_write(&u, 0, 12);
    assert_int_equal(uart_read(&u, 0), 12);
    assert_int_equal(out_len, 0);
}

static void pit_periodic_channel_0(void **state) {
    (void)state;
    struct pit p;
    level = false;
    rises = 0;
    pit_init(&p, line);
    assert_true(pit_deadline(&p) == DEV_NO_DEADLINE);
    pit_write(&p, 0x43, 0x34, 1000); /* channel 0, both bytes, mode 2 */
    pit_write(&p, 0x40, 0x9c, 1000);
    pit_write(&p, 0x40, 0x2e, 1000); /* 11932: 100 Hz */
    uint64_t d = pit_deadline(&p);
    assert_in_range(d, 10000000, 10002000);
    rises = 0;
    level = true;
    pit_tick(&p, d);
    assert_int_equal(rises, 1);
    assert_in_range(pit_deadline(&p) - d, 9990000, 10010000);
    pit_write(&p, 0x43, 0x00, d + 5000000); /* latch */
    unsigned v = pit_read(&p, 0x40, d + 9000000);
    v |= (unsigned)pit_read(&p, 0x40, d + 9000000) << 8;
    assert_in_range(v, 5960, 5972);
}

static void pit_one_shot_and_speaker_gate(void **state) {
    (void)state;
    struct pit p;
    pit_init(&p, line);
    pit_write(&p, 0x61, 0x01, 0); /* gate of channel 2 */
    pit_write(&p, 0x43, 0xb0, 0); /* channel 2, mode 0 */
    pit_write(&p, 0x42, 0xa9, 0);
    pit_write(&p, 0x42, 0x04, 0); /* 1193: one millisecond */
    assert_int_equal(pit_read(&p, 0x61, 900000) & 0x20, 0);
    assert_int_equal(pit_read(&p, 0x61, 1010000) & 0x20, 0x20);
    pit_write(&p, 0x43, 0x30, 0); /* channel 0, mode 0 */
    pit_write(&p, 0x40, 0xa9, 0);
    pit_write(&p, 0x40, 0x04, 0);
    level = false;
    uint64_t d = pit_deadline(&p);
    pit_tick(&p, d);
    assert_true(level);
    assert_true(pit_deadline(&p) == DEV_NO_DEADLINE);
    pit_write(&p, 0x43, 0xe2, d); /* read back status of channel 0 */
    assert_int_equal(pit_read(&p, 0x40, d) & 0xbf, 0xb0);
    for (unsigned c = 0; c < 256; c++) { /* whatever is written, nothing breaks */
        pit_write(&p, 0x43, (uint8_t)c, d);
        for (uint16_t port = 0x40; port < 0x43; port++) {
            pit_write(&p, port, (uint8_t)(c * 7), d);
            pit_write(&p, port, 0, d);
            (void)pit_read(&p, port, d + c);
        }
        pit_tick(&p, d + c);
    }
}

static unsigned cmos(struct rtc *r, uint8_t reg, uint64_t now) {
    rtc_write(r, 0x70, reg, now);
    return rtc_read(r, 0x71, now);
}

static void rtc_tells_and_takes_time(void **state) {
    (void)state;
    struct rtc r;
    rtc_init(&r, 1709210096, 512u << 20, line); /* 2024-02-29 12:34:56 UTC, a Thursday */
    assert_int_equal(cmos(&r, 9, 0), 0x24);
    assert_int_equal(cmos(&r, 8, 0), 0x02);
    assert_int_equal(cmos(&r, 7, 0), 0x29);
    assert_int_equal(cmos(&r, 6, 0), 5);
    assert_int_equal(cmos(&r, 4, 0), 0x12);
    assert_int_equal(cmos(&r, 2, 0), 0x34);
    assert_int_equal(cmos(&r, 0, 3 * NS_PER_SEC), 0x59);
    assert_int_equal(cmos(&r, 0, 4 * NS_PER_SEC), 0x00);
    assert_int_equal(cmos(&r, 0x32, 0), 0x20);
    rtc_write(&r, 0x70, 4, 0);
    rtc_write(&r, 0x71, 0x23, 0);
    assert_int_equal(cmos(&r, 4, 0), 0x23);
    assert_int_equal(cmos(&r, 2, 0), 0x34);
    assert_int_equal(cmos(&r, 10, NS_PER_SEC / 2) & 0x80, 0);
    assert_int_equal(cmos(&r, 10, NS_PER_SEC - 1000) & 0x80, 0x80);
    assert_int_equal(cmos(&r, 0x34, 0) | cmos(&r, 0x35, 0) << 8, (512 - 16) * 16);
}

static void rtc_interrupts(void **state) {
    (void)state;
    struct rtc r;
    level = false;
    rtc_init(&r, 1000, 0, line);
    assert_true(rtc_deadline(&r, 0) == DEV_NO_DEADLINE);
    rtc_write(&r, 0x70, 11, 0);
    rtc_write(&r, 0x71, 0x12, 0); /* update-ended, 24 h */
    assert_true(rtc_deadline(&r, 5) == NS_PER_SEC);
    rtc_tick(&r, NS_PER_SEC);
    assert_true(level);
    assert_int_equal(cmos(&r, 12, NS_PER_SEC) & 0xb0, 0x90);
    assert_false(level);
    rtc_write(&r, 0x71, 0, NS_PER_SEC);
    rtc_write(&r, 0x70, 11, NS_PER_SEC);
    rtc_write(&r, 0x71, 0x42, NS_PER_SEC); /* periodic, 1024 Hz */
    (void)cmos(&r, 12, NS_PER_SEC);
    uint64_t d = rtc_deadline(&r, NS_PER_SEC);
    assert_in_range(d - NS_PER_SEC, 1, 976563);
    rtc_tick(&r, d);
    assert_int_equal(cmos(&r, 12, d) & 0xc0, 0xc0);
}

static void power_management(void **state) {
    (void)state;
    struct acpi_pm pm;
    level = false;
    acpi_pm_init(&pm, line);
    assert_int_equal(acpi_pm_read(&pm, PM_BASE + 4, 2, 0), 1);
    assert_int_equal(acpi_pm_read(&pm, PM_BASE + 8, 4, NS_PER_SEC), PM_TIMER_HZ);
    acpi_pm_power_button(&pm);
    assert_false(level);
    acpi_pm_write(&pm, PM_BASE + 2, 2, 0x100);
    assert_true(level);
    acpi_pm_write(&pm, PM_BASE, 2, 0x100);
    assert_false(level);
    acpi_pm_write(&pm, PM_BASE + 4, 2, 0x2000 | 1 << 10);
    assert_int_equal(pm.request, PM_NONE); /* another sleep state */
    acpi_pm_write(&pm, PM_BASE + 4, 2, 0x2000 | PM_SLP_TYP_S5 << 10);
    assert_int_equal(pm.request, PM_POWER_OFF);
    acpi_pm_init(&pm, line);
    acpi_pm_write(&pm, PM_RESET_PORT, 1, 0x06);
    assert_int_equal(pm.request, PM_RESET);
    acpi_pm_init(&pm, line);
    acpi_pm_write(&pm, 0x64, 1, 0xfe);
    assert_int_equal(pm.request, PM_RESET);
}

static void pci_has_a_bridge_only(void **state) {
    (void)state;
    struct pci p;
    pci_init(&p);
    assert_int_equal(pci_read(&p, 0xcfc, 4), 0xffffffff);
    pci_write(&p, 0xcf8, 4, 0x80000000);
    assert_int_equal(pci_read(&p, 0xcf8, 4), 0x80000000);
    assert_int_equal(pci_read(&p, 0xcfc, 2) & 0xffff, 0x8086);
    assert_int_equal(pci_read(&p, 0xcfe, 2) & 0xffff, 0x1237);
    pci_write(&p, 0xcf8, 4, 0x80000800);
    assert_int_equal(pci_read(&p, 0xcfc, 4), 0xffffffff);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uart_transmit_interrupts), cmocka_unit_test(uart_pauses_when_sink_is_full),
        cmocka_unit_test(uart_receive_fifo),        cmocka_unit_test(uart_loopback_and_scratch),
        cmocka_unit_test(pit_periodic_channel_0),   cmocka_unit_test(pit_one_shot_and_speaker_gate),
        cmocka_unit_test(rtc_tells_and_takes_time), cmocka_unit_test(rtc_interrupts),
        cmocka_unit_test(power_management),         cmocka_unit_test(pci_has_a_bridge_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
