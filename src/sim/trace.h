/* The trace of a run: what happened when, on which CPU, to whom. TRACE=1 in the environment prints it as it comes, TRACE=html writes
 * build/trace/NAME-SEED.html (docs/simulator.md). The backend calls these functions where a CPU enters or leaves the kernel; calls,
 * helping and blocking are seen by comparing the ECs' links before and after. A trace reads and never changes: it takes no
 * scheduling point, no choice and no virtual time, so the run and its hash are the same without it. Addresses never appear in it. */
#pragma once
#include "sim/internal.h"

extern bool sim_trace_on;
#define TRACE(what, ...) (unlikely(sim_trace_on) ? sim_trace_##what(__VA_ARGS__) : (void)0)

/* Of all the runs of a program, the one that is traced. */
extern u64 sim_trace_seed;
/* Around a run; looks at the environment: TRACE, CASE (a name for the run), TRACE_COMMIT. */
void sim_trace_begin(void);
/* The run cannot go on: says what every EC waits for. */
void sim_trace_stuck(void);
void sim_trace_end(const char *result, bool good);

/* c leaves the kernel: ec runs next. */
void sim_trace_exit(struct cpu *c, struct ec *ec);
/* A thread runs on; fresh: at the start of a function. */
void sim_trace_user(struct cpu *c, bool fresh);
/* A thread comes into the kernel; addr: of a page fault. */
void sim_trace_trap(struct cpu *c, enum sim_trap kind, u64 addr);
void sim_trace_idle(struct cpu *c, bool begins);
void sim_trace_guest(struct cpu *c, u64 rip);
void sim_trace_vmexit(struct cpu *c, u64 rip, u64 code);
/* An interrupt line, or the timer (-1): what the kernel does until the end of it is not the doing of who was interrupted. */
void sim_trace_interrupt(struct cpu *c, int gsi);
void sim_trace_interrupt_end(struct cpu *c);
void sim_trace_ipi(struct cpu *c);
/* The running CPU sends one; lost: it will not arrive (mutant). */
void sim_trace_ipi_send(unsigned to, bool lost);
void sim_trace_flush(struct cpu *c);
/* c waits for a spin lock, or has it. */
void sim_trace_lock(struct cpu *c, bool waits);
/* The running CPU has changed what a lock protects: a semaphore's queue, perhaps. */
void sim_trace_unlock(const struct spinlock *l);
/* Kernel memory is free again. */
void sim_trace_free(const void *p, size_t size);
/* A character of the log. Lines of failed expectations and panics are the trace's failures. */
void sim_trace_char(char ch);
