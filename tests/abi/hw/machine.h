/* The suite on hardware: the root task. */
#pragma once
#include "mem.h"
#include <stdbool.h>
#include <stdint.h>

/* Defines the entry point of a thread or portal function `static void fn(u64 rdi)`: FS base for the stack protector, then fn, then
 * the reply hypercall. RSP is 16-byte aligned at each entry. */
extern uint64_t machine_tls[];
#define ENTRY(fn)                                                                                                      \
    static void fn(uint64_t rdi);                                                                                      \
    __attribute__((naked, used, noinline)) static void fn##_entry(void) {                                              \
        __asm__("mov $machine_tls, %%rax\n\twrfsbase %%rax\n\txor %%ebp, %%ebp\n\tcall %P0\n\tmov $1, "                \
                "%%edi\n\tsyscall\n\tud2"                                                                              \
                :                                                                                                      \
                : "i"(fn));                                                                                            \
    }                                                                                                                  \
    __attribute__((used, noinline)) static void fn(uint64_t rdi)
#define IP(fn) ((uint64_t)fn##_entry)
/* The same; fn can ask with machine_entry_read what the registers were. */
#define ENTRY_REGS(fn)                                                                                                 \
    static void fn(uint64_t rdi);                                                                                      \
    __attribute__((naked, used, noinline)) static void fn##_entry(void) {                                              \
        __asm__("mov $1f, %%rcx\n\tjmp machine_entry_save\n1:\n\tcall %P0\n\tmov $1, %%edi\n\tsyscall\n\tud2"          \
                :                                                                                                      \
                : "i"(fn));                                                                                            \
    }                                                                                                                  \
    __attribute__((used, noinline)) static void fn(uint64_t rdi)
/* RSP as it was at the entry; directly in the entry function only. */
#define ENTRY_RSP() ((uint64_t)__builtin_frame_address(0) + 16)

void machine_init(void); /* the console, once grab() works */
void machine_out(const char *text);
_Noreturn void machine_end(unsigned failed);
uint64_t machine_clock(void);
static inline void machine_relax(void) { __asm__ volatile("pause" ::: "memory"); }
unsigned machine_rounds(void); /* how often loops of stress cases run */
uint64_t machine_seed(void);
bool machine_wanted(const char *name); /* by only=NAME and skip=NAME, or the beginning of names with '*' behind it */

/* Stack of slot i (they are used in turn) and back. */
#define MACHINE_STACKS 64u
uint64_t machine_stack_top(unsigned i);
unsigned machine_stack_slot(uint64_t sp);
/* Pages that a child PD needs to run the suite's code; 0: none. */
uint64_t machine_image(uint64_t *first_page);

/* #UD; the handler must add MACHINE_UD_LEN to RIP. */
#define MACHINE_UD_LEN 2u
void machine_undefined(void);
/* #UD with these registers (in instruction encoding, RSP excepted: it is told); afterwards r has those it came back with. */
void machine_undefined_regs(uint64_t r[17]);
/* Raises that exception, if this machine can: a thread of which no more is expected. */
bool machine_can_raise(unsigned vector);
void machine_raise(unsigned vector);
/* In a function made by ENTRY_REGS: registers at the entry in instruction encoding, then RFLAGS; those named by the mask that is
 * returned were not kept. */
unsigned machine_entry_read(uint64_t r[17]);
/* Replies with these registers, RSP, RDI, RCX and R11 excepted. */
_Noreturn void machine_reply_regs(const uint64_t r[16]);
/* Fills a page so that machine_probe_exec can call it where it is mapped executable; false instead of a fault. */
void machine_code_put(uint64_t va);
bool machine_probe_exec(uint64_t va);
/* Executes there; must fault. */
static inline void machine_jump(uint64_t ip) { ((void (*)(void))ip)(); }
uint8_t machine_in8(uint16_t port);
void machine_fpu_set(uint64_t v);
uint64_t machine_fpu_get(void);
void machine_base_set(uint64_t v); /* FS or GS base */
uint64_t machine_base_get(void);
/* False instead of a fault. On hardware the fault handler sends RIP from machine_probe_at to machine_probe_over. */
bool machine_probe(uint64_t va, bool write);
uint64_t machine_probe_fixup(uint64_t rip); /* 0: not one of ours */

struct machine_call {
    uint64_t rdi, rsi, rdx, rax, r8;
};
/* A hypercall with a pattern in every other register. Returns a mask of the registers that did not keep it (bit = number of the
 * register in instruction encoding; RDI RCX R11 do not count); *c has the registers after the call. */
unsigned machine_call_checked(struct machine_call *c);
/* A hypercall (c->rdi) with more flags set: what of RFLAGS a program can set and the kernel must not take over. Returns RFLAGS afterwards. */
#define MACHINE_FLAGS 0x244400ul /* DF NT AC ID */
uint64_t machine_call_flags(uint64_t *rdi, uint64_t set);
/* Replies with another stack pointer. */
_Noreturn void machine_reply_at(uint64_t rsp);

/* A GSI with a pin that the suite can raise. */
unsigned machine_gsi(void);
void machine_gsi_prepare(void);
void machine_gsi_raise(void);
/* Page frame of a PCI device's configuration space, as an H source; 0: none. */
uint64_t machine_config_page(void);
/* That device copies 8 bytes from one DMA address to another; what the IOMMU refuses is left out. False: it is no device that can. */
bool machine_dma_copy(uint64_t from, uint64_t to);

/* Guest code for the vCPU cases: fills the page at `va`; the guest starts at guest-physical `gpa` in real mode or as a script. */
enum machine_guest { GUEST_NONE, GUEST_SPIN, GUEST_CPUID, GUEST_HLT };
uint64_t machine_guest_ip(enum machine_guest kind, uint64_t va, uint64_t gpa);
#define MACHINE_CPUID_LEN 2u /* of the guest's instruction */
