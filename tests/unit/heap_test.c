// LINK: src/core/heap.c
/* Goal: the deadline heap (core/heap.h) gives deadlines in order and forgets cancelled ones, whatever the order of operations.
 * Method: random arm and cancel against an array that is searched linearly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/heap.h"

_Noreturn void arch_panic(const char *what, const char *file, int line);
_Noreturn void arch_panic(const char *what, const char *file, int line) {
    fail_msg("assert %s at %s:%d", what, file, line);
    abort();
}

static u64 lowest(const struct timeout *t, unsigned n) {
    u64 best = ~0ul;
    for (unsigned i = 0; i < n; i++)
        if (t[i].armed && t[i].deadline < best)
            best = t[i].deadline;
    return best;
}

static void heap_first_is_lowest(void **state) {
    (void)state;
    static struct timeout t[200];
    struct timeout_heap h = {0};
    srand(1);
    for (unsigned round = 0; round < 100000; round++) {
        struct timeout *x = &t[(unsigned)rand() % 200];
        if (x->armed)
            timeout_cancel(&h, x);
        else
            timeout_arm(&h, x, (u64)(rand() % 50));
        assert_int_equal(timeout_first(&h), lowest(t, 200));
    }
}

static void heap_drains_in_order(void **state) {
    (void)state;
    static struct timeout t[1000];
    struct timeout_heap h = {0};
    srand(2);
    for (unsigned i = 0; i < 1000; i++)
        timeout_arm(&h, &t[i], (u64)rand());
    u64 last = 0;
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(timeout_first(&h) >= last);
        last = timeout_first(&h);
        timeout_cancel(&h, h.top);
    }
    assert_null(h.top);
    assert_true(timeout_first(&h) == ~0ul);
}

static void heap_cancel_unarmed_is_noop(void **state) {
    (void)state;
    struct timeout_heap h = {0};
    struct timeout t = {0};
    timeout_cancel(&h, &t);
    assert_null(h.top);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_first_is_lowest),
        cmocka_unit_test(heap_drains_in_order),
        cmocka_unit_test(heap_cancel_unarmed_is_noop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
