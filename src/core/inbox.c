#include "core/inbox.h"
#include "arch/assert.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/sc.h"

void cpu_hazard_set(struct cpu *c, u32 bits) { atomic_fetch_or(&c->hazard, bits); }

void inbox_post(unsigned cpu, struct inbox_item *item, enum inbox_kind kind) {
    struct cpu *c = cpus[cpu];
    if (atomic_xchg(&item->queued, 1))
        return;
    item->kind = kind;
    struct inbox_item *head = atomic_load_rlx(&c->inbox);
    do
        item->next = head;
    while (!atomic_cas(&c->inbox, &head, item)); /* releases item to inbox_drain's xchg; whoever pushes first kicks */
    if (!head) {
        cpu_hazard_set(c, HZ_INBOX);
        if (c != arch_cpu_self())
            arch_ipi_send(cpu);
    }
}

#define DRAIN_STEP 32 /* items between two preemption points */

void inbox_drain(struct cpu *c) {
    struct inbox_item *list = atomic_xchg(&c->inbox, NULL), *fifo = NULL;
    while (list) {
        struct inbox_item *i = list;
        list = i->next;
        i->next = fifo;
        fifo = i;
    }
    for (unsigned n = 1; fifo; n++) {
        struct inbox_item *i = fifo;
        fifo = i->next;
        u8 kind = i->kind;
        (void)atomic_xchg(&i->queued, 0); /* before we look what there is to do: it may be posted again from here on */
        switch (kind) {
        case INBOX_EC_WAKE:
            ec_woken(c, container_of(i, struct ec, wake));
            break;
        case INBOX_EC_WORK:
            ec_work(c, container_of(i, struct ec, work));
            break;
        case INBOX_SC_READY:
            sched_enqueue(c, container_of(i, struct sc, ready), false);
            break;
        case INBOX_SC_DROP:
            sched_inbox_drop(c, container_of(i, struct sc, drop));
            break;
        }
        if (n % DRAIN_STEP == 0)
            (void)arch_preempt_pending();
    }
}
