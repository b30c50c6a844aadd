#include "sim/model.h"
#include "arch/assert.h"
#include <string.h>

#define CAPS    (1 << 18) /* at most */
#define OBJECTS 8192
#define BUCKETS (1 << 14)

struct range {
    u64 base, size;
    unsigned order;
};

/* Section 2; object selectors are taken modulo SEL, a base that is not aligned is rounded down (docs/abi.md). */
static struct range range_of(u64 crd) {
    struct range r = {.base = CRD_BASE(crd), .order = CRD_ORDER(crd)};
    if (CRD_TYPE(crd) == CRD_OBJ) {
        r.base %= ABI_SEL_COUNT;
        r.order = r.order < 26 ? r.order : 26;
    }
    r.size = 1ul << r.order;
    r.base &= ~(r.size - 1);
    return r;
}
static bool in_range(struct range r, u64 sel) { return sel >= r.base && sel - r.base < r.size; }
static u64 sel_limit(unsigned type) {
    return type == CRD_MEM ? ABI_USER_END >> PAGE_SHIFT : type == CRD_PIO ? 0x10000 : ABI_SEL_COUNT;
}

/* --- a map of (PD, type, selector) --- */

/* Variables, so that they are part of a run's state (snapshot.c); only what is used costs memory. */
static struct {
    struct model_cap cap[CAPS];
    struct model_object object[OBJECTS];
    i32 bucket[BUCKETS];
} pool[2];
static unsigned pools;

void model_init(struct model *m, bool (*kernel_has)(unsigned, u64, u64 *)) {
    assert(pools < ARRAY_SIZE(pool));
    *m = (struct model){
        .cap = pool[pools].cap, .object = pool[pools].object, .bucket = pool[pools].bucket, .kernel_has = kernel_has};
    pools++;
    model_clear(m);
}

void model_clear(struct model *m) {
    m->caps = m->objects = m->live = 0;
    m->free_cap = -1;
    m->too_large = false;
    memset(m->bucket, 0xff, BUCKETS * sizeof(*m->bucket));
    memset(m->newest, 0xff, sizeof(m->newest));
}

void model_copy(struct model *to, const struct model *from) {
    memcpy(to->cap, from->cap, (size_t)from->caps * sizeof(*to->cap));
    memcpy(to->object, from->object, (size_t)from->objects * sizeof(*to->object));
    memcpy(to->newest, from->newest, sizeof(to->newest));
    memcpy(to->bucket, from->bucket, BUCKETS * sizeof(*to->bucket));
    to->caps = from->caps, to->free_cap = from->free_cap, to->objects = from->objects, to->live = from->live;
    to->too_large = from->too_large;
}

static i32 *bucket_of(const struct model *m, i32 pd, unsigned type, u64 sel) {
    return &m->bucket[((sel * 4 + type) * 31 + (u64)pd * 0x9e37) % BUCKETS];
}

i32 model_find(const struct model *m, i32 pd, unsigned type, u64 sel) {
    i32 c = *bucket_of(m, pd, type, sel);
    while (c >= 0 && (m->cap[c].pd != pd || m->cap[c].type != type || m->cap[c].sel != sel))
        c = m->cap[c].hash;
    return c;
}

i32 model_cap_add(struct model *m, const struct model_cap *what) {
    i32 c = m->free_cap;
    if (c >= 0)
        m->free_cap = m->cap[c].next;
    else if (m->caps < CAPS)
        c = m->caps++;
    if (c < 0) {
        m->too_large = true;
        return -1;
    }
    struct model_cap *n = &m->cap[c];
    *n = *what;
    n->child = n->next = n->prev = -1;
    if (n->parent >= 0) {
        n->next = m->cap[n->parent].child;
        if (n->next >= 0)
            m->cap[n->next].prev = c;
        m->cap[n->parent].child = c;
    }
    i32 *bucket = bucket_of(m, n->pd, n->type, n->sel);
    n->hash = *bucket;
    *bucket = c;
    m->live++;
    if (n->type == CRD_OBJ)
        m->object[n->what].caps++;
    return c;
}

