/* Spin locks. Interrupts are off in the kernel, so a lock is never taken by an interrupt handler of the same CPU.
 * struct spinlock { ... } zero-initialised is free. From mach/spin.h:
 *   spin_lock(l) spin_trylock(l)->bool spin_unlock(l)
 * Lock ranks (docs/locking.md): tree < space < sm < gsi < kmem < klog: a CPU that holds one takes only later ones. */
#pragma once
#include "arch/types.h"
#include <mach/spin.h>
