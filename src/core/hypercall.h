/* The hypercalls: arguments from the caller's registers, status back in RDI (ABI section 5). */
#pragma once
#include "arch/types.h"
#include "core/status.h"
struct cpu;
struct ec;
/* Executes ec's hypercall from its registers; ec == c->ec. With ec->cont CONT_SYSCALL afterwards it is executed again later. */
void hypercall_run(struct cpu *c, struct ec *ec);

/* Interrupt semaphores (gsi.c). gsi < the count given to gsi_init. */
must_check bool gsi_init(unsigned count);
void gsi_assign(unsigned gsi, unsigned cpu, u32 *msi_addr, u32 *msi_data);
void gsi_configure(unsigned gsi, bool level, bool low);
void gsi_unmask(unsigned gsi);
