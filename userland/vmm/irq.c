#include "vm.h"

#include "mem.h"

enum { RFLAGS_IF = 1 << 9 };
enum { INJ_TYPE_NMI = 2, INJ_TYPE_EXC = 3, INJ_TYPE_SOFT = 4 };
#define INJ_TYPE(info) ((info) >> 8 & 7)

void vcpu_notify(struct vcpu *v) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->halted, __ATOMIC_SEQ_CST))
        sem_up(v->wake);
    else if (!__atomic_load_n(&v->in_handler, __ATOMIC_SEQ_CST))
        (void)nova_recall(v->ec);
}

/* The 8259's output goes to the boot CPU only. */
void irq_pic_changed(struct vm *vm) {
    if (pic_intr(&vm->pic))
        vcpu_notify(&vm->vcpu[0]);
}

/* A wire of the ISA bus: the 8259 pair and the I/O APIC see it; the timer is on pin 2 there. */
static void isa_set(void *ctx, unsigned irq, bool level) {
    struct vm *vm = ctx;
    unsigned pin = irq == 0 ? 2 : irq;

    /* Most accesses to a device leave its wire alone. The device's lock is held, and a wire is one device's: it does not change now. */
    if ((__atomic_load_n(&vm->ioapic.lines, __ATOMIC_RELAXED) >> pin & 1) == level)
        return;
    mutex_lock(&vm->irq_lock);
    pic_set_line(&vm->pic, irq, level);
    ioapic_set_line(&vm->ioapic, pin, level);
    irq_pic_changed(vm);
    mutex_unlock(&vm->irq_lock);
}

struct irq_line irq_isa(struct vm *vm, unsigned irq) {
    return (struct irq_line){.set = isa_set, .ctx = vm, .pin = irq};
}

static void accept(struct vcpu *v, const struct apic_msg *m) {
    switch (m->delivery) {
    case APIC_FIXED:
    case APIC_LOWEST:
        mutex_lock(&v->lapic_lock);
        (void)lapic_accept(&v->lapic, m->vector, m->level);
        mutex_unlock(&v->lapic_lock);
        break;
    case APIC_NMI:
        __atomic_store_n(&v->nmi_pending, 1, __ATOMIC_SEQ_CST);
        break;
    case APIC_INIT: {
        /* the STARTUP IPI may follow before the CPU has seen this: it waits for one from now on */
        uint32_t runs = VCPU_RUNS;
        if (!__atomic_compare_exchange_n(&v->start, &runs, VCPU_WAITS_FOR_SIPI, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST))
            return;
        __atomic_store_n(&v->init_pending, 1, __ATOMIC_SEQ_CST);
        break;
    }
    case APIC_STARTUP: {
        uint32_t waits = VCPU_WAITS_FOR_SIPI;
        if (__atomic_load_n(&v->start, __ATOMIC_SEQ_CST) != waits)
            return;
        v->sipi_vector = m->vector;
        if (!__atomic_compare_exchange_n(&v->start, &waits, VCPU_SIPI_ARRIVED, false, __ATOMIC_SEQ_CST,
                                         __ATOMIC_SEQ_CST))
            return;
        break;
    }
    default:
        return;
    }
    vcpu_notify(v);
}

static bool matches(struct vcpu *v, const struct apic_msg *m) {
    mutex_lock(&v->lapic_lock);
    bool yes = lapic_matches(&v->lapic, m);
    mutex_unlock(&v->lapic_lock);
    return yes;
}

static void deliver(struct vm *vm, const struct apic_msg *m) {
    for (unsigned i = 0; i < vm->cpus; i++) {
        struct vcpu *v = &vm->vcpu[i];
        if (!matches(v, m))
            continue;
        accept(v, m);
        if (m->delivery == APIC_LOWEST) /* one of them: the first will do */
            return;
    }
}

void irq_ioapic_send(void *ctx, const struct apic_msg *m) {
    struct vm *vm = ctx;

    if (m->delivery == APIC_EXTINT) /* the 8259's INTR on an I/O APIC pin: handled by LINT0 */
        return;
    deliver(vm, m);
}

void irq_effect(struct vcpu *v, const struct lapic_effect *e) {
    struct vm *vm = v->vm;

    if (e->eoi) {
        mutex_lock(&vm->irq_lock);
        ioapic_eoi(&vm->ioapic, e->eoi_vector);
        mutex_unlock(&vm->irq_lock);
    }
    if (e->timer_changed)
        vm_deadline(vm, lapic_deadline(&v->lapic)); /* only this thread and the tick change it: an old value is early */
    switch (e->ipi) {
    case LAPIC_IPI_NONE:
        break;
    case LAPIC_IPI_DEST:
        deliver(vm, &e->msg);
        break;
    case LAPIC_IPI_SELF:
        accept(v, &e->msg);
        break;
    default:
        for (unsigned i = 0; i < vm->cpus; i++)
            if (e->ipi == LAPIC_IPI_ALL || &vm->vcpu[i] != v)
                accept(&vm->vcpu[i], &e->msg);
    }
}

void irq_lapic_write(struct vcpu *v, unsigned reg, uint64_t val, bool *ok) {
    struct lapic_effect e;

    mutex_lock(&v->lapic_lock);
    *ok = lapic_write(&v->lapic, reg, val, vm_now_ns(v->vm), &e);
    mutex_unlock(&v->lapic_lock);
    irq_effect(v, &e);
}

