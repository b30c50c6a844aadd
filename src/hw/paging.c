/* The kernel half of every address space (layout.h) and arch_space_*. W^X: image text is RX, its constants R, all else NX; the direct map
 * is NX, its alias of text and constants read-only. SDM vol 3 4.5 "4-level paging". */
#include "arch/assert.h"
#include "arch/mitigate.h"
#include "arch/space.h"
#include "hw/hw.h"
#include "hw/layout.h"
#include <mach/insn.h>

enum { P = 1, RW = 2, UC = 0x18 /* PCD PWT: strong uncached by the reset PAT */, PS = 0x80, G = 0x100 };
#define NX      (1ul << 63)
#define SIZE_2M (1ul << 21)
#define SIZE_1G (1ul << 30)
#define ADDR    0xffffffffff000ul

typedef u64 table[512] __attribute__((aligned(4096)));
static table pml4, tss_pdpt, tss_pd, tss_pt, stack_pt[2];
static u8 ones_page[PAGE_SIZE] __attribute__((aligned(4096)));
static u64 *user_pml4;                  /* its upper half is that of every PD's table */
static u64 *boot_pages, boot_pages_end; /* page frames for tables, before kmem */
extern const char boot_pml4[];          /* physical, as linked */

static u64 image_phys(const void *p) { return (u64)p - KERNEL_VIRT + hw_image_moved; }
u64 paging_root(void) { return image_phys(pml4); }

static u64 *boot_table(void) {
    if (*boot_pages >= boot_pages_end)
        hw_stop("out of memory for the kernel's page tables");
    u64 *t = arch_phys_ptr(PADDR(*boot_pages));
    *boot_pages += PAGE_SIZE;
    return memset(t, 0, PAGE_SIZE);
}

static u64 *next_table(u64 *t, unsigned index) {
    if (!(t[index] & P))
        t[index] = arch_ptr_phys(boot_table()).v | P | RW;
    return arch_phys_ptr(PADDR(t[index] & ADDR));
}

/* The entry of one page; its tables are made. */
static u64 *page_entry(u64 *root, u64 va) {
    u64 *pdpt = next_table(root, va >> 39 & 511), *pd = next_table(pdpt, va >> 30 & 511);
    return &next_table(pd, va >> 21 & 511)[va >> 12 & 511];
}

/* Bytes of [base, base + size) that behave as memory. */
static u64 memory_bytes(u64 base, u64 size) {
    u64 sum = 0;
    for (unsigned i = 0; i < hw_ranges.count; i++) {
        const struct boot_range *r = &hw_ranges.r[i];
        u64 from = max_u64(base, r->base), to = min_u64(base + size, r->base + r->size);
        if (from < to && r->type != HIP_MEM_RESERVED)
            sum += to - from;
    }
    return sum;
}

static bool meets_image(u64 base, u64 size) {
    return base < image_phys(image_end) && image_phys(image_text) < base + size;
}

/* The 2 MiB that hold kernel text: page by page, so that it cannot be written through the alias. */
static void direct_map_image(u64 *pd, u64 base) {
    u64 *pt = next_table(pd, base >> 21 & 511);
    for (u64 a = base; a < base + SIZE_2M; a += PAGE_SIZE) {
        bool constant = a >= image_phys(image_text) && a < image_phys(image_data);
        pt[a >> 12 & 511] = a | P | G | NX | (constant ? 0 : RW) | (memory_bytes(a, PAGE_SIZE) ? 0 : UC);
    }
}

static void direct_map_1g(u64 *pdpt, u64 base) {
    if (hw_features.page_1g && memory_bytes(base, SIZE_1G) == SIZE_1G && !meets_image(base, SIZE_1G)) {
        pdpt[base >> 30 & 511] = base | P | RW | PS | G | NX;
        return;
    }
    u64 *pd = next_table(pdpt, base >> 30 & 511);
    for (u64 a = base; a < base + SIZE_1G; a += SIZE_2M) {
        u64 memory = memory_bytes(a, SIZE_2M);
        if (meets_image(a, SIZE_2M))
            direct_map_image(pd, a);
        else if (memory || a < 1ul << 32)
            pd[a >> 21 & 511] = a | P | RW | PS | G | NX | (memory ? 0 : UC);
    }
}

