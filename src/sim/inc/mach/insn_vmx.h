/* VT-x instructions, faked by src/sim/vmx.c (arch/insn.h is the contract). */
#pragma once
#include "arch/vmx_vmcs.h"

struct uregs;
bool vmxon(u64 region_pa);
bool vmclear(u64 vmcs_pa);
bool vmptrld(u64 vmcs_pa);
u64 vmread(u32 field);
void vmwrite(u32 field, u64 value);
void invept(u64 type, u64 eptp);
void invvpid(u64 type, u16 vpid);
void vmx_nmi_deliver(void);
void vmx_host_write(void);
unsigned vmx_world_switch(struct uregs *regs, bool launched);
