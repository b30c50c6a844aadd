/* Goal: the machine starts with 1 to 64 CPUs and shows what it has (ABI sections 7 and 8; kernel-design.md 3 "more CPUs than configured").
 * Method: each number of CPUs boots; the HIP's descriptors are compared with what can be done on each CPU; one thread runs on every one. */
#include "simtest.h"

static sel_t ran;
static u64 where;
static unsigned machine_cpus;
static void runs(u64 rdi) {
    (void)rdi;
    __atomic_fetch_or(&where, 1ul << sim_cpu(), __ATOMIC_SEQ_CST);
    up(ran);
}
static const struct abi_hip *hip(void) { return sim_mem_ptr(ABI_HIP_ADDR, false); }
static void cpus_root(u64 cpu) {
    u64 enabled = 0;
    ran = sem_make(0);
    sim_expect(cpu < 64);
    for (unsigned c = 0; c < ABI_MAX_CPUS; c++) {
        bool on = hip()->cpu[c].flags & 1;
        enabled |= (u64)on << c;
        sel_t ec = sel_new();
        sim_expect_eq(nova_create_ec(ec, SEL_PD, utcb_new(), c, 0, 0, false), on ? NOVA_SUCCESS : NOVA_BAD_CPU);
        if (on) {
            startup_make(c);
            thread_start(c, 10, runs);
        }
    }
    sim_expect_eq(enabled, machine_cpus == 64 ? ~0ul : (1ul << machine_cpus) - 1);
    for (unsigned c = 0; c < machine_cpus; c++)
        OK(nova_sm_down(ran, false, sim_clock() + 1000000000));
    sim_expect_eq(where, enabled);
    sim_done();
}
static void any_number_of_cpus(void **s) {
    (void)s;
    for (unsigned n = 1; n <= 64; n += n < 8 ? 1 : 7) {
        struct sim_options o = {.cpus = n, .root = cpus_root, .ram = 128ul << 20};
        machine_cpus = n;
        assert_int_equal(sim_count(&o, n, 1, SIM_OK), 1);
    }
}

/* Root's segments (src/sim/image.c): at 0x1000 and elsewhere, writable and executable, memory beyond the file part zero; and nothing else. */
static bool page_is(u64 va, const char *text) {
    const char *p = sim_mem_ptr(va, false);
    bool same = true;
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        same &= p[i] == (i < 16 ? text[i] : 0);
    return same;
}
static void image_root(u64 cpu) {
    static const char text[] = "sim data segment", zero[16];
    (void)cpu;
    sim_expect(page_is(0x1000, text) && sim_mem_probe(0x1000, true) && sim_mem_exec(0x1000));
    sim_expect(page_is(0x10000000, text) && sim_mem_probe(0x10000000, true) && !sim_mem_exec(0x10000000));
    sim_expect(page_is(0x10001000, zero) && sim_mem_probe(0x10001000, true));
    sim_expect(sim_mem_exec(SIM_ROOT_VADDR) && !sim_mem_probe(SIM_ROOT_VADDR, true));
    sim_expect(!sim_mem_probe(0, false) && !sim_mem_probe(0x2000, false) && !sim_mem_probe(0x10002000, false));
    sim_done();
}
static void root_image_forms(void **s) {
    (void)s;
    scenario(image_root, 1, 1);
}

/* No memory for the IOMMU's tables, root table or queue: the machine goes on without, and says so. */
static void short_root(u64 cpu) {
    (void)cpu;
    bool said = log_lines("lacks memory for its ") == 1;
    sim_expect_eq(said, !(hip()->features & HIP_IOMMU));
    sim_expect(said); /* else not one of those that the test counts */
    sim_done();
}
static void no_memory_for_the_iommu(void **s) {
    (void)s;
    const struct sim_options o = {.cpus = 1, .root = short_root};
    unsigned without = 0;
    for (u64 n = 1; n <= 64; n++) { /* without the others no machine starts */
        sim_fail_alloc(n);
        without += sim_count(&o, 1, 1, SIM_OK);
    }
    sim_fail_alloc(0);
    assert_int_equal(without, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_number_of_cpus), cmocka_unit_test(root_image_forms),
                                       cmocka_unit_test(no_memory_for_the_iommu)};
    return cmocka_run_group_tests_name("sim boot", tests, NULL, NULL);
}
