/* The AMD-V world switch, arch/insn.h: RAX guest VMCB, RSI host VMCB, RDX struct uregs *; RBP is kept.
 * The GIF is 0, so nothing is delivered while GS belongs to the guest; RFLAGS.IF must be 1 at VMRUN, or physical interrupts
 * stay masked while the guest runs (APM vol 2 15.21.1 "V_INTR_MASKING"). */
#include "hw/alt.h"
    .text
    .globl svm_switch
    .type svm_switch, @function
svm_switch:
    pushq %rbp
    pushq %rdx
    pushq %rsi
    vmload %rax
    movq 0x00(%rdx), %r15
    movq 0x08(%rdx), %r14
    movq 0x10(%rdx), %r13
    movq 0x18(%rdx), %r12
    movq 0x20(%rdx), %r11
    movq 0x28(%rdx), %r10
    movq 0x30(%rdx), %r9
    movq 0x38(%rdx), %r8
    movq 0x40(%rdx), %rdi
    movq 0x48(%rdx), %rsi
    movq 0x50(%rdx), %rbp
    movq 0x58(%rdx), %rbx
    movq 0x68(%rdx), %rcx
    movq 0x60(%rdx), %rdx
    buffers_clear
    sti
    vmrun %rax
    cli
    vmsave %rax
    popq %rax
    vmload %rax
    popq %rax
    movq %r15, 0x00(%rax)
    movq %r14, 0x08(%rax)
    movq %r13, 0x10(%rax)
    movq %r12, 0x18(%rax)
    movq %r11, 0x20(%rax)
    movq %r10, 0x28(%rax)
    movq %r9, 0x30(%rax)
    movq %r8, 0x38(%rax)
    movq %rdi, 0x40(%rax)
    movq %rsi, 0x48(%rax)
    movq %rbp, 0x50(%rax)
    movq %rbx, 0x58(%rax)
    movq %rdx, 0x60(%rax)
    movq %rcx, 0x68(%rax)
    alt ALT_RSB
    call rsb_fill /* before the first return that a guest could have trained */
    alt_end
    popq %rbp
    ret
    .size svm_switch, . - svm_switch
    .section .note.GNU-stack, "", @progbits
