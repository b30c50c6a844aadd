/* Choices and traces: the streams of choices, what a run chose, the hash over what it did. */
#include "arch/assert.h"
#include "arch/mem.h"
#include "sim/engine.h"
#include "sim/trace_priv.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

extern const char __executable_start[], end[]; /* linker: functions, guest programs and variables lie between them */

struct sim_engine *sim_engine;
u64 sim_hash_state;
static u64 streams[SIM_STREAMS];

void sim_engine_map(void) {
    if (sim_engine)
        return;
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    sim_engine = mmap(NULL, sizeof(*sim_engine), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (sim_engine == MAP_FAILED) {
        perror("sim: no memory");
        exit(2);
    }
}

u64 sim_hash(void) { return sim_hash_state; }

/* --- the trace hash: nothing in it may depend on how and where this program was linked and loaded --- */

/* Addresses in the program become numbers in the order in which a run shows them. */
static u64 code_number(u64 address) {
    static u64 seen[2048];
    static unsigned count;
    for (unsigned i = (unsigned)(address * 0x9e3779b97f4a7c15ul >> 53);; i = (i + 1) % ARRAY_SIZE(seen)) {
        if (seen[i] >> 12 == address)
            return seen[i] & 0xfff;
        if (!seen[i]) {
            if (count == ARRAY_SIZE(seen) / 2)
                return 0xfff;
            seen[i] = address << 12 | count;
            return count++;
        }
    }
}

static u64 portable(u64 v) {
    if (v - (u64)__executable_start < (u64)(end - __executable_start))
        return 0xc0deul << 48 | code_number(v);
    if (v - SIM_ARENA_BASE < SIM_ARENA_SIZE)
        return 0xa7eaul << 48 | (v - SIM_ARENA_BASE);
    if (v - SIM_STACK_BASE < SIM_STACK_SIZE)
        return 0x57acul << 48 | (v - SIM_STACK_BASE);
    return v;
}

void sim_hash_registers(const struct uregs *r, u64 what) {
    const u64 *w = (const u64 *)r;
    u64 lane[4] = {what, 1, 2, 3}; /* independent multiplications */
    static_assert(sizeof(*r) % 16 == 0, "pairs of words");
    for (unsigned i = 0; i < sizeof(*r) / 8; i++)
        lane[i % 4] = (lane[i % 4] ^ portable(w[i])) * 0x9e3779b97f4a7c15ul;
    for (unsigned i = 0; i < 4; i++)
        sim_hash_mix(lane[i] ^ lane[i] >> 32);
}

void sim_hash_value(u64 v) { sim_hash_mix(portable(v)); }

void sim_hash_store(const volatile void *p, u64 v) {
    u64 at = (u64)p - SIM_ARENA_BASE;
    if (at >= SIM_ARENA_SIZE)
        return;
    if ((v >> 16) - SIM_ARENA_BASE < SIM_ARENA_SIZE) /* a capability */
        v -= SIM_ARENA_BASE << 16;
    sim_hash_mix(at);
    sim_hash_mix(portable(v));
}

/* --- streams --- */

/* splitmix64 (Steele, Lea, Flood 2014). */
u64 sim_random(u64 *state) {
    u64 z = (*state += 0x9e3779b97f4a7c15ul);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ul;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebul;
    return z ^ (z >> 31);
}

void sim_record_begin(void) {
    struct sim_record *r = &sim_engine->now;
    for (unsigned i = 0; i < ARRAY_SIZE(streams); i++)
        streams[i] = sim_opt.seed * 0x2545f4914f6cdd1dul + i * 0x632be59bd9b4e019ul;
    sim_hash_state = 0xcbf29ce484222325ul;
    r->deviations = 0;
    memset(r->choices, 0, sizeof(r->choices));
    r->overflow = false;
    r->result = -1;
    r->seed = sim_opt.seed;
}

u32 sim_choose(enum sim_stream stream, u32 n) {
    struct sim_record *r = &sim_engine->now;
    const struct sim_record *script = &sim_engine->script;
    assert(sim_begun); /* before the snapshot there is no seed */
    if (n < 2)
        return 0;
    unsigned k = stream;
    u32 i = r->choices[k], v;
    if (sim_opt.sched == SIM_SCRIPT)
        v = i < script->choices[k] ? script->choice[k][i] % n : 0;
    else
        v = (u32)(((sim_random(&streams[k]) >> 32) * n) >> 32);
    if (i < SIM_MAX_CHOICES)
        r->choice[k][r->choices[k]++] = v;
    else
        r->overflow = true;
    sim_hash_mix(v);
    return v;
}

void sim_record_switch(const struct sim_decision *d, unsigned to) {
    struct sim_record *r = &sim_engine->now;
    if (to == d->otherwise)
        return;
    if (r->deviations < SIM_MAX_SWITCHES)
        r->deviation[r->deviations++] = (struct sim_deviation){d->at, (u16)d->cpu, (u16)to};
    else
        r->overflow = true;
}

void sim_record_end(int result, u64 points) {
    sim_engine->now.points = points;
    sim_engine->now.result = result;
    sim_engine->now.hash = sim_hash_state;
}

void sim_record_copy(struct sim_record *to, const struct sim_record *from) {
    memcpy(to, from, offsetof(struct sim_record, deviation));
    memcpy(to->deviation, from->deviation, from->deviations * sizeof(from->deviation[0]));
    for (unsigned k = 0; k < ARRAY_SIZE(to->choices); k++)
        memcpy(to->choice[k], from->choice[k], from->choices[k] * sizeof(from->choice[k][0]));
}

/* --- files --- */

static const char *const stream_names[SIM_STREAMS] = {"buffers", "workload", "fault"};

bool sim_record_save(const struct sim_record *r, const char *path) {
    u64 offset;
    const char *root = sim_symbol((u64)sim_opt.root, &offset);
    FILE *f = r->overflow ? NULL : fopen(path, "w");
    if (!f)
        return false;
    fprintf(f,
            "novella replay 1\nroot %s\ncpus %u\nstorebuf %d\nvendor %d\nseed %" PRIu64 "\nresult %d\ntrace %016" PRIx64
            "\n",
            root ? root : "?", sim_opt.cpus, sim_opt.store_buffers, sim_vendor_of(&sim_opt, sim_opt.seed), sim_opt.seed,
            r->result, r->hash);
    fprintf(
        f,
        "# CPU @ its point > CPU that goes on; without an entry a CPU goes on while it can, then the next by number\n");
    for (u32 i = 0; i < r->deviations; i++)
        fprintf(f, "switch %u @ %" PRIu64 " > %u\n", r->deviation[i].cpu, r->deviation[i].at, r->deviation[i].to);
    for (unsigned k = 0; k < SIM_STREAMS; k++)
        for (u32 i = 0; i < r->choices[k]; i++)
            fprintf(f, "%s %u\n", stream_names[k], r->choice[k][i]);
    return fclose(f) == 0;
}

static bool line_parse(const char *line, struct sim_record *r, struct sim_options *o, char *root) {
    struct sim_deviation d;
    char name[16];
    unsigned v, k = 0;
    if (sscanf(line, "storebuf %u", &v) == 1) {
        o->store_buffers = v;
        return true;
    }
    if (sscanf(line, "vendor %u", &v) == 1) {
        o->vendor = v;
        return true;
    }
    if (line[0] == '#' || sscanf(line, "root %99s", root) == 1 || sscanf(line, "cpus %u", &o->cpus) == 1 ||
        sscanf(line, "seed %" SCNu64, &o->seed) == 1 || sscanf(line, "result %d", &r->result) == 1 ||
        sscanf(line, "trace %" SCNx64, &r->hash) == 1)
        return true;
    if (sscanf(line, "switch %hu @ %" SCNu64 " > %hu", &d.cpu, &d.at, &d.to) == 3) {
        r->deviation[r->deviations++] = d;
        return r->deviations < SIM_MAX_SWITCHES && d.cpu < ABI_MAX_CPUS && d.to < ABI_MAX_CPUS;
    }
    if (sscanf(line, "%15s %u", name, &v) != 2)
        return false;
    while (k < SIM_STREAMS && strcmp(name, stream_names[k]) != 0)
        k++;
    if (k == SIM_STREAMS || r->choices[k] == SIM_MAX_CHOICES)
        return false;
    r->choice[k][r->choices[k]++] = v;
    return true;
}

bool sim_record_load(const char *path, struct sim_options *o, char *root) {
    struct sim_record *r = &sim_engine->script;
    char line[128];
    FILE *f = fopen(path, "r");
    bool ok = f && fgets(line, sizeof(line), f) && !strcmp(line, "novella replay 1\n");
    r->deviations = 0;
    memset(r->choices, 0, sizeof(r->choices));
    while (ok && fgets(line, sizeof(line), f))
        ok = line_parse(line, r, o, root);
    if (f)
        fclose(f);
    if (!ok)
        fprintf(stderr, "sim: %s: %s\n", path, f ? "not a replay file" : "cannot be read");
    return ok;
}
