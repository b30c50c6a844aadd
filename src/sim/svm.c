/* AMD-V: VMRUN with the manual's consistency checks, then a guest program (sim.h) until something that the VMCB intercepts. AMD APM
 * vol 2 chapter 15, appendix B and C. The guest TLB is tagged by ASID and keeps entries until TLB_CONTROL flushes them. */
#define _GNU_SOURCE
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/svm.h"
#include "core/ec.h"
#include "core/pd.h"
#include "sim/internal.h"
#include <link.h>
#include <string.h>

static struct {
    u64 first, end;
} programs[8]; /* what guests find: segments of this program that hold constants only, and what was announced */
static unsigned program_count;

#define EXIT_CPUID    0x72u
#define EXIT_HLT      0x78u
#define EXIT_MSR      0x7cu
#define EXIT_SHUTDOWN 0x7fu
#define EXIT_VMMCALL  0x81u
#define EXIT_NONE     ~1ul
#define EXIT_INVALID  ~0ul
#define EFER_MBZ      (~0xfd01ul) /* of this CPU: SCE LME LMA NXE SVME LMSLE FFXSR TCE */
#define PTE_P         1ul
#define PTE_RW        2ul
#define PTE_US        4ul
#define PTE_PS        0x80ul
#define PTE_NX        (1ul << 63)
#define PTE_ADDR      0x000ffffffffff000ul
#define NPF_FINAL     (1ul << 32) /* fault of the final translation, 15.25.6 */

void clgi(void) { arch_cpu_self()->mach.gif = false; }
void stgi(void) { arch_cpu_self()->mach.gif = true; }
void svm_host_save(u64 vmcb_pa) {
    struct vmcb *host = sim_phys(PADDR(vmcb_pa));
    assert(host && arch_cpu_self()->mach.efer & EFER_SVME);
    host->fs.base = arch_cpu_self()->mach.fs_base;
    host->kernel_gs_base = arch_cpu_self()->mach.gs_base;
}
u32 rdpkru(void) { return 0; }
void wrpkru(u32 v) { (void)v; }

/* 15.5.1 "Basic Operation", consistency checks; 15.20 "Event Injection". */
static bool state_valid(const struct vmcb *v) {
    bool paged = v->cr0 & CR0_PG, longmode = v->efer & EFER_LME;
    unsigned type = SVM_EVENT_TYPE(v->eventinj), vector = SVM_EVENT_VECTOR(v->eventinj);
    if (!(v->efer & EFER_SVME) || v->efer & EFER_MBZ)
        return false;
    if ((!(v->cr0 & CR0_CD) && v->cr0 & CR0_NW) || v->cr0 >> 32 || v->dr6 >> 32 || v->dr7 >> 32)
        return false;
    if (v->cr4 >> 32 || v->cr3 & ~PTE_ADDR & ~0xffful)
        return false;
    if (longmode && paged && (!(v->cr4 & CR4_PAE) || !(v->cr0 & CR0_PE)))
        return false;
    if (longmode && paged && v->cr4 & CR4_PAE && v->cs.attrib >> 9 & 1 && v->cs.attrib >> 10 & 1)
        return false;
    if (!(v->misc2 & SVM_MISC2_VMRUN) || v->asid == 0 || v->asid >= cpuid(0x8000000a, 0).b)
        return false;
    if (v->iopm & PAGE_MASK || v->msrpm & PAGE_MASK || v->n_cr3 >> 40)
        return false;
    if (!(v->eventinj & SVM_EVENT_VALID))
        return true;
    return type != 1 && type <= 4 && !(type == SVM_EVENT_EXC && (vector > 31 || vector == 2));
}

static void guest_tlb_control(struct mach_cpu *m, const struct vmcb *v) {
    for (unsigned i = 0; i < SIM_TLB_SIZE && !sim_opt.no_flush; i++)
        if (v->tlb_control == SVM_TLB_FLUSH_ALL || ((v->tlb_control & 3) == 3 && m->guest_tlb[i].tag == v->asid))
            m->guest_tlb[i].page = 0;
}

