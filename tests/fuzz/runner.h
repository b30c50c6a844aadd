/* Runs programs, each from the same state of a machine that has booted and waits: what one does, the next does not see. */
#pragma once
#include "program.h"

#define EDGES_MAX 8192u
#define FEATURES  (EDGES_MAX + CALLS * 16u) /* what a run has reached: kernel edges, then statuses by hypercall */
#define BATCH     32u

struct run {
    u32 size;
    u8 bytes[PROGRAM_MAX];
    int code;      /* enum sim_result, 99: sanitizer, 128 + n: signal */
    char why[192]; /* the line that says why, without what differs from run to run; empty when all is well */
    u64 hypercalls;
    bool feature[FEATURES];
};

/* Memory that is shared with children forked later. */
void *shared_alloc(size_t size);
/* This process runs programs from now on; children that it forks need their own call. */
void runner_init(void);
/* Where the next batch goes: BATCH of them. */
struct run *runner_batch(void);
/* Runs the first n of them, all of one kind of machine; after a crash on another one. */
void runner_go(unsigned n);
/* One program. */
const struct run *runner_run(const u8 *bytes, size_t size);
/* The output of the last run. */
void runner_output(char *text, size_t size);
/* Ends the waiting machines. */
void runner_exit(void);
