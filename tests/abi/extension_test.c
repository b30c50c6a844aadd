/* Goal: the extension hypercall (row f, table in docs/abi.md) and arguments that mean nothing. */
#include "abi.h"

static struct thread child;
static u64 r[4];

static void extension_bad_hyp(void) {
    for (unsigned op = EXT_KMEM_TAKE + 1; op < 16; op++)
        CHECK_EQ(nova_extension((enum abi_ext)op, SEL_PD, 0, NULL), NOVA_BAD_HYP);
}
static void kmem_usage_success(void) {
    u64 a[2], b[2];
    sel_t pd = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, a), NOVA_SUCCESS);
    CHECK_EQ(a[1], 0);
    CHECK_EQ(nova_create_sm(sel_new(), pd, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, b), NOVA_SUCCESS);
    CHECK(b[0] > a[0]);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, sel_new(), 0, a), NOVA_BAD_CAP);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, SEL_NEVER, 0, a), NOVA_BAD_CAP);
}
static void kmem_limit_success(void) {
    u64 a[2];
    sel_t pd = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 100000, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, a), NOVA_SUCCESS);
    CHECK_EQ(a[1], 100000);
    u64 status = NOVA_SUCCESS;
    for (unsigned i = 0; i < 2000 && status == NOVA_SUCCESS; i++) /* never above it */
        status = nova_create_sm(sel_new(), pd, 0);
    CHECK_EQ(status, NOVA_BAD_MEM);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, a), NOVA_SUCCESS);
    CHECK(a[0] <= 100000);
}
/* Nobody gets beyond a limit by making PDs of its own. */
static void kmem_limit_children(void) {
    u64 a[2], b[2];
    sel_t pd = sel_new(), inner = sel_new(), innermost = sel_new();
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(inner, pd, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(innermost, inner, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(sel_new(), innermost, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, a), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, a[0], NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(sel_new(), innermost, 0), NOVA_BAD_MEM);
    CHECK_EQ(nova_create_sm(sel_new(), inner, 0), NOVA_BAD_MEM);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, b), NOVA_SUCCESS);
    CHECK_EQ(b[0], a[0]);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 0, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sm(sel_new(), innermost, 0), NOVA_SUCCESS);
}
static void kmem_limit_bad_cap(void) {
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, sel_new(), 1, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, SEL_NEVER, 1, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, copy_new(SEL_PD, PERM_PD_ALL & ~PERM_PD_SM), 1, NULL), NOVA_BAD_CAP);
}
static void kmem_free_success(void) {
    u64 a[2];
    CHECK_EQ(nova_extension(EXT_KMEM_FREE, 0, 0, a), NOVA_SUCCESS);
    CHECK(a[0] > 0 && a[0] < a[1]);
}
static void klog_read_success(void) {
    u64 a[2], pos = 0;
    do {
        CHECK_EQ(nova_extension(EXT_KLOG_READ, 0, pos, a), NOVA_SUCCESS);
        CHECK(a[1] <= UTCB_WORDS * 8 && a[0] >= pos);
        pos = a[0];
    } while (a[1] && !abi_failed());
    CHECK_EQ(nova_extension(EXT_KLOG_READ, 0, ~0ul, a), NOVA_SUCCESS);
    CHECK_EQ(a[1], 0);
}
static u64 kmem_total(u64 a[2]) {
    CHECK_EQ(nova_extension(EXT_KMEM_FREE, 0, 0, a), NOVA_SUCCESS);
    return a[1];
}
static void cmdline_read_success(void) {
    u64 a[2], b[2];
    CHECK_EQ(nova_extension(EXT_CMDLINE_READ, 0, 0, a), NOVA_SUCCESS);
    CHECK(a[0] == a[1] && a[1] <= UTCB_WORDS * 8);
    CHECK_EQ(nova_extension(EXT_CMDLINE_READ, 0, a[0], b), NOVA_SUCCESS);
    CHECK(b[1] == 0 && b[0] == a[0]);
    CHECK_EQ(nova_extension(EXT_CMDLINE_READ, 0, ~0ul, b), NOVA_SUCCESS);
    CHECK(b[1] == 0 && b[0] == ~0ul);
}
static u64 counter(u64 cpu, unsigned which) {
    u64 a[2] = {0, 0};
    CHECK_EQ(nova_extension(EXT_COUNTERS, cpu, 0, a), NOVA_SUCCESS);
    CHECK_EQ(a[1], ABI_COUNTERS);
    return utcb_get(&abi_main_thread, which);
}
ENTRY(child_faults) {
    (void)rdi;
    machine_undefined();
}
static void counters_success(void) {
    u64 before = counter(abi_cpu[0], HC_PT_CTRL), after;
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(nova_pt_ctrl(SEL_GRAB, 0), NOVA_SUCCESS);
    after = counter(abi_cpu[0], HC_PT_CTRL);
    CHECK_EQ(after - before, 5);
    before = counter(abi_cpu[0], CNT_EXCEPTION);
    abi_expect_events = true;
    thread_start(&child, 0, PRIO_MAIN + 1, IP(child_faults), 0);
    after = counter(abi_cpu[0], CNT_EXCEPTION);
    CHECK_EQ(after - before, 1);
}
static void counters_bad_cpu(void) {
    CHECK_EQ(nova_extension(EXT_COUNTERS, 64, 0, NULL), NOVA_BAD_CPU);
    CHECK_EQ(nova_extension(EXT_COUNTERS, ~0ul, 0, NULL), NOVA_BAD_CPU);
}
/* RAM becomes kernel memory: everybody loses it; and comes back, wiped. */
static void kmem_add_take_success(void) {
    u64 a[2], page = abi_ram_page - RAM_PAGES, dst = crd_mem(VA_DST >> 12, RAM_ORDER, 7),
              range = crd_mem(page, RAM_ORDER, 7);
    CHECK_EQ(grab(range, VA_DST >> 12, ITEM_H, dst), dst);
    mem_write64((void *)VA_DST, 0x5ec2e7);
    u64 total = kmem_total(a);
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, range, NULL), NOVA_SUCCESS);
    abi_expect_events = true;
    CHECK(!machine_probe(VA_DST, false));
    u64 more = kmem_total(a);
    CHECK(more > total && more <= total + RAM_PAGES);
    (void)grab(range, VA_DST >> 12, ITEM_H, dst);
    CHECK_EQ(perms_of(CRD_MEM, VA_DST >> 12), 0);
    CHECK_EQ(nova_extension(EXT_KMEM_TAKE, 0, 3, a), NOVA_SUCCESS);
    u64 taken = a[0];
    CHECK_EQ(taken & 0xfff, crd_mem(0, 3, 7));
    CHECK_EQ(kmem_total(a), more - 8);
    CHECK_EQ(grab(taken, VA_DST >> 12, ITEM_H, crd_mem(VA_DST >> 12, 3, 7)), crd_mem(VA_DST >> 12, 3, 7));
    for (u64 at = 0; at < 8 * PAGE; at += 8)
        if (mem_read64((void *)(VA_DST + at)))
            CHECK(!"wiped");
    mem_write64((void *)VA_DST, 1);
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, taken, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, taken, NULL), NOVA_BAD_PAR); /* is the kernel's already */
    CHECK_EQ(kmem_total(a), more);
}
static void kmem_add_bad_par(void) {
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, crd_obj(SEL_PD, 0, 0x1f), NULL), NOVA_BAD_PAR);
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, crd_mem(abi_ram_page, 0, 7), NULL),
             NOVA_BAD_PAR); /* one page: no room for itself */
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, crd_mem(0xfee00, 1, 7), NULL), NOVA_BAD_PAR); /* no RAM */
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, crd_mem(0, 31, 7), NULL), NOVA_BAD_PAR);
    CHECK_EQ(nova_extension(EXT_KMEM_ADD, 0, crd_mem(0xffffffffffffe, 1, 7), NULL), NOVA_BAD_PAR);
    CHECK_EQ(nova_extension(EXT_KMEM_TAKE, 0, 11, NULL), NOVA_BAD_PAR);
}
ENTRY(child_asks) {
    (void)rdi;
    u64 a[2];
    r[2] = 0;
    for (unsigned op = EXT_CMDLINE_READ; op <= EXT_KMEM_TAKE; op++)
        r[2] += nova_extension((enum abi_ext)op, 0, 1, a) == NOVA_BAD_CAP;
    r[0] = nova_extension(EXT_KMEM_FREE, 0, 0, a);
    r[1] = nova_extension(EXT_KLOG_READ, 0, 0, a);
    wake_up(HS_READY);
}
static void extension_bad_cap_not_root(void) {
    sel_t pd = child_new(0);
    thread_global(&child, pd, 0, IP(child_asks), 0);
    thread_run(&child, PRIO_MAIN);
    wait_for(EVENTS(0) + HS_READY);
    CHECK_EQ(r[0], NOVA_BAD_CAP);
    CHECK_EQ(r[1], NOVA_BAD_CAP);
    CHECK_EQ(r[2], 4);
}
static void gsi_config_success(void) {
    sel_t s = sel_new();
    CHECK_EQ(grab(crd_obj(64 + machine_gsi(), 0, 0x1f), s, ITEM_H, WINDOW_ALL(CRD_OBJ)), crd_obj(s, 0, 0x1f));
    CHECK_EQ(nova_extension(EXT_GSI_CONFIG, s, 0, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_GSI_CONFIG, sm_new(0), 0, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_extension(EXT_GSI_CONFIG, SEL_PD, 0, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_extension(EXT_GSI_CONFIG, copy_new(s, PERM_SM_UP), 0, NULL), NOVA_BAD_CAP);
}

/* Random arguments: some status comes back, nothing breaks. Selectors and ranges hit the suite's own objects only by way of copies. */
static sel_t pool;
static u64 any_sel(void) { return abi_random(8) ? pool + abi_random(32) : (u64)(1 + abi_random(63)) << 20; }
static u64 any_word(void) {
    u64 v = (u64)abi_random(~0u) << 33 ^ abi_random(~0u);
    switch (abi_random(4)) {
    case 0:
        return v;
    case 1:
        return ~0ul << abi_random(64);
    case 2:
        return any_sel();
    default:
        return abi_random(16);
    }
}
static void one_random_call(void) {
    static const u32 numbers[] = {HC_CREATE_PD,  HC_CREATE_EC,  HC_CREATE_SC, HC_CREATE_PT, HC_CREATE_SM,
                                  HC_LOOKUP,     HC_EC_CTRL,    HC_SC_CTRL,   HC_PT_CTRL,   HC_SM_CTRL,
                                  HC_ASSIGN_PCI, HC_ASSIGN_GSI, HC_EXTENSION, HC_REVOKE};
    u64 number = numbers[abi_random(sizeof(numbers) / sizeof(numbers[0]))], flags = abi_random(16), sel = any_sel();
    u64 rsi = any_word(), rdx = any_word(), rax = any_word(), r8 = any_word();
    if (number == HC_REVOKE) {
        if ((rsi & 3) == CRD_OBJ) /* only in the pool */
            rsi = crd_obj(pool + abi_random(32), 0, rsi >> 2 & 0x1f);
        else
            rsi = (rsi & 3) == CRD_MEM ? crd_mem((VA_DST >> 12) + abi_random(64), 0, rsi >> 2 & 0x1f) : rsi & 0x1f;
    }
    if (number == HC_SM_CTRL && (flags & HF_SM_DOWN))
        rsi = 0, rdx = 1; /* past */
    if (number == HC_EXTENSION &&
        (flags == EXT_KMEM_LIMIT || flags == EXT_KMEM_TAKE)) /* they leave less memory to all later cases */
        flags = EXT_KMEM_USAGE;
    if (number == HC_ASSIGN_GSI)
        sel = any_word();
    if (number == HC_CREATE_EC && (rdx >> 12) < 0x100000)
        rdx = utcb_new() | (rdx & 0xfff);
    if (number == HC_CREATE_SC)
        rdx = any_sel();
    u64 out[2], s = hypercall(NOVA_RDI(number, flags, sel), rsi, rdx, rax, r8, out);
    CHECK(s <= NOVA_BAD_MEM);
}
static void any_arguments(void) {
    pool = sels_new(5);
    abi_expect_events = true; /* threads may start at any address */
    CHECK_EQ(nova_create_sm(pool, SEL_PD, 0), NOVA_SUCCESS);
    (void)grab(crd_obj(SEL_PD, 0, PERM_PD_SM | PERM_PD_PT | PERM_PD_PD), pool + 1, 0, WINDOW_ALL(CRD_OBJ));
    thread_local(&child, SEL_PD, 0);
    (void)grab(crd_obj(child.ec, 0, 0x1f), pool + 2, 0, WINDOW_ALL(CRD_OBJ));
    for (unsigned i = 0; i < 50 * machine_rounds() && !abi_failed(); i++)
        one_random_call();
    for (u64 i = 1; i < 64; i++)
        CHECK_EQ(nova_revoke(crd_obj(i << 20, 0, 0x1f), true), NOVA_SUCCESS);
}

const struct abi_case extension_cases[] = {
    CASE(extension_bad_hyp),          CASE(kmem_usage_success), CASE(kmem_limit_success),    CASE(kmem_limit_children),
    CASE(kmem_limit_bad_cap),         CASE(kmem_free_success),  CASE(klog_read_success),     CASE(cmdline_read_success),
    CASE(counters_success),           CASE(counters_bad_cpu),   CASE(kmem_add_take_success), CASE(kmem_add_bad_par),
    CASE(extension_bad_cap_not_root), CASE(gsi_config_success), CASE(any_arguments),         {0},
};
