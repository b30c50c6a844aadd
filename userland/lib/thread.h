/* Threads and portals.
 *
 * A local thread runs only when one of its portals is called; a global thread has a scheduling context of its own, made by
 * root. Both have a stack with an unmapped page below it (components) and a TLS block behind FS base. Threads never end one by one. */
#pragma once
#include "nova.h"

struct thread {
    uint64_t self; /* FS:0, the x86-64 TLS ABI wants it */
    uint64_t pad0[4];
    uint64_t canary;   /* FS:0x28, stack protector */
    uint8_t musl[320]; /* musl's struct pthread lies here: errno and locale of linked members */
    struct abi_utcb *utcb;
    sel_t ec;
    uint32_t cpu_index, cpu;
    sel_t parent_pt; /* parent portal on this CPU; root has none */
    const char *name;
};

typedef void (*thread_fn)(void *arg);

static inline struct thread *thread_self(void) {
    struct thread *t;

    __asm__("mov %%fs:0, %0" : "=r"(t));
    return t;
}
static inline struct abi_utcb *thread_utcb(void) { return thread_self()->utcb; }

/* cpu_index: index into the startup page's CPU list. Null when memory or capabilities run out. The EC selector is in ->ec. */
struct thread *thread_create_local(const char *name, uint32_t cpu_index);

/* Starts fn(arg) at once. A thread that returns from fn stays blocked for good. quantum_us and priority are requests: root caps them.
 * Null when memory, capabilities or the admission fail. */
struct thread *thread_create_global(const char *name, uint32_t cpu_index, uint32_t priority, uint32_t quantum_us,
                                    thread_fn fn, void *arg);

/* Called on the local thread's own stack for every message; on return the kernel sends what the UTCB then holds as the reply
 * (item counts in utcb->items: build it with msg.h; events keep the counts they came with unless items are added). */
typedef void (*portal_fn)(void *arg, struct abi_utcb *utcb);

/* The portal's id is the address of this, so it must live as long as the portal. Never give PERM_PT_CT away with a portal. */
struct portal {
    portal_fn fn;
    void *arg;
};

/* Makes the portal at selector sel, entered on the local thread t. */
uint64_t portal_create(struct portal *p, sel_t sel, const struct thread *t, uint32_t mtd, portal_fn fn, void *arg);
