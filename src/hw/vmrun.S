/* The AMD-V world switch, arch/insn.h: RAX guest VMCB, RSI host VMCB, RDX struct uregs *; RBP is kept.
 * The GIF is 0, so nothing is delivered while GS belongs to the guest; RFLAGS.IF must be 1 at VMRUN, or physical interrupts
 * stay masked while the guest runs (APM vol 2 15.21.1 "V_INTR_MASKING"). */
#include "hw/alt.h"
#include "hw/gprs.h"
    .text
    .globl svm_switch
    .type svm_switch, @function
svm_switch:
    pushq %rbp
    pushq %rdx
    pushq %rsi
    sti /* not the one before VMRUN: one emulator (QEMU 7.2) has the guest begin in its shadow */
    vmload %rax
    gprs_load 0, %rdx, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rcx, rdx
    buffers_clear
    vmrun %rax
    cli
    vmsave %rax
    popq %rax
    vmload %rax
    popq %rax
    gprs_store 0, %rax, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx
    alt ALT_RSB
    call rsb_fill /* before the first return that a guest could have trained */
    alt_end
    popq %rbp
    ret
    .size svm_switch, . - svm_switch
    .section .note.GNU-stack, "", @progbits
