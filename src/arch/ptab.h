/* One walker for every kind of page table: host, nested (NPT, EPT) and DMA, all four-level radix trees of 512 entries (DMA: or three).
 * Formats: Intel SDM vol 3 4.5 "4-level paging", 29.3.2 "EPT translation mechanism"; AMD APM vol 2 5.3, 15.25 "Nested Paging".
 * Pure functions over memory reached with arch_phys_ptr; table pages come from the account of the PD that owns the table.
 * Kinds: PTAB_HOST (user pages: P RW US NX), PTAB_NPT (like host with US always set; NX honoured), PTAB_EPT (R W X, memory type),
 * PTAB_DMA (VT-d second level: R W). */
#pragma once
#include "arch/types.h"
#include "core/status.h"

enum ptab_kind { PTAB_HOST, PTAB_NPT, PTAB_EPT, PTAB_DMA };
struct account;
struct page_list { /* table pages to be freed after the flush, linked through their first word (direct-map pointers) */
    void *head;
};
struct ptab {
    enum ptab_kind kind;
    paddr_t root; /* 0: not yet made; made by the first ptab_reserve */
    struct account *account;
};
extern unsigned ptab_max_leaf_order; /* 18 with 1 GiB pages, else 9: set at boot from CPUID 80000001h EDX[26] */
/* 4, or 3 where an IOMMU has 39-bit addresses: DMA tables hold no page from 2^(9 * levels) on. */
extern unsigned ptab_dma_levels;

/* The root table, so that a device can walk it. */
must_check enum abi_status ptab_root(struct ptab *t);
/* Makes every table page that mapping [vpn, vpn + 2^order) needs (naturally aligned); splits a large leaf that covers it partly
 * (same translation, finer). NOVA_SUCCESS or NOVA_BAD_MEM; what was made stays and is harmless. */
must_check enum abi_status ptab_reserve(struct ptab *t, u64 vpn, unsigned order);
/* Writes the leaves for [vpn, 2^order) -> [pfn, 2^order) with perm (PERM_MEM_*); perm without R writes not-present entries.
 * Never fails after ptab_reserve of the same range; large pages where they fit. Each store leaves a valid table. */
void ptab_map(struct ptab *t, u64 vpn, u64 pfn, unsigned order, unsigned perm);
/* Both at once, where nothing else has to be reserved first. */
must_check enum abi_status ptab_enter(struct ptab *t, u64 vpn, u64 pfn, unsigned order, unsigned perm);
/* Clears the leaves of the range, or reduces them to perm; whole table pages that became empty go to `freed`.
 * Returns true if anything that a TLB may hold was changed (a flush is due before `freed` is released). */
bool ptab_unmap(struct ptab *t, u64 vpn, unsigned order, unsigned keep_perm, struct page_list *freed);
/* Pure lookup. Returns false where nothing is mapped. */
bool ptab_lookup(const struct ptab *t, u64 vpn, u64 *pfn, unsigned *perm);
/* Frees all table pages below the user half; nothing may use the table any more. */
void ptab_free(struct ptab *t);
void ptab_pages_free(struct page_list *l, struct account *a);

/* From the backend (space of a PD on this machine): */
struct cpu;
struct pd;
/* Fills the kernel half of a fresh host root table. BAD_MEM if it cannot. */
must_check enum abi_status arch_space_init(struct pd *pd);
void arch_space_fini(struct pd *pd);
/* Makes pd's host table (and port bitmap) the active one of this CPU, c; a no-op if it is. Flushes what is not tagged. */
void arch_space_load(struct cpu *c, struct pd *pd);
/* Drops all host translations that this CPU holds for the active space. */
void arch_tlb_flush(void);
/* Ports [first, first + count) of the PD become usable or not. BAD_MEM: first use makes the bitmap. Revoking never fails. */
must_check enum abi_status arch_space_ports(struct pd *pd, unsigned first, unsigned count, bool allow);
