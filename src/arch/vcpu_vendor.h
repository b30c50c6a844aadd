/* A vendor's virtualization; vcpu.c chooses one at boot. The functions' contracts are those of arch/vcpu.h. */
#pragma once
#include "arch/ptab.h"
#include "arch/vcpu.h"

struct vcpu_vendor {
    u32 feature;    /* enum abi_hip_feature */
    u8 fault_event; /* event number of a nested page fault */
    enum ptab_kind ptab;
    bool (*present)(void);        /* the CPU has it, by CPUID */
    const char *(*missing)(void); /* of one that is present: what is not there and would help; NULL: it can be used */
    bool (*cpu_init)(struct cpu *c);
    enum abi_status (*init)(struct ec *ec);
    void (*fini)(struct ec *ec);
};
extern const struct vcpu_vendor svm_vendor, vmx_vendor;
/* What exits need is called directly. */
void svm_get(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event);
void svm_set(struct ec *ec, const struct abi_utcb *u, u32 mtd);
struct ec *svm_run(struct cpu *c);
void vmx_get(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event);
void vmx_set(struct ec *ec, const struct abi_utcb *u, u32 mtd);
struct ec *vmx_run(struct cpu *c);

/* Registers that neither world switch moves, and that neither the kernel nor threads can read or use: they stay in the CPU until
 * another guest comes. */
struct vcpu_lazy {
    u64 dr[4];
    u32 pkru;
};
/* *owner: whose registers this CPU holds, or NULL. */
void vcpu_lazy_load(struct vcpu_lazy **owner, struct vcpu_lazy *mine, bool pku);
/* Would XSETBV take it, and is all of it switched with the FPU (host: the kernel's XCR0)? */
bool vcpu_xcr0_valid(u64 xcr0, u64 host);

/* Messages. A vendor has four pieces of code, few_get, rest_get, few_set and rest_set, and perhaps a state that is `absent` until it is loaded. Most
 * exits of a running guest want few groups, so the rest is out of their way; a VMM that emulates wants all of the public area, and nothing is
 * tested then: the same pieces, translated for that MTD. */
#define MTD_SEGMENTS (MTD_DS_ES | MTD_FS_GS | MTD_CS_SS | MTD_TR | MTD_LDTR | MTD_GDTR | MTD_IDTR)
#define MTD_SYSTEM   (MTD_CR | MTD_DR | MTD_SYSENTER | MTD_TSC | MTD_EFER)
#define MTD_REGS     (MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RFLAGS | MTD_R8_R15)
#define MTD_ALL      0x1fffffu
#define PIECE        static force_inline void
#define APART        static no_inline void
#define VCPU_MESSAGES(get, set, few_more, absent, load)                                                                \
    APART more_get(struct ec *ec, struct abi_state *s, u32 mtd, unsigned event) {                                      \
        (absent) ? (load) : (void)0;                                                                                   \
        if (likely((mtd & MTD_ALL) == MTD_ALL))                                                                        \
            few_get(ec, s, MTD_ALL | mtd, event), rest_get(ec->vcpu, s, MTD_ALL | mtd);                                \
        else                                                                                                           \
            few_get(ec, s, mtd, event), rest_get(ec->vcpu, s, mtd);                                                    \
    }                                                                                                                  \
    APART more_set(struct ec *ec, const struct abi_state *s, u32 mtd) {                                                \
        (absent) ? (load) : (void)0;                                                                                   \
        if (likely((mtd & MTD_ALL) == MTD_ALL))                                                                        \
            few_set(ec, s, MTD_ALL | mtd), rest_set(ec->vcpu, s, MTD_ALL | mtd);                                       \
        else                                                                                                           \
            few_set(ec, s, mtd), rest_set(ec->vcpu, s, mtd);                                                           \
    }                                                                                                                  \
    void get(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event) {                                             \
        if (absent || unlikely(mtd & ~(MTD_RIP | MTD_REGS | MTD_QUAL | MTD_INJ | MTD_STA)))                            \
            return more_get(ec, &u->state, mtd, event);                                                                \
        few_get(ec, &u->state, mtd, event);                                                                            \
    }                                                                                                                  \
    void set(struct ec *ec, const struct abi_utcb *u, u32 mtd) {                                                       \
        if (absent || unlikely(mtd & ~(MTD_RIP | MTD_REGS | (few_more))))                                              \
            return more_set(ec, &u->state, mtd);                                                                       \
        few_set(ec, &u->state, mtd);                                                                                   \
    }

/* The VMM can write its UTCB while we read it: what is judged is read once. */
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))

enum { VEC_DB = 1, VEC_UD = 6, VEC_GP = 13, VEC_AC = 17, VEC_MC = 18 };
#define CR0_PE         (1ul << 0)
#define CR0_NW         (1ul << 29)
#define CR0_CD         (1ul << 30)
#define CR0_PG         (1ul << 31)
#define CR4_PAE        (1ul << 5)
#define CR4_PKE        (1ul << 22)
#define DR7_GD         (1ul << 13)
#define EFER_SCE       (1ul << 0)
#define EFER_LME       (1ul << 8)
#define EFER_LMA       (1ul << 10)
#define EFER_NXE       (1ul << 11)
#define MSR_MCG_STATUS 0x17a
#define MSR_EFER       0xc0000080
#define MSR_TSC_AUX    0xc0000103
