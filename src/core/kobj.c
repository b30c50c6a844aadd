#include "core/kobj.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "core/ec.h"
#include "core/pd.h"
#include "core/pt.h"
#include "core/sc.h"
#include "core/sm.h"

static u32 next_tree; /* atomic: spreads objects over the tree locks */

void kobj_init(struct kobj *o, enum kobj_type type, struct pd *owner) {
    o->type = (u8)type;
    o->tree = (u32)atomic_fetch_add(&next_tree, 1);
    o->owner = owner;
    if (owner)
        kobj_get(&owner->obj);
    atomic_store_rel(&o->refs, 1); /* the creator's */
}

void kobj_get(struct kobj *o) {
    u32 before = atomic_fetch_add(&o->refs, 1);
    assert(before);
}

bool kobj_tryget(struct kobj *o) {
    u32 refs = atomic_load_rlx(&o->refs);
    do
        if (!refs)
            return false;
    while (!atomic_cas(&o->refs, &refs, refs + 1));
    return true;
}

void kobj_put(struct kobj *o) {
    u32 before = atomic_fetch_add(&o->refs, -1);
    assert(before);
    if (before > 1)
        return;
    switch (o->type) {
    case KOBJ_PD:
        pd_destroy(container_of(o, struct pd, obj));
        break;
    case KOBJ_EC:
        ec_destroy(container_of(o, struct ec, obj));
        break;
    case KOBJ_SC:
        sc_destroy(container_of(o, struct sc, obj));
        break;
    case KOBJ_PT:
        pt_destroy(container_of(o, struct pt, obj));
        break;
    case KOBJ_SM:
        sm_destroy(container_of(o, struct sm, obj));
        break;
    default:
        assert(!"kobj type");
    }
}

bool kobj_cap_get(struct kobj *o) {
    if (!kobj_tryget(o))
        return false;
    atomic_fetch_add(&o->caps, 1);
    return true;
}

void kobj_cap_put(struct kobj *o) {
    u32 before = atomic_fetch_add(&o->caps, -1);
    assert(before);
    if (before == 1 && o->type == KOBJ_PD)
        pd_die(container_of(o, struct pd, obj));
    if (before == 2 && o->type == KOBJ_SM)
        sm_unused(container_of(o, struct sm, obj));
    kobj_put(o);
}
