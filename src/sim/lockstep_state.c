#include "arch/assert.h"
#include "arch/mem.h"
#include "core/cpu.h"
#include "core/pd.h"
#include "core/pt.h"
#include "core/sc.h"
#include "core/space_priv.h"
#include "sim/check.h"
#include "sim/lockstep.h"

/* Objects are known by their address. */
static u64 token_of(const void *o) { return (u64)o; }

bool lockstep_kernel_has(unsigned type, u64 sel, u64 *what) {
    const struct node *n = sim_node_from(&kernel_pd, type, sel);
    if (!n || n->base > sel)
        return false;
    *what = type == CRD_OBJ ? n->source : n->source + (sel - n->base);
    return true;
}

static bool busy;
static void pd_quiet(struct pd *pd) { busy |= pd->mem.lock.owner || pd->pio.lock.owner || pd->caps.lock.owner; }
bool lockstep_quiet(void) {
    busy = false;
    sim_pds_each(pd_quiet);
    return !busy;
}

static struct {
    bool (*f)(void *, const struct lockstep_cap *);
    void *ctx;
    unsigned number;
    bool stopped;
} each;

static void node_each(const struct pd *pd, const struct node *n) {
    u64 step = n->type == CRD_OBJ ? 0 : 1;
    const struct node *up = n->parent && n->parent->pd != &kernel_pd ? n->parent : NULL;
    for (u64 i = 0; i < 1ul << n->order && !each.stopped; i++) {
        struct lockstep_cap k = {.pd = token_of(pd), .number = each.number++};
        k.c = (struct model_cap){.type = n->type, .perm = n->perm, .sel = n->base + i, .what = n->source + step * i};
        k.c.tables = n->tables & NODE_TABLES;
        k.c.utcb = n->tables & NODE_UTCB ? 0 : -1;
        if (up) {
            k.parent_pd = token_of(up->pd);
            k.parent_sel = n->type == CRD_OBJ ? up->base : up->base + (n->source + i - up->source);
        }
        each.stopped = !each.f(each.ctx, &k);
    }
}

static void pd_each(struct pd *pd) {
    for (unsigned type = CRD_MEM; pd != &kernel_pd && type <= CRD_OBJ; type++) {
        const struct node *n;
        for (u64 sel = 0; !each.stopped && (n = sim_node_from(pd, type, sel)); sel = node_last(n) + 1)
            node_each(pd, n);
    }
}

bool lockstep_each(bool (*f)(void *ctx, const struct lockstep_cap *k), void *ctx) {
    each.f = f, each.ctx = ctx, each.number = 0, each.stopped = false;
    sim_pds_each(pd_each);
    return !each.stopped;
}

/* --- the kernel's state as a model --- */

static i32 object_adopt(struct model *m, const void *o) {
    const struct sim_alloc *a = sim_alloc_at(o);
    const struct ec *ec = a ? sim_alloc_ec(a) : NULL;
    const struct sc *sc = a ? sim_alloc_sc(a) : NULL;
    const struct pt *pt = a ? sim_alloc_pt(a) : NULL;
    const struct pd *pd = a ? sim_alloc_pd(a) : NULL;
    i32 old = model_object_find(m, token_of(o));
    if (old >= 0)
        return old;
    i32 to = sc ? object_adopt(m, sc->ec) : pt ? object_adopt(m, pt->ec) : -1;
    unsigned type = pd ? MODEL_PD : ec ? MODEL_EC : sc ? MODEL_SC : pt ? MODEL_PT : MODEL_SM;
    i32 n = model_object_add(m, type, token_of(o));
    m->object[n].ec = to;
    if (ec) {
        m->object[n].thread = ec->kind == EC_VCPU ? MODEL_VCPU : ec->kind == EC_LOCAL ? MODEL_LOCAL : MODEL_GLOBAL;
        m->object[n].sc_lingers = ec->sc != NULL;
    }
    if (pd)
        m->object[n].root = pd->is_root, m->object[n].dead = pd->obj.dead;
    return n;
}

