/* Goal: events of threads, section 4 and the MTD of section 3: STARTUP, exceptions, page faults with items in the reply, what shuts a
 * thread down. Method: a thread with an event base of its own whose portals belong to a handler of the case. */
#include "abi.h"

static struct thread thread, handler;
static sel_t done, base;
static u64 seen_items, seen[UTCB_WORDS], events;
static volatile u64 result; /* of a thread that may fault at any instruction */

static void look(const struct thread *t) {
    events++;
    seen_items = utcb_items(t);
    for (unsigned i = 0; i < ABI_STATE_EXT_WORDS; i++)
        seen[i] = utcb_get(t, i);
}

/* Thread on CPU index `cpu` that runs `ip` with portals of the case at base..; `events_of`: which events go to the case's handler. */
static void victim_make(unsigned cpu, u64 ip) {
    static struct thread slot;
    events = 0;
    done = sm_new(0);
    base = sels_new(5);
    thread_local(&handler, SEL_PD, cpu);
    thread_global(&slot, SEL_PD, cpu, ip, 0); /* its stack slot is what the harness' STARTUP portal knows */
    thread = slot;
    thread.ec = sel_new();
    thread.utcb = utcb_new();
    slot.ip = ip;
    CHECK_EQ(nova_create_ec(thread.ec, SEL_PD, thread.utcb, abi_cpu[cpu], thread.sp, base, true), NOVA_SUCCESS);
}
static void victim_default(unsigned event) { /* the harness' portal */
    CHECK_EQ(grab(crd_obj(EVENTS(thread.cpu) + event, 0, 0x1f), base + event, 0, WINDOW_ALL(CRD_OBJ)),
             crd_obj(base + event, 0, 0x1f));
}
static void victim_event(unsigned event, u32 mtd, u64 ip) {
    CHECK_EQ(nova_create_pt(base + event, SEL_PD, handler.ec, mtd, ip), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(base + event, (u64)&handler), NOVA_SUCCESS);
}
static void fill(const struct thread *t, u64 v) {
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        utcb_put(t, i, v);
}

/* Reply: to that entry point with a fresh stack. */
static void go_to(const struct thread *t, u64 ip) {
    utcb_put(t, 0, MTD_RIP | MTD_RSP);
    utcb_put(t, STATE_WORD(rip), ip);
    utcb_put(t, STATE_WORD(rsp), thread.sp);
}

/* --- STARTUP --- */
ENTRY(says_done) {
    (void)rdi;
    wake_up(done);
}
ENTRY(on_startup) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    utcb_put(t, 0, MTD_RIP | MTD_BSD);
    utcb_put(t, STATE_WORD(rip), IP(says_done));
    utcb_put(t, STATE_WORD(rdi), 0);
    utcb_put(t, STATE_WORD(rbp), 0);
}
static void startup_message(void) {
    victim_make(0, 0);
    victim_event(EVT_THREAD_STARTUP, MTD_RSP | MTD_RIP | MTD_RFLAGS | MTD_ACDB, IP(on_startup));
    fill(&handler, 0x5a5a);
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1); /* once */
    CHECK_EQ(seen_items, UTCB_ITEMS(58, 0));
    CHECK_EQ(seen[0], MTD_RSP | MTD_RIP | MTD_RFLAGS | MTD_ACDB);
    CHECK_EQ(seen[STATE_WORD(rsp)], thread.sp);
    CHECK_EQ(seen[STATE_WORD(rflags)] & 0x202, 0x202);
    CHECK_EQ(seen[STATE_WORD(rbx)], 0);
    CHECK_EQ(seen[STATE_WORD(rsi)], 0x5a5a); /* not in the MTD: stays as it was */
    CHECK_EQ(seen[STATE_WORD(qual)], 0x5a5a);
}

