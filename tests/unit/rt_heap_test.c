// LINK: userland/lib/heap.c userland/console/screen.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../userland/console/screen.h"
#include "../../userland/lib/heap.h"

static uint8_t arena[1 << 20] __attribute__((aligned(16)));
static size_t arena_used;

static bool grow(struct heap *h, size_t bytes) {
    size_t size = bytes < 65536 ? 65536 : bytes;

    if (size > sizeof arena - arena_used)
        return false;
    heap_add(h, arena + arena_used, size);
    arena_used += size;
    return true;
}

static void heap_random_blocks_do_not_overlap(void **state) {
    struct heap h;
    struct {
        uint8_t *p;
        size_t size;
        uint8_t mark;
    } live[200];
    uint32_t count = 0;

    (void)state;
    arena_used = 0;
    heap_init(&h, grow);
    srand(11);
    for (int round = 0; round < 100000; round++) {
        if (count < 200 && rand() % 2) {
            size_t size = rand() % 8 ? (size_t)rand() % 300 : (size_t)rand() % 9000;
            uint8_t *p = heap_alloc(&h, size);

            if (!p)
                continue;
            assert_int_equal((uintptr_t)p % 16, 0);
            assert_true(heap_block_size(p) >= size);
            live[count].p = p;
            live[count].size = size;
            live[count].mark = (uint8_t)rand();
            memset(p, live[count].mark, size);
            count++;
        } else if (count) {
            uint32_t i = (uint32_t)rand() % count;

            for (size_t j = 0; j < live[i].size; j++)
                assert_int_equal(live[i].p[j], live[i].mark);
            heap_free(&h, live[i].p);
            live[i] = live[--count];
        }
    }
    while (count--)
        heap_free(&h, live[count].p);
    assert_int_equal(h.used, 0);
}

static void heap_exhausted_gives_null(void **state) {
    struct heap h;
    int blocks = 0;

    (void)state;
    arena_used = 0;
    heap_init(&h, grow);
    assert_null(heap_alloc(&h, SIZE_MAX));
    assert_null(heap_alloc(&h, SIZE_MAX - 20));
    void *small = heap_alloc(&h, 10);

    assert_non_null(small);
    while (heap_alloc(&h, 100000))
        blocks++;
    assert_true(blocks >= 8);
    heap_free(&h, small);
    assert_non_null(heap_alloc(&h, 10));
}

static void heap_large_blocks_merge(void **state) {
    struct heap h;
    void *p[9];

    (void)state;
    heap_init(&h, NULL);
    heap_add(&h, arena, 100000);
    for (int i = 0; i < 9; i++)
        assert_non_null(p[i] = heap_alloc(&h, 10000));
    assert_null(heap_alloc(&h, 90000));
    for (int i = 0; i < 9; i++)
        heap_free(&h, p[(i * 4) % 9]);
    assert_non_null(heap_alloc(&h, 90000));
}

static struct screens screens;

static size_t screen_collect(char *text, size_t size) {
    const uint8_t *bytes;
    size_t len, at = 0;

    while ((len = screen_next(&screens, &bytes)) && at + len < size) {
        memcpy(text + at, bytes, len);
        at += len;
        screen_sent(&screens, len);
    }
    text[at] = 0;
    return at;
}

static void screen_switch_replays(void **state) {
    static char text[300000];

    (void)state;
    memset(&screens, 0, sizeof screens);
    strcpy(screens.screen[0].label, "linux");
    strcpy(screens.screen[1].label, "linux");
    screen_put(&screens, 0, (const uint8_t *)"zero\r\n", 6);
    screen_put(&screens, 1, (const uint8_t *)"one\r\n", 5);
    assert_int_equal(screen_collect(text, sizeof text), 6);
    screen_switch(&screens, 1, "");
    (void)screen_collect(text, sizeof text);
    assert_string_equal(text, "\r\n[console 1: linux]\r\none\r\n");
    screen_switch(&screens, 1, "");
    (void)screen_collect(text, sizeof text);
    assert_string_equal(text, "\r\n[console 1: linux]\r\none\r\n");
    for (int i = 0; i < 100; i++)
        screen_put(&screens, 0, (const uint8_t *)"zero\r\n", 6);
    screen_switch(&screens, 0, "");
    assert_int_equal(screen_collect(text, sizeof text), 22 + 600); /* all of it, for it was never shown */
    screen_switch(&screens, 0, "");
    assert_int_equal(screen_collect(text, sizeof text), 22 + SCREEN_REPLAY * 6);
}

static void screen_back_drops_oldest(void **state) {
    static uint8_t bytes[SCREEN_HISTORY];
    static char text[300000];

    (void)state;
    memset(&screens, 0, sizeof screens);
    memset(bytes, 'a', sizeof bytes);
    screen_put(&screens, 3, (const uint8_t *)"lost", 4);
    screen_put(&screens, 3, bytes, sizeof bytes);
    assert_int_equal(screen_space(&screens, 3), SCREEN_HISTORY);
    screen_switch(&screens, 3, "");
    assert_int_equal(screen_space(&screens, 3), 0);
    (void)screen_collect(text, sizeof text);
    assert_null(strstr(text, "lost"));
    assert_int_equal(screen_space(&screens, 3), SCREEN_HISTORY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_random_blocks_do_not_overlap), cmocka_unit_test(heap_exhausted_gives_null),
        cmocka_unit_test(heap_large_blocks_merge),           cmocka_unit_test(screen_switch_replays),
        cmocka_unit_test(screen_back_drops_oldest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
