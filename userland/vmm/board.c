#include "vm.h"

#include "log.h"

enum { LAPIC_PAGE = 0xfee00 };

void board_init(struct vm *vm, int64_t epoch_s) {
    pic_init(&vm->pic);
    ioapic_init(&vm->ioapic, irq_ioapic_send, vm);
    pit_init(&vm->pit, irq_isa(vm, 0));
    rtc_init(&vm->rtc, epoch_s, vm->mem.size, irq_isa(vm, 8));
    acpi_pm_init(&vm->pm, irq_isa(vm, PM_SCI_IRQ));
    pci_init(&vm->pci);
    serial_init(vm);
}

struct vcpu *board_self(struct vm *vm) {
    const struct thread *self = thread_self();

    for (unsigned i = 1; i < vm->cpus; i++)
        if (vm->vcpu[i].handler == self)
            return &vm->vcpu[i];
    return &vm->vcpu[0];
}

/* ---- ports ---- */

static bool is_pm(uint16_t port) {
    return (port >= PM_BASE && port < PM_BASE + 12) || port == PM_RESET_PORT || port == 0x64;
}

static bool is_pic(uint16_t port) {
    return port == 0x20 || port == 0x21 || port == 0xa0 || port == 0xa1 || port == 0x4d0 || port == 0x4d1;
}

/* Ports that PCs have and nobody misses: DMA page and delay port, POST codes, coprocessor, keyboard data, other serial and parallel
 * ports, VGA and IDE probes. */
static bool is_quiet(uint16_t port) {
    return port < 0x20 || (port >= 0x80 && port <= 0x92) || (port >= 0xc0 && port < 0x100) || port == 0x60 ||
           port == 0xed || (port & 0xfef8) == 0x2e8 || port == 0x2f8 + (port & 7) || (port >= 0x3b0 && port < 0x3e0) ||
           (port & 0xfff8) == 0x278 || (port & 0xfff8) == 0x378;
}

static void unknown_log(struct vm *vm, uint16_t port, const char *what) {
    uint8_t bit = (uint8_t)(1u << (port & 7));

    if (is_quiet(port) || __atomic_fetch_or(&vm->ports_logged[port >> 3], bit, __ATOMIC_RELAXED) & bit)
        return;
    log_printf("%s port 0x%x: no device there (reads give all ones, writes are ignored)", what, port);
}

static uint32_t timer_in(struct vm *vm, uint16_t port, unsigned size) {
    uint64_t now = vm_now_ns(vm);
    uint32_t v;

    mutex_lock(&vm->timer_lock);
    if (port >= 0xcf8 && port <= 0xcff && port != PM_RESET_PORT)
        v = pci_read(&vm->pci, port, size);
    else if (is_pm(port))
        v = acpi_pm_read(&vm->pm, port, size, now);
    else if (port == 0x70 || port == 0x71)
        v = rtc_read(&vm->rtc, port, now);
    else
        v = pit_read(&vm->pit, port, now);
    mutex_unlock(&vm->timer_lock);
    return v;
}

static bool is_timer(uint16_t port) {
    return (port >= 0x40 && port <= 0x43) || port == 0x61 || port == 0x70 || port == 0x71 || is_pm(port) ||
           (port >= 0xcf8 && port <= 0xcff);
}

uint32_t board_in(void *ctx, uint16_t port, unsigned size) {
    struct vm *vm = ctx;
    uint32_t ones = size == 4 ? 0xffffffff : (1u << size * 8) - 1, v = ones;

    if ((port & 0xfff8) == 0x3f8) {
        v = serial_in(vm, port & 7u) | (ones & ~0xffu);
    } else if (is_timer(port)) {
        v = timer_in(vm, port, size);
    } else if (is_pic(port)) {
        mutex_lock(&vm->irq_lock);
        v = pic_read(&vm->pic, port) | (ones & ~0xffu);
        irq_pic_changed(vm);
        mutex_unlock(&vm->irq_lock);
    } else {
        unknown_log(vm, port, "read of");
    }
    return v & ones;
}

