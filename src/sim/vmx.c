/* VT-x: the instructions with their conventions, VM entry with the checks of vmcs.c, then a guest program (sim.h) until something that the
 * VMCS intercepts. Intel SDM vol 3 chapters 24 to 30 (edition 070). A VMCS is active on one CPU; translations are tagged by VPID and
 * EPT pointer and kept until INVVPID or INVEPT. What an exit leaves undefined gets a value that nobody wants. */
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/vmx.h"
#include "core/ec.h"
#include "core/pd.h"
#include "sim/trace.h"
#include "sim/vmcs.h"
#include <string.h>

#define CR4_VMXE   (1ul << 13)
#define NO_VMCS    ~0ul
#define NO_EXIT    ~0u
#define UNDEFINED  0xbadbadul
#define FAIL(code) (sim_vmx_counts.fails++, code)
#define EPT_PS     0x80ul
#define PTE_ADDR   0x000ffffffffff000ul
enum {
    REASON_TRIPLE = 2,
    REASON_IRQ_WINDOW = 7,
    REASON_NMI_WINDOW,
    REASON_CPUID = 10,
    REASON_HLT = 12,
    REASON_VMCALL = 18,
    REASON_IO = 30,
    REASON_RDMSR,
    REASON_WRMSR
};
enum { REASON_BAD_STATE = 33, REASON_BAD_MSR = 34, REASON_TPR = 43, REASON_EPT_MISCONFIG = 49 };

static u64 active[256]; /* regions between VMPTRLD and VMCLEAR */
static unsigned active_count;

static struct mach_cpu *self(void) { return &arch_cpu_self()->mach; }
static struct sim_vmcs *current(void) { return self()->vmcs == NO_VMCS ? NULL : sim_phys(PADDR(self()->vmcs)); }

/* A VMCS region, or NULL: VMfail. */
static struct sim_vmcs *region(u64 pa) {
    assert(self()->vmxon && self()->cr4 & CR4_VMXE);
    return pa & PAGE_MASK || pa == self()->vmxon ? NULL : sim_phys(PADDR(pa));
}

static void vmfail(u32 error) {
    struct sim_vmcs *v = current();
    sim_vmx_counts.fails++;
    if (v)
        sim_vmcs_put(v, INSN_ERROR, error);
}

bool vmxon(u64 pa) {
    struct mach_cpu *m = self();
    assert(m->cr4 & CR4_VMXE && (m->feature_control & 5) == 5); /* else #GP or #UD */
    u32 *revision = sim_phys(PADDR(pa));
    if (m->vmxon || pa & PAGE_MASK || !revision || *revision != SIM_VMCS_REVISION)
        return FAIL(false);
    m->vmxon = pa;
    m->vmcs = NO_VMCS;
    return true;
}

bool vmclear(u64 pa) {
    struct sim_vmcs *v = region(pa);
    if (!v) {
        vmfail(2);
        return false;
    }
    assert(!v->active || v->active == arch_cpu_self()->id + 1); /* another CPU's cache has the contents */
    for (unsigned i = 0; i < active_count && v->active; i++)
        if (active[i] == pa)
            active[i] = active[--active_count];
    v->active = 0;
    v->launched = false;
    if (self()->vmcs == pa)
        self()->vmcs = NO_VMCS;
    return true;
}

bool vmptrld(u64 pa) {
    struct sim_vmcs *v = region(pa);
    if (!v || v->revision != SIM_VMCS_REVISION) {
        vmfail(v ? 11 : 9);
        return false;
    }
    assert(!v->active || v->active == arch_cpu_self()->id + 1);
    if (!v->active) {
        assert(active_count < ARRAY_SIZE(active));
        active[active_count++] = pa;
    }
    v->active = arch_cpu_self()->id + 1;
    self()->vmcs = pa;
    sim_vmx_counts.loads++;
    return true;
}

