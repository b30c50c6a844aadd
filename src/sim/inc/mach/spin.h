/* Spin locks of the simulator. A waiter is not scheduled until the lock is free, so a deadlock is found and reported. */
#pragma once
#include "arch/types.h"

struct spinlock {
    u32 owner; /* CPU + 1; 0: free */
};
void spin_lock(struct spinlock *l);
bool spin_trylock(struct spinlock *l);
void spin_unlock(struct spinlock *l);
