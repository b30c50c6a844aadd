/* Fibers: stacks of their own on one host thread. Address sanitizer and Valgrind are told about them. */
#pragma once
#include "arch/types.h"

struct sim_fiber {
    void *sp;
    char *stack; /* lowest usable byte; the page below is a guard */
    size_t size;
    void *fake_stack; /* address sanitizer's */
    void (*entry)(u64);
    u64 arg;
    /* user fibers (user.c) */
    struct ec *ec;          /* whose program runs here; NULL: free */
    u64 token;              /* the RIP under which the kernel resumes it */
    struct sim_fiber *next; /* hash chain or free list */
};

/* A fiber with a fresh stack: the Nth of a run is always the same memory, so a snapshot needs no more than the stacks in use.
 * Ends the program when the host has no memory. */
struct sim_fiber *sim_fiber_create(size_t stack_size);
/* The next switch to f calls entry(arg), which must not return. What was on its stack is gone. */
void sim_fiber_prepare(struct sim_fiber *f, void (*entry)(u64), u64 arg);
void sim_fiber_switch(struct sim_fiber *from, struct sim_fiber *to);
/* Calls f for every fiber that was created. */
void sim_fibers_each(void (*f)(struct sim_fiber *));
/* The host thread's own stack as a fiber: where a run starts and ends. */
extern struct sim_fiber sim_main_fiber;
