/* Hooks of the backend: they turn what a CPU does into events, segments of its lane and arrows. */
#define _GNU_SOURCE
#include "sim/trace_priv.h"
#include "arch/assert.h"
#include "core/sc.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

bool sim_trace_on;
u64 sim_trace_seed;
static bool to_page, colours;
static u32 events;
static unsigned failures;
static const char *run_name;
static bool ended;

struct lane trace_lanes[ABI_MAX_CPUS];

unsigned trace_depth(const struct trace_obj *o) {
    unsigned depth = 0;
    if (o && o->p)
        for (const struct ec *ec = ec_of(o); ec->caller && depth < 255; ec = ec->caller)
            depth++;
    return depth;
}

/* --- events --- */
static const char *colour_of(unsigned kind) {
    static const char *const colours_of[] = {
        [EV_CALL] = "\033[34m",  [EV_REPLY] = "\033[36m",   [EV_HELP] = "\033[35m",   [EV_BLOCK] = "\033[2m",
        [EV_WAKE] = "\033[32m",  [EV_PREEMPT] = "\033[33m", [EV_IRQ] = "\033[33m",    [EV_IPI] = "\033[33m",
        [EV_SHOOT] = "\033[33m", [EV_IDLE] = "\033[2m",     [EV_FAIL] = "\033[1;31m", [EV_END] = "\033[1m"};
    return colours && kind < ARRAY_SIZE(colours_of) && colours_of[kind] ? colours_of[kind] : "";
}

static void line_print(const struct trace_event *e, const char *who, const char *text) {
    const char *colour = colour_of(e->kind);
    printf("%s%11.1f  %3u  %-26.26s %*s%s%s\n", colour, trace_us(e->time), e->cpu, who, 2 * e->depth, "", text,
           *colour ? "\033[0m" : "");
}

u32 trace_event_add(const struct cpu *c, enum trace_kind kind, const struct trace_obj *who, unsigned depth,
                    const char *fmt, ...) {
    char text[320];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    struct trace_event e = {
        .time = sim_now, .cpu = (u8)c->id, .kind = (u8)kind, .depth = (u8)depth, .ec = (u16)(who ? who->number : 0)};
    if (to_page)
        trace_page_event(&e, text);
    else
        line_print(&e, who && who->number ? trace_label(who) + 3 : "", text);
    return events++;
}
u32 trace_arrow_add(enum trace_flow kind, u32 from, u32 to, unsigned to_cpu, unsigned d1, unsigned d2) {
    const struct trace_arrow a = {from, to, (u8)kind, (u8)to_cpu, (u8)min_u64(d1, 255), (u8)min_u64(d2, 255)};
    return to_page ? trace_page_arrow(&a) : 0;
}

static void arrow_end(u32 arrow, u32 event) {
    if (to_page && arrow != NO_FLOW)
        trace_page_arrow_end(arrow, event);
}

static void seg_add(const struct cpu *c, enum trace_state state, const struct trace_obj *ec) {
    const struct trace_obj *payer = ec && c->sc ? trace_obj(&c->sc->ec->obj) : NULL;
    const struct trace_seg s = {.time = sim_now,
                                .cpu = (u8)c->id,
                                .state = (u8)state,
                                .ec = (u16)(ec ? ec->number : 0),
                                .payer = (u16)(payer ? payer->number : 0),
                                .depth = (u8)trace_depth(ec)};
    if (to_page)
        trace_page_seg(&s);
}

/* --- a run --- */
const char *trace_machine(void) {
    return sim_is_intel()          ? sim_opt.store_buffers ? "Intel, store buffers" : "Intel"
           : sim_opt.store_buffers ? "AMD, store buffers"
                                   : "AMD";
}

#ifdef __SANITIZE_ADDRESS__
static void died(void) { TRACE(end, "a report of the address sanitizer", false); }
#endif

