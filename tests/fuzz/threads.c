/* User programs of a run: what threads, portals and guests do with the operations of their actors. */
#include "machine.h"
#include <string.h>

#define CHUNK        6u /* operations of one visit to a portal */
#define SCRIPT_STEPS 64u
static u16 cursor[ACTORS];

u64 stack_code(unsigned actor, u64 utcb) { return (u64)actor << 48 | (utcb & ((1ul << 48) - 1)); }

static unsigned stack_actor(u64 rsp) { return rsp >> 48 & 15; }
static u64 stack_utcb(u64 rsp) { return rsp & ((1ul << 48) - 1) & ~PAGE_MASK; }

static bool may_go_on(void) { return !stopped && budget-- > 0; }

/* The next operations of an actor, over and over. */
static void chunk_run(unsigned actor, u64 utcb) {
    for (unsigned n = 0; n < CHUNK && prog->count[actor] && may_go_on(); n++) {
        const struct op *op = &prog->op[actor][cursor[actor]++ % prog->count[actor]];
        op_run(op, utcb);
        if (cursor[actor] % prog->count[actor] == 0)
            break;
    }
}

static _Noreturn void leave(void) {
    for (;;)
        sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY});
}

static void sleep_for_good(void) { hc(HC_SM_CTRL, HF_SM_DOWN, NEVER, 0, 0, 0, 0, NULL); }

/* A thread that the program made: all operations of its actor once. */
void thread_main(u64 rdi) {
    u64 rsp = sim_regs()->rsp, utcb = stack_utcb(rsp);
    unsigned actor = stack_actor(rsp);
    (void)rdi;
    for (unsigned i = 0; i < prog->count[actor] && may_go_on(); i++)
        op_run(&prog->op[actor][i], utcb);
    leave();
}

void portal_main(u64 rdi) {
    u64 rsp = sim_regs()->rsp;
    (void)rdi;
    chunk_run(stack_actor(rsp), stack_utcb(rsp));
    leave();
}

void worker_main(u64 rdi) {
    unsigned actor = (unsigned)sim_regs()->rsp >> PAGE_SHIFT & 7;
    u64 utcb = sim_regs()->rsp & ~PAGE_MASK;
    (void)rdi;
    hc(HC_SM_CTRL, HF_SM_DOWN, GO, 0, 0, 0, 0, NULL);
    for (unsigned i = 0; i < prog->count[actor] && may_go_on(); i++)
        op_run(&prog->op[actor][i], utcb);
    hc(HC_SM_CTRL, 0, DONE, 0, 0, 0, 0, NULL);
    sleep_for_good();
    leave();
}

static struct abi_state *state_at(u64 utcb) { return &((struct abi_utcb *)sim_mem_ptr(utcb, true))->state; }

/* Events of threads; PID: event. What nobody says otherwise about ends the thread. */
void thread_event(u64 pid) {
    u64 utcb = stack_utcb(sim_regs()->rsp);
    struct abi_state *s = state_at(utcb);
    switch (pid) {
    case EVT_THREAD_STARTUP: /* workers lie in their own range */
        s->rip = s->rsp >= HAND_UTCB && s->rsp < REGION_VA ? (u64)worker_main : (u64)thread_main;
        s->mtd = MTD_RIP;
        break;
    case EVT_THREAD_RECALL:
        s->mtd = 0;
        break;
    default:
        s->rip = (u64)leave;
        s->mtd = MTD_RIP;
    }
    if (pid != EVT_THREAD_STARTUP)
        chunk_run(12, utcb);
    leave();
}

static void guest_start(struct abi_state *s) {
    s->rip = script_entry(0);
    s->rflags = 0x202;
    s->cr0 = 0x10;
    s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
    s->dr7 = 0x400;
    s->rdx = script_entry(1); /* interrupts go there */
    s->rax = s->rcx = s->rbx = 0;
    s->cs = s->ss = (struct abi_seg){0, 0x93, 0xffff, 0};
    s->ctrl[0] = prog->intel ? 0 : 1u << 18; /* CPUID */
    s->ctrl[1] = prog->intel ? 0 : 3;        /* VMRUN, VMMCALL */
    s->mtd = MTD_ACDB | MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS;
}

/* Exits by an instruction that the VMM steps over: CPUID HLT IO MSR VMMCALL. */
static bool instruction_exit(u64 event) {
    static const u8 exits[2][6] = {{0x72, 0x78, 0x7b, 0x7c, 0x81, 0x81}, {10, 12, 18, 30, 31, 32}};
    return memchr(exits[prog->intel], (int)event, sizeof(exits[0]));
}