void sim_vmx_forget(const void *memory, size_t size) {
    u64 first = arch_ptr_phys(memory).v & ~PAGE_MASK, last = arch_ptr_phys(memory).v + size - 1; /* regions are pages */
    for (unsigned i = 0; i < active_count; i++)
        assert(active[i] < first || active[i] > last); /* a CPU may still write it there */
}

static u64 *field(u32 encoding, bool write) {
    struct sim_vmcs *v = current();
    u64 *p = v ? sim_vmcs_field(v, encoding, write) : NULL;
    if (!p) {
        vmfail(write && v && sim_vmcs_field(v, encoding, false) ? 13 : 12);
        if (sim_running)
            arch_panic("VMREAD or VMWRITE fails", __FILE__, __LINE__);
    }
    return p;
}

u64 vmread(u32 encoding) {
    const u64 *p = field(encoding, false);
    sim_vmx_counts.reads++;
    return p ? *p : 0;
}

void vmwrite(u32 encoding, u64 value) {
    sim_vmx_counts.writes++;
    if (field(encoding, true))
        sim_vmcs_put(current(), encoding, value);
}

static u64 tag_make(u64 eptp, u16 vpid) { return eptp >> PAGE_SHIFT << 16 | vpid; }

void invept(u64 type, u64 eptp) {
    struct mach_cpu *m = self();
    assert(m->vmxon && (type == INVALIDATE_ALL || (type == INVALIDATE_ONE && (eptp & 0xfff) == EPTP(0))));
    sim_stores_done(); /* serializing, as INVVPID: SDM vol 3 9.3 */
    sim_vmx_counts.invepts++;
    for (unsigned i = 0; i < SIM_TLB_SIZE && !sim_opt.no_flush; i++)
        if (type == INVALIDATE_ALL || m->guest_tlb[i].tag >> 16 == eptp >> PAGE_SHIFT)
            m->guest_tlb[i].page = 0;
}

void invvpid(u64 type, u16 vpid) {
    struct mach_cpu *m = self();
    assert(m->vmxon && (type == INVALIDATE_ALL || (type == INVALIDATE_ONE && vpid)));
    sim_stores_done();
    sim_vmx_counts.invvpids++;
    for (unsigned i = 0; i < SIM_TLB_SIZE && !sim_opt.no_flush; i++)
        if (type == INVALIDATE_ALL || SIM_VPID(m->guest_tlb[i].tag) == vpid)
            m->guest_tlb[i].page = 0;
}

void vmx_nmi_deliver(void) { sim_vmx_counts.nmis++; }

void vmx_host_write(void) {
    u64 base = 0xffff800000000000ul + arch_cpu_self()->id * PAGE_SIZE;
    vmwrite(HOST_CS, 8);
    vmwrite(HOST_SS, 0x10);
    vmwrite(HOST_TR, 0x30);
    for (u32 field = HOST_GS_BASE; field <= HOST_IDTR_BASE; field += 2)
        vmwrite(field, base);
    vmwrite(HOST_RIP, (u64)vmx_host_write);
}

/* --- exits --- */
static u32 leave(struct sim_vmcs *v, u32 reason, u64 qualification) {
    sim_vmcs_put(v, EXIT_QUALIFICATION, qualification);
    sim_vmcs_put(v, EXIT_INSN_LEN, EXITS_INSN >> reason & 1 ? sizeof(struct sim_guest_step) : UNDEFINED);
    return reason;
}

