/* Goal: call and reply, section 5 rows 0 and 1, sections 3 and 8. Method: local threads as servers on the caller's CPU; a second
 * client occupies a server where it has to be busy. */
#include "abi.h"

static struct thread server, client, client2;
static sel_t gate, done, pt, pt2;
static u64 seen_pid, seen_rsp, seen_items, seen_word, status_a, status_b, count;

/* Remembers what came, adds 1 to each word. */
ENTRY(echo) {
    seen_pid = rdi;
    seen_rsp = ENTRY_RSP();
    seen_items = utcb_items(&server);
    seen_word = utcb_get(&server, 0);
    count++;
    for (unsigned i = 0; i < (seen_items & 0xffff); i++)
        utcb_put(&server, i, utcb_get(&server, i) + 1);
}

static void echo_make(void) {
    count = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(echo));
}

static void call_success(void) {
    const struct thread *m = &abi_main_thread;
    echo_make();
    CHECK_EQ(nova_pt_ctrl(pt, 0x1234567812345678), NOVA_SUCCESS);
    for (unsigned i = 0; i < 4; i++)
        utcb_put(m, i, 100 + i);
    utcb_set_items(m, 3, 0);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_pid, 0x1234567812345678);
    CHECK_EQ(seen_rsp, server.sp);
    CHECK_EQ(seen_items, 3);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(utcb_get(m, i), 100 + i + (i < 3));
    CHECK_EQ(utcb_items(m), 3);
}

/* All 508 words; more are clamped. */
static void call_success_long(void) {
    const struct thread *m = &abi_main_thread;
    echo_make();
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        utcb_put(m, i, i);
    mem_write64((void *)m->utcb, 0xffff); /* U = 65535, T = 0 */
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_items, UTCB_WORDS);
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        CHECK_EQ(utcb_get(m, i), i + 1);
}

/* The caller's flags are its own: the kernel copies upward, is not stopped by alignment checks or SMAP, and gives them back. */
static void call_flags_survive(void) {
    const struct thread *m = &abi_main_thread;
    echo_make();
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            utcb_put(m, i, i);
        utcb_set_items(m, UTCB_WORDS, 0);
        u64 rdi = NOVA_RDI(HC_CALL, 0, pt), flags = round == 3 ? MACHINE_FLAGS : 0x400ul << 4 * round & MACHINE_FLAGS;
        CHECK_EQ(machine_call_flags(&rdi, flags) & MACHINE_FLAGS & ~0x200000ul, flags & ~0x200000ul);
        CHECK_EQ(rdi & 0xff, NOVA_SUCCESS);
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            CHECK_EQ(utcb_get(m, i), i + 1);
    }
    CHECK_EQ(count, 4);
}

/* T is clamped to (508 - U) / 2. */
static void call_typed_clamped(void) {
    const struct thread *m = &abi_main_thread;
    echo_make();
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        utcb_put(m, i, 0);
    utcb_set_items(m, 500, 0xffff);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_items, UTCB_ITEMS(500, 4));
}

/* The kernel writes only the item counts and what it transfers. */
static void call_utcb_untouched(void) {
    const struct thread *m = &abi_main_thread;
    echo_make();
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        utcb_put(&server, i, 0x5500 + i);
    utcb_windows(&server, 0xaaa0, 0xbbb0);
    mem_write64((void *)(server.utcb + 0x18), 0xccc0);
    utcb_put(m, 0, 7);
    utcb_put_item(m, 0, 0, 0); /* translate of nothing */
    utcb_set_items(m, 1, 1);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_word, 7);
    CHECK_EQ(seen_items, UTCB_ITEMS(1, 1));
    for (unsigned i = 1; i < UTCB_WORDS - 2; i++)
        CHECK_EQ(utcb_get(&server, i), 0x5500 + i);
    CHECK_EQ(mem_read64((void *)(server.utcb + 0x08)), 0xaaa0);
    CHECK_EQ(mem_read64((void *)(server.utcb + 0x10)), 0xbbb0);
    CHECK_EQ(mem_read64((void *)(server.utcb + 0x18)), 0xccc0);
}

