/* One CPU: features, control registers, descriptor tables. AMD APM vol 2, SDM vol 3 and 4 (sections at each item). */
#include "hw/hw.h"
#include "arch/assert.h"
#include "arch/mitigate.h"
#include "hw/layout.h"
#include <mach/insn.h>
#include <mach/insn_vmx.h>

struct hw_features hw_features;
static unsigned smt_shift, core_shift;

enum { CR0_MP = 1 << 1, CR0_NE = 1 << 5, CR0_WP = 1 << 16 };
enum { CR4_PAE = 1 << 5, CR4_MCE = 1 << 6, CR4_PGE = 1 << 7, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10 };
enum { CR4_UMIP = 1 << 11, CR4_FSGSBASE = 1 << 16, CR4_OSXSAVE = 1 << 18, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21 };
#define CR0_BASE        0x80000011ul /* PG ET PE */
#define MSR_EFER        0xc0000080u
#define MSR_STAR        0xc0000081u
#define MSR_LSTAR       0xc0000082u
#define MSR_CSTAR       0xc0000083u
#define MSR_FMASK       0xc0000084u
#define MSR_GS_BASE     0xc0000101u
#define MSR_KGS         0xc0000102u
#define MSR_SYSENTER_CS 0x174u

/* SDM vol 2 CPUID; AMD APM vol 3 appendix E. Long mode and NX were checked by boot.S. */
bool cpu_detect(const char **missing) {
    u32 max = cpuid(0, 0).a, max_ext = cpuid(0x80000000, 0).a;
    struct cpuid_regs f1 = cpuid(1, 0), f7 = max >= 7 ? cpuid(7, 0) : (struct cpuid_regs){0};
    struct cpuid_regs e1 = cpuid(0x80000001, 0);
    struct hw_features *f = &hw_features;
    f->x2apic = f1.c >> 21 & 1;
    f->tsc_deadline = f1.c >> 24 & 1;
    f->xsave = f1.c >> 26 & 1;
    f->avx = f1.c >> 28 & 1;
    f->pge = f1.d >> 13 & 1;
    f->smep = f7.b >> 7 & 1;
    f->smap = f7.b >> 20 & 1;
    f->avx512 = f7.b >> 16 & 1;
    f->umip = f7.c >> 2 & 1;
    f->page_1g = e1.d >> 26 & 1;
    f->tcg = f1.c >> 31 && cpuid(0x40000000, 0).b == 0x54474354; /* QEMU without KVM, as svm.c */
    f->invariant_tsc = max_ext >= 0x80000007 && (cpuid(0x80000007, 0).d >> 8 & 1);
    f->phys_bits = max_ext >= 0x80000008 ? cpuid(0x80000008, 0).a & 0xff : 36;
    ptab_max_leaf_order = f->page_1g ? 18 : 9;
    *missing = !(f7.b & 1)         ? "FSGSBASE (thread-local storage needs it; any CPU since Ivy Bridge or Zen has it)"
               : !(f1.d >> 9 & 1)  ? "a local APIC"
               : !(f1.d >> 4 & 1)  ? "a time stamp counter"
               : !(e1.d >> 11 & 1) ? "SYSCALL"
               : !(f1.d >> 26 & 1) ? "SSE2"
                                   : NULL;
    return !*missing;
}

/* Feature bits come from the boot CPU: a system of unlike CPUs would fault here, reported by the early IDT. */
void cpu_control_init(void) {
    const struct hw_features *f = &hw_features;
    cr0_write(CR0_BASE | CR0_MP | CR0_NE | CR0_WP);
    cr4_write(CR4_PAE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_FSGSBASE |
              (f->pge && !(mitigations & MIT_ISOLATION) ? CR4_PGE : 0) | (f->umip ? CR4_UMIP : 0) |
              (f->xsave ? CR4_OSXSAVE : 0) | (f->smep ? CR4_SMEP : 0) | (f->smap ? CR4_SMAP : 0));
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | 0x801); /* NXE SCE */
    mitigate_cpu_init();
    dr7_write(0x400);
    fpu_init();
}

static u64 tss_base(const struct cpu *c) { return TSS_AREA + c->id * 4 * PAGE_SIZE; }

