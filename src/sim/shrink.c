/* Makes a failing run smaller: delta debugging (Zeller, Hildebrandt 2002) over the list of its choices. A candidate counts if it
 * ends as the original did. Each runs in a process of its own, forked at the snapshot point. */
#define _GNU_SOURCE
#include "arch/assert.h"
#include "sim/engine.h"
#include "sim/trace_priv.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#define MAX_RUNS    2000u
#define MAX_SECONDS 10

static struct sim_options opt;
static bool booted;
static int wanted;

static i64 now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static bool spent(void) { return sim_engine->shrinking.runs >= MAX_RUNS || now_s() >= sim_engine->shrinking.until; }

/* Tries what is in sim_engine->script; what the run then really chose becomes `best` if it fails as it should. */
static bool try_script(void) {
    struct sim_record *now = &sim_engine->now;
    sim_engine->shrinking.runs++;
    if (booted && !opt.isolate)
        sim_snapshot_restore();
    int result = booted && !opt.isolate ? (int)sim_go(&opt) : sim_run_isolated(&opt, booted);
    if (result != wanted || now->overflow)
        return false;
    now->result = wanted;
    for (unsigned k = 0; k < ARRAY_SIZE(now->choices);
         k++) /* zeros at the end are what a script gives without being asked */
        while (now->choices[k] && !now->choice[k][now->choices[k] - 1])
            now->choices[k]--;
    sim_record_copy(&sim_engine->best, now);
    return true;
}

/* The script becomes `best` without elements from..to-1 of one of its lists (0: deviations; 1 and up: choices). */
static void script_without(unsigned list, u32 from, u32 to) {
    struct sim_record *s = &sim_engine->script;
    sim_record_copy(s, &sim_engine->best);
    if (list == 0) {
        memmove(&s->deviation[from], &s->deviation[to], (s->deviations - to) * sizeof(s->deviation[0]));
        s->deviations -= to - from;
    } else {
        u32 *c = s->choice[list - 1];
        memmove(&c[from], &c[to], (s->choices[list - 1] - to) * sizeof(c[0]));
        s->choices[list - 1] -= to - from;
    }
}

static u32 list_length(unsigned list) {
    const struct sim_record *b = &sim_engine->best;
    return list ? b->choices[list - 1] : b->deviations;
}

static bool list_shrink(unsigned list) {
    bool any = false;
    u32 chunk = 1; /* powers of two: choices often come in pairs */
    while (chunk < list_length(list))
        chunk *= 2;
    for (; chunk; chunk /= 2)
        for (u32 end = list_length(list); end && !spent();) { /* from the end: what came after the failure goes first */
            u32 length = list_length(list), from = end > chunk ? end - chunk : 0;
            script_without(list, from, end);
            bool ok = try_script();
            any |= ok;
            /* The run may have chosen otherwise than the script said, but it must have become shorter. */
            end = ok ? (u32)min_u64(from, list_length(list)) : from;
            if (ok && list_length(list) >= length)
                break;
        }
    return any;
}

/* `best` with choice i of stream k made smaller. shift: a choice is often a delay, so what follows comes that much earlier. */
static bool try_less(unsigned k, u32 i, u32 less, bool shift) {
    struct sim_record *s = &sim_engine->script;
    sim_record_copy(s, &sim_engine->best);
    u32 by = s->choice[k][i] - less;
    s->choice[k][i] = less;
    for (u32 d = 0; d < s->deviations && shift; d++)
        s->deviation[d].at -= min_u64(by, s->deviation[d].at);
    return try_script();
}

static bool choices_shrink(unsigned k) {
    bool any = false;
    for (u32 i = 0; i < sim_engine->best.choices[k] && !spent(); i++) {
        u32 v = sim_engine->best.choice[k][i];
        for (u32 less = 0; less < v && !spent(); less += (v - less + 1) / 2)
            if (try_less(k, i, less, false) || try_less(k, i, less, true)) {
                any = true;
                break;
            }
    }
    return any;
}

