/* Goal: the pictures of calls, donation and helping (ABI section 6; kernel-design.md 3 "an innocent component killed as livelock"): one client,
 * two on one server, three levels with a preemption at each hop, a high priority behind a low one, servers without time of their own,
 * 200 helpers, loops.
 * Method: one CPU decides; every thread notes what it does, the notes' order and the times charged are what is checked. */
#include "core/ec.h"
#include "core/pd.h"
#include "simtest.h"

#define NEVER  0x50ul
#define LEVELS 3
static sel_t pt[8], done, gate[8];
static u64 notes[64];
static unsigned note_count;
static void note(u64 what) { notes[note_count++ % 64] = what; }
static void notes_check(const char *want) {
    char got[65] = {0};
    for (unsigned i = 0; i < note_count && i < 64; i++)
        got[i] = (char)notes[i];
    bool same = true;
    for (unsigned i = 0; i <= note_count && i < 64 && same; i++)
        same = got[i] == want[i];
    sim_expect(same);
    if (!same)
        sim_log("sim: %s happened, not %s\n", got, want);
}
static void work(unsigned steps) {
    for (unsigned i = 0; i < steps; i++)
        sim_step();
}
static void prepare(unsigned cpu) {
    startup_make(cpu);
    done = sem_make(0);
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    for (unsigned i = 0; i < 8; i++)
        gate[i] = sem_make(0);
}
static void server_make(unsigned cpu, unsigned i, void (*fn)(u64)) {
    struct thread t = thread_make(cpu, false, 0);
    pt[i] = portal_make(&t, fn, 0, sel_new());
    OK(nova_pt_ctrl(pt[i], i));
}
static u64 time_of(const struct thread *t) {
    u64 us = 0;
    OK(nova_sc_time(t->sc, &us));
    return us;
}

/* --- one client: client, server, client; the time is the client's --- */
static void notes_server(u64 i) {
    note('1' + i);
    work(200);
    reply();
}
static void client_one(u64 rdi) {
    (void)rdi;
    note('a');
    OK(nova_call(pt[0]));
    note('A');
    up(done);
}
static void one_root(u64 cpu) {
    prepare((unsigned)cpu);
    server_make((unsigned)cpu, 0, notes_server);
    struct thread t = thread_start((unsigned)cpu, 10, client_one);
    down(done);
    notes_check("a1A");
    sim_expect(time_of(&t) >= 200);
    sim_done();
}
static void one_client(void **s) {
    (void)s;
    scenario(one_root, 1, 10);
}

/* --- a call that is tried again from within the kernel: everybody's FS and GS base stay what they were (ABI section 9) --- */
static void bases_set(u64 v) {
    sim_fs_base_set(v);
    sim_gs_base_set(v << 8);
}
static void bases_check(u64 v) {
    sim_expect_eq(sim_fs_base(), v);
    sim_expect_eq(sim_gs_base(), v << 8);
}
static void bases_server(u64 i) {
    (void)i;
    bases_set(1);
    if (!note_count++) {
        up(gate[1]);
        down(gate[0]);
    }
    bases_check(1);
    reply();
}
static void bases_client(u64 own) {
    bases_set(own);
    OK(nova_call(pt[0]));
    bases_check(own);
    up(done);
    down(NEVER);
}
static void bases_first(u64 rdi) {
    (void)rdi;
    bases_client(2);
}
static void bases_second(u64 rdi) {
    (void)rdi;
    bases_client(3);
}
static void bases_root(u64 cpu) {
    note_count = 0;
    prepare((unsigned)cpu);
    bases_set(4);
    server_make((unsigned)cpu, 0, bases_server);
    (void)thread_start((unsigned)cpu, 100, bases_first);
    down(gate[1]);
    (void)thread_start((unsigned)cpu, 100, bases_second); /* waits for the server, which waits */
    up(gate[0]);
    down(done);
    down(done);
    bases_check(4);
    sim_done();
}
static void bases_of_helpers(void **s) {
    (void)s;
    scenario(bases_root, 1, 10);
}

