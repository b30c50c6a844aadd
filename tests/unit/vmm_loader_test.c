// LINK: userland/vmm/loader.c userland/vmm/tables.c userland/vmm/gmem.c userland/vmm/cpuid.c userland/vmm/pvclock.c
/* Goal: a guest finds kernel, initrd, memory map, ACPI tables, CPUID and clock as the protocols say; damaged files give one clear line.
 * Method: small made-up kernels, then random damage; checksums and contents of guest memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpuid.h"
#include "loader.h"
#include "pvclock.h"
#include "tables.h"

#define MIB (1ull << 20)
static uint8_t *ram;
static struct gmem mem;
static uint8_t kernel[0x3000];
static const uint8_t initrd[5000] = "initrd";

static int setup(void **state) {
    (void)state;
    ram = calloc(1, 64 * MIB);
    mem = (struct gmem){.base = ram, .size = 64 * MIB};
    return !ram;
}
static int teardown(void **state) {
    (void)state;
    free(ram);
    return 0;
}

static struct load_request request(void) {
    return (struct load_request){.mem = &mem,
                                 .kernel = kernel,
                                 .kernel_size = sizeof(kernel),
                                 .kernel_name = "k",
                                 .initrd = initrd,
                                 .initrd_size = sizeof(initrd),
                                 .initrd_name = "i",
                                 .cmdline = "console=ttyS0",
                                 .rsdp = 0xf0000};
}

static void put(unsigned at, uint64_t v, unsigned size) { memcpy(kernel + at, &v, size); }

static void elf_kernel(void) {
    memset(kernel, 0, sizeof(kernel));
    memcpy(kernel, "\177ELF\2\1\1", 7);
    put(16, 2, 2);
    put(18, 62, 2);
    put(24, 0x1000123, 8); /* entry */
    put(32, 64, 8);
    put(54, 56, 2);
    put(56, 1, 2);
    put(64, 1, 4);              /* PT_LOAD */
    put(64 + 8, 0x1000, 8);     /* offset */
    put(64 + 24, 0x1000000, 8); /* physical address */
    put(64 + 32, 0x2000, 8);    /* in the file */
    put(64 + 40, 0x100000, 8);  /* in memory */
    memset(kernel + 0x1000, 0x5a, 0x2000);
}

static void bz_kernel(void) {
    memset(kernel, 0, sizeof(kernel));
    kernel[0x1f1] = 4;
    put(0x1f4, (sizeof(kernel) - 5 * 512) / 16, 4);
    put(0x1fe, 0xaa55, 2);
    put(0x200, 0x66eb, 2);
    put(0x202, 0x53726448, 4);
    put(0x206, 0x20f, 2);
    put(0x22c, 0x7fffffff, 4);
    kernel[0x234] = 1;
    put(0x236, 1, 2);
    put(0x238, 2047, 4);
    put(0x258, 0x1000000, 8);
    put(0x260, 0x200000, 4);
    kernel[5 * 512] = 0xab;
}

static uint32_t guest32(uint64_t at) {
    uint32_t v;
    memcpy(&v, ram + at, 4);
    return v;
}

static void elf_is_loaded(void **state) {
    (void)state;
    struct load_request r = request();
    struct load_result out;
    elf_kernel();
    memset(ram + 0x1000000, 0xff, 0x100000);
    assert_true(loader_load(&r, &out));
    assert_true(out.long_mode && out.entry == 0x1000123);
    assert_int_equal(ram[0x1000000 + 0x1fff], 0x5a);
    assert_int_equal(ram[0x1000000 + 0x2000], 0); /* .bss */
    uint64_t p = out.boot_params;
    assert_int_equal(guest32(p + 0x202), 0x53726448);
    assert_memory_equal(ram + guest32(p + 0x228), "console=ttyS0", 14);
    assert_memory_equal(ram + guest32(p + 0x218), initrd, sizeof(initrd));
    assert_int_equal(guest32(p + 0x21c), sizeof(initrd));
    assert_int_equal(guest32(p + 0x70), 0xf0000);
    assert_int_equal(ram[p + 0x1e8], 3); /* no memory above 4 GiB */
    assert_int_equal(guest32(p + 0x2d0 + 2 * 20), MIB);
    assert_int_equal(guest32(p + 0x2d0 + 2 * 20 + 8), 63 * MIB);
}

