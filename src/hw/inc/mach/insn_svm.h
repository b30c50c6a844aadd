/* AMD-V instructions (arch/insn.h is the contract). */
#pragma once
#include "arch/types.h"

struct uregs;
static inline void svm_world_switch(u64 guest_vmcb_pa, u64 host_vmcb_pa,
                                    struct uregs *regs) { /* vmrun.S, no C function: it keeps RBP only */
    __asm__ volatile("call svm_switch"
                     : "+a"(guest_vmcb_pa), "+S"(host_vmcb_pa), "+d"(regs)
                     :
                     : "rbx", "rcx", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}
static inline void clgi(void) { __asm__ volatile("clgi" ::: "memory"); }
static inline void stgi(void) { __asm__ volatile("stgi" ::: "memory"); }
static inline void svm_host_save(u64 pa) { __asm__ volatile("vmsave %0" ::"a"(pa) : "memory"); }
static inline u32 rdpkru(void) {
    u32 v, d;
    __asm__ volatile("rdpkru" : "=a"(v), "=d"(d) : "c"(0));
    return v;
}
static inline void wrpkru(u32 v) { __asm__ volatile("wrpkru" ::"a"(v), "c"(0), "d"(0) : "memory"); }
