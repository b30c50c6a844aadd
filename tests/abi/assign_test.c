/* Goal: assign_pci, assign_gsi (rows d and e) and interrupts as semaphores. */
#include "abi.h"

static sel_t gsi_take(u64 gsi) {
    sel_t s = sel_new();
    CHECK_EQ(grab(crd_obj(64 + gsi, 0, 0x1f), s, ITEM_H, WINDOW_ALL(CRD_OBJ)), crd_obj(s, 0, 0x1f));
    return s;
}
static u64 gsi_count(void) { return mem_read64((void *)(ABI_HIP_ADDR + 0x20)) >> 32; }

#define VA_DEVICE (VA_DST + 0x10000) /* its configuration page */
#define VA_FROM   (VA_DST + 0x20000)
#define VA_TO     (VA_FROM + PAGE)
static bool device_map(void) {
    u64 page = machine_config_page(), at = VA_DEVICE >> 12;
    return page && grab(crd_mem(page, 0, PERM_MEM_R), at, ITEM_H, crd_mem(at, 0, 7)) == crd_mem(at, 0, PERM_MEM_R);
}
/* To a PD that has nothing and dies with the case. */
static void device_release(void) {
    sel_t nobody = sel_new();
    CHECK_EQ(nova_create_pd(nobody, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_assign_pci(nobody, VA_DEVICE, 0), NOVA_SUCCESS);
}

static void assign_pci_bad_cap(void) {
    CHECK_EQ(nova_assign_pci(sel_new(), VA_RAM, 0), NOVA_BAD_CAP);
    CHECK_EQ(nova_assign_pci(SEL_NEVER, VA_RAM, 0), NOVA_BAD_CAP);
}
static void assign_pci_bad_dev(void) {
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DST, 0), NOVA_BAD_DEV); /* nothing mapped there */
    CHECK_EQ(nova_assign_pci(SEL_PD, 0xffff800000000000, 0), NOVA_BAD_DEV);
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_RAM, 0), NOVA_BAD_DEV); /* memory, no device */
}
static void assign_pci_bad_mem(void) {
    (void)device_map(); /* its table, if the IOMMU needs any, is charged to the PD */
    sel_t pd = sel_new();
    u64 use[2];
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, pd, 0, use), NOVA_SUCCESS);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, use[0] ? use[0] : 1, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_assign_pci(pd, VA_DEVICE, 0), NOVA_BAD_MEM);
    CHECK_EQ(nova_extension(EXT_KMEM_LIMIT, pd, 0, NULL), NOVA_SUCCESS);
    CHECK_EQ(nova_assign_pci(pd, VA_DEVICE, 0), NOVA_SUCCESS);
}

