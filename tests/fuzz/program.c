/* A run of a byte-code program: decoding, the manager thread that starts and ends it, and what must be as it was afterwards. */
#include "program.h"
#include "machine.h"
#include "core/space_priv.h"
#include "sim/check.h"
#include "sim/engine.h"
#include <string.h>
#include <sys/mman.h>

#define OK(x)          sim_expect_eq((x), NOVA_SUCCESS)
#define MANAGER_EC     0x70ul
#define MANAGER_SC     0x71ul
#define STARTUP_EC     0x72ul
#define MANAGER_EVENTS 0x80ul /* 32 selectors */
#define STARTUP_UTCB   (OWN_UTCB + 2 * PAGE_SIZE)
#define RUN_TICKS      300000ul /* virtual time of a program: what does not end by itself is ended */
#define BUDGET         500
#define SMALL_POOL     (1ul << 20)

const struct program *prog;
i32 budget;
bool stopped, pool_moved;
static struct tally own_tally;
struct tally *tally = &own_tally;

void program_decode(struct program *p, const u8 *bytes, size_t size) {
    u8 head[PROGRAM_HEAD] = {0};
    memcpy(head, bytes, size < PROGRAM_HEAD ? size : PROGRAM_HEAD);
    *p = (struct program){.cpus = 1 + (head[0] & 3),
                          .no_vm = head[0] & 4,
                          .small_pool = head[0] & 8,
                          .bare = head[0] & 16,
                          .intel = head[0] & 32,
                          .seed = head[1] | head[2] << 8 | head[3] << 16};
    size = size < PROGRAM_MAX ? size : PROGRAM_MAX;
    for (size_t at = PROGRAM_HEAD; at < size; at += OP_BYTES) {
        struct op op = {0};
        memcpy(&op, bytes + at, size - at < OP_BYTES ? size - at : OP_BYTES);
        op.actor %= ACTORS;
        p->op[op.actor][p->count[op.actor]++] = op;
    }
}

u64 hc(u64 number, u64 flags, u64 sel, u64 rsi, u64 rdx, u64 rax, u64 r8, u64 *out) {
    struct sim_hypercall h = {NOVA_RDI(number, flags, sel), rsi, rdx, rax, r8};
    tally->hypercalls++;
    sim_hypercall(&h);
    if (out)
        out[0] = h.rsi, out[1] = h.rdx;
    tally->status[number == HC_EXTENSION ? 16 + (flags & 15) : number][h.rdi & 15]++;
    return h.rdi & 0xff;
}

/* --- what root may be charged for, and how much of it are tables, which stay --- */
static u64 tables_below(u64 table, unsigned level, unsigned entries) {
    u64 n = 1;
    const u64 *t = arch_phys_ptr(PADDR(table));
    for (unsigned i = 0; level && i < entries; i++)
        if (t[i] && !(t[i] & 0x80))
            n += tables_below(t[i] & 0x000ffffffffff000ul, level - 1, 512);
    return n;
}

static u64 objtab_pages(const union objtab_page *page, unsigned level) {
    if (page == &objtab_empty[level])
        return 0;
    u64 n = 1;
    for (unsigned i = 0; level && i < 512; i++)
        n += objtab_pages(page->below[i], level - 1);
    return n;
}

static u64 table_pages(const struct pd *pd) {
    u64 n = pd->host.root.v ? tables_below(pd->host.root.v, 3, 256) : 0;
    n += pd->guest.root.v ? tables_below(pd->guest.root.v, 3, 512) : 0;
    n += pd->dma.root.v ? tables_below(pd->dma.root.v, 3, 512) : 0;
    n += objtab_pages(pd->objtab.root, 2);
    return n + (pd->pio_bitmap ? 2 : 0) + (pd->guest_pio_bitmap ? 4 : 0);
}

struct balance {
    u64 root, kernel, pages; /* bytes charged, and pages in use, but for root's tables */
};

