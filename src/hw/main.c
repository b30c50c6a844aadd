/* From the entry assembly to the dispatch loops: what the loader and the firmware say becomes struct boot_info. */
#include "arch/cmdline.h"
#include "arch/mitigate.h"
#include "arch/multiboot.h"
#include "arch/space.h"
#include "arch/vcpu.h"
#include "core/klog.h"
#include "hw/hw.h"
#include "hw/layout.h"
#include <mach/insn.h>

#define MIB         (1ul << 20)
#define POOL_MIN    (4 * MIB)
#define POOL_MAX    (1024 * MIB)
#define EARLY_LIMIT (1ul << 32) /* boot.S maps this much */

u64 hw_image_moved;
struct cpu hw_boot_cpu __attribute__((aligned(4096)));
struct acpi_info hw_acpi;
struct range_list hw_ranges;
static struct loader_info loader;
static struct cmdline options;
static struct boot_info boot;
static struct boot_module modules[LOADER_MODULES_MAX];
static struct boot_cpu boot_cpus[ABI_MAX_CPUS];
static u32 apic_ids[ABI_MAX_CPUS];
static struct boot_range holes[1 + ACPI_MAX_IOAPICS + ACPI_MAX_DRHDS];

void hw_stop(const char *what) {
    klog_at(KLOG_FATAL, "novella: stopped: %s\n", what);
    for (;;)
        __asm__ volatile("cli; hlt" ::: "memory");
}

static const void *early_map(void *context, u64 addr, u64 size) {
    (void)context;
    return addr < EARLY_LIMIT && size <= EARLY_LIMIT - addr ? arch_phys_ptr(PADDR(addr)) : NULL;
}
static const struct phys_reader reader = {.map = early_map};

static void range_set_or_stop(u64 base, u64 size, i32 type) {
    if (!range_set(&hw_ranges, base, size, type))
        hw_stop("the firmware's memory map has too many entries");
}

/* The highest place below 4 GiB that meets no module. */
static u64 place(u64 size, u64 align) {
    static struct boot_range avoid[LOADER_MODULES_MAX];
    for (u32 i = 0; i < loader.module_count; i++)
        avoid[i] = (struct boot_range){.base = loader.modules[i].base, .size = loader.modules[i].size};
    return range_find(&hw_ranges, size, align, HIP_MEM_RAM, MIB, EARLY_LIMIT, avoid, loader.module_count);
}

static void memory_find(void) {
    hw_ranges = loader.map;
    u64 ram = range_total(&hw_ranges, HIP_MEM_RAM), image = ((u64)image_end - KERNEL_VIRT) - (u64)image_base;
    range_set_or_stop((u64)image_base + hw_image_moved, (image + PAGE_MASK) & ~PAGE_MASK, HIP_MEM_KERNEL);
    /* Module command lines: in memory that root can map and will not take for free. */
    u64 strings = place(LOADER_STRINGS, PAGE_SIZE);
    if (strings) {
        memcpy(arch_phys_ptr(PADDR(strings)), loader.strings, LOADER_STRINGS);
        range_set_or_stop(strings, LOADER_STRINGS, HIP_MEM_RESERVED);
    }
    u64 size = min_u64(max_u64(POOL_MIN, ram / 64), POOL_MAX) & ~PAGE_MASK, pool = place(size, PAGE_SIZE);
    while (!pool && size > POOL_MIN) {
        size = max_u64(size / 2, POOL_MIN) & ~PAGE_MASK;
        pool = place(size, PAGE_SIZE);
    }
    if (!strings || !pool) {
        klog_at(KLOG_FATAL,
                "novella: too little memory: %lu MiB RAM, boot modules included; the kernel needs 4 MiB in one piece "
                "below 4 GiB\n",
                ram / MIB);
        hw_stop("give the machine more memory or fewer boot modules");
    }
    range_set_or_stop(pool, size, HIP_MEM_KERNEL);
    for (u32 i = 0; i < loader.module_count; i++)
        modules[i] = (struct boot_module){.base = loader.modules[i].base,
                                          .size = loader.modules[i].size,
                                          .cmdline = strings + loader.modules[i].cmdline};
    u64 pages = pool;
    paging_init(&pages, pool + size);
    boot.pool_base = PADDR(pages);
    boot.pool_size = pool + size - pages;
    klog("memory: %lu MiB RAM, kernel image %lu KiB at 0x%lx, kernel pool %lu KiB\n", ram / MIB, image >> 10,
         (u64)image_base + hw_image_moved, boot.pool_size >> 10);
}

