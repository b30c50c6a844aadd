/* The suite's machine on hardware: entry of the root task, UART, instructions that C has no word for. */
#include "abi.h"

#define STACK_SIZE  0x2000ul
#define COM1        0x3f8u
#define DEBUG_EXIT  0xf4u      /* QEMU: -device isa-debug-exit,iobase=0xf4,iosize=1; status = value * 2 + 1 */
#define IMAGE_START 0x400000ul /* user.ld */

_Noreturn void abi_main(u64 cpu);
extern char __image_end[]; /* user.ld */

uint64_t machine_tls[16] __attribute__((aligned(64))) = {0, 0, 0, 0, 0, 0x5a00ff1234567800}; /* 0x28: canary */
static char stacks[MACHINE_STACKS][STACK_SIZE] __attribute__((aligned(4096)));
static char main_stack[0x8000] __attribute__((aligned(4096), used));
static bool serial, debug_exit;
static unsigned rounds = 1000, seed = 1;

/* ABI section 7: RDI = boot CPU, RSP = HIP address. */
__attribute__((naked, used)) void _start(void);
__attribute__((naked, used)) void _start(void) {
    __asm__("mov %rsp, abi_boot_rsp\n\t"
            "mov $main_stack + 0x8000, %rsp\n\t"
            "pushfq\n\t"
            "popq abi_boot_flags\n\t"
            "mov $machine_tls, %rax\n\t"
            "wrfsbase %rax\n\t"
            "mov %rax, (%rax)\n\t"
            "xor %ebp, %ebp\n\t"
            "call abi_main\n\t"
            "ud2");
}

static inline void outb(u32 port, u32 v) { __asm__ volatile("outb %b0, %w1" : : "a"(v), "Nd"(port)); }
static inline u32 inb(u32 port) {
    uint8_t v;
    __asm__ volatile("inb %w1, %b0" : "=a"(v) : "Nd"(port));
    return v;
}
uint8_t machine_in8(uint16_t port) { return (uint8_t)inb(port); }

/* "name=NUMBER" in the boot module's command line (HIP: auxiliary of the first module). */
static void option(const char *text, const char *name, unsigned *value) {
    for (; *text; text++) {
        unsigned n = 0;
        while (name[n] && text[n] == name[n])
            n++;
        if (name[n])
            continue;
        for (*value = 0, text += n; *text >= '0' && *text <= '9'; text++)
            *value = *value * 10 + (unsigned)(*text - '0');
        return;
    }
}
static char only[64], skip[64];
static void option_text(const char *text, const char *name, char to[64]) {
    for (; *text; text++) {
        unsigned n = 0;
        while (name[n] && text[n] == name[n])
            n++;
        for (unsigned i = 0; !name[n] && i < 63 && text[n + i] > ' '; i++)
            to[i] = text[n + i];
    }
}
/* A '*' at the pattern's end stands for anything. */
static bool matches(const char *pattern, const char *name) {
    while (*pattern && *pattern == *name)
        pattern++, name++;
    return *pattern == *name || *pattern == '*';
}
bool machine_wanted(const char *name) { return (!only[0] || matches(only, name)) && !matches(skip, name); }
static void options_read(void) {
    const struct abi_hip *hip = (const void *)ABI_HIP_ADDR;
    u64 aux = 0, at = VA_DST >> 12;
    for (unsigned i = 0; sizeof(*hip) + i * sizeof(hip->mem[0]) < hip->length && !aux; i++)
        if (hip->mem[i].type == HIP_MEM_MODULE)
            aux = hip->mem[i].aux;
    if (!aux || grab(crd_mem(aux >> 12, 0, PERM_MEM_R), at, ITEM_H, crd_mem(at, 0, 7)) != crd_mem(at, 0, PERM_MEM_R))
        return;
    static char line[256];
    const volatile char *from = (const volatile char *)(VA_DST + (aux & 0xfff));
    for (unsigned i = 0; i < sizeof(line) - 1 && (aux & 0xfff) + i < PAGE && from[i]; i++)
        line[i] = from[i];
    option(line, "rounds=", &rounds);
    option(line, "seed=", &seed);
    option_text(line, "only=", only);
    option_text(line, "skip=", skip);
    (void)nova_revoke(crd_mem(at, 0, 7), true);
}

