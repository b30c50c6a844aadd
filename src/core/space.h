/* The three spaces of a PD (memory, ports, objects) and the derivation trees that connect the spaces of all PDs.
 *
 *   space A                     space B                    A node is one delegated range: naturally aligned, 2^order selectors in
 *   node [0x100,o4] <--parent-- node [0x40,o2]             its space, the same size in what it names (page frames, ports, one
 *        |                           ^                     object). Descendants hold parts of it with no more permissions.
 *        `--children list------------'
 *
 * In one space nodes never overlap. Nodes are freed by RCU, so a pointer found under the space's lock stays valid for
 * the rest of the kernel entry; whether it is still alive is read again under its tree's lock (hashed by node->tree). */
#pragma once
#include "arch/assert.h"
#include "arch/ptab.h"
#include "arch/spin.h"
#include "core/kobj.h"

struct node {
    u64 base;   /* first selector (page number, port, object selector), aligned to 2^order */
    u64 source; /* first page frame or port; objects: struct kobj pointer */
    struct pd *pd;
    struct node *parent; /* NULL: top of its tree */
    u32 tree;
    u8 type; /* CRD_MEM, CRD_PIO, CRD_OBJ */
    u8 order;
    u8 perm;            /* 0: gone */
    u8 tables;          /* NODE_* */
    u8 barred;          /* permissions that a revoke on its way up is about to remove: not delegated any more */
    u32 prio;           /* of the index; of a capability that has gone: how many its object had left */
    struct node *child; /* first of the list linked by next/prev */
    struct node *next, *prev;
    struct node *left, *right; /* index of the space (space_index.c); not of objects, which the object table has */
    struct rcu_head rcu;
};
enum node_tables {
    NODE_HOST = 1,
    NODE_GUEST = 2,
    NODE_DMA = 4,
    NODE_TABLES = NODE_HOST | NODE_GUEST | NODE_DMA,
    NODE_UTCB = 8,   /* a UTCB page: revocable, never delegated or translated */
    NODE_FIXED = 16, /* kernel-owned (HIP, image): ordinary for revoke, no source tree */
    NODE_NX = 32,    /* not executable in the host table, whatever perm says */
};

struct space {
    struct spinlock lock; /* rank space: index, table writes */
    struct node *root;    /* index by base */
    struct node *recent;  /* what space_find found last, if it is in the index */
    u32 flushing; /* revokes that have changed tables and not flushed yet: who installs over such a range flushes himself, too */
    u32 objects; /* nodes in the object table */
};

/* Object space: three levels of one page each (9 + 9 + 8 bits of the selector, modulo SEL), read without a lock. A capability is one word, so
 * that a reader sees all of it of the same moment: object in bits 16-63, its type in bits 8-15, permissions below; 0: none. */
union objtab_page {
    union objtab_page *below[512]; /* atomic; never NULL */
    struct {
        u64 cap[256];           /* atomic */
        struct node *node[256]; /* atomic: set before its capability, cleared after it */
    };
};
extern const union objtab_page
    objtab_empty[3]; /* what stands for a page of level n (0: capabilities) that has nothing in it */
struct objtab {
    union objtab_page *root; /* atomic */
};
#define OBJTAB_INIT ((struct objtab){(union objtab_page *)&objtab_empty[2]})
static inline u64 *objtab_entry(const struct objtab *t, u64 sel) {
    union objtab_page *mid =
        atomic_load_acq(&atomic_load_acq(&t->root)->below[sel >> 17 & 511]); /* pairs with level_make */
    return &atomic_load_acq(&mid->below[sel >> 8 & 511])->cap[sel & 255];
}
static inline u64 objtab_cap(const struct objtab *t, u64 sel) { return atomic_load_acq(objtab_entry(t, sel)); }
static inline struct node **objtab_node(u64 *entry) { return (struct node **)(entry + 256); }
#define CAP_OBJECT(cap)     ((struct kobj *)((i64)(cap) >> 16))
#define CAP_HAS(type, perm) ((u64)(type) << 8 | (perm))
#define CAP_HAS_MASK(perm)  (0xff00ul | (perm))
must_check u64 *objtab_make(struct objtab *t, u64 sel, struct account *a);
static inline bool objtab_missing(const u64 *entry) { return (u64)entry - (u64)&objtab_empty[0] < PAGE_SIZE; }
/* The entry, to be set; NULL: no memory for its page. */
must_check static inline u64 *objtab_reserve(struct objtab *t, u64 sel, struct account *a) {
    u64 *entry = objtab_entry(t, sel);
    return likely(!objtab_missing(entry)) ? entry : objtab_make(t, sel, a);
}
static inline void objtab_set(u64 *entry, struct kobj *obj, unsigned perm, struct node *n) {
    u64 cap = obj ? (u64)obj << 16 | CAP_HAS(obj->type, perm) : 0;
    assert(!objtab_missing(entry) && perm <= 0xff && CAP_OBJECT(cap) == obj);
    if (obj)
        atomic_store_rel(objtab_node(entry), n);
    atomic_store_rel(entry, cap);
    if (!obj)
        atomic_store_rel(objtab_node(entry), NULL);
}
void objtab_free(struct objtab *t, struct account *a);

