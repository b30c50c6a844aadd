/* Kernel memory (src/core/kmem.c): blocks are aligned, zeroed, disjoint and come back whole; slabs too; accounts add up along the owners. */
#include "kernel_fixture.h"

#include "arch/mem.h"

#define POOL_BASE  (64ul << 20)
#define POOL_PAGES 1000ul
#define MAX_ORDER  10u

static struct account *const kernel = &kernel_account;
static u32 seed = 1;
static u32 random_u32(void) {
    seed = seed * 1103515245 + 12345;
    return seed >> 8;
}

static int setup(void **state) {
    (void)state;
    kmem_init();
    kmem_add(PADDR(POOL_BASE), POOL_PAGES << PAGE_SHIFT);
    return 0;
}

static u64 pfn_of(const void *p) { return arch_ptr_phys(p).v >> PAGE_SHIFT; }

/* The pool's own descriptor takes a header and a byte a page. */
static void pool_counts_what_it_can_give(void **state) {
    (void)state;
    assert_int_equal(kmem_pages_total(), POOL_PAGES - 1);
    assert_int_equal(kmem_pages_available(), POOL_PAGES - 1);
    void *pages[POOL_PAGES];
    unsigned n = 0;
    while ((pages[n] = kmem_pages_alloc(kernel, 0)))
        n++;
    assert_int_equal(n, POOL_PAGES - 1);
    assert_int_equal(kmem_pages_available(), 0);
    assert_int_equal(kernel->used, (u64)n << PAGE_SHIFT);
    while (n)
        kmem_pages_free(kernel, pages[--n], 0);
    assert_int_equal(kmem_pages_available(), POOL_PAGES - 1);
    assert_int_equal(kernel->used, 0);
}

static void pool_of_odd_size_and_place(void **state) {
    (void)state;
    kmem_init();
    kmem_add(PADDR(POOL_BASE + 1), PAGE_SIZE);         /* no whole page */
    kmem_add(PADDR(POOL_BASE), PAGE_SIZE);             /* only the descriptor */
    kmem_add(PADDR(POOL_BASE + PAGE_SIZE), PAGE_MASK); /* not even that */
    assert_int_equal(kmem_pages_total(), 0);
    assert_null(kmem_pages_alloc(kernel, 0));
    assert_int_equal(kernel->used, 0);
    kmem_add(PADDR(POOL_BASE + 1), 3 * PAGE_SIZE); /* pages 1 and 2 are whole */
    assert_int_equal(kmem_pages_total(), 1);
    void *p = kmem_pages_alloc(kernel, 0);
    assert_int_equal(pfn_of(p), (POOL_BASE >> PAGE_SHIFT) + 2);
    assert_null(kmem_pages_alloc(kernel, 0));
    kmem_add(PADDR(POOL_BASE + 16 * PAGE_SIZE), 3 * PAGE_SIZE + 5); /* a second pool: two pages more */
    assert_int_equal(kmem_pages_total(), 3);
    assert_int_equal(kmem_pages_available(), 2);
    void *q = kmem_pages_alloc(kernel, 0), *r = kmem_pages_alloc(kernel, 0);
    assert_int_equal(pfn_of(q) + pfn_of(r), 2 * (POOL_BASE >> PAGE_SHIFT) + 17 + 18);
    assert_null(kmem_pages_alloc(kernel, 0));
    kmem_pages_free(kernel, q, 0);
    kmem_pages_free(kernel, p, 0);
    assert_int_equal(kmem_pages_available(), 2);
    kmem_pages_free(kernel, r, 0);
}