void machine_init(void) {
    options_read();
    serial = grab(crd_pio(COM1, 3), 0, ITEM_H, WINDOW_ALL(CRD_PIO)) == crd_pio(COM1, 3);
    debug_exit = grab(crd_pio(DEBUG_EXIT, 0), 0, ITEM_H, WINDOW_ALL(CRD_PIO)) == crd_pio(DEBUG_EXIT, 0);
}

static void out(char c) {
    while (!(inb(COM1 + 5) & 0x20))
        machine_relax();
    outb(COM1, (u32)c);
}

void machine_out(const char *text) {
    for (; serial && *text; text++) {
        if (*text == '\n')
            out('\r');
        out(*text);
    }
}

_Noreturn void machine_end(unsigned failed) {
    while (serial && !(inb(COM1 + 5) & 0x40)) /* everything sent */
        machine_relax();
    if (debug_exit)
        outb(DEBUG_EXIT, failed ? 1 : 0); /* QEMU ends with 1: all passed, or 3 */
    for (;;)
        pause_us(1000000);
}

uint64_t machine_clock(void) {
    u32 lo, hi;
    __asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi) : : "rcx", "memory");
    return (u64)hi << 32 | lo;
}
unsigned machine_rounds(void) { return rounds; }
uint64_t machine_seed(void) { return seed; }

uint64_t machine_stack_top(unsigned i) { return (u64)stacks[i] + STACK_SIZE; }
unsigned machine_stack_slot(uint64_t sp) { return (unsigned)((sp - (u64)stacks) / STACK_SIZE - 1); }
uint64_t machine_image(uint64_t *first_page) {
    *first_page = IMAGE_START >> 12;
    return (((u64)__image_end + 0xfff) >> 12) - *first_page;
}

__attribute__((noinline)) void machine_undefined(void) { __asm__ volatile("ud2" ::: "memory"); }

/* MOVQ with the highest XMM register: nothing that the compiler makes of the suite uses it. */
void machine_fpu_set(uint64_t v) { __asm__ volatile("movq %0, %%xmm15" : : "r"(v)); }
uint64_t machine_fpu_get(void) {
    u64 v;
    __asm__ volatile("movq %%xmm15, %0" : "=r"(v));
    return v;
}
void machine_base_set(uint64_t v) { __asm__ volatile("wrgsbase %0" : : "r"(v)); }
uint64_t machine_base_get(void) {
    u64 v;
    __asm__ volatile("rdgsbase %0" : "=r"(v));
    return v;
}

/* Reads a byte at RDI, writes it back if ESI. The fault handler lets it go on at machine_probe_over with EAX = 0. */
int machine_probe_access(u64 va, int write);
extern char machine_probe_read[], machine_probe_write[], machine_probe_over[];
__asm__(".text\n"
        ".globl machine_probe_access, machine_probe_read, machine_probe_write, machine_probe_over\n"
        "machine_probe_access:\n\t"
        "xor %eax, %eax\n"
        "machine_probe_read:\n\t"
        "mov (%rdi), %cl\n\t"
        "test %esi, %esi\n\t"
        "jz 1f\n"
        "machine_probe_write:\n\t"
        "lock orb $0, (%rdi)\n" /* a write of what is there, whoever else writes it */
        "1:\n\t"
        "mov $1, %eax\n"
        "machine_probe_over:\n\t"
        "ret\n");
bool machine_probe(uint64_t va, bool write) { return machine_probe_access(va, write); }
static bool exec_probed(u64 rip);
extern char machine_exec_over[];
uint64_t machine_probe_fixup(uint64_t rip) {
    if (exec_probed(rip))
        return (u64)machine_exec_over;
    return rip == (u64)machine_probe_read || rip == (u64)machine_probe_write ? (u64)machine_probe_over : 0;
}

/* EAX = 1 from a page that says so, 0 when the fault handler sent us to machine_exec_over: the return address is on the stack. */
void machine_code_put(uint64_t va) { mem_write64((void *)va, 0xc300000001b8); /* mov $1, %eax; ret */ }
__asm__(".text\n.globl machine_exec_over\nmachine_exec_over:\n\txor %eax, %eax\n\tret\n");
static u64 exec_va[64]; /* by stack, for it may be asked on several CPUs */
static u64 *exec_slot(void) { return &exec_va[machine_stack_slot((u64)__builtin_frame_address(0)) % 64]; }
bool machine_probe_exec(uint64_t va) {
    *exec_slot() = va;
    bool ok = ((int (*)(void))va)() != 0;
    *exec_slot() = 0;
    return ok;
}
static bool exec_probed(u64 rip) {
    for (unsigned i = 0; i < 64; i++)
        if (rip && exec_va[i] == rip)
            return true;
    return false;
}

