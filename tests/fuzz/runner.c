/* A machine of each kind that is needed boots in a process of its own. Asked through a pipe, it runs the programs of a batch one after
 * the other, each from the snapshot of when it was ready. */
#define _GNU_SOURCE
#include "runner.h"
#include "edges.h"
#include "sim/engine.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN_SECONDS 20u

static struct machine {
    pid_t pid;
    int ask, answer; /* our ends */
} machines[MACHINE_KINDS];
static struct run *batch;
static struct {
    u32 at, count; /* of the batch: under way, all */
    struct program program;
    char text[1 << 17]; /* output to look at */
} * now;                /* shared with the machines; no snapshot write-protects it, so system calls may write here */
static int output = -1;
static unsigned seconds = RUN_SECONDS;

void *shared_alloc(size_t size) {
    void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) {
        perror("fuzz: shared memory");
        exit(2);
    }
    return m;
}

void runner_init(void) {
    memset(machines, 0, sizeof(machines));
    tally = shared_alloc(sizeof(*tally));
    batch = shared_alloc(BATCH * sizeof(*batch));
    now = shared_alloc(sizeof(*now));
    output = memfd_create("output", 0);
    if (edges_kernel())
        edges_share(NULL);
    if (getenv("ISOLATE")) /* Valgrind */
        seconds = 60 * RUN_SECONDS;
}

struct run *runner_batch(void) {
    return batch;
}

void runner_output(char *text, size_t size) {
    ssize_t n = pread(output, text, size - 1, 0);
    text[n > 0 ? n : 0] = 0;
}

/* The first line that is a verdict; numbers of CPUs and values are left out. */
static void why_find(struct run *r) {
    static const char *const marks[] = {
        "panic on CPU ", "SUMMARY: ", "runtime error: ", "sim: expected ", "sim: deadlock", "sim: step budget"};
    runner_output(now->text, sizeof(now->text));
    for (unsigned i = 0; i < ARRAY_SIZE(marks); i++) {
        const char *at = strstr(now->text, marks[i]);
        if (!at)
            continue;
        at += i == 0 ? strcspn(at, ":") + 2 : 0;
        size_t n = strcspn(at, "\n;");
        const char *paren = i == 3 ? strstr(at, "):") : NULL;
        n = paren && (size_t)(paren - at) < n ? (size_t)(paren - at) + 1 : n;
        snprintf(r->why, sizeof(r->why), "%.*s", (int)(n < 180 ? n : 180), at);
        return;
    }
    snprintf(r->why, sizeof(r->why), "ended with status %d", r->code);
}

static void result_set(struct run *r, int code) {
    r->code = code;
    r->why[0] = 0;
    if (r->code)
        why_find(r);
    r->hypercalls = tally->hypercalls;
    memcpy(r->feature, edges_flags(), edges_kernel());
    for (unsigned i = 0; i < CALLS * 16; i++)
        r->feature[EDGES_MAX + i] = tally->status[i / 16][i % 16] != 0;
}

static int exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

static int isolated_run(void) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(seconds);
        int r = machine_go(&now->program);
        fflush(NULL);
        _exit(r);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return exit_code(status);
}

/* In the machine's process. Valgrind's bookkeeping does not follow a snapshot: there each run has a process. */
static _Noreturn void serve(int ask, int answer, bool isolate) {
    static bool booted[EDGES_MAX]; /* what the machine reached before any program: part of each run */
    memcpy(booted, edges_flags(), edges_kernel());
    if (!isolate)
        sim_snapshot_take();
    for (char c; read(ask, &c, 1) == 1;) {
        for (; now->at < now->count; now->at++) {
            struct run *r = &batch[now->at];
            memset(tally, 0, sizeof(*tally));
            program_decode(&now->program, r->bytes, r->size);
            if (ftruncate(output, 0) || lseek(output, 0, SEEK_SET) < 0)
                _exit(2);
            if (!isolate)
                sim_snapshot_restore();
            memcpy(edges_flags(), booted, edges_kernel());
            alarm(seconds);
            int code = isolate ? isolated_run() : (int)machine_go(&now->program);
            alarm(0);
            fflush(NULL);
            result_set(r, code);
        }
        if (write(answer, "", 1) != 1)
            break;
    }
    _exit(0);
}

static struct machine *machine_of(const struct program *p) {
    struct machine *m = &machines[machine_kind(p)];
    int ask[2], answer[2];
    if (m->pid)
        return m;
    fflush(NULL);
    if (pipe2(ask, O_CLOEXEC) || pipe2(answer, O_CLOEXEC) || (m->pid = fork()) < 0) {
        perror("fuzz: machine");
        exit(2);
    }
    if (m->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(output, 1);
        dup2(output, 2);
        close(ask[1]), close(answer[0]);
        memset(edges_flags(), 0, edges_kernel());
        if (machine_boot(p))
            serve(ask[0], answer[1], getenv("ISOLATE"));
        fflush(NULL);
        _exit(SIM_PANIC);
    }
    close(ask[0]), close(answer[1]);
    m->ask = ask[1], m->answer = answer[0];
    return m;
}

void runner_go(unsigned n) {
    static struct program p;
    program_decode(&p, batch->bytes, batch->size);
    now->count = n;
    for (now->at = 0; now->at < n; now->at++) {
        struct machine *m = machine_of(&p);
        char c;
        if (write(m->ask, "", 1) == 1 && read(m->answer, &c, 1) == 1)
            return;
        int status = 0; /* it died of the program, or did not even boot */
        waitpid(m->pid, &status, 0);
        close(m->ask), close(m->answer);
        m->pid = 0;
        result_set(&batch[now->at], exit_code(status));
    }
}

const struct run *runner_run(const u8 *bytes, size_t size) {
    memcpy(batch->bytes, bytes, size);
    batch->size = (u32)size;
    runner_go(1);
    return batch;
}

void runner_exit(void) {
    for (unsigned i = 0; i < MACHINE_KINDS; i++)
        if (machines[i].pid) {
            kill(machines[i].pid, SIGKILL);
            waitpid(machines[i].pid, NULL, 0);
            machines[i].pid = 0;
        }
}
