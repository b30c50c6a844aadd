/* Deadlines of one CPU: intrusive pairing heap by absolute TSC, no allocation. */
#pragma once
#include "arch/types.h"
struct timeout {
    u64 deadline;
    struct timeout *child, *next, *prev; /* prev: left sibling or parent */
    bool armed;
};
struct timeout_heap {
    struct timeout *top;
};
void timeout_arm(struct timeout_heap *h, struct timeout *t, u64 deadline);
void timeout_remove(struct timeout_heap *h, struct timeout *t);
static inline void timeout_cancel(struct timeout_heap *h, struct timeout *t) {
    if (unlikely(t->armed))
        timeout_remove(h, t);
}
static inline u64 timeout_first(const struct timeout_heap *h) { return h->top ? h->top->deadline : ~0ul; }