/* 15.25.5 "Nested Table Walk": user accesses, NX honoured. Fills *e; false: exitinfo of the fault is set. */
static bool nested_walk(struct vmcb *v, u64 gpa, unsigned access, struct sim_tlb_entry *e) {
    u64 page = gpa >> PAGE_SHIFT, table = v->n_cr3, all = PTE_RW | PTE_US, nx = 0;
    v->exitinfo1 = NPF_FINAL | PTE_US | (access == PERM_MEM_W ? 2 : 0) | (access == PERM_MEM_X ? 0x10 : 0);
    v->exitinfo2 = gpa;
    for (int level = 3; level >= 0; level--) {
        u64 pte = *((u64 *)arch_phys_ptr(PADDR(table)) + (page >> (9 * level) & 511));
        if (!(pte & PTE_P))
            return false;
        all &= pte;
        nx |= pte & PTE_NX;
        table = pte & PTE_ADDR;
        if (level == 0 || (level < 3 && pte & PTE_PS)) {
            u64 mask = (1ul << (9 * level)) - 1;
            u32 perm = PERM_MEM_R | (all & PTE_RW ? PERM_MEM_W : 0u) | (nx ? 0u : PERM_MEM_X);
            *e = (struct sim_tlb_entry){.tag = v->asid,
                                        .page = page + 1,
                                        .frame = ((table >> PAGE_SHIFT) & ~mask) | (page & mask),
                                        .perm = perm};
            v->exitinfo1 |= 1;
            return all & PTE_US && perm & access;
        }
    }
    return false;
}

/* Host pointer to guest-physical memory, or NULL: nested page fault. */
static void *guest_ptr(struct mach_cpu *m, struct vmcb *v, u64 gpa, unsigned access) {
    static u64 nowhere;
    u64 page = gpa >> PAGE_SHIFT;
    struct sim_tlb_entry *e = &m->guest_tlb[(page ^ v->asid * 7) % SIM_TLB_SIZE], fresh;
    if (e->page != page + 1 || e->tag != v->asid || !(e->perm & access)) {
        e->page = 0;
        if (!nested_walk(v, gpa & ~7ul, access, &fresh))
            return NULL;
        *e = fresh;
    }
    void *p = sim_phys(PADDR(e->frame << PAGE_SHIFT | (gpa & PAGE_MASK & ~7ul)));
    nowhere = ~0ul;
    return p ? p : &nowhere;
}

static bool bit_test(u64 map_pa, u64 bit) { return ((u8 *)arch_phys_ptr(PADDR(map_pa)))[bit / 8] >> (bit % 8) & 1; }

static bool msr_intercepted(const struct vmcb *v, u32 msr,
                            bool write) { /* 15.11 "MSR Intercepts": two bits an MSR, three ranges of 2 KiB */
    u32 base = msr < 0x2000                     ? 0
               : (msr & ~0x1fffu) == 0xc0000000 ? 0x800
               : (msr & ~0x1fffu) == 0xc0010000 ? 0x1000
                                                : ~0u;
    return base == ~0u || bit_test(v->msrpm, base * 8ul + 2 * (msr & 0x1fff) + write);
}

static u64 guest_io(struct vmcb *v, const struct sim_guest_step *s, u64 next) {
    if (!(v->misc1 >> 27 & 1) || !bit_test(v->iopm, s->a & 0xffff)) {
        if (s->b)
            v->rax |= 0xff;
        return EXIT_NONE;
    }
    v->exitinfo1 = (s->b & 1) | 1u << 4 | 1u << 9 | (s->a & 0xffff) << 16; /* 15.10.2: one byte, 64-bit address size */
    v->exitinfo2 = next;
    return SVM_EXIT_IO;
}

static void event_deliver(struct vmcb *v, struct uregs *r, unsigned vector) {
    r->rcx = vector;
    r->rbx = v->rip;
    v->rip = r->rdx;
    v->rflags &= ~RFLAGS_IF;
    v->int_shadow = 0;
}

/* Registers that the host's code could see, too. */
static void guest_register(struct mach_cpu *m, struct vmcb *v, const struct sim_guest_step *s) {
    if (s->b)
        v->rax = s->op == SIM_G_FPU ? m->fpu[0] : dr0_read();
    else if (s->op == SIM_G_FPU)
        m->fpu[0] = s->a;
    else
        dr0_write(s->a);
}

static u64 intercepted(u32 mask, unsigned bit, u64 code) { return mask >> bit & 1 ? code : EXIT_NONE; }

