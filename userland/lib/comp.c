/* The runtime of a component (not of root): main thread, its quota, its end. */
#include "clock.h"
#include "log.h"
#include "msg.h"
#include "parent.h"
#include "rt.h"
#include "thread.h"

#include <string.h>

/* An unmapped page stays below, so a stack that overflows faults. */
static void *comp_pages_alloc(size_t bytes) {
    size_t size = (bytes + 4095) & ~4095ul;
    uint64_t align = 4096;

    while (align < size && align < 0x200000)
        align *= 2; /* aligned ranges travel as few items */

    uint64_t va = va_alloc(size + align, align);

    if (!va)
        return NULL;
    if (parent_memory(va + align, size, PERM_MEM_R | PERM_MEM_W) != PARENT_OK) {
        va_free(va, size + align);
        return NULL;
    }
    return (void *)(va + align);
}

static sel_t comp_events(uint32_t cpu_index) { return COMP_SEL_EVENTS(cpu_index); }

static uint32_t comp_cpu_number(uint32_t cpu_index) {
    rt_assert(cpu_index < rt.info->cpu_count);
    return rt.info->cpu[cpu_index];
}

static bool comp_sc_create(const char *label, sel_t ec, uint32_t cpu_index, uint32_t priority, uint32_t quantum_us) {
    return parent_sc_create(ec, cpu_index, label, priority, quantum_us) == PARENT_OK;
}

_Noreturn void rt_main(struct startup_info *info) {
    struct thread *t = &rt_main_thread;

    thread_tls_init(t);
    t->utcb = (struct abi_utcb *)COMP_VA_UTCB;
    t->cpu = info->cpu[0];
    t->parent_pt = COMP_SEL_PARENT(0);
    t->name = "main";
    rt = (struct rt){.info = info,
                     .pd = COMP_SEL_PD,
                     .tsc_khz = info->tsc_khz,
                     .epoch_s = info->epoch_s,
                     .epoch_tsc = info->epoch_tsc,
                     .pages_alloc = comp_pages_alloc,
                     .events = comp_events,
                     .cpu_number = comp_cpu_number,
                     .sc_create = comp_sc_create,
                     .log = parent_log,
                     .end = parent_exit};
    if (info->magic != STARTUP_MAGIC || info->size != sizeof *info)
        parent_exit(EXIT_CODE_ERROR, "library and root disagree about the startup page");
    msg_window_delegate(t->utcb, crd_obj(COMP_SEL_PD, 0, CRD_PERM_ANY));
    if (parent_call(PARENT_PD, NULL, 0, NULL, 0) != PARENT_OK)
        parent_exit(EXIT_CODE_ERROR, "root did not give the protection domain");
    msg_window_delegate(t->utcb, crd_obj(COMP_SEL_SIGNAL, 0, CRD_PERM_ANY));
    if (parent_call(PARENT_SIGNAL, NULL, 0, NULL, 0) != PARENT_OK)
        parent_exit(EXIT_CODE_ERROR, "root did not give the signal semaphore");
    rt_init(COMP_SEL_FREE, 1ul << 20, COMP_VA_FREE, COMP_VA_FREE_END);
    parent_exit(main(), "");
}