static void shrink_all(void) {
    bool any = true;
    while (any && !spent()) {
        any = false;
        for (unsigned list = 0; list <= SIM_STREAMS; list++)
            any |= list_shrink(list);
        for (unsigned k = 0; k < SIM_STREAMS; k++)
            any |= choices_shrink(k);
    }
}

static void file_name(char *path, size_t size) {
    const char *dir = getenv("REPLAY_DIR");
    u64 offset;
    const char *root = sim_symbol((u64)opt.root, &offset);
    if (!dir || !*dir) {
        dir = access("build", W_OK) == 0 ? "build/replay" : "/tmp";
        (void)mkdir(dir, 0777);
    }
    snprintf(path, size, "%s/%s.%s-%lu%s", dir, program_invocation_short_name, root ? root : "run", opt.seed,
             opt.store_buffers ? "b" : "");
}

static u32 choices(const struct sim_record *r) {
    u32 n = 0;
    for (unsigned k = 0; k < SIM_STREAMS; k++)
        n += r->choices[k];
    return n;
}

static void report(const char *what) {
    struct sim_stats *s = &sim_engine->stats;
    const struct sim_record *b = &sim_engine->best;
    s->switches[1] = b->deviations;
    s->choices[1] = choices(b);
    sim_opt = opt;
    file_name(s->replay, sizeof(s->replay));
    if (!sim_record_save(b, s->replay)) {
        fprintf(stderr, "sim: %s: cannot be written\n", s->replay);
        s->replay[0] = 0;
        return;
    }
    fprintf(stderr, "sim: %s, from %u to %u switches and from %u to %u choices, in %u runs\nreplay: %sREPLAY=%s %s\n",
            what, s->switches[0], s->switches[1], s->choices[0], s->choices[1], sim_engine->shrinking.runs,
            !getenv("STOREBUF") ? ""
            : opt.store_buffers ? "STOREBUF=1 "
                                : "STOREBUF=0 ",
            s->replay, program_invocation_name);
}

/* In a process of its own, which a candidate may kill unless each has its own. */
static void shrink(void) {
    const struct sim_record *best = &sim_engine->best;
    enum sim_result r;
    wanted = best->result;
    if (wanted == SIM_BUDGET || wanted == SIM_DIVERGED || best->overflow) {
        report("not shrunk"); /* every candidate would take as long */
        return;
    }
    int err = dup(2);
    sim_silence();
    booted = !opt.cold && sim_boot(&opt, &r);
    if (booted && !opt.isolate)
        sim_snapshot_take();
    sim_record_copy(&sim_engine->script, best);
    bool again = (booted || opt.cold) && try_script();
    if (again)
        shrink_all();
    fflush(stderr);
    dup2(err, 2);
    report(again ? "shrunk" : "not shrunk: another run with the same choices ended otherwise");
}

void sim_shrink(const struct sim_options *o) {
    struct sim_stats *s = &sim_engine->stats;
    const struct sim_record *best = &sim_engine->best;
    s->switches[0] = best->deviations;
    s->choices[0] = choices(best);
    sim_engine->shrinking.runs = 0;
    sim_engine->shrinking.until = now_s() + MAX_SECONDS;
    unsetenv("TRACE");
    opt = *o;
    opt.cpus = o->cpus ? o->cpus : 4;
    opt.sched = SIM_SCRIPT;
    opt.seed = best->seed;
    opt.verbose = false;
    opt.isolate |= best->result >= SIM_PAUSED || RUNNING_ON_VALGRIND || getenv("ISOLATE");
    if (opt.steps == 0)
        opt.steps = 4 * best->points + 100000; /* a candidate that runs wild is none */
    for (int status = 1; status;) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0)
            return;
        if (pid == 0) {
            shrink();
            fflush(NULL);
            _exit(0);
        }
        if (waitpid(pid, &status, 0) < 0 || opt.isolate)
            return;
        opt.isolate = true; /* if a candidate killed it: from the best so far */
    }
}
