/* Goal: delegate, revoke, lookup and translate do what kernel-abi.md sections 2 and 8 say, whatever the derivation trees look like.
 * Method: random operations on 3 PDs with 64 selectors each against a model that keeps one capability per selector and searches
 * linearly; after each one all selectors, tables and invariants are compared. Plus the named cases that the model cannot express. */
#include "kernel_fixture.h"

#include "core/sm.h"
#include "sim/internal.h"

#define PDS  3u
#define SELS 64u

struct model_cap {
    unsigned perm; /* 0: none */
    u64 source;
    struct model_cap *parent;
    bool guest;
};
static struct model_cap model[PDS][SELS];
static struct pd *pds[PDS];
static unsigned type;

static u64 crd_of(u64 base, unsigned order, unsigned perm) { return CRD_MAKE(type, base, order, perm); }

static struct pd *pd_make(void) {
    struct pd *pd = pd_create(&kernel_pd);
    assert_non_null(pd);
    pd->obj.caps = 1; /* with the creator's reference */
    return pd;
}

static void pd_drop(struct pd *pd) {
    kobj_cap_gone(&pd->obj, --pd->obj.caps);
    kernel_fixture_quiesce();
}

/* --- model --- */

static void model_delegate(unsigned from, unsigned to, u64 src, u64 dst, unsigned order, unsigned mask, bool guest) {
    struct model_cap
        before[SELS]; /* sources are read before slots are filled: within one PD the ranges may be the same */
    memcpy(before, model[from], sizeof(before));
    for (u64 i = 0; i < 1ul << order; i++) {
        struct model_cap *d = &model[to][dst + i];
        unsigned perm = before[src + i].perm & mask;
        if (perm && d == &model[from][src + i] && perm == d->perm)
            d->guest |= guest; /* to itself */
        else if (perm && !d->perm)
            *d = (struct model_cap){perm, before[src + i].source, &model[from][src + i], guest};
    }
}

static bool model_descends(const struct model_cap *c, const struct model_cap *from, const struct model_cap *end) {
    for (c = c->parent; c; c = c->parent)
        if (c >= from && c < end)
            return true;
    return false;
}

static void model_revoke(unsigned pd, u64 base, unsigned order, unsigned mask, bool self) {
    struct model_cap *from = &model[pd][base], *end = from + (1ul << order);
    bool hit[PDS][SELS] = {0};
    for (unsigned p = 0; p < PDS; p++)
        for (unsigned s = 0; s < SELS; s++)
            hit[p][s] = model[p][s].perm && (model_descends(&model[p][s], from, end) ||
                                             (self && &model[p][s] >= from && &model[p][s] < end));
    for (unsigned p = 0; p < PDS; p++)
        for (unsigned s = 0; s < SELS; s++)
            if (hit[p][s] && !(model[p][s].perm &= ~mask))
                model[p][s] = (struct model_cap){0};
}

static u64 model_translate(unsigned from, unsigned to, u64 sel, unsigned mask) {
    const struct model_cap *c = &model[from][sel];
    for (const struct model_cap *up = c->parent; c->perm & mask && up; up = up->parent)
        if (up >= model[to] && up < model[to] + SELS)
            return crd_of((u64)(up - model[to]), 0, c->perm & mask);
    return 0;
}

/* --- comparison --- */

static void table_compare(const struct ptab *t, u64 sel, const struct model_cap *m, bool wanted) {
    u64 pfn;
    unsigned perm;
    bool mapped = ptab_lookup(t, sel, &pfn, &perm);
    assert_int_equal(mapped, wanted && (m->perm & PERM_MEM_R));
    if (mapped && (pfn != m->source || perm != m->perm))
        fail_msg("selector %lx: pfn %lx perm %x", sel, pfn, perm);
}

