/* Device interrupts: I/O APIC pins and messages, vector VEC_GSI + gsi on the CPU that core chose. Intel 82093AA data sheet, section 3. */
#include "arch/assert.h"
#include "arch/spin.h"
#include "core/klog.h"
#include "hw/hw.h"
#include <mach/insn.h>

#define RTE_MASKED 0x10000u
#define RTE_LEVEL  0x8000u
#define RTE_LOW    0x2000u
static_assert(VEC_GSI + ABI_MAX_GSIS <= VEC_TIMER, "vectors");

static struct ioapic {
    volatile u32 *regs; /* index at 0, data at 0x10 */
    u32 gsi_base, pins;
    struct spinlock lock; /* rank below gsi: index and data registers */
} ioapics[ACPI_MAX_IOAPICS];
static u32 ioapic_count;

static u32 ioapic_read(struct ioapic *a, u32 reg) {
    a->regs[0] = reg;
    return a->regs[4];
}
static void ioapic_write(struct ioapic *a, u32 reg, u32 v) {
    a->regs[0] = reg;
    a->regs[4] = v;
}

static struct ioapic *ioapic_of(unsigned gsi) {
    for (u32 i = 0; i < ioapic_count; i++)
        if (gsi - ioapics[i].gsi_base < ioapics[i].pins)
            return &ioapics[i];
    return NULL;
}

/* The two 8259 are moved out of the way of exceptions and masked; their spurious interrupts are ignored (vectors 0xa0-0xaf).
 * Before the local APIC masks LINT0: what the 8259 had pending goes away only while that pin still listens. */
void pic_silence(void) {
    if (!hw_acpi.has_8259 && hw_acpi.lapic_addr)
        return;
    static const struct {
        u8 port, value;
    } steps[] = {{0x21, 0xff}, {0xa1, 0xff}, {0x20, 0x11}, {0xa0, 0x11}, {0x21, 0xa0}, {0xa1, 0xa8},
                 {0x21, 4},    {0xa1, 2},    {0x21, 1},    {0xa1, 1},    {0x21, 0xff}, {0xa1, 0xff}};
    for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
        outb(steps[i].port, steps[i].value);
}

u32 ioapic_init(void) {
    for (u32 i = 0; i < hw_acpi.ioapic_count; i++) {
        const struct acpi_ioapic *t = &hw_acpi.ioapics[i];
        if (t->addr >= 1ul << 32 || t->gsi_base >= ABI_MAX_GSIS)
            continue;
        struct ioapic *a = &ioapics[ioapic_count++];
        a->regs = arch_phys_ptr(PADDR(t->addr));
        a->gsi_base = t->gsi_base;
        a->pins = (u32)min_u64((ioapic_read(a, 1) >> 16 & 0xff) + 1, ABI_MAX_GSIS - t->gsi_base);
        for (u32 pin = 0; pin < a->pins; pin++) {
            ioapic_write(a, 0x10 + 2 * pin, RTE_MASKED);
            ioapic_write(a, 0x11 + 2 * pin, 0);
        }
    }
    if (!ioapic_count)
        klog_warn("missing: I/O APIC: device interrupts other than messages do not arrive\n");
    return ABI_MAX_GSIS;
}

unsigned ioapic_holes(struct boot_range *out, unsigned max) {
    unsigned n = 0;
    for (u32 i = 0; i < hw_acpi.ioapic_count && n < max; i++)
        out[n++] = (struct boot_range){
            .base = hw_acpi.ioapics[i].addr & ~PAGE_MASK, .size = PAGE_SIZE, .type = HIP_MEM_KERNEL};
    return n;
}

static void rte_mask(unsigned gsi, bool mask) {
    struct ioapic *a = ioapic_of(gsi);
    if (!a)
        return;
    u32 reg = 0x10 + 2 * (gsi - a->gsi_base);
    spin_lock(&a->lock);
    u32 low = ioapic_read(a, reg);
    ioapic_write(a, reg, mask ? low | RTE_MASKED : low & ~RTE_MASKED);
    spin_unlock(&a->lock);
}

void arch_irq_mask(unsigned gsi) { rte_mask(gsi, true); }
void arch_irq_unmask(unsigned gsi) { rte_mask(gsi, false); }
bool arch_irq_has_pin(unsigned gsi) { return ioapic_of(gsi) != NULL; }

void arch_irq_route(unsigned gsi, unsigned cpu, bool level, bool low, u32 *msi_addr, u32 *msi_data) {
    u32 apic_id = cpus[cpu]->mach.apic_id, vector = VEC_GSI + gsi;
    if (apic_id > 0xfe) { /* out of reach without interrupt remapping */
        klog_warn("gsi %u: CPU %u cannot be addressed by devices; CPU 0 takes it\n", gsi, cpu);
        apic_id = cpus[0]->mach.apic_id;
    }
    *msi_addr = 0xfee00000u | apic_id << 12;
    *msi_data = vector;
    struct ioapic *a = ioapic_of(gsi);
    if (!a)
        return;
    u32 reg = 0x10 + 2 * (gsi - a->gsi_base);
    spin_lock(&a->lock);
    u32 masked = ioapic_read(a, reg) & RTE_MASKED;
    ioapic_write(a, reg, RTE_MASKED);
    ioapic_write(a, reg + 1, apic_id << 24);
    ioapic_write(a, reg, masked | vector | (level ? RTE_LEVEL : 0) | (low ? RTE_LOW : 0));
    spin_unlock(&a->lock);
}

bool arch_irq_default_level(unsigned gsi) {
    for (unsigned irq = 0; irq < 16; irq++)
        if (hw_acpi.isa[irq].gsi == gsi && (irq != gsi || hw_acpi.isa[irq].level))
            return hw_acpi.isa[irq].level;
    return gsi >= 16 && arch_irq_has_pin(gsi);
}

bool arch_irq_default_low(unsigned gsi) {
    for (unsigned irq = 0; irq < 16; irq++)
        if (hw_acpi.isa[irq].gsi == gsi && (irq != gsi || hw_acpi.isa[irq].low))
            return hw_acpi.isa[irq].low;
    return gsi >= 16 && arch_irq_has_pin(gsi);
}
