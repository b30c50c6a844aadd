/* Overlapping steps: every order of them is tried on a copy of the model, with what is fading going before any of them or not. If the
 * kernel is in the state that one order leads to, with all answers, that is how it was. Else, since the document promises no atomic
 * ranges, each selector and each answer may have an order of its own. */
#include "arch/assert.h"
#include "core/kmem.h"
#include "sim/lockstep.h"
#include <stdlib.h>
#include <string.h>

struct model lockstep_model;
struct step lockstep_steps[STEPS_MAX];
unsigned lockstep_count;
static struct model trial;

/* --- one step --- */

static bool transfer_apply(struct model *m, i32 from, i32 to, const struct step *s) {
    bool ok = true;
    for (unsigned i = 0; i < s->items; i++) {
        u64 crd = s->item[i][0], desc = s->item[i][1];
        if (desc & ITEM_DELEGATE) {
            u64 got = model_delegate(m, from, to, crd, desc, s->del);
            ok &= !s->visible || (got == s->seen[i][0] && s->seen[i][1] == 1);
        } else {
            ok &= !s->visible || (model_translate_ok(m, from, to, crd, s->xlt, s->seen[i][0]) && s->seen[i][1] == 0);
        }
    }
    return ok;
}

static bool create_apply(struct model *m, i32 pd, const struct step *s) {
    const struct model_create c = {.rdi = s->rdi,
                                   .rsi = s->rsi,
                                   .rdx = s->rdx,
                                   .rax = s->rax,
                                   .r8 = s->r8,
                                   .status = s->status,
                                   .token = s->token,
                                   .cpus = sim_opt.cpus,
                                   .vcpus = !sim_opt.no_svm,
                                   .no_memory = s->no_memory};
    return model_create(m, pd, &c);
}

/* Hypercalls of which only the check of the capability concerns the model. */
static bool check_apply(const struct model *m, i32 pd, const struct step *s) {
    static const struct {
        u8 type, perm;
    } need[16] = {[HC_CALL] = {MODEL_PT, PERM_PT_CALL},
                  [HC_EC_CTRL] = {MODEL_EC, PERM_EC_CT},
                  [HC_SC_CTRL] = {MODEL_SC, PERM_SC_CT},
                  [HC_PT_CTRL] = {MODEL_PT, PERM_PT_CT},
                  [HC_SM_CTRL] = {MODEL_SM, PERM_SM_UP}};
    unsigned number = s->rdi & 0xf, perm = need[number].perm;
    if (number == HC_SM_CTRL && s->rdi >> 4 & HF_SM_DOWN)
        perm = PERM_SM_DN;
    bool has = model_lookup_object(m, pd, s->rdi >> 8, need[number].type, perm, true) >= 0;
    return s->passed ? has : s->status == NOVA_BAD_CAP ? !has || perm == PERM_SM_DN : has;
}

/* Its effect on m; false: with this answer it cannot have been here. */
static bool step_apply(struct model *m, const struct step *s) {
    i32 pd = model_object_find(m, s->pd), to = s->transfer ? model_object_find(m, s->pd_to) : 0;
    if (pd < 0 || to < 0)
        return false;
    if (s->transfer)
        return transfer_apply(m, pd, to, s) && s->status == NOVA_SUCCESS;
    switch (s->rdi & 0xf) {
    case HC_CREATE_PD:
    case HC_CREATE_EC:
    case HC_CREATE_SC:
    case HC_CREATE_PT:
    case HC_CREATE_SM:
        return create_apply(m, pd, s);
    case HC_REVOKE:
        model_revoke(m, pd, s->rsi, s->rdi >> 4 & HF_REVOKE_SELF);
        return s->status == NOVA_SUCCESS;
    case HC_LOOKUP:
        return model_lookup_ok(m, pd, s->rsi, s->out) && s->status == NOVA_SUCCESS;
    default:
        return check_apply(m, pd, s);
    }
}

/* --- all orders --- */

/* Per trial; a kernel capability is explained if one trial has it, a missing one if one trial lacks it. */
#define SLOTS 65536u
static struct {
    u8 explained[SLOTS]; /* by number of the kernel's capability */
    unsigned slots, trials;
    bool whole, slots_ok, differs;
    bool fades; /* a step makes something fade: a later one may find it gone */
    bool answered[STEPS_MAX];
    struct lockstep_cap first; /* unexplained, for the report */
} j;
struct absent { /* a selector that the kernel has not: in how many trials it is there */
    u64 pd;
    u64 sel;
    unsigned type, present;
};
static struct absent absent[256];
static unsigned absents;
static u32 stamp = 1u << 31;

static bool cap_compare(void *ctx, const struct lockstep_cap *k) {
    i32 found;
    bool same = lockstep_same(&trial, k, &found) || (found < 0 && lockstep_dies(k));
    (void)ctx;
    j.whole &= same;
    if (k->number < SLOTS)
        j.explained[k->number] |= same;
    if (found >= 0)
        trial.cap[found].seen = stamp;
    j.slots = k->number + 1;
    return true;
}

