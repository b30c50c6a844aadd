/* The interface suite (docs/abi.md): one program, root's first EC, the same source in the simulator and on hardware. It knows the
 * kernel by hypercalls and mem_* accessors only; what differs between the two machines stands in machine.h.
 *
 *   root's object space                          addresses
 *   0x000  event portals of the main EC          VA_RAM    RAM_PAGES pages of ordinary memory (H)
 *   0x020  PD, EC, SC of root (ABI section 7)    VA_UTCB   UTCBs, never used twice
 *   0x040  harness                               VA_DST    where delegated memory lands
 *   0x100  + 0x40 per CPU: event portals of threads there, then HS_*; a child PD gets such a block at 0
 *   SCRATCH ...  a case's own; revoked after it, and so is everything derived from VA_RAM and everything in VA_DST */
#pragma once
#include "machine.h"
#include "nova.h"

typedef uint64_t u64;
typedef uint32_t u32;

#define SEL_PD        32ul
#define SEL_EC        33ul
#define SEL_SC        34ul
#define SEL_NEVER     0x40ul                 /* semaphore that nobody ups */
#define SEL_GRAB      0x41ul                 /* portal: delegates within root's own PD */
#define EVENTS(k)     (0x100ul + 0x40 * (k)) /* event base of threads on CPU index k */
#define HS_READY      0x20ul                 /* in such a block: semaphore, child PDs say that they run */
#define HS_BLOCK      0x22ul                 /* semaphore that nobody ups */
#define HS_GIVE       0x21ul /* portal: w0 = CRD of root's to delegate to the caller, w1 = hotspot, w2 = flags */
#define SCRATCH       0x1000ul
#define SCRATCH_ORDER 12u

#define VA_RAM    0x40000000ul
#define RAM_ORDER 5u
#define RAM_PAGES (1ul << RAM_ORDER)
#define VA_UTCB   0x50000000ul
#define VA_DST    0x60000000ul
#define DST_ORDER 10u
extern u64 abi_ram_page; /* frame behind VA_RAM; as much ordinary memory lies below */
#define PAGE      0x1000ul
#define PRIO_MAIN 64u

#define ABI_CPUS_MAX 4u
extern unsigned abi_cpus;                              /* CPUs that the suite uses */
extern u32 abi_cpu[ABI_CPUS_MAX];                      /* their kernel numbers; index 0 is where the main EC runs */
extern u64 abi_boot_cpu, abi_boot_rsp, abi_boot_flags; /* RDI, RSP and RFLAGS at root's start */

/* A thread of the suite. Thread functions get a pointer to theirs in RDI; portals have it as PID unless a case sets another one. */
struct thread {
    sel_t ec, sc;
    sel_t pd; /* owner */
    u64 utcb, sp;
    unsigned cpu; /* index */
    bool child;   /* not in root's PD */
    u64 arg;      /* for the case */
    u64 ip;       /* where STARTUP sends it */
};
extern struct thread abi_main_thread;

