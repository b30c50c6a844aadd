/* Every live piece of kernel memory, in order of allocation but for holes that the last one fills. */
#include "arch/assert.h"
#include "arch/mem.h"
#include "core/ec.h"
#include "core/pd.h"
#include "core/pt.h"
#include "core/sc.h"
#include "core/sm.h"
#include "sim/check.h"

#define GRANULE 8u  /* smallest distance of two allocations */
#define NOISE   16u /* the allocator makes the head of a free block accessible: not an allocation */

struct sim_alloc *sim_allocs; /* both as large as they can ever get: only what is used costs memory */
static u32 *index_of;         /* by address: place in sim_allocs + 1 */
u32 sim_alloc_count;

static u32 *slot_of(const void *p) { return &index_of[arch_ptr_phys(p).v / GRANULE]; }

void sim_alloc_on(void *p, size_t size) {
    if (size <= NOISE)
        return;
    if (!sim_allocs) {
        sim_allocs = sim_memory(SIM_ARENA_SIZE / 64 * sizeof(*sim_allocs));
        index_of = sim_memory(SIM_ARENA_SIZE / GRANULE * sizeof(*index_of));
    }
    u32 *slot = slot_of(p);
    if (!*slot)
        *slot = ++sim_alloc_count;
    sim_allocs[*slot - 1] = (struct sim_alloc){.p = p, .size = (u32)size};
}

static void drop(u32 *slot) {
    struct sim_alloc *a = &sim_allocs[*slot - 1], *last = &sim_allocs[--sim_alloc_count];
    *slot = 0;
    if (a != last) {
        *a = *last;
        *slot_of(a->p) = (u32)(a - sim_allocs) + 1;
    }
}

/* A block of pages goes as a whole; a slab's object keeps its first word, the link of the free list. */
void sim_alloc_off(void *p, size_t size) {
    u32 *slot = sim_allocs ? slot_of(p) : NULL;
    if (!slot)
        return;
    if (*slot && sim_allocs[*slot - 1].size == size)
        drop(slot);
    else if (*--slot && sim_allocs[*slot - 1].size == size + GRANULE)
        drop(slot);
}

struct sim_alloc *sim_alloc_at(const void *p) {
    u64 at = arch_ptr_phys(p).v;
    if (!sim_allocs || at >= SIM_ARENA_SIZE || at % GRANULE || !*slot_of(p))
        return NULL;
    return &sim_allocs[*slot_of(p) - 1];
}

#define SLOT(type, align) ((sizeof(struct type) + (align)-1) & ~((align)-1ul))
static_assert(SLOT(pt, 32) == SLOT(sm, 32), "told apart by their type");
static_assert(SLOT(pd, 32) != SLOT(ec, 32) && SLOT(pd, 32) != SLOT(sc, 32) && SLOT(pd, 32) != SLOT(pt, 32) &&
                  SLOT(ec, 32) != SLOT(sc, 32) && SLOT(ec, 32) != SLOT(pt, 32) && SLOT(sc, 32) != SLOT(pt, 32),
              "told apart by their size");
static_assert(sizeof(struct node) % 32 && sizeof(struct node) % 8 == 0, "no object has the size of a node");

static void *object(const struct sim_alloc *a, size_t slot, enum kobj_type type) {
    return a->size == slot && ((struct kobj *)a->p)->type == type ? a->p : NULL;
}
struct pd *sim_alloc_pd(const struct sim_alloc *a) {
    return object(a, SLOT(pd, 32), KOBJ_PD);
}
struct ec *sim_alloc_ec(const struct sim_alloc *a) {
    return object(a, SLOT(ec, 32), KOBJ_EC);
}
struct sc *sim_alloc_sc(const struct sim_alloc *a) {
    return object(a, SLOT(sc, 32), KOBJ_SC);
}
struct pt *sim_alloc_pt(const struct sim_alloc *a) {
    return object(a, SLOT(pt, 32), KOBJ_PT);
}
struct sm *sim_alloc_sm(const struct sim_alloc *a) {
    return object(a, SLOT(sm, 32), KOBJ_SM);
}
struct kobj *sim_alloc_kobj(const struct sim_alloc *a) {
    bool is = sim_alloc_pd(a) || sim_alloc_ec(a) || sim_alloc_sc(a) || sim_alloc_pt(a) || sim_alloc_sm(a);
    return is ? a->p : NULL;
}
