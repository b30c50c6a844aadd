#include "pvclock.h"

#include "mem.h"

struct pv_time {
    uint32_t version, pad0;
    uint64_t tsc_timestamp, system_time;
    uint32_t mul;
    int8_t shift;
    uint8_t flags, pad[2];
};
_Static_assert(sizeof(struct pv_time) == 32, "KVM paravirtual ABI");

enum { PV_TSC_STABLE = 1 };

struct tsc_scale tsc_scale_of(uint64_t tsc_khz) {
    uint64_t hz = tsc_khz * 1000;
    struct tsc_scale s = {0};

    while (hz > 2000000000ull) {
        hz >>= 1;
        s.shift--;
    }
    while (hz <= 1000000000ull && hz) {
        hz <<= 1;
        s.shift++;
    }
    s.mul = hz ? (uint32_t)((1000000000ull << 32) / hz) : 0;
    return s;
}

uint64_t tsc_scale_ns(struct tsc_scale s, uint64_t ticks) {
    unsigned __int128 t = s.shift < 0 ? ticks >> -s.shift : (unsigned __int128)ticks << s.shift;

    return (uint64_t)(t * s.mul >> 32);
}

bool pvclock_system_write(const struct gmem *g, uint64_t gpa, struct tsc_scale s, uint64_t base_tsc) {
    struct pv_time t = {
        .version = 2, .tsc_timestamp = base_tsc, .mul = s.mul, .shift = s.shift, .flags = PV_TSC_STABLE};
    uint8_t *p = gmem_ptr(g, gpa, sizeof(t));

    if (!p)
        return false;
    /* an odd version tells readers that an update is going on */
    uint32_t version = (mem_read32(p) | 1) + 1;
    mem_write32(p, version | 1);
    mem_copy_to(p + 4, (const uint8_t *)&t + 4, sizeof(t) - 4);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    mem_write32(p, version + 2);
    return true;
}

bool pvclock_wall_write(const struct gmem *g, uint64_t gpa, uint64_t wall_ns_at_zero) {
    uint32_t t[3] = {2, (uint32_t)(wall_ns_at_zero / 1000000000), (uint32_t)(wall_ns_at_zero % 1000000000)};

    return gmem_write(g, gpa, t, sizeof(t));
}