static void acpi_find(void) {
    u8 copy[36];
    u32 size = loader.rsdp_size;
    memcpy(copy, loader.rsdp, sizeof(copy));
    if (!size) {
        u64 addr = acpi_find_rsdp(&reader);
        const u8 *p = addr ? early_map(NULL, addr, 36) : NULL;
        if (p) {
            size = p[15] >= 2 ? 36 : 20;
            memcpy(copy, p, size);
        }
    }
    if (!acpi_parse(&reader, copy, size, &hw_acpi))
        klog_warn("missing: usable ACPI tables: one CPU, no I/O APIC, no IOMMU\n");
    else if (hw_acpi.damaged)
        klog_warn("acpi: %u tables are damaged or out of reach and are ignored\n", hw_acpi.damaged);
}

/* This CPU is number 0; the others follow in table order. */
static void cpus_find(void) {
    unsigned n = 1;
    apic_ids[0] = cpu_apic_id();
    for (u32 i = 0; !options.nosmp && i < hw_acpi.cpu_count; i++) {
        const struct acpi_cpu *a = &hw_acpi.cpus[i];
        unsigned at = a->apic_id == apic_ids[0] ? 0 : n;
        if (at >= ABI_MAX_CPUS || (a->apic_id > 0xfe && !hw_features.x2apic)) {
            hw_acpi.cpus_lost++;
            continue;
        }
        n += at != 0;
        apic_ids[at] = a->apic_id;
        boot_cpus[at].acpi_id = (u8)a->acpi_id;
    }
    if (hw_acpi.cpus_lost)
        klog_warn("cpus: %u more than the %u that can be used stay parked\n", hw_acpi.cpus_lost, n);
    for (unsigned i = 0; i < n; i++)
        cpu_topology(apic_ids[i], &boot_cpus[i]);
    boot.cpus = boot_cpus;
    boot.cpu_count = n;
}

static void holes_find(void) {
    u64 lapic = rdmsr(0x1b) & 0xffffff000ul;
    holes[0] = (struct boot_range){.base = lapic, .size = PAGE_SIZE, .type = HIP_MEM_KERNEL};
    unsigned n = 1 + ioapic_holes(holes + 1, ACPI_MAX_IOAPICS);
    for (u32 i = 0; i < hw_acpi.drhd_count; i++)
        holes[n++] =
            (struct boot_range){.base = hw_acpi.drhd[i] & ~PAGE_MASK, .size = PAGE_SIZE, .type = HIP_MEM_KERNEL};
    boot.holes = holes;
    boot.hole_count = n;
}

static void time_find(void) {
    const char *reference = clock_init();
    if (!reference)
        hw_stop("neither the ACPI PM timer nor the 8254 counts; the TSC cannot be calibrated");
    pic_silence();
    lapic_init();
    lapic_calibrate();
    klog("time: TSC %u kHz (against the %s)%s, %s, %s\n", hw_tsc_khz, reference,
         hw_features.invariant_tsc ? "" : ", not marked invariant",
         hw_features.tsc_deadline ? "TSC deadline" : "one-shot timer", hw_features.x2apic ? "x2APIC" : "xAPIC");
    boot.tsc_khz = hw_tsc_khz;
}

