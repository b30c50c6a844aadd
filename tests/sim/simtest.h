/* What the scenarios share: root's selectors, threads and portals as C functions, a startup handler per CPU.
 *
 *   root's object space: 0x000.. events of root, 0x020 PD EC SC, 0x040.. own, 0x1000 + 0x40 * cpu: events of threads there */
#pragma once
#include "../../userland/lib/nova.h"
#include "core/kmem.h"
#include "sim/cap.h"
#include "sim/sim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define SEL_PD      32ul
#define EVENTS(cpu) (0x1000ul + 0x40 * (cpu))
#define UTCB_BASE   0x20000000ul
#define RAM_VA      0x40000000ul
#define OK(x)       sim_expect_eq((x), NOVA_SUCCESS)
#define PORTAL(fn)  ((u64)(fn))

static u64 next_sel = 0x100, next_utcb = UTCB_BASE;

static inline sel_t sel_new(void) { return next_sel++; }
static inline u64 utcb_new(void) { return next_utcb += PAGE_SIZE; }
/* The running thread's view of a UTCB; good for one access. */
static inline struct abi_utcb *utcb_at(u64 va) { return sim_mem_ptr(va, true); }

struct thread {
    sel_t ec, sc;
    u64 utcb;
    unsigned cpu;
};

static inline struct thread thread_make(unsigned cpu, bool global, u64 sp) {
    struct thread t = {.ec = sel_new(), .utcb = utcb_new(), .cpu = cpu};
    OK(nova_create_ec(t.ec, SEL_PD, t.utcb, cpu, sp, EVENTS(cpu), global));
    return t;
}

/* A portal whose PID is the address of its thread's UTCB unless pid says otherwise. */
static inline sel_t portal_make(const struct thread *t, void (*fn)(u64), u32 mtd, sel_t sel) {
    OK(nova_create_pt(sel, SEL_PD, t->ec, mtd, (u64)fn));
    OK(nova_pt_ctrl(sel, t->utcb));
    return sel;
}

static inline void reply(void) {
    sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY});
    abort();
}

/* STARTUP: a new global thread's stack pointer is the function to run. */
static inline void startup_portal(u64 utcb) {
    u64 fn = utcb_at(utcb)->state.rsp;
    utcb_at(utcb)->state.rip = fn;
    utcb_at(utcb)->state.mtd = MTD_RIP;
    reply();
}

static inline void startup_make(unsigned cpu) {
    struct thread t = thread_make(cpu, false, 0);
    portal_make(&t, startup_portal, MTD_RSP, EVENTS(cpu) + EVT_THREAD_STARTUP);
}

static inline struct thread thread_start(unsigned cpu, unsigned prio, void (*fn)(u64)) {
    struct thread t = thread_make(cpu, true, (u64)fn);
    t.sc = sel_new();
    OK(nova_create_sc(t.sc, SEL_PD, t.ec, QPD_MAKE(prio, 10000)));
    return t;
}

static inline sel_t sem_make(u64 counter) {
    sel_t s = sel_new();
    OK(nova_create_sm(s, SEL_PD, counter));
    return s;
}
static inline void up(sel_t s) { OK(nova_sm_up(s)); }
static inline void down(sel_t s) { OK(nova_sm_down(s, false, 0)); }

