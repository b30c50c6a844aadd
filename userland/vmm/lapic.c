#include "lapic.h"

#include <string.h>

#define APIC_BASE_ADDR 0xfee00000ull
enum { BASE_BSP = 1 << 8, BASE_X2APIC = 1 << 10, BASE_ENABLE = 1 << 11 };
enum { SVR_ENABLE = 1 << 8 };
enum { LVT_MASKED = 1 << 16, LVT_STATUS = 1 << 12, LVT_REMOTE_IRR = 1 << 14 };
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };
enum { ESR_SEND_ILLEGAL = 1 << 5, ESR_RECV_ILLEGAL = 1 << 6 };
#define LAPIC_VERSION_VALUE 0x00050014u /* integrated APIC, six LVT entries */

static int highest(const uint32_t set[8]) {
    for (int i = 7; i >= 0; i--)
        if (set[i])
            return i * 32 + 31 - __builtin_clz(set[i]);
    return -1;
}

static void bit_set(uint32_t set[8], uint8_t v) { set[v >> 5] |= 1u << (v & 31); }

static void bit_clear(uint32_t set[8], uint8_t v) { set[v >> 5] &= ~(1u << (v & 31)); }

static bool bit_test(const uint32_t set[8], uint8_t v) { return set[v >> 5] >> (v & 31) & 1; }

static void state_reset(struct lapic *l) {
    l->tpr = 0;
    l->ldr = 0;
    l->dfr = 0xffffffff;
    l->svr = 0xff;
    l->esr = l->esr_next = 0;
    l->icr = 0;
    for (int i = 0; i < 6; i++)
        l->lvt[i] = LVT_MASKED;
    l->timer_init = l->timer_div = 0;
    l->timer_start_ns = 0;
    l->timer_expiry_ns = DEV_NO_DEADLINE;
    l->tsc_deadline = 0;
    memset(l->isr, 0, sizeof(l->isr));
    memset(l->tmr, 0, sizeof(l->tmr));
    memset(l->irr, 0, sizeof(l->irr));
}

void lapic_init(struct lapic *l, uint32_t id, bool bsp) {
    memset(l, 0, sizeof(*l));
    state_reset(l);
    l->id = id;
    l->bsp = bsp;
    l->mode = LAPIC_XAPIC;
    if (bsp) {
        l->svr |= SVR_ENABLE;
        l->lvt[LAPIC_LVT_LINT0 - LAPIC_LVT_TIMER] = APIC_EXTINT << 8;
        l->lvt[LAPIC_LVT_LINT1 - LAPIC_LVT_TIMER] = APIC_NMI << 8;
    }
}

static uint8_t ppr(const struct lapic *l) {
    int in_service = highest(l->isr);
    uint8_t isrv = in_service < 0 ? 0 : (uint8_t)in_service;

    return l->tpr >> 4 >= isrv >> 4 ? l->tpr : isrv & 0xf0;
}

static unsigned timer_mode(const struct lapic *l) { return l->lvt[0] >> 17 & 3; }

/* The timer counts at 1 GHz before division (SDM "Divide Configuration Register"). */
static uint32_t timer_divisor(const struct lapic *l) {
    unsigned code = (l->timer_div & 3) | (l->timer_div >> 1 & 4);

    return code == 7 ? 1 : 2u << code;
}

static uint32_t timer_current(const struct lapic *l, uint64_t now_ns) {
    if (!l->timer_init || timer_mode(l) == TIMER_TSC_DEADLINE || now_ns < l->timer_start_ns)
        return 0;
    uint64_t passed = (now_ns - l->timer_start_ns) / timer_divisor(l);

    if (timer_mode(l) == TIMER_PERIODIC)
        return (uint32_t)(l->timer_init - passed % l->timer_init);
    return passed >= l->timer_init ? 0 : (uint32_t)(l->timer_init - passed);
}

static void timer_start(struct lapic *l, uint64_t now_ns) {
    l->timer_start_ns = now_ns;
    l->timer_expiry_ns = DEV_NO_DEADLINE;
    if (l->timer_init && timer_mode(l) != TIMER_TSC_DEADLINE)
        l->timer_expiry_ns = now_ns + (uint64_t)l->timer_init * timer_divisor(l);
}