static void timer_out(struct vm *vm, uint16_t port, unsigned size, uint32_t val) {
    uint64_t now = vm_now_ns(vm), next;

    mutex_lock(&vm->timer_lock);
    if (port >= 0xcf8 && port <= 0xcff && !(port == PM_RESET_PORT && size == 1))
        pci_write(&vm->pci, port, size, val);
    else if (is_pm(port))
        acpi_pm_write(&vm->pm, port, size, val);
    else if (port == 0x70 || port == 0x71)
        rtc_write(&vm->rtc, port, (uint8_t)val, now);
    else
        pit_write(&vm->pit, port, (uint8_t)val, now);
    next = rtc_deadline(&vm->rtc, now);
    next = pit_deadline(&vm->pit) < next ? pit_deadline(&vm->pit) : next;
    mutex_unlock(&vm->timer_lock);
    vm_deadline(vm, next);
    if (vm->pm.request == PM_POWER_OFF)
        vm_end(vm, EXIT_CODE_OK, "powered off");
    if (vm->pm.request == PM_RESET)
        vm_end(vm, EXIT_CODE_REBOOT, "reset");
}

void board_out(void *ctx, uint16_t port, unsigned size, uint32_t val) {
    struct vm *vm = ctx;

    if ((port & 0xfff8) == 0x3f8) {
        serial_out(vm, port & 7u, (uint8_t)val);
    } else if (is_timer(port)) {
        timer_out(vm, port, size, val);
    } else if (is_pic(port)) {
        mutex_lock(&vm->irq_lock);
        pic_write(&vm->pic, port, (uint8_t)val);
        irq_pic_changed(vm);
        mutex_unlock(&vm->irq_lock);
    } else {
        unknown_log(vm, port, "write to");
    }
}

/* ---- device memory ---- */

bool board_mmio_read(void *ctx, uint64_t gpa, unsigned size, uint64_t *val) {
    struct vm *vm = ctx;
    unsigned shift = (gpa & 3) * 8;

    *val = 0;
    if (gpa >> 12 == IOAPIC_ADDR >> 12) {
        mutex_lock(&vm->irq_lock);
        *val = ioapic_read(&vm->ioapic, gpa & 0xffc) >> shift;
        mutex_unlock(&vm->irq_lock);
    } else if (gpa >> 12 == LAPIC_PAGE && board_self(vm)->lapic.mode == LAPIC_XAPIC) {
        struct vcpu *v = board_self(vm);
        mutex_lock(&v->lapic_lock);
        (void)lapic_read(&v->lapic, gpa >> 4 & 0xff, vm_now_ns(vm), val);
        mutex_unlock(&v->lapic_lock);
        *val = gpa & 0xc ? 0 : *val >> shift;
    } else {
        /* the PCI hole: nothing answers on the bus */
        *val = ~0ull;
        if (gpa < GMEM_HOLE_START || gpa >= GMEM_HIGH_START)
            return false;
    }
    *val &= size == 8 ? ~0ull : (1ull << size * 8) - 1;
    return true;
}

bool board_mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t val) {
    struct vm *vm = ctx;

    if (gpa >> 12 == IOAPIC_ADDR >> 12) {
        if (size < 4 || gpa & 3)
            return true; /* registers take whole words only */
        mutex_lock(&vm->irq_lock);
        ioapic_write(&vm->ioapic, gpa & 0xffc, (uint32_t)val);
        mutex_unlock(&vm->irq_lock);
        return true;
    }
    if (gpa >> 12 == LAPIC_PAGE && board_self(vm)->lapic.mode == LAPIC_XAPIC) {
        struct vcpu *v = board_self(vm);
        bool ok;
        if (size >= 4 && !(gpa & 0xf))
            irq_lapic_write(v, gpa >> 4 & 0xff, (uint32_t)val, &ok);
        return true;
    }
    return gpa >= GMEM_HOLE_START && gpa < GMEM_HIGH_START;
}

/* ---- timers ---- */

uint64_t board_tick(struct vm *vm, uint64_t now_ns) {
    uint64_t next, d;

    mutex_lock(&vm->timer_lock);
    pit_tick(&vm->pit, now_ns);
    if (rtc_deadline(&vm->rtc, vm->rtc.checked_ns) <= now_ns)
        rtc_tick(&vm->rtc, now_ns);
    next = pit_deadline(&vm->pit);
    d = rtc_deadline(&vm->rtc, now_ns);
    mutex_unlock(&vm->timer_lock);
    next = d < next ? d : next;
    for (unsigned i = 0; i < vm->cpus; i++) {
        struct vcpu *v = &vm->vcpu[i];
        mutex_lock(&v->lapic_lock);
        bool due = lapic_deadline(&v->lapic) <= now_ns;
        if (due)
            lapic_tick(&v->lapic, now_ns);
        d = lapic_deadline(&v->lapic);
        mutex_unlock(&v->lapic_lock);
        next = d < next ? d : next;
        if (due)
            vcpu_notify(v);
    }
    return next;
}
