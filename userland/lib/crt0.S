/* Entry of a component (startup.h): RDI = startup page for the main thread, 0 for further threads. The canary must stand before
 * the first C function runs. */
    .text
    .globl _start
    .type _start, @function
_start:
    test %rdi, %rdi
    jz thread_entry
    lea rt_main_thread(%rip), %rcx
    wrfsbase %rcx
    mov %rcx, (%rcx)
    rdtsc
    shl $32, %rdx
    or %rdx, %rax
    movabs $0x9e3779b97f4a7c15, %rdx
    imul %rdx, %rax
    rol $29, %rax
    xor %al, %al /* a zero byte stops string overruns */
    mov %rax, 0x28(%rcx)
    xor %ebp, %ebp
    and $-16, %rsp
    call rt_main
    ud2
    .size _start, . - _start
    .section .note.GNU-stack, "", @progbits