/* A portal in root that receives delegations from root itself (ABI section 8: within one PD works too). */
static struct thread grab_thread;
static sel_t grab_pt;
static inline void grab_portal(u64 utcb) {
    (void)utcb;
    reply();
}
static inline u64 grab(u64 my_utcb, u64 crd, u64 hotspot_and_flags, u64 window) {
    if (!grab_pt) {
        grab_thread = thread_make(sim_cpu(), false, 0);
        grab_pt = portal_make(&grab_thread, grab_portal, 0, sel_new());
    }
    utcb_at(grab_thread.utcb)->del = window;
    struct abi_utcb *u = utcb_at(my_utcb);
    u->items = UTCB_ITEMS(0, 1);
    u->w[UTCB_WORDS - 2] = crd;
    u->w[UTCB_WORDS - 1] = hotspot_and_flags | ITEM_DELEGATE;
    OK(nova_call(grab_pt));
    utcb_at(my_utcb)->items = 0;
    return utcb_at(grab_thread.utcb)->w[UTCB_WORDS - 2];
}
/* 2^order pages of free RAM of the machine (page frame `pfn`) at RAM_VA. */
#define RAM_PFN 0x2000ul
static inline void ram_map(u64 my_utcb, unsigned order) {
    u64 to = RAM_VA >> PAGE_SHIFT;
    u64 got = grab(my_utcb, crd_mem(RAM_PFN, order, 7), to << 12 | ITEM_H, crd_mem(to, order, 7));
    sim_expect_eq(got, crd_mem(to, order, 7));
}

/* How often `text` is in what the kernel has logged since the last call. */
static inline unsigned log_lines(const char *text) {
    static u64 position;
    char log[UTCB_WORDS * 8 + 1];
    u64 out[2];
    unsigned n = 0;
    do {
        OK(nova_extension(EXT_KLOG_READ, 0, position, out));
        position = out[0];
        memcpy(log, utcb_at(ABI_ROOT_UTCB)->w, out[1]);
        log[out[1]] = 0;
        for (const char *at = log; (at = strstr(at, text)); at++)
            n++;
    } while (out[1]);
    return n;
}

/* CASE=name in the environment: only that case (tools/sim-scenario). */
__attribute__((constructor)) static void case_choose(void) {
    const char *name = getenv("CASE");
    if (name && *name)
        cmocka_set_test_filter(name);
}

/* One CMocka case: the scenario under `seeds` seeds, half of them on Intel's CPUs; a quarter again with store buffers, and one with the reference model. */
static inline void scenario_on(enum sim_vendor vendor, void (*root)(u64), unsigned cpus, unsigned seeds) {
    struct sim_options o = {.cpus = cpus, .root = root, .check_every = 16, .vendor = vendor};
    assert_int_equal(sim_seeds(&o, 1, seeds, SIM_OK), 0);
    o.store_buffers = true;
    if (!getenv("STOREBUF") && !getenv("TRACE")) /* else it was what that says */
        assert_int_equal(sim_seeds(&o, 1, (seeds + 3) / 4, SIM_OK), 0);
    o.store_buffers = false;
    o.model = true;
    if (!getenv("MODEL") && !getenv("STOREBUF") && !getenv("TRACE"))
        assert_int_equal(sim_seeds(&o, 1001, (seeds + 3) / 4, SIM_OK), 0);
}
/* Preemptions for every_schedule, and seeds, where two or all of them take seconds with sanitizers: then `make check` tries one, and a third of
 * the seeds; check-full (without sanitizers) two and all. */
#ifdef __SANITIZE_ADDRESS__
#define DEEP   1
#define FEW(n) (((n) + 2) / 3)
#else
#define DEEP   2
#define FEW(n) (n)
#endif
/* One CMocka case: what follows sim_begin() on two CPUs in every order with at most so many preemptions; with store buffers, stores stay there
 * until an instruction lets them out. Under ThreadSanitizer each run is a process of its own: there, some orders. */
static inline void every_schedule(void (*root)(u64), int preemptions, bool store_buffers) {
    struct sim_options o = {
        .cpus = 2, .root = root, .setup = true, .store_buffers = store_buffers, .stores_stay = store_buffers};
#ifdef SIM_TSAN
    (void)preemptions;
    assert_int_equal(sim_seeds(&o, 1, 20, SIM_OK), 0);
#else
    o.sched = SIM_EXHAUSTIVE;
    o.preemptions = preemptions;
    u64 runs = sim_count(&o, 1, 200000, SIM_OK);
    assert_true(sim_stats()->exhausted);
    assert_int_equal(runs, sim_stats()->runs);
#endif
}
static inline void scenario(void (*root)(u64), unsigned cpus, unsigned seeds) {
    scenario_on(SIM_ANY, root, cpus, seeds);
}
