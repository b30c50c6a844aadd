/* Goal: the object table gives back what was set, for selectors across all of its pages, and frees every page. */
#include "kernel_fixture.h"

static void set_then_lookup(void **state) {
    (void)state;
    static struct kobj objects[64] __attribute__((aligned(8)));
    struct objtab t = OBJTAB_INIT;
    struct account a = {0};
    u64 sel[64];
    for (unsigned i = 0; i < 64; i++) {
        sel[i] = i < 8 ? i : (0x9e3779b97f4a7c15ul * i >> 20) % ABI_SEL_COUNT;
        assert_null(objtab_lookup(&t, sel[i]).obj);
        u64 *entry = objtab_reserve(&t, sel[i], &a);
        assert_ptr_equal(entry, objtab_entry(&t, sel[i]));
        objtab_set(entry, &objects[i], i % 32, NULL);
    }
    for (unsigned i = 0; i < 64; i++) {
        struct cap c = objtab_lookup(&t, sel[i] + ABI_SEL_COUNT); /* modulo SEL */
        assert_ptr_equal(c.obj, &objects[i]);
        assert_int_equal(c.perm, i % 32);
        objtab_set(objtab_entry(&t, sel[i]), NULL, 0, NULL);
        assert_null(objtab_lookup(&t, sel[i]).obj);
    }
    assert_true(a.used > 0);
    objtab_free(&t, &a);
    assert_int_equal(a.used, 0);
    assert_null(objtab_lookup(&t, 0).obj);
}

static void reserve_out_of_memory_changes_nothing(void **state) {
    (void)state;
    struct account a = {0};
    for (u64 nth = 1; nth <= 3; nth++) {
        struct objtab t = OBJTAB_INIT;
        kmem_fail_at = nth;
        assert_null(objtab_reserve(&t, 12345678, &a));
        assert_null(objtab_lookup(&t, 12345678).obj);
        assert_non_null(objtab_reserve(&t, 12345678, &a));
        objtab_free(&t, &a);
        assert_int_equal(a.used, 0);
    }
}

static void reserve_respects_limit(void **state) {
    (void)state;
    struct account a = {.limit = 2 * PAGE_SIZE};
    struct objtab t = OBJTAB_INIT;
    assert_null(objtab_reserve(&t, 5, &a));
    a.limit = 3 * PAGE_SIZE;
    assert_non_null(objtab_reserve(&t, 5, &a));
    objtab_free(&t, &a);
    assert_int_equal(a.used, 0);
}

int main(void) {
    kernel_fixture_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_then_lookup),
        cmocka_unit_test(reserve_out_of_memory_changes_nothing),
        cmocka_unit_test(reserve_respects_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
