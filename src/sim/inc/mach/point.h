/* A scheduling point: another simulated CPU may go on here. Virtual time moves with the points. Outside a run (unit tests that
 * only link the library) it does nothing. And the trace hash, which the stores of page tables and object tables feed. */
#pragma once
#include "arch/types.h"

#define SIM_POINT_TICKS 10 /* 1 us at the simulator's TSC frequency */

extern u64 sim_now;  /* TSC of all CPUs */
extern i64 sim_fuel; /* points until the scheduler wants to be asked */
void sim_point_slow(void);

__attribute__((no_sanitize_thread)) static inline void sim_point(void) {
    sim_now += SIM_POINT_TICKS;
    if (unlikely(--sim_fuel < 0))
        sim_point_slow();
}

extern u64 sim_hash_state;
static inline void sim_hash_mix(u64 v) {
    sim_hash_state = (sim_hash_state ^ v) * 0x100000001b3ul ^ (sim_hash_state >> 29);
}
/* An atomic store of a word. Those to kernel memory are hashed: page tables, object tables. */
void sim_hash_store(const volatile void *p, u64 v);
