/* Goal: the five creating hypercalls, section 5 rows 2 to 6: success and every status. Method: one condition a case; after a
 * failure the slot must still be free. */
#include "abi.h"

static struct thread thread, other;

static void free_slot(sel_t s) { CHECK_EQ(perms_of(CRD_OBJ, s), 0); }

/* Any status of a creation with wrong owners: nothing there, another type, without the permission `perm`. */
static void owners(u64 (*create)(sel_t sel, sel_t owner), unsigned perm) {
    sel_t s = sel_new();
    CHECK_EQ(create(s, sel_new()), NOVA_BAD_CAP);
    CHECK_EQ(create(s, SEL_NEVER), NOVA_BAD_CAP);
    CHECK_EQ(create(s, copy_new(SEL_PD, PERM_PD_ALL & ~perm)), NOVA_BAD_CAP);
    free_slot(s);
    CHECK_EQ(create(s, copy_new(SEL_PD, perm)), NOVA_SUCCESS);
    CHECK_EQ(create(s, SEL_PD), NOVA_BAD_CAP); /* occupied */
    CHECK(perms_of(CRD_OBJ, s) != 0);
}

/* Over quota: nothing changed, and with memory it works. */
static void quota(u64 (*create)(sel_t sel, sel_t owner)) {
    u64 before[2], after[2];
    sel_t pd = sel_new(), s = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(create(sel_new(), pd), NOVA_SUCCESS); /* tables and slabs are there */
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, before), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, before[0], NULL), NOVA_SUCCESS);
    CHECK_EQ(create(s, pd), NOVA_BAD_MEM);
    free_slot(s);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, after), NOVA_SUCCESS);
    CHECK_EQ(after[0], before[0]);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 0, NULL), NOVA_SUCCESS);
    CHECK_EQ(create(s, pd), NOVA_SUCCESS);
}

static u64 make_pd(sel_t s, sel_t owner) { return nova_create_pd(s, owner, 0); }
static u64 make_sm(sel_t s, sel_t owner) { return nova_create_sm(s, owner, 0); }
static u64 make_ec(sel_t s, sel_t owner) {
    return nova_create_ec(s, owner, utcb_new(), abi_cpu[0], 0, EVENTS(0), false);
}
static u64 make_pt(sel_t s, sel_t owner) { return nova_create_pt(s, owner, thread.ec, 0, abi_exit_ip()); }
static u64 make_sc(sel_t s, sel_t owner) {
    thread_global(&other, SEL_PD, 0, abi_exit_ip(), 0);
    return nova_create_sc(s, owner, other.ec, QPD_MAKE(1, 1000));
}