static void compare_all(void) {
    for (unsigned p = 0; p < PDS; p++) {
        sim_space_check(pds[p]);
        for (u64 s = 0; s < SELS; s++) {
            const struct model_cap *m = &model[p][s];
            u64 crd = space_lookup(pds[p], crd_of(s, 0, 0));
            if (CRD_PERM(crd) != m->perm)
                fail_msg("pd %u selector %lx: permissions %lx, not %x", p, s, CRD_PERM(crd), m->perm);
            if (m->perm)
                assert_true(CRD_BASE(crd) <= s && s < CRD_BASE(crd) + (1ul << CRD_ORDER(crd)));
            if (type == CRD_MEM) {
                table_compare(&pds[p]->host, s, m, true);
                table_compare(&pds[p]->guest, s, m, m->guest);
            } else if (type == CRD_OBJ) {
                struct cap cap = objtab_lookup(&pds[p]->objtab, s);
                assert_int_equal(cap.perm, m->perm);
                assert_int_equal((u64)cap.obj, m->source);
            } else {
                const u8 *bits = pds[p]->pio_bitmap;
                assert_int_equal(m->perm != 0, bits && !(bits[s / 8] >> s % 8 & 1));
            }
        }
    }
}

static void finish(enum space_result r) { assert_int_equal(r, SPACE_DONE); }

static void random_step(unsigned all_perms) {
    unsigned order = (unsigned)rand() % 5, from = (unsigned)rand() % PDS, to = (unsigned)rand() % PDS;
    u64 src = ((u64)rand() % SELS) & ~((1ul << order) - 1), dst = ((u64)rand() % SELS) & ~((1ul << order) - 1);
    unsigned mask = rand() % 2 ? all_perms : (unsigned)rand() & all_perms;
    struct space_progress p = {0};
    u64 out;
    switch (rand() % 8) {
    case 0:
    case 1:
        finish(space_revoke(pds[from], crd_of(src, order, mask),
                            rand() % 2 ? (model_revoke(from, src, order, mask, true), true)
                                       : (model_revoke(from, src, order, mask, false), false),
                            &p));
        break;
    case 2:
        assert_int_equal(space_translate(pds[from], pds[to], crd_of(src, 0, mask), crd_of(0, 31, 0x1f)),
                         model_translate(from, to, src, mask));
        break;
    default: {
        bool guest = type != CRD_OBJ && rand() % 4 == 0;
        u64 hot = type == CRD_PIO ? 0 : dst;
        if (type == CRD_PIO)
            dst = src;
        finish(space_delegate(pds[from], pds[to], crd_of(src, order, mask), hot << 12 | 1 | (guest ? ITEM_G : 0),
                              crd_of(0, 6, 0x1f), &out, &p));
        assert_int_equal(out, mask ? crd_of(dst, order, mask) : 0);
        model_delegate(from, to, src, dst, order, mask, guest);
    }
    }
}

static void random_run(unsigned the_type, unsigned rounds, unsigned seed) {
    type = the_type;
    srand(seed);
    kernel_fixture_quiesce();
    u64 before = kernel_pd.account.used;
    memset(model, 0, sizeof(model));
    for (unsigned i = 0; i < PDS; i++)
        pds[i] = pd_make();
    struct sm *sms[16] = {0};
    unsigned all = type == CRD_MEM ? PERM_MEM_ALL : type == CRD_PIO ? PERM_PIO_A : PERM_SM_ALL;
    for (u64 i = 0; i < 16; i++) {
        model[0][i] = (struct model_cap){.perm = all, .source = 0x1000 + i};
        if (type == CRD_OBJ) {
            sms[i] = sm_create(pds[1], 0);
            assert_int_equal(space_cap_create(pds[0], i, &sms[i]->obj, all), NOVA_SUCCESS);
            model[0][i].source = (u64)&sms[i]->obj;
        }
    }
    if (type == CRD_MEM)
        assert_int_equal(space_mem_create(pds[0], 0, 0x1000, 4, all, NODE_HOST), NOVA_SUCCESS);
    if (type == CRD_PIO) { /* by H, as root gets them */
        struct space_progress p = {0};
        u64 out;
        pds[0]->is_root = true;
        finish(space_delegate(pds[0], pds[0], crd_of(0, 4, 1), 1 | ITEM_H, crd_of(0, 16, 1), &out, &p));
        pds[0]->is_root = false;
    }
    for (unsigned i = 0; i < rounds; i++) {
        random_step(all);
        compare_all();
        if (i % 64 == 0)
            kernel_fixture_quiesce();
    }
    for (unsigned i = 0; i < PDS; i++)
        pd_drop(pds[i]);
    kernel_fixture_quiesce();
    assert_int_equal(kernel_pd.account.used, before);
}

