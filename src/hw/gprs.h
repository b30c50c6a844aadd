/* For assembly: the general registers of struct uregs (arch/regs.h), each at gpr_NAME. */
/* clang-format off */
#pragma once
    .set .Lgpr, 0
    .irp reg, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    .set .Lgpr_\reg, .Lgpr
    .set .Lgpr, .Lgpr + 8
    .endr

/* `at`: where the struct uregs is, an offset from `base`. Registers in this order: base, if it is one of them, last. */
    .macro gprs_load at, base, regs:vararg
    .irp reg, \regs
    mov \at + .Lgpr_\reg(\base), %\reg
    .endr
    .endm
    .macro gprs_store at, base, regs:vararg
    .irp reg, \regs
    mov %\reg, \at + .Lgpr_\reg(\base)
    .endr
    .endm
