/* Global system interrupts as semaphores: masked until the first down, mask if level, EOI, up. */
#include "arch/assert.h"
#include "arch/cpu.h"
#include "arch/spin.h"
#include "core/core.h"
#include "core/hypercall.h"
#include "core/klog.h"
#include "core/pd.h"
#include "core/sm.h"

static struct {
    struct spinlock lock; /* rank gsi: routing and mask of this interrupt */
    struct sm *sm;
    u32 cpu;
    bool level, low;
} gsis[ABI_MAX_GSIS];
static unsigned gsi_count;

bool gsi_init(unsigned count) {
    gsi_count = count;
    for (unsigned g = 0; g < count; g++) {
        struct sm *sm = sm_create(&kernel_pd, 0);
        if (!sm || space_cap_create(&kernel_pd, ABI_MAX_CPUS + g, &sm->obj, PERM_SM_ALL) != NOVA_SUCCESS)
            return false;
        sm->gsi = (i32)g;
        gsis[g].sm = sm;
        gsis[g].level = arch_irq_default_level(g);
        gsis[g].low = arch_irq_default_low(g);
        u32 addr, data;
        arch_irq_route(g, 0, gsis[g].level, gsis[g].low, &addr, &data);
        arch_irq_mask(g);
    }
    return true;
}

void gsi_assign(unsigned gsi, unsigned cpu, u32 *msi_addr, u32 *msi_data) {
    assert(gsi < gsi_count);
    spin_lock(&gsis[gsi].lock);
    gsis[gsi].cpu = cpu;
    arch_irq_route(gsi, cpu, gsis[gsi].level, gsis[gsi].low, msi_addr, msi_data);
    spin_unlock(&gsis[gsi].lock);
}

void gsi_configure(unsigned gsi, bool level, bool low) {
    u32 addr, data;
    assert(gsi < gsi_count);
    spin_lock(&gsis[gsi].lock);
    gsis[gsi].level = level;
    gsis[gsi].low = low;
    arch_irq_route(gsi, gsis[gsi].cpu, level, low, &addr, &data);
    spin_unlock(&gsis[gsi].lock);
}

void gsi_unmask(unsigned gsi) {
    if (arch_irq_has_pin(gsi)) {
        spin_lock(&gsis[gsi].lock);
        arch_irq_unmask(gsi);
        spin_unlock(&gsis[gsi].lock);
    }
}

void core_interrupt(struct cpu *c, unsigned gsi) {
    if (gsi >= gsi_count)
        return;
    cpu_count_event(c, CNT_INTERRUPT);
    rcu_idle_leave(c);
    spin_lock(&gsis[gsi].lock);
    if (gsis[gsi].level)
        arch_irq_mask(gsi);
    spin_unlock(&gsis[gsi].lock);
    if (sm_up(gsis[gsi].sm) != NOVA_SUCCESS)
        return; /* at its maximum: nothing is lost */
}
