/* What all device models share. A device is a plain state struct and pure functions over it: time comes in as
 * nanoseconds since VM start, interrupts go out through an irq_line, timers are asked for with X_deadline() and
 * run with X_tick(). Locking is the board's business (board.h). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEV_NO_DEADLINE UINT64_MAX
#define NS_PER_SEC      1000000000ull

/* Level of an interrupt wire; `set` may be called with an unchanged level. */
struct irq_line {
    void (*set)(void *ctx, unsigned pin, bool level);
    void *ctx;
    unsigned pin;
};

static inline void irq_line_set(const struct irq_line *l, bool level) {
    if (l->set)
        l->set(l->ctx, l->pin, level);
}

/* x * mul / div without overflow of the product. */
static inline uint64_t scale_u64(uint64_t x, uint64_t mul, uint64_t div) {
    return (uint64_t)((unsigned __int128)x * mul / div);
}

/* The same, rounded up: the first ns at which that many ticks have passed. */
static inline uint64_t scale_up_u64(uint64_t x, uint64_t mul, uint64_t div) {
    return (uint64_t)(((unsigned __int128)x * mul + div - 1) / div);
}
