/* Who am I, and what a CPU can do besides computing. `struct cpu` is core's (core/cpu.h); its first member
 * `struct mach_cpu mach` is the backend's, defined in mach/cpu.h. */
#pragma once
#include "arch/types.h"
/* FS and GS base of the thread on this CPU (FSGSBASE). */
struct arch_bases {
    u64 fs, gs;
};
#include <mach/cpu.h>

struct cpu;
/* From mach/cpu.h, inline:
 *   struct cpu *arch_cpu_self(void);            this CPU
 *   u64 arch_clock(void);                       monotonic, in TSC ticks, the same on all CPUs
 *   void arch_cpu_relax(void);                  in every wait loop
 *   bool arch_preempt_pending(void);            preemption point: lets pending interrupts in for a moment (they only do core_interrupt,
 *                                               core_ipi, core_timer: mark, never switch), then says whether this CPU has a hazard set
 *   struct arch_bases arch_bases_read(void);                                        the CPU's
 *   void arch_bases_switch(struct arch_bases *from, const struct arch_bases *to);   the CPU's to `from`, then to's into the CPU
 * The caller of arch_preempt_pending holds no lock. */
/* Waits for the next interrupt, with interrupts let in (their core_* work is done on return). Returns at once if a hazard is set. */
void arch_cpu_idle(void);
/* One character of kernel log to serial. Any CPU, any time; never blocks for ever. */
void arch_putc(char c);
/* Kicks `cpu` (a logical number) out of user mode, guest mode or idle: it will run core_ipi(). Lossless, cheap to repeat. */
void arch_ipi_send(unsigned cpu);
/* The one deadline of this CPU: core_timer() is called on it at or after absolute TSC `tsc`. ~0: none. Replaces the earlier one.
 * In the past: at once when interrupts are let in. */
void arch_deadline_set(u64 tsc);
/* Interrupts of devices. Called with no lock held except the GSI's own. Unknown GSIs were refused before. */
void arch_irq_mask(unsigned gsi);
void arch_irq_unmask(unsigned gsi);
/* Routes gsi to cpu with trigger and polarity; for MSI (gsi without a pin) only reserves. Fills the message an MSI device must send. */
void arch_irq_route(unsigned gsi, unsigned cpu, bool level, bool low, u32 *msi_addr, u32 *msi_data);
bool arch_irq_has_pin(unsigned gsi);
/* Trigger and polarity at boot: MADT overrides, else edge/high below 16 and level/low above (ABI section 5). */
bool arch_irq_default_level(unsigned gsi);
bool arch_irq_default_low(unsigned gsi);
