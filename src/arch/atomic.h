/* Words shared between CPUs are touched only through these (or under a lock). Supplied by the backend as inlines or
 * macros in mach/atomic.h, generic over integer and pointer types:
 *   atomic_load_rlx(p) atomic_load_acq(p)                 atomic_store_rlx(p,v) atomic_store_rel(p,v)
 *   atomic_xchg(p,v) (acq_rel)   atomic_cas(p,&expected,v) -> bool (acq_rel, strong)   atomic_fetch_add(p,v) atomic_fetch_or(p,v)
 *   atomic_fetch_and(p,v) (acq_rel, old value)            atomic_fence() (sc)
 *   atomic_count(p): one more in a word that only this CPU writes (not locked)
 * In the simulator each one is a scheduling point first. */
#pragma once
#include "arch/types.h"
#include <mach/atomic.h>
