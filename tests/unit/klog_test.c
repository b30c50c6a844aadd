// LINK: src/core/klog.c
/* The kernel log (src/core/klog.c): what a format gives, on the console and in the ring; positions for a reader who comes late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "arch/types.h"
#include "core/klog.h"
#include <mach/spin.h>

static char console[1 << 17];
static size_t console_size;
static int locked;

void arch_putc(char c);
void arch_putc(char c) {
    assert_int_equal(locked, 1);
    console[console_size++] = c;
}
u64 sim_now;
i64 sim_fuel = INT64_MAX;
void sim_point_slow(void);
void sim_point_slow(void) {}
void spin_lock(struct spinlock *l) {
    (void)l;
    assert_int_equal(locked++, 0);
}
void spin_unlock(struct spinlock *l) {
    (void)l;
    assert_int_equal(locked--, 1);
}

static u64 pos;

static void expect(const char *text) {
    char got[512] = {0};
    console[console_size] = 0;
    u32 n = klog_read(&pos, got, sizeof(got));
    assert_int_equal(locked, 0);
    assert_string_equal(got, text);
    assert_int_equal(n, strlen(text));
}

static void klog_formats(void **state) {
    (void)state;
    console_size = 0;
    klog("%d %d %d %d\n", 0, -1, 2147483647, (int)-2147483648);
    expect("0 -1 2147483647 -2147483648\n");
    klog("%ld %ld", 9223372036854775807l, -9223372036854775807l - 1);
    expect("9223372036854775807 -9223372036854775808");
    klog("%u %lu %x %lx %p", 4294967295u, ~0ul, 0xdeadbeefu, 0x123456789abcdef0ul, (void *)0xf00);
    expect("4294967295 18446744073709551615 deadbeef 123456789abcdef0 f00");
    klog("%s|%c|%%|%s", "abc", 'z', "");
    expect("abc|z|%|");
    klog("%x %u", 0u, 10u);
    expect("0 10");
}

static void klog_console_gets_carriage_returns(void **state) {
    (void)state;
    console_size = 0;
    klog("a\nb%s", "\n");
    assert_int_equal(console_size, 6);
    assert_memory_equal(console, "a\r\nb\r\n", 6);
    expect("a\nb\n");
}

static void klog_read_in_pieces(void **state) {
    (void)state;
    char piece[4];
    klog("0123456789");
    assert_int_equal(klog_read(&pos, piece, 4), 4);
    assert_memory_equal(piece, "0123", 4);
    assert_int_equal(klog_read(&pos, piece, 4), 4);
    assert_int_equal(klog_read(&pos, piece, 4), 2);
    assert_memory_equal(piece, "89", 2);
    assert_int_equal(klog_read(&pos, piece, 4), 0);
    u64 future = pos + 100;
    assert_int_equal(klog_read(&future, piece, 4), 0);
    assert_int_equal(future, pos + 100);
}

/* The ring holds the last 32 KiB; who asks for older text gets the oldest there is. */
static void klog_ring_keeps_the_newest(void **state) {
    (void)state;
    enum { SIZE = 40000 };
    static char text[SIZE + 1], got[SIZE];
    console_size = 0;
    for (unsigned i = 0; i < 4000; i++) {
        snprintf(text + 10 * i, 11, "%09u\n", i);
        klog("%s", text + 10 * i);
    }
    u64 old = 0;
    u32 n = klog_read(&old, got, sizeof(got));
    assert_int_equal(n, 32768);
    assert_memory_equal(got, text + SIZE - 32768, 32768);
    assert_int_equal(old, pos + SIZE);
    old -= 32768; /* exactly the oldest */
    assert_int_equal(klog_read(&old, got, 10), 10);
    assert_memory_equal(got, text + SIZE - 32768, 10);
    old = pos + SIZE - 32769;
    assert_int_equal(klog_read(&old, got, 10), 10);
    assert_memory_equal(got, text + SIZE - 32768, 10);
    pos = old;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(klog_formats),
        cmocka_unit_test(klog_console_gets_carriage_returns),
        cmocka_unit_test(klog_read_in_pieces),
        cmocka_unit_test(klog_ring_keeps_the_newest),
    };
    return cmocka_run_group_tests_name("klog", tests, NULL, NULL);
}
