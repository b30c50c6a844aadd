/* Many runs: a worker process boots, takes a snapshot and runs seeds or schedules from there; the parent goes on with another
 * worker after a crash, and has the first failure shrunk. */
#define _GNU_SOURCE
#include "arch/assert.h"
#include "sim/engine.h"
#include "sim/trace_priv.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

static unsigned repeat = 1; /* runs of each seed, which must be the same */
static bool hashes;         /* print them */

static u64 env_number(const char *name, u64 otherwise) {
    const char *v = getenv(name);
    return v && *v ? strtoul(v, NULL, 0) : otherwise;
}

static unsigned check_env(unsigned otherwise) {
    const char *v = getenv("CHECK");
    if (v && !strcmp(v, "calls"))
        return SIM_CHECK_CALLS;
    return v && !strcmp(v, "end") ? SIM_CHECK_END : (unsigned)env_number("CHECK", otherwise);
}

void sim_silence(void) {
    if (!freopen("/dev/null", "w", stderr))
        _exit(99);
}

static int child_status(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static pid_t child_start(void) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        perror("sim: fork");
        exit(2);
    }
    return pid;
}

int sim_run_isolated(const struct sim_options *o, bool booted) {
    pid_t pid = child_start();
    if (pid == 0) {
        (void)(booted ? sim_go(o) : sim_run(o));
        fflush(NULL);
        _exit(0);
    }
    int status = child_status(pid);
    return status ? status + 1000 : sim_engine->now.result;
}

/* --- one run after the other --- */

/* Books a run. expected < 0: any result will do. */
static void account(u64 seed, int result, int expected) {
    struct sim_stats *s = &sim_engine->stats;
    const struct sim_record *now = &sim_engine->now;
    s->runs++;
    s->points += now->points;
    s->longest = max_u64(s->longest, now->points);
    s->trace = now->hash;
    if (result < 0 || result >= SIM_PAUSED)
        s->died++;
    else if (s->results[result]++ == 0)
        s->first[result] = s->runs;
    if (expected < 0 || result == expected)
        return;
    if (sim_engine->campaign.bad++ == 0) {
        sim_record_copy(&sim_engine->best, now);
        sim_engine->best.result = result;
    }
    fprintf(stderr, "sim: seed %lu ended with %d, expected %d (%s)\n", seed, result, expected, sim_result_name(result));
}

static int run_once(const struct sim_options *o, bool booted) {
    if (!booted || o->isolate)
        return sim_run_isolated(o, booted);
    sim_snapshot_restore();
    return sim_go(o);
}

static int run_repeated(const struct sim_options *o, bool booted) {
    int r = run_once(o, booted);
    u64 hash = sim_engine->now.hash;
    for (unsigned i = 1; i < repeat && r < SIM_PAUSED; i++) {
        int again = run_once(o, booted);
        if (again != r || sim_engine->now.hash != hash)
            return SIM_DIVERGED;
    }
    if (hashes)
        printf("seed %lu: %u runs, trace %016lx\n", o->seed, repeat, hash);
    return r;
}

/* Seeds of `all` whose machine is that of o. */
static void work(struct sim_options *o, const struct sim_options *all, u64 first, int expected) {
    struct sim_campaign *c = &sim_engine->campaign;
    enum sim_result r = SIM_OK;
    bool booted = !o->cold && sim_boot(o, &r);
    if (!booted && !o->cold) { /* the boot went wrong: so would all others */
        account(first, (int)r, expected);
        return;
    }
    if (booted && !o->isolate)
        sim_snapshot_take();
    bool exhaustive = o->sched == SIM_EXHAUSTIVE;
    for (; c->next < c->end && c->bad < SIM_MAX_BAD; c->next++) {
        if (!exhaustive && sim_vendor_of(all, c->next) != o->vendor)
            continue; /* another machine's */
        if (exhaustive && c->next > first && !sim_strategy_next()) {
            sim_engine->stats.exhausted = true;
            break;
        }
        o->seed = exhaustive ? first : c->next;
        account(o->seed, run_repeated(o, booted), expected);
        if (exhaustive && c->bad)
            break; /* the first is enough: its neighbours fail as well */
    }
}

/* Workers for the part of a campaign that has the machine of `mine`. */
static void campaign_on(struct sim_options mine, const struct sim_options *all, u64 first, int expected) {
    struct sim_campaign *c = &sim_engine->campaign;
    bool exhaustive = all->sched == SIM_EXHAUSTIVE;
    c->finished = c->next >= c->end || c->bad >= SIM_MAX_BAD;
    while (!c->finished) {
        pid_t pid = child_start();
        if (pid == 0) {
            if (expected != SIM_OK)
                sim_silence();
            work(&mine, all, first, expected);
            c->finished = true;
            fflush(NULL);
            _exit(0);
        }
        int status = child_status(pid);
        if (status == 0)
            continue;
        account(exhaustive ? first : c->next, status + 1000, expected);
        c->finished = ++c->next >= c->end || c->bad >= (exhaustive ? 1 : SIM_MAX_BAD);
    }
}

