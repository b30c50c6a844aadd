/* Goal: checks run left to right over the arguments, then the state (section 5); every permission bit with and without (section 1); what H
 * gives (sections 2, 7, 8); what an account is charged for (section 10). */
#include "abi.h"

#define ALL WINDOW_ALL(CRD_OBJ)
#define DST (VA_DST >> 12)
#define RAM (VA_RAM >> 12)

static struct thread thread, other;

static u64 hip_u32(unsigned offset) {
    u64 word = mem_read64((void *)(ABI_HIP_ADDR + (offset & ~7u)));
    return offset & 4 ? word >> 32 : word & 0xffffffff;
}

/* --- order of checks --- */
#define BAD_UTCB 0xffff800000000000ul
#define BAD_CPU  4095u
static void order_create_ec(void) {
    sel_t none = sel_new(), taken = sm_new(0), s = sel_new();
    CHECK_EQ(nova_create_ec(s, none, BAD_UTCB, BAD_CPU, 0, 0, false), NOVA_BAD_CAP);       /* RSI */
    CHECK_EQ(nova_create_ec(taken, SEL_PD, BAD_UTCB, BAD_CPU, 0, 0, false), NOVA_BAD_PAR); /* RDX: UTCB, then CPU */
    CHECK_EQ(nova_create_ec(taken, SEL_PD, utcb_new(), BAD_CPU, 0, 0, false), NOVA_BAD_CPU);
    CHECK_EQ(nova_create_ec(taken, SEL_PD, ABI_ROOT_UTCB, abi_cpu[0], 0, 0, false),
             NOVA_BAD_CAP); /* state: slot, then address */
    CHECK_EQ(nova_create_ec(s, SEL_PD, ABI_ROOT_UTCB, abi_cpu[0], 0, 0, false), NOVA_BAD_PAR);
    CHECK_EQ(perms_of(CRD_OBJ, s), 0);
    CHECK_EQ(perms_of(CRD_OBJ, taken), PERM_SM_ALL);
}
static void order_create_sc(void) {
    sel_t none = sel_new(), taken = sm_new(0), s = sel_new();
    thread_local(&thread, SEL_PD, 0);
    thread_global(&other, SEL_PD, 0, abi_exit_ip(), 0);
    CHECK_EQ(nova_create_sc(s, none, other.ec, QPD_MAKE(0, 0)), NOVA_BAD_CAP);       /* RSI */
    CHECK_EQ(nova_create_sc(s, SEL_PD, none, QPD_MAKE(0, 0)), NOVA_BAD_CAP);         /* RDX */
    CHECK_EQ(nova_create_sc(s, SEL_PD, thread.ec, QPD_MAKE(0, 0)), NOVA_BAD_CAP);    /* a local thread */
    CHECK_EQ(nova_create_sc(taken, SEL_PD, other.ec, QPD_MAKE(0, 9)), NOVA_BAD_PAR); /* RAX */
    CHECK_EQ(nova_create_sc(taken, SEL_PD, other.ec, QPD_MAKE(9, 0)), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_sc(s, SEL_PD, SEL_EC, QPD_MAKE(0, 0)), NOVA_BAD_PAR); /* that it has one already is state */
    CHECK_EQ(nova_create_sc(taken, SEL_PD, other.ec, QPD_MAKE(9, 9)), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_sc(s, SEL_PD, other.ec, QPD_MAKE(9, 9)), NOVA_SUCCESS);
}
static void order_create_pt(void) {
    sel_t none = sel_new(), taken = sm_new(0), s = sel_new();
    thread_local(&thread, SEL_PD, 0);
    CHECK_EQ(nova_create_pt(s, none, thread.ec, 0, BAD_UTCB), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(s, SEL_PD, none, 0, BAD_UTCB), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(s, SEL_PD, SEL_EC, 0, BAD_UTCB), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(taken, SEL_PD, thread.ec, 0, BAD_UTCB), NOVA_BAD_PAR);
    CHECK_EQ(nova_create_pt(taken, SEL_PD, thread.ec, 0, abi_exit_ip()), NOVA_BAD_CAP);
}
static void order_assign_gsi(void) {
    sel_t s = sel_new(), msi = sel_new();
    u64 gsis = hip_u32(0x24);
    CHECK_EQ(grab(crd_obj(64 + machine_gsi(), 0, 0x1f), s, ITEM_H, ALL), crd_obj(s, 0, 0x1f));
    CHECK_EQ(grab(crd_obj(64 + gsis - 1, 0, 0x1f), msi, ITEM_H, ALL), crd_obj(msi, 0, 0x1f));
    CHECK_EQ(nova_assign_gsi(sel_new(), BAD_UTCB, BAD_CPU, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_assign_gsi(msi, BAD_UTCB, BAD_CPU, NULL), NOVA_BAD_DEV);
    CHECK_EQ(nova_assign_gsi(s, BAD_UTCB, BAD_CPU, NULL), NOVA_BAD_CPU); /* dev counts only for MSI */
    CHECK_EQ(nova_assign_gsi(s, BAD_UTCB, abi_cpu[0], NULL), NOVA_SUCCESS);
}
/* A busy callee on another CPU: BAD_CPU, whatever the flag; a dead one is ABORTED, not TIMEOUT. */
ENTRY(dies) {
    (void)rdi;
    machine_undefined();
}
static void order_call(void) {
    static struct thread far;
    sel_t base = sels_new(5), ec = sel_new(), pt = sel_new();
    thread_local(&far, SEL_PD, 1);
    sel_t away = portal_new(&far, 0, abi_exit_ip());
    CHECK_EQ(nova_call_try(away), NOVA_BAD_CPU);
    thread_local(&thread, SEL_PD, 0); /* for its stack */
    CHECK_EQ(nova_create_ec(ec, SEL_PD, utcb_new(), abi_cpu[0], thread.sp, base, false), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(pt, SEL_PD, ec, 0, IP(dies)), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_ABORTED);
    CHECK_EQ(nova_call_try(pt), NOVA_ABORTED);
}

/* --- permission bits --- */
/* Every creation with each single bit of the owner, and with all but it. */
static void perm_pd_each_bit(void) {
    static struct thread spare[5];
    thread_local(&thread, SEL_PD, 0);
    for (unsigned bit = 0; bit < 5; bit++) {
        sel_t one = copy_new(SEL_PD, 1u << bit), rest = copy_new(SEL_PD, PERM_PD_ALL & ~(1u << bit));
        thread_global(&spare[bit], SEL_PD, 0, abi_exit_ip(), 0);
        for (unsigned use = 0; use < 5; use++) {
            sel_t owner[2] = {one, rest};
            for (unsigned k = 0; k < 2; k++) {
                sel_t s = sel_new();
                bool allowed = k ? use != bit : use == bit;
                if (k && use == 2) /* a fresh thread for a second SC */
                    thread_global(&spare[bit], SEL_PD, 0, abi_exit_ip(), 0);
                u64 status = use == 0   ? nova_create_pd(s, owner[k], 0)
                             : use == 1 ? nova_create_ec(s, owner[k], utcb_new(), abi_cpu[0], 0, 0, false)
                             : use == 2 ? nova_create_sc(s, owner[k], spare[bit].ec, QPD_MAKE(1, 1000))
                             : use == 3 ? nova_create_pt(s, owner[k], thread.ec, 0, abi_exit_ip())
                                        : nova_create_sm(s, owner[k], 0);
                CHECK_EQ(status, allowed ? NOVA_SUCCESS : NOVA_BAD_CAP);
                CHECK_EQ(perms_of(CRD_OBJ, s) != 0, allowed);
            }
        }
        CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, rest, 0, NULL), NOVA_BAD_CAP);
        u64 out[2];
        CHECK_EQ(nova_extension(EXT_KMEM_USAGE, one, 0, out), NOVA_SUCCESS);
    }
}
/* Every use of EC, PT, SM and SC capabilities with each single bit. */
static void perm_object_each_bit(void) {
    u64 us;
    thread_local(&thread, SEL_PD, 0);
    thread_global(&other, SEL_PD, 0, abi_exit_ip(), 0);
    sel_t pt = portal_new(&thread, 0, abi_exit_ip()), sm = sm_new(4);
    for (unsigned bit = 0; bit < 4; bit++) {
        if (!(PERM_EC_ALL >> bit & 1))
            continue;
        sel_t local = copy_new(thread.ec, 1u << bit), global = copy_new(other.ec, 1u << bit);
        CHECK_EQ(nova_recall(local), bit == 0 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_create_pt(sel_new(), SEL_PD, local, 0, abi_exit_ip()), bit == 3 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, global, QPD_MAKE(1, 1000)), bit == 2 ? NOVA_SUCCESS : NOVA_BAD_CAP);
    }
    for (unsigned bit = 0; bit < 2; bit++) {
        sel_t p = copy_new(pt, 1u << bit), s = copy_new(sm, 1u << bit);
        CHECK_EQ(nova_pt_ctrl(p, 1), bit == 0 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_call(p), bit == 1 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_call_try(p), bit == 1 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_sm_up(s), bit == 0 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_sm_down(s, false, 1), bit == 1 ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_sm_down(s, true, 1), bit == 1 ? NOVA_SUCCESS : NOVA_BAD_CAP);
    }
    CHECK_EQ(nova_sc_time(copy_new(SEL_SC, PERM_SC_CT), &us), NOVA_SUCCESS);
}
/* r, w, x in all combinations: what can be done with the page is what the capability says, and nothing without r. */
static void perm_memory_each(void) {
    machine_code_put(VA_RAM);
    for (unsigned perm = 1; perm < 8; perm++) {
        CHECK_EQ(grab(crd_mem(RAM, 0, perm), DST, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST, 0, perm));
        CHECK_EQ(perms_of(CRD_MEM, DST), perm);
        CHECK_EQ(machine_probe(VA_DST, false), (perm & 1) != 0);
        CHECK_EQ(machine_probe(VA_DST, true), (perm & 3) == 3);
        CHECK_EQ(machine_probe_exec(VA_DST), (perm & 5) == 5);
        CHECK_EQ(nova_revoke(crd_mem(RAM, 0, 7), false), NOVA_SUCCESS);
        CHECK_EQ(perms_of(CRD_MEM, DST), 0);
    }
}
/* And after a revoke of each mask: r goes, the others stay recorded. */
static void perm_memory_revoked(void) {
    machine_code_put(VA_RAM);
    for (unsigned mask = 1; mask < 8; mask++) {
        unsigned left = 7 & ~mask;
        CHECK_EQ(grab(crd_mem(RAM, 0, 7), DST, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST, 0, 7));
        CHECK(machine_probe(VA_DST, true) && machine_probe_exec(VA_DST));
        CHECK_EQ(nova_revoke(crd_mem(RAM, 0, mask), false), NOVA_SUCCESS);
        CHECK_EQ(perms_of(CRD_MEM, DST), left);
        CHECK_EQ(machine_probe(VA_DST, false), (left & 1) != 0);
        CHECK_EQ(machine_probe(VA_DST, true), (left & 3) == 3);
        CHECK_EQ(machine_probe_exec(VA_DST), (left & 5) == 5);
        CHECK_EQ(nova_revoke(crd_mem(RAM, 0, 7), false), NOVA_SUCCESS);
    }
}

