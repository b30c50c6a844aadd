/* fuzz: byte-code programs against the kernel in the simulator.
 *
 *   fuzz run [-t SECONDS] [-n PROGRAMS] [-j JOBS] [-s SEED] [-o DIR] [CORPUS...]   new programs by mutation; failures to DIR
 *   fuzz replay FILE...       each once, with what it does and how it ends
 *   fuzz shrink FILE          a smaller one that fails in the same way, to FILE.min
 *   fuzz check CORPUS...      each once; the statuses that hypercalls have returned
 *   fuzz minimise DIR CORPUS...   a small set that reaches the same edges and statuses, to DIR
 *   fuzz parsers [-t SECONDS] [-n INPUTS] [-s SEED] [-o DIR]   the parsers of firmware tables, boot information, ELF, configuration
 *   fuzz addresses            of the code of all kernel edges
 *   fuzz parse NAME FILE      one input of one of them
 *   fuzz seeds PARSER DIR     the examples that it begins with
 *   fuzz afl KIND|PARSER      programs for a kind of machine (their first byte), or a parser's inputs, for AFL++
 */
#define _GNU_SOURCE
#include "edges.h"
#include "afl.h"
#include "mutate.h"
#include "parsers.h"
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CORPUS_MAX   8192u
#define FAILURES_MAX 64u

struct entry {
    u32 size; /* set last */
    u8 bytes[PROGRAM_MAX];
};
static struct board { /* shared by all jobs */
    u32 entries, reached, failures, known;
    u64 programs, hypercalls;
    bool seen[FEATURES];
    u64 failed[FAILURES_MAX]; /* hashes of verdicts */
    struct entry entry[CORPUS_MAX];
} * board;

static struct {
    u64 seconds, programs, seed;
    unsigned jobs;
    const char *dir;
} opt = {.jobs = 2, .dir = "build/fuzz/failures"};
static u64 started;

static u64 now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static size_t file_read(const char *path, u8 *to) {
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(2);
    }
    size_t n = fread(to, 1, PROGRAM_MAX, f);
    fclose(f);
    return n;
}

static void file_write(const char *path, const u8 *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, size, f) != size || fclose(f)) {
        perror(path);
        exit(2);
    }
}

static void entry_add(const u8 *bytes, size_t size) {
    u32 n = __atomic_fetch_add(&board->entries, 1, __ATOMIC_RELAXED);
    if (n >= CORPUS_MAX || size < PROGRAM_HEAD + OP_BYTES) {
        __atomic_fetch_sub(&board->entries, 1, __ATOMIC_RELAXED);
        return;
    }
    memcpy(board->entry[n].bytes, bytes, size);
    __atomic_store_n(&board->entry[n].size, (u32)size, __ATOMIC_RELEASE);
}

/* Files of a directory, by name, or the file itself. */
static void files_each(const char *path, void (*f)(const char *file)) {
    struct dirent **names;
    struct stat st;
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        f(path);
        return;
    }
    int n = scandir(path, &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[4096];
        snprintf(file, sizeof(file), "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.' && !stat(file, &st) && S_ISREG(st.st_mode))
            f(file);
        free(names[i]);
    }
    free(names);
}

/* Notes what a run has reached; how much of it nobody had reached before. */
static unsigned features_note(const struct run *r) {
    unsigned fresh = 0;
    for (unsigned i = 0; i < FEATURES; i++)
        if (r->feature[i] && !board->seen[i])
            fresh += board->seen[i] = true;
    return fresh;
}

static unsigned edges_reached(const bool *seen) {
    unsigned n = 0;
    for (unsigned i = 0; i < edges_kernel(); i++)
        n += seen[i];
    return n;
}

/* --- failures --- */
static u64 text_hash(const char *s) {
    u64 h = 0xcbf29ce484222325ul;
    for (; *s; s++)
        h = (h ^ (u8)*s) * 0x100000001b3ul;
    return h;
}

static bool fails_alike(const u8 *bytes, size_t size, void *context) {
    const struct run *want = context, *got = runner_run(bytes, size);
    return got->code == want->code && !strcmp(got->why, want->why);
}