static void bzimage_is_loaded(void **state) {
    (void)state;
    struct load_request r = request();
    struct load_result out;
    bz_kernel();
    assert_true(loader_load(&r, &out));
    assert_true(out.long_mode && out.entry == 0x1000200);
    assert_int_equal(ram[0x1000000], 0xab);
    assert_int_equal(ram[out.boot_params + 0x210], 0xff);
    put(0x236, 0, 2); /* no 64-bit entry: protected mode at 1 MiB */
    assert_true(loader_load(&r, &out));
    assert_true(!out.long_mode && out.entry == MIB);
}

static void errors_are_named(void **state) {
    (void)state;
    struct load_request r = request();
    struct load_result out;
    elf_kernel();
    put(64 + 40, 62 * MIB, 8);
    assert_false(loader_load(&r, &out));
    assert_non_null(strstr(out.error, "needs at least 112 MiB"));
    elf_kernel();
    r.kernel_size = 0x2800; /* truncated */
    assert_false(loader_load(&r, &out));
    assert_non_null(strstr(out.error, "truncated"));
    r.kernel_size = 100;
    assert_false(loader_load(&r, &out));
    assert_non_null(strstr(out.error, "too short"));
    r = request();
    memset(kernel, 7, sizeof(kernel));
    assert_false(loader_load(&r, &out));
    assert_non_null(strstr(out.error, "neither a bzImage nor an ELF"));
    bz_kernel();
    r.kernel_size -= 1024;
    assert_false(loader_load(&r, &out));
    assert_non_null(strstr(out.error, "truncated bzImage"));
    bz_kernel();
    r = request();
    r.initrd_size = 60 * MIB; /* not read: it does not fit */
    assert_false(loader_load(&r, &out));
    assert_non_null(strstr(out.error, "memory"));
}

static void damage_never_hurts(void **state) {
    (void)state;
    struct load_result out;
    srand(2);
    for (int i = 0; i < 3000; i++) {
        struct load_request r = request();
        if (i & 1)
            elf_kernel();
        else
            bz_kernel();
        for (int k = rand() % 6; k >= 0; k--) {
            unsigned at = i & 1 ? (unsigned)rand() % 128 : 0x1f1 + (unsigned)rand() % 0x90;
            kernel[at] = (uint8_t)rand();
        }
        r.kernel_size = rand() % 4 ? sizeof(kernel) : (unsigned)rand() % sizeof(kernel);
        if (!loader_load(&r, &out))
            assert_true(out.error[0]);
    }
}

static uint8_t sum(const uint8_t *p, size_t n) {
    uint8_t s = 0;
    while (n--)
        s = (uint8_t)(s + *p++);
    return s;
}

static void acpi_tables_hold_together(void **state) {
    (void)state;
    uint64_t rsdp = tables_write(&mem, 4), xsdt;
    assert_true(rsdp == 0xf0000);
    assert_memory_equal(ram + rsdp, "RSD PTR ", 8);
    assert_int_equal(sum(ram + rsdp, 20), 0);
    assert_int_equal(sum(ram + rsdp, 36), 0);
    memcpy(&xsdt, ram + rsdp + 24, 8);
    assert_memory_equal(ram + xsdt, "XSDT", 4);
    for (int i = 0; i < 2; i++) {
        uint64_t t;
        memcpy(&t, ram + xsdt + 36 + 8 * i, 8);
        assert_memory_equal(ram + t, i ? "APIC" : "FACP", 4);
        assert_int_equal(sum(ram + t, guest32(t + 4)), 0);
        if (!i) {
            uint32_t dsdt = guest32(t + 40), facs = guest32(t + 36);
            assert_memory_equal(ram + dsdt, "DSDT", 4);
            assert_int_equal(sum(ram + dsdt, guest32(dsdt + 4)), 0);
            assert_memory_equal(ram + facs, "FACS", 4);
            assert_int_equal(facs & 63, 0);
        }
    }
    assert_int_equal(sum(ram + xsdt, guest32(xsdt + 4)), 0);
    assert_true(tables_write(&mem, 65) == 0);
}