/* --- H --- */
static bool h_gives(u64 crd, u64 to, u64 window) {
    u64 type = CRD_TYPE(crd), at = type == CRD_PIO ? CRD_BASE(crd) : to;
    (void)grab(crd, to, ITEM_H, window);
    unsigned got = perms_of((unsigned)type, at);
    CHECK_EQ(nova_revoke(CRD_MAKE(type, at, 0, 0x1f), true), NOVA_SUCCESS);
    return got == (type == CRD_MEM ? PERM_MEM_ALL : type == CRD_PIO ? PERM_PIO_A : got) && got;
}
static void h_memory(void) {
    static const u64 page[] = {0, 1, 0xa0, 0xb8, 0xf0, 0xff, 0xb0000, 0xe0000};
    for (unsigned i = 0; i < sizeof(page) / sizeof(page[0]);
         i++) /* BIOS data, video memory, ROM, configuration space, devices */
        CHECK(h_gives(crd_mem(page[i], 0, 7), DST, WINDOW_ALL(CRD_MEM)));
    CHECK(!h_gives(crd_mem(0xfee00, 0, 7), DST, WINDOW_ALL(CRD_MEM))); /* the LAPIC's registers */
}
static void h_ports(void) {
    static const u64 port[] = {0x80, 0xcf8, 0xffff};
    for (unsigned i = 0; i < 3; i++)
        CHECK(h_gives(crd_pio(port[i], 0), 0, WINDOW_ALL(CRD_PIO)));
}
static void h_selectors(void) {
    sel_t s = sel_new();
    u64 us, gsis = hip_u32(0x24);
    for (unsigned i = 0; i < 64; i++) { /* an idle SC for each CPU that the HIP shows */
        bool enabled = mem_read64((void *)(ABI_HIP_ADDR + 0x38 + 8 * i)) & 1;
        (void)grab(crd_obj(i, 0, 0x1f), s, ITEM_H, ALL);
        CHECK_EQ(perms_of(CRD_OBJ, s), enabled ? PERM_SC_ALL : 0u);
        CHECK_EQ(nova_sc_time(s, &us), enabled ? NOVA_SUCCESS : NOVA_BAD_CAP);
        CHECK_EQ(nova_revoke(crd_obj(s, 0, 0x1f), true), NOVA_SUCCESS);
    }
    CHECK(gsis <= 128);
    for (u64 g = 0; g <= gsis; g++) { /* 64 + g: the semaphore of GSI g, and none behind the last */
        (void)grab(crd_obj(64 + g, 0, 0x1f), s, ITEM_H, ALL);
        CHECK_EQ(perms_of(CRD_OBJ, s), g < gsis ? PERM_SM_ALL : 0u);
        CHECK_EQ(nova_assign_gsi(s, 0, BAD_CPU, NULL) == NOVA_BAD_CAP, g == gsis); /* it is an interrupt */
        CHECK_EQ(nova_revoke(crd_obj(s, 0, 0x1f), true), NOVA_SUCCESS);
    }
}

