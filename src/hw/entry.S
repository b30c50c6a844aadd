/* Kernel entries and the way back to user mode. Registers of a thread go straight into its EC: hw_entry.ec is the current one, TSS.RSP0 the
 * end of its struct uregs. Then the CPU's one kernel stack is used, empty at each entry. A system call stores only what C would lose; the
 * rest follows if core_syscall does not come back to the same EC.
 * GS base is the CPU's struct hw_entry in the kernel, the user's in KERNEL_GS_BASE.
 * Under isolation all this runs on a thread's tables until CR3 is the kernel's, and on the way back once it is the thread's: then there are only
 * this text, the struct hw_entry and the stack at hand. Frames of traps are at the end of its page instead, and are copied. */
#include "hw/alt.h"
#include "hw/gprs.h"

    .macro save_gprs
    .irp reg, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    push %\reg
    .endr
    .endm
    .macro restore_gprs
    .irp reg, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
    pop %\reg
    .endr
    .endm
    .macro kept_gprs op /* what C keeps over a call: in place until another EC runs or the EC's registers are looked at */
    gprs_\op EC_REGS, %rsp, rbx, rbp, r12, r13, r14, r15
    .endm
    .macro other_gprs op /* and what it does not, but for RCX and R11 */
    gprs_\op EC_REGS, %rsp, rdi, rsi, rdx, rax, r8, r9, r10
    .endm
    .macro store reg, offset
    mov \reg, \offset(%rsp)
    .endm
    .macro load reg, offset
    mov \offset(%rsp), \reg
    .endm

    .section .entry.text, "ax"
    .global syscall_entry, syscall_entry_isolated
    .balign 64
syscall_entry_isolated:
    swapgs
    mov %rsp, %gs:ENTRY_SCRATCH
    mov hw_kernel_root(%rip), %rsp
    mov %rsp, %cr3
    jmp 1f
syscall_entry: /* FMASK cleared IF TF DF AC NT; RCX = RIP, R11 = RFLAGS */
    swapgs
    mov %rsp, %gs:ENTRY_SCRATCH
1:  mov %gs:ENTRY_EC, %rsp
    store %rcx, EC_REGS + REGS_RIP
    mov %gs:ENTRY_SCRATCH, %rcx
    store %rcx, EC_REGS + REGS_RSP
    store %r11, EC_REGS + REGS_RFLAGS
    other_gprs store
    mov %gs:ENTRY_STACK, %rsp
    mov %gs:ENTRY_SELF, %rdi
    call core_syscall
    mov %gs:ENTRY_EC, %rsp
    cmp %rax, %rsp
    je syscall_leave
    /* RAX: the EC to resume: it enters a portal, or was in a call; 0: hw_resume knows */
    kept_gprs store
    test %rax, %rax
    jz syscall_slow
    mov %rax, %gs:ENTRY_EC
    alt ALT_ISOLATION
    jmp 1f
    alt_end
    lea EC_REGS_END(%rax), %rdx
    mov %rdx, %gs:ENTRY_RSP0
1:  mov %rax, %rsp
    kept_gprs load
syscall_leave: /* RSP: the EC, which came by a system call; RIP is that of the call, or a portal's */
    other_gprs load
    load %rcx, EC_REGS + REGS_RIP
    load %r11, EC_REGS + REGS_RFLAGS
    load %rsp, EC_REGS + REGS_RSP
    alt ALT_ISOLATION | ALT_VERW
    jmp leave_guarded
    alt_end
    swapgs
    sysretq

syscall_slow:
    movq $VEC_SYSCALL, EC_REGS + REGS_VEC(%rsp)
    movq $0, EC_REGS + REGS_ERR(%rsp)
    mov %gs:ENTRY_STACK, %rsp
    mov %gs:ENTRY_SELF, %rdi
    xor %ebp, %ebp
    call hw_resume

/* RAX: struct uregs of the thread to resume; hw_leave has checked its RIP. */
leave:
    mov %rax, %rsp
    cmpl $VEC_SYSCALL, REGS_VEC(%rsp)
    jne leave_trap
    sub $EC_REGS, %rsp
    kept_gprs load
    jmp syscall_leave