/* --- PD --- */
static void create_pd_success(void) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_pd(s, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_PD_ALL);
}
static u64 child_perms[4];
static sel_t done;
ENTRY(child_looks) {
    (void)rdi;
    child_perms[0] = perms_of(CRD_OBJ, HS_READY);
    child_perms[1] = perms_of(CRD_OBJ, HS_GIVE);
    child_perms[2] = perms_of(CRD_OBJ, 64);
    child_perms[3] = perms_of(CRD_OBJ, SEL_PD);
    wake_up(HS_READY);
}
/* The CRD's range lands at its selectors modulo the range, hotspot 0. */
static void create_pd_delegates(void) {
    sel_t pd = child_new(0);
    thread_global(&thread, pd, 0, IP(child_looks), 0);
    thread_run(&thread, PRIO_MAIN);
    wait_for(EVENTS(0) + HS_READY);
    CHECK_EQ(child_perms[0], PERM_SM_ALL);
    CHECK_EQ(child_perms[1], PERM_PT_ALL);
    CHECK_EQ(child_perms[2], 0);
    CHECK_EQ(child_perms[3], PERM_SM_ALL); /* what EVENTS(0) + 32 is */
}
static void create_pd_bad_cap(void) { owners(make_pd, PERM_PD_PD); }
static void create_pd_bad_mem(void) { quota(make_pd); }
/* Memory for the PD, none for its capabilities: there is no PD, and what it took comes back. */
static void create_pd_bad_mem_delegation(void) {
    u64 empty[2], one[2], after[2];
    sel_t owner = sel_new(), s = sel_new();
    CHECK_EQ(nova_create_pd(owner, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, owner, 0, empty), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(sel_new(), owner, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, owner, 0, one), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, owner, one[0] + (one[0] - empty[0]), NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(s, owner, crd_obj(EVENTS(0), 6, 0x1f)), NOVA_BAD_MEM);
    free_slot(s);
    for (unsigned i = 0; i < 100; i++, pause_us(1000)) { /* a grace period */
        CHECK_EQ(nova_extension(EXT_KMEM_USAGE, owner, 0, after), NOVA_SUCCESS);
        if (after[0] == one[0])
            break;
    }
    CHECK_EQ(after[0], one[0]);
    CHECK_EQ(nova_create_pd(s, owner, 0), NOVA_SUCCESS);
}
/* A new PD has the permissions of the owner capability that was used. */
static void create_pd_permissions(void) {
    sel_t s = sel_new(), owner = copy_new(SEL_PD, PERM_PD_PD | PERM_PD_SM);
    CHECK_EQ(nova_create_pd(s, owner, 0), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_PD_PD | PERM_PD_SM);
    CHECK_EQ(nova_create_sm(sel_new(), s, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(sel_new(), s, utcb_new(), abi_cpu[0], 0, 0, false), NOVA_BAD_CAP);
}

/* --- EC --- */
static void create_ec_success_local(void) {
    sel_t s = sel_new();
    u64 u = utcb_new();
    CHECK_EQ(nova_create_ec(s, SEL_PD, u, abi_cpu[0], 0, EVENTS(0), false), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_EC_ALL);
    CHECK(machine_probe(u, true));
    for (unsigned i = 0; i < PAGE / 8; i++) /* a new UTCB is zero */
        CHECK_EQ(mem_read64((void *)(u + 8 * i)), 0);
}
static void create_ec_success_global(void) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_ec(s, SEL_PD, utcb_new(), abi_cpu[0], 0, EVENTS(0), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_EC_ALL);
}
static void create_ec_success_vcpu(void) {
    sel_t s = sel_new(), pd = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(s, pd, 0, abi_cpu[0], 0, sels_new(8), true), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_EC_ALL);
}
static void create_ec_bad_ftr(void) {
    u32 f = (u32)mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features)));
    sel_t s = sel_new();
    u64 status = nova_create_ec(s, SEL_PD, 0, abi_cpu[0], 0, sels_new(8), true);
    CHECK_EQ(status, f & (HIP_VMX | HIP_SVM) ? NOVA_SUCCESS : NOVA_BAD_FTR);
}
static void create_ec_bad_cap(void) { owners(make_ec, PERM_PD_EC); }
static void create_ec_bad_mem(void) { quota(make_ec); }
static void create_ec_bad_cpu(void) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_ec(s, SEL_PD, utcb_new(), 64, 0, 0, false), NOVA_BAD_CPU);
    CHECK_EQ(nova_create_ec(s, SEL_PD, utcb_new(), 4095, 0, 0, false), NOVA_BAD_CPU);
    for (u32 i = 0; i < ABI_MAX_CPUS; i++)
        if (!(mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, cpu) + 8 * i)) & 1))
            CHECK_EQ(nova_create_ec(s, SEL_PD, utcb_new(), i, 0, 0, false), NOVA_BAD_CPU);
    free_slot(s);
}
static void create_ec_bad_par(void) {
    sel_t s = sel_new();
    u64 c = abi_cpu[0];
    CHECK_EQ(nova_create_ec(s, SEL_PD, ABI_ROOT_UTCB, (u32)c, 0, 0, false), NOVA_BAD_PAR); /* occupied */
    CHECK_EQ(nova_create_ec(s, SEL_PD, VA_RAM, (u32)c, 0, 0, false), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_ec(s, SEL_PD, 0x7ffffffff000, (u32)c, 0, 0, false), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_ec(s, SEL_PD, 0x800000000000, (u32)c, 0, 0, false), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_ec(s, SEL_PD, 0xffff800000000000, (u32)c, 0, 0, true), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_ec(s, SEL_PD, 0xfffffffffffff000, (u32)c, 0, 0, false), NOVA_BAD_PAR);
    free_slot(s);
}
/* The capability lands in the creator's space, the UTCB in the owner's. */
static void create_ec_other_owner(void) {
    sel_t pd = child_new(0);
    thread_local(&thread, pd, 0);
    CHECK_EQ(perms_of(CRD_OBJ, thread.ec), PERM_EC_ALL);
    CHECK(!machine_probe(thread.utcb, false));
    u64 u = thread.utcb; /* free here, taken there */
    CHECK_EQ(nova_create_ec(sel_new(), pd, u, abi_cpu[0], 0, 0, false), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_ec(sel_new(), SEL_PD, u, abi_cpu[0], 0, 0, false), NOVA_SUCCESS);
}

