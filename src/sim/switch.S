/* Switch of stacks between fibers: callee-saved registers on the stack, nothing else (System V ABI for x86-64, 3.2.1). */
    .text
    .globl sim_stack_switch
    .type sim_stack_switch, @function
sim_stack_switch: /* rdi: where to keep our rsp, rsi: rsp of the other */
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size sim_stack_switch, . - sim_stack_switch

    .globl sim_fiber_start
    .type sim_fiber_start, @function
sim_fiber_start: /* first activation: rbx holds the fiber, see sim_fiber_prepare */
    mov %rbx, %rdi
    xor %ebp, %ebp
    call sim_fiber_enter
    ud2
    .size sim_fiber_start, . - sim_fiber_start
    .section .note.GNU-stack, "", @progbits
