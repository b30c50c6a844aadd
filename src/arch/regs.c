#include "arch/regs.h"
#include "core/abi.h"

void uregs_get(const struct uregs *r, struct abi_state *s, u32 mtd) {
    if (mtd & MTD_ACDB)
        s->rax = r->rax, s->rcx = r->rcx, s->rdx = r->rdx, s->rbx = r->rbx;
    if (mtd & MTD_BSD)
        s->rbp = r->rbp, s->rsi = r->rsi, s->rdi = r->rdi;
    if (mtd & MTD_R8_R15) {
        s->r8 = r->r8, s->r9 = r->r9, s->r10 = r->r10, s->r11 = r->r11;
        s->r12 = r->r12, s->r13 = r->r13, s->r14 = r->r14, s->r15 = r->r15;
    }
}

void uregs_set(struct uregs *r, const struct abi_state *s, u32 mtd) {
    if (mtd & MTD_ACDB)
        r->rax = s->rax, r->rcx = s->rcx, r->rdx = s->rdx, r->rbx = s->rbx;
    if (mtd & MTD_BSD)
        r->rbp = s->rbp, r->rsi = s->rsi, r->rdi = s->rdi;
    if (mtd & MTD_R8_R15) {
        r->r8 = s->r8, r->r9 = s->r9, r->r10 = s->r10, r->r11 = s->r11;
        r->r12 = s->r12, r->r13 = s->r13, r->r14 = s->r14, r->r15 = s->r15;
    }
}
