#include "core/kobj.h"
#include "arch/assert.h"
#include "arch/cpu.h"
#include "core/ec.h"
#include "core/pd.h"
#include "core/pt.h"
#include "core/sc.h"
#include "core/sm.h"

static u32 next_tree; /* atomic: spreads objects over the tree locks; two may get the same */

void kobj_init(struct kobj *o, enum kobj_type type, struct pd *owner) {
    o->type = (u8)type;
    o->tree = atomic_load_rlx(&next_tree);
    atomic_store_rlx(&next_tree, o->tree + 1);
    o->owner = owner;
    atomic_store_rel(&o->refs, 1); /* the creator's */
}

void *kobj_alloc(struct slab_cache *c, enum kobj_type type, struct pd *owner) {
    if (!kobj_tryget(&owner->obj))
        return NULL;
    struct kobj *o = slab_alloc(c, &owner->account);
    if (likely(o))
        kobj_init(o, type, owner);
    else
        kobj_put(&owner->obj);
    return o;
}

void kobj_free(struct slab_cache *c, struct kobj *o) {
    struct pd *owner = o->owner;
    slab_free(c, &owner->account, o);
    kobj_put(&owner->obj);
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

void kobj_cap_gone(struct kobj *o, u32 left) {
    assert(left != ~0u);
    if (left == 1 && o->type == KOBJ_SM)
        sm_unused(container_of(o, struct sm, obj));
    if (left)
        return;
    if (o->type == KOBJ_PD)
        pd_die(container_of(o, struct pd, obj));
    kobj_put(o);
}
