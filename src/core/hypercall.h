/* The hypercalls: arguments from the caller's registers, status back in RDI (ABI section 5). */
#pragma once
#include "core/ec.h"
#include "core/pd.h"
#include "core/status.h"
struct cpu;
/* Executes ec's hypercall from its registers again; ec == c->ec. With ec->cont CONT_SYSCALL afterwards once more later. */
void hypercall_run(struct cpu *c, struct ec *ec);

/* A revoke (or KMEM_ADD) that stopped half-way: it has barred what it was about to remove, so somebody has to go on with it. */
bool hypercall_half_done(const struct ec *ec);
/* The next step of one whose EC is dead. False: there is more. */
bool hypercall_finish(struct ec *ec);

/* Operations of our own, number in the flags (docs/abi.md, extensions). */
enum abi_status extension_run(struct ec *ec);

#define ARG_FLAGS(r) ((r)->rdi >> 4 & 0xf)

/* The object behind a selector of ec's PD if it has that type and all of those permissions, else NULL. Valid for this kernel entry. */
static inline struct kobj *lookup(const struct ec *ec, u64 sel, enum kobj_type type, unsigned perm) {
    u64 cap = objtab_cap(&ec->pd->objtab, sel);
    if (unlikely((cap & CAP_HAS_MASK(perm)) != CAP_HAS(type, perm)))
        return NULL;
    struct kobj *o = CAP_OBJECT(cap);
    if (!o)
        __builtin_unreachable(); /* 0 has no type: the caller's test of the result costs nothing */
    return o;
}
#define LOOKUP(ec, sel, TYPE, tag, perm)                                                                               \
    ({                                                                                                                 \
        static_assert(!offsetof(struct tag, obj), "NULL stays NULL");                                                  \
        (struct tag *)lookup(ec, sel, TYPE, perm);                                                                     \
    })

#define ARG_SEL(rdi) ((rdi) >> 8) /* modulo ABI_SEL_COUNT */
static inline u64 arg_sel(const struct uregs *r) { return ARG_SEL(r->rdi); }

/* Interrupt semaphores (gsi.c). gsi < the count given to gsi_init. */
must_check bool gsi_init(unsigned count);
void gsi_assign(unsigned gsi, unsigned cpu, u32 *msi_addr, u32 *msi_data);
void gsi_configure(unsigned gsi, bool level, bool low);
void gsi_unmask(unsigned gsi);
