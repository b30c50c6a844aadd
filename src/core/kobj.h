/* What the five objects have in common: type, reference count, account, destruction after a grace period. */
#pragma once
#include "arch/atomic.h"
#include "arch/types.h"
#include "core/kmem.h"
#include "core/rcu.h"

enum kobj_type { KOBJ_NONE, KOBJ_PD, KOBJ_EC, KOBJ_SC, KOBJ_PT, KOBJ_SM };
struct pd;
struct kobj {
    u8 type;
    u8 dead;          /* atomic: the last reference is gone, or (PD) the last capability */
    u32 refs;         /* atomic: links from other objects, and one for all capabilities */
    u32 caps;         /* capabilities: under the lock of their tree */
    u32 tree;         /* derivation tree of its capabilities (node.tree) */
    struct pd *owner; /* charged; a reference on the owner's shell. NULL: the kernel */
    struct rcu_head rcu;
};
/* With its creator's reference; takes over one on the owner. */
void kobj_init(struct kobj *o, enum kobj_type type, struct pd *owner);
/* A zeroed object (it begins with its struct kobj), charged to its owner. NULL: no memory; or the owner dies, and is not found a second time. */
must_check void *kobj_alloc(struct slab_cache *c, enum kobj_type type, struct pd *owner);
/* After its grace period: its memory, and the reference on its owner. */
void kobj_free(struct slab_cache *c, struct kobj *o);
/* A further reference from somebody who holds one already. */
void kobj_get(struct kobj *o);
/* A reference from a pointer that is only protected by RCU: false if the object is dying. */
must_check bool kobj_tryget(struct kobj *o);
/* Drops one; the last one runs the type's own destructor, now or on the home CPU, and frees after a grace period. */
void kobj_put(struct kobj *o);
/* A capability has gone and left so many: without locks. A PD dies with its last one, which drops their reference. */
void kobj_cap_gone(struct kobj *o, u32 left);
