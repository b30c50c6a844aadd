/* A scheduling point: another simulated CPU may go on here. Virtual time moves with the points. Outside a run (unit tests that
 * only link the library) it does nothing. */
#pragma once
#include "arch/types.h"

#define SIM_POINT_TICKS 10 /* 1 us at the simulator's TSC frequency */

extern u64 sim_now;  /* TSC of all CPUs */
extern i64 sim_fuel; /* points until the scheduler wants to be asked */
void sim_point_slow(void);

static inline void sim_point(void) {
    sim_now += SIM_POINT_TICKS;
    if (unlikely(--sim_fuel < 0))
        sim_point_slow();
}