void cpu_gs_set(struct cpu *c) {
    c->mach.self = c;
    wrmsr(MSR_GS_BASE, c->mach.area ? tss_base(c) + ENTRY_OFFSET : (u64)c);
    wrmsr(MSR_KGS, 0);
}

/* Code of assembly that is there only with some mitigation (alt.h). */
struct alternative {
    u8 *code;
    u32 length, needs;
};
extern const struct alternative image_alt[], image_alt_end[];

void alternatives_apply(void) {
    for (const struct alternative *a = image_alt; a < image_alt_end; a++)
        if (!(mitigations & a->needs)) {
            a->code[0] = 0xeb; /* JMP behind it */
            a->code[1] = (u8)(a->length - 2);
        }
}

struct gate hw_idt[256] __attribute__((aligned(4096))); /* a page of its own: isolation */
extern const char trap_stubs[], syscall_entry[], syscall_entry_isolated[];

struct table_pointer {
    u16 limit;
    u64 base;
} __attribute__((packed));

static void idt_load(void) {
    struct table_pointer p = {sizeof(hw_idt) - 1, (u64)hw_idt};
    __asm__ volatile("lidt %0" ::"m"(p));
}

static void gate_set(unsigned vec, unsigned ist, unsigned dpl) {
    u64 entry = (u64)trap_stubs + vec * 16;
    hw_idt[vec] = (struct gate){.offset_low = (u16)entry,
                                .selector = SEL_KCODE,
                                .ist = (u8)ist,
                                .attr = (u8)(0x8e | dpl << 5),
                                .offset_mid = (u16)(entry >> 16),
                                .offset_high = (u32)(entry >> 32)};
}

void cpu_idt_early(void) {
    for (unsigned v = 0; v < 256; v++)
        gate_set(v, 0, v == 3 || v == 4 ? 3 : 0); /* INT3 and INTO are the user's to use */
    idt_load();
}

