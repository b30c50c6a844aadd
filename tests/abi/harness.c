/* Threads, portals and memory of a case; what every case starts from and is brought back to. */
#include "abi.h"

#define GRAB_UTCB       (VA_UTCB - 0x10000)
#define HANDLER_UTCB(k) (VA_UTCB - 0x20000 + (k)*PAGE)
#define GIVE_UTCB(k)    (VA_UTCB - 0x30000 + (k)*PAGE)
#define SEL_HANDLER(k)  (0x48ul + (k))
#define SEL_GIVER(k)    (0x50ul + (k))

unsigned abi_cpus;
u64 abi_boot_cpu, abi_boot_rsp, abi_boot_flags, abi_ram_page;
u32 abi_cpu[ABI_CPUS_MAX];
struct thread abi_main_thread = {.ec = SEL_EC, .sc = SEL_SC, .pd = SEL_PD, .utcb = ABI_ROOT_UTCB};
unsigned abi_events_seen;
bool abi_expect_events;

static struct thread handler[ABI_CPUS_MAX], giver[ABI_CPUS_MAX], grabber;
static struct thread *slots[MACHINE_STACKS];
static unsigned next_slot;
static sel_t next_sel = SCRATCH;
static u64 next_utcb = VA_UTCB;
u64 abi_seed;
static u64 random_state;

/* --- numbers --- */
u32 abi_random(u32 n) {
    random_state = random_state * 6364136223846793005ul + 1442695040888963407ul;
    return n ? (u32)(random_state >> 33) % n : 0;
}

static u64 tsc_khz; /* children cannot read the HIP */
u64 abi_tsc_khz(void) { return tsc_khz; }

u64 clock_after_us(u64 us) { return machine_clock() + us * abi_tsc_khz() / 1000; }

bool wait_quiet(sel_t sm, u64 us) { return nova_sm_down(sm, false, clock_after_us(us)) == NOVA_SUCCESS; }

void wait_for(sel_t sm) { CHECK_EQ(nova_sm_down(sm, false, clock_after_us(WAIT_US)), NOVA_SUCCESS); }

void pause_us(u64 us) { (void)nova_sm_down(SEL_NEVER, false, clock_after_us(us)); }

void burn_us(u64 us) {
    for (u64 end = clock_after_us(us); machine_clock() < end;)
        machine_relax();
}

/* --- selectors and addresses --- */
sel_t sels_new(unsigned order) {
    next_sel = (next_sel + (1ul << order) - 1) & ~((1ul << order) - 1);
    sel_t s = next_sel;
    next_sel += 1ul << order;
    CHECK(next_sel <= SCRATCH + (1ul << SCRATCH_ORDER));
    return s;
}

sel_t sel_new(void) { return sels_new(0); }

u64 utcb_new(void) {
    next_utcb += PAGE;
    return next_utcb - PAGE;
}

sel_t sm_new(u64 counter) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_sm(s, SEL_PD, counter), NOVA_SUCCESS);
    return s;
}

unsigned perms_of(unsigned type, u64 base) {
    u64 crd = CRD_MAKE(type, base, 0, 0x1f);
    CHECK_EQ(nova_lookup(&crd), NOVA_SUCCESS);
    return CRD_TYPE(crd) == CRD_NULL ? 0 : CRD_PERM(crd);
}

/* --- threads --- */
static void slot_take(struct thread *t) {
    next_slot = (next_slot + 1) % MACHINE_STACKS;
    if (next_slot < 2 * ABI_CPUS_MAX + 1)
        next_slot = 2 * ABI_CPUS_MAX + 1; /* those of the harness stay */
    slots[next_slot] = t;
    t->sp = machine_stack_top(next_slot);
}

static u64 event_base(const struct thread *t) { return t->child ? 0 : EVENTS(t->cpu); }

static void thread_make(struct thread *t, sel_t pd, unsigned cpu, bool global) {
    t->pd = pd;
    t->child = pd != SEL_PD;
    t->cpu = cpu;
    t->ec = sel_new();
    t->sc = 0;
    t->utcb = utcb_new();
    slot_take(t);
    CHECK_EQ(nova_create_ec(t->ec, pd, t->utcb, abi_cpu[cpu], t->sp, event_base(t), global), NOVA_SUCCESS);
}

void thread_local(struct thread *t, sel_t pd, unsigned cpu) { thread_make(t, pd, cpu, false); }

