/* Semaphores and a mutex on top of one. */
#pragma once
#include "nova.h"

/* Makes a semaphore at a fresh selector; 0 when out of capabilities or kernel memory. */
sel_t sem_create(uint64_t counter);
static inline void sem_up(sel_t sm) { (void)nova_sm_up(sm); }
static inline uint64_t sem_down(sel_t sm) { return nova_sm_down(sm, false, 0); }

/* Takes the whole counter; deadline_tsc 0: for ever. */
static inline uint64_t sem_wait_all(sel_t sm, uint64_t deadline_tsc) { return nova_sm_down(sm, true, deadline_tsc); }

/* state: 0 free, 1 held, 2 held with waiters. Not recursive. */
struct mutex {
    uint32_t state;
    sel_t sem;
};

bool mutex_init(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);
