/* Starting the other CPUs: INIT, then up to two startup IPIs to a copy of ap_code below 1 MiB. SDM vol 3 9.4.4. */
#include "arch/assert.h"
#include "core/klog.h"
#include "hw/hw.h"
#include <mach/insn.h>

#define ICR_INIT     0x4500u
#define ICR_STARTUP  0x4600u
#define SKEW_WARN_US 20
#define START_US     5000000 /* an emulator with more CPUs than its host may need seconds */
#define CLAIM_TAKEN  ~0u     /* boot.S: by the CPU whose low 8 bits of the APIC id stood there */
#define CLAIM_NONE   0x100u

extern const u8 ap_code[], ap_code_end[], ap_gdtr_base[], ap_jump[], ap_cr3[], ap_stack[], ap_cpu[], ap_entry[],
    ap_claim[];
static u8 saved[PAGE_SIZE];
static u32 released; /* atomic */

/* TSC of the other CPU, taken between two readings here. */
static struct {
    u64 stamp; /* atomic; 0: none yet */
    u32 go;    /* atomic */
} skew;

static u64 word_at(u8 *page, const u8 *label, u64 v) {
    u64 old;
    memcpy(&old, page + (label - ap_code), 8);
    memcpy(page + (label - ap_code), &v, 8);
    return old;
}

static void add32(u8 *page, const u8 *label, u32 v) {
    u32 old;
    memcpy(&old, page + (label - ap_code), 4);
    old += v;
    memcpy(page + (label - ap_code), &old, 4);
}

static u64 trampoline_page(void) {
    static const struct boot_range none;
    return range_find(&hw_ranges, PAGE_SIZE, PAGE_SIZE, HIP_MEM_RAM, 0x1000, 0x9f000, &none, 0);
}

static bool wait_started(struct cpu *c, u64 us) {
    u64 end = rdtsc() + us * hw_tsc_khz / 1000;
    while (!atomic_load_acq(&c->mach.started)) {
        if (rdtsc() > end)
            return false;
        arch_cpu_relax();
    }
    return true;
}

static void skew_check(struct cpu *c) {
    u64 before = rdtsc();
    atomic_store_rel(&skew.go, c->id);
    u64 limit = before + 1000ul * hw_tsc_khz;
    while (!atomic_load_acq(&skew.stamp) && rdtsc() < limit)
        arch_cpu_relax();
    u64 after = rdtsc(), stamp = atomic_xchg(&skew.stamp, 0), slack = (u64)SKEW_WARN_US * hw_tsc_khz / 1000;
    if (stamp && (stamp + slack < before || stamp > after + slack))
        klog_warn("cpu %u: its TSC is off by %ld ticks; times measured across CPUs are wrong by that much\n", c->id,
                  (i64)(stamp - before));
}

static void cpu_start(struct cpu *c, u8 *page, u64 phys) {
    if (!paging_cpu_init(c)) {
        klog_warn("cpu %u: no memory for its stacks; not started\n", c->id);
        return;
    }
    word_at(page, ap_stack, c->mach.area->entry.stack_top);
    word_at(page, ap_cpu, (u64)c);
    u32 id = c->mach.apic_id, *claim = (u32 *)(page + (ap_claim - ap_code));
    atomic_store_rel(claim, id & 0xff);
    atomic_fence();
    lapic_icr(id, ICR_STARTUP | (u32)(phys >> 12));
    if (!wait_started(c, 10000)) {
        lapic_icr(id, ICR_STARTUP | (u32)(phys >> 12));
        if (!wait_started(c, START_US) &&
            (atomic_xchg(claim, CLAIM_NONE) != CLAIM_TAKEN || !wait_started(c, START_US))) {
            klog_warn("cpu %u (APIC id %u) does not start and is left out\n", c->id, id);
            lapic_icr(id, ICR_INIT);
            return;
        }
    }
    skew_check(c);
}

void smp_start(unsigned count) {
    u64 phys = count > 1 ? trampoline_page() : 0;
    if (!phys) {
        if (count > 1)
            klog_warn("missing: a free page below 640 KiB: only the boot CPU runs\n");
        return;
    }
    u8 *page = arch_phys_ptr(PADDR(phys));
    memcpy(saved, page, PAGE_SIZE);
    memcpy(page, ap_code, (u64)(ap_code_end - ap_code));
    add32(page, ap_gdtr_base, (u32)phys);
    add32(page, ap_jump, (u32)phys);
    word_at(page, ap_cr3, paging_root());
    word_at(page, ap_entry, (u64)hw_ap_main);
    for (unsigned i = 1; i < count; i++)
        lapic_icr(cpus[i]->mach.apic_id, ICR_INIT);
    clock_wait_us(10000);
    for (unsigned i = 1; i < count; i++)
        cpu_start(cpus[i], page, phys);
    memcpy(page, saved, PAGE_SIZE);
}

void smp_release(void) { atomic_store_rel(&released, 1); }

/* Second half of a CPU's own start. */
void smp_wait_release(void) {
    struct cpu *c = arch_cpu_self();
    atomic_store_rel(&c->mach.started, true);
    while (atomic_load_acq(&skew.go) != c->id)
        arch_cpu_relax();
    atomic_store_rel(&skew.stamp, rdtsc());
    while (!atomic_load_acq(&released))
        arch_cpu_relax();
}