static void memory_random_equals_model(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 40; seed++)
        random_run(CRD_MEM, 150, seed);
}
static void objects_random_equals_model(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++)
        random_run(CRD_OBJ, 150, seed);
}
static void ports_random_equals_model(void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 10; seed++)
        random_run(CRD_PIO, 150, seed);
}

/* --- named cases --- */

static u64 delegate(struct pd *from, struct pd *to, u64 crd, u64 item, u64 window) {
    struct space_progress p = {0};
    u64 out;
    finish(space_delegate(from, to, crd, item | 1, window, &out, &p));
    return out;
}

static void revoke(struct pd *pd, u64 crd, bool self) {
    struct space_progress p = {0};
    finish(space_revoke(pd, crd, self, &p));
}

static void delegate_hotspot_narrows_the_larger(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make();
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x100, 0x800, 8, 7, NODE_HOST), NOVA_SUCCESS);
    /* window larger: the hotspot chooses the place in it */
    assert_int_equal(delegate(a, b, crd_of(0x104, 2, 7), 0x2347ul << 12, crd_of(0x10000, 16, 3)),
                     crd_of(0x12344, 2, 3));
    assert_int_equal(space_lookup(b, crd_of(0x12345, 0, 0)), crd_of(0x12344, 2, 3));
    /* source larger: the hotspot chooses the part of it */
    assert_int_equal(delegate(a, b, crd_of(0x100, 8, 7), 0x53ul << 12, crd_of(0x20, 4, 7)), crd_of(0x20, 4, 7));
    u64 pfn;
    unsigned perm;
    assert_true(ptab_lookup(&b->host, 0x21, &pfn, &perm) && pfn == 0x851 && perm == 7);
    /* different type, no common permission: null */
    assert_int_equal(delegate(a, b, crd_of(0x100, 0, 7), 0, CRD_MAKE(CRD_OBJ, 0, 31, 0x1f)), 0);
    assert_int_equal(delegate(a, b, crd_of(0x100, 0, 4), 0, crd_of(0, 31, 3)), 0);
    /* a hole delegates nothing, and the receiver still sees the range */
    assert_int_equal(delegate(a, b, crd_of(0x900, 0, 7), 0x77ul << 12, crd_of(0, 31, 7)), crd_of(0x77, 0, 7));
    assert_int_equal(space_lookup(b, crd_of(0x77, 0, 0)), 0);
    /* beyond user space nothing is installed */
    (void)delegate(a, b, crd_of(0x100, 1, 7), 0, crd_of(0x7fffffffeul, 1, 7));
    assert_int_not_equal(space_lookup(b, crd_of(0x7fffffffeul, 0, 0)), 0);
    assert_int_equal(space_lookup(b, crd_of(0x7fffffffful, 0, 0)), 0);
    (void)delegate(a, b, crd_of(0x100, 0, 7), 0, crd_of(0x800000000ul, 0, 7));
    assert_int_equal(space_lookup(b, crd_of(0x800000000ul, 0, 0)), 0);
    pd_drop(a);
    pd_drop(b);
}

static void utcb_is_never_given_away(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make();
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x10, 0x900, 0, 3, NODE_HOST | NODE_UTCB), NOVA_SUCCESS);
    assert_int_equal(space_mem_create(a, 0x11, 0x901, 0, 3, NODE_HOST), NOVA_SUCCESS);
    assert_int_equal(space_mem_create(a, 0x10, 0x902, 0, 3, NODE_HOST | NODE_UTCB), NOVA_BAD_PAR);
    (void)delegate(a, b, crd_of(0x10, 1, 7), 0x10ul << 12, crd_of(0, 31, 7));
    assert_int_equal(space_lookup(b, crd_of(0x10, 0, 0)), 0);
    assert_int_not_equal(space_lookup(b, crd_of(0x11, 0, 0)), 0);
    space_utcb_remove(a, 0x10, 0x999); /* somebody else's page: stays */
    assert_int_not_equal(space_lookup(a, crd_of(0x10, 0, 0)), 0);
    space_utcb_remove(a, 0x10, 0x900);
    assert_int_equal(space_lookup(a, crd_of(0x10, 0, 0)), 0);
    pd_drop(a);
    pd_drop(b);
}

