/* Kernel entries and the way back to user mode. Registers of a thread go straight into its EC: TSS.RSP0 and mach.frame_end point to the end
 * of the current EC's struct uregs. Then the CPU's one kernel stack is used, empty at each entry.
 * GS base is the struct cpu in the kernel, the user's in KERNEL_GS_BASE. */
#include "hw/layout.h"

    .macro save_gprs
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    .endm
    .macro restore_gprs
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    .endm

    .text
    .global syscall_entry
    .balign 64
syscall_entry: /* FMASK cleared IF TF DF AC NT; RCX = RIP, R11 = RFLAGS */
    swapgs
    mov %rsp, %gs:MACH_SCRATCH
    mov %gs:MACH_FRAME_END, %rsp
    pushq $SEL_UDATA
    pushq %gs:MACH_SCRATCH
    push %r11
    pushq $SEL_UCODE
    push %rcx
    pushq $0
    pushq $VEC_SYSCALL
    save_gprs
    mov %gs:MACH_STACK, %rsp
    mov %gs:MACH_SELF, %rdi
    xor %ebp, %ebp
    call hw_syscall

/* RAX: struct uregs of the thread to resume; hw_leave has checked its RIP. */
leave:
    mov %rax, %rsp
    cmpl $VEC_SYSCALL, REGS_VEC(%rsp)
    jne 1f
    restore_gprs
    mov 0x10(%rsp), %rcx /* rip; rsp stands at regs.vec */
    mov 0x20(%rsp), %r11 /* rflags */
    mov 0x28(%rsp), %rsp
    swapgs
    sysretq
1:  restore_gprs
    add $16, %rsp
    swapgs
    iretq

/* First entry of a CPU into the system, on its kernel stack: RDI = struct cpu. */
    .global hw_dispatch
hw_dispatch:
    mov %gs:MACH_STACK, %rsp
    xor %ebp, %ebp
    call hw_first
    jmp leave

trap_entry: /* rsp: vec, err, rip, cs, rflags, rsp, ss */
    testb $3, 0x18(%rsp)
    jz trap_kernel
    swapgs
    lfence /* no speculation past a wrongly skipped swapgs */
    save_gprs
trap_saved:
    mov %gs:MACH_STACK, %rsp
    pushq $2 /* AC (SMAP), NT, DF */
    popfq
    mov %gs:MACH_SELF, %rdi
    xor %ebp, %ebp
    call hw_trap_user
    jmp leave

trap_kernel: /* an interrupt at a preemption point or in idle, or a bug */
    lfence
    save_gprs
    mov %rsp, %rdi
    cld
    call hw_trap_kernel
    restore_gprs
    add $16, %rsp
    iretq

/* #DB NMI #DF #MC on stacks of their own: they may strike anywhere, before swapgs too, and users may load any GS base, so the CPU is found
 * at the top of the stack's page. */
trap_ist:
    save_gprs
    pushq $2
    popfq
    cmpl $1, REGS_VEC(%rsp)
    jne 1f
    testb $3, REGS_CS(%rsp)
    jz 1f
    swapgs /* #DB of a thread: an ordinary exception, its frame moves to the EC */
    lfence
    mov %rsp, %rsi
    mov %gs:MACH_FRAME_END, %rdi
    sub $REGS_SIZE, %rdi
    mov $(REGS_SIZE / 8), %ecx
    rep movsq
    jmp trap_saved
1:  mov %rsp, %rdi
    mov %rsp, %rsi
    and $~0xfff, %rsi
    mov IST_CPU_OFFSET(%rsi), %rsi
    rdgsbase %r12
    wrgsbase %rsi
    xor %ebp, %ebp
    call hw_trap_ist
    wrgsbase %r12
    restore_gprs
    add $16, %rsp
    iretq

/* One stub of 16 bytes per vector. */
    .global trap_stubs
    .balign 16
trap_stubs:
    .set vec, 0
    .rept 256
    .balign 16
    .if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30)
    pushq $0
    .endif
    pushq $vec
    .if vec == 1 || vec == 2 || vec == 8 || vec == 18
    jmp trap_ist
    .else
    jmp trap_entry
    .endif
    .set vec, vec + 1
    .endr

    .bss
    .balign 16
    .skip 16384
    .global hw_boot_stack_end
hw_boot_stack_end:
    .section .note.GNU-stack, "", @progbits
