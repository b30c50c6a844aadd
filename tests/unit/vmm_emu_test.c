// LINK: zydis userland/vmm/emu.c userland/vmm/emu_exec.c userland/vmm/walk.c userland/vmm/gmem.c
/* Goal: the page walker translates and refuses as the processor does; the emulator executes what touches devices.
 * Method: small guests with page tables and code in a buffer; a device that records its accesses at 0xfee00000. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "emu.h"
#include "walk.h"

#define DEVICE 0xfee00000ull
static uint8_t ram[1 << 20] __attribute__((aligned(4096)));
static const struct gmem mem = {.base = ram, .size = sizeof(ram)};
static uint64_t device_val, device_addr;
static unsigned device_size, device_writes;
static uint32_t port_vals[8];
static unsigned port_count;

static bool mmio_read(void *ctx, uint64_t gpa, unsigned size, uint64_t *val) {
    (void)ctx;
    device_addr = gpa;
    device_size = size;
    *val = device_val & (size == 8 ? ~0ull : (1ull << size * 8) - 1);
    return gpa >> 12 == DEVICE >> 12;
}
static bool mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t val) {
    (void)ctx;
    device_addr = gpa;
    device_size = size;
    device_val = val;
    device_writes++;
    return gpa >> 12 == DEVICE >> 12;
}
static uint32_t port_in(void *ctx, uint16_t port, unsigned size) {
    (void)ctx;
    return port * 0x01010101u & (size == 4 ? ~0u : (1u << size * 8) - 1);
}
static void port_out(void *ctx, uint16_t port, unsigned size, uint32_t val) {
    (void)ctx;
    (void)port;
    (void)size;
    port_vals[port_count++ & 7] = val;
}
static const struct emu_bus bus = {mmio_read, mmio_write, port_in, port_out, NULL};

static void put64(uint64_t at, uint64_t v) { memcpy(ram + at, &v, 8); }

/* Long mode: 0x1000 PML4, 0x2000 PDPT, 0x3000 PD: first 2 MiB one to one by 4 KiB pages (0x4000), device page by a 2 MiB page. */
static void long_mode(struct abi_state *s) {
    memset(ram, 0, sizeof(ram));
    memset(s, 0, sizeof(*s));
    put64(0x1000, 0x2007);
    put64(0x2000, 0x3007);
    put64(0x2018, 0x5007); /* 3 GiB.. */
    put64(0x3000, 0x4007);
    for (uint64_t i = 0; i < 256; i++)
        put64(0x4000 + i * 8, i << 12 | 7);
    put64(0x4000 + 9 * 8, 0x9000 | 5);  /* read-only */
    put64(0x4000 + 10 * 8, 0xa000 | 3); /* supervisor */
    put64(0x4000 + 11 * 8, 0);          /* not there */
    put64(0x5000 + 8 * 503, (DEVICE & ~0x1fffffull) | 0x87);
    s->cr0 = 0x80010011;
    s->cr3 = 0x1000;
    s->cr4 = 0x20;
    s->efer = 0xd00;
    s->cs.ar = 0xa9b;
    s->ss.ar = 0xc93;
    s->rip = 0x8000;
    s->rflags = 2;
}

static enum emu_result run(struct abi_state *s, struct emu *e, const char *code, size_t len) {
    memcpy(ram + 0x8000, code, len);
    *e = (struct emu){.s = s, .mem = &mem, .bus = &bus};
    device_writes = port_count = 0;
    return emu_step(e);
}
#define RUN(code) run(&s, &e, code, sizeof(code) - 1)

static void walk_long_mode_rights(void **state) {
    (void)state;
    struct abi_state s;
    uint64_t gpa;
    uint32_t err;
    long_mode(&s);
    assert_true(walk_gva(&mem, &s, 0x7123, WALK_READ, &gpa, &err));
    assert_true(gpa == 0x7123);
    assert_true(ram[0x4000 + 7 * 8] & 0x20); /* accessed */
    assert_false(ram[0x4000 + 7 * 8] & 0x40);
    assert_true(walk_gva(&mem, &s, 0x7123, WALK_WRITE, &gpa, &err));
    assert_true(ram[0x4000 + 7 * 8] & 0x40); /* dirty */
    assert_false(walk_gva(&mem, &s, 0x9000, WALK_WRITE, &gpa, &err));
    assert_int_equal(err, 3);
    assert_false(walk_gva(&mem, &s, 0xa000, WALK_READ | WALK_USER, &gpa, &err));
    assert_int_equal(err, 5);
    assert_false(walk_gva(&mem, &s, 0xb000, WALK_READ, &gpa, &err));
    assert_int_equal(err, 0);
    assert_true(walk_gva(&mem, &s, DEVICE + 0x30, WALK_READ, &gpa, &err));
    assert_true(gpa == DEVICE + 0x30);
    put64(0x4000 + 12 * 8, 0xc007 | 1ull << 63);
    assert_false(walk_gva(&mem, &s, 0xc000, WALK_FETCH, &gpa, &err));
    put64(0x1000, 0xfffffff000007ull); /* tables outside of memory */
    assert_false(walk_gva(&mem, &s, 0x7000, WALK_READ, &gpa, &err));
}