static void revoke_part_of_a_large_page_splits(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make(), *c = pd_make();
    u64 pfn;
    unsigned perm;
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 1ul << 18, 1ul << 20, 18, 7, NODE_HOST), NOVA_SUCCESS);
    (void)delegate(a, b, crd_of(1ul << 18, 18, 7), ITEM_G, crd_of(0, 18, 7));
    (void)delegate(b, c, crd_of(0x400, 10, 3), 0x400ul << 12, crd_of(0, 31, 7));
    b->account.limit = b->account.used; /* a PD at its limit cannot keep its parent from revoking */
    revoke(a, crd_of((1ul << 18) + 0x455, 0, 2), false);
    assert_int_equal(space_lookup(a, crd_of((1ul << 18) + 0x455, 0, 0)), crd_of(1ul << 18, 18, 7));
    assert_int_equal(space_lookup(b, crd_of(0x455, 0, 0)), crd_of(0x455, 0, 5));
    assert_int_equal(space_lookup(b, crd_of(0x456, 0, 0)), crd_of(0x456, 1, 7));
    assert_int_equal(space_lookup(c, crd_of(0x455, 0, 0)), crd_of(0x455, 0, 1));
    assert_true(ptab_lookup(&b->guest, 0x455, &pfn, &perm) && pfn == 0x100455 && perm == 5);
    assert_true(ptab_lookup(&b->guest, 0x454, &pfn, &perm) && pfn == 0x100454 && perm == 7);
    sim_space_check(a), sim_space_check(b), sim_space_check(c);
    revoke(a, crd_of(1ul << 18, 18, 0x1f), true);
    assert_null(a->mem.root);
    assert_null(b->mem.root);
    assert_null(c->mem.root);
    pd_drop(c);
    pd_drop(b);
    pd_drop(a);
}

static void revoke_straddler_without_the_mask(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make();
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x100, 0x800, 8, 7, NODE_HOST), NOVA_SUCCESS);
    (void)delegate(a, b, crd_of(0x100, 6, 1), 0, crd_of(0, 6, 7)); /* read-only child across the part */
    revoke(a, crd_of(0x104, 2, 2), true);
    assert_int_equal(space_lookup(a, crd_of(0x104, 0, 0)), crd_of(0x104, 2, 5));
    assert_int_equal(CRD_PERM(space_lookup(b, crd_of(4, 0, 0))), 1);
    sim_space_check(a), sim_space_check(b);
    pd_drop(a);
    sim_space_check(b);
    assert_null(b->mem.root);
    pd_drop(b);
}

static void translate_follows_levels_to_the_receiver(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make(), *c = pd_make();
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x100, 0x800, 8, 7, NODE_HOST), NOVA_SUCCESS);
    (void)delegate(a, b, crd_of(0x140, 4, 7), 0x20ul << 12, crd_of(0, 31, 7));
    (void)delegate(b, c, crd_of(0x24, 2, 3), 0x300ul << 12, crd_of(0, 31, 7));
    assert_int_equal(space_translate(c, a, crd_of(0x300, 4, 0x1f), crd_of(0, 31, 0x1f)), crd_of(0x144, 2, 3));
    assert_int_equal(space_translate(c, b, crd_of(0x302, 0, 0x1f), crd_of(0, 31, 0x1f)), crd_of(0x26, 0, 3));
    assert_int_equal(space_translate(c, a, crd_of(0x300, 2, 0x1f), crd_of(0x200, 4, 0x1f)), 0);
    assert_int_equal(space_translate(c, a, crd_of(0x300, 2, 0x1f), CRD_MAKE(CRD_OBJ, 0, 31, 0x1f)), 0);
    assert_int_equal(space_translate(a, c, crd_of(0x140, 2, 0x1f), crd_of(0, 31, 0x1f)), 0);
    pd_drop(b);
    assert_int_equal(space_lookup(c, crd_of(0x300, 0, 0)), 0);
    pd_drop(a);
    pd_drop(c);
}