static struct balance balance_now(void) {
    u64 out[2], tables = table_pages(root_pd);
    OK(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out));
    struct balance b = {.root = out[0] - tables * PAGE_SIZE, .kernel = kernel_account.used};
    OK(nova_extension(EXT_KMEM_FREE, 0, 0, out));
    b.pages = out[1] - out[0] - tables;
    return b;
}

static bool balance_equal(struct balance a, struct balance b) {
    return a.root == b.root && (pool_moved || (a.kernel == b.kernel && a.pages == b.pages));
}

/* --- taking back what a program and its harness have left in root's spaces --- */
static bool made[KEEP_END]; /* the manager's own: a program may have put something into the slots between them */

static bool keep(unsigned type, const struct node *n) {
    if (type == CRD_OBJ)
        return n->base < KEEP_END && made[n->base];
    return type == CRD_MEM && (n->tables & NODE_FIXED || n->base == PAGE_OF(ABI_ROOT_UTCB) ||
                               (n->base >= PAGE_OF(OWN_UTCB) && n->base < PAGE_OF(OWN_UTCB) + 3));
}

static u64 stray(unsigned type) {
    const struct node *n;
    for (u64 sel = 0; (n = sim_node_from(root_pd, type, sel)); sel = node_last(n) + 1)
        if (!keep(type, n))
            return CRD_MAKE(type, n->base, n->order, 0x1f);
    return 0;
}

static void clear_all(void) {
    u64 crd;
    for (unsigned type = CRD_MEM; type <= CRD_OBJ; type++)
        while ((crd = stray(type)))
            OK(nova_revoke(crd, true));
}

static void rest(u64 ticks) {
    u64 until = sim_clock() + ticks, status;
    while ((status = nova_sm_down(NEVER, false, until)) == NOVA_SUCCESS) /* a program did */
        ;
    sim_expect_eq(status, NOVA_TIMEOUT);
}

/* Takes everything back until the balance is as before, at most a few times: threads may make something while they are stopped. */
static struct balance settle(const struct balance *want) {
    struct balance now;
    for (unsigned i = 0; i < (want ? 6 : 2); i++) {
        clear_all();
        rest(20000);
        rest(20000);
        now = balance_now();
        if (want && balance_equal(now, *want))
            break;
    }
    return now;
}

static void machine_make(void) {
    harness_make();
    scratch_make();
}

/* More of each kind than any slab holds: afterwards every cache keeps one empty slab, and will again. */
static void caches_warm(void) {
    u64 utcb = REGION_VA + 128 * PAGE_SIZE;
    for (unsigned i = 0; i < 64; i++)
        OK(nova_create_sm(SCRATCH + i, SEL_PD, 0));
    OK(nova_revoke(crd_obj(SCRATCH, 6, 0x1f), true));
    for (unsigned i = 0; i < 28; i++) {
        OK(nova_create_ec(SCRATCH + i, SEL_PD, utcb + i * PAGE_SIZE, 0, 0, 0, false));
        OK(nova_create_ec(SCRATCH + 32 + i, SEL_PD, utcb + (32 + i) * PAGE_SIZE, 0, 0, 0, true));
        OK(nova_create_sc(SCRATCH + 64 + i, SEL_PD, SCRATCH + 32 + i, QPD_MAKE(1, 1000)));
        OK(nova_create_pd(SCRATCH + 96 + i, SEL_PD, 0));
        if (!prog->no_vm)
            OK(nova_create_ec(SCRATCH + 128 + i, SCRATCH + 96 + i, 0, 0, 0, 0, false));
    }
    for (unsigned i = 0; i < 48; i++)
        OK(nova_create_pt(SCRATCH + 160 + i, SEL_PD, SCRATCH, 0, (u64)portal_main));
}

static const struct program **next; /* outside of snapshots: what to run */

static void workers_run(void) {
    unsigned workers = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        workers += prog->count[i] != 0;
    for (unsigned i = 0; i < workers; i++)
        OK(nova_sm_up(GO));
    u64 deadline = sim_clock() + RUN_TICKS;
    while (workers && nova_sm_down(DONE, false, deadline) == NOVA_SUCCESS)
        workers--;
    rest(5000);
}