static void walk_legacy_modes(void **state) {
    (void)state;
    struct abi_state s = {0};
    uint64_t gpa;
    uint32_t err, pde = 0x2007, pte = 0x5007, big = 0x00400087;
    memset(ram, 0, sizeof(ram));
    assert_true(walk_gva(&mem, &s, 0x12345, WALK_WRITE, &gpa, &err)); /* no paging */
    assert_true(gpa == 0x12345);
    s.cr0 = 0x80000001;
    s.cr3 = 0x1000;
    memcpy(ram + 0x1000, &pde, 4);
    memcpy(ram + 0x1004, &big, 4);
    memcpy(ram + 0x2000 + 4 * 3, &pte, 4);
    assert_true(walk_gva(&mem, &s, 0x3456, WALK_READ, &gpa, &err));
    assert_true(gpa == 0x5456);
    s.cr4 = 0x10;
    assert_true(walk_gva(&mem, &s, 0x412345, WALK_READ, &gpa, &err));
    assert_true(gpa == 0x412345);
    s.cr4 = 0x20; /* PAE */
    put64(0x1000, 0x2001);
    put64(0x2000, 0x00200000 | 0x87);
    assert_true(walk_gva(&mem, &s, 0x1234, WALK_WRITE, &gpa, &err));
    assert_true(gpa == 0x201234);
}

static void emu_moves(void **state) {
    (void)state;
    struct abi_state s;
    struct emu e;
    long_mode(&s);
    s.rbx = DEVICE;
    s.rax = 0x1122334455667788;
    assert_int_equal(RUN("\x89\x43\x20"), EMU_DONE); /* mov [rbx+0x20], eax */
    assert_true(device_addr == DEVICE + 0x20 && device_val == 0x55667788 && device_size == 4);
    assert_true(s.rip == 0x8003);
    s.rip = 0x8000;
    device_val = 0xffffff80;
    assert_int_equal(RUN("\x8b\x4b\x30"), EMU_DONE); /* mov ecx, [rbx+0x30] */
    assert_true(s.rcx == 0xffffff80);
    s.rip = 0x8000;
    assert_int_equal(RUN("\x48\x0f\xbe\x0b"), EMU_DONE); /* movsx rcx, byte [rbx] */
    assert_true(s.rcx == 0xffffffffffffff80);
    s.rip = 0x8000;
    assert_int_equal(RUN("\x0f\xb6\x33"), EMU_DONE); /* movzx esi, byte [rbx] */
    assert_true(s.rsi == 0x80);
    s.rip = 0x8000;
    assert_int_equal(RUN("\xc7\x03\x12\x00\x00\x00"), EMU_DONE); /* mov dword [rbx], 0x12 */
    assert_true(device_val == 0x12);
    s.rip = 0x8000;
    assert_int_equal(RUN("\x88\x63\x01"), EMU_DONE); /* mov [rbx+1], ah */
    assert_true(device_val == 0x77 && device_size == 1);
}

static void emu_arithmetic_and_bits(void **state) {
    (void)state;
    struct abi_state s;
    struct emu e;
    long_mode(&s);
    s.rbx = DEVICE;
    s.rcx = 0xff;
    device_val = 0xffffff01;
    assert_int_equal(RUN("\x01\x0b"), EMU_DONE); /* add [rbx], ecx */
    assert_true(device_val == 0);
    assert_int_equal(s.rflags & 0x8d5, 0x55); /* C P A Z */
    s.rip = 0x8000;
    device_val = 5;
    assert_int_equal(RUN("\x83\x3b\x06"), EMU_DONE); /* cmp dword [rbx], 6 */
    assert_int_equal(device_writes, 0);
    assert_int_equal(s.rflags & 0x8c1, 0x81); /* S C */
    s.rip = 0x8000;
    assert_int_equal(RUN("\x0f\xba\x2b\x04"), EMU_DONE); /* bts dword [rbx], 4 */
    assert_true(device_val == 0x15);
    assert_int_equal(s.rflags & 1, 0);
    s.rip = 0x8000;
    s.rax = 0x15;
    assert_int_equal(RUN("\xf0\x0f\xb1\x0b"), EMU_DONE); /* lock cmpxchg [rbx], ecx */
    assert_true(device_val == 0xff && s.rflags & 0x40);
    s.rip = 0x8000;
    assert_int_equal(RUN("\x87\x0b"), EMU_DONE); /* xchg [rbx], ecx */
    assert_true(s.rcx == 0xff && device_val == 0xff);
    s.rip = 0x8000;
    assert_int_equal(RUN("\xf7\x03\x80\x00\x00\x00"), EMU_DONE); /* test dword [rbx], 0x80 */
    assert_false(s.rflags & 0x40);
}

