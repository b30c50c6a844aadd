/* Goal: lifetimes, section 2: what dies with what, who is told, and that all memory comes back. */
#include "abi.h"

static struct thread client, server, other, helper;
static sel_t pt, done, gate;
static u64 count;
static bool stop;

ENTRY(blocks_in_child) {
    (void)rdi;
    wake_up(HS_READY);
    (void)nova_sm_down(HS_BLOCK, false, 0);
}
ENTRY(spins_in_child) {
    (void)rdi;
    wake_up(HS_READY);
    for (u64 end = clock_after_us(WAIT_US); machine_clock() < end;)
        machine_relax();
}
ENTRY(calls) {
    struct thread *t = (struct thread *)rdi;
    t->arg = nova_call(pt);
    wake_up(done);
}
static void server_dies(unsigned cpu, u64 ip) {
    sel_t pd = child_new(cpu);
    done = sm_new(0);
    thread_local(&server, pd, cpu);
    pt = portal_new(&server, 0, ip);
    thread_start(&client, cpu, PRIO_MAIN - 1, IP(calls), 99);
    wait_for(EVENTS(cpu) + HS_READY);
    thread_start(&helper, cpu, PRIO_MAIN - 1, IP(calls), 99); /* finds it busy */
    pause_us(200);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    wait_for(done);
    wait_for(done);
    CHECK_EQ(client.arg, NOVA_ABORTED);
    CHECK_EQ(helper.arg, NOVA_ABORTED);
}
static void pd_dies_server_blocked(void) { server_dies(0, IP(blocks_in_child)); }
static void pd_dies_server_blocked_other_cpu(void) { server_dies(1, IP(blocks_in_child)); }
static void pd_dies_server_running(void) { server_dies(1, IP(spins_in_child)); }

/* A dying PD's memory, ports and capabilities go as by revoke; a caller inside of it vanishes. */
static u64 fetched;
ENTRY(child_passes_on) {
    const struct thread *t = (const struct thread *)rdi;
    fetched = child_fetch(t, crd_obj(gate, 0, 0x1f), 0x80, 0, WINDOW_ALL(CRD_OBJ)) != 0;
    (void)child_fetch(t, crd_obj(pt, 0, 0x1f), 0x81, 0, WINDOW_ALL(CRD_OBJ));
    utcb_put_item(t, 0, crd_obj(0x80, 0, 0x1f), DELEGATE(other.arg, 0));
    utcb_set_items(t, 0, 1);
    CHECK_EQ(nova_call(0x81), NOVA_SUCCESS);
    wake_up(HS_READY);
    (void)nova_sm_down(HS_BLOCK, false, 0);
}
static void pd_dies_descendants(void) {
    sel_t pd = child_new(0);
    gate = sm_new(0);
    other.arg = sel_new();
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, abi_exit_ip());
    utcb_windows(&server, 0, WINDOW_ALL(CRD_OBJ));
    thread_global(&client, pd, 0, IP(child_passes_on), 0);
    thread_run(&client, PRIO_MAIN);
    wait_for(EVENTS(0) + HS_READY);
    CHECK_EQ(perms_of(CRD_OBJ, other.arg), PERM_SM_ALL);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 200 && perms_of(CRD_OBJ, other.arg); i++)
        pause_us(200);
    CHECK_EQ(perms_of(CRD_OBJ, other.arg), 0);
    CHECK_EQ(perms_of(CRD_OBJ, gate), PERM_SM_ALL);
}