uint64_t lapic_base_read(const struct lapic *l) {
    return APIC_BASE_ADDR | (l->bsp ? BASE_BSP : 0) | (l->mode != LAPIC_DISABLED ? BASE_ENABLE : 0) |
           (l->mode == LAPIC_X2APIC ? BASE_X2APIC : 0);
}

bool lapic_base_write(struct lapic *l, uint64_t val) {
    bool en = val & BASE_ENABLE, x2 = val & BASE_X2APIC;
    uint8_t mode = !en ? LAPIC_DISABLED : x2 ? LAPIC_X2APIC : LAPIC_XAPIC;

    if ((val & ~(uint64_t)(BASE_BSP | BASE_X2APIC | BASE_ENABLE)) != APIC_BASE_ADDR || (x2 && !en))
        return false;
    /* SDM "x2APIC State Transitions": neither x2APIC -> xAPIC nor disabled -> x2APIC */
    if ((l->mode == LAPIC_X2APIC && mode == LAPIC_XAPIC) || (l->mode == LAPIC_DISABLED && mode == LAPIC_X2APIC))
        return false;
    if (mode == LAPIC_DISABLED && l->mode != LAPIC_DISABLED)
        state_reset(l);
    l->mode = mode;
    return true;
}

static uint32_t ldr_read(const struct lapic *l) {
    if (l->mode == LAPIC_X2APIC) /* SDM "Deriving Logical x2APIC ID from the Local x2APIC ID" */
        return (l->id >> 4) << 16 | 1u << (l->id & 15);
    return l->ldr;
}

bool lapic_read(const struct lapic *l, unsigned reg, uint64_t now_ns, uint64_t *val) {
    bool x2 = l->mode == LAPIC_X2APIC;

    *val = 0;
    if (reg >= LAPIC_ISR && reg < LAPIC_ESR) {
        const uint32_t *set = reg < LAPIC_TMR ? l->isr : reg < LAPIC_IRR ? l->tmr : l->irr;
        *val = set[reg & 7];
        return true;
    }
    if (reg >= LAPIC_LVT_TIMER && reg <= LAPIC_LVT_ERROR) {
        *val = l->lvt[reg - LAPIC_LVT_TIMER];
        return true;
    }
    switch (reg) {
    case LAPIC_ID:
        *val = x2 ? l->id : l->id << 24;
        return true;
    case LAPIC_VERSION:
        *val = LAPIC_VERSION_VALUE;
        return true;
    case LAPIC_TPR:
        *val = l->tpr;
        return true;
    case LAPIC_PPR:
        *val = ppr(l);
        return true;
    case LAPIC_LDR:
        *val = ldr_read(l);
        return true;
    case LAPIC_SVR:
        *val = l->svr;
        return true;
    case LAPIC_ESR:
        *val = l->esr;
        return true;
    case LAPIC_ICR:
        *val = x2 ? l->icr : (uint32_t)l->icr;
        return true;
    case LAPIC_TIMER_INIT:
        *val = l->timer_init;
        return true;
    case LAPIC_TIMER_CUR:
        *val = timer_current(l, now_ns);
        return true;
    case LAPIC_TIMER_DIV:
        *val = l->timer_div;
        return true;
    case LAPIC_DFR:
        *val = l->dfr;
        return !x2;
    case LAPIC_ICR2:
        *val = l->icr >> 32;
        return !x2;
    case LAPIC_APR:
        return !x2;
    default:
        return false;
    }
}

static void eoi_write(struct lapic *l, struct lapic_effect *e) {
    int v = highest(l->isr);

    if (v < 0)
        return;
    bit_clear(l->isr, (uint8_t)v);
    if (bit_test(l->tmr, (uint8_t)v)) {
        e->eoi = true;
        e->eoi_vector = (uint8_t)v;
    }
}

static void icr_send(struct lapic *l, struct lapic_effect *e) {
    bool x2 = l->mode == LAPIC_X2APIC;
    unsigned shorthand = l->icr >> 18 & 3;

    e->msg = (struct apic_msg){.dest = (uint32_t)(x2 ? l->icr >> 32 : l->icr >> 56),
                               .vector = (uint8_t)l->icr,
                               .delivery = l->icr >> 8 & 7,
                               .logical = l->icr >> 11 & 1,
                               .x2 = x2};
    if (e->msg.delivery <= APIC_LOWEST && e->msg.vector < 16) {
        l->esr_next |= ESR_SEND_ILLEGAL;
        return;
    }
    if (e->msg.delivery == APIC_INIT && l->icr >> 15 & 1 && !(l->icr >> 14 & 1))
        return; /* level de-assert: only old APICs act on it */
    e->ipi = shorthand == 0   ? LAPIC_IPI_DEST
             : shorthand == 1 ? LAPIC_IPI_SELF
             : shorthand == 2 ? LAPIC_IPI_ALL
                              : LAPIC_IPI_OTHERS;
}

