/* The lower seam: one machine instruction per inline function. src/hw executes it; src/sim fakes the effect with the manual's checks.
 * From mach/insn.h:
 *   struct cpuid_regs { u32 a, b, c, d; };  struct cpuid_regs cpuid(u32 leaf, u32 subleaf);
 *   u64 rdmsr(u32 msr);  void wrmsr(u32 msr, u64 value);      existing MSRs only: no fault is expected
 *   u32 mmio_read32(u64 pa); u64 mmio_read64(u64 pa); void mmio_write32(u64 pa, u64 v); void mmio_write64(u64 pa, u64 v);
 *                                                             device registers: uncached, in program order
 *   void rsb_fill(void);                                     32 calls without a return: the return predictor holds these alone
 *   u64 xgetbv(u32 reg); void xsetbv(u32 reg, u64 value);     XCR0 of this CPU
 *   u64 cr4_read(void);  void cr4_write(u64);  u64 dr0_read(void); void dr0_write(u64); ... dr1 dr2 dr3 (and more, see there)
 * From mach/insn_svm.h (AMD APM vol 3 "CLGI", "STGI", "VMRUN", "VMLOAD", "VMSAVE"):
 *   void clgi(void);  void stgi(void);
 *   void svm_host_save(u64 host_vmcb_pa);                     VMSAVE: fills a VMCB's VMLOAD part with the CPU's own state
 *   void svm_world_switch(u64 guest_vmcb_pa, u64 host_vmcb_pa, struct uregs *regs);
 *     Called with GIF = 0 and IF = 0, returns so. VMLOAD guest, IF = 1, VMRUN, IF = 0, VMSAVE guest, VMLOAD host as one piece,
 *     because the host's GS is not there in between. Guest GPRs come from and go to *regs (RAX and RSP: the VMCB's).
 *   u32 rdpkru(void);  void wrpkru(u32);                      with CR4.PKE = 1
 * From mach/insn_vmx.h (Intel SDM vol 3 "VMX Instruction Reference"):
 *   bool vmxon(u64 region_pa);  bool vmclear(u64 vmcs_pa);  bool vmptrld(u64 vmcs_pa);             false: VMfail
 *   u64 vmread(u32 field);  void vmwrite(u32 field, u64 value);      of the current VMCS; a field that does not exist is a bug
 *   void invept(u64 type, u64 eptp);  void invvpid(u64 type, u16 vpid);
 *   void vmx_nmi_deliver(void);                               to the host's handler, after the exit that an NMI caused
 *   void vmx_host_write(void);                                host-state area: this CPU's segments, tables, GS base, RIP of exits
 *   unsigned vmx_world_switch(struct uregs *regs, bool launched);
 *     IF = 0 before and after. VMLAUNCH or VMRESUME; returns 0 after a VM exit (also that of a failed entry), else enum vmx_fail.
 *     Guest GPRs come from and go to *regs (RSP: the VMCS's). Segment limits that an exit spoils are right again. */
#pragma once
#include "arch/regs.h"
#include "arch/types.h"
#include <mach/insn.h>
#include <mach/insn_svm.h>
#include <mach/insn_vmx.h>
