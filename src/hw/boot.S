/* From the boot loader (32-bit protected mode, no paging) or from a startup IPI (real mode) to C in the kernel half.
 * Multiboot Specification 0.6.96 section 3.2, Multiboot2 Specification 2.0 section 3.3 (machine state: the same). */
#include "hw/layout.h"

#define MB1_FLAGS 0x3 /* page-aligned modules, memory map */
#define CR0_PE_WP_PG 0x80010001
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME_NXE_SCE 0x901

    .section .boot.header, "a"
    .balign 8
    .long 0x1badb002, MB1_FLAGS, -(0x1badb002 + MB1_FLAGS)
    .balign 8
header2:
    .long 0xe85250d6, 0, header2_end - header2, -(0xe85250d6 + (header2_end - header2))
    .short 6, 0 /* module alignment */
    .long 8
    .balign 8
    .short 5, 1 /* a screen, if there is one: any size, 32 bits a dot */
    .long 20, 0, 0, 32
    .balign 8
    .short 10, 0 /* relocatable: lowest free place from 1 MiB on, page-aligned */
    .long 24, 0x100000, 0xffffffff, 4096, 1
    .short 0, 0
    .long 8
header2_end:

    .section .boot.bss, "aw", @nobits
    .balign 4096
    .global boot_pml4, boot_pdpt
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pdpt_image: .skip 4096
boot_pd_image: .skip 4096
boot_pt_image: .skip 4096
boot_pd: .skip 4 * 4096
boot_stack: .skip 1024
boot_stack_end:

    .section .boot.data, "aw"
    .balign 8
boot_gdt: .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff /* SEL_KCODE, SEL_KDATA */
boot_gdtr:
    .short . - boot_gdt - 1
    .quad boot_gdt
no_long_mode_text: .asciz "novella: this CPU has no 64-bit mode or no NX; an x86-64 CPU with both is needed. Stopped.\r\n"

    .section .boot.text, "ax"
    .code32
    .global boot_entry
boot_entry:
    cli
    cld
    mov %eax, %ebp /* magic */
    mov %ebx, %esi /* information; its second word is the stack that a call needs, to know where we are */
    mov 4(%esi), %edx
    lea 8(%esi), %esp
    call 1f
1:  pop %edi
    mov %edx, 4(%esi)
    sub $1b, %edi /* how far we are from where the image was linked */
    lea boot_stack_end(%edi), %esp
    mov $0x80000000, %eax
    cpuid
    cmp $0x80000001, %eax
    jb no_long_mode
    mov $0x80000001, %eax
    cpuid
    and $(1 << 29 | 1 << 20), %edx
    cmp $(1 << 29 | 1 << 20), %edx
    jne no_long_mode

    /* 4 GiB in 2 MiB pages: identity and direct map; the image's 2 MiB page by page. */
    lea boot_pd(%edi), %ebx
    mov $0x83, %eax
1:  mov %eax, (%ebx)
    movl $0, 4(%ebx)
    add $8, %ebx
    add $0x200000, %eax
    jnc 1b
    lea boot_pdpt(%edi), %ebx
    lea boot_pd + 3(%edi), %eax
    mov $4, %ecx
2:  mov %eax, (%ebx)
    add $8, %ebx
    add $4096, %eax
    loop 2b
    lea boot_pt_image(%edi), %ebx
    lea 3(%edi), %eax
    mov $512, %ecx
3:  mov %eax, (%ebx)
    add $8, %ebx
    add $4096, %eax
    loop 3b
    lea boot_pt_image + 3(%edi), %eax
    mov %eax, boot_pd_image(%edi)
    lea boot_pd_image + 3(%edi), %eax
    mov %eax, boot_pdpt_image + 510 * 8(%edi)
    lea boot_pdpt + 3(%edi), %eax
    mov %eax, boot_pml4(%edi)
    mov %eax, boot_pml4 + SLOT_DIRECT * 8(%edi)
    lea boot_pdpt_image + 3(%edi), %eax
    mov %eax, boot_pml4 + SLOT_IMAGE * 8(%edi)

    mov $CR4_PAE, %eax
    mov %eax, %cr4
    lea boot_pml4(%edi), %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME_NXE_SCE, %eax
    wrmsr
    mov $CR0_PE_WP_PG, %eax
    mov %eax, %cr0
    lea boot_gdt(%edi), %eax
    mov %eax, boot_gdtr + 2(%edi)
    lgdt boot_gdtr(%edi)
    lea boot_long(%edi), %eax
    push $SEL_KCODE
    push %eax
    lret

no_long_mode: /* COM1, as the firmware left it */
    lea no_long_mode_text(%edi), %esi
1:  lodsb
    test %al, %al
    jz 3f
    mov %al, %bl
    mov $0x3fd, %dx
    mov $0x10000, %ecx
2:  in %dx, %al
    test $0x20, %al
    loopz 2b
    mov $0x3f8, %dx
    mov %bl, %al
    out %al, %dx
    jmp 1b
3:  hlt
    jmp 3b

    .code64
boot_long:
    mov $SEL_KDATA, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov %edi, %edx
    mov %ebp, %edi
    mov %esi, %esi
    mov $hw_boot_stack_end, %rsp
    xor %ebp, %ebp
    mov $hw_main, %rax
    call *%rax
    ud2

/* Copied to a page below 1 MiB by smp.c, which fills in the words at its end. Entered in real mode with CS = page >> 4. */
    .section .rodata
    .balign 16
    .global ap_code, ap_code_end, ap_gdtr_base, ap_jump, ap_cr3, ap_stack, ap_cpu, ap_entry, ap_claim
    .code16
ap_code:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    lgdtl ap_gdtr - ap_code
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov ap_cr3 - ap_code, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME_NXE_SCE, %eax
    wrmsr
    mov $CR0_PE_WP_PG, %eax
    mov %eax, %cr0
    ljmpl *(ap_jump - ap_code)
    .code64
    .global ap_long
ap_long:
    mov $SEL_KDATA, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $1, %eax
    cpuid
    mov %ebx, %eax
    shr $24, %eax
    or $-1, %ecx
    lock cmpxchg %ecx, ap_claim(%rip) /* smp.c: one that was given up on must not take what the next one finds here */
    je 2f
1:  hlt
    jmp 1b
2:  mov ap_stack(%rip), %rsp
    mov ap_cpu(%rip), %rdi
    xor %ebp, %ebp
    mov ap_entry(%rip), %rax
    call *%rax
    ud2
    .balign 8
ap_gdt: .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
ap_gdtr: .short . - ap_gdt - 1
ap_gdtr_base: .long ap_gdt - ap_code /* + page */
    .balign 8
ap_jump: .long ap_long - ap_code /* + page */
    .short SEL_KCODE
    .balign 8
ap_cr3: .quad 0
ap_stack: .quad 0
ap_cpu: .quad 0
ap_entry: .quad 0
ap_claim: .long 0
ap_code_end:
    .section .note.GNU-stack, "", @progbits
