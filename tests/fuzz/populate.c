/* What a program finds: threads that run it, handlers of their events, and (unless it is bare) one of every object in SCRATCH. */
#include "machine.h"

#define OK(x)     sim_expect_eq((x), NOVA_SUCCESS)
#define GRAB_PT   0x60ul
#define GRAB_EC   0x61ul
#define GRAB_UTCB (OWN_UTCB + PAGE_SIZE)

static struct abi_utcb *at_utcb(u64 va) { return sim_mem_ptr(va, true); }

static void grab_portal(u64 pid) {
    (void)pid;
    for (;;)
        sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY});
}

void grab_make(void) {
    OK(nova_create_ec(GRAB_EC, SEL_PD, GRAB_UTCB, 0, 0, 0, false));
    OK(nova_create_pt(GRAB_PT, SEL_PD, GRAB_EC, 0, (u64)grab_portal));
}

/* Root delegates to itself through a portal of its own. */
static void grab(u64 crd, u64 hotspot_and_flags, u64 window) {
    at_utcb(GRAB_UTCB)->del = window;
    struct abi_utcb *u = at_utcb(OWN_UTCB);
    u->items = UTCB_ITEMS(0, 1);
    u->w[UTCB_WORDS - 2] = crd;
    u->w[UTCB_WORDS - 1] = hotspot_and_flags | ITEM_DELEGATE;
    OK(nova_call(GRAB_PT));
}

static void portals_make(u64 base, u64 ec, u32 count, u32 mtd, void (*fn)(u64)) {
    for (u32 e = 0; e < count; e++) {
        OK(nova_create_pt(base + e, SEL_PD, ec, mtd, (u64)fn));
        OK(nova_pt_ctrl(base + e, e));
    }
}

void harness_make(void) {
    for (unsigned c = 0; c < prog->cpus; c++) { /* a handler of events for each CPU */
        u64 utcb = HAND_UTCB + (16 + c) * PAGE_SIZE, ec = HARNESS + 0x20 + c;
        OK(nova_create_ec(ec, SEL_PD, utcb, c, stack_code(12, utcb), 0, false));
        portals_make(EVENTS(c), ec, ABI_EVENTS_THREAD, MTD_RSP | MTD_RIP | MTD_QUAL, thread_event);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        u64 utcb = HAND_UTCB + i * PAGE_SIZE;
        unsigned cpu = i % prog->cpus;
        if (!prog->count[i])
            continue;
        OK(nova_create_ec(WORKER_EC(i), SEL_PD, utcb, cpu, utcb, EVENTS(cpu), true));
        OK(nova_create_sc(WORKER_SC(i), SEL_PD, WORKER_EC(i), QPD_MAKE(40 + 10 * (i & 1), 300)));
        struct abi_utcb *u = at_utcb(utcb);
        u->del = crd_obj(SCRATCH, 6, 0x1f);
        u->xlt = crd_obj(SCRATCH, 6, 0x1f);
    }
}

/* A local thread with two portals. */
static void server_make(u64 ec, u64 pt, unsigned cpu, unsigned actor) {
    u64 utcb = REGION_VA + (128ul + actor) * PAGE_SIZE;
    OK(nova_create_ec(ec, SEL_PD, utcb, cpu, stack_code(actor, utcb), EVENTS(cpu), false));
    OK(nova_create_pt(pt, SEL_PD, ec, 0, (u64)portal_main));
    struct abi_utcb *u = at_utcb(utcb);
    u->del = crd_obj(SCRATCH, 6, 0x1f);
    u->xlt = crd_obj(SCRATCH, 6, 0x1f);
}

static void vm_make(unsigned cpu) {
    /* AMD APM vol 2 appendix C, Intel SDM vol 3 appendix C */
    static const u8 amd[] = {0x10, 0x14, 0x40, 0x41, 0x51, 0x52, 0x64, 0x72,        0x74,           0x78,
                             0x7a, 0x7b, 0x7c, 0x7f, 0x81, 0x84, 0x8d, EVT_SVM_NPF, EVT_SVM_INVALID};
    static const u8 intel[] = {0, 2, 7, 8, 10, 12, 18, 28, 29, 30, 31, 32, 33, 37, 40, 43, EVT_VMX_EPT, 52, 55};
    static_assert(sizeof(amd) == sizeof(intel), "one loop for both");
    const u8 *events = prog->intel ? intel : amd;
    u64 utcb = HAND_UTCB + 24 * PAGE_SIZE, ec = HARNESS + 0x28;
    OK(nova_create_ec(ec, SEL_PD, utcb, cpu, stack_code(13, utcb), 0, false));
    for (unsigned i = 0; i < sizeof(amd) + 2; i++) {
        u8 event = i < sizeof(amd) ? events[i] : i == sizeof(amd) ? EVT_VCPU_STARTUP : EVT_VCPU_RECALL;
        u32 mtd = i & 1 ? MTD_ACDB | MTD_RIP | MTD_QUAL | MTD_INJ : ~0u & ~(prog->seed & 1 ? MTD_INJ : 0);
        OK(nova_create_pt(VBASE + event, SEL_PD, ec, mtd, (u64)guest_event));
        OK(nova_pt_ctrl(VBASE + event, event));
    }
    OK(nova_create_pd(SLOT(SLOT_PD, 2), SEL_PD, crd_obj(VBASE, 8, 0x1f))); /* there from 0 on */
    if (prog->no_vm || !(prog->count[13] + prog->count[14] + prog->count[15]))
        return;
    OK(nova_create_ec(SLOT(SLOT_EC, 3), SLOT(SLOT_PD, 2), 0, cpu, 0, 0, true));
}

