#include "thread.h"

#include "rt.h"

#include <stdlib.h>
#include <string.h>

_Static_assert(offsetof(struct thread, canary) == 0x28, "stack protector, x86-64 ABI");

#define THREAD_STACK 0x10000ul

extern const uint8_t __tls_size[];
void portal_entry(void);

/* Top of the stack page:  TLS block | struct thread ... end; below it the frame that the entry stubs read. */
static struct thread *thread_create(const char *name, uint32_t cpu_index, bool global, thread_fn fn, void *arg) {
    uint8_t *stack = rt.pages_alloc(THREAD_STACK);
    uint64_t utcb = va_alloc(4096, 4096);
    sel_t ec = sel_alloc(0);
    struct thread *self = thread_self();

    if (!stack || !utcb || !ec)
        return NULL; /* the component is over its quota: what was taken stays with it until it ends */

    struct thread *t = (struct thread *)(((uintptr_t)stack + THREAD_STACK - sizeof *t) & ~63ul);
    uint64_t *frame = (uint64_t *)(((uintptr_t)t - (uintptr_t)__tls_size - 64) & ~15ul);

    thread_tls_init(t);
    t->canary = self->canary;
    t->utcb = (struct abi_utcb *)utcb;
    t->ec = ec;
    t->cpu_index = cpu_index;
    t->cpu = rt.cpu_number(cpu_index);
    t->parent_pt = COMP_SEL_PARENT(cpu_index);
    t->name = name;
    frame[0] = (uint64_t)t;
    frame[1] = global ? (uint64_t)fn : utcb;
    frame[2] = (uint64_t)arg;
    if (nova_create_ec(ec, rt.pd, utcb, t->cpu, (uint64_t)frame, rt.events(cpu_index), global) != NOVA_SUCCESS)
        return NULL;
    return t;
}

struct thread *thread_create_local(const char *name, uint32_t cpu_index) {
    return thread_create(name, cpu_index, false, NULL, NULL);
}

struct thread *thread_create_global(const char *name, uint32_t cpu_index, uint32_t priority, uint32_t quantum_us,
                                    thread_fn fn, void *arg) {
    struct thread *t = thread_create(name, cpu_index, true, fn, arg);

    if (t && !rt.sc_create(name, t->ec, cpu_index, priority, quantum_us))
        return NULL;
    return t;
}

uint64_t portal_create(struct portal *p, sel_t sel, const struct thread *t, uint32_t mtd, portal_fn fn, void *arg) {
    uint64_t status;

    p->fn = fn;
    p->arg = arg;
    status = nova_create_pt(sel, rt.pd, t->ec, mtd, (uint64_t)portal_entry);
    if (status != NOVA_SUCCESS)
        return status;
    return nova_pt_ctrl(sel, (uint64_t)p);
}
