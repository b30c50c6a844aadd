/* Goal: items in replies to events (section 4): which window they get; what shuts a thread down is told once (section 4), quietly when its
 * domain dies (section 8). Method: a thread with portals of the case for the events that matter. */
#include "abi.h"

#define VA_HIGH 0x600000000000ul /* 12 * 2^31 pages from 0 */
#define HIGH    (VA_HIGH >> 12)
#define DST     (VA_DST >> 12)
#define RAM     (VA_RAM >> 12)

static struct thread thread, handler;
static sel_t done, base;
static u64 events, item_crd, item_desc, item_count, where;
static volatile u64 result;

static void victim_make(unsigned cpu, u64 ip) {
    static struct thread slot;
    events = 0, result = 0;
    done = sm_new(0), base = sels_new(5);
    thread_local(&handler, SEL_PD, cpu);
    thread_global(&slot, SEL_PD, cpu, ip, 0); /* its stack slot is what the harness' STARTUP portal knows */
    thread = slot;
    thread.ec = sel_new(), thread.utcb = utcb_new();
    slot.ip = ip;
    CHECK_EQ(nova_create_ec(thread.ec, SEL_PD, thread.utcb, abi_cpu[cpu], thread.sp, base, true), NOVA_SUCCESS);
}
static void victim_default(unsigned event) {
    CHECK_EQ(grab(crd_obj(EVENTS(thread.cpu) + event, 0, 0x1f), base + event, 0, WINDOW_ALL(CRD_OBJ)),
             crd_obj(base + event, 0, 0x1f));
}
static void victim_event(unsigned event, u64 ip) {
    CHECK_EQ(nova_create_pt(base + event, SEL_PD, handler.ec, MTD_RIP | MTD_QUAL, ip), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(base + event, (u64)&handler), NOVA_SUCCESS);
}
ENTRY(gives_up) {
    (void)rdi;
    wake_up(done);
}
/* Replies with the case's item once; a second event ends the thread. */
ENTRY(on_event) {
    const struct thread *t = (const struct thread *)rdi;
    u64 rip = utcb_get(t, STATE_WORD(rip));
    utcb_put(t, 0, 0);
    if (events++ || !item_count) {
        utcb_put(t, 0, MTD_RIP | MTD_RSP);
        utcb_put(t, STATE_WORD(rip), IP(gives_up));
        utcb_put(t, STATE_WORD(rsp), thread.sp);
        utcb_set_items(t, 58, 0);
        return;
    }
    if (where) { /* an instruction to be left behind */
        utcb_put(t, 0, MTD_RIP);
        utcb_put(t, STATE_WORD(rip), rip + where);
    }
    for (unsigned i = 0; i < item_count; i++)
        utcb_put_item(t, i, item_crd, item_desc + ((u64)i << 12));
    utcb_set_items(t, 58, item_count);
}
ENTRY(reads_high) {
    (void)rdi;
    result = mem_read64((void *)(VA_HIGH + 0x5008));
    wake_up(done);
}
static void fault_with(u64 crd, u64 desc, u64 n) {
    item_crd = crd, item_desc = desc, item_count = n, where = 0;
    victim_make(0, IP(reads_high));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, IP(on_event));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
}
static void high_clear(void) { CHECK_EQ(nova_revoke(crd_mem(HIGH, 9, 7), true), NOVA_SUCCESS); }

