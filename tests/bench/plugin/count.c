/* TCG plugin of make bench-guest: how many instructions the CPU executes, HLT's waiting is none, and who: kernel, components, guest. One CPU.
 *   -plugin count.so,out=FILE,start=ADDRESS[,watch=NAME:ADDRESS:BYTES]...[,profile=MARK]
 * FILE gets a line when the guest is at ADDRESS for the first time (the kernel's entry), and one at each xchg %bx, %bx:
 *   at GUEST KERNEL COMPONENTS EXITS NAME=COUNT...
 * With a watch there are VMRUNs, and what is not between one and the next instruction of the kernel is the kernel's (upper half) or a component's. A
 * watched function is found by its address and first bytes, because components share addresses. At the end such a line with "end" and the instructions of the guest that
 * may cause exits,
 *   site ADDRESS BYTES COUNT
 * and with profile, which is slow, every instruction of kernel and components, from the line of FILE with that number (0: the first) to the next:
 *   ran ADDRESS BYTES COUNT */
#include "qemu.h"

#define WATCHES 32
#define SITES   8192
#define RAN     (1u << 18)

struct watch {
    char name[32];
    uint64_t at, count;
    uint8_t bytes[16];
};
struct site {
    uint64_t at, count;
    uint8_t bytes[2];
};
struct instruction {
    uint64_t at, count;
    uint32_t bytes; /* the first four */
};

static FILE *out;
static struct watch watches[WATCHES];
static unsigned watch_count;
static struct site sites[SITES];
static unsigned site_count;

static struct instruction ran[RAN];
static unsigned profile = ~0u, snapshots;

static bool host, started;
static uint64_t start_at, back_at; /* back_at: behind VMRUN */
static uint64_t low, high;         /* executed, by half of the address space; written by generated code */
static uint64_t low_seen, high_seen, exits, guest, kernel, components;

static void settle(bool is_host) {
    if (host) {
        kernel += high - high_seen;
        components += low - low_seen;
    } else {
        guest += high - high_seen + low - low_seen;
    }
    high_seen = high, low_seen = low;
    host = is_host;
}

static void entered(unsigned cpu, void *arg) {
    (void)cpu, (void)arg;
    settle(false);
    kernel++, high_seen++; /* VMRUN itself is counted after its callback */
}
static void left(unsigned cpu, void *arg) {
    (void)cpu, (void)arg;
    exits += !host;
    settle(true);
}
static void snapshot(const char *kind) {
    settle(host);
    fprintf(out, "%s %lu %lu %lu %lu", kind, guest, kernel, components, exits);
    for (unsigned i = 0; i < watch_count; i++)
        fprintf(out, " %s=%lu", watches[i].name, watches[i].count);
    fprintf(out, "\n");
    snapshots++;
}
static void marked(unsigned cpu, void *arg) {
    (void)cpu, (void)arg;
    if (!host)
        snapshot("at");
}
static void begun(unsigned cpu, void *arg) {
    (void)cpu, (void)arg;
    if (!host && !started)
        snapshot("at");
    started |= !host;
}
static void watched(unsigned cpu, void *arg) {
    struct watch *w = arg;
    (void)cpu;
    w->count += host;
}
static void may_exit(unsigned cpu, void *arg) {
    struct site *s = arg;
    (void)cpu;
    s->count += !host;
}

static void executed(unsigned cpu, void *arg) {
    struct instruction *n = arg;
    (void)cpu;
    n->count += host && snapshots == profile + 1;
}

static struct instruction *instruction_of(uint64_t at, const uint8_t *data, size_t n) {
    uint32_t bytes = 0;

    memcpy(&bytes, data, n < 4 ? n : 4);
    uint64_t i = (at ^ (uint64_t)bytes << 20) * 0x9e3779b97f4a7c15 >> 46;
    while (ran[i].at && (ran[i].at != at || ran[i].bytes != bytes))
        i = (i + 1) % RAN;
    ran[i].at = at, ran[i].bytes = bytes;
    return &ran[i];
}

static bool is(const struct qemu_plugin_insn *insn, const char *bytes, size_t n) {
    return qemu_plugin_insn_size(insn) == n && !memcmp(qemu_plugin_insn_data(insn), bytes, n);
}

