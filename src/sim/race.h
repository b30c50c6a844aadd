/* What ThreadSanitizer is told about a run (race.c), in its build only. cpu: c runs from here on (NULL: the host, the run is over or
 * pauses). order: what was done before a release of p comes before what is done after an acquire of it. ignore: what follows is not
 * the kernel; calls nest. */
#pragma once
#include "arch/types.h"

struct cpu;
#ifdef SIM_TSAN
#define SIM_RACE        1
#define SIM_RACE_STATUS 98 /* of a run with a race */
void sim_race_cpu(const struct cpu *c);
void sim_race_order(const void *p, bool before);
void sim_race_ignore(bool on);
/* src/sim calls these, and the compiler for it, not those that ThreadSanitizer watches: this file is in front of each (Makefile). */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes) __asm__("sim_race_memcpy");
void *memmove(void *to, const void *from, size_t bytes) __asm__("sim_race_memmove");
void *memset(void *to, int value, size_t bytes) __asm__("sim_race_memset");
int memcmp(const void *a, const void *b, size_t bytes) __asm__("sim_race_memcmp");
#else
#define SIM_RACE                  0
#define sim_race_cpu(c)           ((void)0)
#define sim_race_order(p, before) ((void)0)
#define sim_race_ignore(on)       ((void)0)
#endif
#define sim_race_release(p) sim_race_order((p), true)
#define sim_race_acquire(p) sim_race_order((p), false)