static void boot_info_fill(void) {
    boot.ranges = hw_ranges.r;
    boot.range_count = hw_ranges.count;
    boot.modules = modules;
    boot.module_count = loader.module_count;
    boot.cmdline = loader.strings + loader.cmdline;
    boot.iommus = hw_acpi.drhd;
    boot.iommu_count = options.noiommu ? 0 : hw_acpi.drhd_count;
    boot.mcfg = hw_acpi.mcfg;
    boot.mcfg_count = hw_acpi.mcfg_count;
    boot.features = arch_vcpu_features();
    boot.phys_bits = hw_features.phys_bits;
}

/* The rest of a CPU's own setup; its stacks and core's struct cpu are there. */
static bool cpu_bring_up(struct cpu *c) {
    cpu_tables_load(c);
    arch_vcpu_cpu_init(c); /* without it this CPU has no vCPUs: said once */
    c->mach.deadline = ~0ul;
    arch_fpu_disable();
    return core_cpu_init(c);
}

void hw_ap_main(struct cpu *c) {
    cpu_control_init();
    cpu_gs_set(c);
    cpu_idt_early();
    lapic_init();
    if (!cpu_bring_up(c)) {
        klog_warn("cpu %u: no memory for it\n", c->id);
        for (;;)
            __asm__ volatile("cli; hlt" ::: "memory");
    }
    smp_wait_release();
    cr3_write(paging_root()); /* without the identity map */
    hw_dispatch(c);
}

static void options_apply(void) {
    cmdline_parse(loader.strings + loader.cmdline, &options);
    klog_level = options.loglevel;
    mitigations = mitigations_choose(options.mitigations);
    cpu_control_init(); /* again: they change what is in it */
    console_init(&options);
    if (!options.nofb)
        (void)screen_init(&loader.screen);
}

void hw_main(u32 magic, u32 info, u64 moved) {
    const char *why = NULL;
    stack_guard_init();
    hw_image_moved = moved;
    hw_kernel_root = cr3_read();
    cmdline_parse("", &options);
    console_init(&options); /* for what goes wrong before the loader's words are known */
    cpu_gs_set(&hw_boot_cpu);
    bool fit = cpu_detect(&why);
    if (!fit) {
        klog_at(KLOG_FATAL, "novella: this CPU lacks %s\n", why);
        hw_stop("required CPU feature missing");
    }
    cpu_control_init();
    cpu_idt_early();
    bool loaded = multiboot_parse(magic, info, &reader, &loader, &why);
    options_apply();
    klog("\nNovella microhypervisor, %u-bit physical addresses\n", hw_features.phys_bits);
    if (options.bad)
        klog_warn(
            "cmdline: %u words are not understood, first \"%s\"; there are serial=com1..com4|PORT|pci|none[,BAUD] "
            "loglevel=0..2 mitigations=auto|force|off debugcon nofb noiommu nosmp\n",
            options.bad, options.word);
    if (!loaded)
        hw_stop(why);
    acpi_find();
    memory_find();
    cpu_shifts_init();
    cpus_find();
    time_find();
    boot.gsi_count = ioapic_init();
    holes_find();
    boot_info_fill();
    if (!core_init(&boot, &hw_boot_cpu))
        hw_stop("not enough memory for the kernel");
    for (unsigned i = 0; i < boot.cpu_count; i++)
        cpus[i]->mach.apic_id = apic_ids[i];
    if (!paging_cpu_init(&hw_boot_cpu) || !cpu_bring_up(&hw_boot_cpu))
        hw_stop("not enough memory for the boot CPU");
    smp_start(boot.cpu_count);
    machine_report(&boot, &loader, &options);
    paging_identity(false);
    if (!core_root_init(&hw_boot_cpu))
        klog_at(KLOG_FATAL, "novella: there is no root to run; nothing else to do\n");
    smp_release();
    hw_dispatch(&hw_boot_cpu);
}