/* VM exits; PID: event. */
void guest_event(u64 pid) {
    u64 utcb = stack_utcb(sim_regs()->rsp);
    struct abi_utcb *u = sim_mem_ptr(utcb, true);
    struct abi_state *s = &u->state;
    if (pid == EVT_VCPU_STARTUP) {
        guest_start(s);
    } else if (pid ==
               (prog->intel ? EVT_VMX_EPT : EVT_SVM_NPF)) { /* a page of the region, where the guest looked for it */
        u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
        u->w[UTCB_WORDS - 2] = crd_mem(PAGE_OF(REGION_VA) + s->qual[1] / PAGE_SIZE % 64, 0, PERM_MEM_ALL);
        u->w[UTCB_WORDS - 1] = (s->qual[1] & ~PAGE_MASK) | ITEM_G | ITEM_DELEGATE;
        s->mtd = 0;
    } else {
        s->rip += sizeof(struct sim_guest_step);
        s->mtd = instruction_exit(pid) ? MTD_RIP : 0;
    }
    if (budget <= 0 || stopped)
        sleep_for_good();
    budget--;
    chunk_run(13, utcb);
    leave();
}

/* --- guests --- */
static struct sim_guest_step scripts[2][SCRIPT_STEPS + 2];

/* The number of a step stays, as that of an operation. */
static const u8 step_ops[32] = {
    SIM_G_CPUID, SIM_G_HLT,  SIM_G_IO,     SIM_G_RDMSR,     SIM_G_WRMSR, SIM_G_VMMCALL, SIM_G_READ,      SIM_G_WRITE,
    SIM_G_FETCH, SIM_G_SET,  SIM_G_ADD,    SIM_G_CLI,       SIM_G_STI,   SIM_G_SPIN,    SIM_G_JUMP,      SIM_G_TRIPLE,
    SIM_G_FPU,   SIM_G_DR,   SIM_G_EXIT,   SIM_G_CR0,       SIM_G_CR4,   SIM_G_XSETBV,  SIM_G_EXCEPTION, SIM_G_IRET,
    SIM_G_EXIT,  SIM_G_EXIT, SIM_G_XSETBV, SIM_G_EXCEPTION, SIM_G_READ,  SIM_G_WRITE,   SIM_G_IO,        SIM_G_STI};

static struct sim_guest_step step_make(const struct op *o) {
    static const u32 msrs[] = {0x10, 0x174, 0x1234, 0xc0000080, 0xc0000081, 0xc0010114, 0xc0002000, 0x1fff};
    static const u16 amd[] = {0x41, 0x51, 0x52, 0x61,  0x62, 0x74, 0x7a, 0x84,
                              0x8d, 0x9f, 0xa0, 0x403, 0x86, 0x43, 0x40, 0x64};
    static const u64 xcr0[] = {1, 3, 7, 0, 2, 5, 0xe7, 1ul << 63};
    struct sim_guest_step s = {step_ops[o->code % 32], o->d & 1, o->b};
    switch ((enum sim_guest_op)s.op) {
    case SIM_G_IO:
        s.a = o->b < 128 ? o->b : 0xfff8u + o->b % 8;
        break;
    case SIM_G_RDMSR:
    case SIM_G_WRMSR:
        s.a = msrs[o->b % 8];
        break;
    case SIM_G_READ:
    case SIM_G_WRITE:
    case SIM_G_FETCH:
        s.a = (o->b < 192 ? o->b % 8ul : 1ul << o->b % 30) << PAGE_SHIFT | (o->c & 7) * 8ul;
        break;
    case SIM_G_JUMP:
        s.a = script_entry(o->b);
        break;
    case SIM_G_EXIT:
        s.a = prog->intel ? o->b % 70 : amd[o->b % 16];
        s.b = o->c;
        break;
    case SIM_G_CR0:
        s.a = 0x10 | (o->b & 1) | (u64)(o->b & 0x80) << 24 | (u64)(o->b & 0x60) << 24;
        break;
    case SIM_G_CR4:
        s.a = 1ul << o->b % 24;
        break;
    case SIM_G_XSETBV:
        s.a = xcr0[o->b % 8];
        break;
    case SIM_G_EXCEPTION:
        s.a = o->b % 32;
        break;
    default:
        break;
    }
    return s;
}

u64 script_entry(unsigned n) {
    unsigned script = n & 1, steps = prog->count[14 + script] < SCRIPT_STEPS ? prog->count[14 + script] : SCRIPT_STEPS;
    return (u64)&scripts[script][(n >> 1) % (steps + 1)];
}

void scripts_make(void) {
    for (unsigned g = 0; g < 2; g++) {
        unsigned n = 0;
        for (; n < prog->count[14 + g] && n < SCRIPT_STEPS; n++)
            scripts[g][n] = step_make(&prog->op[14 + g][n]);
        scripts[g][n] = (struct sim_guest_step){SIM_G_HLT, 0, 0};
        scripts[g][n + 1] = (struct sim_guest_step){SIM_G_JUMP, 0, (u64)scripts[g]};
    }
}
