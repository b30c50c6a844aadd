/* Goal: assign_pci, assign_gsi (rows d and e) and interrupts as semaphores. */
#include "abi.h"

static sel_t gsi_take(u64 gsi) {
    sel_t s = sel_new();
    CHECK_EQ(grab(crd_obj(64 + gsi, 0, 0x1f), s, ITEM_H, WINDOW_ALL(CRD_OBJ)), crd_obj(s, 0, 0x1f));
    return s;
}
static u64 gsi_count(void) { return mem_read64((void *)(ABI_HIP_ADDR + 0x20)) >> 32; }

static void assign_pci_bad_cap(void) {
    CHECK_EQ(nova_assign_pci(sel_new(), VA_RAM, 0), NOVA_BAD_CAP);
    CHECK_EQ(nova_assign_pci(SEL_NEVER, VA_RAM, 0), NOVA_BAD_CAP);
}
static void assign_pci_bad_dev(void) {
    CHECK_EQ(nova_assign_pci(SEL_PD, VA_DST, 0), NOVA_BAD_DEV); /* nothing mapped there */
    CHECK_EQ(nova_assign_pci(SEL_PD, 0xffff800000000000, 0), NOVA_BAD_DEV);
}
static void assign_pci_success(void) {
    u64 page = machine_config_page(), at = VA_DST >> 12;
    sel_t pd = sel_new();
    CHECK(page != 0);
    CHECK_EQ(nova_create_pd(pd, SEL_PD, 0), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_mem(page, 0, PERM_MEM_R), at, ITEM_H, crd_mem(at, 0, 7)), crd_mem(at, 0, PERM_MEM_R));
    CHECK_EQ(nova_assign_pci(pd, VA_DST, 0), NOVA_SUCCESS);
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
    CASE_FEATURE(assign_pci_success, HIP_IOMMU),
    CASE(assign_gsi_success),
    CASE(assign_gsi_bad_cap),
    CASE(assign_gsi_bad_cpu),
    CASE(assign_gsi_bad_dev),
    CASE(assign_gsi_success_msi),
    CASE(interrupt_arrives),
    {0},
};