static void emu_strings_and_ports(void **state) {
    (void)state;
    struct abi_state s;
    struct emu e;
    long_mode(&s);
    strcpy((char *)ram + 0xd000, "abcd");
    s.rsi = 0xd000;
    s.rcx = 4;
    s.rdx = 0x3f8;
    assert_int_equal(RUN("\xf3\x6e"), EMU_DONE); /* rep outsb */
    assert_int_equal(port_count, 4);
    assert_int_equal(port_vals[3], 'd');
    assert_true(s.rsi == 0xd004 && s.rcx == 0 && s.rip == 0x8002);
    s.rip = 0x8000;
    s.rdi = 0xd100;
    s.rcx = 2;
    s.rdx = 0x12;
    assert_int_equal(RUN("\xf3\x6d"), EMU_DONE); /* rep insd */
    assert_true(s.rdi == 0xd108 && ram[0xd107] == 0x12);
    s.rip = 0x8000;
    s.rdi = 0xd200;
    s.rcx = EMU_REP_BATCH + 5;
    s.rax = 0x77;
    assert_int_equal(RUN("\xf3\xaa"), EMU_AGAIN); /* rep stosb: in two goes */
    assert_true(s.rcx == 5 && s.rip == 0x8000);
    assert_int_equal(RUN("\xf3\xaa"), EMU_DONE);
    assert_int_equal(ram[0xd200 + EMU_REP_BATCH + 4], 0x77);
    s.rip = 0x8000;
    s.rsi = 0xa800; /* a copy that runs into a missing page: stops there */
    s.rdi = 0xaffe;
    s.rcx = 4;
    assert_int_equal(RUN("\xf3\xa4"), EMU_EXCEPTION);
    assert_int_equal(e.vector, 14);
    assert_int_equal(e.error_code, 2);
    assert_true(s.cr2 == 0xb000 && s.rcx == 2 && s.rip == 0x8000);
    s.rip = 0x8000;
    s.rax = 0xaa55;
    assert_int_equal(RUN("\xe6\x80"), EMU_DONE); /* out 0x80, al */
    assert_int_equal(port_vals[0], 0x55);
}

static void emu_refuses(void **state) {
    (void)state;
    struct abi_state s;
    struct emu e;
    long_mode(&s);
    s.rbx = DEVICE;
    assert_int_equal(RUN("\x0f\x11\x03"), EMU_UNKNOWN); /* movups [rbx], xmm0 */
    assert_int_equal(RUN("\xff\xff\xff\xff"), EMU_UNKNOWN);
    s.rbx = DEVICE + 0x1000;
    assert_int_equal(RUN("\x89\x03"), EMU_NOWHERE);
    assert_true(e.gpa == DEVICE + 0x1000);
    s.rbx = 0x9000;
    assert_int_equal(RUN("\x89\x03"), EMU_EXCEPTION);
    s.rip = 0xb000;
    assert_int_equal(RUN("\x90"), EMU_EXCEPTION); /* fetch from nowhere */
    srand(1);
    for (int i = 0; i < 20000; i++) { /* garbage as code: never a crash */
        char code[15];
        for (unsigned k = 0; k < sizeof(code); k++)
            code[k] = (char)rand();
        uint64_t *g = &s.rax;
        for (int k = 0; k < 16; k++)
            g[k] = k & 1 ? (uint64_t)rand() : DEVICE;
        s.rip = 0x8000;
        (void)run(&s, &e, code, sizeof(code));
    }
}

static void emu_real_mode(void **state) {
    (void)state;
    struct abi_state s = {0};
    struct emu e;
    memset(ram, 0, sizeof(ram));
    s.cs.base = 0x7000;
    s.rip = 0x1000;
    s.ds.base = 0xd000;
    s.rsi = 0xffff0010;
    s.rcx = 0xffff0002;
    s.rdx = 0x99;
    ram[0xd010] = 7;
    ram[0xd011] = 8;
    assert_int_equal(RUN("\xf3\x6e"), EMU_DONE);
    assert_int_equal(port_vals[1], 8);
    assert_true(s.rsi == 0xffff0012 && s.rcx == 0xffff0000 && s.rip == 0x1002);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(walk_long_mode_rights),
        cmocka_unit_test(walk_legacy_modes),
        cmocka_unit_test(emu_moves),
        cmocka_unit_test(emu_arithmetic_and_bits),
        cmocka_unit_test(emu_strings_and_ports),
        cmocka_unit_test(emu_refuses),
        cmocka_unit_test(emu_real_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
