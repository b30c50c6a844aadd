/* ACPI fixed hardware: PM1a event and control, PM timer, and the three ways to reset a PC.
 * Facts: ACPI 6.4 section 4.8; reset register 0xcf9 of PC chipsets; 0x64 pulse of the keyboard controller. */
#pragma once
#include "dev.h"
#include "record.h"

#define PM_BASE        0x600 /* PM1a status, enable; +4 control; +8 timer */
#define PM_TIMER_HZ    3579545ull
#define PM_SCI_IRQ     9
#define PM_SLP_TYP_S5  5
#define PM_RESET_PORT  0xcf9
#define PM_RESET_VALUE 0x06

enum pm_request { PM_NONE, PM_POWER_OFF, PM_RESET };

struct acpi_pm {
    uint16_t status, enable, control;
    uint8_t reset_control; /* 0xcf9 */
    uint8_t request;       /* enum pm_request, stays once set */
    struct irq_line sci;
};

void acpi_pm_init(struct acpi_pm *pm, struct irq_line sci);
/* Ports PM_BASE..+11, 0xcf9, 0x64; size 1, 2 or 4. */
uint32_t acpi_pm_read(struct acpi_pm *pm, uint16_t port, unsigned size, uint64_t now_ns);
void acpi_pm_write(struct acpi_pm *pm, uint16_t port, unsigned size, uint32_t val);
void acpi_pm_power_button(struct acpi_pm *pm);
bool acpi_pm_save(const struct acpi_pm *pm, struct record_buf *b);
bool acpi_pm_restore(struct acpi_pm *pm, const struct record_buf *b);