static void absent_count(const struct model_cap *c) {
    u64 pd = trial.object[c->pd].token;
    for (unsigned i = 0; i < absents; i++)
        if (absent[i].pd == pd && absent[i].sel == c->sel && absent[i].type == c->type) {
            absent[i].present++;
            return;
        }
    if (absents < ARRAY_SIZE(absent))
        absent[absents++] = (struct absent){.pd = pd, .sel = c->sel, .type = c->type, .present = 1};
}

/* The kernel against the trial, both ways. */
static void compare(void) {
    lockstep_sync(&trial);
    stamp++;
    (void)lockstep_each(cap_compare, NULL);
    for (i32 c = 0; c < trial.caps; c++)
        if (trial.cap[c].pd >= 0 && trial.cap[c].seen != stamp && !model_fades(&trial, c)) {
            j.whole = false;
            absent_count(&trial.cap[c]);
        }
}

static bool anything_fades(const struct model *m) {
    for (i32 c = 0; c < m->caps; c++)
        if (m->cap[c].pd >= 0 && model_fades(m, c))
            return true;
    return false;
}

/* order: numbers of steps; fades: bit n: what fades goes before the nth of them. True: that is how it was. */
static bool order_try(const unsigned *order, unsigned fades) {
    model_copy(&trial, &lockstep_model);
    bool answers = true;
    for (unsigned i = 0; i < lockstep_count; i++) {
        if (fades >> i & 1)
            (void)model_fade(&trial);
        bool ok = step_apply(&trial, &lockstep_steps[order[i]]);
        j.answered[order[i]] |= ok;
        answers &= ok;
    }
    j.fades |= anything_fades(&trial);
    j.whole = answers;
    j.trials++;
    compare();
    return j.whole;
}

static bool permute(unsigned *order, unsigned at, bool fading) {
    if (at == lockstep_count) {
        for (unsigned f = 0; f < (fading ? 1u << lockstep_count : 1); f++)
            if (order_try(order, f))
                return true;
        return false;
    }
    for (unsigned i = at; i < lockstep_count; i++) {
        unsigned t = order[at];
        order[at] = order[i], order[i] = t;
        if (permute(order, at + 1, fading))
            return true;
        order[i] = order[at], order[at] = t;
    }
    return false;
}

static bool cap_report(void *ctx, const struct lockstep_cap *k) {
    (void)ctx;
    if (k->number >= SLOTS || j.explained[k->number])
        return true;
    sim_log(
        "model: the kernel has PD %lx type %u selector %lx: %lx permissions %x tables %x from PD %lx selector %lx\n",
        k->pd, k->c.type, k->c.sel, k->c.what, k->c.perm, k->c.tables, k->parent_pd, k->parent_sel);
    return false;
}

static void report(void) {
    for (unsigned i = 0; i < lockstep_count; i++) {
        const struct step *s = &lockstep_steps[i];
        sim_log("model: step %u: PD %lx %s%s: rdi %lx rsi %lx rdx %lx rax %lx r8 %lx status %u out %lx\n", i, s->pd,
                s->transfer ? "message" : "hypercall", j.answered[i] ? "" : " (answer wrong in every order)", s->rdi,
                s->rsi, s->rdx, s->rax, s->r8, s->status, s->out);
        for (unsigned n = 0; n < s->items; n++)
            sim_log("model:   to PD %lx, windows %lx %lx: item %lx %lx, received %lx %lx\n", s->pd_to, s->xlt, s->del,
                    s->item[n][0], s->item[n][1], s->seen[n][0], s->seen[n][1]);
    }
    (void)lockstep_each(cap_report, NULL);
    for (unsigned i = 0; i < absents; i++)
        if (absent[i].present == j.trials)
            sim_log("model: the kernel lacks PD %lx type %u selector %lx\n", absent[i].pd, absent[i].type,
                    absent[i].sel);
}

bool lockstep_judge(void) {
    unsigned order[STEPS_MAX] = {0, 1, 2, 3};
    if (!trial.cap)
        model_init(&trial, lockstep_kernel_has);
    memset(&j, 0, sizeof(j));
    absents = 0;
    bool fading = anything_fades(&lockstep_model);
    if (permute(order, 0, fading) || (!fading && j.fades && permute(order, 0, true)) || trial.too_large) {
        struct model t = lockstep_model;
        lockstep_model = trial;
        trial = t;
        return true;
    }
    bool explained = (lockstep_count > 1 || fading) && j.slots <= SLOTS && absents < ARRAY_SIZE(absent);
    for (unsigned i = 0; i < j.slots; i++)
        explained &= j.explained[i] != 0;
    for (unsigned i = 0; i < absents; i++)
        explained &= absent[i].present < j.trials;
    for (unsigned i = 0; i < lockstep_count; i++)
        explained &= j.answered[i];
    if (!explained)
        report();
    else
        lockstep_adopt(&lockstep_model);
    return explained;
}