/* --- SC --- */
static u64 ran;
ENTRY(runs) {
    ran = rdi;
    wake_up(done);
}
static void create_sc_success(void) {
    done = sm_new(0), ran = 0;
    thread_global(&thread, SEL_PD, 0, IP(runs), 0);
    pause_us(100);
    CHECK_EQ(ran, 0); /* not before it has an SC */
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(ran, (u64)&thread);
    CHECK_EQ(perms_of(CRD_OBJ, thread.sc), PERM_SC_ALL);
}
static void create_sc_success_other_cpu(void) {
    done = sm_new(0), ran = 0;
    thread_start(&thread, 1, 1, IP(runs), 0);
    wait_for(done);
    CHECK_EQ(ran, (u64)&thread);
}
static void create_sc_bad_cap(void) { owners(make_sc, PERM_PD_SC); }
static void create_sc_bad_mem(void) { quota(make_sc); }
static void create_sc_bad_cap_ec(void) {
    sel_t s = sel_new();
    u64 q = QPD_MAKE(1, 1000);
    thread_local(&thread, SEL_PD, 0);
    thread_global(&other, SEL_PD, 0, abi_exit_ip(), 0);
    CHECK_EQ(nova_create_sc(s, SEL_PD, sel_new(), q), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_sc(s, SEL_PD, SEL_NEVER, q), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, q), NOVA_BAD_CAP); /* local */
    CHECK_EQ(nova_create_sc(s, SEL_PD, copy_new(other.ec, PERM_EC_CT | PERM_EC_PT), q), NOVA_BAD_CAP);
    free_slot(s);
    CHECK_EQ(nova_create_sc(s, SEL_PD, copy_new(other.ec, PERM_EC_SC), q), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, other.ec, q), NOVA_BAD_CAP); /* has one already */
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, SEL_EC, q), NOVA_BAD_CAP);
}
static void create_sc_bad_par(void) {
    sel_t s = sel_new();
    thread_global(&thread, SEL_PD, 0, abi_exit_ip(), 0);
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, QPD_MAKE(1, 0)), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, QPD_MAKE(0, 1000)), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, QPD_MAKE(128, 1000)), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, QPD_MAKE(255, 1000)), NOVA_BAD_PAR);
    free_slot(s);
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, QPD_MAKE(127, 0xfffffffffffff)), NOVA_SUCCESS);
}
/* When the SC is gone the EC may get another one. */
static void create_sc_again(void) {
    done = sm_new(0);
    thread_start(&thread, 0, PRIO_MAIN, IP(runs), 0);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(thread.sc, 0, 0x1f), true), NOVA_SUCCESS);
    u64 status = NOVA_BAD_CAP;
    for (unsigned i = 0; i < 200 && status == NOVA_BAD_CAP; i++) {
        pause_us(100);
        status = nova_create_sc(thread.sc, SEL_PD, thread.ec, QPD_MAKE(1, 1000));
    }
    CHECK_EQ(status, NOVA_SUCCESS);
}

