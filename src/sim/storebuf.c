/* x86-TSO: a FIFO of stores for each CPU (Sewell et al., "x86-TSO", CACM 53(7); SDM vol 3 9.2.2, APM vol 2 7.2).
 *
 * While a CPU runs, memory is what this CPU sees: its own delayed stores are in place, and the buffer keeps what all others still
 * see there. When another one goes on, memory is changed over:
 *
 *   CPU 0 runs                       sim_storebuf_hide           sim_storebuf_show(CPU 1)
 *   buffer 0: x: others see 0        buffer 0: x: to become 1    buffer 1: y: others see 0
 *   memory:   x = 1, y = 0           memory:   x = 0, y = 0      memory:   x = 0, y = 1
 *
 * So plain loads of the owner see its stores as on hardware, and to drain a store of the CPU that runs is to forget it. Plain stores
 * are not delayed. What they write is read by others under a lock or after a release only, and those are in the buffer in order. */
#include "arch/assert.h"
#include "sim/internal.h"
#include <string.h>

#define ENTRIES 16

struct store {
    void *at;
    u32 size;
    u64 behind; /* its CPU runs: what the others see; else: what will be stored */
};
static struct buffer {
    unsigned count;
    struct store store[ENTRIES]; /* oldest first */
} buffers[ABI_MAX_CPUS];
static struct buffer *shown; /* whose stores are in memory */
static u32 patience;         /* 1 in so many occasions lets stores out; 0: none does */
bool sim_storebuf;

static void exchange(struct store *e) {
    u64 there = 0;
    memcpy(&there, e->at, e->size);
    memcpy(e->at, &e->behind, e->size);
    e->behind = there;
}

/* The oldest n stores of b become visible. */
static void let_out(struct buffer *b, unsigned n) {
    assert(n <= b->count);
    for (unsigned i = 0; i < n && b != shown; i++)
        memcpy(b->store[i].at, &b->store[i].behind, b->store[i].size);
    b->count -= n;
    memmove(b->store, b->store + n, b->count * sizeof(b->store[0]));
    sim_sched_wake(); /* it may have been what somebody waits for */
}

static void let_out_some(struct buffer *b) {
    if (b->count && patience && !sim_choose(SIM_BUFFERS, patience))
        let_out(b, 1 + sim_choose(SIM_BUFFERS, b->count));
}

void sim_storebuf_start(void) {
    sim_storebuf = true;
    shown = &buffers[arch_cpu_self()->id];
    patience = sim_opt.stores_stay ? 0 : (u32[]){0, 0, 4, 64}[sim_choose(SIM_BUFFERS, 4)];
}

void sim_storebuf_stop(void) {
    for (unsigned i = 0; i < sim_opt.cpus && sim_storebuf; i++)
        let_out(&buffers[i], buffers[i].count);
    sim_storebuf = false;
}

static void let_out_any(void) {
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        let_out_some(&buffers[i]);
}

void sim_storebuf_hide(bool occasion) {
    for (unsigned i = shown->count; i-- > 0;)
        exchange(&shown->store[i]);
    shown = NULL;
    if (occasion)
        let_out_any();
}

void sim_storebuf_show(const struct cpu *c, bool occasion) {
    if (occasion)
        let_out_any();
    shown = &buffers[c->id];
    for (unsigned i = 0; i < shown->count; i++)
        exchange(&shown->store[i]);
}

void sim_storebuf_push(void *at, unsigned size) {
    let_out_some(shown);
    if (shown->count == ENTRIES)
        let_out(shown, 1);
    struct store *e = &shown->store[shown->count++];
    *e = (struct store){.at = at, .size = size};
    memcpy(&e->behind, at, size);
}

void sim_storebuf_relax(void) {
    if (shown->count && !sim_choose(SIM_BUFFERS, 8))
        sim_storebuf_drain();
}

void sim_storebuf_drain(void) {
    if (!shown->count)
        return;
    shown->count = 0;
    sim_sched_wake(); /* it may have been what somebody waits for */
}
