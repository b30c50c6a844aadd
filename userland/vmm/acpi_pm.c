#include "acpi_pm.h"

#include <string.h>

enum { STS_PWRBTN = 1 << 8 };
enum { EN_PWRBTN = 1 << 8, EN_GBL = 1 << 5 };
enum { CNT_SCI_EN = 1, CNT_SLP_EN = 1 << 13 };

static void sci_update(struct acpi_pm *pm) { irq_line_set(&pm->sci, pm->status & pm->enable & (EN_PWRBTN | EN_GBL)); }

void acpi_pm_init(struct acpi_pm *pm, struct irq_line sci) {
    memset(pm, 0, sizeof(*pm));
    pm->control = CNT_SCI_EN; /* no legacy mode: the FADT names no SMI command port */
    pm->sci = sci;
}

/* The register block as bytes, so that every access size works. */
static uint8_t byte_read(const struct acpi_pm *pm, unsigned offset, uint64_t now_ns) {
    uint32_t timer = (uint32_t)(scale_u64(now_ns, PM_TIMER_HZ, NS_PER_SEC) & 0xffffff);

    switch (offset) {
    case 0:
    case 1:
        return (uint8_t)(pm->status >> offset * 8);
    case 2:
    case 3:
        return (uint8_t)(pm->enable >> (offset - 2) * 8);
    case 4:
    case 5:
        return (uint8_t)(pm->control >> (offset - 4) * 8);
    case 8:
    case 9:
    case 10:
    case 11:
        return (uint8_t)(timer >> (offset - 8) * 8);
    default:
        return 0;
    }
}

uint32_t acpi_pm_read(struct acpi_pm *pm, uint16_t port, unsigned size, uint64_t now_ns) {
    uint32_t v = 0;

    if (port == PM_RESET_PORT)
        return pm->reset_control;
    if (port == 0x64)
        return 0x1c; /* keyboard controller: buffers empty, self-test passed, unlocked */
    for (unsigned i = 0; i < size; i++)
        v |= (uint32_t)byte_read(pm, port - PM_BASE + i, now_ns) << i * 8;
    return v;
}

static void control_write(struct acpi_pm *pm, uint16_t val) {
    pm->control = (uint16_t)((val & 0x1c06) | CNT_SCI_EN);
    if (val & CNT_SLP_EN && (val >> 10 & 7) == PM_SLP_TYP_S5)
        pm->request = PM_POWER_OFF;
}

static void byte_write(struct acpi_pm *pm, unsigned offset, uint8_t val) {
    switch (offset) {
    case 0:
    case 1: /* write one to clear */
        pm->status &= (uint16_t) ~(val << offset * 8);
        break;
    case 2:
        pm->enable = (pm->enable & 0xff00) | val;
        break;
    case 3:
        pm->enable = (uint16_t)((pm->enable & 0x00ff) | val << 8);
        break;
    case 4:
        control_write(pm, (pm->control & 0xff00) | val);
        break;
    case 5:
        control_write(pm, (uint16_t)((pm->control & 0x00ff) | val << 8));
        break;
    default:
        break;
    }
}

void acpi_pm_write(struct acpi_pm *pm, uint16_t port, unsigned size, uint32_t val) {
    if (port == PM_RESET_PORT) {
        pm->reset_control = val & 0x0e;
        if (val & 4)
            pm->request = PM_RESET;
    } else if (port == 0x64) {
        if ((val & 0xf1) == 0xf0) /* pulse output bit 0: the processor's reset line */
            pm->request = PM_RESET;
    } else {
        for (unsigned i = 0; i < size; i++)
            byte_write(pm, port - PM_BASE + i, (uint8_t)(val >> i * 8));
        sci_update(pm);
    }
}

void acpi_pm_power_button(struct acpi_pm *pm) {
    pm->status |= STS_PWRBTN;
    sci_update(pm);
}

bool acpi_pm_save(const struct acpi_pm *pm, struct record_buf *b) {
    struct acpi_pm t = *pm;

    memset(&t.sci, 0, sizeof(t.sci));
    return record_put(b, "acpi_pm", 1, &t, sizeof(t));
}

bool acpi_pm_restore(struct acpi_pm *pm, const struct record_buf *b) {
    struct acpi_pm t;

    if (!record_get(b, "acpi_pm", 0, 1, &t, sizeof(t)) || t.request > PM_RESET)
        return false;
    t.sci = pm->sci;
    *pm = t;
    return true;
}
