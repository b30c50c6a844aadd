#include "arch/acpi.h"
#include "arch/mem.h"

#define TABLE_MAX 0x100000u
enum { SDT_HEADER = 36 };

static bool rsdp_ok(const u8 *p) { return !memcmp(p, "RSD PTR ", 8) && !phys_checksum(p, 20); }

static u64 rsdp_scan(const struct phys_reader *r, u64 from, u64 to) {
    for (u64 at = from; at + 20 <= to; at += 16) {
        const u8 *p = phys_map(r, at, 20);
        if (p && rsdp_ok(p))
            return at;
    }
    return 0;
}

u64 acpi_find_rsdp(const struct phys_reader *r) {
    const void *segment = phys_map(r, 0x40e, 2); /* EBDA segment in the BIOS data area */
    u64 ebda = segment ? (u64)le16(segment) << 4 : 0;
    u64 found = ebda >= 0x400 && ebda < 0xa0000 ? rsdp_scan(r, ebda, ebda + 1024) : 0;
    return found ? found : rsdp_scan(r, 0xe0000, 0x100000);
}

/* A whole table with good length and checksum, or NULL. */
static const u8 *table_map(const struct phys_reader *r, u64 addr, u32 *size) {
    const u8 *head = addr ? phys_map(r, addr, SDT_HEADER) : NULL;
    u32 length = head ? le32(head + 4) : 0;
    if (length < SDT_HEADER || length > TABLE_MAX)
        return NULL;
    const u8 *t = phys_map(r, addr, length);
    *size = length;
    return t && !phys_checksum(t, length) ? t : NULL;
}

static void madt_cpu(struct acpi_info *out, u32 apic_id, u32 acpi_id, u32 flags) {
    if (!(flags & 1))
        return;
    for (u32 i = 0; i < out->cpu_count; i++)
        if (out->cpus[i].apic_id == apic_id)
            return;
    if (out->cpu_count == ACPI_MAX_CPUS)
        out->cpus_lost++;
    else
        out->cpus[out->cpu_count++] = (struct acpi_cpu){.apic_id = apic_id, .acpi_id = acpi_id};
}

static void madt_override(struct acpi_info *out, u8 irq, u32 gsi, u16 flags) {
    if (irq >= 16)
        return;
    /* Flags: polarity bits 0-1, trigger bits 2-3; 0 conforms to the bus (ISA: edge, high), 1 high or edge, 3 low or level. */
    out->isa[irq].gsi = gsi;
    out->isa[irq].low = (flags & 3) == 3;
    out->isa[irq].level = (flags >> 2 & 3) == 3;
}

static void madt_read(const u8 *t, u32 size, struct acpi_info *out) {
    enum { LAPIC = 0, IOAPIC = 1, OVERRIDE = 2, LAPIC_ADDRESS = 5, X2APIC = 9 };
    if (size < 44)
        return;
    out->lapic_addr = le32(t + 36);
    out->has_8259 = le32(t + 40) & 1;
    for (u32 at = 44, length; size - at >= 2; at += length) {
        const u8 *e = t + at;
        length = e[1];
        if (length < 2 || length > size - at)
            break;
        if (e[0] == LAPIC && length >= 8 && e[3] != 0xff)
            madt_cpu(out, e[3], e[2], le32(e + 4));
        else if (e[0] == X2APIC && length >= 16 && le32(e + 4) != ~0u)
            madt_cpu(out, le32(e + 4), le32(e + 12), le32(e + 8));
        else if (e[0] == IOAPIC && length >= 12 && out->ioapic_count < ACPI_MAX_IOAPICS)
            out->ioapics[out->ioapic_count++] =
                (struct acpi_ioapic){.id = e[2], .addr = le32(e + 4), .gsi_base = le32(e + 8)};
        else if (e[0] == OVERRIDE && length >= 10)
            madt_override(out, e[3], le32(e + 4), le16(e + 8));
        else if (e[0] == LAPIC_ADDRESS && length >= 12)
            out->lapic_addr = le64(e + 4);
    }
}

