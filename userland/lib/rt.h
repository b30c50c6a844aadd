/* State of a component's runtime and its allocators. */
#pragma once
#include "heap.h"
#include "nova.h"
#include "range.h"
#include "startup.h"
#include "sync.h"

struct thread;

struct rt {
    struct startup_info *info; /* null in root */
    sel_t pd;                  /* own PD */
    struct mutex lock;         /* protects sels and vas */
    struct range_pool sels, vas;
    struct mutex heap_lock; /* protects heap; taken before lock */
    struct heap heap;
    uint64_t tsc_khz, epoch_s, epoch_tsc;

    /* Fresh zeroed pages at an address of our choice (page-aligned, below it stays unmapped if it can); root and components differ. */
    void *(*pages_alloc)(size_t bytes);
    sel_t (*events)(uint32_t cpu_index);        /* event base for new threads there */
    uint32_t (*cpu_number)(uint32_t cpu_index); /* kernel CPU number */
    bool (*sc_create)(const char *label, sel_t ec, uint32_t cpu_index, uint32_t priority, uint32_t quantum_us);
    void (*log)(uint32_t level, const char *line, size_t len);
    void (*end)(int code, const char *reason) __attribute__((noreturn)); /* panic */
};
extern struct rt rt;

/* Allocators and locks over selectors [sel, sel + sels) and addresses [va, va_end); pd must be set. Panics without kernel memory. */
void rt_init(sel_t sel, uint64_t sels, uint64_t va, uint64_t va_end);

/* TLS block and canary of a thread whose structure is t: copies the TLS image in front of it. */
void thread_tls_init(struct thread *t);

/* 2^order selectors, naturally aligned; 0 when there are none left. */
sel_t sel_alloc(uint32_t order);
void sel_free(sel_t sel, uint32_t order);

/* Address space only, no memory behind it; 0 when there is none left. align: power of two >= 4096. */
uint64_t va_alloc(uint64_t bytes, uint64_t align);
void va_free(uint64_t va, uint64_t bytes);

/* Called by crt0 on the main thread. */
_Noreturn void rt_main(struct startup_info *info);
extern struct thread rt_main_thread;

/* Entry of a component, given by it. Its return value is the exit code. */
int main(void);