void sim_trace_stuck(void) {
    for (const struct trace_obj *o = trace_list[KOBJ_EC]; o; o = o->next) {
        const struct cpu *c = &sim_cpus[ec_of(o)->cpu];
        if (o->blocked)
            TRACE_EVENT(c, EV_END, o, "is blocked on %s", trace_label(o->blocked));
        else if (o->callee)
            TRACE_EVENT(c, EV_END, o, "waits for a reply of %s", trace_label(o->callee));
        else if (o->helping)
            TRACE_EVENT(c, EV_END, o, "waits for %s, which is busy", trace_label(o->helping));
    }
}

void sim_trace_begin(void) {
    const char *mode = getenv("TRACE"), *name = getenv("CASE");
    if (sim_opt.seed != sim_trace_seed || !mode || !*mode || !strcmp(mode, "0"))
        return;
    static char text[160];
    u64 offset;
    const char *root = sim_symbol((u64)sim_opt.root, &offset);
    snprintf(text, sizeof(text), "%s%s%s", program_invocation_short_name, name && !*name ? "" : ".",
             name   ? name
             : root ? root
                    : "run");
    run_name = text;
    to_page = !strcmp(mode, "html");
    colours = isatty(STDOUT_FILENO) && !to_page;
    sim_trace_on = true;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_set_death_callback(died);
#endif
    (void)trace_us(sim_now); /* time begins */
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        if (sim_cpus[i].mach.state == SIM_CPU_IDLE)
            seg_add(&sim_cpus[i], TS_IDLE, NULL);
    if (to_page)
        return;
    setvbuf(stdout, NULL, _IOLBF, 0); /* a run that dies keeps its last line */
    printf("trace of %s, seed %lu, %u CPUs (%s)\n%11s  %3s  %-26s %s\n", run_name, sim_opt.seed, sim_opt.cpus,
           trace_machine(), "us", "CPU", "EC", "event");
}

void sim_trace_end(const char *result, bool good) {
    const char *commit = getenv("TRACE_COMMIT");
    const struct cpu *c = arch_cpu_self();
    if (ended)
        return;
    ended = true;
    trace_event_add(c, good ? EV_END : EV_FAIL, NULL, 0, "the run ends: %s", result);
    sim_trace_on = false;
    const struct trace_meta m = {run_name, commit ? commit : "", result, good, failures};
    if (!to_page) {
        printf("trace of %s: %s; seed %lu, %u CPUs, %u events, hash %016lx\n", run_name, result, sim_opt.seed,
               sim_opt.cpus, events, sim_hash());
        return;
    }
    const char *path = trace_page_write(&m);
    if (path)
        printf("trace: %s (%u events)\n", path, events);
}

/* --- in and out of the kernel --- */
/* Its new object, if a hypercall made one. */
static void create_look(struct cpu *c) {
    struct lane *l = lane(c);
    l->creates = false;
    if (!l->ec || !l->ec->p)
        return;
    struct trace_obj *o = trace_sel(ec_of(l->ec), l->ec->sel);
    if (!o || o->type != KOBJ_PT)
        return;
    struct trace_obj *server = trace_obj(container_of(o->p, struct pt, obj)->ec);
    if (!server->name)
        trace_name(server, o->name);
}

void sim_trace_exit(struct cpu *c, struct ec *ec) {
    struct lane *l = lane(c);
    if (l->creates)
        create_look(c);
    for (struct trace_obj *o = trace_list[KOBJ_EC]; o; o = o->next)
        if (ec_of(o)->cpu == c->id) {
            trace_queue(c, o, ec_of(o));
            trace_links(c, o);
        }
    trace_payer(c);
    l->ec = ec->kind == EC_IDLE ? NULL : trace_obj(ec);
}

/* What the kernel's answer was, for the line that says that an EC runs. */
static void answer_put(char *to, size_t size, const struct trace_obj *o, const struct ec *ec, bool fresh) {
    const char *code = trace_code(ec->regs.rip);
    if (fresh && ec->caller)
        snprintf(to, size, "serves %s", code);
    else if (fresh)
        snprintf(to, size, "starts %s", code);
    else if (!o->pending || o->trapped)
        snprintf(to, size, "goes on");
    else
        snprintf(to, size, "= %s", trace_status(ec->regs.rdi));
    if (fresh || !o->pending || o->trapped || ec->regs.rdi != NOVA_SUCCESS)
        return;
    size_t n = strlen(to);
    if (o->number_in >= HC_CREATE_PD && o->number_in <= HC_CREATE_SM)
        snprintf(to + n, size - n, ": %s", trace_label(trace_sel(ec, o->sel)));
    else if (o->number_in == HC_SC_CTRL)
        snprintf(to + n, size - n, ": %lu us", ec->regs.rsi << 32 | ec->regs.rdx);
}

