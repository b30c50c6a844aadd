/* Inside of the ring-0 backend. */
#pragma once
#include "arch/acpi.h"
#include "arch/mem.h"
#include "arch/range.h"
#include "core/core.h"
#include "core/pd.h"

/* What this machine has; set by cpu.c on the boot CPU. */
struct hw_features {
    bool x2apic, tsc_deadline, pge, smep, smap, umip, page_1g, xsave, avx, avx512, rep_good, invariant_tsc, tcg;
    unsigned phys_bits;
};
extern struct hw_features hw_features;
extern struct cpu hw_boot_cpu;
extern struct acpi_info hw_acpi;
extern struct range_list hw_ranges;

extern u64 hw_image_moved; /* bytes between where the image was linked (layout.h, 1 MiB) and where the loader put it */
/* main.c: C entry of the boot CPU and of the others (interrupts off, boot page tables, own stack). */
_Noreturn void hw_main(u32 magic, u32 info, u64 moved);
_Noreturn void hw_ap_main(struct cpu *c);
/* Prints one line and stops: the machine lacks something that we need. */
_Noreturn void hw_stop(const char *what);

/* report.c: into the log, when all CPUs run that will. */
struct cmdline;
struct loader_info;
void machine_report(const struct boot_info *b, const struct loader_info *l, const struct cmdline *o);

/* console.c: may be called again with other options. */
void console_init(const struct cmdline *o);
/* screen.c. False: not one that can be used. */
struct loader_screen;
bool screen_init(const struct loader_screen *s);
void screen_putc(char c);

/* cpu.c */
bool cpu_detect(const char **missing);
void cpu_control_init(void);         /* CR0, CR4, EFER, XCR0: any CPU, before anything else in C */
void cpu_gs_set(struct cpu *c);      /* arch_cpu_self works from here on */
void cpu_tables_load(struct cpu *c); /* GDT, IDT, TSS, syscall MSRs; its pages are there (paging_cpu_init) */
void alternatives_apply(void);       /* before kernel text is read-only */
void cpu_idt_early(void);            /* panics with a report instead of resetting, before cpu_tables_load */
u32 cpu_apic_id(void);               /* of this CPU, from CPUID */
void cpu_topology(u32 apic_id, struct boot_cpu *out);
void cpu_shifts_init(void);
struct hw_tss { /* AMD APM vol 2 12.2.5, SDM vol 3 8.7 */
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, iomap_base;
} __attribute__((packed));
static_assert(sizeof(struct hw_tss) == 104, "64-bit TSS");
/* What entries need before they have the kernel's tables; GS base while in the kernel. Offsets: layout.h. */
struct hw_entry {
    struct cpu *self;
    struct ec *ec;                   /* the current one: entries store its registers */
    u64 stack_top;                   /* kernel stack of this CPU */
    u64 scratch;                     /* user RSP while an entry has no register free */
    u64 user_root;                   /* under isolation: CR3 of the current space, */
    u64 frame;                       /* and where the RIP of a frame at the end of this page is */
    u16 gdtr_padding[3], gdtr_limit; /* limit and base as LGDT reads them */
    u64 gdtr_base;
    u64 gdt[8];
};
struct hw_area { /* the first of a CPU's pages at TSS_AREA */
    struct hw_tss tss;
    u8 padding[24];
    struct hw_entry entry;
};
enum { IST_DB = 1, IST_NMI, IST_DF, IST_MC, IST_COUNT = 4 };

/* paging.c */
void paging_init(u64 *boot_pages, u64 boot_pages_end); /* final tables, from page frames at *boot_pages upward */
must_check bool paging_cpu_init(struct cpu *c);        /* TSS page, stacks; fills mach.area but its tables */
void paging_identity(bool on); /* low 4 GiB for the start of further CPUs; off: no page below the kernel half */
u64 paging_root(void);
struct gate { /* SDM vol 3 6.14.1 */
    u16 offset_low, selector;
    u8 ist, attr;
    u16 offset_mid;
    u32 offset_high, reserved;
};
extern struct gate hw_idt[256];

/* lapic.c, ioapic.c, clock.c */
void lapic_init(void); /* this CPU's */
void lapic_eoi(void);
void lapic_remind(void); /* looks again at what is pending */
u32 lapic_id(void);
void lapic_icr(u32 apic_id, u32 low);  /* sends and waits for acceptance */
void lapic_timer_fired(struct cpu *c); /* may call core_timer */
void lapic_nmi_others(void);
void lapic_calibrate(void); /* boot CPU, after clock_init */
void pic_silence(
    void); /* before lapic_init closes LINT0: a request that the 8259 still holds would stay latched in the CPU (QEMU) */
u32 ioapic_init(void); /* returns the number of GSIs (pins and MSIs) */
unsigned ioapic_holes(struct boot_range *out, unsigned max);
const char *clock_init(void); /* calibrates; says against what */
extern u32 hw_tsc_khz;
void clock_wait_us(u64 us);
enum vector { VEC_GSI = 0x20, VEC_TIMER = 0xf0, VEC_IPI = 0xf1, VEC_ERROR = 0xfe, VEC_SPURIOUS = 0xff };

/* smp.c */
void smp_start(unsigned count); /* starts cpus[1..count); returns when each runs or was given up */
void smp_release(void);         /* lets them into their dispatch loops */
void smp_wait_release(void);

/* lib.c: a value that nobody knows, for the compiler's checks of the stack. Its caller must not return. */
extern u64 __stack_chk_guard;
void stack_guard_init(void);

/* trap.c */
_Noreturn void hw_dispatch(struct cpu *c);
/* fpu.c */
void fpu_init(void);
/* panic.c */
void panic_stop_self(void); /* NMI handler's part: stops if a panic is under way */
_Noreturn void panic_trap(const char *what, const struct uregs *r, u64 fault_addr);
extern const char image_base[]; /* physical, as linked */
extern const char image_text[], image_rodata[], image_data[], image_end[], image_ksyms[], image_ksyms_end[];
extern const char image_entry_end[]; /* text that threads' tables have under isolation: from image_text */