/* 28.2.2 "EPT Translation Mechanism", 28.2.3.1 "EPT Misconfigurations". Fills *e and returns NO_EXIT, or the exit. */
static u32 ept_walk(struct sim_vmcs *v, u64 gpa, unsigned access, struct sim_tlb_entry *e) {
    u64 page = gpa >> PAGE_SHIFT, table = sim_vmcs_get(v, EPT_POINTER) & PTE_ADDR, all = 7;
    sim_vmcs_put(v, GUEST_PHYSICAL, gpa);
    for (int level = 3; level >= 0; level--) {
        u64 pte = *((u64 *)arch_phys_ptr(PADDR(table)) + (page >> (9 * level) & 511));
        if (!(pte & 7)) {
            all = 0;
            break;
        }
        bool leaf = level == 0 || (pte & EPT_PS);
        u64 mask = (1ul << (9 * level)) - 1, type = pte >> 3 & 7;
        if (!(pte & 1) || pte >> 40 & 0xfff || (leaf && level == 3) || (!leaf && pte & 0x78) ||
            (leaf && (type == 2 || type == 3 || type == 7)) || (leaf && pte >> PAGE_SHIFT & mask))
            return leave(v, REASON_EPT_MISCONFIG, UNDEFINED);
        all &= pte;
        table = pte & PTE_ADDR;
        if (leaf) {
            *e = (struct sim_tlb_entry){
                .tag = e->tag, .page = page + 1, .frame = table >> PAGE_SHIFT | (page & mask), .perm = (u32)all};
            break;
        }
    }
    if (all & access)
        return NO_EXIT;
    return leave(v, EXIT_EPT_VIOLATION, access | all << 3 | 3 << 7); /* table 27-7 */
}

/* Host pointer to guest-physical memory in *p, or an exit. PERM_MEM_R, _W and _X are EPT's bits. */
static u32 guest_ptr(struct mach_cpu *m, struct sim_vmcs *v, u64 gpa, unsigned access, u64 **p) {
    static u64 nowhere;
    u64 page = gpa >> PAGE_SHIFT, tag = tag_make(sim_vmcs_get(v, EPT_POINTER), (u16)sim_vmcs_get(v, VMCS_VPID));
    struct sim_tlb_entry *e = &m->guest_tlb[(page ^ SIM_VPID(tag) * 7) % SIM_TLB_SIZE], fresh = {.tag = tag};
    if (e->page != page + 1 || e->tag != tag || !(e->perm & access)) {
        e->page = 0;
        u32 exit = ept_walk(v, gpa & ~7ul, access, &fresh);
        if (exit != NO_EXIT)
            return exit;
        *e = fresh;
    }
    *p = sim_phys(PADDR(e->frame << PAGE_SHIFT | (gpa & PAGE_MASK & ~7ul)));
    nowhere = ~0ul;
    *p = *p ? *p : &nowhere;
    return NO_EXIT;
}

static bool bit_test(u64 map_pa, u64 bit) { return ((u8 *)arch_phys_ptr(PADDR(map_pa)))[bit / 8] >> (bit % 8) & 1; }
static bool cpu_ctrl(const struct sim_vmcs *v, unsigned bit) { return sim_vmcs_get(v, CTRL_CPU) >> bit & 1; }

/* 25.1.3: RDMSR, WRMSR. */
static u32 guest_msr(struct mach_cpu *m, struct sim_vmcs *v, struct uregs *r, u32 msr, bool write) {
    u64 map = sim_vmcs_get(v, MSR_BITMAP), at = (msr & 0x1fff) + (msr >> 31 ? 0x2000 : 0) + (write ? 0x4000 : 0);
    bool in_map = msr < 0x2000 || (msr & ~0x1fffu) == 0xc0000000;
    r->rcx = msr;
    if (!cpu_ctrl(v, 28) || !in_map || bit_test(map, at))
        return leave(v, write ? REASON_WRMSR : REASON_RDMSR, 0);
    if (msr >= 0xc0000081 && msr <= 0xc0000084) {
        u64 *value = &m->syscall_msr[msr - 0xc0000081];
        write ? (*value = r->rax) : (r->rax = *value);
    }
    return NO_EXIT;
}

static u32 guest_io(struct sim_vmcs *v, struct uregs *r, const struct sim_guest_step *s) {
    u16 port = (u16)s->a;
    u64 map = sim_vmcs_get(v, port < 0x8000 ? IO_BITMAP_A : IO_BITMAP_B);
    if (cpu_ctrl(v, 25) ? !bit_test(map, port & 0x7fff) : !cpu_ctrl(v, 24)) {
        r->rax |= s->b ? 0xff : 0;
        return NO_EXIT;
    }
    return leave(v, REASON_IO, (s->b & 1) << 3 | (u64)port << 16); /* table 27-5: one byte */
}