static void failure_report(const struct run *failing) {
    struct run run = *failing;
    u64 hash = text_hash(run.why);
    __atomic_fetch_add(&board->failures, 1, __ATOMIC_RELAXED);
    for (u32 i = 0; i < board->known && i < FAILURES_MAX; i++)
        if (board->failed[i] == hash)
            return;
    u32 slot = __atomic_fetch_add(&board->known, 1, __ATOMIC_RELAXED);
    if (slot >= FAILURES_MAX)
        return;
    board->failed[slot] = hash;
    char path[512];
    u8 small[PROGRAM_MAX];
    snprintf(path, sizeof(path), "%s/%08x", opt.dir, (u32)hash);
    file_write(path, run.bytes, run.size);
    printf("fuzz: FAILED: %s\n  saved, being shrunk: %s\n", run.why, path);
    fflush(stdout);
    memcpy(small, run.bytes, run.size);
    size_t n = program_shrink(small, run.size, fails_alike, &run, 3000);
    snprintf(path, sizeof(path), "%s/%08x.min", opt.dir, (u32)hash);
    file_write(path, small, n);
    printf("fuzz: from %u to %zu bytes; again: %s replay %s\n", run.size, n, program_invocation_name, path);
    fflush(stdout);
}

/* --- a job --- */
static const struct entry *entry_any(u64 *rng, u32 initial) {
    u32 n = opt.programs ? initial : __atomic_load_n(&board->entries, __ATOMIC_ACQUIRE);
    n = n < CORPUS_MAX ? n : CORPUS_MAX;
    /* half of the time one of the youngest */
    u32 at = n && random_below(rng, 2) && n > 64 ? n - 1 - random_below(rng, 64) : n ? random_below(rng, n) : 0;
    const struct entry *e = &board->entry[at];
    return n && __atomic_load_n(&e->size, __ATOMIC_ACQUIRE) ? e : NULL;
}

/* From what is kept by all jobs; a fixed number of programs is made from the initial ones only, and so the same each time. */
static size_t candidate_make(u64 *rng, u8 *bytes, u32 initial) {
    const struct entry *e = entry_any(rng, initial), *other = entry_any(rng, initial);
    if (!e || !other || !random_below(rng, 16))
        return program_random(rng, bytes);
    memcpy(bytes, e->bytes, e->size);
    return program_mutate(rng, bytes, e->size, other->bytes, other->size);
}

/* Runs what lies in the batch. Failures are looked at when it is over, for that runs other programs. */
static void batch_run(unsigned n, bool keep) {
    static struct run failing[BATCH];
    unsigned bad = 0;
    runner_go(n);
    for (const struct run *r = runner_batch(); r < runner_batch() + n; r++) {
        __atomic_fetch_add(&board->programs, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&board->hypercalls, r->hypercalls, __ATOMIC_RELAXED);
        if (r->code)
            failing[bad++] = *r;
        else if (features_note(r) && keep)
            entry_add(r->bytes, r->size);
    }
    while (bad)
        failure_report(&failing[--bad]);
}

static bool job_over(u64 done) {
    return (opt.programs && done * opt.jobs >= opt.programs) ||
           (opt.seconds && now_ms() - started >= opt.seconds * 1000);
}

/* Most machines are usual ones. */
static u8 kind_any(u64 *rng) {
    static const u8 usual[] = {0, 1, 1, 2, 3, 1 | 32, 1 | 32, 2 | 32};
    return random_below(rng, 8) ? usual[random_below(rng, sizeof(usual))] : (u8)random_next(rng) & KIND_BITS;
}

static void job_run(unsigned job, u32 initial) {
    u64 rng = opt.seed * 0x2545f4914f6cdd1dul + job, done = 0;
    struct run *b;
    runner_init();
    b = runner_batch();
    for (u32 i = job; i < initial && opt.seconds && !job_over(0); i += opt.jobs) {
        b->size = board->entry[i].size;
        memcpy(b->bytes, board->entry[i].bytes, b->size);
        batch_run(1, false);
    }
    for (; !job_over(done); done += BATCH) {
        u8 kind = kind_any(&rng);
        for (unsigned i = 0; i < BATCH; i++) {
            b[i].size = (u32)candidate_make(&rng, b[i].bytes, initial);
            b[i].bytes[0] = (u8)((b[i].bytes[0] & ~KIND_BITS) | kind);
        }
        batch_run(BATCH, true);
    }
    runner_exit();
}

static void progress(void) {
    u64 ms = now_ms() - started + 1;
    printf("fuzz: %5lu s, %lu programs (%lu/s), %lu hypercalls, %u of %u kernel edges, %u kept, %u failures\n",
           ms / 1000, board->programs, board->programs * 1000 / ms, board->hypercalls, edges_reached(board->seen),
           edges_kernel(), board->entries, board->failures);
    fflush(stdout);
}

