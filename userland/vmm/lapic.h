/* Local APIC: xAPIC (memory mapped) and x2APIC (MSRs), timer in one-shot, periodic and TSC-deadline mode.
 * Registers are named by their x2APIC number (xAPIC offset / 16). Facts: Intel SDM vol. 3, chapter "APIC". */
#pragma once
#include "dev.h"
#include "record.h"

enum lapic_reg {
    LAPIC_ID = 0x02,
    LAPIC_VERSION = 0x03,
    LAPIC_TPR = 0x08,
    LAPIC_APR = 0x09,
    LAPIC_PPR = 0x0a,
    LAPIC_EOI = 0x0b,
    LAPIC_LDR = 0x0d,
    LAPIC_DFR = 0x0e,
    LAPIC_SVR = 0x0f,
    LAPIC_ISR = 0x10,
    LAPIC_TMR = 0x18,
    LAPIC_IRR = 0x20,
    LAPIC_ESR = 0x28,
    LAPIC_ICR = 0x30,
    LAPIC_ICR2 = 0x31,
    LAPIC_LVT_TIMER = 0x32,
    LAPIC_LVT_THERMAL = 0x33,
    LAPIC_LVT_PERF = 0x34,
    LAPIC_LVT_LINT0 = 0x35,
    LAPIC_LVT_LINT1 = 0x36,
    LAPIC_LVT_ERROR = 0x37,
    LAPIC_TIMER_INIT = 0x38,
    LAPIC_TIMER_CUR = 0x39,
    LAPIC_TIMER_DIV = 0x3e,
    LAPIC_SELF_IPI = 0x3f,
};

enum apic_delivery { APIC_FIXED, APIC_LOWEST, APIC_SMI, APIC_RSVD, APIC_NMI, APIC_INIT, APIC_STARTUP, APIC_EXTINT };

/* An interrupt message on its way from an I/O APIC or another CPU. */
struct apic_msg {
    uint32_t dest;
    uint8_t vector;
    uint8_t delivery; /* enum apic_delivery */
    bool logical;
    bool level;
    bool x2; /* destination is 32 bits wide (sent by an x2APIC) */
};

enum lapic_mode { LAPIC_DISABLED, LAPIC_XAPIC, LAPIC_X2APIC };

struct lapic {
    uint32_t id;
    uint8_t mode; /* enum lapic_mode */
    uint8_t bsp;
    uint8_t tpr;
    uint32_t ldr, dfr, svr, esr, esr_next;
    uint64_t icr;
    uint32_t lvt[6];
    uint32_t timer_init, timer_div;
    uint64_t timer_start_ns;
    uint64_t timer_expiry_ns; /* DEV_NO_DEADLINE: not armed */
    uint64_t tsc_deadline;    /* as the guest wrote it, 0: not armed */
    uint32_t isr[8], tmr[8], irr[8];
};

/* What a register write leads to outside of this APIC; the caller acts on it after releasing its lock. */
struct lapic_effect {
    bool timer_changed;
    bool eoi; /* a level-triggered vector was completed */
    uint8_t eoi_vector;
    enum { LAPIC_IPI_NONE, LAPIC_IPI_DEST, LAPIC_IPI_SELF, LAPIC_IPI_ALL, LAPIC_IPI_OTHERS } ipi;
    struct apic_msg msg;
};

/* As firmware leaves it: enabled in xAPIC mode, LINT0 of the boot CPU passes the 8259 through. */
void lapic_init(struct lapic *l, uint32_t id, bool bsp);

/* False: no such register, or not that way (#GP in x2APIC mode, ignored in xAPIC mode). */
bool lapic_read(const struct lapic *l, unsigned reg, uint64_t now_ns, uint64_t *val);
bool lapic_write(struct lapic *l, unsigned reg, uint64_t val, uint64_t now_ns, struct lapic_effect *e);

/* IA32_APIC_BASE; a write is refused (#GP) for illegal mode changes or another address. */
uint64_t lapic_base_read(const struct lapic *l);
bool lapic_base_write(struct lapic *l, uint64_t val);

/* IA32_TSC_DEADLINE; expiry_ns is the same moment in VM time. Ignored unless the timer is in that mode. */
void lapic_tsc_deadline_write(struct lapic *l, uint64_t tsc, uint64_t expiry_ns);

bool lapic_matches(const struct lapic *l, const struct apic_msg *m);
/* Fixed interrupt: becomes pending. False: the APIC does not take it (disabled, illegal vector). */
bool lapic_accept(struct lapic *l, uint8_t vector, bool level);
/* Does any vector wait, of whatever priority? */
bool lapic_requested(const struct lapic *l);
/* Does nobody but this APIC have to know when the vector in service ends? Edge-triggered, and none waits. */
bool lapic_ends_silently(const struct lapic *l, uint8_t vector);
/* Vector to be injected now, or -1. */
int lapic_pending(const struct lapic *l);
/* The pending vector was injected: in service now. */
void lapic_ack(struct lapic *l, uint8_t vector);
/* Does the 8259's output reach this CPU? */
bool lapic_takes_extint(const struct lapic *l);

uint64_t lapic_deadline(const struct lapic *l);
void lapic_tick(struct lapic *l, uint64_t now_ns);
bool lapic_save(const struct lapic *l, struct record_buf *b);
bool lapic_restore(struct lapic *l, unsigned n, const struct record_buf *b);
