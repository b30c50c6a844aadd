/* DMA remapping: a device reaches the memory that its PD holds with the D bit, at the addresses it has there, and nothing else.
 * Intel VT-d (specification 4.0), over the MMIO accessors of mach/insn.h; all units share one set of root and context tables. */
#pragma once
#include "arch/types.h"
#include "core/status.h"
struct pd;
/* Boot CPU, once, when kmem works: `regs` are the register pages. From then on devices reach no memory at all. Returns HIP_IOMMU, or
 * 0 with a log line that says what is missing: then nothing is confined, for no device. */
u32 arch_iommu_init(const u64 *regs, unsigned count);
/* The device with this routing id (PCI bus 8-15, device 3-7, function 0-2) belongs to pd from now on, and to nobody else. BAD_DEV
 * without IOMMU, BAD_CAP if pd is dying, BAD_MEM. No locks held. */
must_check enum abi_status arch_iommu_attach(struct pd *pd, u16 rid);
/* pd dies: its devices reach nothing any more when this returns. No locks held. */
void arch_iommu_detach(struct pd *pd);
/* Logs what a unit has refused since the last time: a line in a second at most. What comes meanwhile is lost, as in the unit's records. No locks held. */
void arch_iommu_poll(void);
/* Returns when no unit holds a translation of pd that was made before the call. No locks held. */
void arch_iommu_flush(struct pd *pd);
