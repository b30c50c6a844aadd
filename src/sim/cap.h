/* A capability taken apart, for the simulator and tests. */
#pragma once
#include "core/space.h"
struct cap {
    struct kobj *obj; /* NULL: none */
    unsigned perm;
};
static inline struct cap objtab_lookup(const struct objtab *t, u64 sel) {
    u64 cap = objtab_cap(t, sel);
    return (struct cap){.obj = CAP_OBJECT(cap), .perm = cap & 0xff};
}
