/* Between the files of the byte-code interpreter. */
#pragma once
#include "../../userland/lib/nova.h"
#include "arch/mem.h"
#include "core/cpu.h"
#include "core/ec.h"
#include "core/kmem.h"
#include "core/pd.h"
#include "sim/internal.h"
#include "program.h"

/* Root's selectors. Everything from SCRATCH up comes and goes with each program. */
#define SEL_PD        32ul
#define NEVER         0x50ul /* a semaphore that nobody ups */
#define DONE          0x51ul
#define GO            0x52ul
#define KEEP_END      0xa0ul /* from NEVER up to it: the manager's own */
#define SCRATCH       0x10000ul
#define TBASE         (SCRATCH + 0x40)  /* events of threads that the program makes */
#define VBASE         (SCRATCH + 0x100) /* events of vCPUs */
#define SCRATCH_ORDER 9
#define HARNESS       0x20000ul /* workers and handlers: goes at the end only */
#define WORKER_EC(i)  (HARNESS + (i))
#define WORKER_SC(i)  (HARNESS + 8 + (i))
#define EVENTS(cpu)   (HARNESS + 0x40 + 0x40 * (cpu))
/* Its memory. */
#define PAGE_OF(v) ((v) >> PAGE_SHIFT)
#define OWN_UTCB   0x20000000ul /* the manager's and its helper's */
#define HAND_UTCB  0x20100000ul /* workers and handlers */
#define REGION_VA  0x60000000ul /* 64 pages of memory, 64 to delegate to, 32 for UTCBs */
#define REGION_PFN 0x2000ul
#define CONFIG_VA  (REGION_VA + 192 * PAGE_SIZE) /* configuration pages of five devices, on two buses */
#define BIG_VA     0x80000000ul                  /* 4 MiB in one node; as much behind it to delegate to */
#define BIG_PFN    0x3000ul
#define BIG_ORDER  10
/* Slots of SCRATCH that an argument means first of all, by type of object. */
enum slot_kind { SLOT_PD, SLOT_EC, SLOT_PT, SLOT_SM, SLOT_SC, SLOT_ANY };
#define SLOT(kind, n) (SCRATCH + (kind)*8ul + (n) % 8)

extern const struct program *prog;
extern i32 budget;      /* operations left in this run */
extern bool pool_moved; /* memory came into the kernel's pool or left it: it keeps nodes for that */
extern bool stopped;    /* the run is over: everybody comes to an end */

/* Every hypercall of the interpreter goes through here and is counted. */
u64 hc(u64 number, u64 flags, u64 sel, u64 rsi, u64 rdx, u64 rax, u64 r8, u64 *out);

/* ops.c: executes one operation of a thread whose UTCB lies at `utcb`. */
void op_run(const struct op *op, u64 utcb);
/* threads.c: entry points by name of what they are for. */
void thread_main(u64 rdi);
void portal_main(u64 rdi);
void thread_event(u64 pid);
void guest_event(u64 pid);
void worker_main(u64 rdi);
u64 stack_code(unsigned actor, u64 utcb); /* what a thread finds as its stack pointer */
void scripts_make(void);
u64 script_entry(unsigned n);
/* populate.c: what programs find prepared. */
void grab_make(void);
void harness_make(void);
void scratch_make(void);
/* The guest begins to run: once nobody may fail any more. */
void scratch_start(void);
