/* Mutates inputs of parsers. A job runs them in its own process; the input lies in shared memory, so that it is there when the job dies. */
#define _GNU_SOURCE
#include "edges.h"
#include "mutate.h"
#include "parsers.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEEP_MAX 512u

struct input {
    u32 size;
    u8 bytes[INPUT_MAX];
};
static struct parse_board {
    u64 runs, seed;
    u32 parser, kept;
    struct input now, keep[KEEP_MAX];
    bool seen[EDGES_MAX];
} * board;

static u64 now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static const char *const words[] = {"[vm x]\n",
                                    "[component y]\n",
                                    "[system]\n",
                                    "kernel = k\n",
                                    "memory = ",
                                    "18446744073709551615",
                                    "64M",
                                    "cpu = 7",
                                    "ports = 0xffff-0x10000",
                                    "irq = -1",
                                    "= ",
                                    ",",
                                    "yes",
                                    "\n",
                                    "0x",
                                    "99999999999999999999G",
                                    "services = a,b"};

static void mutate_once(u64 *rng, struct input *in, const struct input *other, bool text) {
    static const u64 odd[] = {0,          1,          0x7f,      0x80, 0xff,         0xffff,   0x7fffffff,
                              0x80000000, 0xffffffff, 1ul << 47, ~0ul, ~0ul - 0xfff, 1ul << 63};
    u32 at = random_below(rng, in->size), n;
    u64 v;
    switch (random_below(rng, text ? 8 : 6)) {
    case 0:
        in->bytes[at] = (u8)random_next(rng);
        break;
    case 1:
        in->bytes[at] ^= (u8)(1u << random_below(rng, 8));
        break;
    case 2: /* a number */
        v = odd[random_below(rng, ARRAY_SIZE(odd))] + random_below(rng, 3) - 1;
        n = 1u << random_below(rng, 4);
        if (at + n <= in->size)
            memcpy(in->bytes + at, &v, n);
        break;
    case 3:
        in->bytes[at] += (u8)(random_below(rng, 9) - 4);
        break;
    case 4: /* a piece of another one */
        n = 1 + random_below(rng, 64);
        if (at + n <= in->size && at + n <= other->size)
            memcpy(in->bytes + at, other->bytes + random_below(rng, other->size - n + 1), n);
        break;
    case 5: /* shorter, or longer by itself */
        if (random_below(rng, 2)) {
            in->size = at + 1;
        } else if (in->size + (n = 1 + random_below(rng, 128)) <= INPUT_MAX) {
            memmove(in->bytes + at + n, in->bytes + at, in->size - at);
            in->size += n;
        }
        break;
    default: {
        const char *w = words[random_below(rng, ARRAY_SIZE(words))];
        n = (u32)strlen(w);
        if (in->size + n <= INPUT_MAX) {
            memmove(in->bytes + at + n, in->bytes + at, in->size - at);
            memcpy(in->bytes + at, w, n);
            in->size += n;
        }
    }
    }
}

static void keep(const struct input *in) {
    if (board->kept < KEEP_MAX)
        board->keep[board->kept++] = *in;
}

static bool fresh_edges(void) {
    bool fresh = false;
    const bool *flags = edges_flags();
    for (unsigned i = 0; i < edges_bytes(); i++)
        if (flags[i] && !board->seen[i])
            board->seen[i] = fresh = true;
    return fresh;
}

static void job_run(const struct parser *p, u64 runs, u64 end_ms) {
    u64 rng = board->seed;
    struct input in;
    for (u64 n = 0; n < runs && (!end_ms || n % 64 || now_ms() < end_ms); n++) {
        in = board->keep[random_below(&rng, board->kept)];
        for (u32 i = n < board->kept ? 0 : 1u << random_below(&rng, 4); i; i--)
            mutate_once(&rng, &in, &board->keep[random_below(&rng, board->kept)], p->text);
        board->now = in;
        board->seed = rng;
        memset(edges_flags(), 0, edges_bytes());
        p->run(in.bytes, in.size);
        board->runs++;
        if (fresh_edges())
            keep(&in);
    }
}