/* MOV to CR0 or CR4 from RAX: 25.1.3, 25.3 "Changes to Instruction Behavior". */
static u32 guest_cr(struct sim_vmcs *v, struct uregs *r, unsigned cr, u64 value) {
    u32 real = cr ? GUEST_CR4 : GUEST_CR0;
    u64 mask = sim_vmcs_get(v, cr ? CR4_MASK : CR0_MASK), shadow = sim_vmcs_get(v, cr ? CR4_SHADOW : CR0_SHADOW);
    r->rax = value;
    if ((value ^ shadow) & mask)
        return leave(v, EXIT_CR, cr);
    sim_vmcs_put(v, real, (sim_vmcs_get(v, real) & mask) | (value & ~mask));
    return NO_EXIT;
}

/* An event reaches the guest: the convention of sim.h. With a stack it is written first, which may leave (27.2.4). */
static u32 event_deliver(struct mach_cpu *m, struct sim_vmcs *v, struct uregs *r, u32 event, u64 error) {
    u64 rsp = sim_vmcs_get(v, GUEST_RSP), back = sim_vmcs_get(v, GUEST_RIP), *stack;
    unsigned type = VMX_EVENT_TYPE(event);
    if (type >= VMX_EVENT_SOFT)
        back += sim_vmcs_get(v, ENTRY_INSN_LEN);
    if (type == VMX_EVENT_NMI)
        sim_vmcs_put(v, INTERRUPTIBILITY, sim_vmcs_get(v, INTERRUPTIBILITY) | BLOCKING_NMI);
    if (rsp) {
        u32 exit = guest_ptr(m, v, rsp - 8, PERM_MEM_W, &stack);
        if (exit != NO_EXIT) {
            sim_vmcs_put(v, VECTORING_EVENT, event);
            sim_vmcs_put(v, VECTORING_ERROR, event & VMX_EVENT_ERROR ? error : UNDEFINED);
            return exit;
        }
        *stack = back;
    }
    r->rcx = VMX_EVENT_VECTOR(event);
    r->rbx = back;
    sim_vmcs_put(v, GUEST_RIP, r->rdx);
    sim_vmcs_put(v, GUEST_RFLAGS, sim_vmcs_get(v, GUEST_RFLAGS) & ~RFLAGS_IF);
    sim_vmcs_put(v, INTERRUPTIBILITY, sim_vmcs_get(v, INTERRUPTIBILITY) & ~(u64)BLOCKING_SHADOW);
    sim_vmcs_put(v, ACTIVITY, ACTIVITY_ACTIVE);
    return NO_EXIT;
}

/* An exception of the guest's own; #DB has its cause in the qualification and leaves DR6 alone (27.2.1). */
static u32 guest_exception(struct mach_cpu *m, struct sim_vmcs *v, struct uregs *r, unsigned vec) {
    bool error = (vec == 8 || (vec >= 10 && vec <= 14) || vec == 17) && sim_vmcs_get(v, GUEST_CR0) & CR0_PE;
    u32 event = (u32)VMX_EVENT(vec, VMX_EVENT_EXC, error ? VMX_EVENT_ERROR : 0);
    if (!(sim_vmcs_get(v, EXC_BITMAP) >> vec & 1))
        return event_deliver(m, v, r, event, 0);
    sim_vmcs_put(v, EXIT_EVENT, event);
    sim_vmcs_put(v, EXIT_EVENT_ERROR, error ? 0 : UNDEFINED);
    u32 exit = leave(v, EXIT_EXCEPTION, vec == VEC_DB ? 1 : 0);
    sim_vmcs_put(v, EXIT_INSN_LEN, UNDEFINED);
    return exit;
}

