/* What the five objects have in common: type, reference count, account, destruction after a grace period. */
#pragma once
#include "arch/atomic.h"
#include "arch/types.h"
#include "core/rcu.h"

enum kobj_type { KOBJ_NONE, KOBJ_PD, KOBJ_EC, KOBJ_SC, KOBJ_PT, KOBJ_SM };
struct pd;
struct kobj {
    u8 type;
    u8 dead;          /* atomic: the last reference is gone, or (PD) the last capability */
    u32 refs;         /* atomic: capabilities and links from other objects */
    u32 caps;         /* atomic: capabilities among them */
    u32 tree;         /* derivation tree of its capabilities (node.tree) */
    struct pd *owner; /* charged; a reference on the owner's shell. NULL: the kernel */
    struct rcu_head rcu;
};
void kobj_init(struct kobj *o, enum kobj_type type, struct pd *owner);
/* A further reference from somebody who holds one already. */
void kobj_get(struct kobj *o);
/* A reference from a pointer that is only protected by RCU: false if the object is dying. */
must_check bool kobj_tryget(struct kobj *o);
/* Drops one; the last one runs the type's own destructor, now or on the home CPU, and frees after a grace period. */
void kobj_put(struct kobj *o);
/* A capability appears or goes: a reference each, and a PD dies with its last capability. */
must_check bool kobj_cap_get(struct kobj *o);
void kobj_cap_put(struct kobj *o);
