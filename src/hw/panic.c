/* Kernel panic: what, where, registers, who called; all CPUs stop. Uses no lock and nothing of core. */
#include "arch/assert.h"
#include "hw/hw.h"
#include "hw/layout.h"
#include <mach/insn.h>

static u32 panicking; /* atomic */

static void put(const char *s) {
    for (; *s; s++) {
        if (*s == '\n')
            arch_putc('\r');
        arch_putc(*s);
    }
}
static void put_hex(u64 v) {
    for (int shift = 60; shift >= 0; shift -= 4)
        arch_putc("0123456789abcdef"[v >> shift & 15]);
}
static void put_dec(u64 v) {
    char buf[21], *p = buf + 20;
    *p = 0;
    do
        *--p = (char)('0' + v % 10);
    while (v /= 10);
    put(p);
}

/* Table made at build time by tools/ksyms: count, pairs of (offset from image_text, offset of the name in the names), names. */
static void put_symbol(u64 addr) {
    const u32 *table = (const u32 *)image_ksyms;
    u32 offset = (u32)(addr - (u64)image_text), count = (u64)image_ksyms_end > (u64)image_ksyms ? table[0] : 0, low = 0,
        high = count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (table[1 + 2 * middle] <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    put_hex(addr);
    if (!low)
        return;
    put(" ");
    put((const char *)(table + 1 + 2 * count) + table[2 * low]);
    put("+");
    put_dec(offset - table[2 * low - 1]);
}

static bool is_text(u64 v) { return v > (u64)image_text && v < (u64)image_rodata; }

static u64 stack_end(u64 sp) {
    if (sp >= STACK_AREA && sp < STACK_AREA + ABI_MAX_CPUS * 16 * PAGE_SIZE) {
        u64 slot = sp & ~(16 * PAGE_SIZE - 1);
        return sp < slot + 5 * PAGE_SIZE ? slot + 5 * PAGE_SIZE : (sp | PAGE_MASK) - 15;
    }
    extern const char hw_boot_stack_end[];
    return sp < (u64)hw_boot_stack_end && sp > (u64)hw_boot_stack_end - 16384 ? (u64)hw_boot_stack_end : 0;
}

/* Every word on the stack that points into text: callers, and now and then a leftover. */
static void put_stack(u64 sp) {
    unsigned shown = 0;
    put("stack:\n");
    for (u64 end = stack_end(sp &= ~7ul); sp < end && shown < 24; sp += 8) {
        u64 v = *(const u64 *)sp;
        if (is_text(v)) {
            put("  ");
            put_symbol(v);
            put("\n");
            shown++;
        }
    }
}

static _Noreturn void halt(void) {
    for (;;)
        __asm__ volatile("cli; hlt" ::: "memory");
}

void panic_stop_self(void) {
    if (atomic_load_acq(&panicking))
        halt();
}

static void begin(const char *what) {
    __asm__ volatile("cli");
    if (atomic_xchg(&panicking, 1))
        halt();
    lapic_nmi_others();
    put("\n\nKERNEL PANIC on the CPU with APIC id "); /* GS may be a guest's: nothing of arch_cpu_self */
    put_dec(lapic_id());
    put(": ");
    put(what);
    put("\n");
}

static void put_value(const char *name, u64 v) {
    put(name);
    put_hex(v);
}

void panic_trap(const char *what, const struct uregs *r, u64 fault_addr) {
    begin(what);
    put("vector ");
    put_dec(r->vec);
    put_value(" error ", r->err);
    put(" at ");
    put_symbol(r->rip);
    const struct {
        const char *name;
        u64 v;
    } regs[] = {{"rax ", r->rax}, {" rbx ", r->rbx},    {" rcx ", r->rcx},     {" rdx ", r->rdx},
                {"rsi ", r->rsi}, {" rdi ", r->rdi},    {" rbp ", r->rbp},     {" rsp ", r->rsp},
                {"r8  ", r->r8},  {" r9  ", r->r9},     {" r10 ", r->r10},     {" r11 ", r->r11},
                {"r12 ", r->r12}, {" r13 ", r->r13},    {" r14 ", r->r14},     {" r15 ", r->r15},
                {"cs  ", r->cs},  {" flg ", r->rflags}, {" cr2 ", fault_addr}, {" cr3 ", cr3_read()}};
    for (unsigned i = 0; i < ARRAY_SIZE(regs); i++) {
        if (i % 4 == 0)
            put("\n");
        put_value(regs[i].name, regs[i].v);
    }
    put("\n");
    if (!(r->cs & 3))
        put_stack(r->rsp);
    halt();
}

void arch_panic(const char *what, const char *file, int line) {
    u64 rsp, rbx, rbp, r12, r13, r14, r15;
    __asm__ volatile("mov %%rsp, %0; mov %%rbx, %1; mov %%rbp, %2" : "=r"(rsp), "=r"(rbx), "=r"(rbp));
    __asm__ volatile("mov %%r12, %0; mov %%r13, %1; mov %%r14, %2; mov %%r15, %3"
                     : "=r"(r12), "=r"(r13), "=r"(r14), "=r"(r15));
    begin(what);
    put("in ");
    put(file);
    put(":");
    put_dec((u64)line);
    put_value("\nrsp ", rsp);
    put_value(" rbx ", rbx);
    put_value(" rbp ", rbp);
    put_value(" cr3 ", cr3_read());
    put_value("\nr12 ", r12);
    put_value(" r13 ", r13);
    put_value(" r14 ", r14);
    put_value(" r15 ", r15);
    put("\n");
    put_stack(rsp);
    halt();
}