/* --- exceptions --- */
static u32 reply_mtd;
ENTRY(on_exception) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    utcb_put(t, 0, reply_mtd | (MACHINE_UD_LEN ? MTD_RIP : 0));
    if (MACHINE_UD_LEN)
        utcb_put(t, STATE_WORD(rip), seen[STATE_WORD(rip)] + MACHINE_UD_LEN);
}
ENTRY(undefined) {
    (void)rdi;
    machine_undefined();
    result++;
    machine_undefined();
    result++;
    wake_up(done);
}
static void exception_message(void) {
    result = 0;
    victim_make(0, IP(undefined));
    victim_default(EVT_THREAD_STARTUP);
    reply_mtd = 0;
    victim_event(6, MTD_RIP | MTD_QUAL | MTD_BSD, IP(on_exception));
    fill(&handler, 0x4b4b);
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 2);
    CHECK_EQ(result, 2);
    CHECK_EQ(seen_items, UTCB_ITEMS(58, 0));
    CHECK_EQ(seen[0], MTD_RIP | MTD_QUAL | MTD_BSD);
    CHECK_EQ(seen[STATE_WORD(qual)], 0); /* #UD has no error code */
    CHECK_EQ(seen[STATE_WORD(rax)], 0x4b4b);
    CHECK_EQ(seen[STATE_WORD(r8)], 0x4b4b);
    CHECK_EQ(seen[STATE_WORD(cr0)], 0x4b4b);
}
/* Extension bits make the message longer. */
static void exception_message_long(void) {
    victim_make(0, IP(undefined));
    victim_default(EVT_THREAD_STARTUP);
    reply_mtd = 0;
    victim_event(6, MTD_RIP | MTD_R8_R15, IP(on_exception));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 2);
    CHECK_EQ(seen_items >> 16, 0);
    CHECK((seen_items & 0xffff) >= 58);
}
/* The handler sends the thread elsewhere, with other registers; only arithmetic flags can be written. */
ENTRY(landed) {
    (void)rdi;
    result = rdi;
    machine_undefined();
}
ENTRY(on_exception_redirect) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    if (events == 1) {
        go_to(t, IP(landed));
        utcb_put(t, 0, MTD_RIP | MTD_RSP | MTD_BSD | MTD_RFLAGS);
        utcb_put(t, STATE_WORD(rdi), 0x123);
        utcb_put(t, STATE_WORD(rflags), 0x3ffed7 & ~0x100ul); /* IOPL, NT, AC, VM ... */
    } else {
        go_to(t, IP(says_done));
    }
}
static void exception_reply(void) {
    result = 0;
    victim_make(0, IP(undefined));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(6, MTD_RIP | MTD_RFLAGS | MTD_RSP, IP(on_exception_redirect));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 2);
    CHECK_EQ(result, 0x123);
    CHECK_EQ(seen[STATE_WORD(rflags)] & 0x27700, 0x200); /* no TF IOPL NT VM; IF as ever (RF is the processor's) */
    CHECK_EQ(seen[STATE_WORD(rsp)] <= thread.sp, 1);
}
/* A RIP outside user space raises #GP in the thread. */
ENTRY(on_exception_bad_rip) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    utcb_put(t, 0, MTD_RIP);
    utcb_put(t, STATE_WORD(rip), thread.arg);
}
ENTRY(on_gp) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    result = 13;
    go_to(t, IP(says_done));
}
static void exception_bad_rip(void) {
    static const u64 bad[] = {0x800000000000, 0xffff800000000000, 0xffffffff80200000, 0x7ffffffff000};
    for (unsigned i = 0; i < 4; i++) {
        result = 0;
        victim_make(0, IP(undefined));
        victim_default(EVT_THREAD_STARTUP);
        victim_event(6, MTD_RIP, IP(on_exception_bad_rip));
        victim_event(13, MTD_RIP, IP(on_gp));
        thread.arg = bad[i];
        thread_run(&thread, PRIO_MAIN);
        wait_for(done);
        CHECK_EQ(result, 13);
        CHECK_EQ(events, 2);
    }
}

