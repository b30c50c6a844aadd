// LINK: userland/vmm/pic.c userland/vmm/lapic.c userland/vmm/ioapic.c userland/vmm/record.c
/* Goal: 8259 pair, I/O APIC and local APIC give the interrupts that their data sheets promise, in the right order.
 * Method: register writes as Linux and BIOSes do them, then the vectors that come out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ioapic.h"
#include "lapic.h"
#include "pic.h"

static void pic_setup(struct pic *p) {
    pic_init(p);
    static const struct {
        uint16_t port;
        uint8_t val;
    } init[] = {{0x20, 0x11}, {0x21, 0x30}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11},
                {0xa1, 0x38}, {0xa1, 2},    {0xa1, 1}, {0x21, 0}, {0xa1, 0}};
    for (unsigned i = 0; i < sizeof(init) / sizeof(init[0]); i++)
        pic_write(p, init[i].port, init[i].val);
}

static void pic_priority_and_eoi(void **state) {
    (void)state;
    struct pic p;
    pic_setup(&p);
    assert_false(pic_intr(&p));
    pic_set_line(&p, 4, true);
    pic_set_line(&p, 1, true);
    assert_true(pic_intr(&p));
    assert_int_equal(pic_ack(&p), 0x31);
    assert_false(pic_intr(&p)); /* 4 is lower than 1, which is in service */
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(pic_ack(&p), 0x34);
    pic_write(&p, 0x20, 0x64);  /* specific EOI */
    assert_false(pic_intr(&p)); /* edges: lines are still high */
    pic_set_line(&p, 4, false);
    pic_set_line(&p, 4, true);
    assert_true(pic_intr(&p));
}

static void pic_slave_cascades(void **state) {
    (void)state;
    struct pic p;
    pic_setup(&p);
    pic_set_line(&p, 12, true);
    assert_true(pic_intr(&p));
    assert_int_equal(pic_ack(&p), 0x3c);
    pic_set_line(&p, 8, true);
    assert_false(pic_intr(&p)); /* the master's input 2 is in service and not specially nested */
    pic_write(&p, 0xa0, 0x20);
    pic_write(&p, 0x20, 0x20);
    assert_int_equal(pic_ack(&p), 0x38);
}

static void pic_level_comes_again(void **state) {
    (void)state;
    struct pic p;
    pic_setup(&p);
    pic_write(&p, 0x4d1, 0x02); /* 9 is level-triggered */
    pic_set_line(&p, 9, true);
    assert_int_equal(pic_ack(&p), 0x39);
    pic_write(&p, 0xa0, 0x20);
    pic_write(&p, 0x20, 0x20);
    assert_true(pic_intr(&p));
    pic_set_line(&p, 9, false);
    assert_false(pic_intr(&p));
    assert_int_equal(pic_ack(&p), 0x37); /* spurious */
}

static void pic_mask_and_registers(void **state) {
    (void)state;
    struct pic p;
    pic_setup(&p);
    pic_write(&p, 0x21, 0xff);
    pic_set_line(&p, 0, true);
    assert_false(pic_intr(&p));
    assert_int_equal(pic_read(&p, 0x21), 0xff);
    assert_int_equal(pic_read(&p, 0x20), 1); /* IRR */
    pic_write(&p, 0x21, 0xfe);
    assert_int_equal(pic_ack(&p), 0x30);
    pic_write(&p, 0x20, 0x0b);
    assert_int_equal(pic_read(&p, 0x20), 1); /* ISR */
}

static void lapic_orders_by_priority(void **state) {
    (void)state;
    struct lapic l;
    struct lapic_effect e;
    lapic_init(&l, 0, true);
    assert_true(lapic_accept(&l, 0x41, false));
    assert_true(lapic_accept(&l, 0x91, true));
    assert_int_equal(lapic_pending(&l), 0x91);
    lapic_ack(&l, 0x91);
    assert_int_equal(lapic_pending(&l), -1);
    assert_true(lapic_write(&l, LAPIC_EOI, 0, 0, &e));
    assert_true(e.eoi);
    assert_int_equal(e.eoi_vector, 0x91);
    assert_int_equal(lapic_pending(&l), 0x41);
    lapic_write(&l, LAPIC_TPR, 0x40, 0, &e);
    assert_int_equal(lapic_pending(&l), -1);
    lapic_write(&l, LAPIC_TPR, 0x30, 0, &e);
    lapic_ack(&l, 0x41);
    lapic_write(&l, LAPIC_EOI, 0, 0, &e);
    assert_false(e.eoi); /* edge */
    assert_false(lapic_accept(&l, 15, false));
}