static bool exits_perhaps(const uint8_t *b, size_t n) {
    if (n > 1 && b[0] == 0x66)
        b++, n--;
    return (n == 2 && b[0] == 0x0f && (b[1] == 0xa2 || b[1] == 0x30 || b[1] == 0x32)) ||
           (n == 2 && (b[0] & 0xfc) == 0xe4) || (n == 1 && ((b[0] & 0xfc) == 0xec || b[0] == 0xf4));
}

static struct site *site_of(uint64_t at, const uint8_t *bytes, size_t n) {
    unsigned i = 0;
    while (i < site_count && sites[i].at != at)
        i++;
    if (i == site_count && site_count < SITES - 1) {
        sites[site_count].at = at;
        memcpy(sites[site_count++].bytes, bytes, n < 2 ? n : 2);
    }
    return &sites[i];
}

/* Instructions of a block from i on begin like the function. */
static bool begins(const struct qemu_plugin_tb *tb, size_t i, const struct watch *w) {
    size_t n = 0;
    for (; i < qemu_plugin_tb_n_insns(tb) && n < sizeof(w->bytes); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        size_t size = qemu_plugin_insn_size(insn);
        size = size < sizeof(w->bytes) - n ? size : sizeof(w->bytes) - n;
        if (memcmp(w->bytes + n, qemu_plugin_insn_data(insn), size))
            return false;
        n += size;
    }
    return true;
}

static void callback(struct qemu_plugin_insn *insn, void (*fn)(unsigned cpu, void *arg), void *arg) {
    qemu_plugin_register_vcpu_insn_exec_cb(insn, fn, PLUGIN_NO_REGS, arg);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t at = qemu_plugin_insn_vaddr(insn);
        const uint8_t *bytes = qemu_plugin_insn_data(insn);

        if (back_at && at == back_at)
            callback(insn, left, NULL);
        if (at == start_at)
            callback(insn, begun, NULL);
        for (unsigned w = 0; w < watch_count; w++)
            if (watches[w].at == at && begins(tb, i, &watches[w]))
                callback(insn, watched, &watches[w]);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, PLUGIN_ADD_U64, at >> 63 ? &high : &low, 1);
        if (profile != ~0u && (at - 0xffffffff80000000 < 0x1000000 || at < 0x1000000))
            callback(insn, executed, instruction_of(at, bytes, qemu_plugin_insn_size(insn)));
        if (is(insn, "\x66\x87\xdb", 3))
            callback(insn, marked, NULL);
        if (exits_perhaps(bytes, qemu_plugin_insn_size(insn)))
            callback(insn, may_exit, site_of(at, bytes, qemu_plugin_insn_size(insn)));
        if (watch_count && is(insn, "\x0f\x01\xd8", 3)) {
            back_at = at + 3;
            callback(insn, entered, NULL);
        }
    }
}

static void ended(plugin_id id, void *arg) {
    (void)id, (void)arg;
    snapshot("end");
    for (unsigned i = 0; i < site_count; i++)
        if (sites[i].count)
            fprintf(out, "site %lx %02x%02x %lu\n", sites[i].at, sites[i].bytes[0], sites[i].bytes[1], sites[i].count);
    for (unsigned i = 0; i < RAN; i++)
        if (ran[i].count)
            fprintf(out, "ran %lx %08x %lu\n", ran[i].at, __builtin_bswap32(ran[i].bytes), ran[i].count);
    fclose(out);
}

static bool watch_add(const char *text) {
    struct watch *w = &watches[watch_count];
    int n = 0;

    if (watch_count == WATCHES || sscanf(text, "%31[^:]:%lx:%n", w->name, &w->at, &n) != 2 || !n)
        return false;
    for (unsigned i = 0; i < sizeof(w->bytes); i++)
        if (sscanf(text + n + 2 * i, "%2hhx", &w->bytes[i]) != 1)
            return false;
    watch_count++;
    return true;
}

int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            out = fopen(argv[i] + 4, "w");
        else if (sscanf(argv[i], "start=%lx", &start_at) != 1 && sscanf(argv[i], "profile=%u", &profile) != 1 &&
                 (strncmp(argv[i], "watch=", 6) || !watch_add(argv[i] + 6)))
            return 1;
    }
    if (!out)
        return 1;
    host = watch_count;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
