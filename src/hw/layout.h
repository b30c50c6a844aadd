/* The kernel half of every address space, for C and assembly.
 *   0xffff800000000000  direct map of physical memory (mach/mem.h), slots 256..
 *   0xffffff0000000000  slot 510: for each CPU its TSS page (with GDT and what entries need first) and the two pages of the port bitmap (per
 *                       PD) with a closing page of ones;
 *                       2 MiB further the CPUs' stacks with guard pages
 *   0xffffffff80000000  kernel image
 * Under isolation (arch/mitigate.h) the kernel runs on one table without user pages, and threads on their PD's, whose kernel half is the TSS
 * pages, the exception stacks, the text of entry.S and the IDT. */
#pragma once
#define KERNEL_VIRT 0xffffffff80000000
#define TSS_AREA    0xffffff0000000000 /* + cpu * 16 KiB */
#define STACK_AREA  0xffffff0000200000 /* + cpu * 64 KiB */
#define SLOT_DIRECT 256
#define SLOT_TSS    510
#define SLOT_IMAGE  511

/* struct hw_entry (hw.h), where the GS base points; ENTRY_TOP: the end of its page, where the frame of a trap stands under isolation */
#define ENTRY_SELF      0
#define ENTRY_EC        8
#define ENTRY_STACK     16
#define ENTRY_SCRATCH   24
#define ENTRY_USER_ROOT 32
#define ENTRY_FRAME     40
#define ENTRY_GDTR      54
#define ENTRY_GDT       64
#define ENTRY_OFFSET    128
#define ENTRY_RSP0      (4 - ENTRY_OFFSET) /* in the TSS */
#define ENTRY_TOP       (4096 - ENTRY_OFFSET)

#define ALT_ISOLATION 1 /* enum mitigation (arch/mitigate.h), for `alt` (alt.h) */
#define ALT_RETPOLINE 2
#define ALT_RSB       16
#define ALT_VERW      64

#define FONT_GLYPHS 95 /* characters 32 to 126, 8 dots wide (tools/font) */
#define FONT_HEIGHT 16

#define SEL_KCODE 0x08
#define SEL_KDATA 0x10
#define SEL_UDATA 0x23 /* USER_SS, arch/regs.h */
#define SEL_UCODE 0x2b /* USER_CS */
#define SEL_TSS   0x30
#define SYSRET_BASE                                                                                                    \
    0x1b /* STAR: SS = base + 8, CS = base + 16; the slot itself is null, so there is no compatibility mode for users */

/* struct uregs (arch/regs.h) */
#define REGS_VEC    0x78
#define REGS_ERR    0x80
#define REGS_RIP    0x88
#define REGS_CS     0x90
#define REGS_RFLAGS 0x98
#define REGS_RSP    0xa0
#define REGS_SIZE   0xb0
#define VEC_SYSCALL 0x100 /* REGS_SYSCALL */
#define EC_REGS     0x30  /* in struct ec */
#define EC_REGS_END (EC_REGS + REGS_SIZE)

#define IST_CPU_OFFSET 0xff0 /* the GS base stands here in each IST stack's page; the stack begins below */
