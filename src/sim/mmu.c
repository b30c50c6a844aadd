/* Memory of the simulator: the physical arena, the walk of the kernel's own page tables, a TLB that keeps what it has seen until it
 * is flushed, and the spaces of PDs on this machine. Intel SDM vol 3 4.5 "4-level paging", 4.7 "Page-fault exceptions". */
#include "arch/assert.h"
#include "arch/mem.h"
#include "arch/ptab.h"
#include "arch/space.h"
#include "core/kmem.h"
#include "core/pd.h"
#include "sim/check.h"
#include "sim/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define RUNNING_ON_VALGRIND              0
#define VALGRIND_MAKE_MEM_NOACCESS(p, n) 0
#define VALGRIND_MAKE_MEM_DEFINED(p, n)  0
#endif

#define PTE_P     1ul
#define PTE_RW    2ul
#define PTE_US    4ul
#define PTE_A     0x20ul
#define PTE_D     0x40ul
#define PTE_PS    0x80ul
#define PTE_NX    (1ul << 63)
#define PTE_ADDR  0x000ffffffffff000ul
#define PIO_BYTES 0x2000ul

#define MAX_PDS 4096
static struct pd *pds[MAX_PDS];
static unsigned pd_slots;

__attribute__((constructor)) static void arena_map(void) {
    int fixed = RUNNING_ON_VALGRIND ? MAP_FIXED : MAP_FIXED_NOREPLACE; /* Valgrind does not know the second one */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed;
    void *m = mmap((void *)SIM_ARENA_BASE, SIM_ARENA_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (m != (void *)SIM_ARENA_BASE) {
        perror("sim: physical memory");
        exit(2);
    }
}

/* A table is freed: no CPU may have it in its paging-structure caches, whatever it is doing (SDM vol 3 4.10.3): a walk that nobody sees
 * would set accessed bits in what it has become. */
static void tables_forgotten(const void *p, size_t size) {
    u64 first = arch_ptr_phys(p).v >> PAGE_SHIFT, end = first + (size >> PAGE_SHIFT);
    for (unsigned i = 0; i < sim_opt.cpus && !sim_opt.no_flush; i++)
        for (unsigned n = 0; n < SIM_TLB_SIZE; n++)
            for (unsigned level = 0; level < 3; level++) {
                const struct sim_tlb_entry *e = &sim_cpus[i].mach.tlb[n];
                assert(!e->page || e->tables[level] < first || e->tables[level] >= end);
            }
}

void arch_mem_poison(void *p, size_t size) {
    if (size >= PAGE_SIZE && sim_running)
        tables_forgotten(p, size);
#ifdef __SANITIZE_ADDRESS__
    sim_snapshot_touch(p, size);
    __asan_poison_memory_region(p, size);
#endif
    (void)VALGRIND_MAKE_MEM_NOACCESS(p, size);
    sim_alloc_off(p, size);
    sim_user_forget((char *)p - 8); /* the allocator keeps an object's first word for itself */
    TRACE(free, p, size);
    sim_vmx_forget(p, size);
}

void arch_mem_unpoison(void *p, size_t size) {
#ifdef __SANITIZE_ADDRESS__
    sim_snapshot_touch(p, size);
    __asan_unpoison_memory_region(p, size);
#endif
    (void)VALGRIND_MAKE_MEM_DEFINED(p, size);
    sim_alloc_on(p, size);
}

void *sim_phys(paddr_t pa) { return pa.v < sim_opt.ram ? arch_phys_ptr(pa) : NULL; }

void sim_tlb_flush(struct mach_cpu *m) {
    if (!sim_opt.no_flush)
        memset(m->tlb, 0, sizeof(m->tlb));
}

/* Fills *e from the tables at `root`. False where the walk ends early. Rights of all levels are intersected; accessed and dirty
 * bits are set as a processor does. */
static bool walk(u64 root, u64 page, unsigned access, struct sim_tlb_entry *e) {
    u64 table = root, all = PTE_RW | PTE_US, nx = 0;
    for (int level = 3; level >= 0; level--) {
        u64 *pte = (u64 *)arch_phys_ptr(PADDR(table)) + (page >> (9 * level) & 511);
        u64 v = __atomic_load_n(pte, __ATOMIC_RELAXED);
        if (!(v & PTE_P))
            return false;
        all &= v;
        nx |= v & PTE_NX;
        bool leaf = level == 0 || (level < 3 && (v & PTE_PS));
        if (leaf && !(all & PTE_US))
            return false;
        u64 set = PTE_A | (leaf && access == PERM_MEM_W && (all & PTE_RW) ? PTE_D : 0);
        if ((v & set) != set) {
            __atomic_fetch_or(pte, set, __ATOMIC_RELAXED);
            sim_hash_store(pte, v | set);
        }
        table = v & PTE_ADDR;
        if (!leaf) {
            e->tables[level - 1] = (u32)(table >> PAGE_SHIFT);
        } else {
            u64 mask = (1ul << (9 * level)) - 1;
            e->frame = ((table >> PAGE_SHIFT) & ~mask) | (page & mask);
            e->perm = PERM_MEM_R | (all & PTE_RW ? PERM_MEM_W : 0u) | (nx ? 0u : PERM_MEM_X);
            return true;
        }
    }
    return false;
}

static struct sim_tlb_entry *entry_of(struct mach_cpu *m, u64 page) {
    return &m->tlb[(page ^ page >> 6) % SIM_TLB_SIZE];
}

u64 sim_mmu_translate(struct cpu *c, u64 va, unsigned access, paddr_t *pa) {
    u64 page = va >> PAGE_SHIFT,
        fault = 1ul << 31 | 4 | (access == PERM_MEM_W ? 2 : 0) | (access == PERM_MEM_X ? 0x10 : 0);
    struct sim_tlb_entry *e = entry_of(&c->mach, page), fresh = {.page = page + 1};
    if (va >= 1ul << 47)
        return fault;
    if (e->page != page + 1 || !(e->perm & access)) { /* a fault drops the entry: SDM vol 3 4.10.4.1 */
        e->page = 0;
        if (!c->space->host.root.v || !walk(c->space->host.root.v, page, access, &fresh))
            return fault;
        *e = fresh;
        c->mach.guess = page + 1;
        if (!(e->perm & access))
            return fault | 1;
    }
    *pa = PADDR(e->frame << PAGE_SHIFT | (va & PAGE_MASK));
    return 0;
}

void arch_tlb_flush(void) {
    sim_point();
    sim_stores_done(); /* CR3 load */
    TRACE(flush, arch_cpu_self());
    sim_tlb_flush(&arch_cpu_self()->mach);
}

enum abi_status arch_space_init(struct pd *pd) {
    if (!pd->host.root.v) {
        void *root = kmem_pages_alloc(&pd->account, 0);
        if (!root)
            return NOVA_BAD_MEM;
        pd->host.root = arch_ptr_phys(root);
    }
    unsigned i = 0;
    while (i < pd_slots && pds[i])
        i++;
    if (i == MAX_PDS)
        return NOVA_BAD_MEM;
    pds[i] = pd;
    if (i == pd_slots)
        pd_slots++;
    return NOVA_SUCCESS;
}

void arch_space_fini(struct pd *pd) {
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        assert(sim_cpus[i].space != pd); /* its tables go now; ring 0 would have to walk them */
    for (unsigned i = 0; i < pd_slots; i++)
        if (pds[i] == pd)
            pds[i] = NULL;
    if (pd->pio_bitmap)
        kmem_pages_free(&pd->account, pd->pio_bitmap, 1);
    pd->pio_bitmap = NULL;
}

void sim_pds_each(void (*f)(struct pd *)) {
    for (unsigned i = 0; i < pd_slots; i++)
        if (pds[i])
            f(pds[i]);
}

/* A processor translates whenever it likes, also what no instruction asks for (SDM vol 3 4.10.2.3): here once, what was used last. */
static void speculate(struct mach_cpu *m, const struct pd *pd) {
    struct sim_tlb_entry fresh = {.page = m->guess};
    if (m->guess && pd->host.root.v && walk(pd->host.root.v, m->guess - 1, PERM_MEM_R, &fresh))
        *entry_of(m, m->guess - 1) = fresh;
}

u64 arch_space_root(const struct pd *pd) { return pd->host.root.v; }

void arch_space_load(struct cpu *c, struct pd *pd) {
    if (c->space == pd)
        return;
    atomic_store_rel(&c->space_next, pd);
    atomic_fence(); /* CR3 load: serializing */
    sim_tlb_flush(&c->mach);
    speculate(&c->mach, pd);
    atomic_store_rel(&c->space, pd);
}

enum abi_status arch_space_ports(struct pd *pd, unsigned first, unsigned count, bool allow) {
    if (!pd->pio_bitmap) {
        if (!allow)
            return NOVA_SUCCESS;
        pd->pio_bitmap = kmem_pages_alloc(&pd->account, 1);
        if (!pd->pio_bitmap)
            return NOVA_BAD_MEM;
        memset(pd->pio_bitmap, 0xff, PIO_BYTES);
    }
    u8 *bits = pd->pio_bitmap;
    for (unsigned p = first; p < first + count; p++)
        bits[p / 8] = (u8)(allow ? bits[p / 8] & ~(1u << p % 8) : bits[p / 8] | 1u << p % 8);
    return NOVA_SUCCESS;
}