/* RDI = r[17]. */
__asm__(".text\n.globl machine_undefined_regs\nmachine_undefined_regs:\n\t"
        "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\tpush %rdi\n\t"
        "mov %rsp, 32(%rdi)\n\tpushq 128(%rdi)\n\tpopfq\n\t"
        "mov (%rdi), %rax\n\tmov 8(%rdi), %rcx\n\tmov 16(%rdi), %rdx\n\tmov 24(%rdi), %rbx\n\t"
        "mov 40(%rdi), %rbp\n\tmov 48(%rdi), %rsi\n\tmov 64(%rdi), %r8\n\tmov 72(%rdi), %r9\n\t"
        "mov 80(%rdi), %r10\n\tmov 88(%rdi), %r11\n\tmov 96(%rdi), %r12\n\tmov 104(%rdi), %r13\n\t"
        "mov 112(%rdi), %r14\n\tmov 120(%rdi), %r15\n\tmov 56(%rdi), %rdi\n\t"
        "ud2\n\t"
        "push %rdi\n\tpushfq\n\tmov 16(%rsp), %rdi\n\tpopq 128(%rdi)\n\tpopq 56(%rdi)\n\t"
        "mov %rax, (%rdi)\n\tmov %rcx, 8(%rdi)\n\tmov %rdx, 16(%rdi)\n\tmov %rbx, 24(%rdi)\n\t"
        "mov %rbp, 40(%rdi)\n\tmov %rsi, 48(%rdi)\n\tmov %r8, 64(%rdi)\n\tmov %r9, 72(%rdi)\n\t"
        "mov %r10, 80(%rdi)\n\tmov %r11, 88(%rdi)\n\tmov %r12, 96(%rdi)\n\tmov %r13, 104(%rdi)\n\t"
        "mov %r14, 112(%rdi)\n\tmov %r15, 120(%rdi)\n\t"
        "pop %rdi\n\tpop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
        "ret\n");

/* No #SS: QEMU 7.2 raises #GP for a stack access that is not canonical. */
bool machine_can_raise(unsigned vector) {
    return vector == 0 || vector == 3 || vector == 4 || vector == 6 || vector == 13;
}
void machine_raise(unsigned vector) {
    switch (vector) {
    case 0:
        __asm__ volatile("xor %%ecx, %%ecx\n\txor %%edx, %%edx\n\tdiv %%ecx" : : : "eax", "ecx", "edx");
        break;
    case 3:
        __asm__ volatile("int3");
        break;
    case 4:
        __asm__ volatile("int $4");
        break;
    case 13:
        __asm__ volatile("hlt");
        break;
    default:
        machine_undefined();
    }
}

/* From the entry stub, RCX = where it goes on; the kernel clobbers RCX and R11 on the way here. */
u64 machine_entry_regs[17];
__asm__(
    ".text\n.globl machine_entry_save\nmachine_entry_save:\n\t"
    "mov %rax, machine_entry_regs\n\tmov %rdx, machine_entry_regs + 16\n\tmov %rbx, machine_entry_regs + 24\n\t"
    "mov %rsp, machine_entry_regs + 32\n\tmov %rbp, machine_entry_regs + 40\n\tmov %rsi, machine_entry_regs + 48\n\t"
    "mov %rdi, machine_entry_regs + 56\n\tmov %r8, machine_entry_regs + 64\n\tmov %r9, machine_entry_regs + 72\n\t"
    "mov %r10, machine_entry_regs + 80\n\tmov %r12, machine_entry_regs + 96\n\tmov %r13, machine_entry_regs + 104\n\t"
    "mov %r14, machine_entry_regs + 112\n\tmov %r15, machine_entry_regs + 120\n\t"
    "pushfq\n\tpopq machine_entry_regs + 128\n\t"
    "mov $machine_tls, %rax\n\twrfsbase %rax\n\txor %ebp, %ebp\n\tjmp *%rcx\n");
