/* The measuring root task (docs/performance.md): the interface suite's harness, and rounds of one operation each between two samples of the
 * TSC, which counts instructions on the emulators. */
#pragma once
#include "abi.h"

#define BENCH_WARMUP  32u
#define BENCH_REPEATS 3u
#define BENCH_ROUNDS  1000u /* at most; rounds=N */

#define BENCH_FILLED       0x100000ul /* selectors for many capabilities */
#define BENCH_FILLED_ORDER 17u

struct bench_op {
    const char *name;
    void (*setup)(void);
    void (*round)(void);                                          /* the operation, between two samples */
    void (*rounds)(void (*round)(void), u64 arg, unsigned count); /* takes count + 1 samples */
    u64 arg;
    u32 features; /* HIP features of which one must be there; 0: none */
};
extern const struct bench_op bench_calls[], bench_objects[], bench_exits[], bench_scale[];

/* A server in another PD that only replies, and what is given to one; each with its round. */
void bench_call_make(unsigned words);
void bench_call(void);
void bench_give_object_make(void);
void bench_give_object(void);
void bench_give_page_make(void);
void bench_give_page(void);

/* Begins and ends a stretch of rounds: does nothing but turn the trace of QEMU (plugin.c) or Bochs (magic_break) on and off. */
static inline void bench_stretch(void) { __asm__ volatile("xchg %%bx, %%bx" : : : "memory"); }
/* One sample; RAX, RCX and RDX are lost. The first instruction does nothing: tools/bench finds it in a trace. */
extern u32 *bench_at;
#define BENCH_SAMPLE "xchg %cx, %cx\n\trdtsc\n\tmov bench_at, %rcx\n\tmov %eax, (%rcx)\n\taddq $4, bench_at\n\t"
static inline void bench_sample(void) {
    __asm__ volatile("xchg %%cx, %%cx\n\trdtsc\n\tmov bench_at, %%rcx\n\tmov %%eax, (%%rcx)\n\taddq $4, bench_at"
                     :
                     :
                     : "rax", "rcx", "rdx", "memory");
}
/* With FS base 0: rounds do not use it unless they set it. */
void bench_loop(void (*round)(void), u64 arg, unsigned count);
/* Nothing between two samples: what the samples of bench_exits cost. */
void bench_samples_only(void (*round)(void), u64 arg, unsigned count);
void bench_nothing(void);
void bench_memory(u32 features);
