/* User programs: C functions on fibers, one fiber for each EC that is somewhere in its program.
 *
 * The kernel knows a thread only by its registers. When a fiber traps, RIP becomes a token that no other trap ever had; when
 * the kernel resumes the EC with that RIP, the fiber goes on, with any other RIP a fresh fiber starts there. So the kernel may
 * treat RIP as on hardware: save it, show it in messages, change it. */
#include "arch/assert.h"
#include "core/pd.h"
#include "sim/internal.h"
#include <stdio.h>
#include <string.h>

#define TOKEN_BASE 0x600000000000ul
#define HASH_SIZE  1024
#define SPINNER    256 /* user steps in a row after which a thread counts as waiting for another CPU (PCT) */

extern const char __executable_start[], etext[]; /* linker: where functions are */

static struct sim_fiber *table[HASH_SIZE], *free_list;
static u64 tokens;
static unsigned user_steps;

static struct sim_fiber **slot(const void *ec) { return &table[((u64)ec >> 5) % HASH_SIZE]; }

static struct sim_fiber *fiber_find(const void *ec) {
    struct sim_fiber *f = *slot(ec);
    while (f && f->ec != ec)
        f = f->next;
    return f;
}

void sim_user_forget(const void *ec) {
    for (struct sim_fiber **link = slot(ec); *link; link = &(*link)->next)
        if ((*link)->ec == ec) {
            struct sim_fiber *f = *link;
            *link = f->next;
            f->ec = NULL;
            f->next = free_list;
            free_list = f;
            return;
        }
}

static void program_main(u64 rdi) {
    struct ec *ec = arch_cpu_self()->ec;
    ((void (*)(u64))ec->regs.rip)(rdi);
    sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY});
}

static struct sim_fiber *fiber_start(struct ec *ec) {
    sim_user_forget(ec); /* where it was before does not matter any more */
    struct sim_fiber *f = free_list;
    if (f)
        free_list = f->next;
    else
        f = sim_fiber_create(SIM_USER_STACK);
    f->ec = ec;
    f->token = 0;
    f->next = *slot(ec);
    *slot(ec) = f;
    sim_fiber_prepare(f, program_main, ec->regs.rdi);
    return f;
}

/* From a user fiber into the kernel; returns when the kernel resumes the thread here. */
static void trap(enum sim_trap kind) {
    struct cpu *c = arch_cpu_self();
    struct sim_fiber *f = c->mach.active;
    user_steps = 0;
    f->token = TOKEN_BASE + 16 * ++tokens;
    c->ec->regs.rip = f->token;
    c->mach.trap = kind;
    c->mach.active = c->mach.kernel;
    sim_fiber_switch(f, c->mach.kernel);
}

struct ec *sim_user_run(struct cpu *c, struct ec *ec) {
    struct mach_cpu *m = &c->mach;
    u64 rip = ec->regs.rip;
    assert(ec == c->ec && c->space == ec->pd && m->locks_held == 0 && m->xcr0 == 7);
    assert(!memcmp(m->syscall_msr, sim_syscall_msrs, sizeof(sim_syscall_msrs)));
    sim_point();
    sim_stores_done(); /* SYSRET does not, but a program's own stores are not delayed: they would overtake the kernel's */
    if (sim_interrupt_pending(m)) { /* comes in as soon as the thread is resumed */
        sim_shut_end(m);
        sim_shut_begin(m);
        sim_interrupts_deliver(c);
        return core_resume(c);
    }
    sim_check_exit(c);
    struct sim_fiber *f = fiber_find(ec);
    if (!f || f->token != rip) {
        if (rip < (u64)__executable_start || rip >= (u64)etext) { /* nothing to execute there */
            ec->regs.vec = 14;
            ec->regs.err = 0x14;
            TRACE(trap, c, SIM_TRAP_EXCEPTION, rip);
            return core_exception(c, rip);
        }
        f = fiber_start(ec);
    }
    if (!sim_begun && !sim_opt.setup)
        sim_pause();
    sim_hash_registers(&ec->regs, 16 * c->id);
    TRACE(user, c, !f->token);
    m->active = f;
    sim_shut_end(m);
    sim_race_ignore(true);
    sim_fiber_switch(m->kernel, f);
    sim_race_ignore(false);
    sim_shut_begin(m);
    TRACE(trap, c, (enum sim_trap)m->trap, m->cr2);
    sim_hash_registers(&ec->regs, 16 * c->id + 1 + (u64)m->trap);
    switch ((enum sim_trap)m->trap) {
    case SIM_TRAP_SYSCALL:
        if ((ec->regs.rdi & 0xf) == HC_REPLY)
            sim_user_forget(ec); /* never comes back to this stack */
        sim_point();
        ec = core_syscall(c);
        return ec ? ec : core_guest_next(c) ? c->ec : core_resume(c);
    case SIM_TRAP_EXCEPTION:
        sim_hash_value(m->cr2);
        sim_point();
        return core_exception(c, m->cr2);
    case SIM_TRAP_INTERRUPT:
        sim_interrupts_deliver(c);
        return core_resume(c);
    }
    __builtin_unreachable();
}

void sim_step(void) {
    sim_point();
    struct cpu *c = arch_cpu_self();
    if (sim_interrupt_pending(&c->mach))
        trap(SIM_TRAP_INTERRUPT);
    if (++user_steps > SPINNER) {
        user_steps = 0;
        arch_cpu_relax();
    }
}

unsigned sim_cpu(void) { return arch_cpu_self()->id; }
struct uregs *sim_regs(void) {
    return &arch_cpu_self()->ec->regs;
}