/* Random blocks against a map of who has which page. */
static void blocks_are_aligned_zeroed_and_disjoint(void **state) {
    (void)state;
    enum { N = 60 };
    struct {
        u8 *p;
        unsigned order;
    } b[N] = {0};
    static u8 owner[POOL_PAGES];
    u64 out = 0, first = POOL_BASE >> PAGE_SHIFT;
    memset(owner, 0, sizeof(owner));
    for (unsigned round = 0; round < 20000; round++) {
        unsigned i = random_u32() % N;
        if (b[i].p) {
            u64 at = pfn_of(b[i].p) - first;
            for (u64 k = 0; k < 1ul << b[i].order; k++) {
                assert_int_equal(owner[at + k], i + 1);
                assert_int_equal(b[i].p[(k << PAGE_SHIFT) + 8 * i], i + 1); /* nobody else wrote there */
                owner[at + k] = 0;
            }
            kmem_pages_free(kernel, b[i].p, b[i].order);
            out -= 1ul << b[i].order;
            b[i].p = NULL;
        } else {
            b[i].order = random_u32() % 8;
            b[i].p = kmem_pages_alloc(kernel, b[i].order);
            if (b[i].p) {
                u64 at = pfn_of(b[i].p);
                assert_int_equal(at & ((1ul << b[i].order) - 1), 0);
                assert_in_range(at, first + 1, first + POOL_PAGES - (1ul << b[i].order));
                for (u64 k = 0; k < 1ul << b[i].order; k++) {
                    assert_int_equal(owner[at - first + k], 0);
                    owner[at - first + k] = (u8)(i + 1);
                    for (u64 w = 0; w < PAGE_SIZE / 8; w += 13)
                        assert_int_equal(((u64 *)(b[i].p + (k << PAGE_SHIFT)))[w], 0);
                    memset(b[i].p + (k << PAGE_SHIFT), (int)i + 1, PAGE_SIZE);
                }
                out += 1ul << b[i].order;
            }
        }
        assert_int_equal(kmem_pages_available(), POOL_PAGES - 1 - out);
        assert_int_equal(kernel->used, out << PAGE_SHIFT);
    }
    for (unsigned i = 0; i < N; i++)
        if (b[i].p)
            kmem_pages_free(kernel, b[i].p, b[i].order);
    for (unsigned order = 0; order <= 8; order++) { /* buddies have found each other again */
        void *p = kmem_pages_alloc(kernel, order);
        assert_non_null(p);
        kmem_pages_free(kernel, p, order);
    }
}

static void block_of_the_largest_order(void **state) {
    (void)state;
    kmem_init();
    kmem_add(PADDR(POOL_BASE), 4ul << (MAX_ORDER + PAGE_SHIFT));
    void *p[4];
    unsigned n = 0;
    while ((p[n] = kmem_pages_alloc(kernel, MAX_ORDER)))
        n++;
    assert_int_equal(n, 3); /* the first one has lost a page to the descriptor */
    assert_null(kmem_pages_alloc(kernel, MAX_ORDER + 1));
    assert_int_equal(kernel->used, 3ul << (MAX_ORDER + PAGE_SHIFT));
    kmem_pages_free(kernel, p[1], MAX_ORDER);
    u8 *one = kmem_pages_alloc(kernel, MAX_ORDER);
    assert_ptr_equal(one, p[1]);
    kmem_pages_free(kernel, one, MAX_ORDER);
    kmem_pages_free(kernel, p[0], MAX_ORDER);
    kmem_pages_free(kernel, p[2], MAX_ORDER);
    assert_int_equal(kmem_pages_available(), kmem_pages_total());
}

static void account_limits_count_along_the_owners(void **state) {
    (void)state;
    struct account top = {.limit = 3 * PAGE_SIZE}, mid = {.parent = &top},
                   low = {.parent = &mid, .limit = 2 * PAGE_SIZE};
    void *a = kmem_pages_alloc(&low, 0), *b = kmem_pages_alloc(&low, 0);
    assert_true(a && b);
    assert_null(kmem_pages_alloc(&low, 0)); /* its own limit */
    assert_int_equal(low.used, 2 * PAGE_SIZE);
    assert_int_equal(mid.used, 2 * PAGE_SIZE);
    assert_int_equal(top.used, 2 * PAGE_SIZE);
    assert_null(kmem_pages_alloc(&mid, 1)); /* its owner's owner's */
    assert_int_equal(mid.used, 2 * PAGE_SIZE);
    assert_int_equal(top.used, 2 * PAGE_SIZE);
    void *c = kmem_pages_alloc(&mid, 0); /* exactly the limit */
    assert_non_null(c);
    assert_false(account_charge(&low, 1));
    assert_false(account_charge(&top, 1));
    account_force(&low, 5);
    assert_int_equal(low.used, 2 * PAGE_SIZE + 5);
    assert_int_equal(top.used, 3 * PAGE_SIZE + 5);
    account_refund(&low, 5);
    kmem_pages_free(&low, a, 0);
    assert_int_equal(low.used, PAGE_SIZE);
    assert_int_equal(top.used, 2 * PAGE_SIZE);
    kmem_pages_free(&low, b, 0);
    kmem_pages_free(&mid, c, 0);
    assert_int_equal(top.used | mid.used | low.used, 0);
}