static int in_child(const struct parser *p, const struct input *in) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        p->run(in->bytes, in->size);
        _exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

/* Shorter as long as it dies in the same way; its output goes nowhere meanwhile. */
static void shrink(const struct parser *p, struct input *in, int status) {
    fflush(NULL);
    int err = dup(2);
    if (!freopen("/dev/null", "w", stderr))
        return;
    for (u32 n = in->size / 2; n; n /= 2)
        for (u32 at = 0; at + n <= in->size;) {
            struct input c = *in;
            memmove(c.bytes + at, c.bytes + at + n, c.size - at - n);
            c.size -= n;
            if (c.size && in_child(p, &c) == status)
                *in = c;
            else
                at += n;
        }
    dup2(err, 2);
    close(err);
}

static void input_write(const char *path, const struct input *in) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(in->bytes, 1, in->size, f) != in->size || fclose(f))
        perror(path);
}

int parser_seeds(const char *name, const char *dir) {
    struct input in;
    char path[512];
    for (unsigned i = 0; i < parser_count; i++)
        for (unsigned n = 0; !strcmp(parsers[i].name, name) && (in.size = (u32)parsers[i].seed(n, in.bytes)); n++) {
            snprintf(path, sizeof(path), "%s/%u", dir, n);
            input_write(path, &in);
        }
    return 0;
}

static void failure(const struct parse_options *o, const struct parser *p, int status, unsigned n) {
    char path[512];
    struct input in = board->now;
    if (in_child(p, &in) == status)
        shrink(p, &in, status);
    snprintf(path, sizeof(path), "%s/%s-%u", o->dir, p->name, n);
    input_write(path, &in);
    printf("fuzz: FAILED: parser %s, %u bytes; again: %s parse %s %s\n", p->name, in.size, program_invocation_name,
           p->name, path);
}

static unsigned parser_fuzz(const struct parse_options *o, const struct parser *p, u64 end_ms) {
    unsigned failures = 0, edges = 0;
    memset(board, 0, sizeof(*board));
    board->seed = o->seed;
    for (unsigned n = 0; (board->now.size = (u32)p->seed(n, board->now.bytes)); n++)
        keep(&board->now);
    while (failures < 3 && (o->runs ? board->runs < o->runs : now_ms() < end_ms)) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            job_run(p, o->runs ? o->runs - board->runs : ~0ul, end_ms);
            _exit(0);
        }
        int status;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        if (status)
            failure(o, p, status, failures++);
    }
    for (unsigned i = 0; i < edges_bytes(); i++)
        edges += board->seen[i];
    printf("fuzz: parser %-10s %8lu inputs, %u kept, %u edges, %u failures\n", p->name, board->runs, board->kept, edges,
           failures);
    return failures;
}

int parsers_fuzz(const struct parse_options *o, bool *reached) {
    unsigned failures = 0;
    u64 start = now_ms();
    board = shared_alloc(sizeof(*board));
    if (edges_kernel())
        edges_share(NULL);
    mkdir(o->dir, 0777);
    for (unsigned i = 0; i < parser_count; i++) {
        failures += parser_fuzz(o, &parsers[i], o->runs ? 0 : start + o->seconds * 1000 * (i + 1) / parser_count);
        for (unsigned e = 0; e < edges_kernel(); e++)
            reached[e] |= board->seen[e];
    }
    return failures != 0;
}

int parser_replay(const char *name, const u8 *bytes, size_t size) {
    struct input in = {.size = (u32)size};
    memcpy(in.bytes, bytes, size);
    for (unsigned i = 0; i < parser_count; i++)
        if (!strcmp(parsers[i].name, name))
            return in_child(&parsers[i], &in);
    fprintf(stderr, "fuzz: no parser %s\n", name);
    return 2;
}