static void lvt_write(struct lapic *l, unsigned n, uint32_t val, uint64_t now_ns, struct lapic_effect *e) {
    static const uint32_t writable[6] = {0x700ff, 0x107ff, 0x107ff, 0x1a7ff, 0x1a7ff, 0x100ff};
    unsigned before = timer_mode(l);

    if (n == 0)
        val &= 0x700ff;
    l->lvt[n] = (l->lvt[n] & (LVT_STATUS | LVT_REMOTE_IRR)) | (val & writable[n]);
    if (!(l->svr & SVR_ENABLE))
        l->lvt[n] |= LVT_MASKED;
    if (n == 0 && before != timer_mode(l)) { /* SDM: changing the mode disarms the timer */
        l->timer_init = 0;
        l->tsc_deadline = 0;
        timer_start(l, now_ns);
        e->timer_changed = true;
    }
}

static void svr_write(struct lapic *l, uint32_t val) {
    l->svr = val & 0x3ff;
    if (!(val & SVR_ENABLE))
        for (int i = 0; i < 6; i++)
            l->lvt[i] |= LVT_MASKED;
}

static bool x2_reserved_set(unsigned reg, uint64_t val) {
    return (reg != LAPIC_ICR && val >> 32) || (reg == LAPIC_EOI && val) || (reg == LAPIC_ESR && val) ||
           (reg == LAPIC_TPR && val >> 8) || (reg == LAPIC_SELF_IPI && val >> 8);
}

bool lapic_write(struct lapic *l, unsigned reg, uint64_t val, uint64_t now_ns, struct lapic_effect *e) {
    bool x2 = l->mode == LAPIC_X2APIC;

    memset(e, 0, sizeof(*e));
    if (x2 && x2_reserved_set(reg, val))
        return false;
    if (reg >= LAPIC_LVT_TIMER && reg <= LAPIC_LVT_ERROR) {
        lvt_write(l, reg - LAPIC_LVT_TIMER, (uint32_t)val, now_ns, e);
        return true;
    }
    switch (reg) {
    case LAPIC_TPR:
        l->tpr = (uint8_t)val;
        return true;
    case LAPIC_EOI:
        eoi_write(l, e);
        return true;
    case LAPIC_SVR:
        svr_write(l, (uint32_t)val);
        return true;
    case LAPIC_ESR:
        l->esr = l->esr_next;
        l->esr_next = 0;
        return true;
    case LAPIC_ICR: /* bit 12, delivery status, reads as idle */
        l->icr = x2 ? val & ~(1ull << 12) : (l->icr & ~0xffffffffull) | (val & 0xffffefff);
        icr_send(l, e);
        return true;
    case LAPIC_TIMER_INIT:
        if (timer_mode(l) != TIMER_TSC_DEADLINE) {
            l->timer_init = (uint32_t)val;
            timer_start(l, now_ns);
            e->timer_changed = true;
        }
        return true;
    case LAPIC_TIMER_DIV: {
        uint32_t cur = timer_current(l, now_ns);
        l->timer_div = val & 0xb;
        if (cur) { /* the count goes on at the new speed */
            l->timer_start_ns = now_ns - (uint64_t)(l->timer_init - cur) * timer_divisor(l);
            l->timer_expiry_ns = now_ns + (uint64_t)cur * timer_divisor(l);
            e->timer_changed = true;
        }
        return true;
    }
    case LAPIC_SELF_IPI:
        if (!x2)
            return false;
        e->ipi = LAPIC_IPI_SELF;
        e->msg = (struct apic_msg){.vector = (uint8_t)val, .x2 = true};
        return true;
    case LAPIC_ID:
        return !x2; /* read-only, as on current processors */
    case LAPIC_LDR:
        l->ldr = val & 0xff000000;
        return !x2;
    case LAPIC_DFR:
        l->dfr = (uint32_t)val | 0x0fffffff;
        return !x2;
    case LAPIC_ICR2:
        l->icr = (l->icr & 0xffffffff) | val << 32;
        return !x2;
    default:
        return false;
    }
}

