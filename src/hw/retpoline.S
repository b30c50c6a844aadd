/* What the compiler's indirect branches go through (-mindirect-branch=thunk-extern), and the filling of the return predictor.
 * Intel "Retpoline: A Branch Target Injection Mitigation". */
#include "hw/alt.h"
    .text
    .macro thunk reg
    .globl __x86_indirect_thunk_\reg
    .type __x86_indirect_thunk_\reg, @function
    .balign 32
__x86_indirect_thunk_\reg:
    alt ALT_RETPOLINE
    jmp 1f
    alt_end
    jmp *%\reg
1:  call 3f
2:  pause
    lfence
    jmp 2b
3:  mov %\reg, (%rsp)
    ret
    .size __x86_indirect_thunk_\reg, . - __x86_indirect_thunk_\reg
    .endm
    .irp reg, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    thunk \reg
    .endr

/* arch/insn.h. Changes RAX and flags only. */
    .globl rsb_fill
    .type rsb_fill, @function
rsb_fill:
    mov $16, %eax
1:  call 3f
2:  pause
    lfence
    jmp 2b
3:  call 5f
4:  pause
    lfence
    jmp 4b
5:  dec %eax
    jnz 1b
    add $(32 * 8), %rsp
    lfence
    ret
    .size rsb_fill, . - rsb_fill
    .section .note.GNU-stack, "", @progbits