unsigned machine_entry_read(uint64_t r[17]) {
    for (unsigned i = 0; i < 17; i++)
        r[i] = machine_entry_regs[i];
    return 1u << 1 | 1u << 11;
}
_Noreturn void machine_reply_regs(const uint64_t r[16]) {
    __asm__ volatile(
        "mov %0, %%rcx\n\t"
        "mov (%%rcx), %%rax\n\tmov 16(%%rcx), %%rdx\n\tmov 24(%%rcx), %%rbx\n\tmov 40(%%rcx), %%rbp\n\t"
        "mov 48(%%rcx), %%rsi\n\tmov 64(%%rcx), %%r8\n\tmov 72(%%rcx), %%r9\n\tmov 80(%%rcx), %%r10\n\t"
        "mov 96(%%rcx), %%r12\n\tmov 104(%%rcx), %%r13\n\tmov 112(%%rcx), %%r14\n\tmov 120(%%rcx), %%r15\n\t"
        "mov $1, %%edi\n\tsyscall\n\tud2"
        :
        : "r"(r)
        : "memory");
    __builtin_unreachable();
}

/* RDI = struct machine_call. Patterns in RBX RBP R9 R10 R12-R15; returns the mask. */
unsigned machine_call_asm(struct machine_call *c, u64 *after);
__asm__(".text\n"
        "machine_call_asm:\n\t"
        "push %rbx\n\tpush %rbp\n\tpush %r12\n\tpush %r13\n\tpush %r14\n\tpush %r15\n\t"
        "push %rdi\n\tpush %rsi\n\t"
        "mov %rsp, machine_call_rsp(%rip)\n\t"
        "mov 8(%rdi), %rsi\n\tmov 16(%rdi), %rdx\n\tmov 24(%rdi), %rax\n\tmov 32(%rdi), %r8\n\tmov (%rdi), %rdi\n\t"
        "mov $3, %ebx\n\tmov $5, %ebp\n\tmov $9, %r9d\n\tmov $10, %r10d\n\tmov $12, %r12d\n\tmov $13, %r13d\n\t"
        "mov $14, %r14d\n\tmov $15, %r15d\n\t"
        "syscall\n\t"
        "mov %rsp, %rcx\n\t"
        "sub machine_call_rsp(%rip), %rcx\n\t"
        "mov machine_call_rsp(%rip), %rsp\n\t"
        "mov (%rsp), %r11\n\t" /* after */
        "mov %rax, (%r11)\n\tmov %rdx, 16(%r11)\n\tmov %rbx, 24(%r11)\n\tmov %rcx, 32(%r11)\n\tmov %rbp, 40(%r11)\n\t"
        "mov %rsi, 48(%r11)\n\tmov %rdi, 56(%r11)\n\tmov %r8, 64(%r11)\n\tmov %r9, 72(%r11)\n\tmov %r10, 80(%r11)\n\t"
        "mov %r12, 96(%r11)\n\tmov %r13, 104(%r11)\n\tmov %r14, 112(%r11)\n\tmov %r15, 120(%r11)\n\t"
        "pop %rsi\n\tpop %rdi\n\tpop %r15\n\tpop %r14\n\tpop %r13\n\tpop %r12\n\tpop %rbp\n\tpop %rbx\n\t"
        "ret\n");
u64 machine_call_rsp;
unsigned machine_call_checked(struct machine_call *c) {
    u64 r[16] = {0};
    unsigned changed = 0;
    machine_call_asm(c, r);
    for (unsigned i = 0; i < 16; i++) {
        u64 want = i == 0 ? c->rax : i == 2 ? c->rdx : i == 4 ? 0 : i == 6 ? c->rsi : i == 8 ? c->r8 : i;
        if (i != 1 && i != 7 && i != 11 && r[i] != want)
            changed |= 1u << i;
    }
    *c = (struct machine_call){r[7], r[6], r[2], r[0], r[8]};
    return changed;
}

