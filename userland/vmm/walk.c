#include "walk.h"

#include "mem.h"

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };
#define PTE_NX     (1ull << 63)
#define PTE_ADDR64 0x000ffffffffff000ull
#define CR0_WP     (1ull << 16)
#define CR0_PG     (1ull << 31)
#define CR4_PSE    (1ull << 4)
#define CR4_PAE    (1ull << 5)
#define CR4_LA57   (1ull << 12)
#define EFER_LMA   (1ull << 10)
#define EFER_NXE   (1ull << 11)

struct walk_mode {
    unsigned levels;
    unsigned entry_size;
    unsigned index_bits;
    bool nx;
};

static struct walk_mode mode_of(const struct abi_state *s) {
    struct walk_mode m = {.levels = 2, .entry_size = 4, .index_bits = 10};

    if (s->cr4 & CR4_PAE) {
        m.levels = !(s->efer & EFER_LMA) ? 3 : s->cr4 & CR4_LA57 ? 5 : 4;
        m.entry_size = 8;
        m.index_bits = 9;
        m.nx = s->efer & EFER_NXE;
    }
    return m;
}

static uint64_t entry_read(const uint8_t *p, unsigned size) { return size == 8 ? mem_read64(p) : mem_read32(p); }

/* The bits are set with an atomic or: another guest CPU may change the entry. */
static void entry_mark(uint8_t *p, uint8_t bits) {
    if ((mem_read8(p) & bits) != bits)
        __atomic_fetch_or(p, bits, __ATOMIC_RELAXED);
}

static bool is_leaf(const struct abi_state *s, unsigned level, unsigned levels, uint64_t pte) {
    if (level == 1)
        return true;
    if (!(pte & PTE_PS) || level > 3 || (levels == 3 && level == 3))
        return false;
    return levels > 2 || s->cr4 & CR4_PSE;
}

static uint64_t leaf_addr(const struct walk_mode *m, unsigned shift, uint64_t pte, uint64_t gva) {
    uint64_t mask = (1ull << shift) - 1;

    if (m->entry_size == 4 && shift == 22) /* PSE-36: bits 13-20 hold address bits 32-39 */
        return (pte & 0xffc00000) | (pte >> 13 & 0xff) << 32 | (gva & mask);
    return (pte & (m->entry_size == 8 ? PTE_ADDR64 : 0xfffff000) & ~mask) | (gva & mask);
}

static bool allowed(const struct abi_state *s, const struct walk_mode *m, uint64_t rights, bool nx, unsigned access) {
    if (access & WALK_USER && !(rights & PTE_U))
        return false;
    if (access & WALK_WRITE && !(rights & PTE_W) && (access & WALK_USER || s->cr0 & CR0_WP))
        return false;
    return !(access & WALK_FETCH && m->nx && nx);
}

bool walk_gva(const struct gmem *g, const struct abi_state *s, uint64_t gva, unsigned access, uint64_t *gpa,
              uint32_t *error) {
    struct walk_mode m = mode_of(s);
    uint64_t rights = PTE_W | PTE_U;
    bool nx = false;

    if (!(s->cr0 & CR0_PG)) {
        *gpa = gva & 0xffffffff;
        return true;
    }
    if (!(s->efer & EFER_LMA))
        gva &= 0xffffffff;
    uint64_t table = s->cr3 & (m.levels == 3 ? 0xffffffe0 : m.levels == 2 ? 0xfffff000 : PTE_ADDR64);

    *error = access;
    for (unsigned level = m.levels; level >= 1; level--) {
        unsigned shift = 12 + (level - 1) * m.index_bits;
        uint64_t index = gva >> shift & ((1u << m.index_bits) - 1);
        uint8_t *p = gmem_ptr(g, table + index * m.entry_size, m.entry_size);
        if (!p)
            return false;
        uint64_t pte = entry_read(p, m.entry_size);
        if (!(pte & PTE_P))
            return false;
        if (!(m.levels == 3 && level == 3)) { /* PDPTEs of PAE paging have no rights and no accessed bit */
            rights &= pte;
            nx |= (pte & PTE_NX) != 0;
        }
        if (is_leaf(s, level, m.levels, pte)) {
            *error |= PTE_P;
            if (!allowed(s, &m, rights, nx, access))
                return false;
            entry_mark(p, access & WALK_WRITE ? PTE_A | PTE_D : PTE_A);
            *gpa = leaf_addr(&m, shift, pte, gva);
            return true;
        }
        if (!(m.levels == 3 && level == 3))
            entry_mark(p, PTE_A);
        table = pte & (m.entry_size == 8 ? PTE_ADDR64 : 0xfffff000);
    }
    return false;
}