static void direct_map(void) {
    u64 end = 1ul << 32;
    for (unsigned i = 0; i < hw_ranges.count; i++)
        if (hw_ranges.r[i].type != HIP_MEM_RESERVED)
            end = max_u64(end, hw_ranges.r[i].base + hw_ranges.r[i].size);
    end = min_u64(end, (u64)(SLOT_TSS - SLOT_DIRECT) << 39);
    for (u64 base = 0; base < end; base += SIZE_1G)
        if (base < 1ul << 32 || memory_bytes(base, SIZE_1G))
            direct_map_1g(next_table(pml4, SLOT_DIRECT + (base >> 39)), base);
}

static void image_map(void) {
    for (const char *va = image_text; va < image_end; va += PAGE_SIZE) {
        u64 rights = va < image_rodata ? 0 : va < image_data ? NX : NX | RW;
        *page_entry(pml4, (u64)va) = image_phys(va) | P | G | rights;
    }
}

/* The kernel half of threads under isolation (layout.h). Nothing is global then: what the kernel has used must not stay in the TLB. */
static void isolated_map(void) {
    user_pml4 = boot_table();
    for (unsigned i = 0; i < 2; i++)
        page_entry(user_pml4, STACK_AREA + i * SIZE_2M); /* paging_cpu_init fills them */
    next_table(next_table(user_pml4, SLOT_TSS), 0)[0] = image_phys(tss_pt) | P | RW;
    for (const char *va = image_text; va < image_entry_end; va += PAGE_SIZE)
        *page_entry(user_pml4, (u64)va) = image_phys(va) | P;
    *page_entry(user_pml4, (u64)hw_idt) = image_phys(hw_idt) | P | NX;
}

void paging_init(u64 *pages, u64 pages_end) {
    boot_pages = pages;
    boot_pages_end = pages_end;
    direct_map();
    image_map();
    memset(ones_page, 0xff, PAGE_SIZE);
    pml4[SLOT_TSS] = image_phys(tss_pdpt) | P | RW;
    tss_pdpt[0] = image_phys(tss_pd) | P | RW;
    tss_pd[0] = image_phys(tss_pt) | P | RW;
    for (unsigned i = 0; i < 2; i++)
        tss_pd[1 + i] = image_phys(stack_pt[i]) | P | RW;
    user_pml4 = pml4;
    if (mitigations & MIT_ISOLATION)
        isolated_map();
    hw_kernel_root = paging_root();
    alternatives_apply();
    paging_identity(true); /* other CPUs start in it */
    cr3_write(paging_root());
}

void paging_identity(bool on) {
    pml4[0] = on ? *(const u64 *)arch_phys_ptr(PADDR((u64)boot_pml4 + hw_image_moved)) : 0;
    cr3_write(cr3_read());
}

/* Pages of a CPU's 64 KiB stack slot: guards at 0, 5, 7, ...; kernel stack 1-4, exception stacks 6, 8, 10, 12. */
bool paging_cpu_init(struct cpu *c) {
    _Static_assert(ABI_MAX_CPUS * 16 <= 2 * 512 && ABI_MAX_CPUS * 4 <= 512, "TSS and stack tables");
    void *tss = kmem_pages_alloc(&kernel_account, 0), *stack = kmem_pages_alloc(&kernel_account, 2);
    void *ist = kmem_pages_alloc(&kernel_account, 2);
    if (!tss || !stack || !ist)
        return false;
    u64 *t = &tss_pt[c->id * 4];
    t[0] = arch_ptr_phys(tss).v | P | RW | NX;
    for (unsigned i = 1; i < 4; i++)
        t[i] = image_phys(ones_page) | P | NX;
    u64 *s = &stack_pt[0][c->id * 16];
    for (unsigned i = 0; i < 4; i++) {
        s[1 + i] = (arch_ptr_phys(stack).v + i * PAGE_SIZE) | P | RW | NX;
        s[6 + 2 * i] = (arch_ptr_phys(ist).v + i * PAGE_SIZE) | P | RW | NX;
        if (mitigations & MIT_ISOLATION)
            *page_entry(user_pml4, STACK_AREA + (c->id * 16 + 6 + 2 * i) * PAGE_SIZE) = s[6 + 2 * i];
        *(u64 *)((char *)ist + i * PAGE_SIZE + IST_CPU_OFFSET) = TSS_AREA + c->id * 4 * PAGE_SIZE + ENTRY_OFFSET;
    }
    c->mach.area = tss;
    c->mach.area->entry.self = c;
    c->mach.area->entry.stack_top = STACK_AREA + c->id * 16 * PAGE_SIZE + 5 * PAGE_SIZE;
    return true;
}

