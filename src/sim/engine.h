/* The engine around a run: decisions, their record, snapshots, campaigns. What outlives a run and the process of a run is in
 * *sim_engine, memory shared by the parent, its workers and their children. docs/simulator.md, "Engine". */
#pragma once
#include "sim/internal.h"

#define SIM_MAX_SWITCHES (1u << 20)
#define SIM_MAX_CHOICES  (1u << 20)
#define SIM_MAX_PATH     (1u << 20)
#define SIM_MAX_BAD      5u

/* --- decisions --- */
/* Order without a decision: a CPU goes on while it can, then the next one by number. A schedule is what deviates from that: at
 * its scheduling point number `at`, CPU `cpu` hands over to `to`. Points are counted for each CPU, so a deviation means the same
 * although another one before it was taken away. */
struct sim_deviation {
    u64 at;
    u16 cpu, to;
};
enum sim_moment {
    SIM_AT_POINT, /* it could go on */
    SIM_AT_WAIT,  /* it cannot: idle, waits for a lock */
    SIM_AT_RELAX, /* it waits for another CPU and lets others go first */
};
struct sim_decision {
    enum sim_moment moment;
    unsigned cpu, otherwise; /* who decides, and who goes on if nobody wants anything else */
    u64 at, steps;           /* points of `cpu`, of all CPUs */
    u64 can;                 /* bit per CPU, `otherwise` among them, more than one */
};

/* --- what a run was, or is to be: all its choices --- */
struct sim_record {
    u32 deviations, choices[SIM_STREAMS];
    bool overflow; /* too long to be recorded */
    i32 result;    /* enum sim_result; a process that died: 128 + signal, or its exit status */
    u64 seed, hash, points;
    struct sim_deviation deviation[SIM_MAX_SWITCHES];
    u32 choice[SIM_STREAMS][SIM_MAX_CHOICES];
};

/* Exhaustive search: decisions of the last run, with what is still to be tried at each. */
struct sim_branch {
    struct sim_deviation taken; /* to == otherwise: nothing */
    u16 otherwise;
    u16 cost; /* of anything but `otherwise` */
    u64 rest;
};

struct sim_engine {
    struct sim_record now;    /* the current run */
    struct sim_record script; /* to be followed by a run of SIM_SCRIPT or SIM_EXHAUSTIVE */
    struct sim_record best;   /* shrinking: the smallest that fails */
    struct sim_campaign {     /* progress of the workers */
        u64 next, end;        /* seeds; exhaustive: numbers of schedules */
        u32 bad;
        bool finished;
    } campaign;
    struct {
        u32 runs;
        i64 until; /* host's monotonic clock, s */
    } shrinking;
    struct sim_stats stats;
    struct sim_deviation sorted[SIM_MAX_SWITCHES]; /* strategy.c: the script, by CPU */
    u32 path_length;
    struct sim_branch path[SIM_MAX_PATH];
};
extern struct sim_engine *sim_engine;
void sim_engine_map(void);

/* --- record.c --- */
/* Starts the streams of choices and the trace hash of a run. */
void sim_record_begin(void);
void sim_record_switch(const struct sim_decision *d, unsigned to);
void sim_record_end(int result, u64 points);
void sim_record_copy(struct sim_record *to, const struct sim_record *from);
/* The record as a file that REPLAY= takes; false: it could not be written. */
bool sim_record_save(const struct sim_record *r, const char *path);
/* Into sim_engine->script, and what the file says about options into *o. root: 100 bytes, the name of the function. */
bool sim_record_load(const char *path, struct sim_options *o, char *root);

/* --- strategy.c --- */
void sim_strategy_begin(void);
/* Who goes on. Only the caller records. */
unsigned sim_strategy_decide(const struct sim_decision *d);
/* Points that `cpu`, with `at` points behind it, may pass before it is asked again; steps: of all CPUs in this run. */
u64 sim_strategy_fuel(unsigned cpu, u64 at, u64 steps);
/* Whether it wants to be asked when somebody becomes able to run. */
bool sim_strategy_eager(void);
/* Exhaustive search: makes the next schedule the script; false: all were run. */
bool sim_strategy_next(void);

/* --- snapshot.c --- */
/* Keeps the state of kernel, machine and test program as it is now, for sim_snapshot_restore. From the host stack, once. */
void sim_snapshot_take(void);
void sim_snapshot_restore(void);
/* A program may have this: whole pages of its variables that stay as they are (tests/fuzz/edges.c). */
void sim_snapshot_keep(char **start, char **stop) __attribute__((weak));
/* Accessibility of this memory is about to change (address sanitizer): it belongs to the state, too. */
void sim_snapshot_touch(const void *p, size_t bytes);

/* --- sched.c --- */
/* What follows is decided as sim_opt says: seed, strategy, script. */
void sim_sched_begin(void);

/* --- sim.c --- */
/* Boots and stops at the snapshot point: true. False: it ended before, with *r. */
bool sim_boot(const struct sim_options *o, enum sim_result *r);
/* From the snapshot point to the verdict, with what is to be said about a failure. */
enum sim_result sim_go(const struct sim_options *o);
const char *sim_result_name(int r);
/* The vendor of the CPUs in the run of a seed. */
enum sim_vendor sim_vendor_of(const struct sim_options *o, u64 seed);

/* --- campaign.c --- */
/* One run, from the snapshot point on if booted, in a process of its own. Returns its result or how the process died. */
int sim_run_isolated(const struct sim_options *o, bool booted);
void sim_silence(void);

/* --- shrink.c --- */
/* Makes the failing run in sim_engine->best smaller, saves it and prints how it is repeated. */
void sim_shrink(const struct sim_options *o);