static void fadt_read(const u8 *t, u32 size, struct acpi_info *out) {
    enum { PM_TMR_BLK = 76, PM_TMR_LEN = 91, FLAGS = 112, X_PM_TMR_BLK = 208, TMR_VAL_EXT = 1 << 8 };
    if (size < FLAGS + 4 || t[PM_TMR_LEN] != 4)
        return;
    out->pm_timer = le32(t + PM_TMR_BLK);
    out->pm_timer_io = true;
    out->pm_timer_32 = le32(t + FLAGS) & TMR_VAL_EXT;
    if (size >= X_PM_TMR_BLK + 12 && le64(t + X_PM_TMR_BLK + 4) &&
        t[X_PM_TMR_BLK] <= 1) { /* space id: 0 memory, 1 I/O */
        out->pm_timer = le64(t + X_PM_TMR_BLK + 4);
        out->pm_timer_io = t[X_PM_TMR_BLK] == 1;
    }
    if (out->pm_timer_io && out->pm_timer > 0xfffc)
        out->pm_timer = 0;
}

static void dmar_read(const u8 *t, u32 size, struct acpi_info *out) {
    for (u32 at = 48, length; size >= 48 && size - at >= 4; at += length) {
        length = le16(t + at + 2);
        if (length < 4 || length > size - at)
            break;
        if (le16(t + at) != 0 || length < 16)
            continue;
        if (le16(t + at + 6) == 0 && le64(t + at + 8) >> 32 == 0 && out->drhd_count < ACPI_MAX_DRHDS)
            out->drhd[out->drhd_count++] = le64(t + at + 8);
        else
            out->drhds_lost++;
    }
}

static void mcfg_read(const u8 *t, u32 size, struct acpi_info *out) {
    for (u32 at = 44; size >= 44 && size - at >= 16 && out->mcfg_count < ACPI_MAX_MCFG; at += 16)
        out->mcfg[out->mcfg_count++] = (struct acpi_mcfg){
            .base = le64(t + at), .segment = le16(t + at + 8), .bus_first = t[at + 10], .bus_last = t[at + 11]};
}

static void table_read(const struct phys_reader *r, u64 addr, struct acpi_info *out) {
    u32 size;
    const u8 *t = table_map(r, addr, &size);
    if (!t) {
        out->damaged++;
        return;
    }
    if (!memcmp(t, "APIC", 4) && !out->lapic_addr)
        madt_read(t, size, out);
    else if (!memcmp(t, "FACP", 4))
        fadt_read(t, size, out);
    else if (!memcmp(t, "HPET", 4) && size >= 56 && t[40] == 0)
        out->hpet_addr = le64(t + 44);
    else if (!memcmp(t, "DMAR", 4))
        dmar_read(t, size, out);
    else if (!memcmp(t, "MCFG", 4))
        mcfg_read(t, size, out);
}

bool acpi_parse(const struct phys_reader *r, const void *rsdp, u32 rsdp_size, struct acpi_info *out) {
    memset(out, 0, sizeof(*out));
    for (u32 i = 0; i < 16; i++)
        out->isa[i].gsi = i;
    const u8 *p = rsdp;
    if (rsdp_size < 20 || !rsdp_ok(p))
        return false;
    u32 size, width = 8;
    bool extended = rsdp_size >= 36 && p[15] >= 2 && !phys_checksum(p, 36);
    const u8 *root = extended ? table_map(r, le64(p + 24), &size) : NULL;
    if (!root || memcmp(root, "XSDT", 4)) {
        width = 4;
        root = table_map(r, le32(p + 16), &size);
        if (!root || memcmp(root, "RSDT", 4))
            return false;
    }
    for (u32 at = SDT_HEADER; size - at >= width; at += width)
        table_read(r, width == 8 ? le64(root + at) : le32(root + at), out);
    return true;
}

bool acpi_device(const struct acpi_mcfg *mcfg, u32 count, u64 addr, u16 *rid) {
    for (; count; mcfg++, count--) {
        u64 offset = addr - mcfg->base, first = (u64)mcfg->bus_first << 20, end = (mcfg->bus_last + 1ul) << 20;
        if (!mcfg->segment && addr >= mcfg->base && offset >= first && offset < end) {
            *rid = (u16)(offset >> PAGE_SHIFT);
            return true;
        }
    }
    return false;
}
