#include "tables.h"

#include "acpi_pm.h"
#include "ioapic.h"

#include <string.h>

/* Layouts: ACPI 6.4 chapter 5. */
struct sdt {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem_id[6], oem_table[8];
    uint32_t oem_revision;
    char creator[4];
    uint32_t creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct sdt) == 36, "ACPI 5.2.6");

struct gas {
    uint8_t space, width, offset, access;
    uint64_t addr;
} __attribute__((packed));

struct fadt {
    struct sdt h;
    uint32_t facs, dsdt;
    uint8_t reserved0, pm_profile;
    uint16_t sci_int;
    uint32_t smi_cmd;
    uint8_t acpi_enable, acpi_disable, s4bios_req, pstate_cnt;
    uint32_t pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr, gpe0, gpe1;
    uint8_t pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len, gpe0_len, gpe1_len, gpe1_base, cst_cnt;
    uint16_t c2_lat, c3_lat, flush_size, flush_stride;
    uint8_t duty_offset, duty_width, day_alarm, mon_alarm, century;
    uint16_t boot_arch;
    uint8_t reserved1;
    uint32_t flags;
    struct gas reset_reg;
    uint8_t reset_value;
    uint16_t arm_boot;
    uint8_t minor;
    uint64_t x_facs, x_dsdt;
    struct gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt, x_pm2_cnt, x_pm_tmr, x_gpe0, x_gpe1, sleep_cnt,
        sleep_sts;
    uint64_t hypervisor;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 276, "ACPI 5.2.9");

enum { FADT_WBINVD = 1 << 0, FADT_PROC_C1 = 1 << 2, FADT_SLP_BUTTON = 1 << 5, FADT_RESET = 1 << 10 };
enum { BOOT_LEGACY = 1 << 0, BOOT_NO_VGA = 1 << 2, BOOT_NO_MSI = 1 << 3, BOOT_NO_ASPM = 1 << 4 };

/* DSDT body:
 *   Name (\_S5, Package () { 5, 5, 0, 0 })
 *   Scope (\_SB) { Device (COM1) { Name (_HID, EisaId ("PNP0501"))
 *     Name (_CRS, ResourceTemplate () { IO (Decode16, 0x3f8, 0x3f8, 1, 8)  IRQNoFlags () { 4 } }) } } */
static const uint8_t dsdt_body[] = {
    0x08, '_',           'S',  '5',  '_',  0x12, 0x08, 0x04, 0x0a, PM_SLP_TYP_S5,
    0x0a, PM_SLP_TYP_S5, 0x00, 0x00,                                     /* Name, Package */
    0x10, 0x2d,          '\\', '_',  'S',  'B',  '_',                    /* Scope */
    0x5b, 0x82,          0x25, 'C',  'O',  'M',  '1',                    /* Device */
    0x08, '_',           'H',  'I',  'D',  0x0c, 0x41, 0xd0, 0x05, 0x01, /* EisaId PNP0501 */
    0x08, '_',           'C',  'R',  'S',  0x11, 0x10, 0x0a, 0x0d,       /* Buffer (13) */
    0x47, 0x01,          0xf8, 0x03, 0xf8, 0x03, 0x01, 0x08,             /* IO */
    0x22, 0x10,          0x00,                                           /* IRQ 4 */
    0x79, 0x00,                                                          /* end tag */
};

struct writer {
    const struct gmem *g;
    uint64_t next; /* address of the next table */
};

static uint8_t sum(const void *p, size_t n) {
    const uint8_t *b = p;
    uint8_t s = 0;

    while (n--)
        s = (uint8_t)(s + *b++);
    return s;
}

static void header_fill(struct sdt *h, const char *sig, uint8_t revision, size_t length) {
    memcpy(h->signature, sig, 4);
    h->length = (uint32_t)length;
    h->revision = revision;
    memcpy(h->oem_id, "NOVELL", 6);
    memcpy(h->oem_table, "NOVELLA ", 8);
    h->oem_revision = 1;
    memcpy(h->creator, "NVLA", 4);
    h->creator_revision = 1;
}

/* Completes the checksum and puts the table into guest memory; 0 when it does not fit. */
static uint64_t table_put(struct writer *w, void *table) {
    struct sdt *h = table;
    uint64_t addr = w->next;

    h->checksum = 0;
    h->checksum = (uint8_t)-sum(table, h->length);
    if (addr + h->length > TABLES_ADDR + TABLES_SIZE || !gmem_write(w->g, addr, table, h->length))
        return 0;
    w->next = (addr + h->length + 63) & ~63ull;
    return addr;
}

static uint64_t dsdt_put(struct writer *w) {
    struct {
        struct sdt h;
        uint8_t body[sizeof(dsdt_body)];
    } __attribute__((packed)) t = {0};

    header_fill(&t.h, "DSDT", 2, sizeof(t));
    memcpy(t.body, dsdt_body, sizeof(dsdt_body));
    return table_put(w, &t);
}

