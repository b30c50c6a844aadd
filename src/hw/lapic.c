/* Local APIC: IPIs and this CPU's timer, as xAPIC (registers in memory) or x2APIC (MSRs). SDM vol 3 chapter 11. */
#include "arch/assert.h"
#include "core/klog.h"
#include "hw/hw.h"
#include <mach/insn.h>

enum { R_ID = 0x20, R_TPR = 0x80, R_EOI = 0xb0, R_SVR = 0xf0, R_ICR = 0x300, R_ICR_HIGH = 0x310 };
enum { R_LVT_TIMER = 0x320, R_LVT_LINT0 = 0x350, R_LVT_LINT1 = 0x360, R_LVT_ERROR = 0x370 };
enum { R_TIMER_INITIAL = 0x380, R_TIMER_CURRENT = 0x390, R_TIMER_DIVIDE = 0x3e0 };
#define LVT_MASKED       0x10000u
#define LVT_NMI          0x400u
#define TIMER_DEADLINE   0x40000u
#define ICR_PENDING      0x1000u
#define ICR_NMI_OTHERS   0xc4400u
#define MSR_APIC_BASE    0x1bu
#define MSR_X2APIC       0x800u
#define MSR_TSC_DEADLINE 0x6e0u

static volatile u32 *mmio; /* NULL: x2APIC */
static u64 ticks_per_tsc;  /* timer ticks per TSC tick, 32.32 fixed point */

static u32 lapic_read(unsigned r) { return mmio ? mmio[r / 4] : (u32)rdmsr(MSR_X2APIC + r / 16); }
static void lapic_write(unsigned r, u32 v) {
    if (mmio)
        mmio[r / 4] = v;
    else
        wrmsr(MSR_X2APIC + r / 16, v);
}

void lapic_init(void) {
    u64 base = rdmsr(MSR_APIC_BASE);
    if (hw_features.x2apic) {
        wrmsr(MSR_APIC_BASE, base | 0xc00);
    } else {
        wrmsr(MSR_APIC_BASE, base | 0x800);
        mmio = arch_phys_ptr(PADDR(base & 0xffffff000ul));
    }
    lapic_write(R_SVR, 0x100 | VEC_SPURIOUS);
    lapic_write(R_TPR, 0);
    lapic_write(R_LVT_LINT0, LVT_MASKED);
    lapic_write(R_LVT_LINT1, LVT_NMI);
    lapic_write(R_LVT_ERROR, VEC_ERROR);
    lapic_write(R_TIMER_DIVIDE, 0xb); /* by 1 */
    lapic_write(R_LVT_TIMER, VEC_TIMER | (hw_features.tsc_deadline ? TIMER_DEADLINE : 0));
    lapic_write(R_TIMER_INITIAL, 0);
    __asm__ volatile("mfence" ::: "memory"); /* between the LVT and the first deadline: 11.5.4.1 */
}

void lapic_eoi(void) { lapic_write(R_EOI, 0); }
void lapic_remind(void) { lapic_write(R_TPR, 0); }
u32 lapic_id(void) { return mmio ? lapic_read(R_ID) >> 24 : lapic_read(R_ID); }

void lapic_icr(u32 apic_id, u32 low) {
    if (!mmio) {
        __asm__ volatile("mfence; lfence" ::: "memory"); /* x2APIC writes are not serializing: 11.12.3 */
        wrmsr(MSR_X2APIC + R_ICR / 16, (u64)apic_id << 32 | low);
        return;
    }
    lapic_write(R_ICR_HIGH, apic_id << 24);
    lapic_write(R_ICR, low);
    for (unsigned i = 0; i < 1000000 && (lapic_read(R_ICR) & ICR_PENDING); i++)
        arch_cpu_relax();
}

void arch_ipi_send(unsigned cpu) { lapic_icr(cpus[cpu]->mach.apic_id, 0x4000 | VEC_IPI); }
void lapic_nmi_others(void) { lapic_icr(0, ICR_NMI_OTHERS); }

void lapic_calibrate(void) {
    if (hw_features.tsc_deadline)
        return;
    u64 best = ~0ul, ticks = 0, passed = 1;
    for (unsigned i = 0; i < 3; i++) { /* the shortest of three windows was disturbed least */
        lapic_write(R_LVT_TIMER, LVT_MASKED | VEC_TIMER);
        lapic_write(R_TIMER_INITIAL, ~0u);
        u64 start = rdtsc();
        u32 first = lapic_read(R_TIMER_CURRENT);
        clock_wait_us(10000);
        u64 end = rdtsc();
        u32 last = lapic_read(R_TIMER_CURRENT);
        if (end - start < best) {
            best = passed = end - start;
            ticks = first - last;
        }
    }
    lapic_write(R_TIMER_INITIAL, 0);
    lapic_write(R_LVT_TIMER, VEC_TIMER);
    ticks_per_tsc = (ticks << 32) / passed;
    if (!ticks_per_tsc)
        hw_stop("the local APIC's timer stands still; without it nothing can be scheduled");
}

void arch_deadline_set(u64 tsc) {
    struct cpu *c = arch_cpu_self();
    if (c->mach.deadline == tsc)
        return;
    c->mach.deadline = tsc;
    if (hw_features.tsc_deadline) {
        wrmsr(MSR_TSC_DEADLINE, tsc == ~0ul ? 0 : max_u64(tsc, 1));
        return;
    }
    if (tsc == ~0ul) {
        lapic_write(R_TIMER_INITIAL, 0);
        return;
    }
    u64 now = rdtsc(),
        delta = tsc > now ? min_u64(tsc - now, 1ul << 31) : 0; /* far deadlines: fires early and is armed again */
    u64 count = (delta * ticks_per_tsc >> 32) + 1;
    lapic_write(R_TIMER_INITIAL, (u32)min_u64(count, ~0u));
}

void lapic_timer_fired(struct cpu *c) {
    u64 deadline = c->mach.deadline;
    c->mach.deadline = ~0ul;
    if (deadline == ~0ul)
        return;
    if (rdtsc() < deadline)
        arch_deadline_set(deadline);
    else
        core_timer(c);
}
