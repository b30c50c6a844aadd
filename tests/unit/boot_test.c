/* From boot information to a running root (src/core/boot.c): ABI sections 7 and 8 "Boot state of root", `H` and what it never gives.
 * Each case boots in a child process, because a kernel boots once. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "arch/mem.h"
#include "core/core.h"
#include "core/klog.h"
#include "core/pd.h"
#include "sim/internal.h"
#include "sim/cap.h"

/* In the child: the first one that fails ends it. */
#define CHECK(x) ((x) ? (void)0 : check_failed(#x, __LINE__, 0, 0))
#define EQ(a, b)                                                                                                       \
    ({                                                                                                                 \
        u64 a_ = (u64)(a), b_ = (u64)(b);                                                                              \
        a_ == b_ ? (void)0 : check_failed(#a " == " #b, __LINE__, a_, b_);                                             \
    })
#define POOL        0x400000ul
#define POOL_SIZE   (8ul << 20)
#define IMAGE       0x200000ul
#define ELF_ENTRY   0x40001234ul
#define LINE        0x2ff000ul
#define MAX_MODULES 300u

static void check_failed(const char *what, int line, u64 a, u64 b) {
    fprintf(stderr, "tests/unit/boot_test.c:%d: %s (%lx, %lx)\n", line, what, a, b);
    _exit(1);
}

static void child(void (*f)(void)) {
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        f();
        exit(0);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static struct boot_range ranges[] = {{0, 0x9fc00, HIP_MEM_RAM},
                                     {0x9fc00, 0x400, HIP_MEM_RESERVED},
                                     {0x100000, POOL - 0x100000, HIP_MEM_RAM},
                                     {POOL, POOL_SIZE, HIP_MEM_KERNEL},
                                     {POOL + POOL_SIZE, 0x3000, HIP_MEM_ACPI},
                                     {POOL + POOL_SIZE + 0x3000, 0x1001, HIP_MEM_KERNEL}, /* not whole pages */
                                     {0x2000000, 0x2000000, HIP_MEM_NVS}};
static const struct boot_range holes[] = {{0xfee00800, 0x100, HIP_MEM_RESERVED},
                                          {0xfec00000, 0x2000, HIP_MEM_RESERVED}};
static struct boot_module modules[MAX_MODULES] = {{IMAGE, 0x8000, LINE}, {0x300000, 0x123, 0}};
static const struct boot_cpu boot_cpus[] = {{0, 0, 0, 9}, {1, 0, 0, 8}, {0, 1, 0, 7}, {1, 2, 3, 4}};
static struct boot_info info = {.ranges = ranges,
                                .range_count = ARRAY_SIZE(ranges),
                                .holes = holes,
                                .hole_count = ARRAY_SIZE(holes),
                                .modules = modules,
                                .module_count = 2,
                                .cpus = boot_cpus,
                                .cpu_count = 4,
                                .cmdline = "",
                                .gsi_count = 40,
                                .features = HIP_SVM,
                                .tsc_khz = 1234567,
                                .phys_bits = 40,
                                .pool_base = PADDR(POOL),
                                .pool_size = POOL_SIZE};

/* Text: read and execute, 0x1234 bytes at an odd address; data: writable, with a .bss of 9 pages. */
static const Elf64_Phdr segments[] = {{PT_LOAD, PF_R | PF_X, 0x1010, 0x40000010, 0, 0x1234, 0x1234, 0x1000},
                                      {PT_NOTE, PF_R, 0x10, 0x10, 0, 0x10, 0x10, 4},
                                      {PT_LOAD, PF_R | PF_W, 0x3800, 0x40010800, 0, 0x900, 0x9000, 0x1000}};
static u8 image_byte(u64 offset) { return (u8)(offset * 7 + offset / 256 + 1); }
static void image_make(void) {
    u8 *p = arch_phys_ptr(PADDR(IMAGE));
    for (u64 i = 0; i < 0x8000; i++)
        p[i] = image_byte(i);
    Elf64_Ehdr h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                    .e_type = ET_EXEC,
                    .e_machine = EM_X86_64,
                    .e_version = EV_CURRENT,
                    .e_entry = ELF_ENTRY,
                    .e_phoff = sizeof(h),
                    .e_ehsize = sizeof(h),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = ARRAY_SIZE(segments)};
    memcpy(p, &h, sizeof(h));
    memcpy(p + sizeof(h), segments, sizeof(segments));
}

static bool boot_all(void) {
    image_make();
    memset(sim_cpus, 0, sizeof(sim_cpus[0]));
    if (!core_init(&info, &sim_cpus[0]))
        return false;
    for (unsigned i = 0; i < info.cpu_count; i++)
        if (!core_cpu_init(cpus[i]))
            return false;
    return core_root_init(cpus[0]);
}

static const void *root_page(u64 va, unsigned *perm) {
    u64 pfn;
    if (!ptab_lookup(&root_pd->host, va >> PAGE_SHIFT, &pfn, perm))
        return NULL;
    return arch_phys_ptr(PADDR(pfn << PAGE_SHIFT));
}

static const struct abi_hip *hip(void) {
    unsigned perm = 0;
    const struct abi_hip *h = root_page(ABI_HIP_ADDR, &perm);
    CHECK(h);
    EQ(perm, PERM_MEM_R);
    return h;
}

/* --- what the kernel PD holds for `H` --- */
static u64 source_perm(unsigned type, u64 sel) {
    u64 crd = space_lookup(&kernel_pd, CRD_MAKE(type, sel, 0, 0));
    return CRD_TYPE(crd) == CRD_NULL ? 0 : CRD_PERM(crd);
}
static void memory(void) {
    CHECK(boot_all());
    static const struct {
        u64 addr;
        bool ours; /* the kernel's, or a register page */
    } pages[] = {{0, false},
                 {0x9f000, false},
                 {0xa0000, false},
                 {0xff000, false}, /* not in the map at all */
                 {IMAGE, false},
                 {POOL - PAGE_SIZE, false},
                 {POOL, true},
                 {POOL + POOL_SIZE - PAGE_SIZE, true},
                 {POOL + POOL_SIZE, false},
                 {POOL + POOL_SIZE + 0x2000, false},
                 {POOL + POOL_SIZE + 0x3000, true},
                 {POOL + POOL_SIZE + 0x4000, true}, /* its last byte */
                 {POOL + POOL_SIZE + 0x5000, false},
                 {0x2000000, false},
                 {0xfebff000, false},
                 {0xfec00000, true},
                 {0xfec01000, true},
                 {0xfec02000, false},
                 {0xfedff000, false},
                 {0xfee00000, true},
                 {0xfee01000, false},
                 {(1ul << 40) - PAGE_SIZE, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(pages); i++)
        EQ(source_perm(CRD_MEM, pages[i].addr >> PAGE_SHIFT), pages[i].ours ? 0 : PERM_MEM_ALL);
    EQ(source_perm(CRD_MEM, 1ul << (40 - PAGE_SHIFT)), 0);
    for (u64 port = 0; port < 65536; port += 0xfff)
        EQ(source_perm(CRD_PIO, port), PERM_PIO_A);
    EQ(space_lookup(&kernel_pd, CRD_MAKE(CRD_PIO, 0x1234, 0, 0)), CRD_MAKE(CRD_PIO, 0, 16, PERM_PIO_A));
    /* every node is itself: the source of a page is that page */
    u64 sum = 0;
    for (u64 at = 0; at < 1ul << (40 - PAGE_SHIFT);) {
        u64 crd = space_lookup(&kernel_pd, CRD_MAKE(CRD_MEM, at, 0, 0));
        if (!crd) {
            at++;
            continue;
        }
        EQ(CRD_BASE(crd), at);
        at += 1ul << CRD_ORDER(crd);
        sum += 1ul << CRD_ORDER(crd);
    }
    EQ(sum, (1ul << (40 - PAGE_SHIFT)) - POOL_SIZE / PAGE_SIZE - 2 - 2 - 1);
    for (unsigned i = 0; i < 64; i++) {
        struct cap cap = objtab_lookup(&kernel_pd.objtab, i);
        EQ(cap.obj ? cap.obj->type : 0, i < 4 ? KOBJ_SC : KOBJ_NONE);
        EQ(cap.perm, i < 4 ? PERM_SC_ALL : 0);
    }
    for (unsigned i = 0; i < 64; i++)
        EQ(objtab_lookup(&kernel_pd.objtab, 64 + i).perm, i < 40 ? PERM_SM_ALL : 0);
}

/* The whole of physical memory, to its last page, when nothing above is excluded; and a range that ends there. */
static void memory_small(void) {
    info.phys_bits = 32;
    info.hole_count = 0;
    CHECK(boot_all());
    EQ(source_perm(CRD_MEM, 0xfffff), PERM_MEM_ALL);
    EQ(source_perm(CRD_MEM, 0x100000), 0);
    EQ(source_perm(CRD_MEM, 0xfee00), PERM_MEM_ALL);
}
static void memory_hole_beyond(void) {
    static const struct boot_range far[] = {{1ul << 33, PAGE_SIZE, HIP_MEM_RESERVED}};
    info.phys_bits = 32;
    info.holes = far;
    info.hole_count = 1;
    CHECK(boot_all());
    EQ(source_perm(CRD_MEM, 0xfffff), PERM_MEM_ALL);
    EQ(source_perm(CRD_MEM, 0x100000), 0);
}

/* --- HIP --- */
static void hip_fields(void) {
    CHECK(boot_all());
    const struct abi_hip *h = hip();
    EQ(h->signature, 0x41564f4e);
    EQ(h->length, 0x238 + 24 * (2 + ARRAY_SIZE(ranges)));
    u16 sum = 0;
    for (unsigned i = 0; i < h->length / 2u; i++)
        sum = (u16)(sum + ((const u16 *)h)[i]);
    EQ(sum, 0);
    EQ(h->cpu_offs, 0x38);
    EQ(h->cpu_size, 8);
    EQ(h->mem_offs, 0x238);
    EQ(h->mem_size, 24);
    EQ(h->features, HIP_SVM);
    EQ(h->api_version, 7);
    EQ(h->sel, 1u << 26);
    EQ(h->exc, 32);
    EQ(h->vmi, 256);
    EQ(h->gsi_count, 40);
    EQ(h->page_sizes, 0x201000);
    EQ(h->utcb_sizes, 0x1000);
    EQ(h->tsc_khz, 1234567);
    EQ(h->reserved, 0);
    for (unsigned i = 0; i < ABI_MAX_CPUS; i++) {
        struct boot_cpu none = {0}, b = i < 4 ? boot_cpus[i] : none;
        EQ(h->cpu[i].flags, i < 4);
        EQ(h->cpu[i].thread, b.thread);
        EQ(h->cpu[i].core, b.core);
        EQ(h->cpu[i].package, b.package);
        EQ(h->cpu[i].acpi_id, b.acpi_id);
    }
    for (unsigned i = 0; i < 2; i++) {
        EQ(h->mem[i].addr, modules[i].base);
        EQ(h->mem[i].size, modules[i].size);
        EQ(h->mem[i].type, HIP_MEM_MODULE);
        EQ(h->mem[i].aux, modules[i].cmdline);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
        EQ(h->mem[2 + i].addr, ranges[i].base);
        EQ(h->mem[2 + i].size, ranges[i].size);
        EQ(h->mem[2 + i].type, ranges[i].type);
        EQ(h->mem[2 + i].aux, 0);
    }
}
static void hip_large_pages(void) {
    ptab_max_leaf_order = 18;
    CHECK(boot_all());
    EQ(hip()->page_sizes, 0x40201000);
}
static void hip_without_a_cpu(void) {
    image_make();
    CHECK(core_init(&info, &sim_cpus[0]) && core_cpu_init(cpus[0]) && core_cpu_init(cpus[2]) &&
          core_root_init(cpus[0]));
    EQ(hip()->cpu[0].flags, 1);
    EQ(hip()->cpu[1].flags, 0);
    EQ(hip()->cpu[2].flags, 1);
    EQ(hip()->cpu[3].flags, 0);
}
/* One page, whatever the machine has; modules come first. */
static void hip_overflow(void) {
    for (unsigned i = 1; i < MAX_MODULES; i++)
        modules[i] = (struct boot_module){0x300000 + i * PAGE_SIZE, i, 0};
    info.module_count = MAX_MODULES;
    CHECK(boot_all());
    unsigned n = (4096 - 0x238) / 24;
    EQ(hip()->length, 0x238 + 24 * n);
    for (unsigned i = 0; i < n; i++)
        EQ(hip()->mem[i].type, HIP_MEM_MODULE);
    EQ(hip()->mem[n - 1].size, n - 1);
}
static void hip_just_fits(void) {
    unsigned n = (4096 - 0x238) / 24 - ARRAY_SIZE(ranges);
    for (unsigned i = 1; i < n; i++)
        modules[i] = (struct boot_module){0x300000 + i * PAGE_SIZE, i, 0};
    info.module_count = n;
    CHECK(boot_all());
    EQ(hip()->length, 0x238 + 24 * (n + ARRAY_SIZE(ranges)));
    EQ(hip()->mem[n + ARRAY_SIZE(ranges) - 1].addr, ranges[ARRAY_SIZE(ranges) - 1].base);
}

/* --- root --- */
static void root_state(void) {
    CHECK(boot_all());
    struct cap pd = objtab_lookup(&root_pd->objtab, 32), ec = objtab_lookup(&root_pd->objtab, 33),
               sc = objtab_lookup(&root_pd->objtab, 34);
    EQ(pd.obj, &root_pd->obj);
    EQ(pd.perm, PERM_PD_ALL);
    EQ(ec.perm, PERM_EC_ALL);
    EQ(sc.perm, PERM_SC_ALL);
    for (unsigned i = 0; i < 64; i++)
        CHECK(!!objtab_lookup(&root_pd->objtab, i).obj == (i >= 32 && i <= 34));
    struct ec *e = container_of(ec.obj, struct ec, obj);
    struct sc *s = container_of(sc.obj, struct sc, obj);
    EQ(e->obj.type, KOBJ_EC);
    EQ(s->obj.type, KOBJ_SC);
    EQ(e->kind, EC_GLOBAL);
    EQ(e->cont, CONT_USER);
    EQ(e->pd, root_pd);
    EQ(e->sc, s);
    EQ(e->evt_base, 0);
    EQ(e->regs.rip, ELF_ENTRY);
    EQ(e->regs.rsp, ABI_HIP_ADDR);
    EQ(e->regs.rdi, 0);
    EQ(e->regs.rflags, 0x202);
    EQ(s->ec, e);
    EQ(s->prio, 64);
    EQ(s->state, SC_READY);
    EQ(cpus[0]->sched.queue[64], s);
    EQ(s->quantum, 10000ul * 1234567 / 1000);
    EQ(root_pd->obj.caps, 1); /* and no reference but capabilities and those of EC and SC */
    EQ(e->obj.refs, 2);       /* capability, SC */
    EQ(s->obj.refs, 1);
    CHECK(root_pd->is_root);
    unsigned perm;
    CHECK(root_page(ABI_ROOT_UTCB, &perm));
    EQ(perm, PERM_MEM_R | PERM_MEM_W);
    for (u64 i = 0; i < PAGE_SIZE; i++)
        EQ(((const u8 *)root_page(ABI_ROOT_UTCB, &perm))[i], 0);
}

static void root_segments(void) {
    CHECK(boot_all());
    u64 mapped = 0;
    for (u64 va = 0x3fff0000; va < 0x40030000; va += PAGE_SIZE) {
        bool text = va >= 0x40000000 && va < 0x40002000, data = va >= 0x40010000 && va < 0x4001a000;
        unsigned perm = 0;
        const u8 *page = root_page(va, &perm);
        EQ(page != NULL, text || data);
        if (!page)
            continue;
        mapped++;
        EQ(perm, text ? PERM_MEM_R | PERM_MEM_X : PERM_MEM_R | PERM_MEM_W);
        const Elf64_Phdr *ph = &segments[text ? 0 : 2];
        for (u64 i = 0; i < PAGE_SIZE; i++) {
            bool filled = va + i >= ph->p_vaddr && va + i < ph->p_vaddr + ph->p_filesz;
            EQ(page[i], filled ? image_byte(ph->p_offset + va + i - ph->p_vaddr) : 0);
        }
    }
    EQ(mapped, 12);
    sim_space_check(root_pd);
    EQ(space_lookup(root_pd, CRD_MAKE(CRD_PIO, 0, 0, 0)), 0);
}

/* --- what extensions ask boot for --- */
static void ram_ranges(void) {
    CHECK(boot_all());
    static const struct {
        u64 pfn, pages;
        bool ram;
    } cases[] = {{0, 0x9f, true},
                 {0, 0xa0, false}, /* the last page is not whole */
                 {0x9f, 1, false},
                 {0x100, 0x300, true},
                 {0xff, 2, false},
                 {0x100, 0x301, false}, /* over two ranges */
                 {POOL >> PAGE_SHIFT, POOL_SIZE >> PAGE_SHIFT, true},
                 {(POOL + POOL_SIZE) >> PAGE_SHIFT, 1, false},
                 {0x2000, 1, false},
                 {0x100000, 1, false},
                 {1ul << 52 | 0x100, 1, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        EQ(core_is_ram(cases[i].pfn, cases[i].pages), cases[i].ram);
}
static void command_line(void) {
    char text[16];
    info.cmdline = "quiet loglevel=3";
    CHECK(boot_all());
    u64 pos = 0;
    EQ(core_cmdline_read(&pos, text, 6), 6);
    CHECK(!memcmp(text, "quiet ", 6));
    EQ(pos, 6);
    EQ(core_cmdline_read(&pos, text, sizeof(text)), 10);
    CHECK(!memcmp(text, "loglevel=3", 10));
    EQ(pos, 16);
    EQ(core_cmdline_read(&pos, text, sizeof(text)), 0);
    EQ(pos, 16);
    pos = 1000;
    EQ(core_cmdline_read(&pos, text, sizeof(text)), 0);
    EQ(pos, 1000);
}

/* --- refusals --- */
static void no_module(void) {
    info.module_count = 0;
    CHECK(!boot_all());
}
static void bad_image(void) {
    modules[0].size = 0x3fff; /* the second segment ends behind it */
    CHECK(!boot_all());
}
static void image_on_the_hip(void) {
    image_make();
    Elf64_Phdr *ph = (void *)((u8 *)arch_phys_ptr(PADDR(IMAGE)) + sizeof(Elf64_Ehdr));
    ph[2].p_vaddr = ABI_HIP_ADDR;
    ph[2].p_memsz = ph[2].p_filesz = 0x800;
    CHECK(core_init(&info, &sim_cpus[0]) && core_cpu_init(cpus[0]));
    CHECK(!core_root_init(cpus[0]));
}
static void segments_share_a_page(void) {
    image_make();
    Elf64_Phdr *ph = (void *)((u8 *)arch_phys_ptr(PADDR(IMAGE)) + sizeof(Elf64_Ehdr));
    ph[2].p_vaddr = 0x40001800;
    CHECK(core_init(&info, &sim_cpus[0]) && core_cpu_init(cpus[0]));
    CHECK(!core_root_init(cpus[0]));
}
static u64 fail_at;
static void allocation_fails(void) {
    image_make();
    CHECK(core_init(&info, &sim_cpus[0]));
    kmem_fail_at = fail_at;
    bool up = core_cpu_init(cpus[0]) && core_root_init(cpus[0]);
    _exit(up && kmem_fail_at ? 77 : up ? 1 : 0); /* one that was refused must not be overlooked */
}
static void pool_small(void) {
    info.pool_size = fail_at * PAGE_SIZE;
    if (boot_all())
        _exit(77);
    char log[4096], size[64];
    u64 pos = 0;
    log[klog_read(&pos, log, sizeof(log) - 1)] = 0;
    (void)snprintf(size, sizeof(size), "pool of %lu KiB is too small", fail_at * PAGE_SIZE >> 10);
    const char *said = strstr(log, "memory pool ");
    if (!said != !log[0]) /* nothing is said by core_cpu_init: its caller does */
        _exit(2);
    _exit(said && strstr(said, "pool of") && !strstr(said, size) ? 3 : 0);
}

#define BOOT(name)                                                                                                     \
    static void boot_##name(void **state) {                                                                            \
        (void)state;                                                                                                   \
        child(name);                                                                                                   \
    }
BOOT(memory)
BOOT(memory_small)
BOOT(memory_hole_beyond)
BOOT(hip_fields)
BOOT(hip_large_pages)
BOOT(hip_without_a_cpu)
BOOT(hip_overflow)
BOOT(hip_just_fits)
BOOT(root_state)
BOOT(root_segments)
BOOT(ram_ranges)
BOOT(command_line)
BOOT(no_module)
BOOT(bad_image)
BOOT(image_on_the_hip)
BOOT(segments_share_a_page)

/* The first n at which it comes up; 0 or a crash before. */
static u64 first_success(void (*f)(void), u64 step, u64 max) {
    for (fail_at = step; fail_at <= max; fail_at += step) {
        int status;
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            f();
        waitpid(pid, &status, 0);
        if (status == 77 << 8)
            return fail_at;
        assert_int_equal(status, 0);
    }
    return 0;
}
static void boot_every_allocation_can_fail(void **state) {
    (void)state;
    assert_in_range(first_success(allocation_fails, 1, 1000), 50, 1000);
}
static void boot_small_pools_are_refused(void **state) {
    (void)state;
    assert_in_range(first_success(pool_small, 1, 500), 20, 500);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(boot_memory),
        cmocka_unit_test(boot_memory_small),
        cmocka_unit_test(boot_memory_hole_beyond),
        cmocka_unit_test(boot_hip_fields),
        cmocka_unit_test(boot_hip_large_pages),
        cmocka_unit_test(boot_hip_without_a_cpu),
        cmocka_unit_test(boot_hip_overflow),
        cmocka_unit_test(boot_hip_just_fits),
        cmocka_unit_test(boot_root_state),
        cmocka_unit_test(boot_root_segments),
        cmocka_unit_test(boot_ram_ranges),
        cmocka_unit_test(boot_command_line),
        cmocka_unit_test(boot_no_module),
        cmocka_unit_test(boot_bad_image),
        cmocka_unit_test(boot_image_on_the_hip),
        cmocka_unit_test(boot_segments_share_a_page),
        cmocka_unit_test(boot_every_allocation_can_fail),
        cmocka_unit_test(boot_small_pools_are_refused),
    };
    return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
