/* Time: the TSC, calibrated once against the ACPI PM timer (ACPI 6.4 section 4.8.2.1) or the 8254's channel 2. */
#include "hw/hw.h"
#include "core/klog.h"
#include <mach/insn.h>

#define PM_HZ     3579545ul
#define PIT_HZ    1193182ul
#define WINDOW_US 50000ul
#define SAMPLES   8

u32 hw_tsc_khz;

void clock_wait_us(u64 us) {
    u64 end = rdtsc() + us * hw_tsc_khz / 1000;
    while (rdtsc() < end)
        arch_cpu_relax();
}

static u32 pm_read(void) {
    return hw_acpi.pm_timer_io ? inl((u16)hw_acpi.pm_timer) : *(volatile u32 *)arch_phys_ptr(PADDR(hw_acpi.pm_timer));
}

static u32 pit_read(void) { /* channel 2, counts down from 0xffff; latched */
    outb(0x43, 0x80);
    u32 low = inb(0x42);
    return 0xffff - (low | (u32)inb(0x42) << 8);
}

/* A reading of the reference with the TSC around it: of some tries the one least disturbed (an emulator may pause in between). */
static u64 sample(u32 (*read)(void), u32 *reference) {
    u64 best = ~0ul, at = 0;
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 before = rdtsc();
        u32 value = read();
        u64 after = rdtsc();
        if (after - before < best) {
            best = after - before;
            at = before + best / 2;
            *reference = value;
        }
    }
    return at;
}

static u32 measure(u32 (*read)(void), u64 hz, u32 mask, u64 window_us) {
    u32 first = 0, last = 0;
    u64 start = sample(read, &first);
    u64 ticks = hz * window_us / 1000000;
    for (u64 spin = 0; ((read() - first) & mask) < ticks; spin++)
        if (spin > 50000000)
            return 0; /* the reference stands still */
    u64 end = sample(read, &last);
    u64 passed = (last - first) & mask;
    return passed ? (u32)((end - start) * hz / passed / 1000) : 0;
}

const char *clock_init(void) {
    if (hw_acpi.pm_timer) {
        hw_tsc_khz = measure(pm_read, PM_HZ, hw_acpi.pm_timer_32 ? ~0u : 0xffffff, WINDOW_US);
        if (hw_tsc_khz)
            return "PM timer";
    }
    outb(0x61, (inb(0x61) & ~2u) | 1); /* channel 2 gate on, speaker off */
    outb(0x43, 0xb0);                  /* channel 2, low then high byte, mode 0 */
    outb(0x42, 0xff);
    outb(0x42, 0xff);
    hw_tsc_khz = measure(pit_read, PIT_HZ, 0xffff, 40000);
    return hw_tsc_khz ? "8254" : NULL;
}