void cpu_tables_load(struct cpu *c) {
    struct hw_area *a = c->mach.area;
    u64 base = tss_base(c), stacks = STACK_AREA + c->id * 16 * PAGE_SIZE, limit = 3 * PAGE_SIZE;
    a->tss = (struct hw_tss){.rsp = {base + PAGE_SIZE}, .iomap_base = PAGE_SIZE};
    for (unsigned i = 0; i < IST_COUNT; i++)
        a->tss.ist[i] = stacks + (6 + 2 * i) * PAGE_SIZE + IST_CPU_OFFSET; /* paging_cpu_init placed them */
    /* The bitmap's last byte must be followed by one of ones within the limit (SDM vol 1 19.5.2): the page behind it. */
    const u64 gdt[8] = {
        [SEL_KCODE / 8] = 0x00af9b000000ffff,
        [SEL_KDATA / 8] = 0x00cf93000000ffff,
        [SEL_UDATA / 8] = 0x00cff3000000ffff,
        [SEL_UCODE / 8] = 0x00affb000000ffff,
        [SEL_TSS / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | 0x89ul << 40 | (limit >> 16 & 0xf) << 48 |
                        (base >> 24 & 0xff) << 56,
        [SEL_TSS / 8 + 1] = base >> 32,
    };
    memcpy(a->entry.gdt, gdt, sizeof(gdt));
    a->entry.gdtr_limit = sizeof(gdt) - 1;
    a->entry.gdtr_base = base + ENTRY_OFFSET + ENTRY_GDT;
    a->entry.frame = base + PAGE_SIZE - 5 * 8;
    __asm__ volatile("lgdt %0\n\t"
                     "pushq %1\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tmovl %2, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "movl %%eax, %%fs\n\t"
                     "movl %%eax, %%gs\n\t"
                     "lldt %%ax\n\t"
                     "movl %3, %%eax\n\t"
                     "ltr %%ax" ::"m"(a->entry.gdtr_limit),
                     "i"(SEL_KCODE), "i"(SEL_KDATA), "i"(SEL_TSS)
                     : "rax", "memory");
    cpu_gs_set(c); /* loading GS cleared its base */
    gate_set(1, IST_DB, 0);
    gate_set(2, IST_NMI, 0);
    gate_set(8, IST_DF, 0);
    gate_set(18, IST_MC, 0);
    idt_load();
    wrmsr(MSR_STAR, (u64)SYSRET_BASE << 48 | (u64)SEL_KCODE << 32);
    wrmsr(MSR_LSTAR, (u64)(mitigations & MIT_ISOLATION ? syscall_entry_isolated : syscall_entry));
    wrmsr(MSR_CSTAR, rdmsr(MSR_LSTAR)); /* unreachable: no compatibility mode for users */
    wrmsr(MSR_FMASK, 0x257fd5);         /* all but bit 1, RF and VM: IF TF DF AC NT IOPL ID and the arithmetic flags */
    wrmsr(MSR_SYSENTER_CS, 0);          /* SYSENTER faults */
}

void vmx_host_write(void) {
    extern const char vmx_exit[];
    struct cpu *c = arch_cpu_self();
    vmwrite(HOST_CS, SEL_KCODE);
    vmwrite(HOST_SS, SEL_KDATA);
    vmwrite(HOST_TR, SEL_TSS);
    vmwrite(HOST_GS_BASE, tss_base(c) + ENTRY_OFFSET);
    vmwrite(HOST_TR_BASE, tss_base(c));
    vmwrite(HOST_GDTR_BASE, c->mach.area->entry.gdtr_base);
    vmwrite(HOST_IDTR_BASE, (u64)hw_idt);
    vmwrite(HOST_RIP, (u64)vmx_exit);
}

u32 cpu_apic_id(void) {
    u32 max = cpuid(0, 0).a;
    if (max >= 0xb && cpuid(0xb, 0).b)
        return cpuid(0xb, 0).d;
    return cpuid(1, 0).b >> 24;
}

static unsigned log2_up(u32 n) { return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0; }

/* APIC id = package | core | thread; SDM vol 3 9.9.3 "Hierarchical ID" (leaf 0bh names its levels: 1 thread, 2 core; one with a single entry may be
 * left out), AMD APM vol 3 E.4.7 (80000008h ECX). */
void cpu_shifts_init(void) {
    u32 max = cpuid(0, 0).a;
    if (max >= 0xb && cpuid(0xb, 0).b) {
        for (u32 level = 0, type = 1; type && level < 8; level++) {
            struct cpuid_regs r = cpuid(0xb, level);
            type = r.c >> 8 & 0xff;
            smt_shift = type == 1 ? r.a & 31 : smt_shift;
            core_shift = type ? r.a & 31 : core_shift;
        }
    } else if (cpuid(1, 0).d >> 28 & 1) {
        u32 logical = cpuid(1, 0).b >> 16 & 0xff,
            cores = max >= 4 && (cpuid(4, 0).a & 31) ? (cpuid(4, 0).a >> 26) + 1 : 1;
        if (cores == 1 && cpuid(0x80000000, 0).a >= 0x80000008)
            cores = (cpuid(0x80000008, 0).c & 0xff) + 1;
        smt_shift = logical > cores ? log2_up(logical / cores) : 0;
        core_shift = smt_shift + log2_up(cores);
    }
    if (core_shift < smt_shift)
        core_shift = smt_shift;
}

void cpu_topology(u32 apic_id, struct boot_cpu *out) {
    out->thread = (u8)(apic_id & ((1u << smt_shift) - 1));
    out->core = (u8)((apic_id & ((1u << core_shift) - 1)) >> smt_shift);
    out->package = (u8)(apic_id >> core_shift);
}

bool arch_preempt_pending(void) {
    __asm__ volatile("sti; nop; cli" ::: "memory");
    return atomic_load_rlx(&arch_cpu_self()->hazard) != 0;
}

void arch_cpu_idle(void) {
    if (atomic_load_rlx(&arch_cpu_self()->hazard))
        return;
    /* QEMU may forget an interrupt that comes while a guest enters or leaves, until it looks again (docs/performance.md). */
    if (hw_features.tcg)
        lapic_remind();
    __asm__ volatile("sti; hlt; cli" ::: "memory"); /* nothing gets between sti and hlt */
}