void model_remove(struct model *m, i32 c) {
    struct model_cap *n = &m->cap[c];
    while (n->child >= 0)
        model_remove(m, n->child);
    if (n->next >= 0)
        m->cap[n->next].prev = n->prev;
    if (n->prev >= 0)
        m->cap[n->prev].next = n->next;
    else if (n->parent >= 0)
        m->cap[n->parent].child = n->next;
    i32 *link = bucket_of(m, n->pd, n->type, n->sel);
    while (*link != c)
        link = &m->cap[*link].hash;
    *link = n->hash;
    if (n->type == CRD_OBJ && --m->object[n->what].caps == 0 && m->object[n->what].type == MODEL_PD)
        m->object[n->what].dead = true;
    n->pd = -1;
    n->next = m->free_cap;
    m->free_cap = c;
    m->live--;
}

static u64 list_of(u64 token) { return token * 0x9e3779b97f4a7c15ul >> 54; }
static_assert(MODEL_LISTS == 1024, "list_of gives ten bits");

i32 model_object_add(struct model *m, unsigned type, u64 token) {
    i32 old = model_object_find(m, token);
    if (old >= 0)
        m->object[old].token = 0; /* it has been freed, and its memory used again */
    if (m->objects == OBJECTS) {
        m->too_large = true;
        return 0;
    }
    i32 *newest = &m->newest[list_of(token)];
    m->object[m->objects] = (struct model_object){.token = token, .type = (u8)type, .ec = -1, .older = *newest};
    return *newest = m->objects++;
}

i32 model_object_find(const struct model *m, u64 token) {
    i32 o = m->newest[list_of(token)];
    while (o >= 0 && m->object[o].token != token)
        o = m->object[o].older;
    return o;
}

i32 model_lookup_object(const struct model *m, i32 pd, u64 sel, unsigned type, unsigned perm, bool all) {
    i32 c = model_find(m, pd, CRD_OBJ, sel % ABI_SEL_COUNT);
    if (c < 0 || m->object[m->cap[c].what].type != type)
        return -1;
    unsigned have = m->cap[c].perm & perm;
    return (all ? have == perm : have != 0) ? (i32)m->cap[c].what : -1;
}

/* --- lifetime --- */

static bool ec_needed(const struct model *m, i32 ec) {
    bool needed = m->object[ec].caps > 0;
    for (i32 o = 0; !needed && o < m->objects; o++)
        needed = m->object[o].ec == ec && m->object[o].caps > 0;
    return needed;
}

bool model_fades(const struct model *m, i32 c) {
    for (; c >= 0; c = m->cap[c].parent)
        if (m->object[m->cap[c].pd].dead || (m->cap[c].utcb >= 0 && !ec_needed(m, m->cap[c].utcb)))
            return true;
    return false;
}

unsigned model_fade(struct model *m) {
    unsigned n = 0;
    for (bool again = true; again;) { /* what goes may have been the last capability to a further PD */
        again = false;
        for (i32 c = 0; c < m->caps; c++)
            if (m->cap[c].pd >= 0 && model_fades(m, c)) {
                model_remove(m, c);
                again = true;
                n++;
            }
    }
    return n;
}

/* --- delegate, revoke, translate, lookup --- */

static void selector_delegate(struct model *m, i32 src, i32 dst, unsigned type, u64 from, u64 to, unsigned mask,
                              unsigned tables) {
    struct model_cap n = {.pd = dst, .type = (u8)type, .sel = to, .parent = -1, .utcb = -1, .tables = (u8)tables};
    unsigned perm = type == CRD_MEM ? PERM_MEM_ALL : type == CRD_PIO ? PERM_PIO_A : 0x1f;
    if (to >= sel_limit(type) || m->object[dst].dead)
        return;
    if (src == MODEL_KERNEL) {
        if (!m->kernel_has(type, from, &n.what))
            return;
        if (type == CRD_OBJ) {
            i32 o = model_object_find(m, n.what);
            perm = o >= 0 && m->object[o].type == MODEL_SC ? PERM_SC_ALL : PERM_SM_ALL;
            n.what = (u64)o;
            if (o < 0)
                return;
        }
    } else {
        i32 c = model_find(m, src, type, from);
        if (c < 0 || m->cap[c].utcb >= 0)
            return; /* a hole; a UTCB page is never delegated */
        perm = m->cap[c].perm;
        n.what = m->cap[c].what;
        n.parent = c;
        if (src == dst && from == to && (perm & mask) == perm)
            m->cap[c].tables |= (u8)tables; /* section 8: a PD enters its own memory in further tables */
    }
    n.perm = (u8)(perm & mask);
    if (n.perm && model_find(m, dst, type, to) < 0) /* occupied: stays as it is */
        (void)model_cap_add(m, &n);
}

