/* Store buffers (src/sim/storebuf.c) as the atomics see them. Off: one predictable branch. */
#pragma once
#include "arch/types.h"

extern bool sim_storebuf; /* a run with store buffers is under way */
void sim_storebuf_push(void *at, unsigned size);
void sim_storebuf_drain(void);

/* The next thing that this CPU does is a plain store of `size` bytes. */
static inline void sim_store_delayed(void *at, unsigned size) {
    if (unlikely(sim_storebuf))
        sim_storebuf_push(at, size);
}
/* What a locked or serializing instruction does to this CPU's earlier stores: they become visible. */
static inline void sim_stores_done(void) {
    if (unlikely(sim_storebuf))
        sim_storebuf_drain();
}