void sim_trace_user(struct cpu *c, bool fresh) {
    struct lane *l = lane(c);
    struct trace_obj *o = trace_obj(c->ec), *sc = trace_obj(c->sc);
    u64 offset;
    bool changed = l->ran != o, payer = l->payer != sc;
    if (fresh && !o->name)
        trace_name(o, sim_symbol(c->ec->regs.rip, &offset));
    if (fresh || o->pending || changed || o->wake != NO_FLOW) {
        char text[200];
        answer_put(text, sizeof(text), o, c->ec, fresh);
        u32 e = payer ? TRACE_EVENT(c, EV_LEAVE, o, "%s (%s, priority %u)", text, trace_label(sc), c->sc->prio)
                      : TRACE_EVENT(c, EV_LEAVE, o, "%s", text);
        arrow_end(o->wake, e);
        o->wake = NO_FLOW;
    }
    o->pending = false;
    l->ran = l->ec = o;
    l->payer = sc;
    seg_add(c, TS_USER, o);
}

void sim_trace_trap(struct cpu *c, enum sim_trap kind, u64 addr) {
    struct lane *l = lane(c);
    struct trace_obj *o = l->ec = trace_obj(c->ec);
    const struct uregs *r = &c->ec->regs;
    char text[240];
    seg_add(c, TS_KERNEL, o);
    if (kind == SIM_TRAP_INTERRUPT)
        return;
    o->pending = true;
    o->trapped = kind == SIM_TRAP_EXCEPTION;
    o->number_in = (u8)(o->trapped ? r->vec : r->rdi & 0xf);
    o->sel = (r->rdi >> 8) % ABI_SEL_COUNT;
    if (o->trapped)
        trace_exception(text, sizeof(text), c->ec, addr);
    else
        trace_hypercall(text, sizeof(text), c->ec);
    l->creates = !o->trapped && o->number_in >= HC_CREATE_PD && o->number_in <= HC_CREATE_SM;
    o->enter = TRACE_EVENT(c, EV_ENTER, o, "%s", text);
}

void sim_trace_guest(struct cpu *c, u64 rip) {
    struct lane *l = lane(c);
    struct trace_obj *o = l->ec = l->ran = trace_obj(c->ec);
    u32 e = TRACE_EVENT(c, EV_GUEST, o, "enters the guest at %s", trace_guest_code(rip));
    arrow_end(o->wake, e);
    o->wake = NO_FLOW;
    o->pending = false;
    seg_add(c, TS_GUEST, o);
}

void sim_trace_vmexit(struct cpu *c, u64 rip, u64 code) {
    struct lane *l = lane(c);
    struct trace_obj *o = l->ec;
    o->pending = o->trapped = true;
    o->number_in = (u8)code;
    o->enter = TRACE_EVENT(c, EV_GUEST, o, "leaves the guest: %s at %s", trace_vmexit(code), trace_guest_code(rip));
    seg_add(c, TS_KERNEL, o);
}

void sim_trace_idle(struct cpu *c, bool begins) {
    struct lane *l = lane(c);
    l->ec = NULL;
    if (begins)
        l->ran = l->payer = NULL; /* whoever comes next is worth a line */
    TRACE_EVENT(c, EV_IDLE, NULL, begins ? "idle" : "no longer idle");
    seg_add(c, begins ? TS_IDLE : TS_KERNEL, NULL);
}