static u32 guest_memory(struct mach_cpu *m, struct sim_vmcs *v, struct uregs *r, const struct sim_guest_step *s) {
    u64 *p;
    u32 exit = guest_ptr(m, v, s->a,
                         s->op == SIM_G_READ    ? PERM_MEM_R
                         : s->op == SIM_G_WRITE ? PERM_MEM_W
                                                : PERM_MEM_X,
                         &p);
    if (exit == NO_EXIT && s->op == SIM_G_READ)
        r->rax = *p;
    if (exit == NO_EXIT && s->op == SIM_G_WRITE)
        *p = r->rax;
    return exit;
}

static u32 flags_change(struct sim_vmcs *v, u64 clear, u64 set) {
    sim_vmcs_put(v, GUEST_RFLAGS, (sim_vmcs_get(v, GUEST_RFLAGS) & ~clear) | set);
    return NO_EXIT;
}

/* Registers that the host's code could see, too. */
static void guest_register(struct mach_cpu *m, struct uregs *r, const struct sim_guest_step *s) {
    if (s->b)
        r->rax = s->op == SIM_G_FPU ? m->fpu[0] : dr0_read();
    else if (s->op == SIM_G_FPU)
        m->fpu[0] = s->a;
    else
        dr0_write(s->a);
}

/* One step; the exit, or NO_EXIT. RIP moves on only when the step completes. */
static u32 guest_step(struct mach_cpu *m, struct sim_vmcs *v, struct uregs *r) {
    u64 rip = sim_vmcs_get(v, GUEST_RIP), next = rip + sizeof(struct sim_guest_step);
    struct sim_guest_step step, *s = &step;
    if (!sim_guest_fetch(rip, s))
        return leave(v, REASON_TRIPLE, 0); /* nothing to fetch, no handler for it either */
    u32 exit = NO_EXIT;
    switch ((enum sim_guest_op)s->op) {
    case SIM_G_CPUID:
        return leave(v, REASON_CPUID, 0);
    case SIM_G_HLT:
        exit = cpu_ctrl(v, 7) ? leave(v, REASON_HLT, 0) : NO_EXIT;
        break;
    case SIM_G_VMMCALL:
        return leave(v, REASON_VMCALL, 0);
    case SIM_G_IO:
        exit = guest_io(v, r, s);
        break;
    case SIM_G_RDMSR:
    case SIM_G_WRMSR:
        exit = guest_msr(m, v, r, (u32)s->a, s->op == SIM_G_WRMSR);
        break;
    case SIM_G_READ:
    case SIM_G_WRITE:
    case SIM_G_FETCH:
        exit = guest_memory(m, v, r, s);
        break;
    case SIM_G_SET:
    case SIM_G_ADD:
        r->rax = s->a + (s->op == SIM_G_ADD ? r->rax : 0);
        break;
    case SIM_G_CLI:
        exit = flags_change(v, RFLAGS_IF, 0);
        break;
    case SIM_G_STI:
        exit = flags_change(v, 0, RFLAGS_IF);
        break;
    case SIM_G_SPIN:
        return NO_EXIT;
    case SIM_G_JUMP:
        next = s->a;
        break;
    case SIM_G_TRIPLE:
        return leave(v, REASON_TRIPLE, 0);
    case SIM_G_FPU:
    case SIM_G_DR:
        guest_register(m, r, s);
        break;
    case SIM_G_EXIT:
        sim_vmcs_put(v, GUEST_RIP, next);
        return leave(v, (u32)s->a, s->b);
    case SIM_G_IRET:
        next = r->rbx;
        exit = flags_change(v, 0, RFLAGS_IF);
        sim_vmcs_put(v, INTERRUPTIBILITY, sim_vmcs_get(v, INTERRUPTIBILITY) & ~(u64)BLOCKING_NMI);
        break;
    case SIM_G_CR0:
    case SIM_G_CR4:
        exit = guest_cr(v, r, s->op == SIM_G_CR0 ? 0 : 4, s->a);
        break;
    case SIM_G_XSETBV:
        r->rcx = 0, r->rdx = 0, r->rax = s->a;
        return leave(v, EXIT_XSETBV, 0);
    case SIM_G_EXCEPTION:
        return guest_exception(m, v, r, s->a & 31);
    }
    if (exit == NO_EXIT)
        sim_vmcs_put(v, GUEST_RIP, next);
    return exit;
}

