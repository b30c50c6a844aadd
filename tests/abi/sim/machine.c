/* The suite's machine in the simulator, and the program around it: build/sim/abi [SEEDS=n] [CPUS=n] [SEED=k] [ROUNDS=n]
 * [CASE=case] */
#include "machine.h"
#include "arch/regs.h"
#include "core/abi.h"
#include "sim/sim.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void abi_main(uint64_t cpu);
extern uint64_t abi_boot_rsp, abi_boot_flags;

void machine_init(void) {}
void machine_out(const char *text) { sim_log("%s", text); }

_Noreturn void machine_end(unsigned failed) {
    sim_expect_eq(failed, 0);
    sim_done();
}

uint64_t machine_clock(void) {
    sim_step();
    return sim_clock();
}
void machine_relax(void) { sim_step(); }

unsigned machine_rounds(void) {
    const char *v = getenv("ROUNDS");
    return v && *v ? (unsigned)strtoul(v, NULL, 0) : 4;
}
uint64_t machine_seed(void) { return (uint64_t)sim_choose(SIM_WORKLOAD, ~0u) << 32 | sim_choose(SIM_WORKLOAD, ~0u); }

bool machine_wanted(const char *name) { /* CASE=name: only that one */
    const char *v = getenv("CASE");
    return !v || !*v || !strcmp(v, name);
}

#define STACK_BASE 0x70000000ul
uint64_t machine_stack_top(unsigned i) { return STACK_BASE + (i + 1) * 0x2000ul; }
unsigned machine_stack_slot(uint64_t sp) { return (unsigned)((sp - STACK_BASE) / 0x2000 - 1); }
uint64_t machine_entry_rsp(void) { return sim_regs()->rsp; }
uint64_t machine_image(uint64_t *first_page) {
    *first_page = 0;
    return 0;
}

void machine_undefined(void) { sim_raise(6, 0); }
/* The kernel's frame in the order of instruction encoding. */
static u64 *reg(struct uregs *r, unsigned i) {
    u64 *const at[] = {&r->rax, &r->rcx, &r->rdx, &r->rbx, &r->rsp, &r->rbp, &r->rsi, &r->rdi,
                       &r->r8,  &r->r9,  &r->r10, &r->r11, &r->r12, &r->r13, &r->r14, &r->r15};
    return at[i];
}
void machine_undefined_regs(uint64_t r[17]) {
    r[4] = sim_regs()->rsp;
    for (unsigned i = 0; i < 16; i++)
        *reg(sim_regs(), i) = r[i];
    sim_regs()->rflags = r[16];
    sim_raise(6, 0);
    for (unsigned i = 0; i < 16; i++)
        r[i] = *reg(sim_regs(), i);
    r[16] = sim_regs()->rflags;
}
bool machine_can_raise(unsigned vector) { return vector < 30 && vector != 7; /* #NM is the kernel's the first time */ }
void machine_raise(unsigned vector) { sim_raise(vector, 0); }
unsigned machine_entry_read(uint64_t r[17]) {
    for (unsigned i = 0; i < 16; i++)
        r[i] = *reg(sim_regs(), i);
    r[16] = sim_regs()->rflags;
    return 1u << 1 | 1u << 11;
}
_Noreturn void machine_reply_regs(const uint64_t r[16]) {
    struct uregs *now = sim_regs();
    for (unsigned i = 0; i < 16; i++)
        if (i != 4)
            *reg(now, i) = r[i];
    sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY, .rsi = r[6], .rdx = r[2], .rax = r[0], .r8 = r[8]});
    abort(); /* a reply does not return */
}
void machine_code_put(uint64_t va) { (void)va; }
bool machine_probe_exec(uint64_t va) { return sim_mem_exec(va); }
void machine_jump(uint64_t ip) {
    (void)ip;
    sim_raise(14, 0x14);
}
uint8_t machine_in8(uint16_t port) { return (uint8_t)sim_port_in(port, 1); }
void machine_fpu_set(uint64_t v) { sim_fpu_set(3, v); }
uint64_t machine_fpu_get(void) { return sim_fpu_get(3); }
void machine_base_set(uint64_t v) { sim_fs_base_set(v); }
uint64_t machine_base_get(void) { return sim_fs_base(); }
bool machine_probe(uint64_t va, bool write) { return sim_mem_probe(va, write); }
uint64_t machine_probe_fixup(uint64_t rip) {
    (void)rip;
    return 0;
}

