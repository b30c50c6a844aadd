#include "sim/fiber.h"
#include "arch/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define switch_begin(from, to)          __sanitizer_start_switch_fiber(&(from)->fake_stack, (to)->stack, (to)->size)
#define switch_end(self, bottom, bytes) __sanitizer_finish_switch_fiber((self)->fake_stack, (bottom), (bytes))
#define stack_forget(f)                 __asan_unpoison_memory_region((f)->stack, (f)->size)
#else
#define switch_begin(from, to)          ((void)0)
#define switch_end(self, bottom, bytes) ((void)0)
#define stack_forget(f)                 ((void)0)
#endif

#define MAX_FIBERS 8192u

void sim_stack_switch(void **save, void *sp);
void sim_fiber_start(void);
void sim_fiber_enter(struct sim_fiber *f);

struct sim_fiber sim_main_fiber;
static struct sim_fiber fibers[MAX_FIBERS];
static unsigned fiber_count;
static char *pool_next;
/* The host's side of the pool, which a snapshot must not turn back: stacks below `used` have their guard page already. */
static struct { char *base, *used; } * pool;

static void pool_map(void) {
    pool = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *want = (char *)SIM_STACK_BASE,
         *m = mmap(want, SIM_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pool == MAP_FAILED || m != want) {
        perror("sim: no memory for fibers");
        exit(2);
    }
    pool->used = pool_next = m;
}

struct sim_fiber *sim_fiber_create(size_t stack_size) {
    if (!pool)
        pool_map();
    struct sim_fiber *f = &fibers[fiber_count++];
    char *guard = pool_next;
    pool_next += PAGE_SIZE + stack_size;
    if (fiber_count > MAX_FIBERS || pool_next > (char *)SIM_STACK_BASE + SIM_STACK_SIZE) {
        fprintf(stderr, "sim: too many fibers\n");
        exit(2);
    }
    *f = (struct sim_fiber){.stack = guard + PAGE_SIZE, .size = stack_size};
    if (pool_next <= pool->used)
        return f;
    if (mprotect(guard, PAGE_SIZE, PROT_NONE)) {
        perror("sim: no memory for a fiber");
        exit(2);
    }
    (void)VALGRIND_STACK_REGISTER(f->stack, f->stack + stack_size);
    pool->used = pool_next;
    return f;
}

void sim_fibers_each(void (*f)(struct sim_fiber *)) {
    for (unsigned i = 0; i < fiber_count; i++)
        f(&fibers[i]);
}

void sim_fiber_prepare(struct sim_fiber *f, void (*entry)(u64), u64 arg) {
    stack_forget(f);
    /* What sim_stack_switch pops: r15 r14 r13 r12 rbx rbp and the return address. After it RSP is 16-byte aligned. */
    u64 *sp = (u64 *)(f->stack + f->size) - 9;
    for (unsigned i = 0; i < 9; i++)
        sp[i] = 0;
    sp[4] = (u64)f;
    sp[6] = (u64)sim_fiber_start;
    f->sp = sp;
    f->fake_stack = NULL;
    f->entry = entry;
    f->arg = arg;
}

void sim_fiber_enter(struct sim_fiber *f) {
#ifdef __SANITIZE_ADDRESS__
    const void *bottom;
    size_t size;
    switch_end(f, &bottom, &size);
    if (!sim_main_fiber.stack) { /* the first switch of a run comes from the host stack */
        sim_main_fiber.stack = (char *)bottom;
        sim_main_fiber.size = size;
    }
#endif
    f->entry(f->arg);
    abort();
}

void sim_fiber_switch(struct sim_fiber *from, struct sim_fiber *to) {
    switch_begin(from, to);
    sim_stack_switch(&from->sp, to->sp);
    switch_end(from, NULL, NULL);
}