void sim_hypercall(struct sim_hypercall *h) {
    sim_step();
    struct uregs *r = sim_regs();
    r->rdi = h->rdi, r->rsi = h->rsi, r->rdx = h->rdx, r->rax = h->rax, r->r8 = h->r8;
    trap(SIM_TRAP_SYSCALL);
    r = sim_regs();
    *h = (struct sim_hypercall){r->rdi, r->rsi, r->rdx, r->rax, r->r8};
}

static void raise_at(unsigned vec, u64 err, u64 addr) {
    struct cpu *c = arch_cpu_self();
    c->ec->regs.vec = vec;
    c->ec->regs.err = err;
    c->mach.cr2 = addr;
    trap(SIM_TRAP_EXCEPTION);
}

void sim_raise(unsigned vec, u64 err) {
    sim_step();
    raise_at(vec, err, 0);
}

/* Host pointer for one access that does not cross a page; nothing else runs between the translation and the access. */
static void *user_ptr(u64 va, unsigned access) {
    static u64 nowhere[PAGE_SIZE / 8]; /* physical addresses without memory: reads all ones, writes go nowhere */
    for (;;) {
        sim_step();
        paddr_t pa;
        u64 fault = sim_mmu_translate(arch_cpu_self(), va, access, &pa);
        if (!fault) {
            void *p = sim_phys(pa);
            if (!p)
                memset(nowhere, 0xff, sizeof(nowhere));
            else if (access == PERM_MEM_W)
                sim_model_user_write(p);
            return p ? p : (char *)nowhere + (va & PAGE_MASK);
        }
        raise_at(14, fault & 0xffff, va);
    }
}

void *sim_mem_ptr(u64 va, bool write) { return user_ptr(va, write ? PERM_MEM_W : PERM_MEM_R); }

void sim_mem_read(u64 va, void *to, size_t bytes) {
    while (bytes) {
        size_t n = min_u64(bytes, PAGE_SIZE - (va & PAGE_MASK));
        memcpy(to, user_ptr(va, PERM_MEM_R), n);
        to = (char *)to + n, va += n, bytes -= n;
    }
}

void sim_mem_write(u64 va, const void *from, size_t bytes) {
    while (bytes) {
        size_t n = min_u64(bytes, PAGE_SIZE - (va & PAGE_MASK));
        memcpy(user_ptr(va, PERM_MEM_W), from, n);
        from = (const char *)from + n, va += n, bytes -= n;
    }
}

u32 sim_mem_xchg32(u64 va, u32 v) { return __atomic_exchange_n((u32 *)user_ptr(va, PERM_MEM_W), v, __ATOMIC_SEQ_CST); }
u32 sim_mem_or32(u64 va, u32 v) { return __atomic_fetch_or((u32 *)user_ptr(va, PERM_MEM_W), v, __ATOMIC_SEQ_CST); }

static bool probe(u64 va, unsigned access) {
    sim_step();
    paddr_t pa;
    return !sim_mmu_translate(arch_cpu_self(), va, access, &pa);
}
bool sim_mem_probe(u64 va, bool write) { return probe(va, write ? PERM_MEM_W : PERM_MEM_R); }
bool sim_mem_exec(u64 va) { return probe(va, PERM_MEM_X); }

/* #GP unless the PD's bitmap allows all bytes. SDM vol 1 19.5.2 "I/O Permission Bit Map". */
static void port_check(unsigned port, unsigned bytes) {
    for (;;) {
        sim_step();
        const u8 *bits = arch_cpu_self()->space->pio_bitmap;
        bool denied = !bits;
        for (unsigned p = port; !denied && p < port + bytes; p++)
            denied = p > 0xffff || (bits[p / 8] >> p % 8 & 1);
        if (!denied)
            return;
        raise_at(13, 0, 0);
    }
}

u32 sim_port_in(unsigned port, unsigned bytes) {
    port_check(port, bytes);
    return ~0u >> (32 - 8 * bytes);
}

void sim_port_out(unsigned port, unsigned bytes, u32 value) {
    port_check(port, bytes);
    (void)value;
}

static struct mach_cpu *fpu_use(void) {
    for (;;) {
        sim_step();
        struct mach_cpu *m = &arch_cpu_self()->mach;
        if (!m->fpu_disabled)
            return m;
        raise_at(7, 0, 0);
    }
}
u64 sim_fpu_get(unsigned reg) { return fpu_use()->fpu[reg % 8]; }
void sim_fpu_set(unsigned reg, u64 value) { fpu_use()->fpu[reg % 8] = value; }

void sim_fs_base_set(u64 v) {
    sim_step();
    arch_cpu_self()->mach.fs_base = v;
}

u64 sim_fs_base(void) {
    sim_step();
    return arch_cpu_self()->mach.fs_base;
}

void sim_gs_base_set(u64 v) {
    sim_step();
    arch_cpu_self()->mach.gs_base = v;
}

u64 sim_gs_base(void) {
    sim_step();
    return arch_cpu_self()->mach.gs_base;
}

void sim_users_dump(void) {
    for (unsigned i = 0; i < HASH_SIZE; i++)
        for (struct sim_fiber *f = table[i]; f; f = f->next) {
            const struct ec *ec = f->ec;
            fprintf(stderr, "sim: ec %p cpu %u kind %u cont %u rdi %lx rip %lx callee %p caller %p helping %p sm %p\n",
                    (const void *)ec, ec->cpu, ec->kind, ec->cont, ec->regs.rdi, ec->regs.rip, (void *)ec->callee,
                    (void *)ec->caller, (void *)ec->helping, (void *)ec->sm);
        }
}