/* Hotspots are page numbers in the window: higher bits do not matter. */
static void window_fault_hotspot(void) {
    static const u64 spot[] = {5, HIGH + 5, 7 * (1ul << 31) + 5, ~0ul << 31 | 5};
    mem_write64((void *)(VA_RAM + 8), 0xbeef);
    for (unsigned i = 0; i < 4; i++) {
        fault_with(crd_mem(RAM, 0, 7), DELEGATE(spot[i], 0), 1);
        CHECK_EQ(result, 0xbeef);
        CHECK_EQ(events, 1);
        high_clear();
    }
}
/* All permissions: what the source has and the item says. */
static void window_fault_permissions(void) {
    for (unsigned perm = 1; perm < 8; perm += 2) {
        fault_with(crd_mem(RAM, 0, perm), DELEGATE(5, 0), 1);
        CHECK_EQ(perms_of(CRD_MEM, HIGH + 5), perm);
        high_clear();
    }
}
/* The window is one of memory: nothing else comes in. */
static void window_fault_memory_only(void) {
    sel_t a = sm_new(0);
    fault_with(crd_obj(a, 0, 0x1f), DELEGATE(5, 0), 1);
    CHECK_EQ(events, 2);
    CHECK_EQ(perms_of(CRD_MEM, HIGH + 5), 0);
    fault_with(crd_pio(0x80, 0), DELEGATE(0, ITEM_H), 1);
    CHECK_EQ(events, 2);
    CHECK_EQ(perms_of(CRD_PIO, 0x80), 0);
}
static void window_fault_126_items(void) {
    mem_write64((void *)(VA_RAM + 8), 0xbeef);
    fault_with(crd_mem(RAM, 0, 7), DELEGATE(5, 0), 126);
    CHECK_EQ(result, 0xbeef);
    CHECK_EQ(events, 1);
    for (unsigned i = 0; i < 128; i++)
        CHECK_EQ(perms_of(CRD_MEM, HIGH + i), i >= 5 && i < 131 ? 7u : 0u);
    high_clear();
}
/* Other events: the range from 0, also for a thread that has had a fault elsewhere before. */
ENTRY(faults_then_undefined) {
    (void)rdi;
    (void)mem_read64((void *)(VA_HIGH + 0x5008));
    machine_undefined();
    result = mem_read64((void *)(VA_DST + 8));
    wake_up(done);
}
ENTRY(on_high_fault) {
    const struct thread *t = (const struct thread *)rdi;
    utcb_put(t, 0, 0);
    utcb_put_item(t, 0, crd_mem(RAM + 1, 0, 7), DELEGATE(5, 0));
    utcb_set_items(t, 58, 1);
}
static void window_other_event(void) {
    mem_write64((void *)(VA_RAM + 8), 0xfade);
    item_crd = crd_mem(RAM, 0, 7), item_desc = DELEGATE(DST, 0), item_count = 1, where = MACHINE_UD_LEN;
    victim_make(0, IP(faults_then_undefined));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, IP(on_high_fault));
    victim_event(6, IP(on_event));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1);
    CHECK_EQ(result, 0xfade);
    high_clear();
}
ENTRY(recalls_itself) {
    (void)rdi;
    (void)mem_read64((void *)(VA_HIGH + 0x5008));
    CHECK_EQ(nova_recall(thread.ec), NOVA_SUCCESS);
    result = mem_read64((void *)(VA_DST + 8));
    wake_up(done);
}
static void window_recall(void) {
    mem_write64((void *)(VA_RAM + 8), 0xdeed);
    item_crd = crd_mem(RAM, 0, 7), item_desc = DELEGATE(DST, 0), item_count = 1, where = 0;
    victim_make(0, IP(recalls_itself));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, IP(on_high_fault));
    victim_event(EVT_THREAD_RECALL, IP(on_event));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1);
    CHECK_EQ(result, 0xdeed);
    high_clear();
}
/* Translate items of a reply have no window: nothing happens. */
static void window_no_translation(void) {
    fault_with(crd_mem(RAM, 0, 7), 0, 1);
    CHECK_EQ(events, 2);
    CHECK_EQ(result, 0);
}

/* --- every exception has its portal at base + vector --- */
ENTRY(raises) {
    (void)rdi;
    machine_raise((unsigned)thread.arg);
    wake_up(done);
}
static void event_each_vector(void) {
    item_count = 0;
    for (unsigned v = 0; v < EVT_THREAD_STARTUP && !abi_failed(); v++) {
        if (!machine_can_raise(v))
            continue;
        victim_make(0, IP(raises));
        victim_default(EVT_THREAD_STARTUP);
        victim_event(v, IP(on_event));
        thread.arg = v;
        thread_run(&thread, PRIO_MAIN);
        wait_for(done);
        CHECK_EQ(events, 1);
    }
}

