/* The suite in the simulator: C functions on fibers; see tests/abi/hw/machine.h for what each function is for. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void sim_mem_read(uint64_t va, void *to, size_t bytes);
void sim_mem_write(uint64_t va, const void *from, size_t bytes);
static inline uint64_t mem_read64(const void *p) {
    uint64_t v;
    sim_mem_read((uint64_t)p, &v, sizeof(v));
    return v;
}
static inline void mem_write64(void *p, uint64_t v) { sim_mem_write((uint64_t)p, &v, sizeof(v)); }

#define ENTRY(fn)  static void fn(uint64_t rdi)
#define ENTRY_REGS ENTRY
#define IP(fn)     ((uint64_t)fn)
uint64_t machine_entry_rsp(void);
#define ENTRY_RSP() machine_entry_rsp()

void machine_init(void);
void machine_out(const char *text);
_Noreturn void machine_end(unsigned failed);
uint64_t machine_clock(void);
void machine_relax(void);
unsigned machine_rounds(void);
uint64_t machine_seed(void);
bool machine_wanted(const char *name);

#define MACHINE_STACKS 64u
uint64_t machine_stack_top(unsigned i);
unsigned machine_stack_slot(uint64_t sp);
uint64_t machine_image(uint64_t *first_page);

#define MACHINE_UD_LEN 0u
void machine_undefined(void);
void machine_undefined_regs(uint64_t r[17]);
bool machine_can_raise(unsigned vector);
void machine_raise(unsigned vector);
unsigned machine_entry_read(uint64_t r[17]);
_Noreturn void machine_reply_regs(const uint64_t r[16]);
void machine_code_put(uint64_t va);
bool machine_probe_exec(uint64_t va);
void machine_jump(uint64_t ip);
uint8_t machine_in8(uint16_t port);
void machine_fpu_set(uint64_t v);
uint64_t machine_fpu_get(void);
void machine_base_set(uint64_t v);
uint64_t machine_base_get(void);
bool machine_probe(uint64_t va, bool write);
uint64_t machine_probe_fixup(uint64_t rip);

struct machine_call {
    uint64_t rdi, rsi, rdx, rax, r8;
};
unsigned machine_call_checked(struct machine_call *c);
#define MACHINE_FLAGS 0x244400ul
uint64_t machine_call_flags(uint64_t *rdi, uint64_t set);
_Noreturn void machine_reply_at(uint64_t rsp);

unsigned machine_gsi(void);
void machine_gsi_prepare(void);
void machine_gsi_raise(void);
uint64_t machine_config_page(void);
bool machine_dma_copy(uint64_t from, uint64_t to);

enum machine_guest { GUEST_NONE, GUEST_SPIN, GUEST_CPUID, GUEST_HLT };
uint64_t machine_guest_ip(enum machine_guest kind, uint64_t va, uint64_t gpa);
#define MACHINE_CPUID_LEN 16u /* of the guest's instruction */