/* --- interrupts --- */
void sim_trace_interrupt(struct cpu *c, int gsi) {
    struct lane *l = lane(c);
    l->interrupt = true;
    if (gsi < 0)
        TRACE_EVENT(c, EV_IRQ, l->ec, "timer");
    else
        TRACE_EVENT(c, EV_IRQ, l->ec, "interrupt of line %d", gsi);
}
void sim_trace_interrupt_end(struct cpu *c) { lane(c)->interrupt = false; }

static void pending_add(u32 **list, unsigned *count, unsigned *room, u32 arrow) {
    if (*count == *room) {
        *room = *room ? 2 * *room : 8;
        *list = realloc(*list, *room * sizeof(**list));
        assert(*list);
    }
    (*list)[(*count)++] = arrow;
}

void sim_trace_ipi_send(unsigned to, bool lost) {
    const struct cpu *c = arch_cpu_self(), *target = &sim_cpus[to];
    struct lane *l = lane(c), *t = &trace_lanes[to];
    bool recall = l->ec && l->ec->pending && !l->ec->trapped && l->ec->number_in == HC_EC_CTRL;
    const char *why = recall                      ? "recall"
                      : target->hazard & HZ_SHOOT ? "shootdown"
                      : target->hazard & HZ_INBOX ? "work"
                                                  : "RCU";
    unsigned depth = trace_depth(l->ec);
    u32 e = trace_event_add(c, EV_IPI, l->ec, depth, "IPI to CPU %u (%s)%s", to, why, lost ? ", lost" : "");
    u32 arrow = trace_arrow_add(FLOW_IPI, e, NO_EVENT, to, depth, 0);
    if (!lost)
        pending_add(&t->coming, &t->coming_count, &t->coming_room, arrow);
    if (!strcmp(why, "shootdown"))
        pending_add(&t->shoots, &t->shoot_count, &t->shoot_room,
                    trace_arrow_add(FLOW_SHOOT, e, NO_EVENT, to, depth, 0));
}

void sim_trace_ipi(struct cpu *c) {
    struct lane *l = lane(c);
    u32 e = TRACE_EVENT(c, EV_IPI, l->ec, l->coming_count > 1 ? "IPIs arrive" : "IPI arrives");
    for (unsigned i = 0; i < l->coming_count; i++)
        arrow_end(l->coming[i], e);
    l->coming_count = 0;
}

void sim_trace_flush(struct cpu *c) {
    struct lane *l = lane(c);
    if (!l->shoot_count)
        return;
    u32 e = TRACE_EVENT(c, EV_SHOOT, l->ec, "flushes its TLB for a shootdown");
    for (unsigned i = 0; i < l->shoot_count; i++)
        arrow_end(l->shoots[i], e);
    l->shoot_count = 0;
}

void sim_trace_lock(struct cpu *c, bool waits) { seg_add(c, waits ? TS_LOCK : TS_KERNEL, lane(c)->ec); }

void sim_trace_free(const void *p, size_t size) {
    struct trace_obj *o = trace_obj_freed(p, size);
    if (!o)
        return;
    for (struct trace_obj *e = trace_list[KOBJ_EC]; e; e = e->next) {
        e->blocked = e->blocked == o ? NULL : e->blocked;
        e->helping = e->helping == o ? NULL : e->helping;
    }
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        trace_lanes[i].ran = trace_lanes[i].ran == o ? NULL : trace_lanes[i].ran;
    if (o->number)
        TRACE_EVENT(arch_cpu_self(), EV_OBJECT, lane(arch_cpu_self())->ec, "%s is gone", trace_label(o));
}

void sim_trace_char(char ch) {
    static char line[240];
    static unsigned n;
    if (ch != '\n') {
        if (n + 1 < sizeof(line))
            line[n++] = ch;
        return;
    }
    line[n] = 0;
    n = 0;
    const struct cpu *c = arch_cpu_self();
    const struct trace_obj *who = c->mach.active == c->mach.kernel ? NULL : lane(c)->ec;
    bool bad = !strncmp(line, "sim: expected", 13) || !strncmp(line, "panic", 5) || !strncmp(line, "not ok", 6);
    failures += bad;
    TRACE_EVENT(c, bad ? EV_FAIL : EV_LOG, who, "%s", line);
}