/* 25.2 "Other Causes of VM Exits", in order of priority; HLT state waits for them. */
static u32 guest_interrupted(struct mach_cpu *m, struct sim_vmcs *v) {
    u64 blocking = sim_vmcs_get(v, INTERRUPTIBILITY);
    if (cpu_ctrl(v, 22) && !(blocking & (BLOCKING_NMI | 2)))
        return leave(v, REASON_NMI_WINDOW, 0);
    if (sim_interrupt_pending(m)) {
        assert(sim_vmcs_get(v, CTRL_PIN) & 1); /* or host interrupts would go to the guest */
        return leave(v, EXIT_INTERRUPT, 0);
    }
    if (cpu_ctrl(v, 2) && sim_vmcs_get(v, GUEST_RFLAGS) & RFLAGS_IF && !(blocking & BLOCKING_SHADOW))
        return leave(v, REASON_IRQ_WINDOW, 0);
    if (sim_vmcs_get(v, ACTIVITY) == ACTIVITY_HLT) {
        m->state = SIM_CPU_IDLE;
        sim_sched_wait();
        m->state = SIM_CPU_RUN;
    }
    return NO_EXIT;
}

static u32 guest_run(struct mach_cpu *m, struct sim_vmcs *v, struct uregs *r) {
    u64 event = sim_vmcs_get(v, ENTRY_EVENT);
    assert(!(sim_vmcs_get(v, CTRL_CPU2) & (1ul << 0 | 1ul << 17))); /* would write where their address fields say */
    assert(sim_vmcs_get(v, ACTIVITY) <= ACTIVITY_HLT); /* the others never let an interrupt in: the CPU is lost */
    sim_vmcs_put(v, VECTORING_EVENT, 0);
    sim_vmcs_put(v, EXIT_EVENT, 0);
    u32 exit = NO_EXIT;
    if (event & VMX_EVENT_VALID)
        exit = event_deliver(m, v, r, (u32)event, sim_vmcs_get(v, ENTRY_EVENT_ERROR));
    while (exit == NO_EXIT) {
        sim_point();
        exit = guest_interrupted(m, v);
        if (exit == NO_EXIT && sim_vmcs_get(v, ACTIVITY) == ACTIVITY_ACTIVE)
            exit = guest_step(m, v, r);
    }
    return exit;
}

/* --- entry and exit --- */
static u64 *msr_place(struct mach_cpu *m, u32 msr) {
    return msr == 0xc0000102 ? &m->gs_base : msr == MSR_TSC_AUX ? &m->tsc_aux : &m->syscall_msr[msr - 0xc0000081];
}

/* Number of the entry that cannot be loaded, or 0. */
static u64 msrs_load(struct mach_cpu *m, u64 pa, u64 count) {
    const struct vmx_msr *list = arch_phys_ptr(PADDR(pa));
    for (u64 i = 0; i < count; i++) {
        if (!sim_vmx_msr_valid(&list[i]))
            return i + 1;
        *msr_place(m, (u32)list[i].index) = list[i].value;
    }
    return 0;
}

static void host_load(struct mach_cpu *m, struct sim_vmcs *v) {
    assert(sim_vmcs_get(v, HOST_CR3) ==
           arch_cpu_self()->space->host.root.v); /* an exit must not change the address space */
    assert(sim_vmcs_get(v, HOST_EFER) == m->efer && sim_vmcs_get(v, HOST_CR4) == m->cr4);
    m->fpu_disabled = sim_vmcs_get(v, HOST_CR0) & 8; /* TS */
    m->fs_base = sim_vmcs_get(v, HOST_FS_BASE);
    m->gif = true;
    u64 bad = msrs_load(m, sim_vmcs_get(v, EXIT_MSR_LOAD), sim_vmcs_get(v, EXIT_LOAD_COUNT));
    assert(!bad); /* VMX abort */
}