void thread_global(struct thread *t, sel_t pd, unsigned cpu, u64 ip, u64 arg) {
    t->ip = ip;
    t->arg = arg;
    thread_make(t, pd, cpu, true);
}

void thread_run(struct thread *t, unsigned prio) {
    t->sc = sel_new();
    CHECK_EQ(nova_create_sc(t->sc, SEL_PD, t->ec, QPD_MAKE(prio, 10000)), NOVA_SUCCESS);
}

void thread_start(struct thread *t, unsigned cpu, unsigned prio, u64 ip, u64 arg) {
    thread_global(t, SEL_PD, cpu, ip, arg);
    thread_run(t, prio);
}

sel_t portal_new(const struct thread *t, u32 mtd, u64 ip) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_pt(s, SEL_PD, t->ec, mtd, ip), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(s, (u64)t), NOVA_SUCCESS);
    return s;
}

/* --- portals of the harness --- */
ENTRY(exit_entry) { (void)rdi; }
u64 abi_exit_ip(void) { return IP(exit_entry); }

/* STARTUP: the thread goes to its function. One in a child gets the suite's pages with the reply. */
ENTRY(startup_portal) {
    const struct thread *h = (const struct thread *)rdi;
    unsigned slot = machine_stack_slot(utcb_get(h, STATE_WORD(rsp)));
    const struct thread *t = slot < MACHINE_STACKS ? slots[slot] : NULL;
    if (!t) {
        CHECK(!"STARTUP of a known thread");
        return;
    }
    u64 first, pages = machine_image(&first);
    utcb_put(h, 0, MTD_RIP | MTD_BSD);
    utcb_put(h, STATE_WORD(rip), t->ip);
    utcb_put(h, STATE_WORD(rdi), (u64)t);
    utcb_put(h, STATE_WORD(rbp), 0);
    unsigned n = 0;
    for (u64 at = first; t->child && at < first + pages; n++) {
        unsigned order = 0;
        while (!(at >> order & 1) && at + (2ul << order) <= first + pages)
            order++;
        utcb_put_item(h, n, crd_mem(at, order, PERM_MEM_ALL), DELEGATE(at, 0));
        at += 1ul << order;
    }
    utcb_set_items(h, ABI_STATE_WORDS, n);
}

/* Any other event: counted, and the thread blocks for good, or goes on after a probe. */
static void fault_handle(unsigned vector, const struct thread *h) {
    u64 rip = utcb_get(h, STATE_WORD(rip));
    u64 over = vector == 14 ? machine_probe_fixup(rip) : 0;
    utcb_put(h, 0, MTD_RIP);
    utcb_put(h, STATE_WORD(rip), over ? over : abi_exit_ip());
    if (over)
        return;
    abi_events_seen++;
    if (!abi_expect_events)
        abi_check(false, "no exception", "vector, address", vector, utcb_get(h, STATE_WORD(qual) + 1), rip);
}

/* PID: vector << 8 | CPU index. */
ENTRY(fault_portal) { fault_handle((unsigned)(rdi >> 8), &handler[rdi & 0xff]); }

ENTRY(recall_portal) { utcb_put(&handler[rdi & 0xff], 0, 0); }

ENTRY(grab_portal) {
    (void)rdi;
    utcb_set_items(&grabber, 0, 0);
}

/* w0 CRD, w1 hotspot, w2 flags of a delegation to the caller. */
ENTRY(give_portal) {
    const struct thread *t = (const struct thread *)rdi;
    u64 crd = utcb_get(t, 0), hotspot = utcb_get(t, 1), flags = utcb_get(t, 2);
    utcb_put_item(t, 0, crd, DELEGATE(hotspot, flags));
    utcb_set_items(t, 0, 1);
}

static void local_make(struct thread *t, unsigned cpu, sel_t ec, u64 utcb, unsigned slot) {
    *t = (struct thread){.ec = ec, .pd = SEL_PD, .utcb = utcb, .cpu = cpu, .sp = machine_stack_top(slot)};
    slots[slot] = t;
    CHECK_EQ(nova_create_ec(ec, SEL_PD, utcb, abi_cpu[cpu], t->sp, EVENTS(cpu), false), NOVA_SUCCESS);
}

static void portal_make(sel_t sel, const struct thread *t, u32 mtd, u64 ip, u64 pid) {
    CHECK_EQ(nova_create_pt(sel, SEL_PD, t->ec, mtd, ip), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(sel, pid), NOVA_SUCCESS);
}