static void memory_above_the_hole(void **state) {
    (void)state;
    struct gmem big = {.base = (uint8_t *)0x1000, .size = 6ull << 30};
    assert_ptr_equal(gmem_ptr(&big, 0xbffff000, 4096), (uint8_t *)0x1000 + 0xbffff000);
    assert_null(gmem_ptr(&big, 0xbffff000, 4097));
    assert_null(gmem_ptr(&big, 0xc0000000, 1));
    assert_ptr_equal(gmem_ptr(&big, 0x100000000, 1), (uint8_t *)0x1000 + 0xc0000000);
    assert_non_null(gmem_ptr(&big, 0x1bffff000, 4096));
    assert_null(gmem_ptr(&big, 0x1c0000000, 1));
    assert_null(gmem_ptr(&big, ~0ull, 2));
}

static void all_ones(uint32_t leaf, uint32_t sub, struct cpuid_regs *r) {
    (void)sub;
    *r = (struct cpuid_regs){~0u, ~0u, ~0u, ~0u};
    if (leaf == 0xd)
        *r = (struct cpuid_regs){.eax = sub == 2 ? 256 : ~0u, .ebx = 576};
}

static void cpuid_offers_only_what_is_there(void **state) {
    (void)state;
    const struct cpuid_config c = {.host = all_ones, .xcr0 = 0xe7, .cpus = 2};
    struct cpuid_regs r;
    cpuid_guest(&c, 1, 0, 1, 0, &r);
    assert_int_equal(r.ebx >> 24, 1);
    assert_int_equal(r.ecx >> 31 & 1, 1); /* hypervisor */
    assert_int_equal(r.ecx >> 21 & 1, 1); /* x2APIC */
    assert_int_equal(r.ecx >> 27 & 1, 0); /* OSXSAVE: CR4 says no */
    assert_int_equal(r.ecx >> 3 & 1, 0);  /* MONITOR */
    cpuid_guest(&c, 1, 1 << 18, 1, 0, &r);
    assert_int_equal(r.ecx >> 27 & 1, 1);
    cpuid_guest(&c, 0, 0, 0x80000001, 0, &r);
    assert_int_equal(r.ecx >> 2 & 1, 0); /* SVM */
    cpuid_guest(&c, 0, 0, 7, 0, &r);
    assert_int_equal(r.ecx >> 16 & 1, 0); /* LA57 */
    cpuid_guest(&c, 0, 0, 0xd, 0, &r);
    assert_true(r.eax == 7 && r.ebx == 832 && r.ecx == 832 && r.edx == 0);
    cpuid_guest(&c, 0, 0, 0x40000000, 0, &r);
    assert_memory_equal(&r.ebx, "KVMK", 4);
    cpuid_guest(&c, 0, 0, 0x8000000a, 0, &r);
    assert_true(!r.eax && !r.ebx && !r.ecx && !r.edx);
    cpuid_guest(&c, 1, 0, 0xb, 1, &r);
    assert_true(r.eax == 1 && r.ebx == 2 && r.edx == 1);
}

static void clock_scales(void **state) {
    (void)state;
    static const uint64_t khz[] = {40000, 999999, 1000000, 2445426, 5200000};
    for (unsigned i = 0; i < sizeof(khz) / sizeof(khz[0]); i++) {
        struct tsc_scale s = tsc_scale_of(khz[i]);
        uint64_t hour = tsc_scale_ns(s, khz[i] * 1000 * 3600);
        assert_in_range(hour, 3600000000000ull - 10000, 3600000000000ull + 10000);
    }
    uint32_t version;
    assert_true(pvclock_system_write(&mem, 0x5000, tsc_scale_of(2000000), 77));
    memcpy(&version, ram + 0x5000, 4);
    assert_int_equal(version & 1, 0);
    assert_int_equal(guest32(0x5008), 77);
    assert_false(pvclock_system_write(&mem, 64 * MIB - 8, tsc_scale_of(2000000), 77));
    assert_true(pvclock_wall_write(&mem, 0x6000, 5000000007ull));
    assert_int_equal(guest32(0x6004), 5);
    assert_int_equal(guest32(0x6008), 7);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elf_is_loaded),
        cmocka_unit_test(bzimage_is_loaded),
        cmocka_unit_test(errors_are_named),
        cmocka_unit_test(damage_never_hurts),
        cmocka_unit_test(acpi_tables_hold_together),
        cmocka_unit_test(memory_above_the_hole),
        cmocka_unit_test(cpuid_offers_only_what_is_there),
        cmocka_unit_test(clock_scales),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
