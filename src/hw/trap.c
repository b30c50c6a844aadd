/* From the entry stubs to core and back to what runs next. */
#include "arch/assert.h"
#include "arch/mitigate.h"
#include "arch/vcpu.h"
#include "core/klog.h"
#include "hw/hw.h"
#include "hw/layout.h"
#include <mach/insn.h>

#define AT(member, offset) (offsetof(struct hw_entry, member) == (offset))
static_assert(AT(self, ENTRY_SELF) && AT(ec, ENTRY_EC) && AT(stack_top, ENTRY_STACK) && AT(scratch, ENTRY_SCRATCH) &&
                  AT(user_root, ENTRY_USER_ROOT) && AT(frame, ENTRY_FRAME) && AT(gdtr_limit, ENTRY_GDTR) &&
                  AT(gdt, ENTRY_GDT) && offsetof(struct hw_area, entry) == ENTRY_OFFSET,
              "entry assembly");
static_assert(offsetof(struct ec, regs) == EC_REGS && offsetof(struct hw_tss, rsp) == ENTRY_OFFSET + ENTRY_RSP0 &&
                  offsetof(struct uregs, vec) == REGS_VEC && offsetof(struct uregs, err) == REGS_ERR &&
                  offsetof(struct uregs, rip) == REGS_RIP && offsetof(struct uregs, cs) == REGS_CS &&
                  offsetof(struct uregs, rflags) == REGS_RFLAGS && offsetof(struct uregs, rsp) == REGS_RSP &&
                  sizeof(struct uregs) == REGS_SIZE && REGS_SYSCALL == VEC_SYSCALL && USER_CS == SEL_UCODE &&
                  USER_SS == SEL_UDATA,
              "entry assembly");
static_assert(offsetof(struct ec, regs) % 16 == 0, "the hardware aligns the frame it pushes");

static_assert(ALT_ISOLATION == MIT_ISOLATION && ALT_RETPOLINE == MIT_RETPOLINE && ALT_RSB == MIT_RSB &&
                  ALT_VERW == MIT_VERW,
              "alternatives");

enum { V_DB = 1, V_NMI = 2, V_DF = 8, V_GP = 13, V_PF = 14, V_MC = 18 };

/* Called from entry.S. */
struct uregs *hw_resume(struct cpu *c);
struct uregs *hw_trap_user(struct cpu *c);
void hw_trap_kernel(struct uregs *r);
void hw_trap_ist(struct uregs *r, struct cpu *c);

/* Runs vCPUs and idle here until a thread is next: its registers are what entry.S resumes. */
static no_inline struct ec *run_others(struct ec *ec) {
    struct cpu *c = arch_cpu_self();
    do {
        if (ec->kind == EC_VCPU) {
            ec = arch_vcpu_run(c);
        } else if (ec->kind == EC_IDLE) {
            arch_cpu_idle();
            ec = core_resume(c);
        } else { /* neither sysret nor iret may see it */
            ec->regs.vec = V_GP;
            ec->regs.err = 0;
            ec = core_exception(c, 0);
        }
    } while (ec->kind >= EC_VCPU || !user_ip_ok(ec->regs.rip));
    return ec;
}

static force_inline struct uregs *leave(struct ec *ec) {
    if (unlikely(ec->kind >= EC_VCPU || !user_ip_ok(ec->regs.rip)))
        ec = run_others(ec);
    struct cpu *c = arch_cpu_self();
    assert(ec == c->ec);
    struct hw_area *area = c->mach.area;
    if (area->entry.ec != ec) {
        area->entry.ec = ec;
        if (!(mitigations & MIT_ISOLATION))
            area->tss.rsp[0] = (u64)(&ec->regs + 1);
    }
    return &ec->regs;
}

struct uregs *hw_resume(struct cpu *c) {
    return leave(likely(core_guest_next(c)) ? arch_vcpu_run(c) : core_resume(c));
}

static void interrupt(struct cpu *c, u64 vec) {
    if (vec >= VEC_GSI && vec < VEC_GSI + ABI_MAX_GSIS) {
        core_interrupt(c, (unsigned)vec - VEC_GSI); /* masks level-triggered ones before the EOI */
        lapic_eoi();
    } else if (vec == VEC_TIMER) {
        lapic_eoi();
        lapic_timer_fired(c);
    } else if (vec == VEC_IPI) {
        lapic_eoi();
        core_ipi(c);
    } else if (vec == VEC_ERROR) {
        lapic_eoi();
        klog_warn("cpu %u: local APIC error\n", c->id);
    } /* else spurious: no EOI */
}

struct uregs *hw_trap_user(struct cpu *c) {
    struct ec *ec = c->ec;
    u64 vec = ec->regs.vec;
    if (vec >= VEC_GSI) {
        interrupt(c, vec);
        return leave(core_resume(c));
    }
    if (vec == V_GP &&
        c->mach.pio_seen != ec->pd->pio_bitmap) { /* paging.c: first port of this PD came from another CPU */
        c->mach.pio_seen = ec->pd->pio_bitmap;
        arch_tlb_flush();
        return leave(core_resume(c));
    }
    if (vec == V_DB)
        dr6_write(0xffff0ff0);
    return leave(core_exception(c, vec == V_PF ? cr2_read() : 0));
}

void hw_trap_kernel(struct uregs *r) {
    if (r->vec < VEC_GSI)
        panic_trap("exception in the kernel", r, cr2_read());
    interrupt(arch_cpu_self(), r->vec);
}

void hw_trap_ist(struct uregs *r, struct cpu *c) {
    static u32 nmis; /* atomic */
    switch (r->vec) {
    case V_NMI:
        panic_stop_self();
        if (atomic_fetch_add(&nmis, 1) < 10 && r->cs != SEL_KCODE) /* not inside klog */
            klog_warn("cpu %u: NMI that nobody asked for\n", c->id);
        break;
    case V_DB:
        dr6_write(0xffff0ff0); /* a breakpoint that a user set up for the entry path: nothing to do */
        break;
    default:
        panic_trap(r->vec == V_DF ? "double fault" : "machine check", r, cr2_read());
    }
}