static void lapic_modes(void **state) {
    (void)state;
    struct lapic l;
    struct lapic_effect e;
    uint64_t v;
    lapic_init(&l, 5, false);
    assert_false(lapic_base_write(&l, 0xfee00000 | 1 << 10));          /* x2APIC without enable */
    assert_false(lapic_base_write(&l, 0xfed00000 | 1 << 11));          /* another address */
    assert_true(lapic_base_write(&l, 0xfee00000 | 1 << 11 | 1 << 10)); /* xAPIC -> x2APIC */
    assert_false(lapic_base_write(&l, 0xfee00000 | 1 << 11));          /* and not back */
    assert_true(lapic_read(&l, LAPIC_ID, 0, &v));
    assert_int_equal(v, 5);
    assert_true(lapic_read(&l, LAPIC_LDR, 0, &v));
    assert_int_equal(v, 1 << 5);
    assert_false(lapic_read(&l, LAPIC_DFR, 0, &v));
    assert_false(lapic_write(&l, LAPIC_EOI, 1, 0, &e));
    assert_false(lapic_write(&l, 0x05, 0, 0, &e));
    assert_true(lapic_write(&l, LAPIC_ICR, 3ull << 32 | 0x4fe, 0, &e)); /* NMI to 3 */
    assert_int_equal(e.ipi, LAPIC_IPI_DEST);
    assert_int_equal(e.msg.dest, 3);
    assert_int_equal(e.msg.delivery, APIC_NMI);
}

static void lapic_destinations(void **state) {
    (void)state;
    struct lapic l;
    struct lapic_effect e;
    lapic_init(&l, 2, false);
    lapic_write(&l, LAPIC_LDR, 0x04000000, 0, &e);
    assert_true(lapic_matches(&l, &(struct apic_msg){.dest = 2}));
    assert_false(lapic_matches(&l, &(struct apic_msg){.dest = 3}));
    assert_true(lapic_matches(&l, &(struct apic_msg){.dest = 0xff}));
    assert_true(lapic_matches(&l, &(struct apic_msg){.dest = 0x06, .logical = true}));
    assert_false(lapic_matches(&l, &(struct apic_msg){.dest = 0x0b, .logical = true}));
    lapic_write(&l, LAPIC_DFR, 0, 0, &e); /* cluster model */
    lapic_write(&l, LAPIC_LDR, 0x12000000, 0, &e);
    assert_true(lapic_matches(&l, &(struct apic_msg){.dest = 0x13, .logical = true}));
    assert_false(lapic_matches(&l, &(struct apic_msg){.dest = 0x23, .logical = true}));
}

static void lapic_timer_modes(void **state) {
    (void)state;
    struct lapic l;
    struct lapic_effect e;
    uint64_t v;
    lapic_init(&l, 0, true);
    lapic_write(&l, LAPIC_TIMER_DIV, 0xb, 0, &e);     /* by 1 */
    lapic_write(&l, LAPIC_LVT_TIMER, 0x20050, 0, &e); /* periodic, vector 0x50 */
    lapic_write(&l, LAPIC_TIMER_INIT, 1000000, 500, &e);
    assert_true(e.timer_changed);
    assert_true(lapic_deadline(&l) == 1000500);
    lapic_read(&l, LAPIC_TIMER_CUR, 250500, &v);
    assert_int_equal(v, 750000);
    lapic_tick(&l, 1000499);
    assert_int_equal(lapic_pending(&l), -1);
    lapic_tick(&l, 3000600); /* missed two periods: one interrupt, the next in phase */
    assert_int_equal(lapic_pending(&l), 0x50);
    assert_true(lapic_deadline(&l) == 4000500);
    lapic_write(&l, LAPIC_LVT_TIMER, 0x40051, 3000700, &e); /* TSC deadline */
    assert_true(lapic_deadline(&l) == DEV_NO_DEADLINE);
    lapic_tsc_deadline_write(&l, 77, 5000000);
    assert_true(lapic_deadline(&l) == 5000000);
    lapic_tick(&l, 5000000);
    assert_int_equal(lapic_pending(&l), 0x51);
    assert_true(l.tsc_deadline == 0 && lapic_deadline(&l) == DEV_NO_DEADLINE);
}

