/* Kernel memory that an object or a mapped GiB needs: what root's account is charged, and what leaves the pool. Everything is made in a PD
 * that has something of the kind already, so that the first one's tables do not count. */
#include "bench.h"

#define OBJECTS  64u
#define GIB_PAGE 0x4000000ul    /* a GiB of physical addresses without memory: H gives device addresses too */
#define GIB_VA   0x1000000000ul /* where it goes, aligned to a GiB */
#define GIB_PART (GIB_VA >> 12)

static struct thread server;
static sel_t first;

static void local_thread(unsigned i) {
    CHECK_EQ(nova_create_ec(first + i, SEL_PD, utcb_new(), abi_cpu[0], 0, 0, false), NOVA_SUCCESS);
}
static void vcpu(unsigned i) { CHECK_EQ(nova_create_ec(first + i, SEL_PD, 0, abi_cpu[0], 0, 0, true), NOVA_SUCCESS); }
static void portal(unsigned i) {
    if (i == 0)
        thread_local(&server, SEL_PD, 0);
    CHECK_EQ(nova_create_pt(first + i, SEL_PD, server.ec, 0, abi_exit_ip()), NOVA_SUCCESS);
}
static void semaphore(unsigned i) { CHECK_EQ(nova_create_sm(first + i, SEL_PD, 0), NOVA_SUCCESS); }
static void domain(unsigned i) { CHECK_EQ(nova_create_pd(first + i, SEL_PD, 0), NOVA_SUCCESS); }
static void map(unsigned i, unsigned order) {
    u64 part = (u64)i << order, to = crd_mem(GIB_PART + part, order, PERM_MEM_R | PERM_MEM_W);
    CHECK_EQ(grab(crd_mem(GIB_PAGE + part, order, PERM_MEM_R | PERM_MEM_W), GIB_PART + part, ITEM_H, to), to);
}
static void map_4k(unsigned i) { map(i, 0); }
static void map_64k(unsigned i) { map(i, 4); }
static void map_2m(unsigned i) { map(i, 9); }
static void map_1g(unsigned i) { map(i, 18); }

static const struct {
    const char *name;
    void (*make)(unsigned i);
    unsigned count, whole; /* how many are made (one more before), what is told: of `whole` */
    u32 features;
} rows[] = {{"pd", domain, OBJECTS, 1, 0},
            {"thread", local_thread, OBJECTS, 1, 0},
            {"vcpu", vcpu, OBJECTS, 1, HIP_SVM | HIP_VMX},
            {"portal", portal, OBJECTS, 1, 0},
            {"semaphore", semaphore, OBJECTS, 1, 0},
            {"gib_4k", map_4k, 0x2000, 0x40000, 0},
            {"gib_64k", map_64k, 0x200, 0x4000, 0},
            {"gib_2m", map_2m, 511, 512, 0},
            {"gib_1g", map_1g, 0, 1, 0}};

static u64 charged(void) {
    u64 out[2] = {0, 0};
    CHECK_EQ(nova_extension(EXT_KMEM_USAGE, SEL_PD, 0, out), NOVA_SUCCESS);
    return out[0];
}
static u64 taken(void) {
    u64 out[2] = {0, 0};
    CHECK_EQ(nova_extension(EXT_KMEM_FREE, 0, 0, out), NOVA_SUCCESS);
    return (out[1] - out[0]) * PAGE;
}

void bench_memory(u32 features) {
    for (unsigned r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        struct line l = {.n = 0};
        if (rows[r].features && !(rows[r].features & features))
            continue;
        abi_case_begin();
        first = sels_new(7);
        u64 from = charged(), pool = taken(), n = rows[r].count ? rows[r].count : 1;
        if (rows[r].count) {
            rows[r].make(0);
            from = charged(), pool = taken();
        }
        for (unsigned i = 0; i < n; i++)
            rows[r].make(rows[r].count ? i + 1 : 0);
        line_text(&l, "memory: ");
        line_text(&l, rows[r].name);
        line_text(&l, " ");
        line_number(&l, (charged() - from) * rows[r].whole / n, 10);
        line_text(&l, " ");
        line_number(&l, (taken() - pool) * rows[r].whole / n, 10);
        line_text(&l, "\n");
        CHECK_EQ(nova_revoke(crd_mem(GIB_PART, 18, PERM_MEM_ALL), true), NOVA_SUCCESS);
        abi_case_end();
        if (abi_failed())
            abi_report(0, rows[r].name);
        else
            machine_out(l.text);
    }
}