/* Both ranges made the same size. False: ports that the window does not have. */
static bool ranges_meet(unsigned type, struct range *from, struct range *to, u64 hotspot) {
    if (type == CRD_PIO) { /* identity */
        struct range *small = from->order < to->order ? from : to, *large = small == from ? to : from;
        if (!in_range(*large, small->base))
            return false;
        *large = *small;
        return true;
    }
    struct range *large = from->order > to->order ? from : to, *small = large == from ? to : from;
    large->base += hotspot & (large->size - 1) & ~(small->size - 1);
    large->order = small->order;
    large->size = small->size;
    return true;
}

u64 model_delegate(struct model *m, i32 src, i32 dst, u64 crd, u64 item, u64 window) {
    unsigned type = CRD_TYPE(crd), mask = CRD_PERM(crd) & CRD_PERM(window), tables = 0;
    struct range from = range_of(crd), to = range_of(window);
    if (type == CRD_NULL || type != CRD_TYPE(window) || !mask || !ranges_meet(type, &from, &to, item >> 12))
        return 0;
    if (type != CRD_OBJ)
        tables = MODEL_HOST | (item & ITEM_G ? MODEL_GUEST : 0);
    if (type == CRD_MEM && item & ITEM_D)
        tables |= MODEL_DMA;
    if (item & ITEM_H && m->object[src].root)
        src = MODEL_KERNEL;
    i32 caps = m->caps;
    if (src != MODEL_KERNEL && from.size > (u64)caps) { /* the same, but only over what there is */
        for (i32 c = 0; c < caps; c++)
            if (m->cap[c].pd == src && m->cap[c].type == type && in_range(from, m->cap[c].sel))
                selector_delegate(m, src, dst, type, m->cap[c].sel, to.base + m->cap[c].sel - from.base, mask, tables);
    } else if (from.size > CAPS) {
        m->too_large = true;
    } else {
        for (u64 i = 0; i < from.size; i++)
            selector_delegate(m, src, dst, type, from.base + i, to.base + i, mask, tables);
    }
    return CRD_MAKE(type, to.base, to.order, mask);
}

static void cap_revoke(struct model *m, i32 c, unsigned mask, bool self) {
    for (i32 child = m->cap[c].child, next; child >= 0; child = next) {
        next = m->cap[child].next;
        cap_revoke(m, child, mask, true);
    }
    if (!self)
        return;
    m->cap[c].perm &= (u8)~mask;
    if (!m->cap[c].perm)
        model_remove(m, c);
}

void model_revoke(struct model *m, i32 pd, u64 crd, bool self) {
    struct range r = range_of(crd);
    unsigned type = CRD_TYPE(crd);
    if (type == CRD_NULL || !CRD_PERM(crd))
        return;
    if (r.size <= (u64)m->caps) {
        for (u64 sel = r.base; sel < r.base + r.size; sel++) {
            i32 c = model_find(m, pd, type, sel);
            if (c >= 0)
                cap_revoke(m, c, CRD_PERM(crd), self);
        }
        return;
    }
    for (i32 c = 0; c < m->caps; c++)
        if (m->cap[c].pd == pd && m->cap[c].type == type && in_range(r, m->cap[c].sel))
            cap_revoke(m, c, CRD_PERM(crd), self);
}

static bool is_ancestor(const struct model *m, i32 above, i32 c) {
    for (c = m->cap[c].parent; c >= 0; c = m->cap[c].parent)
        if (c == above)
            return true;
    return false;
}

/* The capability of dst in its window that c comes from, the nearest one. */
static i32 traced(const struct model *m, i32 c, i32 dst, struct range window) {
    for (c = m->cap[c].parent; c >= 0; c = m->cap[c].parent)
        if (m->cap[c].pd == dst && in_range(window, m->cap[c].sel))
            return c;
    return -1;
}