void scratch_start(void) {
    bool there = !prog->bare && !prog->no_vm && prog->count[13] + prog->count[14] + prog->count[15];
    if (there)
        OK(nova_create_sc(SLOT(SLOT_SC, 1), SEL_PD, SLOT(SLOT_EC, 3), QPD_MAKE(30, 200)));
}

void scratch_make(void) {
    static const u8 lines[] = {1, 17, 25};
    unsigned last = prog->cpus - 1u;
    u64 dst = PAGE_OF(REGION_VA);
    grab(crd_mem(REGION_PFN, 6, 7), dst << 12 | ITEM_H, crd_mem(dst, 6, 7));
    if (prog->bare)
        return;
    grab(crd_mem(BIG_PFN, BIG_ORDER, 7), PAGE_OF(BIG_VA) << 12 | ITEM_H, crd_mem(PAGE_OF(BIG_VA), BIG_ORDER, 7));
    for (unsigned bus = 0; bus < 2; bus++) {
        u64 to = PAGE_OF(CONFIG_VA) + 4 * bus;
        grab(crd_mem(PAGE_OF(SIM_MCFG_BASE) + 0x100 * bus, 2, 3), to << 12 | ITEM_H, crd_mem(to, 2, 3));
    }
    grab(CRD_MAKE(CRD_PIO, 0, 7, 1), ITEM_H, CRD_MAKE(CRD_PIO, 0, 16, 1));
    for (unsigned i = 0; i < sizeof(lines); i++)
        grab(crd_obj(64u + lines[i], 0, 3), ITEM_H | SLOT(SLOT_SM, 2 + i) << 12,
             crd_obj(SLOT(SLOT_SM, 2 + i), 0, 0x1f));
    grab(crd_obj(0, 0, 1), ITEM_H | SLOT(SLOT_SC, 0) << 12, crd_obj(SLOT(SLOT_SC, 0), 0, 0x1f));
    grab(crd_obj(SEL_PD, 0, 0x1f), SLOT(SLOT_PD, 0) << 12, crd_obj(SLOT(SLOT_PD, 0), 0, 0x1f));
    grab(crd_obj(EVENTS(0), 5, 0x1f), 0, crd_obj(TBASE, 5, 0x1f));
    OK(nova_create_sm(SLOT(SLOT_SM, 0), SEL_PD, 0));
    OK(nova_create_sm(SLOT(SLOT_SM, 1), SEL_PD, 1));
    OK(nova_create_sm(SLOT(SLOT_SM, 5), SEL_PD, ~0ul));
    server_make(SLOT(SLOT_EC, 0), SLOT(SLOT_PT, 0), 0, 8);
    server_make(SLOT(SLOT_EC, 1), SLOT(SLOT_PT, 1), last, 9);
    server_make(SLOT(SLOT_EC, 2), SLOT(SLOT_PT, 2), 0, 10);
    OK(nova_create_pt(SLOT(SLOT_PT, 3), SEL_PD, SLOT(SLOT_EC, 0), MTD_RIP, (u64)portal_main));
    vm_make(last);
    OK(nova_create_pd(SLOT(SLOT_PD, 1), SEL_PD, crd_obj(SCRATCH, SCRATCH_ORDER, 0x1f)));
    if (prog->count[11]) { /* a thread in a domain of its own */
        u64 utcb = REGION_VA + 140 * PAGE_SIZE;
        OK(nova_create_ec(SLOT(SLOT_EC, 4), SLOT(SLOT_PD, 1), utcb, 0, stack_code(11, utcb), TBASE - SCRATCH, false));
        OK(nova_create_pt(SLOT(SLOT_PT, 4), SEL_PD, SLOT(SLOT_EC, 4), 0, (u64)portal_main));
    }
}