/* --- PT --- */
static void create_pt_success(void) {
    thread_local(&thread, SEL_PD, 0);
    sel_t s = sel_new();
    CHECK_EQ(nova_create_pt(s, SEL_PD, thread.ec, 0, abi_exit_ip()), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_PT_ALL);
    CHECK_EQ(nova_call(s), NOVA_SUCCESS);
}
static void create_pt_bad_cap(void) {
    thread_local(&thread, SEL_PD, 0);
    owners(make_pt, PERM_PD_PT);
}
static void create_pt_bad_mem(void) {
    thread_local(&thread, SEL_PD, 0);
    quota(make_pt);
}
static void create_pt_bad_cap_ec(void) {
    sel_t s = sel_new();
    u64 ip = abi_exit_ip();
    thread_local(&thread, SEL_PD, 0);
    thread_global(&other, SEL_PD, 0, ip, 0);
    CHECK_EQ(nova_create_pt(s, SEL_PD, sel_new(), 0, ip), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(s, SEL_PD, SEL_NEVER, 0, ip), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(s, SEL_PD, other.ec, 0, ip), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(s, SEL_PD, SEL_EC, 0, ip), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(s, SEL_PD, copy_new(thread.ec, PERM_EC_CT | PERM_EC_SC), 0, ip), NOVA_BAD_CAP);
    free_slot(s);
    CHECK_EQ(nova_create_pt(s, SEL_PD, copy_new(thread.ec, PERM_EC_PT), 0, ip), NOVA_SUCCESS);
}
static void create_pt_bad_par(void) {
    sel_t s = sel_new();
    thread_local(&thread, SEL_PD, 0);
    CHECK_EQ(nova_create_pt(s, SEL_PD, thread.ec, 0, 0x7ffffffff000), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_pt(s, SEL_PD, thread.ec, 0, 0x800000000000), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_pt(s, SEL_PD, thread.ec, 0, 0xffffffff80000000), NOVA_BAD_PAR);
    free_slot(s);
}

/* --- SM --- */
static void create_sm_success(void) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_sm(s, SEL_PD, 2), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_SM_ALL);
    CHECK_EQ(nova_sm_down(s, false, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(s, false, 1), NOVA_SUCCESS);
    CHECK_EQ(nova_sm_down(s, false, 1), NOVA_TIMEOUT);
}
static void create_sm_bad_cap(void) { owners(make_sm, PERM_PD_SM); }
static void create_sm_bad_mem(void) { quota(make_sm); }
static void create_selector_modulo(void) {
    sel_t s = sel_new();
    CHECK_EQ(nova_create_sm(s + (3ul << 26), SEL_PD + (1ul << 26), 0), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, s), PERM_SM_ALL);
    sel_t last = (1ul << 26) - 1; /* the table's far end */
    CHECK_EQ(nova_create_sm(last, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(perms_of(CRD_OBJ, last), PERM_SM_ALL);
    CHECK_EQ(nova_revoke(crd_obj(last, 0, 0x1f), true), NOVA_SUCCESS);
    free_slot(last);
}

const struct abi_case create_cases[] = {
    CASE(create_pd_success),
    CASE(create_pd_delegates),
    CASE(create_pd_bad_cap),
    CASE(create_pd_bad_mem),
    CASE(create_pd_bad_mem_delegation),
    CASE(create_pd_permissions),
    CASE(create_ec_success_local),
    CASE(create_ec_success_global),
    CASE_FEATURE(create_ec_success_vcpu, HIP_VMX | HIP_SVM),
    CASE(create_ec_bad_ftr),
    CASE(create_ec_bad_cap),
    CASE(create_ec_bad_mem),
    CASE(create_ec_bad_cpu),
    CASE(create_ec_bad_par),
    CASE(create_ec_other_owner),
    CASE(create_sc_success),
    CASE_CPUS(create_sc_success_other_cpu, 2),
    CASE(create_sc_bad_cap),
    CASE(create_sc_bad_mem),
    CASE(create_sc_bad_cap_ec),
    CASE(create_sc_bad_par),
    CASE(create_sc_again),
    CASE(create_pt_success),
    CASE(create_pt_bad_cap),
    CASE(create_pt_bad_mem),
    CASE(create_pt_bad_cap_ec),
    CASE(create_pt_bad_par),
    CASE(create_sm_success),
    CASE(create_sm_bad_cap),
    CASE(create_sm_bad_mem),
    CASE(create_selector_modulo),
    {0},
};