static struct apic_msg sent[8];
static unsigned sent_count;
static void on_send(void *ctx, const struct apic_msg *m) {
    (void)ctx;
    sent[sent_count++ & 7] = *m;
}

static void rte_set(struct ioapic *io, unsigned pin, uint64_t v) {
    ioapic_write(io, 0, 0x10 + 2 * pin);
    ioapic_write(io, 0x10, (uint32_t)v);
    ioapic_write(io, 0, 0x11 + 2 * pin);
    ioapic_write(io, 0x10, (uint32_t)(v >> 32));
}

static void ioapic_edge_and_level(void **state) {
    (void)state;
    struct ioapic io;
    sent_count = 0;
    ioapic_init(&io, on_send, NULL);
    ioapic_set_line(&io, 4, true); /* masked: lost */
    ioapic_set_line(&io, 4, false);
    rte_set(&io, 4, 3ull << 56 | 0x24);
    assert_int_equal(sent_count, 0);
    ioapic_set_line(&io, 4, true);
    ioapic_set_line(&io, 4, true);
    assert_int_equal(sent_count, 1);
    assert_int_equal(sent[0].vector, 0x24);
    assert_int_equal(sent[0].dest, 3);
    rte_set(&io, 9, 1ull << 15 | 0x29);
    ioapic_set_line(&io, 9, true);
    assert_int_equal(sent_count, 2);
    ioapic_set_line(&io, 9, true);
    assert_int_equal(sent_count, 2); /* in service */
    ioapic_eoi(&io, 0x29);
    assert_int_equal(sent_count, 3); /* still asserted */
    ioapic_set_line(&io, 9, false);
    ioapic_eoi(&io, 0x29);
    assert_int_equal(sent_count, 3);
    ioapic_set_line(&io, 99, true);
    ioapic_write(&io, 0, 0xff);
    ioapic_write(&io, 0x10, 1);
    assert_int_equal(ioapic_read(&io, 0x10), 0xffffffff);
}

static void state_survives_save_and_restore(void **state) {
    (void)state;
    uint8_t data[2048];
    struct record_buf b = {.data = data, .size = sizeof(data)};
    struct pic p, q;
    struct lapic l, m;
    pic_setup(&p);
    pic_set_line(&p, 3, true);
    lapic_init(&l, 1, false);
    assert_true(pic_save(&p, &b) && lapic_save(&l, &b));
    b.size = b.used;
    pic_init(&q);
    lapic_init(&m, 1, false);
    m.tpr = 9;
    assert_true(pic_restore(&q, &b) && lapic_restore(&m, 0, &b));
    assert_memory_equal(&p, &q, sizeof(p));
    assert_memory_equal(&l, &m, sizeof(l));
    assert_false(lapic_restore(&m, 1, &b)); /* there is only one */
    b.size -= 1;                            /* cut off */
    assert_false(lapic_restore(&m, 0, &b));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pic_priority_and_eoi),     cmocka_unit_test(pic_slave_cascades),
        cmocka_unit_test(pic_level_comes_again),    cmocka_unit_test(pic_mask_and_registers),
        cmocka_unit_test(lapic_orders_by_priority), cmocka_unit_test(lapic_modes),
        cmocka_unit_test(lapic_destinations),       cmocka_unit_test(lapic_timer_modes),
        cmocka_unit_test(ioapic_edge_and_level),    cmocka_unit_test(state_survives_save_and_restore),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
