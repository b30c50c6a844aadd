/* The machine half of a simulated CPU: interrupts, idle, time, FPU, bases, panic, console. */
#include "arch/fpu.h"
#include "arch/assert.h"
#include "sim/internal.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cpu sim_cpus[ABI_MAX_CPUS];
u32 arch_fpu_size = 576;

static struct {
    u8 cpu;
    bool masked, latched; /* latched: an edge while masked */
} lines[ABI_MAX_GSIS];
static char log_text[1 << 16];
static size_t log_size;

bool sim_interrupt_pending(const struct mach_cpu *m) {
    return m->ipi || m->irq[0] || m->irq[1] || sim_now >= m->deadline;
}

void sim_interrupts_deliver(struct cpu *c) {
    struct mach_cpu *m = &c->mach;
    assert(m->locks_held == 0);
    if (sim_now >= m->deadline) {
        m->deadline = ~0ul;
        TRACE(interrupt, c, -1);
        core_timer(c);
    }
    for (unsigned g = 0; g < ABI_MAX_GSIS; g++)
        if (m->irq[g / 64] >> (g % 64) & 1) {
            m->irq[g / 64] &= ~(1ul << (g % 64));
            TRACE(interrupt, c, (int)g);
            core_interrupt(c, g);
        }
    TRACE(interrupt_end, c);
    if (m->ipi) {
        m->ipi = false;
        TRACE(ipi, c);
        core_ipi(c);
    }
}

static u64 shut_longest;
void sim_shut_end(const struct mach_cpu *m) { shut_longest = max_u64(shut_longest, sim_now - m->shut); }
u64 sim_shut_longest(void) {
    u64 longest = shut_longest;
    shut_longest = 0;
    return longest;
}

static u64 preempt_points;
u64 sim_preempt_points(void) { return preempt_points; }

bool arch_preempt_pending(void) {
    if (!sim_running)
        return false;
    preempt_points++;
    sim_point();
    struct cpu *c = arch_cpu_self();
    assert(c->mach.locks_held == 0);
    sim_shut_end(&c->mach);
    sim_shut_begin(&c->mach);
    if (sim_interrupt_pending(&c->mach)) {
        sim_interrupts_deliver(c);
        sim_shut_end(&c->mach);
        sim_shut_begin(&c->mach);
    }
    return __atomic_load_n(&c->hazard, __ATOMIC_RELAXED) != 0;
}

void arch_cpu_idle(void) {
    struct cpu *c = arch_cpu_self();
    assert(c->mach.locks_held == 0);
    sim_point();
    if (__atomic_load_n(&c->hazard, __ATOMIC_RELAXED))
        return;
    sim_shut_end(&c->mach);
    if (!sim_interrupt_pending(&c->mach)) {
        sim_stores_done(); /* a halted CPU keeps nothing to itself */
        c->mach.state = SIM_CPU_IDLE;
        TRACE(idle, c, true);
        sim_sched_wait(); /* only an interrupt ends this: a hazard without one would be a lost wake-up */
        c->mach.state = SIM_CPU_RUN;
        TRACE(idle, c, false);
    }
    sim_shut_begin(&c->mach);
    sim_interrupts_deliver(c);
}

void arch_ipi_send(unsigned cpu) {
    sim_point();
    sim_stores_done(); /* lapic_icr(): MFENCE before the MSR, or an uncached store read back (SDM vol 3 12.3, 9.2.2) */
    assert(cpu < sim_opt.cpus);
    TRACE(ipi_send, cpu, sim_opt.no_ipi);
    if (sim_opt.no_ipi)
        return;
    sim_cpus[cpu].mach.ipi = true;
    sim_sched_wake();
}

void arch_deadline_set(u64 tsc) {
    arch_cpu_self()->mach.deadline = tsc;
    if (sim_running && tsc != ~0ul)
        sim_sched_deadline(tsc);
}

static void line_deliver(unsigned gsi) {
    sim_cpus[lines[gsi].cpu].mach.irq[gsi / 64] |= 1ul << (gsi % 64);
    sim_sched_wake();
}

