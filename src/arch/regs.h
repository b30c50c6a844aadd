/* Register state of an execution context as the entry code saves it. Layout known to src/hw assembly. */
#pragma once
#include "arch/types.h"
#include "core/abi.h"

/* Pushed by the hardware downward from rsp/ss, then by the entry stub. For vCPUs it holds the guest's general registers
 * (rax, rsp, rip and rflags live in the VMCB or VMCS). */
struct uregs { /* 16-byte aligned: the hardware aligns RSP before it pushes (SDM vol 3 6.14.2) */
    u64 r15, r14, r13, r12, r11, r10, r9, r8;
    u64 rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vec; /* exception vector of the last trap, or REGS_SYSCALL */
    u64 err;
    u64 rip, cs, rflags, rsp, ss;
} __attribute__((aligned(16)));
static_assert(sizeof(struct uregs) == 22 * 8, "entry assembly");

/* regs.vec of an EC that entered by syscall: it is resumed by sysret, RCX and R11 need not survive. Whoever writes RCX or R11 (state of
 * an event reply) sets vec to 0. */
#define REGS_SYSCALL     0x100ul
#define RFLAGS_RESERVED1 0x2ul
#define RFLAGS_TF        0x100ul
#define RFLAGS_IF        0x200ul
#define RFLAGS_DF        0x400ul
/* CF PF AF ZF SF OF, the flags a handler of a thread's exception may write (ABI section 3), plus DF. */
#define RFLAGS_ARITH 0x8d5ul
#define USER_CS                                                                                                        \
    0x2bul /* GDT: 0 null, 8 kcode, 10 kdata, 18 user code32, 20 user data, 28 user code64, 30 TSS (sysret wants this order) */
#define USER_SS 0x23ul
/* MTD bits 0, 1 and 22: general registers but RSP between a message and an EC. RAX: a guest may have it elsewhere. */
static force_inline void uregs_get(const struct uregs *r, const u64 *rax, struct abi_state *s, u32 mtd) {
    if (mtd & MTD_ACDB)
        s->rax = *rax, s->rcx = r->rcx, s->rdx = r->rdx, s->rbx = r->rbx;
    if (mtd & MTD_BSD)
        s->rbp = r->rbp, s->rsi = r->rsi, s->rdi = r->rdi;
    if (mtd & MTD_R8_R15) {
        s->r8 = r->r8, s->r9 = r->r9, s->r10 = r->r10, s->r11 = r->r11;
        s->r12 = r->r12, s->r13 = r->r13, s->r14 = r->r14, s->r15 = r->r15;
    }
}

static force_inline void uregs_set(struct uregs *r, u64 *rax, const struct abi_state *s, u32 mtd) {
    if (mtd & MTD_ACDB)
        *rax = s->rax, r->rcx = s->rcx, r->rdx = s->rdx, r->rbx = s->rbx;
    if (mtd & MTD_BSD)
        r->rbp = s->rbp, r->rsi = s->rsi, r->rdi = s->rdi;
    if (mtd & MTD_R8_R15) {
        r->r8 = s->r8, r->r9 = s->r9, r->r10 = s->r10, r->r11 = s->r11;
        r->r12 = s->r12, r->r13 = s->r13, r->r14 = s->r14, r->r15 = s->r15;
    }
}
/* Highest RIP that may be resumed: non-canonical or kernel addresses raise #GP in the thread instead (section 4). */
static inline bool user_ip_ok(u64 ip) { return ip < 0x7ffffffff000ul; }