static uint64_t fadt_put(struct writer *w, uint64_t facs, uint64_t dsdt) {
    struct fadt t = {0};

    header_fill(&t.h, "FACP", 6, sizeof(t));
    t.facs = (uint32_t)facs;
    t.dsdt = (uint32_t)dsdt;
    t.x_dsdt = dsdt;
    t.sci_int = PM_SCI_IRQ;
    t.pm1a_evt = PM_BASE;
    t.pm1a_cnt = PM_BASE + 4;
    t.pm_tmr = PM_BASE + 8;
    t.pm1_evt_len = 4;
    t.pm1_cnt_len = 2;
    t.pm_tmr_len = 4;
    t.c2_lat = 0xfff; /* no C2 and C3 */
    t.c3_lat = 0xfff;
    t.century = 0x32;
    t.boot_arch = BOOT_LEGACY | BOOT_NO_VGA | BOOT_NO_MSI | BOOT_NO_ASPM;
    t.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RESET;
    t.reset_reg = (struct gas){.space = 1, .width = 8, .access = 1, .addr = PM_RESET_PORT};
    t.reset_value = PM_RESET_VALUE;
    t.x_pm1a_evt = (struct gas){.space = 1, .width = 32, .access = 2, .addr = PM_BASE};
    t.x_pm1a_cnt = (struct gas){.space = 1, .width = 16, .access = 2, .addr = PM_BASE + 4};
    t.x_pm_tmr = (struct gas){.space = 1, .width = 32, .access = 3, .addr = PM_BASE + 8};
    return table_put(w, &t);
}

struct madt {
    struct sdt h;
    uint32_t lapic_addr, flags;
    uint8_t body[1024];
} __attribute__((packed));

static void madt_add(struct madt *t, const void *entry, size_t n) {
    memcpy((uint8_t *)t + t->h.length, entry, n);
    t->h.length += (uint32_t)n;
}

/* An ISA interrupt whose wiring is not the default; flags: bits 0-1 polarity, 2-3 trigger (1 = high/edge, 3 = low/level). */
static void madt_override(struct madt *t, uint8_t irq, uint8_t gsi, uint8_t flags) {
    uint8_t e[10] = {2, 10, 0, irq, gsi, 0, 0, 0, flags, 0};

    madt_add(t, e, sizeof(e));
}

static uint64_t madt_put(struct writer *w, unsigned cpus) {
    static const uint8_t nmi[6] = {4, 6, 0xff, 0, 0, 1}; /* LINT1 of all processors */
    static struct madt t;
    uint8_t io[12] = {1, 12, 0, 0, 0x00, 0x00, 0xc0, 0xfe, 0, 0, 0, 0};

    memset(&t, 0, sizeof(t));
    header_fill(&t.h, "APIC", 4, offsetof(struct madt, body));
    t.lapic_addr = 0xfee00000;
    t.flags = 1; /* 8259 pair present */
    for (unsigned i = 0; i < cpus; i++) {
        uint8_t e[8] = {0, 8, (uint8_t)i, (uint8_t)i, 1, 0, 0, 0};
        madt_add(&t, e, sizeof(e));
    }
    madt_add(&t, io, sizeof(io));
    madt_override(&t, 0, 2, 0);
    madt_override(&t, PM_SCI_IRQ, PM_SCI_IRQ, 1 | 3 << 2); /* active high, level */
    madt_add(&t, nmi, sizeof(nmi));
    return table_put(w, &t);
}

static uint64_t facs_put(struct writer *w) {
    uint8_t t[64] = {'F', 'A', 'C', 'S', 64};
    uint64_t addr = w->next; /* tables are 64-byte aligned, which only this one needs */

    t[32] = 2;
    if (!gmem_write(w->g, addr, t, sizeof(t)))
        return 0;
    w->next = addr + 64;
    return addr;
}

uint64_t tables_write(const struct gmem *g, unsigned cpus) {
    struct writer w = {.g = g, .next = TABLES_ADDR + 64};
    struct {
        struct sdt h;
        uint64_t entry[2];
    } __attribute__((packed)) xsdt = {0};
    struct {
        char signature[8];
        uint8_t checksum;
        char oem_id[6];
        uint8_t revision;
        uint32_t rsdt, length;
        uint64_t xsdt;
        uint8_t ext_checksum, reserved[3];
    } __attribute__((packed)) rsdp = {.revision = 2, .length = 36};
    uint64_t facs, dsdt;

    if (cpus > 64 || !(facs = facs_put(&w)) || !(dsdt = dsdt_put(&w)))
        return 0;
    header_fill(&xsdt.h, "XSDT", 1, sizeof(xsdt));
    xsdt.entry[0] = fadt_put(&w, facs, dsdt);
    xsdt.entry[1] = madt_put(&w, cpus);
    if (!xsdt.entry[0] || !xsdt.entry[1])
        return 0;
    memcpy(rsdp.signature, "RSD PTR ", 8);
    memcpy(rsdp.oem_id, "NOVELL", 6);
    rsdp.xsdt = table_put(&w, &xsdt);
    rsdp.checksum = (uint8_t)-sum(&rsdp, 20);
    rsdp.ext_checksum = (uint8_t)-sum(&rsdp, 36);
    return rsdp.xsdt && gmem_write(g, TABLES_ADDR, &rsdp, sizeof(rsdp)) ? TABLES_ADDR : 0;
}