/* --- a range with holes, of pages and of ports --- */
static void delegate_memory_holes(void) {
    CHECK_EQ(grab(crd_mem(RAM, 0, 7), DST + 1, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST + 1, 0, 7));
    CHECK_EQ(grab(crd_mem(RAM + 2, 1, 3), DST + 6, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST + 6, 1, 3));
    CHECK_EQ(grab(crd_mem(DST, 3, 7), DST + 16, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST + 16, 3, 7));
    for (unsigned i = 0; i < 8; i++)
        CHECK_EQ(perms_of(CRD_MEM, DST + 16 + i), i == 1 ? 7u : i >= 6 ? 3u : 0u);
}
/* lookup: the node's own range, after a part of it has gone the pieces that are left. */
static void lookup_pieces(void) {
    u64 c;
    CHECK_EQ(grab(crd_mem(RAM, 3, 7), DST + 8, 0, WINDOW_ALL(CRD_MEM)), crd_mem(DST + 8, 3, 7));
    for (unsigned i = 0; i < 8; i++) {
        c = crd_mem(DST + 8 + i, 0, 0);
        CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
        CHECK_EQ(c, crd_mem(DST + 8, 3, 7));
    }
    CHECK_EQ(nova_revoke(crd_mem(DST + 8 + 5, 0, 7), true), NOVA_SUCCESS);
    for (unsigned i = 0; i < 8; i++) {
        c = crd_mem(DST + 8 + i, 0, 0);
        CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
        if (i == 5)
            CHECK_EQ(c, 0);
        else /* naturally aligned, covers the page, without the hole */
            CHECK(CRD_BASE(c) <= DST + 8 + i && DST + 8 + i < CRD_BASE(c) + (1ul << CRD_ORDER(c)) && CRD_PERM(c) == 7 &&
                  !(CRD_BASE(c) <= DST + 13 && DST + 13 < CRD_BASE(c) + (1ul << CRD_ORDER(c))));
    }
    CHECK_EQ(grab(crd_pio(0x88, 2), 0, ITEM_H, WINDOW_ALL(CRD_PIO)), crd_pio(0x88, 2));
    c = crd_pio(0x8a, 0);
    CHECK_EQ(nova_lookup(&c), NOVA_SUCCESS);
    CHECK_EQ(c, crd_pio(0x88, 2));
    CHECK_EQ(nova_revoke(crd_pio(0x88, 2), true), NOVA_SUCCESS);
}
/* Without the guest flag a vCPU is one all the same: what makes it one is the UTCB address 0. */
static void create_ec_vcpu_flag(void) {
    sel_t pd = sel_new(), a = sel_new(), b = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(a, pd, 0, abi_cpu[0], 0, 0, false), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(b, pd, 0, abi_cpu[0], 0, 0, true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(sel_new(), SEL_PD, a, 0, abi_exit_ip()), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, a, QPD_MAKE(1, 1000)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, b, QPD_MAKE(1, 1000)), NOVA_SUCCESS);
}

