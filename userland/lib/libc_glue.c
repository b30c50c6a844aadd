/* What linked members of musl's libc.a expect from a system, without one. */
#include "log.h"
#include "rt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* musl internals, declared here because no public header does. */
int __lockfile(void *file);
void __unlockfile(void *file);
void __lock(volatile int *lock);
void __unlock(volatile int *lock);
_Noreturn void __stack_chk_fail(void);
_Noreturn void __assert_fail(const char *condition, const char *file, int line, const char *function);

int __lockfile(void *file) {
    (void)file; /* string streams have one user */
    return 0;
}

void __unlockfile(void *file) { (void)file; }

/* Taken around the list of open files, which is always empty here. */
void __lock(volatile int *lock) { (void)lock; }
void __unlock(volatile int *lock) { (void)lock; }

_Noreturn void __stack_chk_fail(void) {
    panic("stack overrun detected in a function called from %p", __builtin_return_address(0));
}

_Noreturn void __assert_fail(const char *condition, const char *file, int line, const char *function) {
    panic("assertion failed: %s (%s:%d, %s)", condition, file, line, function);
}

_Noreturn void abort(void) { panic("abort() called from %p", __builtin_return_address(0)); }

void *malloc(size_t size) {
    mutex_lock(&rt.heap_lock);
    void *block = heap_alloc(&rt.heap, size);

    mutex_unlock(&rt.heap_lock);
    if (!block)
        errno = ENOMEM;
    return block;
}

void free(void *block) {
    mutex_lock(&rt.heap_lock);
    heap_free(&rt.heap, block);
    mutex_unlock(&rt.heap_lock);
}

void *calloc(size_t count, size_t size) {
    size_t bytes;
    void *block = __builtin_mul_overflow(count, size, &bytes) ? NULL : malloc(bytes);

    if (block)
        memset(block, 0, bytes);
    return block;
}

void *realloc(void *block, size_t size) {
    if (!block)
        return malloc(size);

    size_t old = heap_block_size(block);

    if (size <= old)
        return block;

    void *bigger = malloc(size);

    if (bigger) {
        memcpy(bigger, block, old);
        free(block);
    }
    return bigger;
}