/* A VMM that keeps guest memory in its own PD at guest-physical = virtual address (ABI section 8). */
static void self_delegation_with_g_makes_guest_memory(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make();
    u64 pfn;
    unsigned perm;
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x100, 0x800, 8, 7, NODE_HOST), NOVA_SUCCESS);
    (void)delegate(a, b, crd_of(0x100, 7, 7), 0, crd_of(0, 7, 7)); /* a child across the part */
    (void)delegate(a, a, crd_of(0x140, 4, 7), 0x140ul << 12 | ITEM_G, crd_of(0, 31, 7));
    assert_true(ptab_lookup(&a->guest, 0x14f, &pfn, &perm) && pfn == 0x84f && perm == 7);
    assert_false(ptab_lookup(&a->guest, 0x150, &pfn, &perm));
    assert_true(ptab_lookup(&a->host, 0x150, &pfn, &perm) && pfn == 0x850);
    (void)delegate(a, a, crd_of(0x180, 4, 7), 0x180ul << 12 | ITEM_G, crd_of(0, 31, 1)); /* fewer rights: as it is */
    assert_false(ptab_lookup(&a->guest, 0x180, &pfn, &perm));
    sim_space_check(a), sim_space_check(b);
    revoke(a, crd_of(0x140, 4, 7), true);
    assert_false(ptab_lookup(&a->guest, 0x14f, &pfn, &perm));
    sim_space_check(a), sim_space_check(b);
    pd_drop(a);
    pd_drop(b);
}

/* Ranges over what is far apart, in pages of the object table that are there, and that are not; and over one that is empty. */
static void objects_far_apart(void **state) {
    (void)state;
    static const u64 at[] = {0, 255, 256, 0x1ffff, 0x20000, 0x1234567, ABI_SEL_COUNT - 1};
    struct pd *a = pd_make(), *b = pd_make();
    type = CRD_OBJ;
    struct sm *sm = sm_create(a, 0);
    assert_int_equal(space_cap_create(a, at[0], &sm->obj, PERM_SM_ALL), NOVA_SUCCESS);
    for (unsigned i = 1; i < ARRAY_SIZE(at); i++)
        (void)delegate(a, a, crd_of(at[i - 1], 0, PERM_SM_ALL), 0, crd_of(at[i], 0, PERM_SM_ALL));
    (void)delegate(a, b, crd_of(0, 31, PERM_SM_ALL), 0, crd_of(0, 31, PERM_SM_ALL));
    for (unsigned i = 0; i < ARRAY_SIZE(at); i++)
        assert_int_equal(space_lookup(b, crd_of(at[i], 0, 0)), crd_of(at[i], 0, PERM_SM_ALL));
    sim_space_check(a), sim_space_check(b);
    assert_int_equal(b->caps.objects, ARRAY_SIZE(at));
    revoke(b, crd_of(0x20000, 17, PERM_SM_ALL), true); /* one of them */
    assert_int_equal(b->caps.objects, ARRAY_SIZE(at) - 1);
    assert_int_equal(space_lookup(b, crd_of(0x20000, 0, 0)), 0);
    revoke(b, crd_of(0x40000, 17, PERM_SM_ALL), true); /* none */
    assert_int_equal(b->caps.objects, ARRAY_SIZE(at) - 1);
    revoke(b, crd_of(0, 31, PERM_SM_ALL), true);
    assert_int_equal(b->caps.objects, 0);
    assert_int_equal(a->caps.objects, ARRAY_SIZE(at));
    revoke(a, crd_of(0x1000000, 24, PERM_SM_ALL), true); /* one and its child, the last */
    assert_int_equal(a->caps.objects, ARRAY_SIZE(at) - 2);
    sim_space_check(a), sim_space_check(b);
    pd_drop(a);
    pd_drop(b);
}