/* --- checks: record the first failure of the case and go on; from any thread --- */
void abi_check(bool ok, const char *what, const char *file, unsigned line, u64 got, u64 want);
#define CHECK(x) abi_check((x), #x, __FILE__, __LINE__, 0, 0)
#define CHECK_EQ(a, b)                                                                                                 \
    do {                                                                                                               \
        u64 got_ = (u64)(a), want_ = (u64)(b);                                                                         \
        abi_check(got_ == want_, #a " == " #b, __FILE__, __LINE__, got_, want_);                                       \
    } while (0)
bool abi_failed(void);

struct abi_case {
    const char *name;
    void (*run)(void);
    unsigned cpus; /* needs that many */
    u32 features;  /* HIP features of which one must be there; 0: none */
};
#define CASE(name)                                                                                                     \
    { #name, name, 1, 0 }
#define CASE_CPUS(name, n)                                                                                             \
    { #name, name, n, 0 }
#define CASE_FEATURE(name, f)                                                                                          \
    { #name, name, 1, f }
extern const struct abi_case boot_cases[], call_cases[], create_cases[], delegate_cases[], revoke_cases[], ctrl_cases[],
    sm_cases[], assign_cases[], extension_cases[], event_cases[], help_cases[], life_cases[], vcpu_cases[],
    state_cases[], window_cases[], check_cases[], sched_cases[], cycle_cases[], entry_cases[];

/* --- the program around the cases --- */
void abi_setup(void);
void abi_case_begin(void);
void abi_case_end(void); /* everything back to what a case starts from */
void abi_report(unsigned number, const char *name);
struct line { /* of text for machine_out */
    char text[400];
    unsigned n;
};
void line_text(struct line *l, const char *s);
void line_number(struct line *l, u64 v, unsigned base);

/* --- selectors, threads, portals of a case --- */
sel_t sel_new(void);
sel_t sels_new(unsigned order);
/* Revokes these scratch selectors (of sels_new) and hands them out again, those behind them too. */
void scratch_clear(sel_t from, unsigned order);
u64 utcb_new(void); /* an address */
/* Selector of a fresh object, with a check that it was made. */
sel_t sm_new(u64 counter);
/* Threads on CPU index `cpu`. `pd`: SEL_PD or a child's. */
void thread_local(struct thread *t, sel_t pd, unsigned cpu);
void thread_global(struct thread *t, sel_t pd, unsigned cpu, u64 ip, u64 arg);     /* without SC */
void thread_run(struct thread *t, unsigned prio);                                  /* makes the SC */
void thread_start(struct thread *t, unsigned cpu, unsigned prio, u64 ip, u64 arg); /* both, in root's PD */
sel_t portal_new(const struct thread *t, u32 mtd, u64 ip);
/* A PD that shares the suite's code and data; its selectors 0.. are EVENTS(cpu).. of root. Returns its selector in root's space. */
sel_t child_new(unsigned cpu);
/* Called in a child: fetches root's capability range into the window. */
u64 child_fetch(const struct thread *self, u64 crd, u64 hotspot, u64 flags, u64 window);

/* --- UTCBs: i = word of the data area --- */
static inline u64 utcb_get(const struct thread *t, unsigned i) {
    return mem_read64((void *)(t->utcb + 0x20 + 8ul * i));
}
static inline void utcb_put(const struct thread *t, unsigned i, u64 v) {
    mem_write64((void *)(t->utcb + 0x20 + 8ul * i), v);
}
static inline u64 utcb_items(const struct thread *t) { return mem_read64((void *)t->utcb); }
static inline void utcb_set_items(const struct thread *t, u64 u, u64 n) {
    mem_write64((void *)t->utcb, UTCB_ITEMS(u, n));
}
static inline void utcb_windows(const struct thread *t, u64 xlt, u64 del) {
    mem_write64((void *)(t->utcb + 8), xlt);
    mem_write64((void *)(t->utcb + 16), del);
}
/* Typed item n, counted from the top. */
static inline void utcb_put_item(const struct thread *t, unsigned n, u64 crd, u64 desc) {
    utcb_put(t, UTCB_WORDS - 2 - 2 * n, crd);
    utcb_put(t, UTCB_WORDS - 1 - 2 * n, desc);
}
static inline u64 utcb_item_crd(const struct thread *t, unsigned n) { return utcb_get(t, UTCB_WORDS - 2 - 2 * n); }
static inline u64 utcb_item_desc(const struct thread *t, unsigned n) { return utcb_get(t, UTCB_WORDS - 1 - 2 * n); }
#define STATE_WORD(field)        (offsetof(struct abi_state, field) / 8)
#define DELEGATE(hotspot, flags) ((u64)(hotspot) << 12 | (u64)(flags) | ITEM_DELEGATE)
#define WINDOW_ALL(type)         CRD_MAKE(type, 0, 31, 0x1f)

/* Delegates within root's PD: root's range `crd` at `hotspot` into `window`. Returns the CRD that the receiver saw, or ~0 if the
 * call failed. */
u64 grab(u64 crd, u64 hotspot, u64 flags, u64 window);
/* The same for one capability, which must arrive: a copy with permission mask `perm` at a new selector. */
sel_t copy_new(sel_t sel, unsigned perm);
/* The node that covers a selector: permissions, 0: none. */
unsigned perms_of(unsigned type, u64 base);

/* --- waiting --- */
#define WAIT_US 60000000ul /* what should come has come by then, on a starved emulator too */
u64 clock_after_us(u64 us);
u64 abi_tsc_khz(void);
/* Down with a generous deadline; a timeout fails the case. */
void wait_for(sel_t sm);
bool wait_quiet(sel_t sm, u64 us); /* false: timed out */
void pause_us(u64 us);
static inline void wake_up(sel_t sm) { CHECK_EQ(nova_sm_up(sm), NOVA_SUCCESS); }
/* Busy for that long: for budgets and priorities only. */
void burn_us(u64 us);

/* Entry point at which a thread blocks for good (a local one replies). */

u64 abi_exit_ip(void);
/* Exceptions of threads with EVENTS(k) that no case expects; the count since the case began. Expected ones: set `abi_expect_events`. */
extern unsigned abi_events_seen;
extern bool abi_expect_events;

/* "# WHAT N": a figure for whoever reads the output. */
void abi_note(const char *what, u64 n);
/* Pseudo-random numbers, from the machine's seed on. */
extern u64 abi_seed;
u32 abi_random(u32 n);
