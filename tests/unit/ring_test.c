// LINK: userland/lib/ring.c userland/lib/range.c userland/lib/msg.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../userland/lib/msg.h"
#include "../../userland/lib/range.h"
#include "../../userland/lib/ring.h"

static struct {
    struct ring_mem mem;
    uint8_t data[64];
} shared;
static struct ring producer, consumer;

static int setup(void **state) {
    (void)state;
    memset(&shared, 0, sizeof shared);
    ring_init(&producer, &shared.mem, 64);
    ring_init(&consumer, &shared.mem, 64);
    return 0;
}

static void ring_keeps_order_around_the_end(void **state) {
    uint8_t next_in = 0, next_out = 0;

    (void)state;
    shared.mem.head = shared.mem.tail = producer.mine = consumer.mine = UINT32_MAX - 100; /* the index wraps */
    srand(3);
    for (int round = 0; round < 5000; round++) {
        uint8_t bytes[80];
        uint32_t want = (uint32_t)rand() % 80;

        for (uint32_t i = 0; i < want; i++)
            bytes[i] = (uint8_t)(next_in + i);
        next_in = (uint8_t)(next_in + ring_put(&producer, bytes, want));
        uint32_t got = ring_get(&consumer, bytes, (uint32_t)rand() % 80);

        for (uint32_t i = 0; i < got; i++)
            assert_int_equal(bytes[i], next_out++);
        assert_int_equal(ring_space(&producer) + ring_used(&consumer), 64);
    }
}

static void ring_survives_hostile_peer(void **state) {
    uint8_t bytes[64];

    (void)state;
    shared.mem.tail = 17; /* consumer claims to have read what was never written */
    assert_int_equal(ring_put(&producer, "abc", 3), 0);
    shared.mem.head = 1000; /* producer claims more than the ring holds */
    assert_int_equal(ring_get(&consumer, bytes, 64), 0);
}

static void ring_wakes_once(void **state) {
    (void)state;
    assert_false(ring_wake_reader(&producer));
    ring_sleep_reader(&consumer);
    assert_true(ring_wake_reader(&producer));
    assert_false(ring_wake_reader(&producer));
}

static void range_alloc_returns_to_start(void **state) {
    struct range storage[64];
    struct range_pool p;
    struct {
        uint64_t start, len;
    } live[40];
    uint32_t count = 0;

    (void)state;
    range_init(&p, storage, 64);
    assert_true(range_add(&p, 100, 1000));
    assert_true(range_add(&p, 5000, 3));
    assert_true(range_reserve(&p, 500, 10));
    srand(5);
    for (int round = 0; round < 20000; round++) {
        if (count < 40 && rand() % 2) {
            uint64_t align = 1ul << rand() % 5;

            live[count].len = 1 + (uint64_t)rand() % 40;
            if (range_alloc(&p, live[count].len, align, &live[count].start)) {
                assert_int_equal(live[count].start % align, 0);
                assert_true(live[count].start + live[count].len <= 500 || live[count].start >= 510);
                for (uint32_t i = 0; i < count; i++)
                    assert_true(live[i].start + live[i].len <= live[count].start ||
                                live[count].start + live[count].len <= live[i].start);
                count++;
            }
        } else if (count) {
            uint32_t i = (uint32_t)rand() % count;

            range_free(&p, live[i].start, live[i].len);
            live[i] = live[--count];
        }
    }
    while (count--)
        range_free(&p, live[count].start, live[count].len);
    assert_int_equal(range_total(&p), 993);
    assert_int_equal(p.count, 3);
    assert_int_equal(p.live, 0);
}

static void msg_stays_inside_the_utcb(void **state) {
    static struct abi_utcb utcb;
    struct msg m;
    struct msg_in in;
    char text[8];

    (void)state;
    msg_begin(&m, &utcb);
    msg_put_word(&m, 7);
    msg_put_string(&m, "hello");
    msg_add_delegate(&m, 0x1237, 5, ITEM_G);
    assert_true(msg_end(&m));
    assert_int_equal(utcb.items, UTCB_ITEMS(3, 1));
    assert_int_equal(utcb.w[506], 0x1237);
    assert_int_equal(utcb.w[507], 5 << 12 | ITEM_G | ITEM_DELEGATE);
    msg_parse(&in, &utcb);
    assert_int_equal(msg_get_word(&in), 7);
    assert_true(msg_get_string(&in, text, sizeof text));
    assert_string_equal(text, "hello");
    assert_int_equal(msg_get_item(&in), 0x1237);
    assert_int_equal(msg_get_item(&in), 0);
    assert_int_equal(msg_get_word(&in), 0);
    assert_true(in.short_read);

    msg_begin(&m, &utcb);
    for (int i = 0; i < 300; i++)
        msg_add_delegate(&m, 1, 1, 0);
    assert_false(msg_end(&m));
    assert_int_equal(m.items, 254);
    utcb.items = UINT64_MAX;
    msg_parse(&in, &utcb);
    assert_int_equal(in.words, 508);
    assert_int_equal(in.items, 0);
    utcb.items = 1;
    utcb.w[0] = 1ul << 40; /* a length that is not there */
    msg_parse(&in, &utcb);
    assert_false(msg_get_string(&in, text, sizeof text));
}

static void msg_add_pages_splits_naturally(void **state) {
    static struct abi_utcb utcb;
    struct msg m;
    uint64_t covered = 0;

    (void)state;
    msg_begin(&m, &utcb);
    assert_int_equal(msg_add_pages(&m, 0x100003, 0x40003, 1000, 3, 0), 1000);
    for (uint32_t i = 0; i < m.items; i++) {
        uint64_t crd = utcb.w[506 - 2 * i];

        assert_int_equal(CRD_BASE(crd), 0x100003 + covered);
        assert_int_equal(CRD_BASE(crd) % (1ul << CRD_ORDER(crd)), 0);
        assert_int_equal(utcb.w[507 - 2 * i] >> 12, 0x40003 + covered);
        covered += 1ul << CRD_ORDER(crd);
    }
    assert_int_equal(covered, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(ring_keeps_order_around_the_end, setup),
        cmocka_unit_test_setup(ring_survives_hostile_peer, setup),
        cmocka_unit_test_setup(ring_wakes_once, setup),
        cmocka_unit_test(range_alloc_returns_to_start),
        cmocka_unit_test(msg_stays_inside_the_utcb),
        cmocka_unit_test(msg_add_pages_splits_naturally),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
