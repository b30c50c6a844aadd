/* The invariant walk, between its files. Every function proves what its comment says, of all structures there are, and panics where
 * it does not hold; no CPU is inside the kernel meanwhile. docs/simulator.md "Invariants" has the list. */
#pragma once
#include "arch/ptab.h"
#include "core/space.h"
#include "sim/cap.h"
#include "sim/internal.h"

/* alloc.c: what the kernel's allocator has handed out, learnt from the seam (arch_mem_unpoison, arch_mem_poison). */
struct sim_alloc {
    void *p;
    u32 size;       /* bytes of the slab's slot, or of the block of pages */
    u32 refs, caps; /* counted by the walk: what should be in the object */
    bool claimed;   /* by the one structure that owns it */
    bool pending;   /* in the list of a CPU's RCU callbacks */
    bool boot;      /* there before root ran, and for ever */
    u64 charged;    /* PD: bytes that its account should have */
};
void sim_alloc_on(void *p, size_t size);
void sim_alloc_off(void *p, size_t size);
struct sim_alloc *sim_alloc_at(const void *p); /* that begins at p, or NULL */
extern struct sim_alloc *sim_allocs;
extern u32 sim_alloc_count;
#define SIM_EACH(a) for (struct sim_alloc *a = sim_allocs; (a) != sim_allocs + sim_alloc_count; (a)++)
/* What a record holds: sizes of the slab caches are all different, or the type stands in the object. */
struct kobj *sim_alloc_kobj(const struct sim_alloc *a);
static inline struct node *sim_alloc_node(const struct sim_alloc *a) {
    return a->size == sizeof(struct node) ? a->p : NULL;
}
struct ec *sim_alloc_ec(const struct sim_alloc *a);
struct sc *sim_alloc_sc(const struct sim_alloc *a);
struct sm *sim_alloc_sm(const struct sim_alloc *a);
struct pt *sim_alloc_pt(const struct sim_alloc *a);
struct pd *sim_alloc_pd(const struct sim_alloc *a);
#define SIM_EACH_OBJECT(a, tag, v)                                                                                     \
    SIM_EACH (a)                                                                                                       \
        for (struct tag *v = sim_alloc_##tag(a); v; v = NULL)

/* check_space.c: one of a PD's spaces. */
void space_check_type(const struct pd *pd, unsigned type);
/* The first node from a selector on, without a scheduling point. */
struct node *sim_node_from(const struct pd *pd, unsigned type, u64 sel);
/* Of the root's entries; leaves have 0. */
unsigned sim_table_level(const struct ptab *t);
/* Calls f for every leaf of a table: 2^order pages from vpn on. */
void sim_table_each(const struct ptab *t, void (*f)(void *ctx, u64 vpn, unsigned order, u64 pfn, unsigned perm),
                    void *ctx);
/* check_run.c: who runs, waits, helps and calls. */
void sim_check_run(void);
void sim_check_run_on(const struct cpu *c); /* what a call on c can have changed without a lock */
/* check_mem.c: references, accounts, kernel memory. */
void sim_check_references(void);
void sim_check_memory(void); /* references among it */
/* check_tlb.c: translations that a CPU still holds. */
void sim_check_translations(void);
void sim_check_tlb(const struct cpu *c);
