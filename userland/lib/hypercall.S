/* The system call instruction of the library: docs/abi.md section 5. C arguments rdi rsi rdx rcx(rax) r8 r9(out). */
    .text
    .globl hypercall
    .type hypercall, @function
hypercall:
    mov %rcx, %rax
    syscall
    test %r9, %r9
    jz 1f
    mov %rsi, (%r9)
    mov %rdx, 8(%r9)
1:  movzbl %dil, %eax
    ret
    .size hypercall, . - hypercall

/* Entry of every portal of a local thread: RDI = struct portal, RSP = its frame { struct thread, utcb }, always the same one. */
    .globl portal_entry
    .type portal_entry, @function
portal_entry:
    mov (%rsp), %rax
    wrfsbase %rax
    mov 8(%rsp), %rsi
    mov (%rdi), %rax
    mov 8(%rdi), %rdi
    xor %ebp, %ebp
    call *%rax
    mov $1, %edi /* HC_REPLY: does not return */
    syscall
    ud2
    .size portal_entry, . - portal_entry

/* Start of a further global thread: RSP = frame { struct thread, fn, arg }. A reply without a call blocks for good. */
    .globl thread_entry
    .type thread_entry, @function
thread_entry:
    mov (%rsp), %rax
    wrfsbase %rax
    mov 8(%rsp), %rax
    mov 16(%rsp), %rdi
    xor %ebp, %ebp
    call *%rax
    mov $1, %edi
    syscall
    ud2
    .size thread_entry, . - thread_entry
    .section .note.GNU-stack, "", @progbits
