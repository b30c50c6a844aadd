/* The kernel half of every address space, for C and assembly.
 *   0xffff800000000000  direct map of physical memory (mach/mem.h), slots 256..
 *   0xffffff0000000000  slot 510: for each CPU its TSS page and the two pages of the port bitmap (per PD) with a closing page of ones;
 *                       2 MiB further the CPUs' stacks with guard pages
 *   0xffffffff80000000  kernel image */
#pragma once
#define KERNEL_VIRT 0xffffffff80000000
#define TSS_AREA    0xffffff0000000000 /* + cpu * 16 KiB */
#define STACK_AREA  0xffffff0000200000 /* + cpu * 64 KiB */
#define SLOT_DIRECT 256
#define SLOT_TSS    510
#define SLOT_IMAGE  511

/* struct mach_cpu (mach/cpu.h) */
#define MACH_SELF      0
#define MACH_FRAME_END 8
#define MACH_STACK     16
#define MACH_SCRATCH   24
#define MACH_GDTR      38
#define MACH_GDT       48

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
#define REGS_CS     0x90
#define REGS_SIZE   0xb0
#define VEC_SYSCALL 0x100 /* REGS_SYSCALL */

#define IST_CPU_OFFSET 0xff0 /* the CPU pointer stands here in each IST stack's page; the stack begins below */
