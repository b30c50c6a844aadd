/* AMD-V instructions, faked (arch/insn.h is the contract): src/sim/svm.c checks the VMCB and steps a guest program. */
#pragma once
#include "arch/types.h"

struct uregs;
void svm_world_switch(u64 guest_vmcb_pa, u64 host_vmcb_pa, struct uregs *regs);
void clgi(void);
void stgi(void);
void svm_host_save(u64 vmcb_pa);
u32 rdpkru(void);
void wrpkru(u32 v);
