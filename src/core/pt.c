#include "core/pt.h"
#include "core/ec.h"
#include "core/pd.h"

static struct slab_cache pt_cache = {.name = "pt", .size = sizeof(struct pt), .align = 32};

struct pt *pt_create(struct pd *owner, struct ec *ec, u32 mtd, u64 ip) {
    struct pt *pt = kobj_alloc(&pt_cache, KOBJ_PT, owner);
    if (!pt)
        return NULL;
    kobj_get(&ec->obj);
    pt->ec = ec;
    pt->mtd = mtd;
    pt->event_words = mtd & ABI_MTD_EXT ? ABI_STATE_EXT_WORDS : ABI_STATE_WORDS;
    pt->ip = ip;
    return pt;
}

static void pt_free(struct rcu_head *h) {
    struct pt *pt = container_of(h, struct pt, obj.rcu);
    kobj_put(&pt->ec->obj);
    kobj_free(&pt_cache, &pt->obj);
}

void pt_destroy(struct pt *pt) { rcu_call(&pt->obj.rcu, pt_free); }