/* A work item that was interrupted at a preemption point and goes on from here. Zero it before the first call. */
struct space_progress {
    u64 pos; /* selectors of the request already done */
    u32 step;
};
enum space_result {
    SPACE_DONE,
    SPACE_AGAIN /* preempted: call again with the same arguments and progress */,
    SPACE_NOMEM,
    SPACE_RANGE /* of space_delegate_one */
};

/* New top capability of a fresh object at `sel`: BAD_CAP if occupied, BAD_MEM. SUCCESS: takes over the creator's reference. */
must_check enum abi_status space_cap_create(struct pd *pd, u64 sel, struct kobj *obj, unsigned perm);
/* New top node in pd's memory space (UTCB, HIP, image; the kernel's own ranges), mapped at once. BAD_PAR if occupied, BAD_CAP if pd is dying,
 * BAD_MEM. */
must_check enum abi_status space_mem_create(struct pd *pd, u64 vpn, u64 pfn, unsigned order, unsigned perm,
                                            unsigned tables);
/* A top node without tables: what the kernel PD may hand out (memory, ports). */
must_check enum abi_status space_source_create(struct pd *pd, unsigned type, u64 base, u64 source, unsigned order,
                                               unsigned perm);

/* The EC of a UTCB goes: unmaps it if [vpn] still is that UTCB's page (pfn); flushes. No locks held. */
void space_utcb_remove(struct pd *pd, u64 vpn, u64 pfn);

/* One delegate item (section 2): from src's range `crd` at `hotspot` into dst's window. *out: the CRD that the receiver sees. */
must_check enum space_result space_delegate_range(struct pd *src, struct pd *dst, u64 crd, u64 hotspot_and_flags,
                                                  u64 window, u64 *out, struct space_progress *p);
/* The same where it is one object or page to a free selector, as most often. SPACE_RANGE: it is not, and nothing is done. */
must_check enum space_result space_delegate_one(struct pd *src, struct pd *dst, u64 crd, u64 hotspot_and_flags,
                                                u64 window, u64 *out);
must_check static inline enum space_result space_delegate(struct pd *src, struct pd *dst, u64 crd,
                                                          u64 hotspot_and_flags, u64 window, u64 *out,
                                                          struct space_progress *p) {
    enum space_result result = space_delegate_one(src, dst, crd, hotspot_and_flags, window, out);
    return likely(result != SPACE_RANGE) ? result
                                         : space_delegate_range(src, dst, crd, hotspot_and_flags, window, out, p);
}
/* One translate item: src's range back to dst's selectors. */
u64 space_translate(struct pd *src, struct pd *dst, u64 crd, u64 window);
/* Removes crd's permissions from all descendants of pd's range, with `self` from the range too. */
must_check enum space_result space_revoke(struct pd *pd, u64 crd, bool self, struct space_progress *p);
/* The node that covers crd's base as a CRD, or 0. */
u64 space_lookup(struct pd *pd, u64 crd);
/* Empties all three spaces of a dying PD as by revoke with self, a bounded step per call; SPACE_DONE when all are empty and the tables freed. */
must_check enum space_result space_clear(struct pd *pd, struct space_progress *p);
/* Nodes that a revoke looks at between two preemption points; delegation: twice the leaves it writes. Tests make it small. */
extern i64 space_step_work;
