/* Atomics of the simulator: a scheduling point, then the builtin. All CPUs share one host thread, so only the point matters. */
#pragma once
#include <mach/point.h>

#define atomic_load_rlx(p)                                                                                             \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_load_n((p), __ATOMIC_RELAXED);                                                                        \
    })
#define atomic_load_acq(p)                                                                                             \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_load_n((p), __ATOMIC_ACQUIRE);                                                                        \
    })
#define atomic_store_rlx(p, v)                                                                                         \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_store_n((p), (v), __ATOMIC_RELAXED);                                                                  \
    })
#define atomic_store_rel(p, v)                                                                                         \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_store_n((p), (v), __ATOMIC_RELEASE);                                                                  \
    })
#define atomic_xchg(p, v)                                                                                              \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL);                                                               \
    })
#define atomic_fetch_add(p, v)                                                                                         \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL);                                                                \
    })
#define atomic_fetch_or(p, v)                                                                                          \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL);                                                                 \
    })
#define atomic_fetch_and(p, v)                                                                                         \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL);                                                                \
    })
#define atomic_cas(p, e, v)                                                                                            \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_compare_exchange_n((p), (e), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);                         \
    })
#define atomic_fence()                                                                                                 \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_thread_fence(__ATOMIC_SEQ_CST);                                                                       \
    })