static void events_make(sel_t base, unsigned cpu) {
    const struct thread *h = &handler[cpu];
    for (unsigned v = 0; v < EVT_THREAD_STARTUP; v++)
        portal_make(base + v, h, MTD_RIP | MTD_RSP | MTD_QUAL, IP(fault_portal), v << 8 | cpu);
    portal_make(base + EVT_THREAD_RECALL, h, 0, IP(recall_portal), cpu);
    if (base)
        portal_make(base + EVT_THREAD_STARTUP, h, MTD_RSP, IP(startup_portal), (u64)h);
}

static void cpu_setup(unsigned k) {
    local_make(&handler[k], k, SEL_HANDLER(k), HANDLER_UTCB(k), 1 + k);
    local_make(&giver[k], k, SEL_GIVER(k), GIVE_UTCB(k), 1 + ABI_CPUS_MAX + k);
    events_make(EVENTS(k), k);
    CHECK_EQ(nova_create_sm(EVENTS(k) + HS_READY, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(EVENTS(k) + HS_BLOCK, SEL_PD, 0), NOVA_SUCCESS);
    portal_make(EVENTS(k) + HS_GIVE, &giver[k], 0, IP(give_portal), (u64)&giver[k]);
}

/* The page frame of a block of ordinary memory that no boot module touches; 0: none. */
static u64 ram_find(void) {
    u64 length = mem_read64((void *)ABI_HIP_ADDR) >> 48;
    for (u64 o = offsetof(struct abi_hip, mem); o + sizeof(struct abi_hip_mem_desc) <= length;
         o += sizeof(struct abi_hip_mem_desc)) {
        u64 addr = mem_read64((void *)(ABI_HIP_ADDR + o)), size = mem_read64((void *)(ABI_HIP_ADDR + o + 8));
        u64 block = RAM_PAGES * PAGE, end = addr + size;
        if ((u32)mem_read64((void *)(ABI_HIP_ADDR + o + 16)) != HIP_MEM_RAM)
            continue;
        for (u64 at = (end - block) & ~(block - 1); at >= addr && at >= 0x100000 && at < end; at -= block) {
            bool hit = false;
            for (u64 m = offsetof(struct abi_hip, mem); m < length; m += sizeof(struct abi_hip_mem_desc)) {
                u64 a = mem_read64((void *)(ABI_HIP_ADDR + m)), s = mem_read64((void *)(ABI_HIP_ADDR + m + 8));
                int type = (int)(u32)mem_read64((void *)(ABI_HIP_ADDR + m + 16));
                hit |= type != HIP_MEM_RAM && at < a + s + PAGE && a < at + block;
            }
            if (!hit)
                return at >> 12;
        }
    }
    return 0;
}

void abi_setup(void) {
    tsc_khz = mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, tsc_khz))) & 0xffffffff;
    abi_main_thread.cpu = 0;
    abi_cpu[abi_cpus++] = (u32)abi_boot_cpu;
    for (u32 i = 0; i < ABI_MAX_CPUS && abi_cpus < ABI_CPUS_MAX; i++)
        if ((mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, cpu) + 8 * i)) & 1) && i != abi_boot_cpu)
            abi_cpu[abi_cpus++] = i;
    CHECK_EQ(nova_create_sm(SEL_NEVER, SEL_PD, 0), NOVA_SUCCESS);
    for (unsigned k = 0; k < abi_cpus; k++)
        cpu_setup(k);
    events_make(0, 0);
    local_make(&grabber, 0, SEL_GRAB + 1, GRAB_UTCB, 0);
    portal_make(SEL_GRAB, &grabber, 0, IP(grab_portal), 0);
    machine_init();
    random_state = abi_seed = machine_seed();
    u64 ram = abi_ram_page = ram_find();
    CHECK(ram != 0);
    CHECK_EQ(grab(crd_mem(ram, RAM_ORDER, PERM_MEM_ALL), VA_RAM >> 12, ITEM_H,
                  crd_mem(VA_RAM >> 12, RAM_ORDER, PERM_MEM_ALL)),
             crd_mem(VA_RAM >> 12, RAM_ORDER, PERM_MEM_ALL));
}

u64 grab(u64 crd, u64 hotspot, u64 flags, u64 window) {
    struct thread *m = &abi_main_thread;
    utcb_windows(&grabber, 0, window);
    utcb_put_item(m, 0, crd, DELEGATE(hotspot, flags));
    utcb_set_items(m, 0, 1);
    u64 status = nova_call(SEL_GRAB);
    utcb_set_items(m, 0, 0);
    return status == NOVA_SUCCESS ? utcb_item_crd(&grabber, 0) : ~0ul;
}

