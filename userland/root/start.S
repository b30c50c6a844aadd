/* Entry of root (docs/abi.md section 7): RSP = HIP, RDI = boot CPU. */
    .text
    .globl _start
    .type _start, @function
_start:
    mov %rdi, %rsi
    mov %rsp, %rdi
    lea root_stack_top(%rip), %rsp
    lea rt_main_thread(%rip), %rcx
    wrfsbase %rcx
    mov %rcx, (%rcx)
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    movabs $0x9e3779b97f4a7c15, %rdx
    imul %rdx, %rax
    rol $29, %rax
    xor %al, %al
    mov %rax, 0x28(%rcx)
    xor %ebp, %ebp
    call root_main
    ud2
    .size _start, . - _start

    .bss
    .balign 4096
    .skip 0x8000
root_stack_top:
    .section .note.GNU-stack, "", @progbits
