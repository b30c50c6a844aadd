/* The reference model in lock-step with the kernel, between its files. */
#pragma once
#include "core/ec.h"
#include "sim/internal.h"
#include "sim/model.h"

#define STEPS_MAX 4u /* overlapping steps whose orders are tried */
#define ITEMS_MAX 254u

/* What one call does to capabilities: a hypercall, or the transfer of a message. */
struct step {
    u64 pd, pd_to; /* tokens */
    u64 rdi, rsi, rdx, rax, r8;
    bool transfer, visible; /* transfer: the receiver sees the results */
    bool passed;            /* call: went beyond the check of its capability */
    unsigned status;
    u64 out, token; /* lookup; create: the new object */
    bool no_memory; /* it may have run out */
    bool
        unknown; /* what it did cannot be told: its EC died half-way, memory ran out in a range, a program wrote meanwhile */
    u64 xlt, del;
    unsigned items;
    u64 item[ITEMS_MAX][2], seen[ITEMS_MAX][2];
    const struct abi_utcb *from, *to;
};

extern struct step lockstep_steps[STEPS_MAX];
extern unsigned lockstep_count;
extern struct model lockstep_model; /* as of the last quiet moment */

/* lockstep_state.c: the kernel's state as the model has it. */
bool lockstep_kernel_has(unsigned type, u64 sel, u64 *what);
bool lockstep_quiet(void);            /* no space is being changed */
void lockstep_adopt(struct model *m); /* makes m what the kernel has */
/* Calls f for every capability of the kernel's; parent: of the PD with that token, 0: none or the kernel PD. */
struct lockstep_cap {
    u64 pd, parent_pd, parent_sel;
    struct model_cap c; /* without pd and parent; what: frame, port, token */
    unsigned number;    /* counted from 0 */
};
bool lockstep_each(bool (*f)(void *ctx, const struct lockstep_cap *k), void *ctx);
bool lockstep_dies(const struct lockstep_cap
                       *k); /* of a PD that is being cleared, perhaps one whose creation failed: nobody sees it */
bool lockstep_same(const struct model *m, const struct lockstep_cap *k, i32 *found);
void lockstep_sync(struct model *m); /* forgets what fades and the kernel has no more */

/* lockstep_judge.c: does some order of the steps explain what the kernel did? Sets lockstep_model; false: no. */
bool lockstep_judge(void);