/* How much of a range one answer covers is the kernel's choice (whole mapping nodes), but all of it must be true. */
bool model_translate_ok(const struct model *m, i32 src, i32 dst, u64 crd, u64 window, u64 got) {
    unsigned type = CRD_TYPE(crd);
    struct range r = range_of(crd), g = range_of(got), w = range_of(window);
    i32 first = type == CRD_NULL || type != CRD_TYPE(window) ? -1 : model_find(m, src, type, r.base);
    if (first < 0 || m->cap[first].utcb >= 0 || !(m->cap[first].perm & CRD_PERM(crd)))
        return !got;
    i32 up = traced(m, first, dst, w);
    if (!got)
        return up < 0;
    if (CRD_TYPE(got) != type || CRD_PERM(got) != (m->cap[first].perm & CRD_PERM(crd)) || g.order > r.order)
        return false;
    if (type == CRD_OBJ)
        return up >= 0 && g.order == 0 && g.base == m->cap[up].sel;
    u64 s = r.base; /* the part of the range that it speaks of */
    while (in_range(r, s) && (up = model_find(m, src, type, s), up < 0 || traced(m, up, dst, g) < 0))
        s++;
    for (u64 i = 0; i < g.size; i++) {
        i32 below = model_find(m, src, type, s + i), above = model_find(m, dst, type, g.base + i);
        if (!in_range(r, s + i) || !in_range(w, g.base + i) || below < 0 || above < 0 || !is_ancestor(m, above, below))
            return false;
    }
    return true;
}

/* The whole node: how large it is is the kernel's business, but it is one piece of equal permissions. */
bool model_lookup_ok(const struct model *m, i32 pd, u64 crd, u64 got) {
    unsigned type = CRD_TYPE(crd);
    u64 sel = type == CRD_OBJ ? CRD_BASE(crd) % ABI_SEL_COUNT : CRD_BASE(crd);
    i32 c = type == CRD_NULL ? -1 : model_find(m, pd, type, sel);
    struct range g = range_of(got);
    if (c < 0)
        return !got;
    if (CRD_TYPE(got) != type || CRD_PERM(got) != m->cap[c].perm || CRD_BASE(got) != g.base || !in_range(g, sel))
        return false;
    for (u64 s = g.base; s < g.base + g.size; s++) {
        i32 n = model_find(m, pd, type, s);
        if (n < 0 || m->cap[n].perm != m->cap[c].perm || m->cap[n].what - s != m->cap[c].what - sel)
            return false;
    }
    return true;
}

/* --- create_* --- */

#define BIT(status) (1u << (status))

struct creation {
    i32 owner, ec;
    u64 sel;
    unsigned number, perm;
};

/* Answers that wrong arguments call for, those of the first wrong one; 0: none is. */
static unsigned arguments_wrong(const struct model *m, const struct creation *n, const struct model_create *c) {
    u64 prio = c->rax & 0xff;
    bool local = n->ec >= 0 && m->object[n->ec].thread == MODEL_LOCAL;
    switch (n->number) {
    case HC_CREATE_EC: /* one register has both */
        return ((c->rdx & PAGE_MASK) >= c->cpus ? BIT(NOVA_BAD_CPU) : 0) |
               ((c->rdx & ~PAGE_MASK) >= ABI_USER_END ? BIT(NOVA_BAD_PAR) : 0);
    case HC_CREATE_SC:
        if (n->ec < 0 || local)
            return BIT(NOVA_BAD_CAP);
        return !prio || prio > 127 || !(c->rax >> 12) ? BIT(NOVA_BAD_PAR) : 0;
    case HC_CREATE_PT:
        if (!local)
            return BIT(NOVA_BAD_CAP);
        return c->r8 >= ABI_USER_END ? BIT(NOVA_BAD_PAR) : 0;
    default:
        return 0;
    }
}

