/* The VT-x world switch, arch/insn.h: RDI struct uregs *, EAX launched, then the result; RBP is kept. */
#include "hw/alt.h"
#define HOST_RSP 0x6c14
    .text
    .globl vmx_switch, vmx_exit
    .type vmx_switch, @function
vmx_switch:
    pushq %rbp
    pushq %rdi
    movl $HOST_RSP, %ecx
    vmwrite %rsp, %rcx
    btl $0, %eax
    movq 0x00(%rdi), %r15
    movq 0x08(%rdi), %r14
    movq 0x10(%rdi), %r13
    movq 0x18(%rdi), %r12
    movq 0x20(%rdi), %r11
    movq 0x28(%rdi), %r10
    movq 0x30(%rdi), %r9
    movq 0x38(%rdi), %r8
    movq 0x48(%rdi), %rsi
    movq 0x50(%rdi), %rbp
    movq 0x58(%rdi), %rbx
    movq 0x60(%rdi), %rdx
    movq 0x68(%rdi), %rcx
    movq 0x70(%rdi), %rax
    movq 0x40(%rdi), %rdi
    buffers_clear
    jc 1f
    vmlaunch
    jmp 2f
1:  vmresume
2:  movl $1, %eax /* VMX_FAIL_INVALID: CF */
    jc 3f
    movl $2, %eax /* VMX_FAIL_VALID: ZF */
    jmp 3f
vmx_exit: /* HOST_RIP; RSP as at the VMWRITE */
    pushq %rdi
    movq 8(%rsp), %rdi
    popq 0x40(%rdi)
    movq %r15, 0x00(%rdi)
    movq %r14, 0x08(%rdi)
    movq %r13, 0x10(%rdi)
    movq %r12, 0x18(%rdi)
    movq %r11, 0x20(%rdi)
    movq %r10, 0x28(%rdi)
    movq %r9, 0x30(%rdi)
    movq %r8, 0x38(%rdi)
    movq %rsi, 0x48(%rdi)
    movq %rbp, 0x50(%rdi)
    movq %rbx, 0x58(%rdi)
    movq %rdx, 0x60(%rdi)
    movq %rcx, 0x68(%rdi)
    movq %rax, 0x70(%rdi)
    alt ALT_RSB
    call rsb_fill /* before the first return that a guest could have trained */
    alt_end
    /* An exit leaves limits of 0xffff for the GDT and 0x67 for the TSS, which hides the port bitmap (SDM vol 3 27.5.2). */
    lgdt %gs:ENTRY_GDTR
    movb $0x89, %gs:(ENTRY_GDT + SEL_TSS + 5) /* available: LTR wants it so */
    movl $SEL_TSS, %eax
    ltr %ax
    xorl %eax, %eax
3:  popq %rdi
    popq %rbp
    ret
    .size vmx_switch, . - vmx_switch
    .section .note.GNU-stack, "", @progbits
