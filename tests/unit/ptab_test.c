/* Goal: page tables of all four kinds say what was mapped, also after splits and reductions, and every single store leaves a table
 * in which each page has its old or its new translation (kernel-design.md 2.8; other CPUs walk while we write).
 * Method: ptab.c is compiled into the test with a store that checks all pages against the model after each write. */
#include "kernel_fixture.h"

#include "arch/assert.h"
#include "arch/atomic.h"
#include "arch/mem.h"

static void store_checked(u64 *entry, u64 value);
#undef atomic_store_rel
#define atomic_store_rel(p, v) store_checked((u64 *)(p), (u64)(v))
#include "arch/ptab.c"

#define BASE  (5ul << 27 | 3ul << 18) /* of the window that is tested */
#define PAGES 4096u                   /* 8 tables of the lowest level */

struct leaf {
    u64 pfn;
    unsigned perm; /* 0: not mapped */
};
static struct leaf now[PAGES], then[PAGES]; /* before and after the operation in progress */
static struct ptab table;
static bool checking;
static unsigned stores;

static struct leaf leaf_read(u64 page) {
    struct leaf l = {0};
    if (!ptab_lookup(&table, BASE + page, &l.pfn, &l.perm))
        l = (struct leaf){0};
    return l;
}

static bool leaf_equal(struct leaf a, struct leaf b) { return a.perm == b.perm && (!a.perm || a.pfn == b.pfn); }

static void store_checked(u64 *entry, u64 value) {
    __atomic_store_n(entry, value, __ATOMIC_RELEASE);
    stores++;
    if (!checking)
        return;
    for (u64 i = 0; i < PAGES; i++) {
        struct leaf l = leaf_read(i);
        if (!leaf_equal(l, now[i]) && !leaf_equal(l, then[i]))
            fail_msg("page %lx: pfn %lx perm %x is neither old nor new", i, l.pfn, l.perm);
    }
}

static void table_check(void) {
    for (u64 i = 0; i < PAGES; i++)
        if (!leaf_equal(leaf_read(i), then[i]))
            fail_msg("page %lx: pfn %lx perm %x", i, leaf_read(i).pfn, leaf_read(i).perm);
    memcpy(now, then, sizeof(now));
}

static unsigned kind_perm(unsigned perm) {
    if (!(perm & PERM_MEM_R))
        return 0;
    return table.kind == PTAB_DMA ? perm & ~(unsigned)PERM_MEM_X : perm;
}

static void map(u64 page, unsigned order, u64 pfn, unsigned perm) {
    assert_int_equal(ptab_reserve(&table, BASE + page, order), NOVA_SUCCESS);
    for (u64 i = 0; i < 1ul << order; i++)
        then[page + i] = (struct leaf){pfn + i, kind_perm(perm)};
    ptab_map(&table, BASE + page, pfn, order, perm);
    table_check();
}

static void reduce(u64 page, unsigned order, unsigned keep) {
    struct page_list freed = {0};
    assert_int_equal(ptab_reserve(&table, BASE + page, order), NOVA_SUCCESS);
    bool change = false;
    for (u64 i = page; i < page + (1ul << order); i++) {
        then[i].perm = keep & PERM_MEM_R ? then[i].perm & keep : 0;
        change |= then[i].perm != now[i].perm;
    }
    bool changed = ptab_unmap(&table, BASE + page, order, keep, &freed);
    assert_true(changed || !change);
    table_check();
    ptab_pages_free(&freed, table.account);
    table_check(); /* what was freed is not in use */
}

static bool range_is_free(u64 page, unsigned order) {
    for (u64 i = page; i < page + (1ul << order); i++)
        if (now[i].perm)
            return false;
    return true;
}

static void random_run(enum ptab_kind kind, unsigned rounds) {
    struct account a = {0};
    table = (struct ptab){.kind = kind, .account = &a};
    memset(now, 0, sizeof(now));
    memset(then, 0, sizeof(then));
    srand((unsigned)kind + 1);
    checking = true;
    for (unsigned i = 0; i < rounds; i++) {
        static const unsigned orders[] = {0, 1, 3, 8, 9, 9, 10, 11};
        unsigned order = orders[(unsigned)rand() % 8];
        u64 page = ((u64)rand() % PAGES) & ~((1ul << order) - 1), pfn = ((u64)rand() & 0xfffff) << order;
        if (rand() % 2 && range_is_free(page, order))
            map(page, order, pfn, (unsigned)rand() % 8);
        else
            reduce(page, order, rand() % 3 ? (unsigned)rand() % 8 : 0);
    }
    checking = false;
    ptab_free(&table);
    assert_int_equal(a.used, 0);
}

