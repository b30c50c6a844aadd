#include "sim/fiber.h"
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

void sim_stack_switch(void **save, void *sp);
void sim_fiber_start(void);
void sim_fiber_enter(struct sim_fiber *f);

struct sim_fiber sim_main_fiber;

struct sim_fiber *sim_fiber_create(size_t stack_size) {
    struct sim_fiber *f = calloc(1, sizeof(*f));
    char *m =
        mmap(NULL, stack_size + PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (!f || m == MAP_FAILED || mprotect(m, PAGE_SIZE, PROT_NONE)) {
        perror("sim: no memory for a fiber");
        exit(2);
    }
    f->stack = m + PAGE_SIZE;
    f->size = stack_size;
    (void)VALGRIND_STACK_REGISTER(f->stack, f->stack + stack_size);
    return f;
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
