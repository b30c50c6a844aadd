/* Goal: vCPUs leave with the events of ABI section 4 and 8 (AMD-V and VT-x), memory arrives by the G bit, interrupts by injection, and no guest
 * sees another one's memory or a page that was taken away.
 * Method: scripted guests on a VMCB and a VMCS model with the manuals' entry checks and a guest TLB that keeps entries until it is flushed. */
#include "simtest.h"

#define GPA       0x5000ul
#define STEP      sizeof(struct sim_guest_step)
#define MTD_START (MTD_ACDB | MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS)

enum event { E_CPUID, E_HLT, E_IO, E_MSR, E_TRIPLE, E_FAULT, E_INVALID, E_STARTUP, E_COUNT };
/* AMD APM vol 2 appendix C, Intel SDM vol 3 appendix C. */
static unsigned event_number(enum event e) {
    static const u8 numbers[2][E_COUNT] = {
        {0x72, 0x78, 0x7b, 0x7c, 0x7f, EVT_SVM_NPF, EVT_SVM_INVALID, EVT_VCPU_STARTUP},
        {10, 12, 30, 32, 2, EVT_VMX_EPT, EVT_VMX_INVALID, EVT_VCPU_STARTUP},
    };
    return numbers[sim_is_intel()][e];
}

struct vm {
    struct thread handler;
    sel_t pd, vcpu, sc, base;
    const struct sim_guest_step *script;
    u64 frame_va; /* where root has the page that the guest sees at GPA */
    unsigned seen[E_COUNT];
    u64 rax, faults;
};
static struct vm vms[12];
static sel_t done;

static struct vm *vm_of(u64 pid) { return &vms[pid >> 8]; }

static void page_give(struct vm *vm, struct abi_utcb *u, unsigned perm) {
    u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
    u->w[UTCB_WORDS - 2] = crd_mem(vm->frame_va >> PAGE_SHIFT, 0, perm);
    u->w[UTCB_WORDS - 1] = (GPA >> PAGE_SHIFT) << 12 | ITEM_G | ITEM_DELEGATE;
}

static void on_event(u64 pid) {
    struct vm *vm = vm_of(pid);
    enum event event = pid & 0xff;
    struct abi_utcb *u = utcb_at(vm->handler.utcb);
    struct abi_state *st = &u->state;
    vm->seen[event]++;
    switch (event) {
    case E_STARTUP:
        st->rip = (u64)vm->script;
        st->rflags = 2;
        st->cr0 = 0x10;
        st->cr3 = st->cr4 = st->cr2 = st->efer = 0;
        st->dr7 = 0x400;
        st->rax = st->rcx = st->rbx = st->rdx = 0;
        st->cs = st->ss = (struct abi_seg){0, 0x93, 0xffff, 0};
        st->ctrl[0] = sim_is_intel() ? 0 : 1u << 18; /* CPUID, always on with VT-x */
        st->ctrl[1] = sim_is_intel() ? 0 : 1;        /* VMRUN: section 8 */
        st->mtd = MTD_START;
        break;
    case E_CPUID:
        st->rax = 0x1000;
        st->rip += STEP; /* longer than an instruction can be: no length in the message */
        st->mtd = MTD_RIP | MTD_ACDB;
        break;
    case E_IO:
        sim_expect_eq(st->qual[0] >> 16, 0x3f8);
        sim_expect_eq(st->qual[1], sim_is_intel() ? 0 : st->rip + STEP);
        st->rip += STEP;
        st->mtd = MTD_RIP;
        break;
    case E_MSR:
        sim_expect_eq(st->rcx, 0x1234);
        st->rip += STEP;
        st->mtd = MTD_RIP;
        break;
    case E_HLT:
        vm->rax = st->rax;
        st->rip += STEP;
        st->mtd = MTD_RIP;
        up(done);
        break;
    case E_FAULT:
        vm->faults++;
        sim_expect_eq(st->qual[1] & ~0xffful, GPA);
        st->mtd = 0;
        page_give(vm, u, PERM_MEM_ALL);
        break;
    case E_TRIPLE:
        up(done);
        OK(nova_sm_down(0x50, false, 0)); /* never */
        break;
    default:
        sim_expect(false);
    }
    reply();
}

static struct vm *vm_make(unsigned n, unsigned cpu, const struct sim_guest_step *script) {
    struct vm *vm = &vms[n];
    vm->script = script;
    vm->frame_va = RAM_VA + n * PAGE_SIZE;
    vm->handler = thread_make(cpu, false, 0);
    vm->base = 0x4000 + 0x100 * n;
    vm->pd = sel_new(), vm->vcpu = sel_new(), vm->sc = sel_new();
    for (unsigned e = 0; e < E_COUNT; e++) {
        sel_t pt = vm->base + event_number(e);
        u32 mtd = MTD_ACDB | MTD_RIP | MTD_RFLAGS | MTD_QUAL;
        OK(nova_create_pt(pt, SEL_PD, vm->handler.ec, mtd, PORTAL(on_event)));
        OK(nova_pt_ctrl(pt, n << 8 | e));
    }
    OK(nova_create_pd(vm->pd, SEL_PD, crd_obj(vm->base, 8, 0x1f)));
    OK(nova_create_ec(vm->vcpu, vm->pd, 0, cpu, 0, 0, true));
    return vm;
}
static void vm_start(struct vm *vm, unsigned prio) {
    OK(nova_create_sc(vm->sc, SEL_PD, vm->vcpu, QPD_MAKE(prio, 1000)));
}