static void manager(u64 rdi) {
    (void)rdi;
    stopped = true; /* nobody does anything yet */
    grab_make();
    for (u64 sel = SEL_PD; sel < KEEP_END; sel++)
        made[sel] = (sel < SEL_PD + 3 || sel >= NEVER) && objtab_lookup(&root_pd->objtab, sel).obj;
    caches_warm();
    clear_all();
    machine_make();
    for (unsigned device = 0; device < 5; device += 4) /* the tables of a bus stay, too */
        OK(nova_assign_pci(SLOT(SLOT_PD, 1), CONFIG_VA + device * PAGE_SIZE, 0));
    struct balance before = settle(NULL);
    sim_begin();
    prog = *next;
    scripts_make();
    machine_make();
    stopped = false;
    budget = BUDGET;
    tally->programs++;
    scratch_start();
    workers_run();
    stopped = true;
    sim_fail_alloc(0);
    OK(nova_extension(EXT_KMEM_LIMIT, SEL_PD, 0, (u64[2]){0}));
    (void)nova_sm_down(DONE, true, 1); /* as they were: at zero */
    (void)nova_sm_down(GO, true, 1);
    struct balance after = settle(&before);
    sim_expect_eq(after.root, before.root);
    if (!pool_moved) {
        sim_expect_eq(after.kernel, before.kernel);
        sim_expect_eq(after.pages, before.pages);
    }
    sim_check();
    sim_done();
}

static void manager_startup(u64 pid) {
    (void)pid;
    struct abi_utcb *u = sim_mem_ptr(STARTUP_UTCB, true);
    u->state.rip = (u64)manager;
    u->state.mtd = MTD_RIP;
    for (;;)
        sim_hypercall(&(struct sim_hypercall){.rdi = HC_REPLY});
}

static void root_main(u64 cpu) {
    (void)cpu;
    OK(nova_create_sm(NEVER, SEL_PD, 0));
    OK(nova_create_sm(DONE, SEL_PD, 0));
    OK(nova_create_sm(GO, SEL_PD, 0));
    OK(nova_create_ec(STARTUP_EC, SEL_PD, STARTUP_UTCB, 0, 0, 0, false));
    OK(nova_create_pt(MANAGER_EVENTS + EVT_THREAD_STARTUP, SEL_PD, STARTUP_EC, 0, (u64)manager_startup));
    OK(nova_create_ec(MANAGER_EC, SEL_PD, OWN_UTCB, 0, 0, MANAGER_EVENTS, true));
    OK(nova_create_sc(MANAGER_SC, SEL_PD, MANAGER_EC, QPD_MAKE(127, 100000)));
    (void)nova_sm_down(NEVER, false, 0);
}

unsigned machine_kind(const struct program *p) {
    return (p->cpus - 1u) | p->no_vm << 2 | p->small_pool << 3 | p->intel << 4;
}

static struct sim_options options(const struct program *p) {
    return (struct sim_options){.cpus = p->cpus,
                                .seed = p->seed,
                                .root = root_main,
                                .setup = true,
                                .check_every = p->seed % 8 ? 1000 : 50, /* and at the end */
                                .steps = 3000000,
                                .no_svm = p->no_vm,
                                .vendor = p->intel ? SIM_INTEL : SIM_AMD,
                                .store_buffers = p->seed / 8 % 4 == 0,
                                .pool = p->small_pool ? SMALL_POOL : 0};
}

bool machine_boot(const struct program *p) {
    static struct program first; /* one of everything, for the warm-up */
    struct sim_options o = options(p);
    enum sim_result r;
    first = (struct program){.cpus = p->cpus, .no_vm = p->no_vm};
    for (unsigned i = 0; i < ACTORS; i++)
        first.count[i] = 1;
    prog = &first;
    next = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sim_engine_map();
    return next != MAP_FAILED && sim_boot(&o, &r);
}

enum sim_result machine_go(const struct program *slot) {
    struct sim_options o = options(slot);
    *next = slot;
    return sim_go(&o);
}
