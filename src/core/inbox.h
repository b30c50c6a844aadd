/* What other CPUs ask of this one: a lock-free stack of intrusive items, emptied in order of arrival by core_resume. */
#pragma once
#include "arch/atomic.h"
#include "arch/types.h"
enum inbox_kind { INBOX_EC_WAKE, INBOX_EC_WORK, INBOX_SC_READY, INBOX_SC_DROP };
struct inbox_item {
    struct inbox_item *next;
    u8 kind;
    u8 queued; /* atomic */
};
struct cpu;
/* Puts the item into cpu's inbox and kicks it; a no-op while it is still queued there. */
void inbox_post(unsigned cpu, struct inbox_item *item, enum inbox_kind kind);
void inbox_drain(struct cpu *c);