static void program_add(u64 first, u64 size) {
    assert(program_count < ARRAY_SIZE(programs));
    programs[program_count].first = first;
    programs[program_count++].end = first + size;
}

static int constants_find(struct dl_phdr_info *info, size_t size, void *context) {
    (void)size, (void)context;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && p->p_flags == PF_R)
            program_add(info->dlpi_addr + p->p_vaddr, p->p_memsz);
    }
    return 1; /* the program itself comes first, the others do not count */
}

void sim_guest_program(const struct sim_guest_step *steps, size_t count) {
    for (unsigned i = 0; i < program_count; i++)
        if (programs[i].first == (u64)steps)
            return;
    program_add((u64)steps, count * sizeof(*steps));
}

/* A lost guest may be anywhere, behind the end of its program for one. */
__attribute__((no_sanitize("address", "undefined"))) bool sim_guest_fetch(u64 rip, struct sim_guest_step *s) {
    static bool searched;
    bool there = false;
    if (!searched)
        dl_iterate_phdr(constants_find, NULL);
    searched = true;
    for (unsigned i = 0; i < program_count; i++)
        there |= rip >= programs[i].first && rip < programs[i].end && programs[i].end - rip >= sizeof(*s);
    if (!there)
        return false;
    const volatile u64 *words = (const u64 *)rip;
    *s = (struct sim_guest_step){(u32)words[0], (u32)(words[0] >> 32), words[1]};
    return true;
}

/* One step; the exit code, or EXIT_NONE. RIP moves on only when the step completes. long: a case per instruction */
static u64 guest_step(struct mach_cpu *m, struct vmcb *v, struct uregs *r) {
    struct sim_guest_step step, *s = &step;
    if (!sim_guest_fetch(v->rip, s))
        return EXIT_SHUTDOWN; /* nothing to fetch, no handler for it either */
    u64 next = v->rip + sizeof(*s), *p, code = EXIT_NONE;
    v->nrip = next;
    switch ((enum sim_guest_op)s->op) {
    case SIM_G_CPUID:
        code = intercepted(v->misc1, 18, EXIT_CPUID);
        break;
    case SIM_G_HLT:
        code = intercepted(v->misc1, 24, EXIT_HLT);
        break;
    case SIM_G_VMMCALL:
        code = intercepted(v->misc2, 1, EXIT_VMMCALL);
        break;
    case SIM_G_IO:
        code = guest_io(v, s, next);
        break;
    case SIM_G_RDMSR:
    case SIM_G_WRMSR:
        v->exitinfo1 = s->op == SIM_G_WRMSR;
        r->rcx = s->a;
        code = v->misc1 >> 28 & 1 && msr_intercepted(v, (u32)s->a, s->op == SIM_G_WRMSR) ? EXIT_MSR : EXIT_NONE;
        break;
    case SIM_G_READ:
    case SIM_G_WRITE:
    case SIM_G_FETCH:
        p = guest_ptr(m, v, s->a, s->op == SIM_G_READ ? PERM_MEM_R : s->op == SIM_G_WRITE ? PERM_MEM_W : PERM_MEM_X);
        if (!p)
            return SVM_EXIT_NPF;
        if (s->op == SIM_G_READ)
            v->rax = *p;
        else if (s->op == SIM_G_WRITE)
            *p = v->rax;
        break;
    case SIM_G_SET:
    case SIM_G_ADD:
        v->rax = s->a + (s->op == SIM_G_ADD ? v->rax : 0);
        break;
    case SIM_G_CLI:
        v->rflags &= ~RFLAGS_IF;
        break;
    case SIM_G_STI:
        v->rflags |= RFLAGS_IF;
        break;
    case SIM_G_SPIN:
        return EXIT_NONE;
    case SIM_G_JUMP:
        next = s->a;
        break;
    case SIM_G_TRIPLE:
        return EXIT_SHUTDOWN;
    case SIM_G_FPU:
    case SIM_G_DR:
        guest_register(m, v, s);
        break;
    case SIM_G_EXIT:
        v->rip = next, v->exitinfo1 = s->b;
        return s->a;
    case SIM_G_CR0: /* exit codes 10h and 14h; 15.8.1: no decode assist */
        code = v->cr & SVM_CR0_WRITE ? 0x10 : EXIT_NONE;
        if (code == EXIT_NONE)
            v->cr0 = s->a;
        break;
    case SIM_G_CR4:
        code = v->cr & SVM_CR4_WRITE ? 0x14 : EXIT_NONE;
        if (code == EXIT_NONE)
            v->cr4 = s->a;
        break;
    case SIM_G_XSETBV:
        r->rcx = 0, r->rdx = 0, v->rax = s->a;
        code = intercepted(v->misc2, 13, SVM_EXIT_XSETBV);
        break;
    case SIM_G_EXCEPTION:
        if (v->exc >> (s->a & 31) & 1) {
            v->exitinfo1 = 0;
            return SVM_EXIT_EXC + (s->a & 31);
        }
        event_deliver(v, r, s->a & 31);
        return EXIT_NONE;
    case SIM_G_IRET:
        next = r->rbx;
        v->rflags |= RFLAGS_IF;
        break;
    }
    if (code == EXIT_NONE)
        v->rip = next;
    return code;
}