void sim_irq(unsigned gsi) {
    if (lines[gsi].masked)
        lines[gsi].latched = true;
    else
        line_deliver(gsi);
}

/* hw/ioapic.c takes a lock for these two. */
void arch_irq_mask(unsigned gsi) {
    sim_point();
    sim_stores_done();
    lines[gsi].masked = true;
}

void arch_irq_unmask(unsigned gsi) {
    sim_point();
    sim_stores_done();
    lines[gsi].masked = false;
    if (lines[gsi].latched) {
        lines[gsi].latched = false;
        line_deliver(gsi);
    }
}

bool arch_irq_has_pin(unsigned gsi) { return gsi < 24; }
bool arch_irq_default_level(unsigned gsi) { return gsi >= 16; }
bool arch_irq_default_low(unsigned gsi) { return gsi >= 16; }

void arch_irq_route(unsigned gsi, unsigned cpu, bool level, bool low, u32 *msi_addr, u32 *msi_data) {
    (void)level, (void)low;
    assert(cpu < sim_opt.cpus && gsi < ABI_MAX_GSIS);
    sim_point();
    sim_stores_done();
    lines[gsi].cpu = (u8)cpu;
    *msi_addr = 0xfee00000u | cpu << 12;
    *msi_data = 0x20 + gsi;
}

/* FPU: eight words stand for all of its registers. */
void arch_fpu_init_image(void *image) { memset(image, 0, arch_fpu_size); }
void arch_fpu_save(void *image) { memcpy(image, arch_cpu_self()->mach.fpu, sizeof(arch_cpu_self()->mach.fpu)); }
void arch_fpu_load(const void *image) { memcpy(arch_cpu_self()->mach.fpu, image, sizeof(arch_cpu_self()->mach.fpu)); }
void arch_fpu_enable(void) { arch_cpu_self()->mach.fpu_disabled = false; }
void arch_fpu_disable(void) { arch_cpu_self()->mach.fpu_disabled = true; }

struct arch_bases arch_bases_read(void) {
    return (struct arch_bases){arch_cpu_self()->mach.fs_base, arch_cpu_self()->mach.gs_base};
}

void arch_bases_switch(struct arch_bases *from, const struct arch_bases *to) {
    struct mach_cpu *m = &arch_cpu_self()->mach;
    *from = arch_bases_read();
    m->fs_base = to->fs;
    m->gs_base = to->gs;
}

void arch_putc(char c) {
    if (sim_opt.verbose)
        putchar(c);
    if (log_size == sizeof(log_text)) { /* keep the newer half */
        memmove(log_text, log_text + sizeof(log_text) / 2, sizeof(log_text) / 2);
        log_size = sizeof(log_text) / 2;
    }
    log_text[log_size++] = c;
    TRACE(char, c);
}

void sim_log(const char *fmt, ...) {
    char line[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    for (int i = 0; i < n && i < (int)sizeof(line) - 1; i++)
        arch_putc(line[i]);
}

void sim_log_dump(void) {
    if (!sim_opt.verbose)
        fprintf(stderr, "%.*s", (int)log_size, log_text);
}

static const char *const state_names[] = {"off", "runs", "idle", "waits for a lock"};

void sim_state_dump(void) {
    for (unsigned i = 0; i < sim_opt.cpus; i++) {
        const struct cpu *c = &sim_cpus[i];
        fprintf(stderr, "sim: cpu %u %s%s hazard %x ec %p cont %d ipi %d deadline %ld (now %lu)\n", i,
                state_names[c->mach.state], c->mach.active == c->mach.kernel ? " (kernel)" : " (user)", c->hazard,
                (void *)c->ec, c->ec ? c->ec->cont : -1, c->mach.ipi, (long)c->mach.deadline, sim_now);
    }
    sim_users_dump();
}

void arch_panic(const char *what, const char *file, int line) {
    sim_log("panic on CPU %u: %s (%s:%d)\n", arch_cpu_self()->id, what, file, line);
    if (!sim_on_host)
        sim_stop(SIM_PANIC);
    sim_log_dump();
    sim_replay_print();
    abort();
}
