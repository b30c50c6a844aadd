/* Goal: a device reaches what its PD holds with D, at the same page numbers, and nothing else (ABI sections 2 and 8), also behind an IOMMU with
 * 39-bit addresses (three levels): there nothing from 2^39 on is in its reach, and in particular not at the address without the upper bits. What is refused is logged.
 * Method: root is the device's PD; a page low and a page above 2^39, delegated, widened by a delegation to itself, and revoked. */
#include "simtest.h"

#define DEVICE 0x0108
#define CONFIG (0xb0000ul + DEVICE) /* its configuration page (MMCONFIG) */
#define LOW    0x60000ul            /* page numbers */
#define HIGH   (1ul << 27 | LOW)
#define LARGE  0x90000ul
static bool narrow;

static u64 give(u64 from, u64 to, u64 flags) {
    return grab(ABI_ROOT_UTCB, crd_mem(from, 0, 3), to << 12 | flags, crd_mem(to, 0, 3));
}
static bool reaches(u64 page) {
    static u64 value;
    u64 seen = 0, got = 0, at = page << PAGE_SHIFT | 8 * sim_choose(SIM_WORKLOAD, 512);
    if (!sim_dma_write(DEVICE, at, ++value))
        return false;
    sim_expect(sim_dma_read(DEVICE, at, &got));
    sim_mem_read(at, &seen, sizeof(seen));
    sim_expect_eq(seen, value);
    sim_expect_eq(got, value);
    return true;
}
static void dma_root(u64 cpu) {
    (void)cpu;
    u64 ram = RAM_VA >> PAGE_SHIFT;
    ram_map(ABI_ROOT_UTCB, 9);
    (void)give(CONFIG, 0x50000, ITEM_H);
    OK(nova_assign_pci(SEL_PD, 0x50000ul << PAGE_SHIFT, 0));
    sim_expect(!reaches(LOW) && !reaches(HIGH) && !reaches(ram));
    (void)give(ram, HIGH, ITEM_D);
    sim_expect(!reaches(LOW)); /* not the page above without its upper bits */
    sim_expect_eq(reaches(HIGH), !narrow);
    sim_expect(sim_mem_probe(HIGH << PAGE_SHIFT, true));
    (void)give(CONFIG + 0x100, 0x50001, ITEM_H); /* the first one of its bus */
    sim_fail_allocs(1);
    sim_expect_eq(nova_assign_pci(SEL_PD, 0x50001ul << PAGE_SHIFT, 0), NOVA_BAD_MEM);
    sim_fail_alloc(0);
    OK(nova_assign_pci(SEL_PD, 0x50001ul << PAGE_SHIFT, 0));
    (void)give(ram + 1, LOW, ITEM_D);
    sim_expect(reaches(LOW));
    (void)give(ram + 2, HIGH + 1, 0);
    sim_expect(!reaches(HIGH + 1));
    (void)give(HIGH + 1, HIGH + 1, ITEM_D);
    sim_expect_eq(reaches(HIGH + 1), !narrow);
    sim_expect(!reaches(LOW + 1));
    OK(nova_revoke(crd_mem(HIGH, 1, 3), true)); /* takes nothing from the low one */
    sim_expect(reaches(LOW) && !reaches(HIGH) && !reaches(HIGH + 1));
    sim_expect_eq(grab(ABI_ROOT_UTCB, crd_mem(ram, 9, 3), LARGE << 12 | ITEM_D, crd_mem(LARGE, 9, 3)),
                  crd_mem(LARGE, 9, 3));
    sim_expect(reaches(LARGE + 1) && reaches(LARGE + 511) && !reaches(LARGE + 512));
    OK(nova_revoke(crd_mem(ram, 9, 3), false));
    sim_expect(!reaches(LOW) && !reaches(LARGE + 1));
    sim_done();
}
/* --- what is refused is logged, a line in a second at most --- */
static void refused_root(u64 cpu) {
    (void)cpu;
    const u64 second = 10000000; /* ticks, at 10 MHz */
    ram_map(ABI_ROOT_UTCB, 0);
    (void)give(CONFIG, 0x50000, ITEM_H);
    sim_expect_eq(log_lines("iommu: "), 0);
    sim_expect(!sim_dma_write(DEVICE, LOW << PAGE_SHIFT | 8, 1));
    sim_clock_advance(second);
    sim_expect_eq(log_lines("iommu: device 1:1.0: write of 60000000 refused: nobody has it"), 1);
    OK(nova_assign_pci(SEL_PD, 0x50000ul << PAGE_SHIFT, 0));
    u64 value;
    for (unsigned i = 0; i < 3; i++) {
        sim_expect(!sim_dma_read(DEVICE, LOW << PAGE_SHIFT, &value));
        sim_expect_eq(log_lines("iommu: "), 0); /* too early */
    }
    sim_clock_advance(second);
    sim_expect_eq(log_lines("iommu: device 1:1.0: read of 60000000 refused: its PD"), 1);
    sim_clock_advance(second);
    sim_expect_eq(log_lines("iommu: "), 0); /* the unit's record is empty again */
    (void)give(RAM_VA >> PAGE_SHIFT, LOW, ITEM_D);
    sim_expect(reaches(LOW));
    sim_clock_advance(second);
    sim_expect_eq(log_lines("iommu: "), 0);
    sim_expect(!sim_dma_write(DEVICE, HIGH << PAGE_SHIFT, 1));
    sim_clock_advance(second);
    sim_expect_eq(log_lines(narrow ? "refused: beyond" : "write of 8060000000 refused: its PD"), 1);
    sim_done();
}
static void refused_is_logged(void **s) {
    (void)s;
    for (unsigned bits_39 = 0; bits_39 < 2; bits_39++) {
        struct sim_options o = {.cpus = 2, .root = refused_root, .iommu_39 = bits_39};
        narrow = bits_39;
        assert_int_equal(sim_seeds(&o, 1, 20, SIM_OK), 0);
    }
}

