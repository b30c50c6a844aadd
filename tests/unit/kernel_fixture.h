/* Kernel memory, one CPU and a kernel PD for unit tests that link libnovella.a without running the simulator. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/cpu.h"
#include "core/pd.h"
#include "sim/cap.h"

extern struct cpu sim_cpus[];

static inline void kernel_fixture_setup(void) {
    kmem_init();
    kmem_add(PADDR(1ul << 20), 128ul << 20);
    cpus[0] = &sim_cpus[0];
    cpu_count = 1;
    kobj_init(&kernel_pd.obj, KOBJ_PD, NULL);
    kernel_pd.obj.caps = 1;
    pd_setup(&kernel_pd);
    assert_int_equal(arch_space_init(&kernel_pd), NOVA_SUCCESS);
}

/* Lets every callback that is due run, and dying PDs go. */
static inline void kernel_fixture_quiesce(void) {
    struct cpu *c = cpus[0];
    for (unsigned i = 0; i < 10000; i++) {
        bool more = pd_reap(c);
        rcu_quiescent(c);
        if (!more && !c->rcu.wait && !c->rcu.next)
            return;
    }
    fail_msg("callbacks never end");
}