static void campaign(const struct sim_options *o, u64 first, u64 count, int expected) {
    struct sim_options mine = *o;
    sim_engine_map();
    struct sim_campaign *c = &sim_engine->campaign;
    *c = (struct sim_campaign){.end = first + count};
    sim_engine->stats = (struct sim_stats){0};
    sim_engine->path_length = 0;
    if (o->sched == SIM_EXHAUSTIVE)
        sim_engine->script.deviations = 0;
    /* Valgrind's, ThreadSanitizer's and the trace's memory is no part of a snapshot. */
    mine.isolate |= SIM_RACE || RUNNING_ON_VALGRIND || getenv("TRACE") || env_number("ISOLATE", 0);
    for (unsigned vendor = SIM_AMD; vendor <= SIM_INTEL; vendor++) {
        u64 seed = first;
        while (seed < c->end && sim_vendor_of(o, seed) != vendor && o->sched != SIM_EXHAUSTIVE)
            seed++;
        if (seed == c->end || sim_vendor_of(o, seed) != vendor)
            continue;
        mine.vendor = vendor;
        mine.seed = c->next = seed;
        campaign_on(mine, o, first, expected);
    }
}

/* --- as tests see it --- */

static void environment(struct sim_options *o) {
    static const char *const names[] = {"auto", "random", "pct", "exhaustive"};
    const char *search = getenv("SEARCH"), *bound = getenv("PREEMPTIONS");
    o->cpus = (unsigned)env_number("CPUS", o->cpus ? o->cpus : 4);
    o->check_every = check_env(o->check_every);
    o->depth = (unsigned)env_number("DEPTH", o->depth);
    const char *vendor = getenv("VENDOR");
    if (vendor && o->vendor == SIM_ANY) /* a scenario that says what it needs keeps it */
        o->vendor = *vendor == 'i' ? SIM_INTEL : *vendor == 'a' ? SIM_AMD : SIM_ANY;
    o->store_buffers = env_number("STOREBUF", o->store_buffers);
    o->model = env_number("MODEL", o->model);
    o->cold = env_number("COLD", o->cold);
    if (bound && *bound)
        o->preemptions = *bound == '0' ? -1 : atoi(bound);
    for (unsigned i = 0; search && i < ARRAY_SIZE(names); i++)
        if (!strcmp(search, names[i]))
            o->sched = (enum sim_sched)i;
    repeat = (unsigned)max_u64(env_number("REPEAT", 1), 1);
    hashes = env_number("HASHES", 0);
}

int sim_replay(const struct sim_options *o, const char *file, bool *same) {
    struct sim_options mine = *o;
    char root[100] = "";
    u64 offset;
    sim_engine_map();
    if (!sim_record_load(file, &mine, root))
        exit(2);
    const char *name = sim_symbol((u64)o->root, &offset);
    if (mine.store_buffers != o->store_buffers || (name && strcmp(name, root) != 0))
        return -1;
    u64 hash = sim_engine->script.hash;
    int result = sim_engine->script.result;
    mine.sched = SIM_SCRIPT;
    mine.isolate = true;
    sim_trace_seed = mine.seed;
    campaign(&mine, mine.seed, 1, -1);
    *same = sim_engine->now.hash == hash && sim_engine->now.result == result;
    return sim_engine->now.result;
}

/* REPLAY=file: whether the campaign that the file comes from ends otherwise than it should. */
static unsigned replay_only(struct sim_options *o, const char *file, int expected) {
    bool same = true;
    o->verbose = !getenv("TRACE");
    int r = sim_replay(o, file, &same);
    if (r < 0)
        return 0; /* another campaign's */
    fprintf(stderr, "sim: %s, trace %016lx, %s\n", sim_result_name(r), sim_engine->now.hash,
            same ? "as recorded" : "not as recorded: another program or other options");
    return r != expected || !same;
}

unsigned sim_seeds(const struct sim_options *o, u64 first, unsigned count, enum sim_result expected) {
    struct sim_options mine = *o;
    const char *file = getenv("REPLAY");
    environment(&mine);
    if (file && *file)
        return replay_only(&mine, file, (int)expected);
    sim_trace_seed = env_number("SEED", first);
    if (getenv("SEED") || getenv("TRACE")) {
        first = sim_trace_seed;
        count = 1;
        mine.verbose = !getenv("TRACE"); /* it has the log's lines where they belong */
        mine.isolate = true;
    } else {
        bool asked = mine.sched == SIM_EXHAUSTIVE && o->sched != SIM_EXHAUSTIVE;
        count = (unsigned)env_number("SEEDS", asked ? 100000 : count);
    }
    campaign(&mine, first, count, (int)expected);
    const struct sim_stats *s = sim_stats();
    if (mine.sched == SIM_EXHAUSTIVE || getenv("SEARCH"))
        printf("sim: %lu runs, the longest %lu points%s\n", s->runs, s->longest,
               !s->exhausted ? ""
               : s->clipped  ? "; all schedules but those of very long runs"
                             : "; no schedule is left");
    unsigned bad = sim_engine->campaign.bad;
    if (bad && expected == SIM_OK && env_number("SHRINK", 1))
        sim_shrink(&mine);
    return bad;
}

unsigned sim_count(const struct sim_options *o, u64 first, unsigned count, enum sim_result result) {
    sim_trace_seed = env_number("SEED", first);
    campaign(o, first, count, -1);
    return (unsigned)((unsigned)result < SIM_PAUSED ? sim_engine->stats.results[result] : sim_engine->stats.died);
}

const struct sim_stats *sim_stats(void) { return &sim_engine->stats; }