/* A device whose PD is gone is nobody's, whatever bus it is on. */
static void orphan_root(u64 cpu) {
    (void)cpu;
    const u64 second = 10000000;
    sel_t pd = sel_new(), never = sem_make(0);
    (void)give(CONFIG, 0x50000, ITEM_H);
    OK(nova_create_pd(pd, SEL_PD, 0));
    OK(nova_assign_pci(pd, 0x50000ul << PAGE_SHIFT, 0));
    OK(nova_revoke(crd_obj(pd, 0, 0x1f), true));
    for (unsigned i = 0; i < 3; i++) /* it dies */
        sim_expect_eq(nova_sm_down(never, false, sim_clock() + 100000), NOVA_TIMEOUT);
    sim_expect(!sim_dma_write(DEVICE, LOW << PAGE_SHIFT, 1));
    sim_clock_advance(second);
    sim_expect_eq(log_lines("write of 60000000 refused: nobody has it"), 1);
    sim_done();
}
static void device_of_a_dead_domain_is_nobodys(void **s) {
    (void)s;
    scenario(orphan_root, 2, 8);
}

/* As many PDs as the unit has domains get the device, one after the other; domain 0 is nobody's. Whose PD dies comes back. */
#define DOMAINS 256
static void full_root(u64 cpu) {
    (void)cpu;
    sel_t first = 0x1000, never = sem_make(0);
    (void)give(CONFIG, 0x50000, ITEM_H);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 1; i < DOMAINS; i++) {
            OK(nova_create_pd(first + i, SEL_PD, 0));
            OK(nova_assign_pci(first + i, 0x50000ul << PAGE_SHIFT, 0));
        }
        sim_expect_eq(nova_assign_pci(SEL_PD, 0x50000ul << PAGE_SHIFT, 0), NOVA_BAD_MEM);
        OK(nova_revoke(crd_obj(first, 8, 0x1f), true));
        for (unsigned i = 0; i < 3; i++) /* they die */
            sim_expect_eq(nova_sm_down(never, false, sim_clock() + 1000000), NOVA_TIMEOUT);
    }
    sim_done();
}
static void domains_run_out(void **s) {
    (void)s;
    scenario(full_root, 2, 2);
}

