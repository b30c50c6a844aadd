/* Virtual CPUs on AMD-V and VT-x: all vendor logic, shared by hardware and simulator, over the single
 * instructions in mach/insn.h. AMD APM vol 2 chapter 15, appendix B (VMCB layout), appendix C (exit codes). */
#pragma once
#include "arch/ptab.h"
struct abi_utcb;
struct cpu;
struct ec;
struct pd;
/* What this machine's CPUs can do: HIP_SVM, HIP_VMX or 0. On the boot CPU, before the first PD is made. */
u32 arch_vcpu_features(void);
/* What core must know of the vendor: the format of guest tables, and which event is a nested page fault. */
enum ptab_kind arch_vcpu_ptab(void);
bool arch_vcpu_faulted(unsigned event);
/* Per CPU, at boot: EFER.SVME, host save area; sets what create_ec needs to know. False and a log line: no virtualization here.
 * The CPU's GS base, TR, system-call MSRs and XCR0 are final before this is called: every world switch goes back to them. */
bool arch_vcpu_cpu_init(struct cpu *c);
/* VMCB and what belongs to it, charged to ec->pd. BAD_FTR without hardware on ec->cpu, BAD_MEM. */
must_check enum abi_status arch_vcpu_init(struct ec *ec);
/* Home CPU, when it will never run again (any CPU if it has never run). */
void arch_vcpu_fini(struct ec *ec);
/* State of a vCPU that left guest mode -> message, the MTD's fields only (event = number of section 4), and back. */
void arch_vcpu_get(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event);
void arch_vcpu_set(struct ec *ec, const struct abi_utcb *u, u32 mtd);
/* Enters the guest of c->ec (space and FPU are loaded); returns what runs next, by way of core_vmexit, or core_resume for exits that
 * the kernel consumes (interrupts, NMI). */
struct ec *arch_vcpu_run(struct cpu *c);
/* Ports [first, first + count) of pd's guests go to the hardware or not. BAD_MEM: first use makes the map. Revoking never fails.
 * Serialised by the caller (space lock of pd's ports). */
must_check enum abi_status arch_guest_ports(struct pd *pd, unsigned first, unsigned count, bool allow);
void arch_guest_ports_free(struct pd *pd);
