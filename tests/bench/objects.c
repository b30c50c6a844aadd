/* Delegation to another PD and back by revoke, creation and destruction. */
#include "bench.h"

static struct thread server;
static sel_t pt, given;

/* PID: its UTCB. It takes the item and replies with none. */
__attribute__((naked, used)) static void takes_entry(void) {
    __asm__("movq $0, (%rdi)\n\tmov $1, %edi\n\tsyscall\n\tud2");
}
/* In the receiver's PD, once. */
static u64 window, wanted, seen;
ENTRY(prepares) {
    (void)rdi;
    utcb_windows(&server, 0, window);
}
ENTRY(looks) {
    (void)rdi;
    seen = wanted;
    (void)nova_lookup(&seen);
}
static void give(void) {
    utcb_set_items(&abi_main_thread, 0, 1);
    (void)nova_call(pt);
}
static void receiver_make(u64 crd, u64 to) {
    sel_t pd = child_new(0);
    thread_local(&server, pd, 0);
    window = WINDOW_ALL(CRD_TYPE(crd));
    CHECK_EQ(nova_call(portal_new(&server, 0, IP(prepares))), NOVA_SUCCESS);
    pt = portal_new(&server, 0, (u64)takes_entry);
    CHECK_EQ(nova_pt_ctrl(pt, server.utcb), NOVA_SUCCESS);
    utcb_put_item(&abi_main_thread, 0, crd, DELEGATE(CRD_BASE(to), 0));
    give();
    wanted = to;
    utcb_set_items(&abi_main_thread, 0, 0);
    CHECK_EQ(nova_call(portal_new(&server, 0, IP(looks))), NOVA_SUCCESS);
    CHECK_EQ(seen, to);
}
void bench_give_object_make(void) {
    given = sm_new(0);
    receiver_make(crd_obj(given, 0, PERM_SM_ALL), crd_obj(0x40, 0, PERM_SM_ALL));
}
void bench_give_object(void) {
    give();
    (void)nova_revoke(crd_obj(given, 0, CRD_PERM_ANY), false);
}
void bench_give_page_make(void) {
    receiver_make(crd_mem(VA_RAM >> 12, 0, PERM_MEM_R | PERM_MEM_W), crd_mem(VA_DST >> 12, 0, PERM_MEM_R | PERM_MEM_W));
}
void bench_give_page(void) {
    give();
    (void)nova_revoke(crd_mem(VA_RAM >> 12, 0, CRD_PERM_ANY), false);
}

static void selector(void) { given = sel_new(); }
static void create_destroy(void) {
    (void)nova_create_sm(given, SEL_PD, 0);
    (void)nova_revoke(crd_obj(given, 0, CRD_PERM_ANY), true);
}

const struct bench_op bench_objects[] = {
    {"give_object", bench_give_object_make, bench_give_object, bench_loop, 0, 0},
    {"give_page", bench_give_page_make, bench_give_page, bench_loop, 0, 0},
    {"create_destroy_sm", selector, create_destroy, bench_loop, 0, 0},
    {0},
};