leave_trap:
    restore_gprs
    add $16, %rsp
    alt ALT_ISOLATION
    popq %gs:(ENTRY_TOP - 0x28)
    popq %gs:(ENTRY_TOP - 0x20)
    popq %gs:(ENTRY_TOP - 0x18)
    popq %gs:(ENTRY_TOP - 0x10)
    popq %gs:(ENTRY_TOP - 0x08)
    mov %gs:ENTRY_USER_ROOT, %rsp
    mov %rsp, %cr3
    mov %gs:ENTRY_FRAME, %rsp
    alt_end
    buffers_clear
    swapgs
    iretq

leave_guarded:
    alt ALT_ISOLATION
    mov %rsp, %gs:ENTRY_SCRATCH
    mov %gs:ENTRY_USER_ROOT, %rsp
    mov %rsp, %cr3
    mov %gs:ENTRY_SCRATCH, %rsp
    alt_end
    buffers_clear
    swapgs
    sysretq

/* First entry of a CPU into the system, on its kernel stack: RDI = struct cpu. */
    .global hw_dispatch
hw_dispatch:
    mov %gs:ENTRY_STACK, %rsp
    xor %ebp, %ebp
    call hw_resume
    jmp leave

trap_entry: /* rsp: vec, err, rip, cs, rflags, rsp, ss */
    testb $3, 0x18(%rsp)
    jz trap_kernel
    swapgs
    lfence /* no speculation past a wrongly skipped swapgs */
    alt ALT_ISOLATION
    mov hw_kernel_root(%rip), %rsp
    mov %rsp, %cr3
    mov %gs:ENTRY_EC, %rsp
    add $EC_REGS_END, %rsp
    pushq %gs:(ENTRY_TOP - 0x08)
    pushq %gs:(ENTRY_TOP - 0x10)
    pushq %gs:(ENTRY_TOP - 0x18)
    pushq %gs:(ENTRY_TOP - 0x20)
    pushq %gs:(ENTRY_TOP - 0x28)
    pushq %gs:(ENTRY_TOP - 0x30)
    pushq %gs:(ENTRY_TOP - 0x38)
    alt_end
    save_gprs
trap_saved:
    mov %gs:ENTRY_STACK, %rsp
    pushq $2 /* AC (SMAP), NT, DF */
    popfq
    mov %gs:ENTRY_SELF, %rdi
    xor %ebp, %ebp
    call hw_trap_user
    jmp leave

trap_kernel: /* an interrupt at a preemption point or in idle, or a bug, whose report needs the kernel */
    lfence
    save_gprs
    alt ALT_ISOLATION
    mov hw_kernel_root(%rip), %rax
    mov %rax, %cr3
    alt_end
    mov %rsp, %rdi
    cld
    call hw_trap_kernel
    restore_gprs
    add $16, %rsp
    iretq

/* #DB NMI #DF #MC on stacks of their own: they may strike anywhere, before swapgs too, and users may load any GS base, so the CPU is found
 * at the top of the stack's page. CR3 may be either. */
trap_ist:
    save_gprs
    pushq $2
    popfq
    alt ALT_ISOLATION
    mov %cr3, %r13
    mov hw_kernel_root(%rip), %rax
    mov %rax, %cr3
    alt_end
    cmpl $1, REGS_VEC(%rsp)
    jne 1f
    testb $3, REGS_CS(%rsp)
    jz 1f
    swapgs /* #DB of a thread: an ordinary exception, its frame moves to the EC */
    lfence
    mov %rsp, %rsi
    mov %gs:ENTRY_EC, %rdi
    add $EC_REGS, %rdi
    mov $(REGS_SIZE / 8), %ecx
    rep movsq
    mov $(REGS_SIZE / 8), %ecx
    mov %rsp, %rdi
    xor %eax, %eax
    rep stosq /* under isolation any thread's tables have this stack */
    jmp trap_saved
1:  mov %rsp, %rdi
    mov %rsp, %rsi
    and $~0xfff, %rsi
    mov IST_CPU_OFFSET(%rsi), %rsi
    rdgsbase %r12
    wrgsbase %rsi
    mov ENTRY_SELF(%rsi), %rsi
    xor %ebp, %ebp
    call hw_trap_ist
    wrgsbase %r12
    alt ALT_ISOLATION
    mov %r13, %cr3
    alt_end
    restore_gprs
    add $16, %rsp
    buffers_clear
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

    .balign 8
    .global hw_kernel_root
hw_kernel_root: .quad 0
    .global verw_operand
verw_operand: .short SEL_KDATA

    .bss
    .balign 16
    .skip 16384
    .global hw_boot_stack_end
hw_boot_stack_end:
    .section .note.GNU-stack, "", @progbits