static u64 guest_run(struct mach_cpu *m, struct vmcb *v, struct uregs *r) {
    guest_tlb_control(m, v);
    if (v->eventinj & SVM_EVENT_VALID) {
        v->eventinj &= ~SVM_EVENT_VALID;
        event_deliver(v, r, SVM_EVENT_VECTOR(v->eventinj));
    }
    for (;;) {
        sim_point();
        if (sim_interrupt_pending(m)) {
            assert(v->misc1 & 1); /* without the intercept, host interrupts would go to the guest */
            return SVM_EXIT_INTR;
        }
        if (v->int_ctl >> 8 & 1 && v->rflags & RFLAGS_IF && !(v->int_shadow & 1)) { /* 15.21.4 */
            if (v->misc1 & SVM_MISC1_VINTR)
                return SVM_EXIT_VINTR;
            event_deliver(v, r, (unsigned)(v->int_ctl >> 32) & 0xff);
            v->int_ctl &= ~(1ul << 8);
        }
        u64 code = guest_step(m, v, r);
        if (code != EXIT_NONE)
            return code;
    }
}

void svm_world_switch(u64 guest_vmcb_pa, u64 host_vmcb_pa, struct uregs *regs) {
    struct mach_cpu *m = &arch_cpu_self()->mach;
    struct vmcb *v = sim_phys(PADDR(guest_vmcb_pa)), *host = sim_phys(PADDR(host_vmcb_pa));
    assert(m->efer & EFER_SVME && m->vm_hsave && !(m->vm_hsave & PAGE_MASK) && !m->gif && m->locks_held == 0);
    assert(v && !(guest_vmcb_pa & PAGE_MASK) && host);
    v->exitinfo1 = v->exitinfo2 = v->exitintinfo = 0;
    sim_stores_done(); /* as sim_user_run */
    sim_hash_registers(regs, 8);
    sim_hash_value(v->rip);
    sim_hash_value(v->rax);
    TRACE(guest, arch_cpu_self(), v->rip);
    sim_check_exit(arch_cpu_self());
    m->in_guest = true;
    sim_shut_end(m);
    v->exitcode = state_valid(v) ? guest_run(m, v, regs) : EXIT_INVALID;
    m->in_guest = false;
    if (v->exitcode != EXIT_INVALID)
        v->eventinj &= ~SVM_EVENT_VALID;
    sim_hash_registers(regs, v->exitcode << 8 | 9);
    sim_hash_value(v->rip);
    sim_hash_value(v->rax);
    TRACE(vmexit, arch_cpu_self(), v->rip, v->exitcode);
    m->fs_base = host->fs.base; /* VMLOAD */
    m->gs_base = host->kernel_gs_base;
    m->gif = false;
    sim_shut_begin(m);
}

struct sim_vcpu sim_svm_vcpu(const struct ec *ec) {
    const struct vcpu *v = ec->vcpu;
    bool young =
        v->asid_gen == sim_cpus[ec->cpu].guest_flush_gen && v->tlb_gen == ec->pd->guest_gen && !v->vmcb->tlb_control;
    return (struct sim_vcpu){.size = sizeof(*v), .pages = v->vmcb, .enters_as_it_is = young, .tag = v->vmcb->asid};
}