static void dying_pd_takes_nothing(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make();
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x100, 0x800, 8, 7, NODE_HOST), NOVA_SUCCESS);
    (void)delegate(a, b, crd_of(0x100, 8, 7), 0, crd_of(0, 8, 7));
    kobj_get(&b->obj);
    kobj_cap_gone(&b->obj, --b->obj.caps);
    (void)delegate(a, b, crd_of(0x100, 8, 7), 0x1000ul << 12, crd_of(0, 31, 7));
    assert_int_equal(space_lookup(b, crd_of(0x1000, 0, 0)), 0);
    assert_int_equal(space_mem_create(b, 0x2000, 0x900, 0, 3, NODE_HOST), NOVA_BAD_CAP);
    kernel_fixture_quiesce();
    assert_null(b->mem.root);
    kobj_put(&b->obj);
    pd_drop(a);
}

/* Fails every allocation of a delegation and of a partial revoke in turn: what is there is whole, and the second try completes. */
static void nomem_leaves_whole_pieces(void **state) {
    (void)state;
    bool failed = true;
    type = CRD_MEM;
    kernel_fixture_quiesce();
    u64 before = kernel_pd.account.used;
    for (u64 nth = 1; failed; nth++) {
        struct pd *a = pd_make(), *b = pd_make();
        struct space_progress p = {0};
        u64 out;
        assert_int_equal(space_mem_create(a, 0x200, 0x800, 9, 7, NODE_HOST), NOVA_SUCCESS);
        kmem_fail_at = nth;
        enum space_result r =
            space_delegate(a, b, crd_of(0x200, 9, 7), 1 | ITEM_G | ITEM_D, crd_of(0x7000, 9, 7), &out, &p);
        failed = r == SPACE_NOMEM;
        sim_space_check(b);
        if (failed)
            finish(space_delegate(a, b, crd_of(0x200, 9, 7), 1 | ITEM_G | ITEM_D, crd_of(0x7000, 9, 7), &out, &p));
        p = (struct space_progress){0};
        r = space_revoke(a, crd_of(0x233, 0, 7), true, &p);
        failed |= r == SPACE_NOMEM;
        sim_space_check(a), sim_space_check(b);
        if (r == SPACE_NOMEM)
            finish(space_revoke(a, crd_of(0x233, 0, 7), true, &p));
        kmem_fail_at = 0;
        assert_int_equal(space_lookup(b, crd_of(0x7033, 0, 0)), 0);
        assert_int_not_equal(space_lookup(b, crd_of(0x7034, 0, 0)), 0);
        pd_drop(a);
        pd_drop(b);
        assert_true(nth < 1000);
    }
    assert_int_equal(kernel_pd.account.used, before);
}

static void limit_refuses_and_changes_nothing(void **state) {
    (void)state;
    struct pd *a = pd_make(), *b = pd_make();
    struct space_progress p = {0};
    u64 out;
    type = CRD_MEM;
    assert_int_equal(space_mem_create(a, 0x200, 0x800, 9, 7, NODE_HOST), NOVA_SUCCESS);
    b->account.limit = b->account.used + 64;
    assert_int_equal(space_delegate(a, b, crd_of(0x200, 9, 7), 1, crd_of(0x7000, 9, 7), &out, &p), SPACE_NOMEM);
    assert_null(b->mem.root);
    pd_drop(a);
    pd_drop(b);
}

static int setup(void **state) {
    (void)state;
    kernel_fixture_setup();
    return space_source_create(&kernel_pd, CRD_PIO, 0, 0, 16, PERM_PIO_A) != NOVA_SUCCESS;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_random_equals_model),
        cmocka_unit_test(objects_random_equals_model),
        cmocka_unit_test(ports_random_equals_model),
        cmocka_unit_test(delegate_hotspot_narrows_the_larger),
        cmocka_unit_test(utcb_is_never_given_away),
        cmocka_unit_test(revoke_part_of_a_large_page_splits),
        cmocka_unit_test(revoke_straddler_without_the_mask),
        cmocka_unit_test(translate_follows_levels_to_the_receiver),
        cmocka_unit_test(self_delegation_with_g_makes_guest_memory),
        cmocka_unit_test(objects_far_apart),
        cmocka_unit_test(dying_pd_takes_nothing),
        cmocka_unit_test(nomem_leaves_whole_pieces),
        cmocka_unit_test(limit_refuses_and_changes_nothing),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