static void call_registers_survive(void) {
    echo_make();
    struct machine_call c = {NOVA_RDI(HC_CALL, 0, pt), 0x1, 0x2, 0x3, 0x4};
    CHECK_EQ(machine_call_checked(&c), 0);
    CHECK_EQ(c.rdi & 0xff, NOVA_SUCCESS);
    c.rdi = NOVA_RDI(HC_CALL, 0, sel_new());
    CHECK_EQ(machine_call_checked(&c), 0);
    CHECK_EQ(c.rdi & 0xff, NOVA_BAD_CAP);
    c = (struct machine_call){NOVA_RDI(HC_SM_CTRL, HF_SM_DOWN, SEL_NEVER), 0, 0, 0x33, 0x44};
    u64 deadline = clock_after_us(200); /* blocks, and comes back by the timer */
    c.rsi = deadline >> 32, c.rdx = deadline & 0xffffffff;
    CHECK_EQ(machine_call_checked(&c), 0);
    CHECK_EQ(c.rdi & 0xff, NOVA_TIMEOUT);
}

static void call_selector_modulo(void) {
    echo_make();
    CHECK_EQ(nova_call(pt + (1ul << 26)), NOVA_SUCCESS);
    CHECK_EQ(count, 1);
}

static void call_bad_cap_empty(void) { CHECK_EQ(nova_call(sel_new()), NOVA_BAD_CAP); }
static void call_bad_cap_type(void) {
    CHECK_EQ(nova_call(SEL_NEVER), NOVA_BAD_CAP);
    CHECK_EQ(nova_call(SEL_EC), NOVA_BAD_CAP);
}
static void call_bad_cap_permission(void) {
    echo_make();
    CHECK_EQ(nova_call(copy_new(pt, PERM_PT_CT)), NOVA_BAD_CAP);
    CHECK_EQ(nova_call(copy_new(pt, PERM_PT_CALL)), NOVA_SUCCESS);
}

static void call_bad_cpu(void) {
    thread_local(&server, SEL_PD, 1);
    pt = portal_new(&server, 0, IP(echo));
    CHECK_EQ(nova_call(pt), NOVA_BAD_CPU);
}

ENTRY(waits) {
    (void)rdi;
    wake_up(done);
    wait_for(gate);
    count++;
}
ENTRY(client_calls) {
    struct thread *t = (struct thread *)rdi;
    t->arg = nova_call(pt);
    wake_up(done);
}

static void call_timeout_busy(void) {
    gate = sm_new(0), done = sm_new(0), count = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(waits));
    thread_start(&client, 0, PRIO_MAIN, IP(client_calls), 0);
    wait_for(done); /* the server is in its portal now */
    CHECK_EQ(nova_call_try(pt), NOVA_TIMEOUT);
    CHECK_EQ(count, 0);
    wake_up(gate);
    wait_for(done);
    CHECK_EQ(client.arg, NOVA_SUCCESS);
    wake_up(gate);
    CHECK_EQ(nova_call_try(pt), NOVA_SUCCESS); /* not busy any more */
    CHECK_EQ(count, 2);
}

/* Without the flag the second caller waits for its turn. */
static void call_success_busy(void) {
    gate = sm_new(0), done = sm_new(0), count = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(waits));
    thread_start(&client, 0, PRIO_MAIN, IP(client_calls), 0);
    thread_start(&client2, 0, PRIO_MAIN, IP(client_calls), 0);
    wait_for(done);
    CHECK_EQ(count, 0);
    wake_up(gate);
    wake_up(gate);
    for (unsigned i = 0; i < 3; i++)
        wait_for(done);
    CHECK_EQ(count, 2);
    CHECK_EQ(client.arg, NOVA_SUCCESS);
    CHECK_EQ(client2.arg, NOVA_SUCCESS);
}

/* A portal's own thread calls it: a helping loop of one. */
ENTRY(calls_itself) {
    (void)rdi;
    status_a = nova_call(pt);
}
static void call_aborted_loop(void) {
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(calls_itself));
    status_a = 99;
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(status_a, NOVA_ABORTED);
}

static void call_aborted_pd_gone(void) {
    sel_t pd = child_new(0);
    thread_local(&server, pd, 0);
    pt = portal_new(&server, 0, IP(echo));
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    u64 s = nova_call(pt);
    for (unsigned i = 0; i < 100 && s == NOVA_SUCCESS; i++)
        s = nova_call(pt);
    CHECK_EQ(s, NOVA_ABORTED);
}

