/* Events of components' threads: STARTUP sets the first registers, anything else ends the component with a report. */
#include "root.h"

#include <stdio.h>

static const char *const event_names[32] = {
    "divide error",
    "debug exception",
    "NMI",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "FPU not available",
    "double fault",
    "coprocessor overrun",
    "invalid TSS",
    "segment not present",
    "stack fault",
    "general protection fault",
    "page fault",
    "exception 15",
    "FPU error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualization exception",
    "control protection",
    "exception 22",
    "exception 23",
    "exception 24",
    "exception 25",
    "exception 26",
    "exception 27",
    "exception 28",
    "exception 29",
    "startup",
    "recall",
};

uint32_t event_mtd(uint32_t event) {
    switch (event) {
    case EVT_THREAD_STARTUP:
        return MTD_RSP | MTD_RIP | MTD_BSD;
    case EVT_THREAD_RECALL:
        return 0;
    default:
        return MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RIP | MTD_RFLAGS | MTD_R8_R15 | MTD_QUAL;
    }
}

static void event_startup(struct component *c, struct abi_utcb *utcb) {
    struct msg m;

    utcb->state.rip = c->entry;
    utcb->state.rdi = 0;
    utcb->state.mtd = MTD_RIP | MTD_BSD;
    if (c->main_started)
        return; /* a further thread: RSP is as it was created */
    c->main_started = true;
    utcb->state.rdi = COMP_VA_INFO;
    utcb->state.rsp = COMP_VA_STACK_TOP - 64;
    utcb->state.mtd |= MTD_RSP;
    msg_begin_after(&m, utcb, ABI_STATE_WORDS);
    for (const struct grant *g = c->grants; g; g = g->next) {
        if (g->kind != GRANT_STARTUP)
            continue;
        if (msg_add_pages(&m, (ROOT_PHYS_VA >> 12) + g->page, g->va >> 12, g->pages, g->perm, 0) < g->pages)
            m.overflow = true;
    }
    if (!msg_end(&m))
        component_end(c, EXIT_CODE_ERROR, "its image has too many pieces");
}

static void event_report(struct component *c, const struct comp_portal *p, const struct abi_state *s) {
    const char *name = c->unit->cfg->name;
    char reason[160];

    (void)snprintf(reason, sizeof reason, "%s at rip %#lx%s", event_names[p->event], s->rip,
                   c->unit->cfg->kind == CONFIG_VM ? " in its VMM" : "");
    root_log("%s %s: %s, CPU %u, rip %#lx, error code %#lx, address %#lx", unit_kind(c->unit), name,
             event_names[p->event], c->cpu[p->cpu_index], s->rip, s->qual[0], s->qual[1]);
    root_log("  rax %016lx rbx %016lx rcx %016lx rdx %016lx", s->rax, s->rbx, s->rcx, s->rdx);
    root_log("  rsi %016lx rdi %016lx rbp %016lx rsp %016lx", s->rsi, s->rdi, s->rbp, s->rsp);
    root_log("  r8  %016lx r9  %016lx r10 %016lx r11 %016lx", s->r8, s->r9, s->r10, s->r11);
    root_log("  r12 %016lx r13 %016lx r14 %016lx r15 %016lx", s->r12, s->r13, s->r14, s->r15);
    component_end(c, EXIT_CODE_ERROR, reason);
}

void event_portal(void *arg, struct abi_utcb *utcb) {
    struct comp_portal *p = arg;
    struct component *c = p->comp;

    component_enter(c, p->cpu_index);
    utcb->items = UTCB_ITEMS(ABI_STATE_WORDS, 0);
    utcb->state.mtd = 0;
    if (c->running) {
        if (p->event == EVT_THREAD_STARTUP)
            event_startup(c, utcb);
        else if (p->event != EVT_THREAD_RECALL)
            event_report(c, p, &utcb->state);
    }
    component_leave(c);
}