/* --- accounts: every kind of object, nodes and table pages of its owner; all of it comes back --- */
static u64 used(sel_t pd) {
    u64 out[2] = {0, 0};
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, out), NOVA_SUCCESS);
    return out[0];
}
/* Until what died before has been given back. */
static void used_settles(void) {
    u64 last = used(SEL_PD);
    for (unsigned i = 0, same = 0; i < 1000 && same < 20; i++, pause_us(1000)) {
        u64 now = used(SEL_PD);
        same = now == last ? same + 1 : 0;
        last = now;
    }
}
static void account_charges(void) {
    sel_t pd = sel_new(), s = sels_new(3);
    used_settles();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    thread_local(&thread, SEL_PD, 0);
    thread_global(&other, SEL_PD, 0, abi_exit_ip(), 0);
    CHECK_EQ(nova_create_sm(s, pd, 0), NOVA_SUCCESS);
    u64 now = used(pd), first = now, root = used(SEL_PD), before;
    CHECK(now > 0);
    CHECK_EQ(nova_create_sm(s + 1, pd, 0), NOVA_SUCCESS);
    before = now, now = used(pd);
    CHECK(now > before);
    CHECK_EQ(nova_create_pt(s + 2, pd, thread.ec, 0, abi_exit_ip()), NOVA_SUCCESS);
    before = now, now = used(pd);
    CHECK(now > before);
    CHECK_EQ(nova_create_sc(s + 3, pd, other.ec, QPD_MAKE(1, 1000)), NOVA_SUCCESS);
    before = now, now = used(pd);
    CHECK(now > before);
    CHECK_EQ(nova_create_ec(s + 4, pd, VA_DST, abi_cpu[0], 0, 0, false), NOVA_SUCCESS);
    before = now, now = used(pd);
    CHECK(now >= before + PAGE); /* its UTCB */
    CHECK_EQ(nova_create_pd(s + 5, pd, crd_obj(SEL_NEVER, 0, 0x1f)), NOVA_SUCCESS);
    before = now, now = used(pd);
    CHECK(now > before);
    CHECK(used(s + 5) >= PAGE);                /* a page of its object table and a node are its own */
    CHECK(used(SEL_PD) >= root + now - first); /* and the owner of the owner pays as well */
}

const struct abi_case check_cases[] = {
    CASE(order_create_ec),
    CASE(order_create_sc),
    CASE(order_create_pt),
    CASE(order_assign_gsi),
    CASE_CPUS(order_call, 2),
    CASE(perm_pd_each_bit),
    CASE(perm_object_each_bit),
    CASE(perm_memory_each),
    CASE(perm_memory_revoked),
    CASE(h_memory),
    CASE(h_ports),
    CASE(h_selectors),
    CASE(delegate_memory_holes),
    CASE(lookup_pieces),
    CASE_FEATURE(create_ec_vcpu_flag, HIP_VMX | HIP_SVM),
    CASE(account_charges),
    {0},
};