static void machine_start(void) {
    done = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 4);
}

/* --- every exit of a small program --- */
static const struct sim_guest_step tour[] = {
    {SIM_G_CPUID, 0, 0},       {SIM_G_ADD, 0, 0x234}, {SIM_G_IO, 0, 0x3f8}, {SIM_G_WRMSR, 0, 0x1234},
    {SIM_G_WRITE, 0, GPA + 8}, {SIM_G_SET, 0, 0},     {SIM_G_FPU, 0, 99},   {SIM_G_READ, 0, GPA + 8},
    {SIM_G_HLT, 0, 0},         {SIM_G_TRIPLE, 0, 0},
};
static void tour_root(u64 cpu) {
    machine_start();
    sim_fpu_set(0, 77);
    struct vm *vm = vm_make(0, (unsigned)cpu, tour);
    vm_start(vm, 20);
    down(done);
    sim_expect_eq(vm->rax, 0x1234);
    down(done);
    sim_expect_eq(sim_fpu_get(0), 77);
    u64 v;
    sim_mem_read(vm->frame_va + 8, &v, sizeof(v));
    sim_expect_eq(v, 0x1234);
    for (unsigned e = 0; e < E_COUNT; e++)
        sim_expect_eq(vm->seen[e], e != E_INVALID);
    sim_done();
}
static void scripted_exits(void **s) {
    (void)s;
    scenario_on(SIM_ANY, tour_root, 2, 40);
}

/* --- more guests on a CPU than address-space identifiers (8 in the model): each sees its own page only --- */
static const struct sim_guest_step reader[] = {{SIM_G_READ, 0, GPA}, {SIM_G_HLT, 0, 0}, {SIM_G_JUMP, 0, (u64)reader}};
static void many_root(u64 cpu) {
    machine_start();
    for (unsigned i = 0; i < 12; i++) {
        struct vm *vm = vm_make(i, (unsigned)cpu, reader);
        u64 v = 0xabc0 + i;
        sim_mem_write(vm->frame_va, &v, sizeof(v));
        vm_start(vm, 20);
    }
    for (unsigned i = 0; i < 80; i++) {
        down(done);
        for (unsigned n = 0; n < 12; n++)
            if (vms[n].seen[E_HLT])
                sim_expect_eq(vms[n].rax, 0xabc0 + n);
    }
    sim_done();
}
static void more_guests_than_asids(void **s) {
    (void)s;
    scenario_on(SIM_ANY, many_root, 2, 40);
}

/* --- a page is taken from a running guest on another CPU --- */
static const struct sim_guest_step looper[] = {
    {SIM_G_READ, 0, GPA}, {SIM_G_IO, 0, 0x3f8}, {SIM_G_JUMP, 0, (u64)looper}};
static void take_root(u64 cpu) {
    unsigned other = (unsigned)cpu ^ 1;
    machine_start();
    struct vm *vm = vm_make(0, other, looper);
    vm_start(vm, 20);
    for (unsigned round = 1; round <= 4; round++) {
        while (vm->faults < round)
            sim_step();
        for (unsigned reads = vm->seen[E_IO]; vm->seen[E_IO] == reads;) /* the page has arrived */
            sim_step();
        for (u32 n = sim_choose(SIM_WORKLOAD, 300); n; n--)
            sim_step();
        OK(nova_revoke(crd_mem(vm->frame_va >> PAGE_SHIFT, 0, 7), false));
        u64 deadline = sim_clock() + 1000000;
        while (vm->faults == round &&
               sim_clock() < deadline) /* it faults again, or it still reads through an old translation */
            sim_step();
        sim_expect(vm->faults > round);
        if (vm->faults == round)
            break;
    }
    sim_done();
}
static void page_taken_from_running_guest(void **s) {
    (void)s;
    scenario_on(SIM_ANY, take_root, 2, 60);
}
static void missing_guest_flush_is_noticed(void **s) {
    (void)s;
    for (enum sim_vendor v = SIM_AMD; v <= SIM_INTEL; v++) {
        struct sim_options o = {.cpus = 2, .root = take_root, .no_flush = true, .vendor = v};
        assert_in_range(sim_count(&o, 1, 10, SIM_FAILED), 8, 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripted_exits),
        cmocka_unit_test(more_guests_than_asids),
        cmocka_unit_test(page_taken_from_running_guest),
        cmocka_unit_test(missing_guest_flush_is_noticed),
    };
    return cmocka_run_group_tests_name("sim guest", tests, NULL, NULL);
}
