/* A guest of one page that uses what Linux does not: string ports, real mode with faults, interrupts and NMIs. Started in long mode with 4 GiB
 * mapped one to one; says what works on COM1 and powers off. Linked to 0x1000000, its second half copied to LOW. */
#define LOW  0x30000
#define AT(label) (LOW + (label) - low)
#define COM1 0x3f8
#define PM1  0x604 /* control: S5 is type 5 (userland/vmm/acpi_pm.h) */

    .text
    .globl _start
    .code64
_start:
    leaq long_text(%rip), %rsi
    movl $(long_end - long_text), %ecx
    movl $COM1, %edx
    cld
    rep outsb
    leaq low(%rip), %rsi
    movl $LOW, %edi
    movl $(low_end - low), %ecx
    rep movsb
    movl $0x2fff0, %esp
    lgdt AT(gdtr)
    pushq $0x08
    pushq $AT(code32)
    lretq
long_text:
    .ascii "long mode: string port\r\n"
long_end:

low:
    .code32
code32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    andl $~0x100, %eax /* LME */
    wrmsr
    ljmpl $0x18, $(AT(code16) - LOW)
    .code16
code16:
    movw $0x20, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmpw $(LOW >> 4), $(AT(real) - LOW)
real:
    xorw %ax, %ax
    movw %ax, %es
    movw %ax, %ss
    movw $0x7ff0, %sp
    movw $(LOW >> 4), %ax
    movw %ax, %ds
    lidtl AT(idtr) - LOW
    movw $(AT(fault) - LOW), %es:(13 * 4)
    movw %ax, %es:(13 * 4 + 2)
    movw $(AT(timer) - LOW), %es:(0x20 * 4)
    movw %ax, %es:(0x20 * 4 + 2)
    movw $(AT(nmi) - LOW), %es:(2 * 4)
    movw %ax, %es:(2 * 4 + 2)
    movl $0x12345, %ecx /* no such MSR */
    rdmsr
    wrmsr
    cmpw $2, AT(faults) - LOW
    jne 1f
    movw $(AT(text_fault) - LOW), %si
    movw $(text_timer - text_fault), %cx
    movw $COM1, %dx
    rep outsb
1:  movb $0x11, %al /* 8259: edges, cascade; vectors from 0x20; interrupt 0 only */
    outb %al, $0x20
    movb $0x20, %al
    outb %al, $0x21
    movb $4, %al
    outb %al, $0x21
    movb $1, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    movb $0x34, %al /* 8254: rate generator */
    outb %al, $0x43
    movb $0, %al
    outb %al, $0x40
    movb $0x10, %al
    outb %al, $0x40
    sti
2:  hlt
    cmpw $3, AT(ticks) - LOW
    jb 2b
    cli
    movw $(AT(text_timer) - LOW), %si
    movw $(text_end - text_timer), %cx
    movw $COM1, %dx
    rep outsb
    movl $0x1b, %ecx /* local APIC: x2APIC mode */
    rdmsr
    orl $0xc00, %eax
    wrmsr
    call send_nmi
    cmpw $2, AT(nmis) - LOW
    jne 4f
    movw $(AT(text_nmi) - LOW), %si
    movw $(text_nested - text_nmi), %cx
    cmpw $1, AT(deepest) - LOW
    je 5f
    movw $(AT(text_nested) - LOW), %si
    movw $(text_nested_end - text_nested), %cx
5:  movw $COM1, %dx
    rep outsb
4:  movw $PM1, %dx
    movw $(5 << 10 | 1 << 13), %ax
    outw %ax, %dx
3:  hlt
    jmp 3b
fault: /* IP CS FLAGS on the stack, no error code: else this returns to nowhere */
    pushw %bp
    movw %sp, %bp
    incw AT(faults) - LOW
    addw $2, 2(%bp) /* past RDMSR, WRMSR */
    popw %bp
    iretw
timer:
    pushw %ax
    incw AT(ticks) - LOW
    movb $0x20, %al
    outb %al, $0x20
    popw %ax
    iretw
nmi: /* the first one sends a second one, which has to wait for the IRET */
    pushal
    incw AT(nmis) - LOW
    incw AT(depth) - LOW
    movw AT(depth) - LOW, %ax
    cmpw AT(deepest) - LOW, %ax
    jbe 1f
    movw %ax, AT(deepest) - LOW
1:  cmpw $1, AT(nmis) - LOW
    jne 2f
    call send_nmi
2:  decw AT(depth) - LOW
    popal
    iretw
send_nmi: /* to APIC 0, by the interrupt command register */
    movl $0x830, %ecx
    xorl %edx, %edx
    movl $0x400, %eax
    wrmsr
    ret
nmis:
    .word 0
depth:
    .word 0
deepest:
    .word 0
faults:
    .word 0
ticks:
    .word 0
text_fault:
    .ascii "real mode: faults\r\n"
text_timer:
    .ascii "real mode: interrupts\r\n"
text_end:
text_nmi:
    .ascii "real mode: NMIs one by one\r\n"
text_nested:
    .ascii "real mode: NMIs, the second one within the first\r\n"
text_nested_end:
    .balign 8
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff /* 32 bit, base 0 */
    .quad 0x00009b000000ffff | LOW << 16, 0x000093000000ffff | LOW << 16
gdtr:
    .word . - gdt - 1
    .quad AT(gdt)
idtr:
    .word 0x3ff
    .long 0
low_end:
