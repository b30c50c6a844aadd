/* The VT-x world switch, arch/insn.h: RDI struct uregs *, EAX launched, then the result; RBP is kept. */
#include "hw/alt.h"
#include "hw/gprs.h"
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
    gprs_load 0, %rdi, r15, r14, r13, r12, r11, r10, r9, r8, rsi, rbp, rbx, rdx, rcx, rax, rdi
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
    popq .Lgpr_rdi(%rdi)
    gprs_store 0, %rdi, r15, r14, r13, r12, r11, r10, r9, r8, rsi, rbp, rbx, rdx, rcx, rax
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
