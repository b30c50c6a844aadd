/* Interrupts between CPUs and from devices, with APIC ids below and above 255 (src/hw/lapic.c and ioapic.c compiled in over recorders: no emulator here has such ids):
 * SDM vol 3 11.6.1 ICR, 11.12.9 ICR in x2APIC mode, 11.11.1 message address; 82093AA data sheet 3.2.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/spin.h"
#include "core/core.h"
#include "core/klog.h"
#include "core/pd.h"

static u64 msr[0x1000], icr[4], clock_now;
static u32 lapic_page[0x400], icrs, timers, warnings;
static struct cpu cpu_of[3], *test_cpus[3] = {&cpu_of[0], &cpu_of[1], &cpu_of[2]};

static u64 test_rdmsr(u32 n) { return msr[n]; }
static void test_wrmsr(u32 n, u64 v) {
    msr[n] = v;
    if (n == 0x830)
        icr[icrs++ % 4] = v;
}
static u64 test_rdtsc(void) { return clock_now; }
static void *test_ptr(paddr_t p) { return p.v == 0xfee00000 ? lapic_page : NULL; }
static void test_timer(struct cpu *c) { timers += c == &cpu_of[0]; }
static struct cpu *test_self(void) { return &cpu_of[0]; }
static void outb(u16 port, u8 v) { (void)port, (void)v; }
static void test_lock(struct spinlock *l) { (void)l; }

#define rdmsr                  test_rdmsr
#define wrmsr                  test_wrmsr
#define rdtsc                  test_rdtsc
#define arch_phys_ptr          test_ptr
#define arch_cpu_self          test_self
#define arch_ipi_send          test_ipi_send
#define arch_deadline_set      test_deadline_set
#define arch_irq_mask          test_irq_mask
#define arch_irq_unmask        test_irq_unmask
#define arch_irq_route         test_irq_route
#define arch_irq_has_pin       test_irq_has_pin
#define arch_irq_default_level test_irq_default_level
#define arch_irq_default_low   test_irq_default_low
#define core_timer             test_timer
#define cpus                   test_cpus
#define spin_lock              test_lock
#define spin_unlock            test_lock
#undef klog_warn
#define klog_warn(...) (void)warnings++
#define apic_id        locks_held /* a word of the simulator's CPU stands for what it does not have */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#include "../../src/hw/lapic.c"
#include "../../src/hw/ioapic.c"

struct hw_features hw_features;
struct acpi_info hw_acpi;
void clock_wait_us(u64 us) { clock_now += us; }
_Noreturn void hw_stop(const char *what) {
    fail_msg("stopped: %s", what);
    for (;;)
        ;
}

static const u32 ids[] = {0, 1, 77, 254, 255, 256, 0x1003, 0x12345678};

static int setup(void **state) {
    (void)state;
    memset(lapic_page, 0, sizeof(lapic_page));
    memset(msr, 0, sizeof(msr));
    icrs = timers = warnings = 0;
    msr[0x1b] = 0xfee00000;
    mmio = NULL;
    hw_features = (struct hw_features){0};
    return 0;
}

/* 32-bit ids in the upper half of one write; nothing goes to the page. */
static void x2apic_reaches_any_id(void **state) {
    (void)state;
    hw_features.x2apic = true;
    lapic_init();
    assert_int_equal(msr[0x1b], 0xfee00c00);
    assert_int_equal(msr[0x80f], 0x100 | VEC_SPURIOUS);
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        cpu_of[1].mach.apic_id = ids[i];
        arch_ipi_send(1);
        assert_int_equal(icrs, i + 1);
        assert_int_equal(icr[i % 4], (u64)ids[i] << 32 | 0x4000 | VEC_IPI);
    }
    msr[0x802] = 0x12345678;
    assert_int_equal(lapic_id(), 0x12345678);
    for (unsigned i = 0; i < ARRAY_SIZE(lapic_page); i++)
        assert_int_equal(lapic_page[i], 0);
}

/* Eight bits of the id, written before what sends; no MSR but the base. */
static void xapic_writes_the_page(void **state) {
    (void)state;
    lapic_init();
    assert_int_equal(msr[0x1b], 0xfee00800);
    for (unsigned i = 0; ids[i] < 255; i++) {
        cpu_of[1].mach.apic_id = ids[i];
        arch_ipi_send(1);
        assert_int_equal(lapic_page[0x310 / 4], ids[i] << 24);
        assert_int_equal(lapic_page[0x300 / 4], 0x4000 | VEC_IPI);
    }
    lapic_page[0x20 / 4] = 77u << 24;
    assert_int_equal(lapic_id(), 77);
    assert_int_equal(icrs, 0);
}

/* A message carries eight bits of the id: a CPU that no device can address gives its interrupt to CPU 0, and the log says so. */
static void messages_of_devices(void **state) {
    u32 addr, data;
    (void)state;
    cpu_of[0].mach.apic_id = 5;
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        bool reached = ids[i] < 255;
        cpu_of[2].mach.apic_id = ids[i];
        warnings = 0;
        arch_irq_route(40, 2, false, false, &addr, &data);
        assert_int_equal(addr, 0xfee00000 | (reached ? ids[i] : 5) << 12);
        assert_int_equal(data, VEC_GSI + 40);
        assert_int_equal(warnings, !reached);
    }
}

/* TSC deadline: the deadline itself, 0 disarms; an interrupt that comes early does not end a wait. */
static void deadline_in_tsc(void **state) {
    (void)state;
    hw_features.x2apic = hw_features.tsc_deadline = true;
    lapic_init();
    assert_int_equal(msr[0x832], VEC_TIMER | 0x40000);
    cpu_of[0].mach.deadline = ~0ul;
    clock_now = 1000;
    arch_deadline_set(5000);
    assert_int_equal(msr[0x6e0], 5000);
    msr[0x6e0] = 0; /* it has fired */
    lapic_timer_fired(&cpu_of[0]);
    assert_int_equal(timers, 0);
    assert_int_equal(msr[0x6e0], 5000);
    clock_now = 5000;
    lapic_timer_fired(&cpu_of[0]);
    assert_int_equal(timers, 1);
    arch_deadline_set(6000);
    arch_deadline_set(~0ul);
    assert_int_equal(msr[0x6e0], 0);
    arch_deadline_set(0);
    assert_int_equal(msr[0x6e0], 1); /* at once */
}

/* ABI section 5: what the MADT says; without it edge and high for the ISA's, level and low for the others. */
static void trigger_and_polarity(void **state) {
    (void)state;
    for (unsigned irq = 0; irq < 16; irq++)
        hw_acpi.isa[irq].gsi = irq;
    hw_acpi.isa[0].gsi = 2;
    hw_acpi.isa[9].level = true;
    hw_acpi.isa[4].gsi = 20, hw_acpi.isa[4].low = true;
    ioapics[0] = (struct ioapic){.gsi_base = 0, .pins = 24};
    ioapic_count = 1;
    for (unsigned gsi = 0; gsi < 26; gsi++) {
        bool pci = gsi >= 16 && gsi < 24 && gsi != 20;
        assert_int_equal(arch_irq_default_level(gsi), gsi == 9 || pci);
        assert_int_equal(arch_irq_default_low(gsi), gsi == 20 || pci);
    }
    ioapic_count = 0;
}

int main(void) {
#define T(name) cmocka_unit_test_setup(name, setup)
    const struct CMUnitTest tests[] = {T(x2apic_reaches_any_id), T(xapic_writes_the_page), T(messages_of_devices),
                                       T(deadline_in_tsc), T(trigger_and_polarity)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