/* --- two clients of one priority: the second one finds the server busy in the middle of its work (a blocked server), waits, is served --- */
static void blocks_once(u64 i) {
    note('1' + i);
    up(gate[1]);
    down(gate[0]);
    note('!');
    reply();
}
static void client_second(u64 rdi) {
    (void)rdi;
    down(gate[1]);
    note('b');
    OK(nova_call(pt[0]));
    note('B');
    up(done);
}
static void two_root(u64 cpu) {
    prepare((unsigned)cpu);
    server_make((unsigned)cpu, 0, blocks_once);
    thread_start((unsigned)cpu, 20, client_one);
    thread_start((unsigned)cpu, 20, client_second);
    sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 20000), NOVA_TIMEOUT);
    notes_check("a1b"); /* both wait for the semaphore now */
    up(gate[0]);
    up(gate[0]);
    down(done);
    down(done);
    sim_expect_eq(note_count, 8);
    sim_expect(notes[3] == '!'); /* the first is through, then the second enters and leaves */
    unsigned a = 0, b = 0, second = 0;
    for (unsigned i = 0; i < 8; i++) {
        a = notes[i] == 'A' ? i : a;
        b = notes[i] == 'B' ? i : b;
        second = notes[i] == '1' ? i : second;
    }
    sim_expect(a > 3 && second > 3 && b > second);
    sim_done();
}
static void two_clients_one_server(void **s) {
    (void)s;
    scenario(two_root, 1, 10);
}

/* --- three levels; at each hop a more important thread comes in, also on the way back; and the work goes on where it was --- */
static struct thread high;
static void level_server(u64 i) {
    note('1' + i);
    up(gate[i]); /* the high one runs here */
    note('1' + i);
    if (i + 1 < LEVELS)
        OK(nova_call(pt[i + 1]));
    note('1' + i);
    up(gate[i]);
    note('1' + i);
    reply();
}
static void intruder(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 2 * LEVELS; i++) {
        down(gate[i < LEVELS ? i : 2 * LEVELS - 1 - i]);
        note('h');
        work(50);
    }
    up(done);
}
static void levels_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    prepare(c);
    for (unsigned i = 0; i < LEVELS; i++)
        server_make(c, i, level_server);
    high = thread_start(c, 90, intruder);
    thread_start(c, 20, client_one);
    down(done);
    down(done);
    notes_check("a1h12h23h33h32h21h1A");
    sim_done();
}
static void three_levels_preempted_at_each_hop(void **s) {
    (void)s;
    scenario(levels_root, 1, 20);
}

/* --- a high client behind a low one, with a middle one that is always ready: the order, and who pays --- */
#define CRITICAL 400
static struct thread low, mid;
static u64 low_before, low_after, mid_before, mid_after, high_before, high_after;
static void critical(u64 i) {
    (void)i;
    note('s');
    up(gate[0]); /* high becomes ready, and mid with it */
    work(CRITICAL);
    note('S');
    reply();
}
static void middle(u64 rdi) {
    (void)rdi;
    down(gate[1]);
    note('m');
    work(100);
    up(done);
}
static void important(u64 rdi) {
    (void)rdi;
    down(gate[0]);
    up(gate[1]);
    low_before = time_of(&low), mid_before = time_of(&mid), high_before = time_of(&high);
    note('h');
    OK(nova_call(pt[0]));
    note('H');
    low_after = time_of(&low), mid_after = time_of(&mid), high_after = time_of(&high);
    up(done);
}
static void inheritance_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    prepare(c);
    server_make(c, 0, critical);
    high = thread_start(c, 90, important);
    mid = thread_start(c, 50, middle);
    low = thread_start(c, 20, client_one);
    for (unsigned i = 0; i < 3; i++)
        down(done);
    /* low is inside; high comes, waits for low's request by helping, gets its own; mid only then; low last */
    notes_check("ashSsSHmA");
    sim_expect(high_after - high_before >= 2 * CRITICAL - 20); /* the rest of low's request and its own */
    sim_expect_eq(low_after, low_before);
    sim_expect_eq(mid_after, mid_before);
    sim_done();
}
static void inheritance_order_and_charge(void **s) {
    (void)s;
    scenario(inheritance_root, 1, 20);
}