/* Out of kernel memory for a typed item: the call fails, the callee does not see it. */
ENTRY(opens_window) {
    (void)rdi;
    count++;
    utcb_windows(&server, 0, WINDOW_ALL(CRD_OBJ));
}
static void call_bad_mem(void) {
    const struct thread *m = &abi_main_thread;
    count = 0;
    sel_t pd = child_new(0);
    thread_local(&server, pd, 0);
    pt = portal_new(&server, 0, IP(opens_window));
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 1, NULL), NOVA_SUCCESS); /* it uses more already */
    utcb_put_item(m, 0, crd_obj(SEL_NEVER, 0, 0x1f), DELEGATE(0x900, 0));
    utcb_set_items(m, 0, 1);
    CHECK_EQ(nova_call(pt), NOVA_BAD_MEM);
    CHECK_EQ(count, 1);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 0, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(count, 2);
}

/* The second of three items finds no memory: those before it are installed, it and those behind it are not. */
static unsigned item_perms[3];
static const sel_t item_slot[3] = {0x901, 0x100000,
                                   0x902}; /* the second needs a page of the table, the others have one */
ENTRY(looks_at_slots) {
    (void)rdi;
    for (unsigned i = 0; i < 3; i++)
        item_perms[i] = perms_of(CRD_OBJ, item_slot[i]);
}
static void call_bad_mem_second_item(void) {
    const struct thread *m = &abi_main_thread;
    u64 used[2];
    count = 0;
    sel_t pd = child_new(0);
    thread_local(&server, pd, 0);
    sel_t look = portal_new(&server, 0, IP(looks_at_slots));
    pt = portal_new(&server, 0, IP(opens_window));
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    utcb_put_item(m, 0, crd_obj(SEL_NEVER, 0, 0x1f), DELEGATE(0x900, 0));
    utcb_set_items(m, 0, 1);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, used), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, used[0] + PAGE / 2, NULL), NOVA_SUCCESS);
    for (unsigned i = 0; i < 3; i++)
        utcb_put_item(m, i, crd_obj(SEL_NEVER, 0, 0x1f), DELEGATE(item_slot[i], 0));
    utcb_set_items(m, 0, 3);
    CHECK_EQ(nova_call(pt), NOVA_BAD_MEM);
    CHECK_EQ(count, 2);
    utcb_set_items(m, 0, 0);
    CHECK_EQ(nova_call(look), NOVA_SUCCESS);
    CHECK_EQ(item_perms[0], PERM_SM_ALL);
    CHECK_EQ(item_perms[1], 0);
    CHECK_EQ(item_perms[2], 0);
}

/* --- reply --- */
ENTRY(reply_words) {
    (void)rdi;
    count++;
    utcb_put(&server, 0, 0xabcd);
    utcb_put(&server, 1, 0xef01);
    utcb_set_items(&server, 2, 0);
}
static void reply_success(void) {
    const struct thread *m = &abi_main_thread;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(reply_words));
    count = 0;
    utcb_put(m, 1, 5), utcb_put(m, 2, 6);
    for (unsigned i = 0; i < 3; i++) { /* each time at the portal's IP again */
        utcb_set_items(m, 0, 0);
        CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
        CHECK_EQ(utcb_items(m), 2);
        CHECK_EQ(utcb_get(m, 0), 0xabcd);
        CHECK_EQ(utcb_get(m, 1), 0xef01);
        CHECK_EQ(utcb_get(m, 2), 6);
    }
    CHECK_EQ(count, 3);
}

/* RSP at entry is what it was at the last reply. */
static u64 rsp_new;
ENTRY(reply_elsewhere) {
    (void)rdi;
    seen_rsp = ENTRY_RSP();
    machine_reply_at(rsp_new);
}
static void reply_stack_pointer(void) {
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(reply_elsewhere));
    rsp_new = server.sp - 512;
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_rsp, server.sp);
    rsp_new = server.sp;
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_rsp, server.sp - 512);
}