static void corpus_load(const char *file) {
    u8 bytes[PROGRAM_MAX];
    entry_add(bytes, file_read(file, bytes));
}

static void corpus_save(void) {
    char path[512];
    snprintf(path, sizeof(path), "%s/../corpus", opt.dir);
    mkdir(path, 0777);
    for (u32 i = 0; i < board->entries && i < CORPUS_MAX; i++) {
        snprintf(path, sizeof(path), "%s/../corpus/%05u", opt.dir, i);
        file_write(path, board->entry[i].bytes, board->entry[i].size);
    }
}

/* Adds the edges that were reached to those in the file. */
static void reached_save(const char *name, const bool *seen) {
    char path[512];
    static u8 bytes[EDGES_MAX];
    snprintf(path, sizeof(path), "%s/../%s", opt.dir, name);
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(bytes, 1, sizeof(bytes), f) : 0;
    if (f)
        fclose(f);
    for (unsigned i = 0; i < edges_kernel(); i++)
        bytes[i] = (i < n && bytes[i]) || seen[i];
    file_write(path, bytes, edges_kernel());
}

static int cmd_run(int argc, char **argv) {
    for (int i = 0; i < argc; i++)
        files_each(argv[i], corpus_load);
    u32 initial = board->entries;
    printf("fuzz: seed %lu, %u processes, %u programs to begin with\n", opt.seed, opt.jobs, initial);
    mkdir(opt.dir, 0777);
    fflush(NULL);
    started = now_ms();
    for (unsigned j = 0; j < opt.jobs; j++)
        if (fork() == 0) {
            job_run(j, initial);
            fflush(NULL);
            _exit(0);
        }
    unsigned left = opt.jobs;
    bool died = false;
    for (unsigned tick = 1; left; tick++) {
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            left--;
            died |= status != 0;
        }
        if (left)
            usleep(100000);
        if (tick % 100 == 0)
            progress();
    }
    progress();
    if (opt.seconds && edges_kernel()) {
        corpus_save();
        reached_save("reached", board->seen);
    }
    if (died)
        printf("fuzz: a job died\n");
    return board->failures || died;
}

/* --- single programs --- */
static void listing(const struct program *p) {
    printf("%u CPUs, seed %u%s%s%s%s\n", p->cpus, p->seed, p->intel ? ", Intel" : "",
           p->no_vm ? ", no virtualization" : "", p->small_pool ? ", small pool" : "", p->bare ? ", bare" : "");
    for (unsigned a = 0; a < ACTORS; a++)
        for (unsigned i = 0; i < p->count[a]; i++) {
            const struct op *o = &p->op[a][i];
            printf("  %2u %-12s %3u %3u %3u %3u %3u %3u\n", a, a < 14 ? op_name(o->code) : "guest", o->a, o->b, o->c,
                   o->d, o->e, o->f);
        }
}

static int failed;
static void replay(const char *file) {
    static struct program p;
    static char text[1 << 16];
    u8 bytes[PROGRAM_MAX];
    size_t size = file_read(file, bytes);
    program_decode(&p, bytes, size);
    printf("%s: ", file);
    listing(&p);
    fflush(stdout);
    const struct run *r = runner_run(bytes, size);
    runner_output(text, sizeof(text));
    printf("%s%s: %s\n", text, file, r->code ? r->why : "ok");
    failed |= r->code != 0;
}

static void shrink(const char *file) {
    u8 bytes[PROGRAM_MAX];
    char path[4096];
    size_t size = file_read(file, bytes), n;
    struct run r = *runner_run(bytes, size);
    if (!r.code) {
        printf("%s: does not fail\n", file);
        return;
    }
    n = program_shrink(bytes, size, fails_alike, &r, 20000);
    snprintf(path, sizeof(path), "%s.min", file);
    file_write(path, bytes, n);
    printf("%s: %zu to %zu bytes: %s\n", file, size, n, r.why);
}

static unsigned checked;
static void check(const char *file) {
    u8 bytes[PROGRAM_MAX];
    const struct run *r = runner_run(bytes, file_read(file, bytes));
    checked++;
    (void)features_note(r);
    if (r->code) {
        printf("%s: %s; again: %s replay %s\n", file, r->why, program_invocation_name, file);
        failed = 1;
    }
}

/* A small set of programs for all that they reach together: the shortest first, then what is not needed is left out. */
static struct {
    u32 size;
    char file[240];
    bool feature[FEATURES];
} * member;
static u32 members;