/* --- servers without time of their own: three services, used in turn by clients that pay for all they cause --- */
static u64 server_steps[3];
static void service(u64 i) {
    u64 before = sim_clock();
    work(100 * (1 + (unsigned)i));
    server_steps[i] += sim_clock() - before;
    if (i)
        OK(nova_call(pt[i - 1]));
    reply();
}
static struct thread clients[3];
static void consumer(u64 rdi) {
    (void)rdi;
    static unsigned number;
    unsigned me = number++;
    for (unsigned i = 0; i < 5; i++)
        OK(nova_call(pt[me]));
    up(done);
}
static void without_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    prepare(c);
    for (unsigned i = 0; i < 3; i++)
        server_make(c, i, service);
    for (unsigned i = 0; i < 3; i++) {
        clients[i] = thread_start(c, 20, consumer);
        struct kobj *o = objtab_lookup(&root_pd->objtab, clients[i].ec).obj;
        sim_expect(container_of(o, struct ec, obj)->sc != NULL);
    }
    for (unsigned i = 0; i < 3; i++)
        down(done);
    u64 sum = 0;
    for (unsigned i = 0; i < 3; i++)
        sum += time_of(&clients[i]);
    sim_expect(sum >= 5 * (100 + 300 + 600)); /* µs: every step of every server was a client's */
    sim_done();
}
static void servers_without_time(void **s) {
    (void)s;
    scenario(without_root, 1, 20);
}

/* --- 200 helpers on one server: all are served, one at a time, nobody is aborted --- */
#define HELPERS 200
static unsigned served;
static bool inside;
static void exclusive(u64 i) {
    (void)i;
    sim_expect(!inside);
    inside = true;
    work(sim_choose(SIM_WORKLOAD, 30));
    if (sim_choose(SIM_WORKLOAD, 4) == 0) /* blocks: all helpers wait with it */
        sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 500), NOVA_TIMEOUT);
    inside = false;
    served++;
    reply();
}
static void helper(u64 rdi) {
    (void)rdi;
    for (unsigned i = 0; i < 2; i++)
        OK(nova_call(pt[0]));
    up(done);
}
static void crowd_root(u64 cpu) {
    unsigned c = (unsigned)cpu;
    prepare(c);
    server_make(c, 0, exclusive);
    for (unsigned i = 0; i < HELPERS; i++) {
        struct thread t = thread_make(c, true, PORTAL(helper));
        OK(nova_create_sc(sel_new(), SEL_PD, t.ec,
                          QPD_MAKE(1 + sim_choose(SIM_WORKLOAD, 120), 50 + sim_choose(SIM_WORKLOAD, 500))));
    }
    for (unsigned i = 0; i < HELPERS; i++)
        OK(nova_sm_down(done, false, sim_clock() + 1000000000));
    sim_expect_eq(served, 2 * HELPERS);
    sim_done();
}
static void helpers_200(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 1, .root = crowd_root, .check_every = 64, .ram = 256ul << 20};
    assert_int_equal(sim_seeds(&o, 1, 8, SIM_OK), 0);
}

/* --- loops of 1, 2, 3 and 8 servers, entered by one client, or by one at each server with the calls in any order: one call of each loop
 * is aborted, all others succeed, and afterwards every server works --- */