void lapic_tsc_deadline_write(struct lapic *l, uint64_t tsc, uint64_t expiry_ns) {
    if (timer_mode(l) != TIMER_TSC_DEADLINE)
        return;
    l->tsc_deadline = tsc;
    l->timer_expiry_ns = tsc ? expiry_ns : DEV_NO_DEADLINE;
}

bool lapic_matches(const struct lapic *l, const struct apic_msg *m) {
    if (l->mode == LAPIC_DISABLED)
        return false;
    if (m->dest == (m->x2 ? 0xffffffffu : 0xffu))
        return true;
    if (!m->logical)
        return l->id == m->dest;
    if (l->mode == LAPIC_X2APIC) {
        uint32_t ldr = ldr_read(l);
        return ldr >> 16 == m->dest >> 16 && (ldr & m->dest & 0xffff);
    }
    uint32_t mine = l->ldr >> 24;

    if (l->dfr >> 28 == 0xf) /* flat */
        return mine & m->dest & 0xff;
    return mine >> 4 == (m->dest >> 4 & 15) && (mine & m->dest & 15);
}

bool lapic_accept(struct lapic *l, uint8_t vector, bool level) {
    if (l->mode == LAPIC_DISABLED || !(l->svr & SVR_ENABLE))
        return false;
    if (vector < 16) {
        l->esr_next |= ESR_RECV_ILLEGAL;
        return false;
    }
    bit_set(l->irr, vector);
    if (level)
        bit_set(l->tmr, vector);
    else
        bit_clear(l->tmr, vector);
    return true;
}

bool lapic_requested(const struct lapic *l) {
    const uint32_t *r = l->irr;

    return r[0] | r[1] | r[2] | r[3] | r[4] | r[5] | r[6] | r[7];
}

bool lapic_ends_silently(const struct lapic *l, uint8_t vector) {
    return !bit_test(l->tmr, vector) && !lapic_requested(l);
}

int lapic_pending(const struct lapic *l) {
    if (!lapic_requested(l)) /* nearly always, and looked at in each exit */
        return -1;
    int v = highest(l->irr);

    return v >= 0 && l->svr & SVR_ENABLE && v >> 4 > ppr(l) >> 4 ? v : -1;
}

void lapic_ack(struct lapic *l, uint8_t vector) {
    bit_clear(l->irr, vector);
    bit_set(l->isr, vector);
}

bool lapic_takes_extint(const struct lapic *l) {
    uint32_t lint0 = l->lvt[LAPIC_LVT_LINT0 - LAPIC_LVT_TIMER];

    return l->mode == LAPIC_DISABLED || (!(lint0 & LVT_MASKED) && (lint0 >> 8 & 7) == APIC_EXTINT);
}

uint64_t lapic_deadline(const struct lapic *l) { return l->timer_expiry_ns; }

void lapic_tick(struct lapic *l, uint64_t now_ns) {
    if (now_ns < l->timer_expiry_ns)
        return;
    l->timer_expiry_ns = DEV_NO_DEADLINE;
    l->tsc_deadline = 0;
    if (timer_mode(l) == TIMER_PERIODIC && l->timer_init) {
        uint64_t period = (uint64_t)l->timer_init * timer_divisor(l);
        /* periods that were missed are one interrupt; a tiny period must not starve everybody else */
        l->timer_start_ns += (now_ns - l->timer_start_ns) / period * period;
        l->timer_expiry_ns = l->timer_start_ns + period;
        if (l->timer_expiry_ns < now_ns + 20000)
            l->timer_expiry_ns = now_ns + 20000;
    }
    if (!(l->lvt[0] & LVT_MASKED))
        lapic_accept(l, (uint8_t)l->lvt[0], false);
}

bool lapic_save(const struct lapic *l, struct record_buf *b) { return record_put(b, "lapic", 1, l, sizeof(*l)); }

bool lapic_restore(struct lapic *l, unsigned n, const struct record_buf *b) {
    struct lapic t;

    if (!record_get(b, "lapic", n, 1, &t, sizeof(t)) || t.mode > LAPIC_X2APIC || t.id != l->id)
        return false;
    *l = t;
    return true;
}