/* --- page faults --- */
static u32 fault_untyped = 58, fault_typed = 1;
ENTRY(on_fault) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    utcb_put_item(t, 0, crd_mem(VA_RAM >> 12, 0, PERM_MEM_R | PERM_MEM_W),
                  DELEGATE(seen[STATE_WORD(qual) + 1] >> 12, 0));
    utcb_put(t, 0, 0);
    utcb_set_items(t, fault_untyped, fault_typed);
}
ENTRY(faults) {
    (void)rdi;
    mem_write64((void *)(VA_DST + 0x18), 0x4711);
    result = mem_read64((void *)(VA_DST + 0x18));
    wake_up(done);
}
static void page_fault(void) {
    victim_make(0, IP(faults));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, MTD_QUAL | MTD_RIP, IP(on_fault));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1);
    CHECK_EQ(result, 0x4711);
    CHECK_EQ(seen[STATE_WORD(qual)] & 7, 6); /* not present, write, user */
    CHECK_EQ(seen[STATE_WORD(qual) + 1], VA_DST + 0x18);
    CHECK_EQ(mem_read64((void *)(VA_RAM + 0x18)), 0x4711);
}
/* Untyped words take all but the last item's place; it counts, and no more than it. */
static void page_fault_last_item(void) {
    fault_untyped = UTCB_WORDS - 2, fault_typed = 3;
    page_fault();
    fault_untyped = 58, fault_typed = 1;
}
/* The window of such a reply is 2^31 pages around the fault: high addresses work, too. */
#define VA_HIGH 0x600000000000ul
ENTRY(faults_high) {
    (void)rdi;
    result = mem_read64((void *)(VA_HIGH + 0x5008));
    wake_up(done);
}
static void page_fault_window(void) {
    mem_write64((void *)(VA_RAM + 8), 0xbeef);
    victim_make(0, IP(faults_high));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, MTD_QUAL, IP(on_fault));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(result, 0xbeef);
    CHECK_EQ(events, 1);
    CHECK_EQ(nova_revoke(crd_mem(VA_HIGH >> 12, 4, 7), true), NOVA_SUCCESS);
}
/* Many items in one reply. */
ENTRY(on_fault_many) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    for (unsigned i = 0; i < RAM_PAGES; i++)
        utcb_put_item(t, i, crd_mem((VA_RAM >> 12) + i, 0, PERM_MEM_R), DELEGATE((VA_DST >> 12) + 2 * i, 0));
    utcb_put(t, 0, 0);
    utcb_set_items(t, 58, RAM_PAGES);
}
ENTRY(faults_many) {
    (void)rdi;
    result = 0;
    for (unsigned i = 0; i < RAM_PAGES; i++)
        result += mem_read64((void *)(VA_DST + 2 * i * PAGE)) == 0x1000 + i;
    wake_up(done);
}
static void page_fault_many_items(void) {
    for (unsigned i = 0; i < RAM_PAGES; i++)
        mem_write64((void *)(VA_RAM + i * PAGE), 0x1000 + i);
    victim_make(0, IP(faults_many));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, MTD_QUAL, IP(on_fault_many));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1);
    CHECK_EQ(result, RAM_PAGES);
}
/* A protection fault: present, write. */
ENTRY(on_fault_skip) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    go_to(t, IP(says_done));
}
ENTRY(writes_readonly) {
    (void)rdi;
    result = mem_read64((void *)VA_DST);
    mem_write64((void *)VA_DST, 1);
    result = 0;
}
static void page_fault_protection(void) {
    mem_write64((void *)VA_RAM, 0x77);
    CHECK(grab(crd_mem(VA_RAM >> 12, 0, PERM_MEM_R), VA_DST >> 12, 0, WINDOW_ALL(CRD_MEM)) != 0);
    victim_make(0, IP(writes_readonly));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, MTD_QUAL, IP(on_fault_skip));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(result, 0x77);
    CHECK_EQ(seen[STATE_WORD(qual)] & 7, 7);
    CHECK_EQ(seen[STATE_WORD(qual) + 1], VA_DST);
}
/* No x: instruction fetches fault. */
ENTRY(executes) {
    (void)rdi;
    result = 1;
    machine_jump(VA_DST);
    result = 0;
}
static void page_fault_execute(void) {
    CHECK(grab(crd_mem(VA_RAM >> 12, 0, PERM_MEM_R | PERM_MEM_W), VA_DST >> 12, 0, WINDOW_ALL(CRD_MEM)) != 0);
    victim_make(0, IP(executes));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(14, MTD_QUAL, IP(on_fault_skip));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(result, 1);
    CHECK_EQ(seen[STATE_WORD(qual)] & 0x10, 0x10);
}

/* --- ports --- */
ENTRY(reads_port) {
    (void)rdi;
    (void)machine_in8(0x84);
    result = 1;
    wake_up(done);
}
static sel_t h_pt;
static struct thread h_server;
ENTRY(port_receiver) {
    (void)rdi;
    utcb_set_items(&h_server, 0, 0);
}
ENTRY(on_port) { /* gives itself the port, the instruction is tried again */
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    utcb_put_item(t, 0, crd_pio(0x84, 0), DELEGATE(0, ITEM_H));
    utcb_set_items(t, 0, 1);
    CHECK_EQ(nova_call(h_pt), NOVA_SUCCESS);
    utcb_put(t, 0, 0);
    utcb_set_items(t, 58, 0);
}
static void port_fault(void) {
    result = 0;
    thread_local(&h_server, SEL_PD, 0);
    h_pt = portal_new(&h_server, 0, IP(port_receiver));
    utcb_windows(&h_server, 0, WINDOW_ALL(CRD_PIO));
    victim_make(0, IP(reads_port));
    victim_default(EVT_THREAD_STARTUP);
    victim_event(13, MTD_QUAL | MTD_RIP, IP(on_port));
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(result, 1);
    CHECK_EQ(events, 1);
    CHECK_EQ(nova_revoke(crd_pio(0x84, 0), true), NOVA_SUCCESS);
}

