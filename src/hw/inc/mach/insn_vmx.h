/* VT-x instructions (arch/insn.h is the contract). "Above": neither CF (VMfailInvalid) nor ZF (VMfailValid). */
#pragma once
#include "arch/vmx_vmcs.h"

struct uregs;
static inline unsigned vmx_world_switch(struct uregs *regs,
                                        bool launched) { /* vmenter.S, no C function: it keeps RBP only */
    unsigned failed = launched;
    __asm__ volatile("call vmx_switch"
                     : "+a"(failed), "+D"(regs)
                     :
                     : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory",
                       "cc");
    return failed;
}
void vmx_host_write(void); /* cpu.c */
#define INSN_VMX(name)                                                                                                 \
    static inline bool name(u64 pa) {                                                                                  \
        bool done;                                                                                                     \
        __asm__ volatile(#name " %1" : "=@cca"(done) : "m"(pa) : "memory");                                            \
        return done;                                                                                                   \
    }
INSN_VMX(vmxon)
INSN_VMX(vmclear)
INSN_VMX(vmptrld)
#undef INSN_VMX
static inline u64 vmread(u32 field) {
    u64 v;
    __asm__ volatile("vmread %1, %0" : "=rm"(v) : "r"((u64)field) : "cc");
    return v;
}
static inline void vmwrite(u32 field, u64 v) { __asm__ volatile("vmwrite %0, %1" ::"rm"(v), "r"((u64)field) : "cc"); }
static inline void invept(u64 type, u64 eptp) {
    const u64 d[2] = {eptp, 0};
    __asm__ volatile("invept %0, %1" ::"m"(d), "r"(type) : "cc", "memory");
}
static inline void invvpid(u64 type, u16 vpid) {
    const u64 d[2] = {vpid, 0};
    __asm__ volatile("invvpid %0, %1" ::"m"(d), "r"(type) : "cc", "memory");
}
static inline void vmx_nmi_deliver(void) { __asm__ volatile("int $2" ::: "memory"); } /* its IRET unblocks NMIs */