/* A destroyed EC is gone when its UTCB is: that takes a grace period, on a starved emulator up to seconds. */
static void wait_unmapped(u64 utcb) {
    for (unsigned i = 0; i < 5000 && machine_probe(utcb, false); i++)
        pause_us(1000);
    CHECK(!machine_probe(utcb, false));
}
/* All that was let go before, and has its home here, is dead after it: so is what went last on the longest way, an EC kept by a portal. */
static void settle(void) {
    static struct thread witness;
    thread_local(&witness, SEL_PD, 0);
    sel_t last = portal_new(&witness, 0, abi_exit_ip());
    CHECK_EQ(nova_revoke(crd_obj(witness.ec, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(last, 0, 0x1f), true), NOVA_SUCCESS);
    wait_unmapped(witness.utcb);
}
ENTRY(waits) {
    (void)rdi;
    count++;
    wake_up(done);
    wait_for(gate);
}
/* The portal goes while it is in use: the call comes back, the next one finds nothing. */
static void portal_dies_in_call(void) {
    done = sm_new(0), gate = sm_new(0), count = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(waits));
    thread_start(&client, 0, PRIO_MAIN, IP(calls), 99);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(pt, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_BAD_CAP);
    wake_up(gate);
    wait_for(done);
    CHECK_EQ(client.arg, NOVA_SUCCESS);
    CHECK_EQ(count, 1);
}
/* An EC lives while a portal refers to it. */
ENTRY(counts) {
    (void)rdi;
    count++;
}
static void ec_kept_by_portal(void) {
    count = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(counts));
    CHECK_EQ(nova_revoke(crd_obj(server.ec, 0, 0x1f), true), NOVA_SUCCESS);
    settle();
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(count, 1);
}
static void ec_kept_by_sc(void) {
    done = sm_new(0), gate = sm_new(0), count = 0;
    thread_start(&client, 0, PRIO_MAIN, IP(waits), 0);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(client.ec, 0, 0x1f), true), NOVA_SUCCESS);
    settle();
    wake_up(gate);
    pause_us(300);
    u64 us;
    CHECK_EQ(nova_sc_time(client.sc, &us), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(gate, false, 1), NOVA_TIMEOUT); /* it took it */
}
/* Without its last reference a blocked thread is gone; the semaphore serves the others. */
static void ec_dies_blocked(void) {
    done = sm_new(0), gate = sm_new(0), count = 0;
    thread_start(&client, abi_cpus > 1, PRIO_MAIN, IP(waits), 0);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(client.sc, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(client.ec, 0, 0x1f), true), NOVA_SUCCESS);
    wait_unmapped(client.utcb); /* only then is it off the queue */
    wake_up(gate);
    CHECK_EQ(nova_sm_down(gate, false, clock_after_us(WAIT_US)), NOVA_SUCCESS);
}
/* Its SC gone, a thread does not run any more. */
ENTRY(ticks) {
    (void)rdi;
    wake_up(done);
    for (u64 end = clock_after_us(WAIT_US); machine_clock() < end && !__atomic_load_n(&stop, __ATOMIC_SEQ_CST);) {
        __atomic_store_n(&count, count + 1, __ATOMIC_SEQ_CST);
        machine_relax();
    }
}
static void sc_dies_running(void) {
    done = sm_new(0), count = 0;
    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    thread_start(&client, 1, PRIO_MAIN, IP(ticks), 0);
    wait_for(done);
    pause_us(300);
    CHECK_EQ(nova_revoke(crd_obj(client.sc, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(client.ec, 0, 0x1f), true), NOVA_SUCCESS); /* the SC keeps it until it is gone */
    wait_unmapped(client.utcb);
    u64 before = __atomic_load_n(&count, __ATOMIC_SEQ_CST);
    pause_us(500);
    CHECK_EQ(__atomic_load_n(&count, __ATOMIC_SEQ_CST), before);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
}
/* The SC of a caller dies: it drives the server until the reply, the server is free for others then, the caller stops. */
static void sc_dies_donated(void) {
    done = sm_new(0), gate = sm_new(0), count = 0;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(waits));
    thread_start(&client, 0, PRIO_MAIN, IP(calls), 99);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(client.sc, 0, 0x1f), true), NOVA_SUCCESS);
    settle();
    wake_up(gate);
    wake_up(gate);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(count, 2);
    wait_for(done);
    pause_us(300);
    CHECK_EQ(client.arg, 99); /* never came back */
}

/* A server that has called another one is gone for good: what the client donated drives the other one until its reply all the same, nobody
 * else calls it. Then the client hears that its callee is gone. */
static sel_t pt_next, over;
ENTRY(goes_on) {
    (void)rdi;
    wake_up(done);
    wait_for(gate);
    count++;
    wake_up(over);
}
ENTRY(calls_next) {
    (void)rdi;
    (void)nova_call(pt_next);
}
static void middle_dies_donated(void) {
    done = sm_new(0), gate = sm_new(0), over = sm_new(0), count = 0;
    thread_local(&other, SEL_PD, 0);
    pt_next = portal_new(&other, 0, IP(goes_on));
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(calls_next));
    thread_start(&client, 0, PRIO_MAIN - 1, IP(calls), 99);
    wait_for(done); /* it is in the second server */
    CHECK_EQ(nova_revoke(crd_obj(pt, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(server.ec, 0, 0x1f), true), NOVA_SUCCESS);
    settle();
    wake_up(gate);
    wait_for(over);
    CHECK_EQ(count, 1);
    wait_for(done);
    CHECK_EQ(client.arg, NOVA_ABORTED);
    wait_unmapped(server.utcb);
}