/* ---- end of interrupt without an exit: MSR_KVM_EOI_EN of Linux's "KVM-specific MSRs" ----
 * A word of the guest's has bit 0 set while the vector in service may end by clearing it, which we see at the next exit. That must not be
 * while another one waits, which would then not come, nor with a level, which the I/O APIC must hear of. */

static void pv_eoi_mark(struct vcpu *v, bool may) {
    uint8_t *word = gmem_ptr(&v->vm->mem, v->pv_eoi & ~3ull, 4);

    v->pv_eoi_marked = may;
    mem_write32(word, (mem_read32(word) & ~1u) | may);
}

bool irq_pv_eoi_write(struct vcpu *v, uint64_t val) {
    if (val & 2 || (val & 1 && !gmem_ptr(&v->vm->mem, val & ~3ull, 4)))
        return false;
    if (v->pv_eoi_marked)
        pv_eoi_mark(v, false);
    v->pv_eoi = val;
    return true;
}

void irq_pv_eoi_settle(struct vcpu *v) {
    bool ok;

    if (mem_read32(gmem_ptr(&v->vm->mem, v->pv_eoi & ~3ull, 4)) & 1)
        return;
    v->pv_eoi_marked = false;
    irq_lapic_write(v, LAPIC_EOI, 0, &ok);
}

void irq_pv_eoi_withdraw(struct vcpu *v) {
    mutex_lock(&v->lapic_lock);
    bool others = lapic_requested(&v->lapic);
    mutex_unlock(&v->lapic_lock);
    if (others)
        pv_eoi_mark(v, false);
}

/* lapic_lock is held. Once the guest's kernel has its I/O APIC the answer is no, and the 8259 need not be asked in each exit. */
static bool takes_extint(const struct vcpu *v) { return v->index == 0 && lapic_takes_extint(&v->lapic); }

bool irq_pending_unmaskable(const struct vcpu *v) {
    return __atomic_load_n(&v->nmi_pending, __ATOMIC_SEQ_CST) || __atomic_load_n(&v->init_pending, __ATOMIC_SEQ_CST);
}

static bool pending_maskable(struct vcpu *v) {
    mutex_lock(&v->lapic_lock);
    bool yes = lapic_pending(&v->lapic) >= 0, ext = takes_extint(v);
    mutex_unlock(&v->lapic_lock);
    if (!yes && ext) {
        mutex_lock(&v->vm->irq_lock);
        yes = pic_intr(&v->vm->pic);
        mutex_unlock(&v->vm->irq_lock);
    }
    return yes;
}

bool irq_pending(struct vcpu *v) { return irq_pending_unmaskable(v) || pending_maskable(v); }

uint32_t irq_windows(struct vcpu *v) {
    uint32_t nmi = __atomic_load_n(&v->nmi_pending, __ATOMIC_SEQ_CST) ? v->vm->exits->nmi_window : 0;

    return nmi | (pending_maskable(v) ? INJ_IRQ_WINDOW : 0);
}

/* Takes the vector that is to be injected now, or -1. */
static int take_vector(struct vcpu *v) {
    mutex_lock(&v->lapic_lock);
    int vec = lapic_pending(&v->lapic);
    bool ext = takes_extint(v), mark = false;
    if (vec >= 0) {
        lapic_ack(&v->lapic, (uint8_t)vec);
        mark = v->pv_eoi & 1 && lapic_ends_silently(&v->lapic, (uint8_t)vec);
    }
    mutex_unlock(&v->lapic_lock);
    if (mark)
        pv_eoi_mark(v, true);
    if (vec < 0 && ext) {
        mutex_lock(&v->vm->irq_lock);
        if (pic_intr(&v->vm->pic))
            vec = pic_ack(&v->vm->pic);
        mutex_unlock(&v->vm->irq_lock);
    }
    return vec;
}

/* An event whose delivery an exit interrupted is delivered again, but for instructions that simply run again: INT n and on VT-x INT1,
 * INT3 and INTO have types of their own, on AMD-V the last two are exceptions. */
static bool again(uint32_t info) {
    unsigned vec = info & 0xff;

    return info & INJ_VALID && INJ_TYPE(info) < INJ_TYPE_SOFT &&
           !(INJ_TYPE(info) == INJ_TYPE_EXC && (vec == 3 || vec == 4));
}

void irq_inject(struct vcpu *v, struct abi_state *s) {
    bool open = s->rflags & RFLAGS_IF && !(s->intr_state & INTR_SHADOW);

    if (again(s->inj_info)) {
        s->inj_info = (s->inj_info & (INJ_VALID | INJ_ERROR | 0x7ff)) | irq_windows(v);
        return;
    }
    s->inj_info = 0;
    s->inj_error = 0;
    if (__atomic_load_n(&v->nmi_pending, __ATOMIC_SEQ_CST) && !(s->intr_state & (INTR_SHADOW | INTR_NMI))) {
        __atomic_store_n(&v->nmi_pending, 0, __ATOMIC_SEQ_CST);
        s->inj_info = INJ_VALID | INJ_TYPE_NMI << 8 | 2;
    } else if (open) {
        int vec = take_vector(v);
        if (vec < 0)
            return;
        s->inj_info = INJ_VALID | (uint32_t)vec;
    }
    s->inj_info |= irq_windows(v);
}