enum abi_status arch_space_init(struct pd *pd) {
    if (pd == &kernel_pd) {
        pd->host.root = PADDR(paging_root());
        return NOVA_SUCCESS;
    }
    u64 *root = pd->host.root.v ? arch_phys_ptr(pd->host.root) : kmem_pages_alloc(&pd->account, 0);
    if (!root)
        return NOVA_BAD_MEM;
    memcpy(root + 256, user_pml4 + 256, 256 * sizeof(u64));
    pd->host.root = arch_ptr_phys(root);
    return NOVA_SUCCESS;
}

/* A PD's own slot 510: three tables, then the bitmap's two pages. */
struct pio_area {
    table pdpt, pd, pt;
    u8 bitmap[2 * PAGE_SIZE];
};
#define PIO_ORDER 3 /* 5 pages of 8 */
static struct pio_area *pio_area_of(struct pd *pd) { return container_of(pd->pio_bitmap, struct pio_area, bitmap); }

void arch_space_fini(struct pd *pd) {
    if (pd->pio_bitmap)
        kmem_pages_free(&pd->account, pio_area_of(pd), PIO_ORDER);
    pd->pio_bitmap = NULL;
}

static bool pio_make(struct pd *pd) {
    struct pio_area *a = kmem_pages_alloc(&pd->account, PIO_ORDER);
    if (!a)
        return false;
    memset(a->bitmap, 0xff, sizeof(a->bitmap));
    a->pdpt[0] = arch_ptr_phys(a->pd).v | P | RW;
    memcpy(a->pd, next_table(next_table(user_pml4, SLOT_TSS), 0), sizeof(a->pd));
    a->pd[0] = arch_ptr_phys(a->pt).v | P | RW;
    memcpy(a->pt, tss_pt, sizeof(tss_pt));
    for (unsigned i = 0; i < ABI_MAX_CPUS; i++)
        for (unsigned page = 0; page < 2; page++)
            a->pt[i * 4 + 1 + page] = (arch_ptr_phys(a->bitmap).v + page * PAGE_SIZE) | P | NX;
    u64 *root = arch_phys_ptr(pd->host.root);
    atomic_store_rel(&root[SLOT_TSS], arch_ptr_phys(a->pdpt).v | P | RW);
    atomic_store_rel(&pd->pio_bitmap, a->bitmap);
    return true;
}

/* Called under the space's lock. Other CPUs may still know the page of ones when a PD gets its first port: the #GP that they raise then
 * reloads (trap.c). Later changes are changes of memory behind a translation that stays. */
enum abi_status arch_space_ports(struct pd *pd, unsigned first, unsigned count, bool allow) {
    if (!pd->pio_bitmap) {
        if (!allow)
            return NOVA_SUCCESS;
        if (!pio_make(pd))
            return NOVA_BAD_MEM;
        if (arch_cpu_self()->space == pd) {
            arch_cpu_self()->mach.pio_seen = pd->pio_bitmap;
            arch_tlb_flush();
        }
    }
    u8 *map = pd->pio_bitmap;
    assert(first + count <= 65536);
    for (unsigned p = first; p < first + count;) {
        if (!(p & 7) && first + count - p >= 8) {
            map[p / 8] = allow ? 0 : 0xff;
            p += 8;
        } else {
            map[p / 8] = (u8)(allow ? map[p / 8] & ~(1u << (p & 7)) : map[p / 8] | 1u << (p & 7));
            p++;
        }
    }
    return NOVA_SUCCESS;
}

void arch_space_user_root(struct cpu *c, u64 root) { c->mach.area->entry.user_root = root; }

void arch_space_load(struct cpu *c, struct pd *pd) {
    if (c->space != pd)
        arch_space_switch(c, pd, mitigations & MIT_ISOLATION);
}

void arch_tlb_flush(void) { cr3_write(cr3_read()); }
