#include "sync.h"

#include "rt.h"

sel_t sem_create(uint64_t counter) {
    sel_t sel = sel_alloc(0);

    if (!sel)
        return 0;
    if (nova_create_sm(sel, rt.pd, counter) != NOVA_SUCCESS) {
        sel_free(sel, 0);
        return 0;
    }
    return sel;
}

bool mutex_init(struct mutex *m) {
    m->state = 0;
    m->sem = sem_create(0);
    return m->sem != 0;
}

bool mutex_trylock(struct mutex *m) {
    uint32_t expected = 0;

    return __atomic_compare_exchange_n(&m->state, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

void mutex_lock(struct mutex *m) {
    if (mutex_trylock(m))
        return;
    /* A wake-up that comes too late stays in the counter and only makes a later waiter look once more. */
    while (__atomic_exchange_n(&m->state, 2, __ATOMIC_ACQUIRE) != 0)
        (void)sem_down(m->sem);
}

void mutex_unlock(struct mutex *m) {
    if (__atomic_exchange_n(&m->state, 0, __ATOMIC_RELEASE) == 2)
        sem_up(m->sem);
}