sel_t copy_new(sel_t sel, unsigned perm) {
    sel_t to = sel_new();
    u64 got = grab(crd_obj(sel, 0, perm), to, 0, WINDOW_ALL(CRD_OBJ));
    CHECK_EQ(got, crd_obj(to, 0, perm));
    return to;
}

/* --- child PDs --- */
ENTRY(child_loader) {
    (void)rdi;
    wake_up(HS_READY);
}

sel_t child_new(unsigned cpu) {
    static struct thread loader[16];
    static unsigned next;
    struct thread *t = &loader[next++ % 16];
    sel_t pd = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, crd_obj(EVENTS(cpu), 6, 0x1f)), NOVA_SUCCESS);
    thread_global(t, pd, cpu, IP(child_loader), 0);
    thread_run(t, PRIO_MAIN + 1);
    wait_for(EVENTS(cpu) + HS_READY);
    return pd;
}

u64 child_fetch(const struct thread *self, u64 crd, u64 hotspot, u64 flags, u64 window) {
    utcb_windows(self, 0, window);
    utcb_put(self, 0, crd);
    utcb_put(self, 1, hotspot);
    utcb_put(self, 2, flags);
    utcb_set_items(self, 3, 0);
    return nova_call(HS_GIVE) == NOVA_SUCCESS ? utcb_item_crd(self, 0) : ~0ul;
}

/* --- cases --- */
static struct {
    bool failed;
    const char *what, *file;
    unsigned line;
    u64 got, want;
} first;

void abi_check(bool ok, const char *what, const char *file, unsigned line, u64 got, u64 want) {
    if (ok || first.failed)
        return;
    first.failed = true;
    first.what = what, first.file = file, first.line = line, first.got = got, first.want = want;
}

bool abi_failed(void) { return first.failed; }

void line_text(struct line *l, const char *s) {
    while (*s && l->n + 1 < sizeof(l->text))
        l->text[l->n++] = *s++;
    l->text[l->n] = 0;
}

void line_number(struct line *l, u64 v, unsigned base) {
    char buf[24];
    unsigned n = sizeof(buf);
    buf[--n] = 0;
    do
        buf[--n] = "0123456789abcdef"[v % base];
    while (v /= base);
    line_text(l, buf + n);
}

void abi_report(unsigned number, const char *name) {
    struct line l = {.n = 0};
    line_text(&l, first.failed ? "not ok " : "ok ");
    line_number(&l, number, 10);
    line_text(&l, " - ");
    line_text(&l, name);
    if (first.failed) {
        const char *file = first.file;
        for (const char *p = file; *p; p++)
            file = *p == '/' ? p + 1 : file;
        line_text(&l, ": ");
        line_text(&l, first.what);
        line_text(&l, " (");
        line_text(&l, file);
        line_text(&l, ":");
        line_number(&l, first.line, 10);
        line_text(&l, ", got 0x");
        line_number(&l, first.got, 16);
        line_text(&l, ", wants 0x");
        line_number(&l, first.want, 16);
        line_text(&l, ")");
    }
    line_text(&l, "\n");
    machine_out(l.text);
}

void scratch_clear(sel_t from, unsigned order) {
    CHECK_EQ(nova_revoke(crd_obj(from, order, 0x1f), true), NOVA_SUCCESS);
    next_sel = from;
}

void abi_case_begin(void) {
    first.failed = false;
    abi_events_seen = 0;
    abi_expect_events = false;
}

void abi_case_end(void) {
    scratch_clear(SCRATCH, SCRATCH_ORDER);
    CHECK_EQ(nova_revoke(crd_mem(VA_DST >> 12, DST_ORDER, PERM_MEM_ALL), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_mem(VA_RAM >> 12, RAM_ORDER, PERM_MEM_ALL), false), NOVA_SUCCESS);
    for (unsigned k = 0; k < abi_cpus; k++)
        while (wait_quiet(EVENTS(k) + HS_READY, 0))
            ;
    utcb_set_items(&abi_main_thread, 0, 0);
    utcb_windows(&abi_main_thread, 0, 0);
}

void abi_note(const char *what, u64 n) {
    struct line l = {.n = 0};
    line_text(&l, "# ");
    line_text(&l, what);
    line_text(&l, " ");
    line_number(&l, n, 10);
    line_text(&l, "\n");
    machine_out(l.text);
}
