/* Atomics of the simulator: a scheduling point, then the builtin. All CPUs share one host thread, so only the point matters, and
 * (with store buffers) when others see a store: locked operations and the fence let all earlier ones out. */
#pragma once
#include <mach/point.h>
#include <mach/storebuf.h>

#define ATOMIC_LOAD(p, order)                                                                                          \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        __atomic_load_n((p), order);                                                                                   \
    })
#define ATOMIC_STORE(p, v, order)                                                                                      \
    ({                                                                                                                 \
        __auto_type at_ = (p);                                                                                         \
        __typeof__(*at_) value_ = (v);                                                                                 \
        sim_point();                                                                                                   \
        sim_hash_store(at_, (u64)value_);                                                                              \
        sim_store_delayed(at_, sizeof(*at_));                                                                          \
        __atomic_store_n(at_, value_, order);                                                                          \
    })
#define ATOMIC_LOCKED(operation)                                                                                       \
    ({                                                                                                                 \
        sim_point();                                                                                                   \
        sim_stores_done();                                                                                             \
        operation;                                                                                                     \
    })

#define atomic_load_rlx(p)     ATOMIC_LOAD(p, __ATOMIC_RELAXED)
#define atomic_load_acq(p)     ATOMIC_LOAD(p, __ATOMIC_ACQUIRE)
#define atomic_store_rlx(p, v) ATOMIC_STORE(p, v, __ATOMIC_RELAXED)
#define atomic_store_rel(p, v) ATOMIC_STORE(p, v, __ATOMIC_RELEASE)

#define atomic_xchg(p, v)      ATOMIC_LOCKED(__atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL))
#define atomic_fetch_add(p, v) ATOMIC_LOCKED(__atomic_fetch_add((p), (v), __ATOMIC_ACQ_REL))
#define atomic_fetch_or(p, v)  ATOMIC_LOCKED(__atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL))
#define atomic_fetch_and(p, v) ATOMIC_LOCKED(__atomic_fetch_and((p), (v), __ATOMIC_ACQ_REL))
#define atomic_cas(p, e, v)                                                                                            \
    ATOMIC_LOCKED(__atomic_compare_exchange_n((p), (e), (v), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
#define atomic_count(p) atomic_store_rlx(p, *(p) + 1)
#define atomic_fence()  ATOMIC_LOCKED(__atomic_thread_fence(__ATOMIC_SEQ_CST))