static void allocation_that_fails_is_not_charged(void **state) {
    (void)state;
    struct account a = {0};
    static struct slab_cache cache = {.name = "t", .size = 100, .align = 8};
    kmem_fail_at = 2;
    void *p = kmem_pages_alloc(&a, 0);
    assert_non_null(p);
    assert_null(kmem_pages_alloc(&a, 0)); /* the second one */
    assert_int_equal(kmem_fail_at, 0);
    assert_int_equal(a.used, PAGE_SIZE);
    kmem_fail_at = 1;
    assert_null(slab_alloc(&cache, &a));
    assert_int_equal(a.used, PAGE_SIZE);
    kmem_pages_free(&a, p, 0);
    while (kmem_pages_alloc(kernel, 0))
        ;
    assert_null(slab_alloc(&cache, &a));
    assert_null(kmem_pages_alloc(&a, 0));
    assert_int_equal(a.used, 0);
    a.limit = 99;
    assert_null(slab_alloc(&cache, &a));
    assert_int_equal(a.used, 0);
}

/* Objects of several sizes: aligned, zeroed, disjoint, inside a slab; and the slabs go back. */
static void slab_objects_are_aligned_zeroed_and_disjoint(void **state) {
    (void)state;
    static struct slab_cache caches[] = {{.name = "8", .size = 8, .align = 8},
                                         {.name = "41", .size = 41, .align = 8},
                                         {.name = "40", .size = 40, .align = 32},
                                         {.name = "600", .size = 600, .align = 64},
                                         {.name = "3000", .size = 3000, .align = 64}};
    enum { N = 700 };
    static u8 *object[N];
    for (unsigned k = 0; k < ARRAY_SIZE(caches); k++) {
        struct slab_cache *c = &caches[k];
        struct account a = {0};
        u64 size = c->size, step = (c->size + c->align - 1) & ~(u64)(c->align - 1);
        memset(object, 0, sizeof(object));
        u64 live = 0, before = kmem_pages_available();
        for (unsigned round = 0; round < 12000; round++) {
            unsigned i = random_u32() % N;
            if (round > 9000 && !object[i])
                continue; /* only frees at the end */
            if (object[i]) {
                for (u64 n = 0; n < size; n++)
                    assert_int_equal(object[i][n], (u8)(i + 1));
                slab_free(c, &a, object[i]);
                object[i] = NULL;
                live--;
            } else if ((object[i] = slab_alloc(c, &a))) {
                assert_int_equal((u64)object[i] & (c->align - 1), 0);
                for (u64 n = 0; n < size; n++)
                    assert_int_equal(object[i][n], 0);
                memset(object[i], (int)(u8)(i + 1), size);
                live++;
            }
            assert_int_equal(a.used, live * step);
            assert_int_equal(c->size, step);
        }
        u64 slab = 1ul << c->order;
        assert_true(c->per_slab >= 4 || c->order == 3);
        assert_true(c->per_slab * step + 32 <= slab << PAGE_SHIFT);
        assert_true((c->per_slab + 1) * step + 28 > slab << PAGE_SHIFT); /* no room wasted */
        assert_true(before - kmem_pages_available() >= (live + c->per_slab - 1) / c->per_slab * slab);
        for (unsigned i = 0; i < N; i++)
            if (object[i])
                slab_free(c, &a, object[i]);
        assert_int_equal(a.used, 0);
        assert_int_equal(before, kmem_pages_available()); /* one empty slab is kept, and counts as free */
        assert_int_equal(c->empty, 1);
        void *again = slab_alloc(c, &a);
        assert_int_equal(before - kmem_pages_available(), slab);
        assert_int_equal(c->empty, 0);
        slab_free(c, NULL, again); /* refunded before */
        assert_int_equal(a.used, step);
    }
}

static void slab_fills_partial_slabs_first(void **state) {
    (void)state;
    static struct slab_cache c = {.name = "p", .size = 512, .align = 64};
    struct account a = {0};
    void *o[20];
    o[0] = slab_alloc(&c, &a);
    unsigned per = c.per_slab;
    for (unsigned i = 1; i < 2 * per; i++)
        o[i] = slab_alloc(&c, &a);
    u64 pages = kmem_pages_available();
    slab_free(&c, &a, o[1]);
    slab_free(&c, &a, o[per + 1]);
    void *x = slab_alloc(&c, &a), *y = slab_alloc(&c, &a);
    assert_true((x == o[1] && y == o[per + 1]) || (y == o[1] && x == o[per + 1]));
    assert_int_equal(kmem_pages_available(), pages);
}

