/* Reference model of the capability interface, written from kernel-abi.md (sections 1, 2, 5, 8) and not from the kernel: a capability is
 * one selector of one space; whatever concerns a range concerns its selectors one by one. Slow, small, obvious. A model is a value: it
 * can be copied, changed and thrown away. lockstep.c compares it with the kernel. */
#pragma once
#include "arch/types.h"
#include "core/abi.h"

enum model_object_type { MODEL_PD = 1, MODEL_EC, MODEL_SC, MODEL_PT, MODEL_SM };
enum model_thread { MODEL_LOCAL, MODEL_GLOBAL, MODEL_VCPU };
enum { MODEL_HOST = 1, MODEL_GUEST = 2, MODEL_DMA = 4 };
#define MODEL_KERNEL (-1) /* the PD that `H` delegates from: it has what kernel_has says */

struct model_cap {
    i32 pd; /* object number; -1: free */
    u8 type, perm;
    u8 tables; /* memory and ports: where it is entered */
    i32 utcb;  /* memory: page of this EC's UTCB; -1: ordinary */
    u64 sel;
    u64 what; /* page frame, port, object number */
    i32 parent, child, next, prev;
    i32 hash; /* next in its bucket */
    u32 seen; /* for who compares */
};
struct model_object {
    u64 token;       /* its name outside of the model */
    u8 type;         /* enum model_object_type */
    u8 thread;       /* EC */
    bool root, dead; /* PD: dead with its last capability */
    bool sc_lingers; /* EC: an SC without capability may still be bound to it */
    i32 ec;          /* PT, SC */
    u32 caps;
    i32 older; /* next in the list of its token's hash */
};
#define MODEL_LISTS 1024
struct model {
    struct model_cap *cap;
    struct model_object *object;
    i32 *bucket;
    i32 newest[MODEL_LISTS]; /* objects by token */
    i32 caps, free_cap, objects, live;
    bool too_large; /* more capabilities than it holds: says nothing from here on */
    /* What the kernel PD has at sel: nothing (false), or `what`, for objects a token. */
    bool (*kernel_has)(unsigned type, u64 sel, u64 *what);
};
void model_init(struct model *m, bool (*kernel_has)(unsigned, u64, u64 *));
void model_clear(struct model *m);
void model_copy(struct model *to, const struct model *from);

i32 model_object_add(struct model *m, unsigned type, u64 token);
i32 model_object_find(const struct model *m, u64 token);       /* -1: none */
i32 model_cap_add(struct model *m, const struct model_cap *c); /* -1: too large */
i32 model_find(const struct model *m, i32 pd, unsigned type, u64 sel);
/* It and everything derived from it. */
void model_remove(struct model *m, i32 cap);
/* Number of the object behind a selector that has this type and one or all (all) of these permissions, or -1. */
i32 model_lookup_object(const struct model *m, i32 pd, u64 sel, unsigned type, unsigned perm, bool all);
/* Is on its way: its PD or one that it comes from is dead, or it is the UTCB of an EC that nothing refers to. */
bool model_fades(const struct model *m, i32 cap);
/* All that fade are gone. Returns how many there were. */
unsigned model_fade(struct model *m);

/* One delegate item; what the receiver sees is returned. */
u64 model_delegate(struct model *m, i32 src, i32 dst, u64 crd, u64 item, u64 window);
void model_revoke(struct model *m, i32 pd, u64 crd, bool self);
/* May the kernel answer this? */
bool model_translate_ok(const struct model *m, i32 src, i32 dst, u64 crd, u64 window, u64 got);
bool model_lookup_ok(const struct model *m, i32 pd, u64 crd, u64 got);

/* A create_* hypercall (section 5). `status` is the kernel's answer; false: it must not be. Success changes the model. */
struct model_create {
    u64 rdi, rsi, rdx, rax, r8;
    unsigned status;
    u64 token; /* of the new object */
    unsigned cpus;
    bool vcpus;     /* the machine has them */
    bool no_memory; /* BAD_MEM is an answer */
};
bool model_create(struct model *m, i32 pd, const struct model_create *c);
