/* TLB shootdown: host and guest translations of one PD, on all CPUs. Called without locks. */
#pragma once
#include "arch/types.h"
struct pd;
struct cpu;
/* Returns when no CPU and no IOMMU holds a stale translation of pd's tables (NODE_HOST, _GUEST, _DMA) made before the call. IPIs first,
 * then waits; while waiting it serves only this CPU's own mailbox. */
void shoot_down(struct pd *pd, unsigned tables);
/* Serves this CPU's mailbox (from core_ipi, from waits). */
void shoot_serve(struct cpu *c);