/* The EC whose UTCB this page is. */
static i32 utcb_adopt(struct model *m, u64 frame) {
    SIM_EACH_OBJECT(a, ec, ec)
    if (ec->utcb && arch_ptr_phys(ec->utcb).v >> PAGE_SHIFT == frame)
        return object_adopt(m, ec);
    return -1;
}

static bool cap_adopt(void *ctx, const struct lockstep_cap *k) {
    struct model *m = ctx;
    struct model_cap c = k->c;
    c.pd = object_adopt(m, (void *)k->pd);
    c.parent = -1;
    if (c.type == CRD_OBJ)
        c.what = (u64)object_adopt(m, (void *)c.what);
    if (c.utcb >= 0)
        c.utcb = utcb_adopt(m, c.what);
    (void)model_cap_add(m, &c);
    return !m->too_large;
}

static bool parent_adopt(void *ctx, const struct lockstep_cap *k) {
    struct model *m = ctx;
    i32 found = model_find(m, model_object_find(m, k->pd), k->c.type, k->c.sel);
    if (!k->parent_pd)
        return true;
    struct model_cap *c = &m->cap[found];
    c->parent = model_find(m, model_object_find(m, k->parent_pd), k->c.type, k->parent_sel);
    assert(c->parent >= 0);
    c->next = m->cap[c->parent].child;
    if (c->next >= 0)
        m->cap[c->next].prev = found;
    m->cap[c->parent].child = found;
    return true;
}

static struct model *adopting;
static void pd_adopt(struct pd *pd) {
    if (pd != &kernel_pd)
        (void)object_adopt(adopting, pd);
}

void lockstep_adopt(struct model *m) {
    model_clear(m);
    adopting = m;
    sim_pds_each(pd_adopt);
    for (u64 sel = 0; sel < ABI_MAX_CPUS + ABI_MAX_GSIS; sel++) { /* what H can give */
        u64 what;
        if (lockstep_kernel_has(CRD_OBJ, sel, &what))
            (void)object_adopt(m, (void *)what);
    }
    if (lockstep_each(cap_adopt, m))
        (void)lockstep_each(parent_adopt, m);
    for (i32 o = 0; o < m->objects; o++)
        m->object[o].dead |= m->object[o].type == MODEL_PD && !m->object[o].caps;
}

/* --- comparing --- */

bool lockstep_dies(const struct lockstep_cap *k) { return ((const struct pd *)k->pd)->obj.dead; }

bool lockstep_same(const struct model *m, const struct lockstep_cap *k, i32 *found) {
    i32 pd = model_object_find(m, k->pd);
    *found = pd < 0 ? -1 : model_find(m, pd, k->c.type, k->c.sel);
    if (*found < 0)
        return false;
    const struct model_cap *c = &m->cap[*found], *up = c->parent >= 0 ? &m->cap[c->parent] : NULL;
    u64 what = c->type == CRD_OBJ ? m->object[c->what].token : c->what;
    if (up ? m->object[up->pd].token != k->parent_pd || up->sel != k->parent_sel : k->parent_pd != 0)
        return false;
    if ((c->utcb >= 0) != (k->c.utcb >= 0) || (c->utcb < 0 && what != k->c.what))
        return false;
    return c->perm == k->c.perm && c->tables == k->c.tables;
}

static u32 sync_stamp;
static bool cap_seen(void *ctx, const struct lockstep_cap *k) {
    struct model *m = ctx;
    i32 found;
    if (lockstep_same(m, k, &found))
        m->cap[found].seen = sync_stamp;
    return true;
}

/* Once more after each change: what goes may have been the last capability to a further PD. */
void lockstep_sync(struct model *m) {
    for (bool again = true; again;) {
        bool any = again = false;
        for (i32 c = 0; !any && c < m->caps; c++)
            any = m->cap[c].pd >= 0 && model_fades(m, c);
        if (!any)
            return;
        sync_stamp++;
        (void)lockstep_each(cap_seen, m);
        for (i32 c = 0; c < m->caps; c++)
            if (m->cap[c].pd >= 0 && m->cap[c].seen != sync_stamp && model_fades(m, c)) {
                model_remove(m, c);
                again = true;
            }
    }
}
