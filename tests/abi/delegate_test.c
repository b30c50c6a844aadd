/* Goal: typed items, sections 2 and 8: hotspots, masks, windows, holes, occupied slots, flags, translation. Method: within root's own
 * PD (grab) where that is enough, with child PDs where two spaces matter. */
#include "abi.h"

#define ALL WINDOW_ALL(CRD_OBJ)
#define DST (VA_DST >> 12)
#define RAM (VA_RAM >> 12)

static struct thread server, child, child_server;
static sel_t pt;

/* --- objects --- */
static void delegate_object(void) {
    sel_t a = sm_new(3), b = sel_new();
    CHECK_EQ(grab(crd_obj(a, 0, 0x1f), b, 0, ALL), crd_obj(b, 0, 0x1f));
    CHECK_EQ(perms_of(CRD_OBJ, b), PERM_SM_ALL);
    CHECK_EQ(nova_sm_down(b, true, 1), NOVA_SUCCESS); /* the same object */
    CHECK_EQ(nova_sm_down(a, false, 1), NOVA_TIMEOUT);
}
static void delegate_permissions(void) {
    sel_t a = sm_new(0), b = sel_new(), c = sel_new(), d = sel_new();
    CHECK_EQ(grab(crd_obj(a, 0, PERM_SM_UP), b, 0, ALL), crd_obj(b, 0, PERM_SM_UP)); /* sender's mask */
    CHECK_EQ(perms_of(CRD_OBJ, b), PERM_SM_UP);
    CHECK_EQ(nova_sm_down(b, false, 1), NOVA_BAD_CAP);
    CHECK_EQ(grab(crd_obj(a, 0, 0x1f), 0, 0, crd_obj(c, 0, PERM_SM_DN)), crd_obj(c, 0, PERM_SM_DN)); /* window's */
    CHECK_EQ(perms_of(CRD_OBJ, c), PERM_SM_DN);
    CHECK_EQ(grab(crd_obj(b, 0, 0x1f), d, 0, ALL), crd_obj(d, 0, 0x1f)); /* source's: seen is the mask */
    CHECK_EQ(perms_of(CRD_OBJ, d), PERM_SM_UP);
}
/* The sender's range is the smaller one: the hotspot says where in the window. */
static void delegate_hotspot_in_window(void) {
    sel_t a = sm_new(0), w = sels_new(4);
    CHECK_EQ(grab(crd_obj(a, 0, 0x1f), 0x735, 0, crd_obj(w, 4, 0x1f)), crd_obj(w + 5, 0, 0x1f));
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(perms_of(CRD_OBJ, w + i) != 0, i == 5);
    sel_t two = sels_new(1);
    CHECK_EQ(nova_create_sm(two, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(two + 1, SEL_PD, 7), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(two, 1, 0x1f), 0x739, 0, crd_obj(w, 4, 0x1f)), crd_obj(w + 8, 1, 0x1f));
    CHECK_EQ(nova_sm_down(w + 9, true, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(w + 8, true, 1), NOVA_TIMEOUT);
}
/* The window is the smaller one: the hotspot says which part of the sender's range. */
static void delegate_hotspot_in_source(void) {
    sel_t a = sels_new(3), w = sels_new(1);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(nova_create_sm(a + i, SEL_PD, 1ul << i), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(a, 3, 0x1f), 0x105, 0, crd_obj(w, 1, 0x1f)), crd_obj(w, 1, 0x1f));
    for (unsigned i = 0; i < 16; i++) /* part 4..5 */
        CHECK_EQ(nova_sm_down(w, false, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(w, false, 1), NOVA_TIMEOUT);
    for (unsigned i = 0; i < 32; i++)
        CHECK_EQ(nova_sm_down(w + 1, false, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(w + 1, false, 1), NOVA_TIMEOUT);
}
static void delegate_equal_sizes(void) {
    sel_t a = sels_new(1), w = sels_new(1);
    CHECK_EQ(nova_create_sm(a + 1, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(a, 1, 0x1f), 0xfff, 0, crd_obj(w, 1, 0x1f)), crd_obj(w, 1, 0x1f));
    CHECK_EQ(perms_of(CRD_OBJ, w), 0);
    CHECK_EQ(perms_of(CRD_OBJ, w + 1), PERM_SM_ALL);
}
static void delegate_null_type_mismatch(void) {
    sel_t a = sm_new(0), b = sel_new();
    CHECK_EQ(grab(crd_obj(a, 0, 0x1f), b, 0, WINDOW_ALL(CRD_MEM)), 0);
    CHECK_EQ(grab(crd_obj(a, 0, 0x1f), b, 0, 0), 0);
    CHECK_EQ(grab(0, b, 0, ALL), 0);
    CHECK_EQ(perms_of(CRD_OBJ, b), 0);
}
static void delegate_null_mask_empty(void) {
    sel_t a = sm_new(0), b = sel_new();
    CHECK_EQ(grab(crd_obj(a, 0, 0), b, 0, ALL), 0);
    CHECK_EQ(grab(crd_obj(a, 0, PERM_SM_UP), b, 0, crd_obj(0, 31, PERM_SM_DN)), 0);
    CHECK_EQ(perms_of(CRD_OBJ, b), 0);
}
/* A range with holes delegates what exists; the receiver sees the range. */
static void delegate_holes(void) {
    sel_t a = sels_new(3), w = sels_new(3);
    CHECK_EQ(nova_create_sm(a + 1, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(a + 6, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(a, 3, 0x1f), w, 0, ALL), crd_obj(w, 3, 0x1f));
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(perms_of(CRD_OBJ, w + i) != 0, i == 1 || i == 6);
    sel_t empty = sels_new(2), to = sels_new(2);
    CHECK_EQ(grab(crd_obj(empty, 2, 0x1f), to, 0, ALL), crd_obj(to, 2, 0x1f));
    CHECK_EQ(perms_of(CRD_OBJ, to), 0);
}
/* Occupied slots stay as they are, the others of the range are filled. */
static void delegate_occupied(void) {
    sel_t a = sels_new(1), w = sels_new(1);
    CHECK_EQ(nova_create_sm(a, SEL_PD, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(a + 1, SEL_PD, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(w, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(a, 1, 0x1f), w, 0, ALL), crd_obj(w, 1, 0x1f));
    CHECK_EQ(nova_sm_down(w, false, 1), NOVA_TIMEOUT); /* still the old one */
    CHECK_EQ(nova_sm_down(w + 1, false, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(a, 1, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, w), PERM_SM_ALL);
    CHECK_EQ(perms_of(CRD_OBJ, w + 1), 0);
}
/* The same again, with more permissions: the slot is occupied. */
static void delegate_twice(void) {
    sel_t a = sm_new(0), b = sel_new();
    CHECK_EQ(grab(crd_obj(a, 0, PERM_SM_UP), b, 0, ALL), crd_obj(b, 0, PERM_SM_UP));
    CHECK_EQ(grab(crd_obj(a, 0, 0x1f), b, 0, ALL), crd_obj(b, 0, 0x1f));
    CHECK_EQ(perms_of(CRD_OBJ, b), PERM_SM_UP);
}

/* --- memory --- */
static u64 grab_mem(u64 page, unsigned order, unsigned perm, u64 to, u64 flags) {
    return grab(crd_mem(page, order, perm), to, flags, WINDOW_ALL(CRD_MEM));
}
static void delegate_memory(void) {
    mem_write64((void *)VA_RAM, 0x1234);
    CHECK_EQ(grab_mem(RAM, 0, 7, DST, 0), crd_mem(DST, 0, 7));
    CHECK_EQ(mem_read64((void *)VA_DST), 0x1234);
    mem_write64((void *)(VA_DST + 8), 0x5678);
    CHECK_EQ(mem_read64((void *)(VA_RAM + 8)), 0x5678);
    CHECK(machine_probe(VA_DST, true));
}
static void delegate_memory_readonly(void) {
    CHECK_EQ(grab_mem(RAM, 0, PERM_MEM_R, DST, 0), crd_mem(DST, 0, PERM_MEM_R));
    CHECK(machine_probe(VA_DST, false));
    CHECK(!machine_probe(VA_DST, true));
    CHECK_EQ(grab_mem(DST, 0, 7, DST + 1, 0), crd_mem(DST + 1, 0, 7)); /* never more than the source */
    CHECK(!machine_probe(VA_DST + PAGE, true));
    CHECK_EQ(perms_of(CRD_MEM, DST + 1), PERM_MEM_R);
}
/* With N the right x is there, and goes on, but its own threads do not execute. */
static void delegate_memory_not_executable(void) {
    machine_code_put(VA_RAM);
    machine_code_put(VA_RAM + PAGE);
    CHECK_EQ(grab_mem(RAM, 1, 7, DST, ITEM_N), crd_mem(DST, 1, 7));
    CHECK_EQ(perms_of(CRD_MEM, DST), 7);
    CHECK(machine_probe(VA_DST, true));
    CHECK(!machine_probe_exec(VA_DST));
    CHECK_EQ(grab_mem(DST, 0, PERM_MEM_R | PERM_MEM_X, DST + 2, 0), crd_mem(DST + 2, 0, PERM_MEM_R | PERM_MEM_X));
    CHECK(machine_probe_exec(VA_DST + 2 * PAGE));
    CHECK(!machine_probe(VA_DST + 2 * PAGE, true));
    CHECK_EQ(nova_revoke(crd_mem(RAM, 0, PERM_MEM_W), false), NOVA_SUCCESS); /* splits it */
    CHECK_EQ(perms_of(CRD_MEM, DST), PERM_MEM_R | PERM_MEM_X);
    CHECK_EQ(perms_of(CRD_MEM, DST + 1), 7);
    CHECK(!machine_probe(VA_DST, true) && !machine_probe_exec(VA_DST));
    CHECK(machine_probe(VA_DST + PAGE, true) && !machine_probe_exec(VA_DST + PAGE));
    CHECK_EQ(grab_mem(DST + 1, 0, 7, DST + 1, ITEM_G | ITEM_N),
             crd_mem(DST + 1, 0, 7)); /* stays as it is in the host table */
    CHECK(machine_probe(VA_DST + PAGE, true) && !machine_probe_exec(VA_DST + PAGE));
    CHECK(machine_probe_exec(VA_DST + 2 * PAGE));
}
/* Without r no translation, but the rights are there. */
static void delegate_memory_no_read(void) {
    CHECK_EQ(grab_mem(RAM, 0, PERM_MEM_W | PERM_MEM_X, DST, 0), crd_mem(DST, 0, PERM_MEM_W | PERM_MEM_X));
    CHECK_EQ(perms_of(CRD_MEM, DST), PERM_MEM_W | PERM_MEM_X);
    CHECK(!machine_probe(VA_DST, false));
    CHECK(!machine_probe(VA_DST, true));
}
/* A block to a place of other alignment; 8 pages, then a part of them by the window. */
static void delegate_memory_range(void) {
    for (unsigned i = 0; i < 8; i++)
        mem_write64((void *)(VA_RAM + i * PAGE), 0xa0 + i);
    CHECK_EQ(grab_mem(RAM, 3, 7, DST + 8, 0), crd_mem(DST + 8, 3, 7));
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(mem_read64((void *)(VA_DST + (8 + i) * PAGE)), 0xa0 + i);
    CHECK_EQ(grab(crd_mem(RAM, 3, 7), 6, 0, crd_mem(DST + 2, 1, 7)), crd_mem(DST + 2, 1, 7));
    CHECK_EQ(mem_read64((void *)(VA_DST + 2 * PAGE)), 0xa6);
    CHECK_EQ(mem_read64((void *)(VA_DST + 3 * PAGE)), 0xa7);
    CHECK(!machine_probe(VA_DST + PAGE, false));
    CHECK(!machine_probe(VA_DST + 4 * PAGE, false));
}
static void delegate_memory_occupied(void) {
    mem_write64((void *)VA_RAM, 1);
    mem_write64((void *)(VA_RAM + 4 * PAGE), 5);
    CHECK_EQ(grab_mem(RAM + 4, 0, 7, DST + 1, 0), crd_mem(DST + 1, 0, 7));
    mem_write64((void *)(VA_RAM + PAGE), 2);
    CHECK_EQ(grab_mem(RAM, 2, 7, DST, 0), crd_mem(DST, 2, 7));
    CHECK_EQ(mem_read64((void *)VA_DST), 1);
    CHECK_EQ(mem_read64((void *)(VA_DST + PAGE)), 5);
    CHECK(machine_probe(VA_DST + 3 * PAGE, true));
}
static void delegate_utcb_never(void) {
    CHECK_EQ(grab_mem(ABI_ROOT_UTCB >> 12, 0, 7, DST, 0), crd_mem(DST, 0, 7));
    CHECK_EQ(perms_of(CRD_MEM, DST), 0);
    CHECK(!machine_probe(VA_DST, false));
    CHECK_EQ(grab_mem(ABI_ROOT_UTCB >> 12, 1, 7, DST, 0), crd_mem(DST, 1, 7)); /* with the HIP behind it */
    CHECK_EQ(perms_of(CRD_MEM, DST), 0);
}
/* G and D: also in the other tables; here it must not disturb. */
static void delegate_guest_and_dma(void) {
    mem_write64((void *)VA_RAM, 0x99);
    CHECK_EQ(grab_mem(RAM, 1, 7, DST, ITEM_G | ITEM_D), crd_mem(DST, 1, 7));
    CHECK_EQ(mem_read64((void *)VA_DST), 0x99);
    CHECK_EQ(grab(crd_pio(0x80, 0), 0, ITEM_H | ITEM_G, WINDOW_ALL(CRD_PIO)), crd_pio(0x80, 0));
    CHECK_EQ(nova_revoke(crd_mem(RAM, 1, 7), false), NOVA_SUCCESS);
    CHECK(!machine_probe(VA_DST, false));
    CHECK_EQ(nova_revoke(crd_pio(0x80, 0), true), NOVA_SUCCESS);
}

/* --- ports: identity, the hotspot is ignored --- */
static void delegate_ports(void) {
    CHECK_EQ(grab(crd_pio(0x88, 2), 0x1234, ITEM_H, WINDOW_ALL(CRD_PIO)), crd_pio(0x88, 2));
    for (unsigned p = 0x87; p <= 0x8c; p++)
        CHECK_EQ(perms_of(CRD_PIO, p), p >= 0x88 && p < 0x8c);
    (void)machine_in8(0x88);
    CHECK_EQ(abi_events_seen, 0);
    CHECK_EQ(nova_revoke(crd_pio(0x88, 0), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_PIO, 0x88), 0);
    CHECK_EQ(perms_of(CRD_PIO, 0x8b), PERM_PIO_A);
    CHECK_EQ(nova_revoke(crd_pio(0x88, 2), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_PIO, 0x8b), 0);
}
static void delegate_ports_window(void) {
    CHECK_EQ(grab(crd_pio(0x88, 2), 0, ITEM_H, crd_pio(0x8a, 0)), crd_pio(0x8a, 0));
    CHECK_EQ(perms_of(CRD_PIO, 0x88), 0);
    CHECK_EQ(perms_of(CRD_PIO, 0x8a), PERM_PIO_A);
    CHECK_EQ(nova_revoke(crd_pio(0x8a, 0), true), NOVA_SUCCESS);
}

/* --- several items --- */
static u64 got_items, got_crd[4], got_desc[4];
ENTRY(takes) {
    const struct thread *t = (const struct thread *)rdi;
    got_items = utcb_items(t);
    for (unsigned i = 0; i < 4; i++) {
        got_crd[i] = utcb_item_crd(t, i);
        got_desc[i] = utcb_item_desc(t, i);
    }
    utcb_set_items(t, 0, 0);
}
static void server_make(u64 xlt, u64 del) {
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(takes));
    utcb_windows(&server, xlt, del);
}
static void delegate_several_items(void) {
    const struct thread *m = &abi_main_thread;
    sel_t a = sm_new(0), b = sm_new(0), to = sels_new(2);
    server_make(0, ALL);
    utcb_put_item(m, 0, crd_obj(a, 0, PERM_SM_UP), DELEGATE(to, 0));
    utcb_put_item(m, 1, crd_mem(RAM, 0, 7), DELEGATE(to, 0)); /* not in this window */
    utcb_put_item(m, 2, crd_obj(b, 0, PERM_SM_DN), DELEGATE(to + 1, 0));
    utcb_set_items(m, 5, 3);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(got_items, UTCB_ITEMS(5, 3));
    CHECK_EQ(got_crd[0], crd_obj(to, 0, PERM_SM_UP));
    CHECK_EQ(got_crd[1], 0);
    CHECK_EQ(got_crd[2], crd_obj(to + 1, 0, PERM_SM_DN));
    CHECK_EQ(got_desc[0] & 1, 1);
    CHECK_EQ(got_desc[2] & 1, 1);
    CHECK_EQ(perms_of(CRD_OBJ, to), PERM_SM_UP);
    CHECK_EQ(perms_of(CRD_OBJ, to + 1), PERM_SM_DN);
}
/* 126 items at once. */
static void delegate_many_items(void) {
    const struct thread *m = &abi_main_thread;
    sel_t a = sm_new(0), to = sels_new(7);
    server_make(0, ALL);
    for (unsigned i = 0; i < 126; i++)
        utcb_put_item(m, i, crd_obj(a, 0, 0x1f), DELEGATE(to + i, 0));
    utcb_set_items(m, 0, 126);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    CHECK_EQ(got_items, UTCB_ITEMS(0, 126));
    for (unsigned i = 0; i < 128; i++)
        CHECK_EQ(perms_of(CRD_OBJ, to + i), i < 126 ? PERM_SM_ALL : 0);
}

/* --- across PDs. The child's selectors from 0x80 are free. --- */
#define C_PT   0x80ul /* portal of root's `server` */
#define C_SELF 0x81ul /* portal of the child's own local thread */
#define C_A    0x90ul
static sel_t sm;
static u64 r[6];

ENTRY(child_main) {
    const struct thread *t = (const struct thread *)rdi;
    r[0] = child_fetch(t, crd_obj(pt, 0, 0x1f), C_PT, 0, ALL);
    r[1] = child_fetch(t, crd_obj(sm, 0, PERM_SM_UP), C_A, 0, ALL);
    switch (t->arg) {
    case 0: /* uses it, tries H */
        r[2] = nova_sm_up(C_A);
        r[3] = nova_sm_down(C_A, false, 1);
        r[4] = child_fetch(t, crd_pio(0x80, 0), 0, 0, WINDOW_ALL(CRD_PIO)); /* root has no port 0x80 */
        utcb_put_item(t, 0, crd_obj(64, 0, 0x1f), DELEGATE(r[5], ITEM_H));
        utcb_set_items(t, 0, 1);
        (void)nova_call(C_PT);
        break;
    case 1: /* translates a direct capability and one of a second level */
        child_fetch(t, crd_obj(child_server.arg, 0, 0x1f), C_SELF, 0, ALL);
        utcb_windows(&child_server, 0, ALL);
        utcb_put_item(t, 0, crd_obj(C_A, 0, 0x1f), DELEGATE(C_A + 1, 0));
        utcb_set_items(t, 0, 1);
        r[2] = nova_call(C_SELF);
        utcb_put_item(t, 0, crd_obj(C_A, 0, 0x1f), 0);
        utcb_put_item(t, 1, crd_obj(C_A + 1, 0, PERM_SM_UP), 0);
        utcb_put_item(t, 2, crd_obj(HS_READY + 1000, 0, 0x1f), 0); /* nothing there */
        utcb_put_item(t, 3, crd_obj(C_A, 0, PERM_SM_DN), 0);       /* no permission in common */
        utcb_set_items(t, 0, 4);
        r[3] = nova_call(C_PT);
        break;
    case 2: /* memory */
        r[2] = child_fetch(t, crd_mem(RAM, 2, PERM_MEM_R | PERM_MEM_W), DST, 0, WINDOW_ALL(CRD_MEM));
        r[3] = mem_read64((void *)(VA_DST + PAGE));
        mem_write64((void *)(VA_DST + 2 * PAGE), 0xc0ffee);
        utcb_put_item(t, 0, crd_mem(DST + 1, 0, PERM_MEM_R), 0);
        utcb_put_item(t, 1, crd_mem(t->utcb >> 12, 0, 7), 0);
        utcb_put_item(t, 2, crd_mem(DST, 2, PERM_MEM_R), 0);
        utcb_set_items(t, 0, 3);
        r[4] = nova_call(C_PT);
        break;
    }
    wake_up(HS_READY);
}
static void child_do(u64 what) {
    sel_t pd = child_new(0);
    sm = sm_new(0);
    if (what == 1) {
        thread_local(&child_server, pd, 0);
        child_server.arg = portal_new(&child_server, 0, IP(takes));
    }
    thread_global(&child, pd, 0, IP(child_main), what);
    thread_run(&child, PRIO_MAIN);
    wait_for(EVENTS(0) + HS_READY);
    CHECK_EQ(r[0], crd_obj(C_PT, 0, 0x1f));
    CHECK_EQ(r[1], crd_obj(C_A, 0, PERM_SM_UP));
}
static void delegate_to_other_pd(void) {
    server_make(0, ALL);
    r[5] = sel_new();
    child_do(0);
    CHECK_EQ(r[2], NOVA_SUCCESS);
    CHECK_EQ(r[3], NOVA_BAD_CAP);
    CHECK_EQ(r[4], crd_pio(0x80, 0));
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_SUCCESS);
    CHECK_EQ(got_crd[0], crd_obj(r[5], 0, 0x1f)); /* H is ignored: selector 64 of the child is empty */
    CHECK_EQ(perms_of(CRD_OBJ, r[5]), 0);
}
static void translate_success(void) {
    server_make(ALL, 0);
    child_do(1);
    CHECK_EQ(r[2], NOVA_SUCCESS);
    CHECK_EQ(r[3], NOVA_SUCCESS);
    CHECK_EQ(got_items, UTCB_ITEMS(0, 4));
    CHECK_EQ(got_crd[0], crd_obj(sm, 0, PERM_SM_UP)); /* the sender's permissions */
    CHECK_EQ(got_crd[1], crd_obj(sm, 0, PERM_SM_UP)); /* two levels */
    CHECK_EQ(got_crd[2], 0);
    CHECK_EQ(got_desc[0] & 1, 0);
}
static void translate_outside_window(void) {
    for (unsigned order = 0; order <= 4; order += 2) {
        server_make(crd_obj(0, order, 0x1f), ALL);
        child_do(1);
        CHECK_EQ(got_crd[0], 0);
    }
    server_make(WINDOW_ALL(CRD_MEM), ALL);
    child_do(1);
    CHECK_EQ(got_crd[0], 0);
}
static void translate_memory(void) {
    mem_write64((void *)(VA_RAM + PAGE), 0xfeed);
    server_make(WINDOW_ALL(CRD_MEM), 0);
    child_do(2);
    CHECK_EQ(r[2], crd_mem(DST, 2, PERM_MEM_R | PERM_MEM_W));
    CHECK_EQ(r[3], 0xfeed);
    CHECK_EQ(mem_read64((void *)(VA_RAM + 2 * PAGE)), 0xc0ffee);
    CHECK_EQ(got_crd[0], crd_mem(RAM + 1, 0, PERM_MEM_R));
    CHECK_EQ(got_crd[1], 0); /* a UTCB is not translated */
    CHECK_EQ(got_crd[2], crd_mem(RAM, 2, PERM_MEM_R));
    server_make(crd_mem(RAM + 2, 0, 7), 0); /* a window in the middle of it: no more than that */
    child_do(2);
    CHECK_EQ(got_crd[0], 0);
    CHECK_EQ(got_crd[2], crd_mem(RAM + 2, 0, PERM_MEM_R));
}

const struct abi_case delegate_cases[] = {
    CASE(delegate_object),
    CASE(delegate_permissions),
    CASE(delegate_hotspot_in_window),
    CASE(delegate_hotspot_in_source),
    CASE(delegate_equal_sizes),
    CASE(delegate_null_type_mismatch),
    CASE(delegate_null_mask_empty),
    CASE(delegate_holes),
    CASE(delegate_occupied),
    CASE(delegate_twice),
    CASE(delegate_memory),
    CASE(delegate_memory_readonly),
    CASE(delegate_memory_not_executable),
    CASE(delegate_memory_no_read),
    CASE(delegate_memory_range),
    CASE(delegate_memory_occupied),
    CASE(delegate_utcb_never),
    CASE(delegate_guest_and_dma),
    CASE(delegate_ports),
    CASE(delegate_ports_window),
    CASE(delegate_several_items),
    CASE(delegate_many_items),
    CASE(delegate_to_other_pd),
    CASE(translate_success),
    CASE(translate_outside_window),
    CASE(translate_memory),
    {0},
};
