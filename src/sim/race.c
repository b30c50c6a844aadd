/* ThreadSanitizer's view (make check-tsan): each simulated CPU is a thread, and no switch between CPUs orders anything. Only src/core and
 * src/arch are compiled for it: what the kernel touches without a wrapper or a lock is a race, what the machine or a program touches is not
 * looked at. */
#ifdef SIM_TSAN
#include "sim/internal.h"
#include <sanitizer/tsan_interface.h>

void __tsan_ignore_thread_begin(void);
void __tsan_ignore_thread_end(void);
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "exitcode=98 halt_on_error=1 history_size=4"; }
static_assert(SIM_RACE_STATUS == 98, "above");
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) { return "race:fail_injected"; } /* the tests' own: kmem_fail_at */

static void *host, *contexts[ABI_MAX_CPUS];

void sim_race_cpu(const struct cpu *c) {
    if (!host) { /* the start of a run: what was done before it comes before everything */
        host = __tsan_get_current_fiber();
        for (unsigned i = 0; i < sim_opt.cpus; i++)
            contexts[i] = __tsan_create_fiber(0);
    }
    for (unsigned i = 0; i < sim_opt.cpus && !c; i++) { /* the run is over: what comes comes after everything */
        __tsan_switch_to_fiber(contexts[i], __tsan_switch_to_fiber_no_sync);
        __tsan_release(&host);
    }
    __tsan_switch_to_fiber(c ? contexts[c->id] : host, __tsan_switch_to_fiber_no_sync);
    if (!c)
        __tsan_acquire(&host);
}

void sim_race_order(const void *p, bool before) {
    if (before)
        __tsan_release((void *)p);
    else
        __tsan_acquire((void *)p);
}

void sim_race_ignore(bool on) {
    if (on)
        __tsan_ignore_thread_begin();
    else
        __tsan_ignore_thread_end();
}

void *memcpy(void *restrict to, const void *restrict from, size_t bytes) {
    void *at = to;
    __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes) : : "memory");
    return to;
}

void *memmove(void *to, const void *from, size_t bytes) {
    if ((u64)to - (u64)from >= bytes)
        return memcpy(to, from, bytes);
    while (bytes-- > 0)
        ((u8 *)to)[bytes] = ((const u8 *)from)[bytes];
    return to;
}

void *memset(void *to, int value, size_t bytes) {
    void *at = to;
    __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
    return to;
}

int memcmp(const void *a, const void *b, size_t bytes) {
    const u8 *p = a, *q = b;
    while (bytes > 0 && *p == *q)
        p++, q++, bytes--;
    return bytes > 0 ? *p - *q : 0;
}
#endif