/* Answers that the state calls for, in no order of their own; 0: it is fine. */
static unsigned state_wrong(const struct model *m, i32 pd, const struct creation *n, const struct model_create *c) {
    unsigned wrong = model_find(m, pd, CRD_OBJ, n->sel) >= 0 ? BIT(NOVA_BAD_CAP) : 0;
    u64 utcb = c->rdx >> PAGE_SHIFT;
    if (n->number == HC_CREATE_EC && !utcb && !c->vcpus)
        wrong |= BIT(NOVA_BAD_FTR);
    if (n->number == HC_CREATE_EC && utcb && model_find(m, n->owner, CRD_MEM, utcb) >= 0)
        wrong |= BIT(NOVA_BAD_PAR);
    for (i32 o = 0; n->number == HC_CREATE_SC && o < m->objects; o++)
        if (m->object[o].type == MODEL_SC && m->object[o].ec == n->ec && m->object[o].caps)
            wrong |= BIT(NOVA_BAD_CAP);
    return wrong;
}

static void object_make(struct model *m, i32 pd, const struct creation *n, const struct model_create *c) {
    static const u8 all[] = {[HC_CREATE_EC] = PERM_EC_ALL,
                             [HC_CREATE_SC] = PERM_SC_ALL,
                             [HC_CREATE_PT] = PERM_PT_ALL,
                             [HC_CREATE_SM] = PERM_SM_ALL};
    i32 o = model_object_add(m, n->number - HC_CREATE_PD + MODEL_PD, c->token);
    u64 utcb = c->rdx >> PAGE_SHIFT;
    struct model_cap cap = {.pd = pd, .type = CRD_OBJ, .sel = n->sel, .what = (u64)o, .parent = -1, .utcb = -1};
    cap.perm = (u8)(n->number == HC_CREATE_PD ? n->perm : all[n->number]);
    m->object[o].ec = n->ec;
    if (n->number == HC_CREATE_SC)
        m->object[n->ec].sc_lingers = true;
    (void)model_cap_add(m, &cap);
    if (n->number == HC_CREATE_PD && CRD_TYPE(c->rdx) != CRD_NULL)
        (void)model_delegate(m, pd, o, c->rdx, ITEM_DELEGATE, CRD_MAKE(CRD_TYPE(c->rdx), 0, 31, 0x1f));
    if (n->number != HC_CREATE_EC)
        return;
    m->object[o].thread = !utcb ? MODEL_VCPU : c->rdi >> 4 & HF_EC_GLOBAL ? MODEL_GLOBAL : MODEL_LOCAL;
    struct model_cap page = {.pd = n->owner, .type = CRD_MEM, .sel = utcb, .parent = -1, .utcb = o};
    page.perm = PERM_MEM_R | PERM_MEM_W;
    page.tables = MODEL_HOST;
    if (utcb)
        (void)model_cap_add(m, &page);
}

bool model_create(struct model *m, i32 pd, const struct model_create *c) {
    struct creation n = {.number = c->rdi & 0xf, .sel = (c->rdi >> 8) % ABI_SEL_COUNT, .ec = -1};
    unsigned right = 1u << (n.number - HC_CREATE_PD);
    n.owner = model_lookup_object(m, pd, c->rsi, MODEL_PD, right, true);
    if (n.owner < 0)
        return c->status == NOVA_BAD_CAP;
    if (m->object[pd].dead)
        return c->status != NOVA_SUCCESS; /* the caller's own domain dies */
    n.perm = m->cap[model_find(m, pd, CRD_OBJ, c->rsi % ABI_SEL_COUNT)].perm;
    if (n.number == HC_CREATE_SC)
        n.ec = model_lookup_object(m, pd, c->rdx, MODEL_EC, PERM_EC_SC, true);
    if (n.number == HC_CREATE_PT)
        n.ec = model_lookup_object(m, pd, c->rdx, MODEL_EC, PERM_EC_PT, true);
    unsigned may = arguments_wrong(m, &n, c);
    if (!may) {
        may = state_wrong(m, pd, &n, c);
        if (!may) {
            may = BIT(NOVA_SUCCESS);
            if (n.number == HC_CREATE_SC && m->object[n.ec].sc_lingers) /* its last one may not be freed yet */
                may |= BIT(NOVA_BAD_CAP);
        }
        may |= c->no_memory ? BIT(NOVA_BAD_MEM) : 0;
    }
    if (!(may & BIT(c->status)))
        return false;
    if (c->status == NOVA_SUCCESS)
        object_make(m, pd, &n, c);
    return true;
}