/* Pages leave the pool for good and come back, all or nothing. */
static void pages_given_away_and_taken_back(void **state) {
    (void)state;
    u64 total = kmem_pages_total();
    u8 *p = kmem_pages_alloc(kernel, 2), *other = kmem_pages_alloc(kernel, 0);
    paddr_t at = arch_ptr_phys(p);
    kmem_forget(p, 2);
    assert_int_equal(kernel->used, PAGE_SIZE);
    assert_int_equal(kmem_pages_total(), total - 4);
    assert_int_equal(kmem_pages_available(), total - 5);
    assert_true(kmem_fits(at.v >> PAGE_SHIFT, 4)); /* its pool knows them */
    memset(p, 0x55, 4 * PAGE_SIZE);
    for (unsigned order = 0; order <= 8; order++) { /* and nobody gets them meanwhile */
        u8 *q = kmem_pages_alloc(kernel, order);
        assert_true(!q || q + (PAGE_SIZE << order) <= p || q >= p + 4 * PAGE_SIZE);
        if (q)
            kmem_pages_free(kernel, q, order);
    }
    assert_false(kmem_add(PADDR(at.v), 5 * PAGE_SIZE)); /* one more than was given */
    assert_false(kmem_add(PADDR(at.v - PAGE_SIZE), 2 * PAGE_SIZE));
    assert_false(kmem_add(arch_ptr_phys(other), PAGE_SIZE)); /* in use */
    assert_int_equal(kmem_pages_total(), total - 4);
    assert_true(kmem_add(PADDR(at.v + PAGE_SIZE), PAGE_SIZE)); /* a part */
    assert_int_equal(kmem_pages_total(), total - 3);
    assert_false(kmem_add(PADDR(at.v), 4 * PAGE_SIZE));
    assert_true(kmem_add(PADDR(at.v), PAGE_SIZE));
    assert_true(kmem_add(PADDR(at.v + 2 * PAGE_SIZE), 2 * PAGE_SIZE));
    assert_int_equal(kmem_pages_total(), total);
    assert_int_equal(kmem_pages_available(), total - 1);
    kmem_pages_free(kernel, other, 0);
    void *whole = kmem_pages_alloc(kernel, 8); /* they are with their buddies again */
    void *second = kmem_pages_alloc(kernel, 8);
    assert_true(whole && second);
    kmem_pages_free(kernel, whole, 8);
    kmem_pages_free(kernel, second, 8);
}

/* A new range is of use from the second page on: the first one is for its description. */
static void ranges_that_fit(void **state) {
    (void)state;
    u64 far = (POOL_BASE >> PAGE_SHIFT) + 0x4000;
    assert_false(kmem_fits(far, 1));
    assert_true(kmem_fits(far, 2));
    assert_true(kmem_fits(far, 4000));
    assert_true(kmem_fits((POOL_BASE >> PAGE_SHIFT) + 5, 1)); /* known */
    u64 total = kmem_pages_total();
    assert_true(kmem_add(PADDR(far << PAGE_SHIFT), 8 * PAGE_SIZE));
    assert_int_equal(kmem_pages_total(), total + 7);
    assert_false(kmem_add(PADDR((far + 20) << PAGE_SHIFT), PAGE_SIZE));
    assert_false(kmem_add(PADDR((far + 4) << PAGE_SHIFT), 4 * PAGE_SIZE)); /* is there already */
    assert_int_equal(kmem_pages_total(), total + 7);
    /* the description of 4,073 pages just fits a page (three words and a byte for each), that of 4,074 does not */
    u64 head = 24;
    assert_true(kmem_add(PADDR((far + 0x2000) << PAGE_SHIFT), (PAGE_SIZE - head) << PAGE_SHIFT));
    assert_int_equal(kmem_pages_total(), total + 7 + (PAGE_SIZE - head) - 1);
    assert_true(kmem_add(PADDR((far + 0x4000) << PAGE_SHIFT), (PAGE_SIZE - head + 1) << PAGE_SHIFT));
    assert_int_equal(kmem_pages_total(), total + 7 + 2 * (PAGE_SIZE - head) - 1 + 1 - 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(pool_counts_what_it_can_give, setup),
        cmocka_unit_test_setup(pool_of_odd_size_and_place, setup),
        cmocka_unit_test_setup(blocks_are_aligned_zeroed_and_disjoint, setup),
        cmocka_unit_test_setup(block_of_the_largest_order, setup),
        cmocka_unit_test_setup(pages_given_away_and_taken_back, setup),
        cmocka_unit_test_setup(ranges_that_fit, setup),
        cmocka_unit_test_setup(account_limits_count_along_the_owners, setup),
        cmocka_unit_test_setup(allocation_that_fails_is_not_charged, setup),
        cmocka_unit_test_setup(slab_objects_are_aligned_zeroed_and_disjoint, setup),
        cmocka_unit_test_setup(slab_fills_partial_slabs_first, setup),
    };
    return cmocka_run_group_tests_name("kmem", tests, NULL, NULL);
}
