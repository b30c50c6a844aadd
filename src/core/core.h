/* What a backend calls. Interrupts are off. `c` is this CPU. */
#pragma once
#include "arch/mitigate.h"
#include "arch/types.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/status.h"

struct boot_range {
    u64 base, size;
    i32 type; /* enum abi_hip_mem; -1 kernel image and everything else core must not hand out as free RAM */
};
struct boot_module {
    u64 base, size;
    u64 cmdline; /* physical address of a NUL-terminated string, 0: none */
};
struct acpi_mcfg;
struct boot_cpu {
    u8 thread, core, package, acpi_id;
};
/* What the backend found. Arrays belong to the backend and stay. */
struct boot_info {
    const struct boot_range *ranges; /* memory map, sorted, without overlap; kernel image and modules listed too */
    unsigned range_count;
    const struct boot_range *holes; /* never delegated, not even by H: register pages of LAPIC, IOAPIC, IOMMU */
    unsigned hole_count;
    const struct boot_module *modules; /* the first is root */
    unsigned module_count;
    const struct boot_cpu *cpus;
    unsigned cpu_count;
    const u64 *iommus; /* register pages of VT-d units */
    unsigned iommu_count;
    const struct acpi_mcfg *mcfg; /* configuration space of PCI devices */
    unsigned mcfg_count;
    const char *cmdline;
    u32 gsi_count; /* <= ABI_MAX_GSIS */
    u32 features;  /* enum abi_hip_feature */
    u32 tsc_khz;
    unsigned phys_bits;
    paddr_t pool_base; /* kernel pool: max(4 MiB, 1/64 of RAM), reserved by the backend, in ranges as kernel, too */
    u64 pool_size;
};
/* Once, on the boot CPU: memory, CPU structures (c->mach zero, c->id set), kernel PD, HIP. Failure: a clear line by klog and false. */
must_check bool core_init(const struct boot_info *b, struct cpu *boot_cpu);
/* On every CPU, the boot CPU first, before its first core_resume: idle EC and SC; CPU enabled in the HIP. */
must_check bool core_cpu_init(struct cpu *c);
/* On the boot CPU, when all CPUs are up: root PD, EC, SC from module 0. False: message logged. */
must_check bool core_root_init(struct cpu *c);

/* A hypercall of c->ec. Of its registers those that C keeps over a call may not be saved yet: they are neither read nor written. Which thread
 * runs next, as core_resume says, or NULL: core_resume knows, with all of them saved. */
struct ec *core_syscall(struct cpu *c);
/* Exception `regs.vec` of c->ec (a thread), error code in regs.err, fault address for #PF. #NM is resolved inside. */
struct ec *core_exception(struct cpu *c, u64 fault_addr);
/* c->ec (a vCPU) left guest mode with this event number (0-255, section 4); called by arch_vcpu_run. */
struct ec *core_vmexit(struct cpu *c, unsigned event);
/* Interrupt work, from user mode, guest mode, idle or a preemption point: marks, never switches. Then core_resume (not at preemption points). */
void core_interrupt(struct cpu *c, unsigned gsi);
void core_ipi(struct cpu *c);
void core_timer(struct cpu *c);
/* Routing id of the PCI device whose configuration page is at this address. */
must_check bool core_device(u64 addr, u16 *rid);
/* All of [pfn, pfn + pages) is RAM of one kind: free at boot, or the kernel's. */
must_check bool core_is_ram(u64 pfn, u64 pages);
/* The kernel's boot command line from *pos on; advances *pos, returns the bytes. */
u32 core_cmdline_read(u64 *pos, char *buf, u32 size);
/* What runs next on this CPU: an EC with cont CONT_USER (thread or vCPU; its space, FPU and bases are loaded), or the idle EC (CONT_IDLE). */
struct ec *core_resume(struct cpu *c);
/* Is c->ec a guest with nothing to be loaded, as after most replies to its events? Then arch_vcpu_run may follow without core_resume: it looks at
 * the hazards itself. */
static inline bool core_guest_next(struct cpu *c) {
    struct ec *ec = c->ec;
    return ec->kind == EC_VCPU && ec->cont == CONT_USER && c->fpu_owner == ec && !(mitigations & MIT_DOMAIN_SWITCH);
}