static unsigned instruction_fails(struct sim_vmcs *v, bool launched) {
    if (launched != v->launched) {
        vmfail(launched ? 5 : 4);
    } else if (!sim_vmcs_controls_valid(v)) {
        vmfail(7);
    } else if (!sim_vmcs_host_valid(v)) {
        vmfail(8);
    } else {
        return 0;
    }
    return VMX_FAIL_VALID;
}

unsigned vmx_world_switch(struct uregs *regs, bool launched) {
    struct mach_cpu *m = self();
    struct sim_vmcs *v = current();
    assert(m->vmxon && m->locks_held == 0);
    if (!v)
        return FAIL(VMX_FAIL_INVALID);
    sim_vmcs_put(v, HOST_RSP, 8);
    sim_stores_done(); /* as sim_user_run */
    sim_hash_registers(regs, 8);
    sim_hash_value(sim_vmcs_get(v, GUEST_RIP));
    TRACE(guest, arch_cpu_self(), sim_vmcs_get(v, GUEST_RIP));
    if (instruction_fails(v, launched))
        return VMX_FAIL_VALID;
    u64 qualification, entry_list = sim_vmcs_get(v, ENTRY_MSR_LOAD), n = sim_vmcs_get(v, ENTRY_LOAD_COUNT);
    u32 reason = 0;
    if (!sim_vmcs_guest_valid(v, &qualification))
        reason = REASON_BAD_STATE;
    else if ((qualification = msrs_load(m, entry_list, n)) != 0)
        reason = REASON_BAD_MSR;
    if (reason) { /* 26.8: no other exit information, no guest state, valid bit of the injection kept */
        sim_vmcs_put(v, EXIT_QUALIFICATION, qualification);
        sim_vmcs_put(v, EXIT_REASON, reason | EXIT_ENTRY_FAILED);
    } else {
        sim_vmx_counts.entries++;
        v->launched = true;
        m->fs_base = sim_vmcs_get(v, GUEST_BASE + 2 * 4);
        sim_check_exit(arch_cpu_self());
        m->in_guest = true;
        sim_shut_end(m);
        reason = guest_run(m, v, regs);
        m->in_guest = false;
        sim_shut_begin(m);
        sim_vmcs_put(v, EXIT_REASON, reason);
        sim_vmcs_put(v, ENTRY_EVENT, sim_vmcs_get(v, ENTRY_EVENT) & ~VMX_EVENT_VALID);
        struct vmx_msr *store = arch_phys_ptr(PADDR(sim_vmcs_get(v, EXIT_MSR_STORE)));
        for (u64 i = 0; i < sim_vmcs_get(v, EXIT_STORE_COUNT); i++)
            store[i].value = *msr_place(m, (u32)store[i].index);
    }
    sim_hash_registers(regs, reason << 8 | 9);
    sim_hash_value(sim_vmcs_get(v, GUEST_RIP));
    TRACE(vmexit, arch_cpu_self(), sim_vmcs_get(v, GUEST_RIP), reason);
    host_load(m, v);
    return 0;
}

struct sim_vcpu sim_vmx_vcpu(const struct ec *ec) {
    const struct vcpu *v = ec->vcpu;
    bool young = v->vpid_gen == sim_cpus[ec->cpu].guest_flush_gen && v->tlb_gen == ec->pd->guest_gen && !v->flush;
    return (struct sim_vcpu){
        .size = sizeof(*v), .pages = v->vmcs, .order = 1, .enters_as_it_is = young, .tag = tag_make(v->eptp, v->vpid)};
}
