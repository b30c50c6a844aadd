/* Paravirtual clock as Linux knows it from KVM (Linux documentation, "KVM-specific MSRs"): the guest names a page per CPU with
 * an enable bit and one place for the wall clock; time = system_time + scaled (TSC - tsc_timestamp). */
#pragma once
#include "gmem.h"

#define MSR_PVCLOCK_WALL   0x4b564d00u
#define MSR_PVCLOCK_SYSTEM 0x4b564d01u

struct tsc_scale {
    uint32_t mul;
    int8_t shift;
};

/* ns = ((ticks << shift) * mul) >> 32, for that frequency. */
struct tsc_scale tsc_scale_of(uint64_t tsc_khz);
uint64_t tsc_scale_ns(struct tsc_scale s, uint64_t ticks);

/* base_tsc: guest TSC at VM time 0. False: the address is not RAM. */
bool pvclock_system_write(const struct gmem *g, uint64_t gpa, struct tsc_scale s, uint64_t base_tsc);
bool pvclock_wall_write(const struct gmem *g, uint64_t gpa, uint64_t wall_ns_at_zero);
