/* Goal: revoke (row 7) and lookup (row 8), recursive revocation, section 6 "revocation while in use". */
#include "abi.h"

#define ALL WINDOW_ALL(CRD_OBJ)
#define DST (VA_DST >> 12)
#define RAM (VA_RAM >> 12)

static struct thread thread, child;
static sel_t done, go;

static void revoke_success_children(void) {
    sel_t a = sm_new(0), b = copy_new(a, 0x1f), c = copy_new(a, 0x1f);
    CHECK_EQ(nova_revoke(crd_obj(a, 0, 0x1f), false), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, a), PERM_SM_ALL);
    CHECK_EQ(perms_of(CRD_OBJ, b), 0);
    CHECK_EQ(perms_of(CRD_OBJ, c), 0);
    CHECK_EQ(nova_sm_up(b), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_up(a), NOVA_SUCCESS);
}
static void revoke_success_self(void) {
    sel_t a = sm_new(0), b = copy_new(a, 0x1f);
    CHECK_EQ(nova_revoke(crd_obj(b, 0, 0x1f), true), NOVA_SUCCESS); /* a child alone */
    CHECK_EQ(perms_of(CRD_OBJ, b), 0);
    CHECK_EQ(perms_of(CRD_OBJ, a), PERM_SM_ALL);
    b = copy_new(a, 0x1f);
    CHECK_EQ(nova_revoke(crd_obj(a, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, a), 0);
    CHECK_EQ(perms_of(CRD_OBJ, b), 0);
    CHECK_EQ(nova_create_sm(a, SEL_PD, 0), NOVA_SUCCESS); /* the slot is free again */
}
static void revoke_recursive(void) {
    sel_t s[8];
    s[0] = sm_new(0);
    for (unsigned i = 1; i < 8; i++)
        s[i] = copy_new(s[i - 1], 0x1f);
    CHECK_EQ(nova_revoke(crd_obj(s[3], 0, 0x1f), false), NOVA_SUCCESS);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(perms_of(CRD_OBJ, s[i]), i <= 3 ? PERM_SM_ALL : 0);
    CHECK_EQ(nova_revoke(crd_obj(s[1], 0, 0x1f), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(perms_of(CRD_OBJ, s[i]), i < 1 ? PERM_SM_ALL : 0);
}
/* Only the masked permissions go; what has none left is gone. */
static void revoke_permissions(void) {
    sel_t a = sm_new(0), b = copy_new(a, 0x1f), c = copy_new(b, PERM_SM_UP), d = copy_new(b, PERM_SM_DN);
    CHECK_EQ(nova_revoke(crd_obj(a, 0, PERM_SM_UP), false), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, a), PERM_SM_ALL);
    CHECK_EQ(perms_of(CRD_OBJ, b), PERM_SM_DN);
    CHECK_EQ(perms_of(CRD_OBJ, c), 0);
    CHECK_EQ(perms_of(CRD_OBJ, d), PERM_SM_DN);
    CHECK_EQ(nova_sm_up(b), NOVA_BAD_CAP);
    CHECK_EQ(nova_sm_down(b, false, 1), NOVA_TIMEOUT);
    CHECK_EQ(nova_revoke(crd_obj(a, 0, PERM_SM_UP), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, a), PERM_SM_DN);
}
static void revoke_range(void) {
    sel_t a = sels_new(2);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(nova_create_sm(a + i, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(a + 2, 1, 0x1f), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(perms_of(CRD_OBJ, a + i) != 0, i < 2);
}
static void revoke_nothing(void) {
    CHECK_EQ(nova_revoke(0, true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_obj(sels_new(4), 4, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_mem(DST, 4, 7), true), NOVA_SUCCESS);
    sel_t a = sm_new(0);
    CHECK_EQ(nova_revoke(crd_obj(a, 0, 0), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, a), PERM_SM_ALL);
}

/* --- memory --- */
static void map(u64 from, u64 to, unsigned order, unsigned perm) {
    CHECK_EQ(grab(crd_mem(from, order, perm), to, 0, WINDOW_ALL(CRD_MEM)), crd_mem(to, order, perm));
}
static void revoke_memory(void) {
    map(RAM, DST, 0, 7);
    map(DST, DST + 1, 0, 7);
    CHECK(machine_probe(VA_DST, true) && machine_probe(VA_DST + PAGE, true));
    CHECK_EQ(nova_revoke(crd_mem(RAM, 0, 7), false), NOVA_SUCCESS);
    CHECK(!machine_probe(VA_DST, false) && !machine_probe(VA_DST + PAGE, false));
    CHECK(machine_probe(VA_RAM, true));
}
static void revoke_memory_write(void) {
    map(RAM, DST, 1, 7);
    CHECK(machine_probe(VA_DST, true));
    CHECK_EQ(nova_revoke(crd_mem(RAM, 0, PERM_MEM_W), false), NOVA_SUCCESS);
    CHECK(machine_probe(VA_DST, false));
    CHECK(!machine_probe(VA_DST, true));
    CHECK(machine_probe(VA_DST + PAGE, true));
    CHECK_EQ(perms_of(CRD_MEM, DST), PERM_MEM_R | PERM_MEM_X);
}
/* Part of a node: by way of the parent and in itself. */
static void revoke_memory_part(void) {
    map(RAM, DST, 3, 7);
    map(DST, DST + 8, 3, 7);
    CHECK_EQ(nova_revoke(crd_mem(RAM + 2, 1, 7), false), NOVA_SUCCESS);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(machine_probe(VA_DST + i * PAGE, true), i % 8 != 2 && i % 8 != 3);
    CHECK_EQ(nova_revoke(crd_mem(DST + 5, 0, 7), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 16; i++)
        CHECK_EQ(machine_probe(VA_DST + i * PAGE, true), i % 8 != 2 && i % 8 != 3 && i % 8 != 5);
    for (unsigned i = 0; i < 8; i++)
        CHECK(machine_probe(VA_RAM + i * PAGE, true));
}
/* A quota does not keep anybody from taking back. */
ENTRY(child_maps) {
    const struct thread *t = (const struct thread *)rdi;
    CHECK_EQ(child_fetch(t, crd_mem(RAM, 4, 7), DST, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST, 4, 7));
    thread.arg = machine_probe(VA_DST + 5 * PAGE, true);
    wake_up(HS_READY);
}
static void revoke_over_quota(void) {
    sel_t pd = child_new(0);
    thread_global(&child, pd, 0, IP(child_maps), 0);
    thread_run(&child, PRIO_MAIN);
    wait_for(EVENTS(0) + HS_READY);
    CHECK_EQ(thread.arg, 1);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 1, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_revoke(crd_mem(RAM + 5, 0, 7), false), NOVA_SUCCESS);
}

/* No kernel memory at all for the halves of a node that has to be split: nothing has changed. */
static void memory_exhaust(void) {
    u64 status = NOVA_SUCCESS, to = (VA_DST >> 12) + RAM_PAGES;
    while (status == NOVA_SUCCESS && !abi_failed())
        status = nova_create_ec(sel_new(), SEL_PD, utcb_new(), abi_cpu[0], 0, EVENTS(0), false);
    CHECK_EQ(status, NOVA_BAD_MEM);
    do
        status = nova_create_sm(sel_new(), SEL_PD, 0);
    while (status == NOVA_SUCCESS && !abi_failed());
    CHECK_EQ(status, NOVA_BAD_MEM);
    while (grab(crd_mem(RAM, 0, 3), to, 0, crd_mem(to, 0, 3)) != ~0ul &&
           !abi_failed()) /* nodes only: the tables are there */
        CHECK(++to < (VA_DST >> 12) + 512);
}
static void revoke_bad_mem(void) {
    u64 to = VA_DST >> 12, crd = crd_mem(to, RAM_ORDER, 7), status = NOVA_BAD_MEM;
    CHECK_EQ(grab(crd_mem(RAM, RAM_ORDER, 3), to, 0, crd), crd_mem(to, RAM_ORDER, 3));
    CHECK_EQ(grab(crd_mem(RAM, 0, 3), to + 511, 0, crd_mem(to + 511, 0, 7)), crd_mem(to + 511, 0, 3));
    memory_exhaust();
    CHECK_EQ(nova_revoke(crd_mem(to + 5, 0, 7), true), NOVA_BAD_MEM);
    crd = crd_mem(to + 5, 0, 7);
    CHECK_EQ(nova_lookup(&crd), NOVA_SUCCESS);
    CHECK_EQ(crd, crd_mem(to, RAM_ORDER, 3));
    CHECK(machine_probe(VA_DST + 5 * PAGE, true));
    CHECK_EQ(nova_revoke(crd_obj(SCRATCH, SCRATCH_ORDER, 0x1f), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 1000 && status == NOVA_BAD_MEM; i++, pause_us(1000)) /* a grace period */
        status = nova_revoke(crd_mem(to + 5, 0, 7), true);
    CHECK_EQ(status, NOVA_SUCCESS);
    CHECK(!machine_probe(VA_DST + 5 * PAGE, true));
    CHECK(machine_probe(VA_DST + 4 * PAGE, true));
}

/* Another CPU has used the page a moment ago: when revoke is back, it cannot any more. */
static bool revoked, page_ok;
static u64 late;
ENTRY(toucher) {
    (void)rdi;
    late = 0;
    wake_up(done);
    for (;;) {
        bool before = __atomic_load_n(&revoked, __ATOMIC_SEQ_CST);
        bool ok = machine_probe(VA_DST, true);
        late += before && ok;
        if (before || !ok)
            break;
        page_ok = true;
        machine_relax();
    }
    wake_up(done);
}
static void revoke_memory_other_cpu(void) {
    for (unsigned n = 0; n < machine_rounds(); n++) {
        done = sm_new(0);
        __atomic_store_n(&revoked, false, __ATOMIC_SEQ_CST);
        map(RAM, DST, 0, 7);
        thread_start(&thread, 1, 10, IP(toucher), 0);
        wait_for(done);
        pause_us(50);
        CHECK_EQ(nova_revoke(crd_mem(RAM, 0, 7), false), NOVA_SUCCESS);
        __atomic_store_n(&revoked, true, __ATOMIC_SEQ_CST);
        wait_for(done);
        CHECK_EQ(late, 0);
        if (n % 16 == 15)
            CHECK_EQ(nova_revoke(crd_obj(SCRATCH, SCRATCH_ORDER, 0x1f), true), NOVA_SUCCESS);
        if (abi_failed() || sel_new() > SCRATCH + 4000)
            break;
    }
}

/* A capability delegated into the subtree while it is revoked is gone as well: nothing survives a revoke of the top. */
static sel_t top, left, right;
static bool stop;
ENTRY(delegator) {
    const struct thread *t = (const struct thread *)rdi;
    for (unsigned i = 0; i < 1000 && !__atomic_load_n(&stop, __ATOMIC_SEQ_CST); i++)
        (void)child_fetch(t, crd_obj(top, 0, 0x1f), 0x90 + i % 8, 0, ALL);
    wake_up(HS_READY);
}
static void revoke_against_delegate(void) {
    sel_t pd = child_new(1);
    top = sm_new(0);
    __atomic_store_n(&stop, false, __ATOMIC_SEQ_CST);
    thread_global(&child, pd, 1, IP(delegator), 0);
    thread_run(&child, 10);
    for (unsigned n = 0; n < machine_rounds(); n++) {
        left = sel_new();
        CHECK_EQ(grab(crd_obj(top, 0, 0x1f), left, 0, ALL), crd_obj(left, 0, 0x1f));
        CHECK_EQ(nova_revoke(crd_obj(top, 0, 0x1f), false), NOVA_SUCCESS);
        CHECK_EQ(perms_of(CRD_OBJ, left), 0);
        if (left > SCRATCH + 4000)
            break;
    }
    right = copy_new(top, 0x1f);
    __atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
    wait_for(EVENTS(1) + HS_READY);
    CHECK_EQ(nova_revoke(crd_obj(top, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, right), 0);
}

/* A semaphore is revoked while another CPU ups it. */
ENTRY(upper) {
    (void)rdi;
    u64 s;
    wake_up(done);
    do
        s = nova_sm_up(go);
    while (s == NOVA_SUCCESS);
    thread.arg = s;
    wake_up(done);
}
static void revoke_object_in_use(void) {
    for (unsigned n = 0; n < machine_rounds() && n < 200; n++) {
        done = sm_new(0), go = sm_new(0);
        thread_start(&thread, 1, 10, IP(upper), 0);
        wait_for(done);
        CHECK_EQ(nova_revoke(crd_obj(go, 0, 0x1f), true), NOVA_SUCCESS);
        wait_for(done);
        CHECK_EQ(thread.arg, NOVA_BAD_CAP);
    }
}

/* --- lookup --- */
static void lookup_object(void) {
    sel_t a = sm_new(0), b = copy_new(a, PERM_SM_DN);
    u64 c = crd_obj(b, 0, 0x1f);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, crd_obj(b, 0, PERM_SM_DN));
    c = crd_obj(b + (1ul << 26), 0, 0);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, crd_obj(b, 0, PERM_SM_DN));
}
static void lookup_empty(void) {
    u64 c = crd_obj(sel_new(), 0, 0x1f);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, 0);
    c = crd_mem(DST, 0, 0x1f);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, 0);
    c = 0;
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, 0);
    c = ~0xffful | CRD_MEM; /* far outside */
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, 0);
}
/* The whole node, not one page. */
static void lookup_node(void) {
    u64 c = crd_mem(RAM + 3, 0, 0);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, crd_mem(RAM, RAM_ORDER, PERM_MEM_ALL));
    map(RAM, DST + 4, 2, 5);
    c = crd_mem(DST + 6, 0, 0);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, crd_mem(DST + 4, 2, 5));
}

const struct abi_case revoke_cases[] = {
    CASE(revoke_success_children),
    CASE(revoke_success_self),
    CASE(revoke_recursive),
    CASE(revoke_permissions),
    CASE(revoke_range),
    CASE(revoke_nothing),
    CASE(revoke_memory),
    CASE(revoke_memory_write),
    CASE(revoke_memory_part),
    CASE(revoke_over_quota),
    CASE(revoke_bad_mem),
    CASE_CPUS(revoke_memory_other_cpu, 2),
    CASE_CPUS(revoke_against_delegate, 2),
    CASE_CPUS(revoke_object_in_use, 2),
    CASE(lookup_object),
    CASE(lookup_empty),
    CASE(lookup_node),
    {0},
};