/* Two portals of one thread: the entry is that of the portal that was called. */
static void reply_entry_of_each_portal(void) {
    const struct thread *m = &abi_main_thread;
    echo_make();
    pt2 = portal_new(&server, 0, IP(reply_words));
    utcb_put(m, 0, 1);
    utcb_set_items(m, 1, 0);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(utcb_get(m, 0), 2);
    CHECK_EQ(nova_call(pt2), NOVA_SUCCESS);
    CHECK_EQ(utcb_get(m, 0), 0xabcd);
    CHECK_EQ(nova_pt_ctrl(pt2, 0x77), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(seen_pid, (u64)&server);
}

/* Typed items of the reply go into the caller's window. */
ENTRY(reply_item) {
    (void)rdi;
    utcb_put_item(&server, 0, crd_obj(SEL_NEVER, 0, PERM_SM_UP), DELEGATE(0, 0));
    utcb_set_items(&server, 0, 1);
}
static void reply_delegates(void) {
    const struct thread *m = &abi_main_thread;
    sel_t to = sel_new();
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(reply_item));
    utcb_windows(m, 0, crd_obj(to, 0, 0x1f));
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(utcb_items(m), UTCB_ITEMS(0, 1));
    CHECK_EQ(utcb_item_crd(m, 0), crd_obj(to, 0, PERM_SM_UP));
    CHECK_EQ(utcb_item_desc(m, 0) & 1, 1);
    CHECK_EQ(perms_of(CRD_OBJ, to), PERM_SM_UP);
}

/* A global thread that replies without having been called blocks for good, the others go on. */
ENTRY(replies_uncalled) {
    (void)rdi;
    count++;
    wake_up(done);
}
static void reply_without_call_blocks(void) {
    u64 before, after;
    done = sm_new(0), count = 0;
    thread_start(&client, 0, PRIO_MAIN + 5, IP(replies_uncalled), 0);
    wait_for(done);
    pause_us(300);
    CHECK_EQ(nova_sc_time(client.sc, &before), NOVA_SUCCESS);
    pause_us(500);
    CHECK_EQ(nova_sc_time(client.sc, &after), NOVA_SUCCESS);
    CHECK_EQ(after, before);
    CHECK_EQ(count, 1);
    CHECK_EQ(nova_recall(client.ec), NOVA_SUCCESS); /* does not wake it */
    pause_us(300);
    CHECK_EQ(count, 1);
}

/* The call donates the SC: the server's time is the caller's. */
ENTRY(burns) {
    (void)rdi;
    burn_us(2000);
}
static void call_donates(void) {
    u64 before, after;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(burns));
    CHECK_EQ(nova_sc_time(SEL_SC, &before), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(nova_sc_time(SEL_SC, &after), NOVA_SUCCESS);
    CHECK(after - before >= 1900);
}

/* FPU registers and segment base belong to each thread. */
ENTRY(own_state) {
    (void)rdi;
    status_a = machine_base_get();
    status_b = machine_fpu_get();
    machine_base_set(0x77770000);
    machine_fpu_set(0x7777);
}
static void call_state_per_thread(void) {
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(own_state));
    machine_base_set(0x11110000);
    machine_fpu_set(0x1111);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(status_a, 0);
    CHECK_EQ(status_b, 0);
    CHECK_EQ(machine_base_get(), 0x11110000);
    CHECK_EQ(machine_fpu_get(), 0x1111);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(status_a, 0x77770000);
    CHECK_EQ(status_b, 0x7777);
    machine_base_set(0);
    machine_fpu_set(0);
}

const struct abi_case call_cases[] = {
    CASE(call_success),
    CASE(call_success_long),
    CASE(call_flags_survive),
    CASE(call_typed_clamped),
    CASE(call_utcb_untouched),
    CASE(call_registers_survive),
    CASE(call_selector_modulo),
    CASE(call_bad_cap_empty),
    CASE(call_bad_cap_type),
    CASE(call_bad_cap_permission),
    CASE_CPUS(call_bad_cpu, 2),
    CASE(call_timeout_busy),
    CASE(call_success_busy),
    CASE(call_aborted_loop),
    CASE(call_aborted_pd_gone),
    CASE(call_bad_mem),
    CASE(call_bad_mem_second_item),
    CASE(reply_success),
    CASE(reply_stack_pointer),
    CASE(reply_entry_of_each_portal),
    CASE(reply_delegates),
    CASE(reply_without_call_blocks),
    CASE(call_donates),
    CASE(call_state_per_thread),
    {0},
};