static unsigned length, aborted, succeeded, first_visits, ring_clients;
static bool visited[8];
static void ring_server(u64 i) {
    if (!visited[i]) { /* later calls are the neighbour's: served at once */
        visited[i] = true;
        if (length > 1) {
            up(done);
            down(gate[i]);
        }
        u64 status = nova_call(pt[(i + 1) % length]);
        sim_expect(status == NOVA_ABORTED || status == NOVA_SUCCESS);
        aborted += status == NOVA_ABORTED;
        succeeded += status == NOVA_SUCCESS;
    }
    reply();
}
static void ring_client(u64 rdi) {
    (void)rdi;
    OK(nova_call(pt[ring_clients++]));
    first_visits++;
}
static void ring_root(u64 cpu) {
    static const unsigned lengths[] = {1, 2, 3, 8};
    unsigned c = (unsigned)cpu;
    prepare(c);
    length = lengths[sim_choose(SIM_WORKLOAD, 4)];
    for (unsigned i = 0; i < length; i++)
        server_make(c, i, ring_server);
    if (length == 1) {
        OK(nova_call(pt[0]));
        first_visits++;
    } else {
        for (unsigned i = 0; i < length; i++)
            thread_start(c, 10 + sim_choose(SIM_WORKLOAD, 30), ring_client);
        for (unsigned i = 0; i < length; i++) /* all servers are busy */
            down(done);
        unsigned start = sim_choose(SIM_WORKLOAD, length),
                 stride = length == 8 ? 1 + 2 * sim_choose(SIM_WORKLOAD, 4) : 1;
        for (unsigned i = 0; i < length; i++)
            up(gate[(start + i * stride) % length]);
    }
    sim_expect_eq(nova_sm_down(NEVER, false, sim_clock() + 1000000), NOVA_TIMEOUT);
    sim_expect_eq(aborted, 1);
    sim_expect_eq(succeeded, length - 1);
    sim_expect_eq(first_visits, length);
    for (unsigned i = 0; i < length; i++)
        OK(nova_call(pt[i]));
    sim_done();
}
static void loops_of_1_2_3_8(void **s) {
    (void)s;
    scenario(ring_root, 1, 60);
}

/* --- a helper whose portal is gone when it tries again: BAD_CAP, and it lends its time to nobody any more --- */
static sel_t copied;
static volatile bool called_again, copy_client_ran;
static void gated_server(u64 i) {
    if (!called_again) {
        down(gate[0]); /* the helper comes meanwhile */
    } else {
        up(gate[1]);
        for (unsigned n = 0; n < 20000 && !copy_client_ran; n++)
            sim_step();
        sim_expect(copy_client_ran); /* of higher priority: its SC is its own again */
    }
    (void)i;
    reply();
}
static void first_client(u64 rdi) {
    (void)rdi;
    OK(nova_call(pt[0]));
    called_again = true;
    OK(nova_call(pt[0]));
    up(done);
}
static void copy_client(u64 rdi) {
    (void)rdi;
    sim_expect_eq(nova_call(copied), NOVA_BAD_CAP);
    down(gate[1]);
    copy_client_ran = true;
    up(done);
}
static void portal_gone_root(u64 cpu) {
    prepare((unsigned)cpu);
    server_make((unsigned)cpu, 0, gated_server);
    copied = sel_new();
    (void)grab(ABI_ROOT_UTCB, crd_obj(pt[0], 0, 0x1f), copied << 12, crd_obj(0, 31, 0x1f));
    (void)thread_start((unsigned)cpu, 80, first_client); /* both above root: they run until they block */
    (void)thread_start((unsigned)cpu, 90, copy_client);
    OK(nova_revoke(crd_obj(copied, 0, 0x1f), true));
    up(gate[0]);
    down(done);
    down(done);
    sim_done();
}
static void portal_gone_while_helping(void **s) {
    (void)s;
    scenario(portal_gone_root, 1, 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_client),
        cmocka_unit_test(bases_of_helpers),
        cmocka_unit_test(two_clients_one_server),
        cmocka_unit_test(three_levels_preempted_at_each_hop),
        cmocka_unit_test(inheritance_order_and_charge),
        cmocka_unit_test(servers_without_time),
        cmocka_unit_test(helpers_200),
        cmocka_unit_test(portal_gone_while_helping),
        cmocka_unit_test(loops_of_1_2_3_8),
    };
    return cmocka_run_group_tests_name("sim helping", tests, NULL, NULL);
}
