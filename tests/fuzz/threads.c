/* User programs of a run: what threads, portals and guests do with the operations of their actors. */
#include "machine.h"

#define CHUNK        6u /* operations of one visit to a portal */
#define SCRIPT_STEPS 64u
#define EXIT_CPUID   0x72
#define EXIT_HLT     0x78
#define EXIT_IO      0x7b
#define EXIT_MSR     0x7c
#define EXIT_VMMCALL 0x81

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
    s->ctrl[0] = 1u << 18; /* CPUID */
    s->ctrl[1] = 3;        /* VMRUN, VMMCALL */
    s->mtd = MTD_ACDB | MTD_RIP | MTD_RFLAGS | MTD_CR | MTD_DR | MTD_CTRL | MTD_EFER | MTD_CS_SS;
}

/* VM exits; PID: event. */
void guest_event(u64 pid) {
    u64 utcb = stack_utcb(sim_regs()->rsp);
    struct abi_utcb *u = sim_mem_ptr(utcb, true);
    struct abi_state *s = &u->state;
    switch (pid) {
    case EVT_VCPU_STARTUP:
        guest_start(s);
        break;
    case EXIT_CPUID:
    case EXIT_HLT:
    case EXIT_IO:
    case EXIT_MSR:
    case EXIT_VMMCALL:
        s->rip += sizeof(struct sim_guest_step);
        s->mtd = MTD_RIP;
        break;
    case EVT_SVM_NPF: /* a page of the region, where the guest looked for it */
        u->items = UTCB_ITEMS(ABI_STATE_WORDS, 1);
        u->w[UTCB_WORDS - 2] = crd_mem(PAGE_OF(REGION_VA) + s->qual[1] / PAGE_SIZE % 64, 0, PERM_MEM_ALL);
        u->w[UTCB_WORDS - 1] = (s->qual[1] & ~PAGE_MASK) | ITEM_G | ITEM_DELEGATE;
        s->mtd = 0;
        break;
    default:
        s->mtd = 0;
    }
    if (budget <= 0 || stopped)
        sleep_for_good();
    budget--;
    chunk_run(13, utcb);
    leave();
}

/* --- guests --- */
static struct sim_guest_step scripts[2][SCRIPT_STEPS + 2];

static u64 guest_operand(u32 op, const struct op *o) {
    static const u32 msrs[] = {0x10, 0x174, 0x1234, 0xc0000080, 0xc0000081, 0xc0010114, 0xc0002000, 0x1fff};
    switch (op) {
    case SIM_G_IO:
        return o->b < 128 ? o->b : 0xfff8u + o->b % 8;
    case SIM_G_RDMSR:
    case SIM_G_WRMSR:
        return msrs[o->b % 8];
    case SIM_G_READ:
    case SIM_G_WRITE:
    case SIM_G_FETCH:
        return (o->b < 192 ? o->b % 8ul : 1ul << o->b % 30) << PAGE_SHIFT | (o->c & 7) * 8ul;
    case SIM_G_JUMP:
        return script_entry(o->b);
    default:
        return o->b;
    }
}

u64 script_entry(unsigned n) {
    unsigned script = n & 1, steps = prog->count[14 + script] < SCRIPT_STEPS ? prog->count[14 + script] : SCRIPT_STEPS;
    return (u64)&scripts[script][(n >> 1) % (steps + 1)];
}

void scripts_make(void) {
    for (unsigned g = 0; g < 2; g++) {
        unsigned n = 0;
        for (; n < prog->count[14 + g] && n < SCRIPT_STEPS; n++) {
            const struct op *o = &prog->op[14 + g][n];
            u32 op = o->code % (SIM_G_IRET + 1);
            scripts[g][n] = (struct sim_guest_step){op, o->d & 1, guest_operand(op, o)};
        }
        scripts[g][n] = (struct sim_guest_step){SIM_G_HLT, 0, 0};
        scripts[g][n + 1] = (struct sim_guest_step){SIM_G_JUMP, 0, (u64)scripts[g]};
    }
}