/* --- shut down: the log says which and why, once --- */
static u64 log_end;
static unsigned log_count(const char *what) {
    unsigned hits = 0, n = 0;
    u64 out[2];
    do {
        CHECK_EQ(nova_extension(EXT_KLOG_READ, 0, log_end, out), NOVA_SUCCESS);
        for (u64 i = 0; i < out[1]; i++) {
            u64 word = utcb_get(&abi_main_thread, (unsigned)(i / 8));
            char c = (char)(word >> (8 * (i % 8)));
            n = c == what[n] ? n + 1 : c == what[0];
            if (!what[n]) {
                hits++;
                n = 0;
            }
        }
        log_end = out[0];
    } while (out[1] && !abi_failed());
    return hits;
}
/* The log names a thread by its event base. */
static const char *log_name(void) {
    static char text[] = "event base 0000,";
    for (unsigned i = 0; i < 4; i++)
        text[11 + i] = "0123456789abcdef"[base >> (12 - 4 * i) & 0xf];
    return text;
}
static void shut_down(void) {
    u64 a, b;
    (void)log_count("-");
    thread_run(&thread, PRIO_MAIN);
    pause_us(50000);
    CHECK_EQ(nova_sc_time(thread.sc, &a), NOVA_SUCCESS);
    pause_us(1000);
    CHECK_EQ(nova_sc_time(thread.sc, &b), NOVA_SUCCESS);
    CHECK_EQ(a, b);
    CHECK_EQ(result, 0);
    CHECK_EQ(nova_recall(thread.ec), NOVA_SUCCESS);
    pause_us(1000);
    CHECK_EQ(log_count(log_name()), 1);
}
ENTRY(dies) {
    (void)rdi;
    machine_undefined();
    result = 1;
}
static void event_down_is_logged(void) {
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    shut_down();
}
/* An event is a call: without the permission there is no portal. */
static void event_portal_without_call(void) {
    item_count = 0;
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    sel_t full = sel_new();
    CHECK_EQ(nova_create_pt(full, SEL_PD, handler.ec, MTD_RIP, IP(on_event)), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(full, (u64)&handler), NOVA_SUCCESS);
    CHECK(grab(crd_obj(full, 0, PERM_PT_CT), base + 6, 0, WINDOW_ALL(CRD_OBJ)) != 0);
    shut_down();
    CHECK_EQ(events, 0);
    victim_make(0, IP(dies)); /* and with it alone there is */
    victim_default(EVT_THREAD_STARTUP);
    full = sel_new();
    CHECK_EQ(nova_create_pt(full, SEL_PD, handler.ec, MTD_RIP, IP(on_event)), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(full, (u64)&handler), NOVA_SUCCESS);
    CHECK(grab(crd_obj(full, 0, PERM_PT_CALL), base + 6, 0, WINDOW_ALL(CRD_OBJ)) != 0);
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1);
}
/* The handler's thread has been shut down: its portal leads nowhere. */
static void event_handler_dead(void) {
    item_count = 0;
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    static struct thread bad;
    sel_t own = sels_new(5), pt = sel_new();
    thread_local(&bad, SEL_PD, 0);
    sel_t ec = sel_new();
    CHECK_EQ(nova_create_ec(ec, SEL_PD, utcb_new(), abi_cpu[0], bad.sp, own, false), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(pt, SEL_PD, ec, 0, IP(dies)), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_ABORTED);
    CHECK_EQ(nova_create_pt(base + 6, SEL_PD, ec, 0, IP(dies)), NOVA_SUCCESS);
    shut_down();
}
/* A dying domain's threads go without a word, though they have no portals. */
ENTRY(child_faults) {
    (void)rdi;
    wake_up(HS_READY);
    for (u64 end = clock_after_us(WAIT_US); machine_clock() < end;)
        machine_relax();
}
static void event_of_dying_domain_is_quiet(void) {
    static struct thread child;
    sel_t pd = child_new(1);
    thread_global(&child, pd, 1, IP(child_faults), 0);
    thread_run(&child, PRIO_MAIN);
    wait_for(EVENTS(1) + HS_READY);
    (void)log_count("-");
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    u64 a = 0, b = 1;
    for (unsigned i = 0; i < 200 && a != b; i++) {
        a = b;
        pause_us(1000);
        CHECK_EQ(nova_sc_time(child.sc, &b), NOVA_SUCCESS);
    }
    CHECK_EQ(a, b);
    CHECK_EQ(log_count("is shut down"), 0);
}

const struct abi_case window_cases[] = {
    CASE(window_fault_hotspot),
    CASE(window_fault_permissions),
    CASE(window_fault_memory_only),
    CASE(window_fault_126_items),
    CASE(window_other_event),
    CASE(window_recall),
    CASE(window_no_translation),
    CASE(event_each_vector),
    CASE(event_down_is_logged),
    CASE(event_portal_without_call),
    CASE(event_handler_dead),
    CASE_CPUS(event_of_dying_domain_is_quiet, 2),
    {0},
};
