/* Goal: the short ways of the commonest capability operations (one object or page delegated, one without children revoked, the last capability
 * dropped) hold against another CPU that does something to the same capability (ABI section 2; 6, "revocation while in use").
 * Method: TOP has been delegated to MID. In every order with some preemptions CPU 0 revokes while CPU 1 revokes, delegates on, translates or uses
 * the same; then what ABI section 2 says of the outcome is checked, and every invariant. Each for a semaphore and for a page of a larger node. */
#include "simtest.h"

enum act { REVOKE, DELEGATE, TRANSLATE, USE, REFILL };
struct receiver {
    struct thread thread;
    sel_t portal;
};
static struct receiver receivers[2];
static sel_t go, done;
static bool objects, self;
static enum act act;
static u64 top, mid, low, other_utcb, status, seen;

static u64 crd(u64 sel) { return objects ? crd_obj(sel, 0, 0x1f) : crd_mem(sel, 0, 7); }
static u64 perm_of(u64 sel) {
    u64 found = crd(sel);
    OK(nova_lookup(&found));
    return CRD_PERM(found);
}
static bool reached(u64 page) { return !objects && sim_mem_probe(page << PAGE_SHIFT, false); }

static void send(unsigned cpu, u64 utcb, u64 from, u64 desc, u64 window) {
    struct abi_utcb *to = utcb_at(receivers[cpu].thread.utcb);
    to->del = to->xlt = window;
    struct abi_utcb *u = utcb_at(utcb);
    u->w[UTCB_WORDS - 2] = from;
    u->w[UTCB_WORDS - 1] = desc;
    u->items = UTCB_ITEMS(0, 1);
    OK(nova_call(receivers[cpu].portal));
    utcb_at(utcb)->items = 0;
}

static void second(u64 rdi) {
    (void)rdi;
    (void)reached(mid); /* fills this CPU's TLB */
    down(go);
    switch (act) {
    case REVOKE:
        OK(nova_revoke(crd(self ? mid : top), self));
        sim_expect(!perm_of(mid) && !reached(mid));
        break;
    case DELEGATE:
        send(1, other_utcb, crd(mid), ITEM_DELEGATE, crd(low));
        break;
    case TRANSLATE:
        send(1, other_utcb, crd(mid), 0, crd(top));
        seen = utcb_at(receivers[1].thread.utcb)->w[UTCB_WORDS - 2];
        break;
    case USE:
        status = nova_sm_up(mid);
        break;
    case REFILL: /* to the same slot, from elsewhere */
        send(1, other_utcb, crd(low), ITEM_DELEGATE, crd(mid));
        break;
    }
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}

static void check(void) {
    bool there = perm_of(mid);
    sim_expect(!perm_of(low) || act == DELEGATE || act == REFILL);
    switch (act) {
    case DELEGATE: /* what came of it is gone with it */
        sim_expect(!there && !perm_of(low) && !reached(low));
        break;
    case TRANSLATE:
        sim_expect(!seen || seen == crd(top) || (objects && seen == crd_obj(top, 0, PERM_SM_UP | PERM_SM_DN)));
        break;
    case USE:
        sim_expect(status == NOVA_SUCCESS || status == NOVA_BAD_CAP);
        break;
    case REFILL: /* before the revoke the slot was taken, after it the other one is there */
        sim_expect(there == reached(mid) || objects);
        break;
    case REVOKE:
        sim_expect(!there);
        break;
    }
    sim_expect(act == REFILL || !reached(mid));
    sim_expect(perm_of(top));
}

static void root(u64 boot) {
    (void)boot;
    done = sem_make(0), go = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    ram_map(ABI_ROOT_UTCB, 2);
    top = objects ? sem_make(0) : RAM_VA >> PAGE_SHIFT;
    mid = objects ? 0x9000 : 0x60000;
    low = mid + 1;
    for (unsigned cpu = 0; cpu < 2; cpu++) {
        receivers[cpu].thread = thread_make(cpu, false, 0);
        receivers[cpu].portal = portal_make(&receivers[cpu].thread, grab_portal, 0, sel_new());
    }
    startup_make(1);
    send(0, ABI_ROOT_UTCB, crd(top), ITEM_DELEGATE, crd(mid));
    if (act == REFILL && objects)
        OK(nova_create_sm(low, SEL_PD, 0));
    else if (act == REFILL)
        send(0, ABI_ROOT_UTCB, crd(top + 1), ITEM_DELEGATE, crd(low));
    struct thread t = thread_make(1, true, (u64)second);
    other_utcb = t.utcb;
    OK(nova_create_sc(sel_new(), SEL_PD, t.ec, QPD_MAKE(10, 10000)));
    (void)reached(mid);
    sim_begin();
    up(go);
    OK(nova_revoke(crd(self ? mid : top), self));
    sim_expect(act == REFILL || (!perm_of(mid) && !reached(mid)));
    down(done);
    check();
    sim_done();
}

static void all(enum act what, bool of_objects, bool with_self, int preemptions) {
    act = what, objects = of_objects, self = with_self;
    every_schedule(root, preemptions, false);
}
static void revoked_by_two(void **s) {
    (void)s;
    for (unsigned n = 0; n < 4; n++)
        all(REVOKE, n & 1, n & 2, 1);
}
static void delegated_meanwhile(void **s) {
    (void)s;
    for (unsigned n = 0; n < 4; n++)
        all(DELEGATE, n & 1, n & 2, 1);
}
static void translated_meanwhile(void **s) {
    (void)s;
    for (unsigned n = 0; n < 4; n++)
        all(TRANSLATE, n & 1, n & 2, 1);
}
static void used_meanwhile(void **s) {
    (void)s;
    all(USE, true, false, 1);
    all(USE, true, true, DEEP);
}
static void refilled_meanwhile(void **s) {
    (void)s;
    for (unsigned n = 0; n < 4; n++)
        all(REFILL, n & 1, n & 2, 1);
}

/* --- the last capability goes while another CPU uses the object: destroyed once, and freed --- */
static void user_of_last(u64 rdi) {
    (void)rdi;
    down(go);
    status = nova_sm_up(mid);
    sim_expect(status == NOVA_SUCCESS || status == NOVA_BAD_CAP);
    up(done);
    OK(nova_sm_down(0x50, false, 0)); /* never */
}
static void last_root(u64 boot) {
    (void)boot;
    mid = 0x9000;
    done = sem_make(0), go = sem_make(0);
    OK(nova_create_sm(0x50, SEL_PD, 0));
    OK(nova_create_sm(mid, SEL_PD, 0));
    startup_make(1);
    thread_start(1, 10, user_of_last);
    sim_begin();
    up(go);
    OK(nova_revoke(crd_obj(mid, 0, 0x1f), true));
    sim_expect_eq(nova_sm_up(mid), NOVA_BAD_CAP);
    OK(nova_create_sm(mid, SEL_PD, 0)); /* the slot is free at once */
    down(done);
    sim_done();
}
static void last_capability_goes_while_used(void **s) {
    (void)s;
    every_schedule(last_root, DEEP, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(revoked_by_two),       cmocka_unit_test(delegated_meanwhile),
        cmocka_unit_test(translated_meanwhile), cmocka_unit_test(used_meanwhile),
        cmocka_unit_test(refilled_meanwhile),   cmocka_unit_test(last_capability_goes_while_used),
    };
    return cmocka_run_group_tests_name("sim leaf", tests, NULL, NULL);
}
