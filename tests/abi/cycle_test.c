/* Goal: whole domains come and go and leave the number of free kernel pages unchanged (kernel-design.md 3, issue 3: 10,000 cycles on the
 * emulated machine with 4 CPUs: `only=leak_cycles rounds=10000`). Method: a domain with threads that run, a server that is called, memory with
 * guest and DMA tables, portals, a semaphore, and a VM whose vCPU starts; CPUs in turn. */
#include "abi.h"

#define KEPT  8u  /* pages: a slab cache keeps an empty slab, or does not */
#define ORDER 10u /* of the selectors of a cycle */
static struct thread server, handler[ABI_CPUS_MAX];
static sel_t done, block;

ENTRY(opens_window) {
    (void)rdi;
    utcb_windows(&server, 0, WINDOW_ALL(CRD_MEM));
}
ENTRY(on_startup) {
    (void)rdi;
    wake_up(done);
}
/* VMRUN intercept clear: again and again, until the domain dies; lets others run meanwhile. */
ENTRY(on_invalid) {
    (void)rdi;
    pause_us(100);
}
static void vm_cycle(unsigned cpu) {
    sel_t vm = sel_new(), vcpu = sel_new(), base = sels_new(8);
    CHECK_EQ(nova_create_pt(base + EVT_VCPU_STARTUP, SEL_PD, handler[cpu].ec, 0, IP(on_startup)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(base + EVT_SVM_INVALID, SEL_PD, handler[cpu].ec, 0, IP(on_invalid)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(vm, SEL_PD, crd_obj(base, 8, 0x1f)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(vcpu, vm, 0, abi_cpu[cpu], 0, 0, true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(sel_new(), vm, vcpu, QPD_MAKE(PRIO_MAIN + 1, 10000)), NOVA_SUCCESS);
    wait_for(done);
    CHECK_EQ(nova_revoke(crd_obj(vm, 0, 0x1f), true), NOVA_SUCCESS);
}
static void cycle(unsigned n) {
    const struct thread *m = &abi_main_thread;
    unsigned cpu = n % abi_cpus;
    bool guests = mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features))) & (HIP_VMX | HIP_SVM);
    done = sm_new(0);
    sel_t pd = child_new(cpu);
    thread_local(&server, pd, 0);
    sel_t pt = portal_new(&server, 0, IP(opens_window));
    CHECK_EQ(nova_create_sm(sel_new(), pd, n), NOVA_SUCCESS);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    utcb_put_item(m, 0, crd_mem(VA_RAM >> 12, RAM_ORDER, 7), DELEGATE(0x90000, ITEM_G | ITEM_D));
    utcb_set_items(m, 0, 1);
    CHECK_EQ(nova_call(pt), NOVA_SUCCESS);
    utcb_set_items(m, 0, 0);
    if (n & 1)
        CHECK_EQ(nova_revoke(crd_mem((VA_RAM >> 12) + 9, 0, 7), false), NOVA_SUCCESS); /* splits */
    if (guests)
        vm_cycle(cpu);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    scratch_clear(block, ORDER);
}
static u64 free_pages(u64 at_least) {
    u64 out[2] = {0, 0}, best = 0;
    for (unsigned i = 0; i < 5000 && (i < 20 || best < at_least); i++) { /* grace periods and teardown take a while */
        pause_us(1000);
        CHECK_EQ(nova_extension(EXT_KMEM_FREE, 0, 0, out), NOVA_SUCCESS);
        best = out[0] > best ? out[0] : best;
    }
    return best;
}
static void leak_cycles(void) {
    for (unsigned k = 0; k < abi_cpus; k++)
        thread_local(&handler[k], SEL_PD, k);
    block = sels_new(ORDER);
    for (unsigned n = 0; n < 16; n++)
        cycle(n);
    u64 before = free_pages(0), used[2], now[2];
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, used), NOVA_SUCCESS);
    for (unsigned n = 0; n < machine_rounds() && !abi_failed(); n++)
        cycle(n);
    CHECK(free_pages(before) + KEPT >= before);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, now), NOVA_SUCCESS);
    CHECK_EQ(now[0], used[0]);
}

const struct abi_case cycle_cases[] = {CASE(leak_cycles), {0}};