/* Two PDs get their first device at the same time, in every order: what the death of one takes away is not the other's. */
static sel_t go, done, second;
static void attacher(u64 rdi) {
    (void)rdi;
    down(go);
    OK(nova_assign_pci(second, 0x50001ul << PAGE_SHIFT, 0));
    up(done);
    down(go);
}
static void attacher_start(unsigned cpu) {
    go = sem_make(0), done = sem_make(0), second = sel_new();
    OK(nova_create_pd(second, SEL_PD, 0));
    startup_make(cpu);
    thread_start(cpu, 10, attacher);
    while (!sim_cpu_is_idle(cpu))
        sim_step();
}
static void twice_root(u64 cpu) {
    sel_t first = sel_new(), never = sem_make(0);
    (void)give(CONFIG, 0x50000, ITEM_H);
    (void)give(CONFIG + 1, 0x50001, ITEM_H);
    OK(nova_create_pd(first, SEL_PD, 0));
    attacher_start((unsigned)cpu ^ 1);
    sim_begin();
    up(go);
    OK(nova_assign_pci(first, 0x50000ul << PAGE_SHIFT, 0));
    down(done);
    OK(nova_revoke(crd_obj(first, 0, 0x1f), true));
    sim_expect_eq(nova_sm_down(never, false, sim_clock() + 100000), NOVA_TIMEOUT);
    sim_expect(!sim_dma_write(DEVICE + 1, LOW << PAGE_SHIFT, 1));
    sim_clock_advance(10000000);
    sim_expect_eq(log_lines("refused: its PD"), 1);
    sim_done();
}
static void two_pds_at_once(void **s) {
    (void)s;
    every_schedule(twice_root, 1, false);
}

/* The device goes to another PD while its PD dies: it is that one's, and stays so. */
static void heir_root(u64 cpu) {
    sel_t first = sel_new(), never = sem_make(0);
    (void)give(CONFIG, 0x50001, ITEM_H);
    OK(nova_create_pd(first, SEL_PD, 0));
    OK(nova_assign_pci(first, 0x50001ul << PAGE_SHIFT, 0));
    attacher_start((unsigned)cpu ^ 1);
    sim_begin();
    up(go);
    OK(nova_revoke(crd_obj(first, 0, 0x1f), true));
    sim_expect_eq(nova_sm_down(never, false, sim_clock() + 100000), NOVA_TIMEOUT);
    down(done);
    sim_expect(!sim_dma_write(DEVICE, LOW << PAGE_SHIFT, 1));
    sim_clock_advance(10000000);
    sim_expect_eq(log_lines("refused: its PD"), 1);
    sim_done();
}
static void device_changes_hands(void **s) {
    (void)s;
    every_schedule(heir_root, DEEP, false);
}

static void without_root(u64 cpu) {
    (void)cpu;
    (void)give(CONFIG, 0x50000, ITEM_H);
    sim_expect_eq(nova_assign_pci(SEL_PD, 0x50000ul << PAGE_SHIFT, 0), NOVA_BAD_DEV);
    sim_done();
}
static void no_unit_no_devices(void **s) {
    (void)s;
    struct sim_options o = {.cpus = 2, .root = without_root, .no_iommu = true};
    assert_int_equal(sim_seeds(&o, 1, 2, SIM_OK), 0);
}

static void run(bool bits_39) {
    struct sim_options o = {.cpus = 2, .root = dma_root, .check_every = 1, .iommu_39 = bits_39};
    narrow = bits_39;
    assert_int_equal(sim_seeds(&o, 1, 20, SIM_OK), 0);
}
static void device_reaches_48_bits(void **s) {
    (void)s;
    run(false);
}
static void device_reaches_39_bits(void **s) {
    (void)s;
    run(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device_reaches_48_bits), cmocka_unit_test(device_reaches_39_bits),
        cmocka_unit_test(refused_is_logged),      cmocka_unit_test(device_of_a_dead_domain_is_nobodys),
        cmocka_unit_test(domains_run_out),        cmocka_unit_test(two_pds_at_once),
        cmocka_unit_test(device_changes_hands),   cmocka_unit_test(no_unit_no_devices),
    };
    return cmocka_run_group_tests_name("sim dma", tests, NULL, NULL);
}