/* Has the device copy the mark from VA_FROM to VA_TO, which are DMA addresses of two pages of VA_RAM as well. */
static u64 mark = 0x1000;
static bool dma_arrives(void) {
    mem_write64((void *)VA_RAM, ++mark);
    mem_write64((void *)(VA_RAM + PAGE), 0);
    CHECK(machine_dma_copy(VA_FROM, VA_TO));
    u64 got = mem_read64((void *)(VA_RAM + PAGE));
    CHECK(got == mark || got == 0);
    return got == mark;
}
static void dma_map(u64 flags, unsigned perm) {
    u64 at = VA_FROM >> 12;
    CHECK_EQ(grab(crd_mem(VA_RAM >> 12, 1, perm), at, flags, crd_mem(at, 1, 7)), crd_mem(at, 1, perm));
}
static void assign_pci_success(void) {
    CHECK(device_map());
    dma_map(ITEM_D, 3);
    CHECK(!dma_arrives()); /* belongs to nobody */
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DEVICE, 0), NOVA_SUCCESS);
    CHECK(dma_arrives());
    device_release();
    CHECK(!dma_arrives());
}
static void assign_pci_needs_d(void) {
    CHECK(device_map());
    dma_map(0, 3);
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DEVICE, 0), NOVA_SUCCESS);
    CHECK(!dma_arrives());
    device_release();
}
static void assign_pci_permissions(void) {
    CHECK(device_map());
    dma_map(ITEM_D, PERM_MEM_R);
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DEVICE, 0), NOVA_SUCCESS);
    CHECK(!dma_arrives()); /* may read, not write */
    device_release();
}
/* Delegated after the device had found nothing there; revoked and delegated again after it had used it. */
static void assign_pci_delegate_revoke(void) {
    CHECK(device_map());
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DEVICE, 0), NOVA_SUCCESS);
    CHECK(!dma_arrives());
    for (unsigned i = 0; i < 2; i++) {
        dma_map(ITEM_D, 3);
        CHECK(dma_arrives());
        CHECK_EQ(nova_revoke(crd_mem(VA_TO >> 12, 0, PERM_MEM_W), true), NOVA_SUCCESS);
        CHECK(!dma_arrives());
        CHECK_EQ(nova_revoke(crd_mem(VA_FROM >> 12, 1, 7), true), NOVA_SUCCESS);
        CHECK(!dma_arrives());
    }
    device_release();
}
/* The device follows the last assignment; a PD that dies takes its device's memory away. */
ENTRY(dma_child) {
    const struct thread *t = (const struct thread *)rdi;
    u64 at = VA_FROM >> 12, crd = crd_mem(VA_RAM >> 12, 1, 3);
    t->arg == child_fetch(t, crd, at, ITEM_D, crd_mem(at, 1, 7)) ? wake_up(HS_READY) : (void)0;
}
static void assign_pci_follows_pd(void) {
    static struct thread t;
    CHECK(device_map());
    sel_t pd = child_new(0);
    thread_global(&t, pd, 0, IP(dma_child), crd_mem(VA_FROM >> 12, 1, 3));
    thread_run(&t, PRIO_MAIN + 1);
    wait_for(EVENTS(0) + HS_READY);
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DEVICE, 0), NOVA_SUCCESS);
    CHECK(!dma_arrives());
    CHECK_EQ(nova_assign_pci(pd, VA_DEVICE, 0), NOVA_SUCCESS);
    CHECK(dma_arrives());
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    pause_us(1000); /* dies: on the way out of the hypercall, and when the CPU is idle */
    CHECK(!dma_arrives());
}
static void assign_gsi_success(void) {
    u64 msi[2];
    sel_t s = gsi_take(machine_gsi());
    for (unsigned k = 0; k < abi_cpus; k++)
        CHECK_EQ(nova_assign_gsi(s, 0, abi_cpu[k], msi), NOVA_SUCCESS);
}
static void assign_gsi_bad_cap(void) {
    CHECK_EQ(nova_assign_gsi(sel_new(), 0, 0, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_assign_gsi(SEL_PD, 0, 0, NULL), NOVA_BAD_CAP);
    CHECK_EQ(nova_assign_gsi(sm_new(0), 0, 0, NULL), NOVA_BAD_CAP); /* no interrupt */
}
static void assign_gsi_bad_cpu(void) {
    sel_t s = gsi_take(machine_gsi());
    CHECK_EQ(nova_assign_gsi(s, 0, 64, NULL), NOVA_BAD_CPU);
    CHECK_EQ(nova_assign_gsi(s, 0, 0xffffffff, NULL), NOVA_BAD_CPU);
}
static void assign_gsi_bad_dev(void) {
    sel_t s = gsi_take(gsi_count() - 1); /* MSIs are taken from the top */
    CHECK_EQ(nova_assign_gsi(s, VA_DST, abi_cpu[0], NULL), NOVA_BAD_DEV);
    CHECK_EQ(nova_assign_gsi(s, 0xffff800000000000, abi_cpu[0], NULL), NOVA_BAD_DEV);
}
static void assign_gsi_success_msi(void) {
    u64 msi[2] = {0, 0}, page = machine_config_page();
    sel_t s = gsi_take(gsi_count() - 1);
    CHECK(page);
    CHECK_EQ(grab(crd_mem(page, 0, PERM_MEM_R | PERM_MEM_W), VA_DST >> 12, ITEM_H, crd_mem(VA_DST >> 12, 0, 7)),
             crd_mem(VA_DST >> 12, 0, PERM_MEM_R | PERM_MEM_W));
    CHECK_EQ(nova_assign_gsi(s, VA_DST, abi_cpu[0], msi), NOVA_SUCCESS);
    CHECK_EQ(msi[0] >> 20, 0xfee);
    CHECK(msi[1] >= 0x10);
}
/* Masked until the first down; one up for each arrival. */
static void interrupt_arrives(void) {
    sel_t s = gsi_take(machine_gsi());
    machine_gsi_prepare();
    for (unsigned k = 0; k < abi_cpus; k++) {
        CHECK_EQ(nova_assign_gsi(s, 0, abi_cpu[k], NULL), NOVA_SUCCESS);
        (void)nova_sm_down(s, true, clock_after_us(2000)); /* what came before */
        CHECK_EQ(nova_sm_down(s, false, 1), NOVA_TIMEOUT);
        machine_gsi_raise();
        CHECK_EQ(nova_sm_down(s, false, clock_after_us(WAIT_US / 4)), NOVA_SUCCESS);
        CHECK_EQ(nova_sm_down(s, false, 1), NOVA_TIMEOUT);
    }
    CHECK_EQ(nova_assign_gsi(s, 0, abi_cpu[0], NULL), NOVA_SUCCESS);
}

const struct abi_case assign_cases[] = {
    CASE(assign_pci_bad_cap),
    CASE(assign_pci_bad_dev),
    CASE_FEATURE(assign_pci_bad_mem, HIP_IOMMU),
    CASE_FEATURE(assign_pci_success, HIP_IOMMU),
    CASE_FEATURE(assign_pci_needs_d, HIP_IOMMU),
    CASE_FEATURE(assign_pci_permissions, HIP_IOMMU),
    CASE_FEATURE(assign_pci_delegate_revoke, HIP_IOMMU),
    CASE_FEATURE(assign_pci_follows_pd, HIP_IOMMU),
    CASE(assign_gsi_success),
    CASE(assign_gsi_bad_cap),
    CASE(assign_gsi_bad_cpu),
    CASE(assign_gsi_bad_dev),
    CASE(assign_gsi_success_msi),
    CASE(interrupt_arrives),
    {0},
};