#define PATTERN(i) (0x1111111111111111ul * (i))
unsigned machine_call_checked(struct machine_call *c) {
    struct uregs *r = sim_regs();
    unsigned changed = 0;
    r->rbx = PATTERN(3), r->rbp = PATTERN(5), r->r9 = PATTERN(9), r->r10 = PATTERN(10), r->r12 = PATTERN(12);
    r->r13 = PATTERN(13), r->r14 = PATTERN(14), r->r15 = PATTERN(15);
    uint64_t rsp = r->rsp;
    struct sim_hypercall h = {c->rdi, c->rsi, c->rdx, c->rax, c->r8};
    sim_hypercall(&h);
    r = sim_regs();
    changed |=
        (r->rbx != PATTERN(3)) << 3 | (r->rsp != rsp) << 4 | (r->rbp != PATTERN(5)) << 5 | (r->r9 != PATTERN(9)) << 9;
    changed |= (r->r10 != PATTERN(10)) << 10 | (r->r12 != PATTERN(12)) << 12 | (r->r13 != PATTERN(13)) << 13;
    changed |= (r->r14 != PATTERN(14)) << 14 | (r->r15 != PATTERN(15)) << 15;
    changed |= (h.rax != c->rax) << 0 | (h.rdx != c->rdx) << 2 | (h.rsi != c->rsi) << 6 | (h.r8 != c->r8) << 8;
    *c = (struct machine_call){h.rdi, h.rsi, h.rdx, h.rax, h.r8};
    return changed;
}

uint64_t machine_call_flags(uint64_t *rdi, uint64_t set) {
    struct uregs *r = sim_regs();
    uint64_t before = r->rflags, after;
    struct sim_hypercall h = {.rdi = *rdi};
    r->rflags |= set;
    sim_hypercall(&h);
    after = sim_regs()->rflags;
    sim_regs()->rflags = before;
    *rdi = h.rdi;
    return after;
}

_Noreturn void machine_reply_at(uint64_t rsp) {
    sim_regs()->rsp = rsp;
    sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY});
    abort(); /* a reply does not return */
}

unsigned machine_gsi(void) { return 5; }
void machine_gsi_prepare(void) {}
void machine_gsi_raise(void) {
    sim_step();
    sim_irq(machine_gsi());
}
#define DEVICE 0x0108                                           /* bus 1, device 1, function 0 */
uint64_t machine_config_page(void) { return 0xb0000 + DEVICE; } /* MMCONFIG as on q35; nothing reads it here */
bool machine_dma_copy(uint64_t from, uint64_t to) {
    static uint64_t buffer;
    sim_step();
    (void)sim_dma_read(DEVICE, from, &buffer);
    sim_step();
    (void)sim_dma_write(DEVICE, to, buffer);
    return true;
}

static const struct sim_guest_step guest_spin[] = {{SIM_G_STI, 0, 0}, {SIM_G_SPIN, 0, 0}};
static const struct sim_guest_step guest_cpuid[] = {{SIM_G_CPUID, 0, 0}, {SIM_G_SPIN, 0, 0}};
static const struct sim_guest_step guest_hlt[] = {{SIM_G_HLT, 0, 0}, {SIM_G_SPIN, 0, 0}};
uint64_t machine_guest_ip(enum machine_guest kind, uint64_t va, uint64_t gpa) {
    (void)va, (void)gpa;
    return (uint64_t)(kind == GUEST_SPIN ? guest_spin : kind == GUEST_CPUID ? guest_cpuid : guest_hlt);
}

#ifdef __SANITIZE_ADDRESS__
#define SEEDS_DEFAULT 100
#else
#define SEEDS_DEFAULT 1000
#endif

static void root(u64 cpu) {
    abi_boot_rsp = sim_regs()->rsp;
    abi_boot_flags = sim_regs()->rflags;
    abi_main(cpu);
}

/* "NAME=value" arguments are the same as in the environment. */
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strchr(argv[i], '='))
            putenv(argv[i]);
    struct sim_options o = {.root = root};
    const char *svm = getenv("SVM");
    o.no_svm = svm && *svm == '0';
    o.vendor = SIM_ANY;
    unsigned bad = sim_seeds(&o, 1, SEEDS_DEFAULT, SIM_OK);
    printf(bad ? "[  FAILED  ] abi\n" : "[       OK ] abi\n"); /* as CMocka says it, for tools/test-run */
    return bad != 0;
}
