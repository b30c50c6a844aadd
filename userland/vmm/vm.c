#include "vm.h"

#include "clock.h"
#include "log.h"

#include <stdio.h>

uint64_t vm_now_ns(const struct vm *vm) { return tsc_scale_ns(vm->scale, clock_tsc() - vm->tsc_start); }

uint64_t vm_ns_to_tsc(const struct vm *vm, uint64_t ns) {
    /* far deadlines are cut to something that cannot overflow: the main thread looks again then */
    if (ns > 1ull << 60)
        ns = 1ull << 60;
    return vm->tsc_start + scale_up_u64(ns, vm->info->tsc_khz, 1000000) + 1;
}

void vm_deadline(struct vm *vm, uint64_t ns) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ns < __atomic_load_n(&vm->armed_ns, __ATOMIC_SEQ_CST))
        sem_up(COMP_SEL_SIGNAL);
}

void vm_statistics(const struct vm *vm) {
    uint64_t total = 0;

    for (unsigned r = 0; r < EXIT_REASONS; r++) {
        uint64_t n = 0;
        for (unsigned i = 0; i < vm->cpus; i++)
            n += vm->vcpu[i].exits[r];
        if (n)
            log_printf("exits %s %llu", exit_reason_name((enum exit_reason)r), (unsigned long long)n);
        total += n;
    }
    log_printf("exits total %llu", (unsigned long long)total);
    if (vm->out_lost)
        log_printf("console: %llu bytes of output were lost: the console did not take them",
                   (unsigned long long)vm->out_lost);
}

_Noreturn void vm_end(struct vm *vm, int code, const char *reason) {
    if (__atomic_exchange_n(&vm->ending, 1, __ATOMIC_SEQ_CST))
        for (;;)
            (void)nova_sm_down(vm->vcpu[0].wake, false, 0);
    serial_flush(vm);
    vm_statistics(vm);
    parent_exit(code, reason);
}