/* A UTCB whose page is revoked: calls do not hurt, the address can be used again. */
static void utcb_revoked(void) {
    const struct thread *m = &abi_main_thread;
    thread_local(&server, SEL_PD, 0);
    count = 0;
    pt = portal_new(&server, 0, IP(counts));
    CHECK_EQ(nova_revoke(crd_mem(server.utcb >> 12, 0, 7), true), NOVA_SUCCESS);
    CHECK(!machine_probe(server.utcb, false));
    utcb_put(m, 0, 5);
    utcb_set_items(m, 1, 0);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(count, 1);
    sel_t s = sel_new();
    CHECK_EQ(nova_create_ec(s, SEL_PD, server.utcb, abi_cpu[0], 0, EVENTS(0), false), NOVA_SUCCESS);
    mem_write64((void *)server.utcb, 0);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(pt, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(server.ec, 0, 0x1f), true), NOVA_SUCCESS);
    settle();
    CHECK(machine_probe(server.utcb, true)); /* the new one stays when the old EC goes */
}
/* A destroyed EC's UTCB is unmapped. */
static void utcb_goes_with_ec(void) {
    thread_local(&server, SEL_PD, abi_cpus - 1);
    CHECK(machine_probe(server.utcb, true));
    CHECK_EQ(nova_revoke(crd_obj(server.ec, 0, 0x1f), true), NOVA_SUCCESS);
    wait_unmapped(server.utcb);
}

/* --- nothing is lost --- */
static u64 free_pages(void) {
    u64 out[2];
    CHECK_EQ(nova_extension(EXT_KMEM_FREE, 0, 0, out), NOVA_SUCCESS);
    return out[0];
}
static void leak_check(void (*cycle)(void), unsigned cycles) {
    for (unsigned i = 0; i < 4; i++)
        cycle();
    pause_us(5000);
    u64 before = free_pages(), after = 0;
    for (unsigned i = 0; i < cycles && !abi_failed(); i++)
        cycle();
    for (unsigned i = 0; i < 5000; i++) { /* grace periods and teardown take a while */
        pause_us(1000);
        after = free_pages();
        if (after >= before)
            break;
    }
    CHECK(after >= before);
    if (after < before)
        CHECK_EQ(after, before);
}
static sel_t range;
static u64 utcb;
static void cycle_objects(void) {
    CHECK_EQ(nova_create_pd(range, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(range + 1, range, 0), NOVA_SUCCESS);
    u64 status = NOVA_BAD_PAR; /* until the last cycle's EC is really gone */
    for (unsigned i = 0; i < 1000 && status == NOVA_BAD_PAR; i++) {
        status = nova_create_ec(range + 2, SEL_PD, utcb, abi_cpu[0], server.sp, EVENTS(0), false);
        if (status == NOVA_BAD_PAR)
            pause_us(100);
    }
    CHECK_EQ(status, NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(range + 3, range, range + 2, 0, abi_exit_ip()), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(range + 4, range, utcb, abi_cpu[abi_cpus - 1], 0, 0, true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(range + 5, range, range + 4, QPD_MAKE(1, 1000)), NOVA_SUCCESS); /* dies at STARTUP */
    CHECK_EQ(nova_call(range + 3), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(range, 3, 0x1f), true), NOVA_SUCCESS);
}
static void leak_objects(void) {
    range = sels_new(3);
    utcb = utcb_new();
    thread_local(&server, SEL_PD, 0); /* for its stack */
    leak_check(cycle_objects, machine_rounds());
}
static void cycle_memory(void) {
    CHECK(grab(crd_mem(VA_RAM >> 12, RAM_ORDER, 7), VA_DST >> 12, ITEM_G | ITEM_D, WINDOW_ALL(CRD_MEM)) != ~0ul);
    CHECK(grab(crd_mem((VA_DST >> 12) + 2, 1, 7), (VA_DST >> 12) + 512, 0, WINDOW_ALL(CRD_MEM)) != ~0ul);
    CHECK_EQ(nova_revoke(crd_mem((VA_RAM >> 12) + 3, 0, 7), false), NOVA_SUCCESS); /* splits */
    CHECK_EQ(nova_revoke(crd_mem(VA_RAM >> 12, RAM_ORDER, 7), false), NOVA_SUCCESS);
    CHECK(!machine_probe(VA_DST, false));
}
static void leak_memory(void) { leak_check(cycle_memory, machine_rounds()); }
/* A whole component comes and goes: PD with image, thread, server that is called. */
static void cycle_child(void) {
    static unsigned n;
    sel_t pd = child_new(n++ % abi_cpus);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(SCRATCH, SCRATCH_ORDER, 0x1f), true), NOVA_SUCCESS);
}
static void leak_children(void) { leak_check(cycle_child, machine_rounds() / 4 + 1); }

const struct abi_case life_cases[] = {
    CASE(pd_dies_server_blocked),
    CASE_CPUS(pd_dies_server_blocked_other_cpu, 2),
    CASE_CPUS(pd_dies_server_running, 2),
    CASE(pd_dies_descendants),
    CASE(portal_dies_in_call),
    CASE(ec_kept_by_portal),
    CASE(ec_kept_by_sc),
    CASE(ec_dies_blocked),
    CASE_CPUS(sc_dies_running, 2),
    CASE(sc_dies_donated),
    CASE(middle_dies_donated),
    CASE(utcb_revoked),
    CASE(utcb_goes_with_ec),
    CASE(leak_objects),
    CASE(leak_memory),
    CASE(leak_children),
    {0},
};