static void host_random_each_store_is_valid(void **state) {
    (void)state;
    random_run(PTAB_HOST, 80);
}
static void npt_random_each_store_is_valid(void **state) {
    (void)state;
    random_run(PTAB_NPT, 40);
}
static void ept_random_each_store_is_valid(void **state) {
    (void)state;
    random_run(PTAB_EPT, 40);
}
static void dma_random_each_store_is_valid(void **state) {
    (void)state;
    random_run(PTAB_DMA, 40);
}

static void map_uses_large_pages_where_they_fit(void **state) {
    (void)state;
    struct account a = {0};
    struct page_list freed = {0};
    table = (struct ptab){.kind = PTAB_NPT, .account = &a};
    unsigned saved = ptab_max_leaf_order, perm;
    u64 pfn;
    for (ptab_max_leaf_order = 9; ptab_max_leaf_order <= 18; ptab_max_leaf_order += 9) {
        assert_int_equal(ptab_reserve(&table, 0, 20), NOVA_SUCCESS);
        stores = 0;
        ptab_map(&table, 0, 0, 20, PERM_MEM_ALL);
        assert_int_equal(stores, 1u << (20 - ptab_max_leaf_order));
        assert_true(ptab_lookup(&table, 0x54321, &pfn, &perm) && pfn == 0x54321 && perm == PERM_MEM_ALL);
        assert_int_equal(ptab_reserve(&table, 0x54321, 0), NOVA_SUCCESS); /* splits down to 4 KiB */
        assert_true(ptab_unmap(&table, 0x54321, 0, PERM_MEM_R, &freed));
        assert_true(ptab_lookup(&table, 0x54321, &pfn, &perm) && pfn == 0x54321 && perm == PERM_MEM_R);
        assert_true(ptab_lookup(&table, 0x54322, &pfn, &perm) && pfn == 0x54322 && perm == PERM_MEM_ALL);
        assert_true(ptab_lookup(&table, 0xfffff, &pfn, &perm) && pfn == 0xfffff);
        assert_true(ptab_unmap(&table, 0, 36, 0, &freed));
        assert_false(ptab_lookup(&table, 0x54321, &pfn, &perm));
        ptab_pages_free(&freed, &a);
        assert_int_equal(a.used, PAGE_SIZE); /* the root */
        assert_false(ptab_unmap(&table, 0, 36, 0, &freed));
    }
    ptab_max_leaf_order = saved;
    ptab_free(&table);
    assert_int_equal(a.used, 0);
}

/* Every allocation of a reserve that has to make and split tables fails once; nothing changes, and a later try succeeds. */
static void reserve_fails_at_each_allocation(void **state) {
    (void)state;
    struct account a = {0};
    for (u64 nth = 1;; nth++) {
        table = (struct ptab){.kind = PTAB_HOST, .account = &a};
        kmem_fail_at = nth;
        enum abi_status first = ptab_reserve(&table, 0x12345000, 9);
        bool failed = first != NOVA_SUCCESS;
        if (failed)
            assert_int_equal(ptab_reserve(&table, 0x12345000, 9), NOVA_SUCCESS);
        ptab_map(&table, 0x12345000, 0x800, 9, PERM_MEM_R);
        enum abi_status second = ptab_reserve(&table, 0x12345007, 0);
        u64 pfn;
        unsigned perm;
        assert_true(ptab_lookup(&table, 0x12345007, &pfn, &perm) && pfn == 0x807 && perm == PERM_MEM_R);
        kmem_fail_at = 0;
        ptab_free(&table);
        assert_int_equal(a.used, 0);
        if (!failed && second == NOVA_SUCCESS) {
            assert_true(nth > 4);
            return;
        }
    }
}

static void host_free_leaves_kernel_half(void **state) {
    (void)state;
    struct account a = {0};
    table = (struct ptab){.kind = PTAB_HOST, .account = &a};
    assert_int_equal(ptab_reserve(&table, 0x7fffffffd, 0), NOVA_SUCCESS);
    void *shared = kmem_pages_alloc(&kernel_account, 0);
    assert_non_null(shared);
    ((u64 *)arch_phys_ptr(table.root))[300] = arch_ptr_phys(shared).v | 3;
    u64 used = kernel_account.used;
    ptab_free(&table);
    assert_int_equal(a.used, 0);
    assert_int_equal(kernel_account.used, used);
    kmem_pages_free(&kernel_account, shared, 0);
}

int main(void) {
    kernel_fixture_setup();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(host_random_each_store_is_valid),     cmocka_unit_test(npt_random_each_store_is_valid),
        cmocka_unit_test(ept_random_each_store_is_valid),      cmocka_unit_test(dma_random_each_store_is_valid),
        cmocka_unit_test(map_uses_large_pages_where_they_fit), cmocka_unit_test(reserve_fails_at_each_allocation),
        cmocka_unit_test(host_free_leaves_kernel_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
