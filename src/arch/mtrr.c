#include "arch/mtrr.h"
#include "arch/insn.h"

enum { MTRR_CAP = 0xfe, MTRR_VARIABLE = 0x200, MTRR_FIXED_64K = 0x250, MTRR_DEFAULT = 0x2ff };
#define LOW_MIB         (1ul << 20)
#define ENABLED         (1ul << 11)
#define FIXED_ENABLED   (1ul << 10)
#define VARIABLE_MAX    16
#define FIXED_REGISTERS 11

static struct {
    u64 base, mask; /* an address matches if (address & mask) == base */
    u8 type;
} variable[VARIABLE_MAX];
static unsigned variable_count;
static u8 fixed[FIXED_REGISTERS * 8]; /* 8 of 64 KiB, 16 of 16 KiB, 64 of 4 KiB */
static bool fixed_used;
static unsigned default_type = MEM_WB;

void mtrr_read(unsigned phys_bits) {
    static const u16 fixed_msr[FIXED_REGISTERS] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a,
                                                   0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
    if (!(cpuid(1, 0).d >> 12 & 1))
        return;
    u64 def = rdmsr(MTRR_DEFAULT), pages = ((1ul << phys_bits) - 1) & ~PAGE_MASK;
    default_type = def & ENABLED ? def & 0xff : MEM_UC;
    fixed_used = (def & ENABLED) && (def & FIXED_ENABLED) && (rdmsr(MTRR_CAP) >> 8 & 1);
    unsigned count = (unsigned)min_u64(rdmsr(MTRR_CAP) & 0xff, VARIABLE_MAX);
    for (unsigned i = variable_count = 0; i < count && (def & ENABLED); i++) {
        u64 base = rdmsr(MTRR_VARIABLE + 2 * i), mask = rdmsr(MTRR_VARIABLE + 2 * i + 1);
        if (mask & ENABLED)
            variable[variable_count++] = (typeof(variable[0])){base & mask & pages, mask & pages, (u8)base};
    }
    for (unsigned i = 0; i < FIXED_REGISTERS * 8 && fixed_used; i++)
        fixed[i] = (u8)(rdmsr(fixed_msr[i / 8]) >> i % 8 * 8);
}

static unsigned fixed_type(u64 base) {
    return fixed[base < 0x80000   ? base >> 16
                 : base < 0xc0000 ? 8 + ((base - 0x80000) >> 14)
                                  : 24 + ((base - 0xc0000) >> 12)];
}

/* 11.11.4.1: uncached wins, then write-through over write-back; other mixtures are undefined. NONE: no register says anything. */
#define NONE ~0u
static unsigned combine(unsigned a, unsigned b) {
    bool through = (a == MEM_WT && b == MEM_WB) || (a == MEM_WB && b == MEM_WT);
    return a == NONE || a == b ? b : through ? MEM_WT : MEM_UC;
}

unsigned mtrr_type(u64 base, u64 size) {
    unsigned whole = NONE, part = NONE;
    if (fixed_used && base < LOW_MIB)
        return size > PAGE_SIZE ? MEM_UC : fixed_type(base);
    for (unsigned i = 0; i < variable_count; i++) {
        u64 mask = variable[i].mask & ~(size - 1);
        unsigned *which = mask == variable[i].mask ? &whole : &part; /* of the range match, if they do */
        if ((base & mask) == (variable[i].base & mask))
            *which = combine(*which, variable[i].type);
    }
    unsigned type = whole == NONE ? default_type : whole;
    return part == NONE || combine(whole, part) == type ? type : MEM_UC;
}
