/* Portal: the only way into another PD. */
#pragma once
#include "core/kobj.h"
struct ec;
struct pt {
    struct kobj obj;
    struct ec *ec;        /* referenced; local thread */
    u32 mtd, event_words; /* state that its events carry, and how long that message is */
    u64 ip;
    u64 id; /* atomic */
};
must_check struct pt *pt_create(struct pd *owner, struct ec *ec, u32 mtd, u64 ip);
void pt_destroy(struct pt *pt);
