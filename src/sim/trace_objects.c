/* The trace's records of kernel objects: numbers in the order of appearance, names, and quiet looks into the kernel's tables. */
#include "core/sc.h"
#include "sim/cap.h"
#include "sim/trace_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_SIZE 4096

struct trace_obj *trace_list[KOBJ_SM + 1], *trace_ecs_ever;
static struct trace_obj *table[HASH_SIZE];
static u32 numbers[KOBJ_SM + 1];

static struct trace_obj **slot(const void *p) { return &table[((u64)p >> 5) % HASH_SIZE]; }

/* Functions of the core may be used between these: nobody else runs, no time passes. */
struct quiet {
    u64 now;
    i64 fuel;
    bool running;
};
static struct quiet quiet_begin(void) {
    struct quiet q = {sim_now, sim_fuel, sim_running};
    sim_running = false;
    sim_fuel = INT64_MAX;
    return q;
}
static void quiet_end(struct quiet q) {
    sim_now = q.now;
    sim_fuel = q.fuel;
    sim_running = q.running;
}

struct trace_obj *trace_obj_known(const void *p) {
    struct trace_obj *o = *slot(p);
    while (o && o->p != p)
        o = o->hash_next;
    return o;
}

void trace_name(struct trace_obj *o, const char *name) {
    if (name)
        o->name = strdup(name);
}

/* The name that an object has by itself: the function it runs or enters. */
static const char *name_of(const struct kobj *p) {
    u64 offset = 0;
    const char *name = NULL;
    const struct ec *ec = container_of(p, struct ec, obj);
    const struct pt *pt = container_of(p, struct pt, obj);
    if (p->type == KOBJ_PT) {
        name = sim_symbol(pt->ip, &offset);
    } else if (p->type == KOBJ_EC && ec->kind == EC_IDLE) {
        name = "idle";
    } else if (p->type == KOBJ_EC && ec->kind == EC_VCPU) {
        name = "vcpu";
    } else if (p->type == KOBJ_EC) {
        name = sim_symbol(ec->regs.rip, &offset);
        if (!name || offset)
            name = sim_symbol(ec->regs.rsp, &offset); /* tests/sim/simtest.h hands the function over as stack pointer */
    } else if (p->type == KOBJ_PD) {
        name = container_of(p, struct pd, obj) == root_pd ? "root" : NULL;
    }
    return offset ? NULL : name;
}

struct trace_obj *trace_obj(const void *p) {
    struct trace_obj *o = p ? trace_obj_known(p) : NULL;
    if (!p || o)
        return o;
    const struct kobj *k = p;
    o = calloc(1, sizeof(*o));
    if (!o || k->type > KOBJ_SM)
        abort();
    bool idle = k->type == KOBJ_EC && container_of(k, struct ec, obj)->kind == EC_IDLE;
    o->p = k;
    o->type = k->type;
    o->number = idle || k == &kernel_pd.obj ? 0 : ++numbers[o->type];
    o->wake = NO_FLOW;
    o->enter = NO_EVENT;
    trace_name(o, name_of(k));
    o->hash_next = *slot(p);
    *slot(p) = o;
    o->next = trace_list[o->type];
    trace_list[o->type] = o;
    if (o->type == KOBJ_EC) {
        o->cont = container_of(k, struct ec, obj)->cont;
        o->ever_next = trace_ecs_ever;
        trace_ecs_ever = o;
    }
    return o;
}

struct trace_obj *trace_obj_freed(const char *p, size_t size) {
    /* The allocator keeps an object's first word for itself. */
    struct trace_obj *o = size < PAGE_SIZE ? trace_obj_known(p - 8) : NULL;
    if (!o)
        return NULL;
    struct trace_obj **link = slot(o->p);
    while (*link != o)
        link = &(*link)->hash_next;
    *link = o->hash_next;
    for (link = &trace_list[o->type]; *link != o;)
        link = &(*link)->next;
    *link = o->next;
    o->p = NULL;
    return o;
}

struct trace_obj *trace_sel(const struct ec *ec, u64 sel) {
    struct quiet q = quiet_begin();
    struct cap cap = objtab_lookup(&ec->pd->objtab, sel % ABI_SEL_COUNT);
    quiet_end(q);
    return trace_obj(cap.obj);
}

bool trace_mapped(const struct ptab *t, u64 addr, unsigned *perm) {
    struct quiet q = quiet_begin();
    u64 pfn;
    bool mapped = addr < ABI_USER_END && ptab_lookup(t, addr >> PAGE_SHIFT, &pfn, perm);
    quiet_end(q);
    return mapped;
}

const char *trace_label(const struct trace_obj *o) {
    static const char *const types[] = {"?", "PD", "EC", "SC", "PT", "SM"};
    static char ring[8][64];
    static unsigned next;
    if (!o)
        return "nothing";
    char *to = ring[next++ % ARRAY_SIZE(ring)];
    const char *name = o->name;
    if (!name && o->type == KOBJ_SC && o->p) /* called by its EC, which may get its name later */
        name = trace_obj(container_of(o->p, struct sc, obj)->ec)->name;
    if (!o->number)
        snprintf(to, sizeof(ring[0]), "%s %s", types[o->type], name ? name : "kernel");
    else
        snprintf(to, sizeof(ring[0]), "%s %u%s%s", types[o->type], o->number, name ? " " : "", name ? name : "");
    return to;
}

void sim_name(u64 sel, const char *name) {
    if (!sim_trace_on)
        return;
    struct trace_obj *o = trace_sel(arch_cpu_self()->ec, sel);
    if (o)
        trace_name(o, name);
}