static void member_add(const char *file) {
    u8 bytes[PROGRAM_MAX];
    const struct run *r = runner_run(bytes, file_read(file, bytes));
    if (r->code || members == CORPUS_MAX)
        return;
    snprintf(member[members].file, sizeof(member->file), "%s", file);
    member[members].size = r->size;
    memcpy(member[members].feature, r->feature, FEATURES);
    members++;
}

static int by_size(const void *a, const void *b) {
    return (int)((const typeof(member))a)->size - (int)((const typeof(member))b)->size;
}

static u32 kept;
static void member_keep(u32 m, const char *dir) {
    char path[512];
    u8 bytes[PROGRAM_MAX];
    size_t size = file_read(member[m].file, bytes);
    snprintf(path, sizeof(path), "%s/%08x", dir, (u32)text_hash(member[m].file) ^ member[m].size);
    file_write(path, bytes, size);
    kept++;
}

static void minimise(const char *dir) {
    static u32 holders[FEATURES];
    qsort(member, members, sizeof(*member), by_size);
    for (u32 m = 0; m < members; m++)
        for (u32 f = 0; f < FEATURES; f++)
            holders[f] += member[m].feature[f];
    for (u32 m = members; m--;) { /* the longest go first */
        bool needed = false;
        for (u32 f = 0; f < FEATURES; f++)
            needed |= member[m].feature[f] && holders[f] == 1;
        if (needed)
            member_keep(m, dir);
        for (u32 f = 0; f < FEATURES && !needed; f++)
            holders[f] -= member[m].feature[f];
    }
    printf("%u of %u programs\n", kept, members);
}

static void statuses_print(void) {
    for (unsigned c = 0; c < CALLS; c++)
        for (unsigned s = 0; s < 16; s++)
            if (board->seen[EDGES_MAX + c * 16 + s])
                printf("status %x.%u %u\n", c < 16 ? c : 15, c < 16 ? 0 : c - 16, s);
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    board = shared_alloc(sizeof(*board));
    opt.seed = (u64)time(NULL);
    argc--, argv++;
    for (int c; (c = getopt(argc, argv, "t:n:j:s:o:")) != -1;)
        switch (c) {
        case 't':
            opt.seconds = strtoul(optarg, NULL, 0);
            break;
        case 'n':
            opt.programs = strtoul(optarg, NULL, 0);
            break;
        case 'j':
            opt.jobs = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 's':
            opt.seed = strtoul(optarg, NULL, 0);
            break;
        case 'o':
            opt.dir = optarg;
            break;
        default:
            return 2;
        }
    argc -= optind, argv += optind;
    if (!strcmp(command, "run"))
        return cmd_run(argc, argv);
    if (!strcmp(command, "parsers")) {
        int r = parsers_fuzz(&(struct parse_options){opt.seconds, opt.programs, opt.seed, opt.dir}, board->seen);
        if (opt.seconds && edges_kernel())
            reached_save("reached", board->seen);
        return r;
    }
    if (!strcmp(command, "addresses")) {
        for (unsigned i = 0; i < edges_kernel(); i++)
            printf("%lx\n", edge_address(i));
        return 0;
    }
    if (!strcmp(command, "parse") && argc == 2) {
        static u8 bytes[INPUT_MAX];
        FILE *f = fopen(argv[1], "rb");
        return f ? parser_replay(argv[0], bytes, fread(bytes, 1, sizeof(bytes), f)) != 0 : 2;
    }
    if (!strcmp(command, "afl"))
        return afl_run(argc ? argv[0] : "1");
    if (!strcmp(command, "seeds") && argc == 2)
        return parser_seeds(argv[0], argv[1]);
    runner_init();
    if (!strcmp(command, "minimise") && argc > 1) {
        member = calloc(CORPUS_MAX, sizeof(*member));
        for (int i = 1; i < argc; i++)
            files_each(argv[i], member_add);
        minimise(argv[0]);
        argc = 0;
    }
    for (int i = 0; i < argc; i++)
        files_each(argv[i], !strcmp(command, "replay") ? replay : !strcmp(command, "shrink") ? shrink : check);
    if (!strcmp(command, "check")) {
        statuses_print();
        printf("%u programs, %u of %u kernel edges, %s\n", checked, edges_reached(board->seen), edges_kernel(),
               failed ? "FAILED" : "all well");
    }
    runner_exit();
    return failed;
}
