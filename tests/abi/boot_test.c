/* Goal: the state root starts in, sections 7 and 8. Method: reads the HIP, looks the capabilities up. */
#include "abi.h"

static u64 hip(unsigned offset, unsigned bytes) {
    u64 v = 0;
    for (unsigned i = 0; i < bytes; i++) { /* fields need not be aligned to words */
        u64 word = mem_read64((void *)(ABI_HIP_ADDR + ((offset + i) & ~7u)));
        v |= (word >> (8 * ((offset + i) & 7)) & 0xff) << (8 * i);
    }
    return v;
}

static void boot_registers(void) {
    CHECK_EQ(abi_boot_rsp, ABI_HIP_ADDR);
    CHECK(abi_boot_cpu < ABI_MAX_CPUS);
    CHECK_EQ(hip(0x38 + 8 * (unsigned)abi_boot_cpu, 1) & 1, 1);
}

static void boot_hip_header(void) {
    CHECK_EQ(hip(0x00, 4), 0x41564f4e);
    CHECK(hip(0x06, 2) >= 0x238 && hip(0x06, 2) <= PAGE);
    CHECK_EQ(hip(0x08, 2), 0x38);
    CHECK_EQ(hip(0x0a, 2), 8);
    CHECK_EQ(hip(0x0c, 2), 0x238);
    CHECK_EQ(hip(0x0e, 2), 24);
    CHECK_EQ(hip(0x14, 4), 7);
    CHECK_EQ(hip(0x18, 4), 1ul << 26);
    CHECK_EQ(hip(0x1c, 4), 32);
    CHECK_EQ(hip(0x20, 4), 256);
    CHECK(hip(0x24, 4) >= 1 && hip(0x24, 4) <= 128);
    CHECK(hip(0x28, 4) & 1u << 12);
    CHECK(hip(0x2c, 4) & 1u << 12);
    CHECK(hip(0x30, 4) > 0);
    CHECK_EQ(hip(0x34, 4), 0);
}

static void boot_hip_checksum(void) {
    u64 sum = 0, length = hip(0x06, 2);
    for (unsigned o = 0; o < length; o += 8) {
        u64 word = mem_read64((void *)(ABI_HIP_ADDR + o));
        for (unsigned i = 0; i < 8 && o + i < length; i += 2)
            sum += word >> (8 * i) & 0xffff;
    }
    CHECK_EQ(sum & 0xffff, 0);
}

static void boot_hip_memory(void) {
    u64 length = hip(0x06, 2);
    unsigned ram = 0, kernel = 0, modules = 0;
    CHECK_EQ((length - 0x238) % 24, 0);
    for (unsigned o = 0x238; o < length; o += 24) {
        int type = (int)(u32)hip(o + 16, 4);
        u64 addr = hip(o, 8), size = hip(o + 8, 8), aux = hip(o + 20, 4);
        ram += type == HIP_MEM_RAM;
        kernel += type == HIP_MEM_KERNEL;
        CHECK(size != 0 && addr + size > addr);
        CHECK(type == -2 || type == -1 || (type >= 1 && type <= 4));
        if (type != HIP_MEM_MODULE)
            continue;
        if (!modules++ && aux) { /* root's own first; its command line can be read */
            CHECK(grab(crd_mem(aux >> 12, 0, PERM_MEM_R), VA_DST >> 12, ITEM_H, crd_mem(VA_DST >> 12, 0, 0x1f)) != 0);
            CHECK((mem_read64((void *)(VA_DST + (aux & 0xff8))) >> (8 * (aux & 7)) & 0xff) != 0);
        }
    }
    CHECK(ram && kernel && modules);
}

static void boot_selectors(void) {
    CHECK_EQ(perms_of(CRD_OBJ, 32), PERM_PD_ALL);
    CHECK_EQ(perms_of(CRD_OBJ, 33), PERM_EC_ALL);
    CHECK_EQ(perms_of(CRD_OBJ, 34), PERM_SC_ALL);
    CHECK_EQ(perms_of(CRD_OBJ, 35), 0);
    u64 us;
    CHECK_EQ(nova_sc_time(SEL_SC, &us), NOVA_SUCCESS);
    CHECK_EQ(nova_sc_time(SEL_EC, &us), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_sm(sel_new(), SEL_PD, 0), NOVA_SUCCESS);
}

/* HIP read-only, the UTCB page below it read and write, nothing mapped that was not given. */
static void boot_mappings(void) {
    CHECK(machine_probe(ABI_HIP_ADDR, false));
    CHECK(!machine_probe(ABI_HIP_ADDR, true));
    CHECK(machine_probe(ABI_HIP_ADDR - PAGE, true));
    CHECK(!machine_probe(ABI_HIP_ADDR - 2 * PAGE, false));
    CHECK(!machine_probe(VA_DST, false));
    CHECK_EQ(perms_of(CRD_MEM, ABI_HIP_ADDR >> 12), PERM_MEM_R);
    CHECK_EQ(perms_of(CRD_PIO, 0x80), 0);
}

/* Kernel-held selectors for H: idle SCs of the CPUs, interrupt semaphores from 64. */
static void boot_kernel_selectors(void) {
    sel_t sc = sel_new(), sm = sel_new();
    u64 us;
    CHECK_EQ(grab(crd_obj(abi_boot_cpu, 0, 0x1f), sc, ITEM_H, WINDOW_ALL(CRD_OBJ)), crd_obj(sc, 0, 0x1f));
    CHECK_EQ(nova_sc_time(sc, &us), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(64 + machine_gsi(), 0, 0x1f), sm, ITEM_H, WINDOW_ALL(CRD_OBJ)), crd_obj(sm, 0, 0x1f));
    CHECK_EQ(perms_of(CRD_OBJ, sm), PERM_SM_ALL);
    CHECK_EQ(nova_sm_down(sm, false, 1), NOVA_TIMEOUT);
}

/* The kernel's own memory is not for H. */
static void boot_kernel_memory(void) {
    u64 length = hip(0x06, 2);
    for (unsigned o = 0x238; o < length; o += 24)
        if ((int)(u32)hip(o + 16, 4) == HIP_MEM_KERNEL) {
            (void)grab(crd_mem((hip(o, 8) + PAGE - 1) >> 12, 0, 0x1f), VA_DST >> 12, ITEM_H,
                       crd_mem(VA_DST >> 12, 0, 0x1f));
            CHECK_EQ(perms_of(CRD_MEM, VA_DST >> 12), 0);
        }
    (void)grab(crd_mem(0xfee00, 0, 0x1f), VA_DST >> 12, ITEM_H, crd_mem(VA_DST >> 12, 0, 0x1f));
    CHECK_EQ(perms_of(CRD_MEM, VA_DST >> 12), 0);
}

const struct abi_case boot_cases[] = {
    CASE(boot_registers),        CASE(boot_hip_header),    CASE(boot_hip_checksum),
    CASE(boot_hip_memory),       CASE(boot_selectors),     CASE(boot_mappings),
    CASE(boot_kernel_selectors), CASE(boot_kernel_memory), {0},
};