/* --- shut down --- */
static void check_shut_down(void) {
    u64 a, b;
    pause_us(50000); /* the kernel writes its log line to a serial port first */
    CHECK_EQ(nova_sc_time(thread.sc, &a), NOVA_SUCCESS);
    pause_us(1000);
    CHECK_EQ(nova_sc_time(thread.sc, &b), NOVA_SUCCESS);
    CHECK_EQ(a, b);
    CHECK_EQ(result, 0);
    CHECK_EQ(nova_recall(thread.ec), NOVA_SUCCESS); /* harmless */
    pause_us(200);
}
ENTRY(dies) {
    (void)rdi;
    machine_undefined();
    result = 1;
}
static void event_no_portal(void) {
    result = 0;
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    thread_run(&thread, PRIO_MAIN);
    check_shut_down();
}
static void event_no_startup_portal(void) {
    result = 0;
    victim_make(0, IP(dies));
    thread_run(&thread, PRIO_MAIN);
    check_shut_down();
}
static void event_not_a_portal(void) {
    result = 0;
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    CHECK_EQ(nova_create_sm(base + 6, SEL_PD, 0), NOVA_SUCCESS);
    thread_run(&thread, PRIO_MAIN);
    check_shut_down();
}
static void event_portal_on_other_cpu(void) {
    static struct thread far;
    result = 0;
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    thread_local(&far, SEL_PD, 1);
    CHECK_EQ(nova_create_pt(base + 6, SEL_PD, far.ec, MTD_RIP, IP(on_exception)), NOVA_SUCCESS);
    thread_run(&thread, PRIO_MAIN);
    check_shut_down();
    CHECK_EQ(events, 0);
}
/* The handler raises the event that it handles: a helping loop, its thread is shut down, and its caller can go no further. */
ENTRY(handler_dies) {
    (void)rdi;
    events++;
    machine_undefined();
    result = 1;
}
static void event_helping_loop(void) {
    static struct thread bad;
    sel_t b = sels_new(5);
    result = 0;
    victim_make(0, IP(dies));
    victim_default(EVT_THREAD_STARTUP);
    bad = handler;
    bad.ec = sel_new();
    bad.utcb = utcb_new();
    static struct thread stack;
    thread_local(&stack, SEL_PD, 0);
    CHECK_EQ(nova_create_ec(bad.ec, SEL_PD, bad.utcb, abi_cpu[0], stack.sp, b, false), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(b + 6, SEL_PD, bad.ec, MTD_RIP, IP(handler_dies)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(base + 6, SEL_PD, bad.ec, MTD_RIP, IP(handler_dies)), NOVA_SUCCESS);
    thread_run(&thread, PRIO_MAIN);
    check_shut_down();
    CHECK_EQ(events, 1);
}
/* A server that dies in its portal: the caller gets ABORTED. */
static void event_caller_aborted(void) {
    static struct thread server, stack;
    sel_t b = sels_new(5), pt = sel_new();
    result = 0;
    server.ec = sel_new();
    thread_local(&stack, SEL_PD, 0);
    CHECK_EQ(nova_create_ec(server.ec, SEL_PD, utcb_new(), abi_cpu[0], stack.sp, b, false), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(pt, SEL_PD, server.ec, 0, IP(dies)), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_ABORTED);
    CHECK_EQ(nova_call(pt), NOVA_ABORTED);
    CHECK_EQ(result, 0);
}

const struct abi_case event_cases[] = {
    CASE(startup_message),
    CASE(exception_message),
    CASE(exception_message_long),
    CASE(exception_reply),
    CASE(exception_bad_rip),
    CASE(page_fault),
    CASE(page_fault_last_item),
    CASE(page_fault_window),
    CASE(page_fault_many_items),
    CASE(page_fault_protection),
    CASE(page_fault_execute),
    CASE(port_fault),
    CASE(event_no_portal),
    CASE(event_no_startup_portal),
    CASE(event_not_a_portal),
    CASE_CPUS(event_portal_on_other_cpu, 2),
    CASE(event_helping_loop),
    CASE(event_caller_aborted),
    {0},
};