__asm__(".text\n"
        ".globl machine_call_flags\n"
        "machine_call_flags:\n\t"
        "push %rbx\n\tpushfq\n\tmov %rdi, %rbx\n\tmov (%rdi), %rdi\n\t"
        "pushfq\n\torq %rsi, (%rsp)\n\tpopfq\n\tsyscall\n\tpushfq\n\tpop %rax\n\t"
        "mov %rdi, (%rbx)\n\tpopfq\n\tpop %rbx\n\tret\n");

_Noreturn void machine_reply_at(uint64_t rsp) {
    __asm__ volatile("mov %0, %%rsp\n\tmov $1, %%edi\n\tsyscall\n\tud2" : : "r"(rsp) : "memory");
    __builtin_unreachable();
}

/* COM1's interrupt: enabling "transmitter empty" with an empty transmitter raises it (16550 data sheet, IER and IIR). */
unsigned machine_gsi(void) { return 4; }
void machine_gsi_prepare(void) {
    outb(COM1 + 4, 0x0b); /* OUT2 connects the interrupt */
    outb(COM1 + 1, 0);
    (void)inb(COM1 + 2);
}
void machine_gsi_raise(void) {
    while (!(inb(COM1 + 5) & 0x20))
        machine_relax();
    outb(COM1 + 1, 2);
    (void)inb(COM1 + 2); /* acknowledges */
    outb(COM1 + 1, 0);
}

/* QEMU q35: MMCONFIG at 0xb0000000, the host bridge's page is the first. The device of choice is QEMU's teaching device `edu`, which has
 * a DMA engine (QEMU docs/specs/edu.txt). */
#define MMCONFIG         0xb0000ul
#define EDU_ID           0x11e81234u
#define VA_PCI           0x7000000000ul /* 256 pages: functions of bus 0; then edu's registers */
#define VA_EDU           (VA_PCI + 0x200000)
#define PAGES(va, order) crd_mem((va) >> 12, order, PERM_MEM_R | PERM_MEM_W)
static volatile u64 *edu;

static u64 edu_find(void) {
    for (u64 f = 0; f < 256; f++) {
        volatile u32 *config = (volatile u32 *)(VA_PCI + f * PAGE);
        if (config[0] != EDU_ID)
            continue;
        config[1] = (config[1] & 0xffff) | 6; /* memory space, bus master */
        if (grab(crd_mem(config[4] >> 12, 0, 3), VA_EDU >> 12, ITEM_H, PAGES(VA_EDU, 0)) == PAGES(VA_EDU, 0))
            edu = (volatile u64 *)VA_EDU;
        return MMCONFIG + f;
    }
    return 0;
}

uint64_t machine_config_page(void) {
    static u64 page;
    if (page)
        return page;
    if (grab(crd_mem(MMCONFIG, 8, 3), VA_PCI >> 12, ITEM_H, PAGES(VA_PCI, 8)) != PAGES(VA_PCI, 8) ||
        (*(volatile u32 *)VA_PCI & 0xffff) != 0x8086)
        return 0;
    page = edu_find();
    return page ? page : (page = MMCONFIG);
}

static void edu_transfer(u64 from, u64 to, u64 direction) {
    enum { SOURCE = 0x80 / 8, TARGET = 0x88 / 8, COUNT = 0x90 / 8, COMMAND = 0x98 / 8 };
    edu[SOURCE] = from;
    edu[TARGET] = to;
    edu[COUNT] = 8;
    edu[COMMAND] = 1 | direction << 1;
    while (edu[COMMAND] & 1)
        pause_us(1000);
}

bool machine_dma_copy(uint64_t from, uint64_t to) {
    enum { EDU_BUFFER = 0x40000 };
    if (!machine_config_page() || !edu)
        return false;
    edu_transfer(from, EDU_BUFFER, 0);
    edu_transfer(EDU_BUFFER, to, 1);
    return true;
}

uint64_t machine_guest_ip(enum machine_guest kind, uint64_t va, uint64_t gpa) {
    static const uint8_t code[][6] = {[GUEST_SPIN] = {0xfb, 0xeb, 0xfe},        /* sti; jmp . */
                                      [GUEST_CPUID] = {0x0f, 0xa2, 0xeb, 0xfe}, /* cpuid; jmp . */
                                      [GUEST_HLT] = {0xf4, 0xeb, 0xfe}};        /* hlt; jmp . */
    for (unsigned i = 0; i < 6; i++)
        mem_write8((void *)(va + i), code[kind][i]);
    return gpa;
}
