#include "cpuid.h"

#include <string.h>

/* Facts: AMD APM vol. 3 appendix E, Intel SDM vol. 2 "CPUID"; paravirtual leaves: Linux documentation "KVM CPUID bits". */
#define BIT(n) (1u << (n))

enum { MAX_BASIC = 0xd };
#define MAX_EXT     0x80000008u
#define CR4_OSXSAVE (1ull << 18)
#define XCR0_OFFER  7ull /* x87, SSE, AVX */

#define L1_ECX                                                                                                         \
    (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) | BIT(26) |        \
     BIT(28) | BIT(29) | BIT(30))
#define L1_ECX_X2APIC   BIT(21)
#define L1_ECX_DEADLINE BIT(24)
#define L1_ECX_OSXSAVE  BIT(27)
#define L1_ECX_HYPER    BIT(31)
#define L1_EDX_HIDE     (BIT(18) | BIT(21) | BIT(22) | BIT(27) | BIT(28) | BIT(29) | BIT(30) | BIT(31))
#define L1_EDX_HTT      BIT(28)
/* FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS RDSEED ADX SMAP CLFLUSHOPT CLWB SHA */
#define L7_EBX                                                                                                         \
    (BIT(0) | BIT(3) | BIT(5) | BIT(7) | BIT(8) | BIT(9) | BIT(18) | BIT(19) | BIT(20) | BIT(23) | BIT(24) | BIT(29))
/* UMIP VAES VPCLMULQDQ; no 5-level paging: it only makes nested walks longer for memory sizes that we have */
#define L7_ECX (BIT(2) | BIT(9) | BIT(10))
#define L7_EDX BIT(4) /* fast short REP MOV */
/* LAHF AltMovCr8 ABM SSE4A MisAlignSse 3DNowPrefetch XOP FMA4 TBM; not SVM */
#define X1_ECX            (BIT(0) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(16) | BIT(21))
#define X1_ECX_CMP_LEGACY BIT(1)

/* no I/O delays, clock MSRs, end of interrupt without an exit, clock is stable */
#define KVM_FEATURES (BIT(1) | BIT(3) | BIT(6) | BIT(24))

static unsigned id_bits(unsigned n) {
    unsigned b = 0;

    while (1u << b < n)
        b++;
    return b;
}

static void leaf_1(const struct cpuid_config *c, unsigned cpu, uint64_t cr4, struct cpuid_regs *r) {
    r->ebx = (r->ebx & 0xff00) | cpu << 24 | c->cpus << 16;
    r->ecx = (r->ecx & L1_ECX) | L1_ECX_X2APIC | L1_ECX_DEADLINE | L1_ECX_HYPER;
    if (r->ecx & BIT(26) && cr4 & CR4_OSXSAVE)
        r->ecx |= L1_ECX_OSXSAVE;
    r->edx = (r->edx & ~L1_EDX_HIDE) | (c->cpus > 1 ? L1_EDX_HTT : 0);
}

static void leaf_b(const struct cpuid_config *c, unsigned cpu, uint32_t sub, struct cpuid_regs *r) {
    *r = (struct cpuid_regs){.ecx = sub & 0xff, .edx = cpu};
    if (sub == 0) {
        r->ebx = 1;
        r->ecx |= 1 << 8; /* thread level */
    } else if (sub == 1) {
        r->eax = id_bits(c->cpus);
        r->ebx = c->cpus;
        r->ecx |= 2 << 8; /* core level */
    }
}

static void leaf_d(const struct cpuid_config *c, uint32_t sub, struct cpuid_regs *r) {
    uint64_t mask = c->xcr0 & XCR0_OFFER;
    struct cpuid_regs avx = {0};

    if (sub == 0) {
        uint32_t size = 576; /* legacy area and header */
        if (mask & 4) {
            c->host(0xd, 2, &avx);
            size = avx.ebx + avx.eax;
        }
        *r = (struct cpuid_regs){.eax = (uint32_t)mask, .ebx = size, .ecx = size};
    } else if (sub == 1) {
        *r = (struct cpuid_regs){.eax = r->eax & (BIT(0) | BIT(2))}; /* XSAVEOPT, XGETBV with ECX 1 */
    } else if (sub > 2 || !(mask >> sub & 1)) {
        memset(r, 0, sizeof(*r));
    }
}

static void leaf_extended(const struct cpuid_config *c, uint32_t leaf, struct cpuid_regs *r) {
    switch (leaf) {
    case 0x80000000:
        if (r->eax > MAX_EXT)
            r->eax = MAX_EXT;
        break;
    case 0x80000001:
        r->ecx = (r->ecx & X1_ECX) | (c->cpus > 1 ? X1_ECX_CMP_LEGACY : 0);
        break;
    case 0x80000007:
        *r = (struct cpuid_regs){.edx = r->edx & BIT(8)}; /* invariant TSC if the host's is */
        break;
    case 0x80000008:
        *r = (struct cpuid_regs){.eax = (r->eax & 0xff) | 48 << 8, .ecx = id_bits(c->cpus) << 12 | (c->cpus - 1)};
        break;
    default:
        if (leaf > MAX_EXT)
            memset(r, 0, sizeof(*r));
    }
}

void cpuid_guest(const struct cpuid_config *c, unsigned cpu, uint64_t cr4, uint32_t leaf, uint32_t sub,
                 struct cpuid_regs *r) {
    if (leaf >> 16 == 0x4000) {
        memset(r, 0, sizeof(*r));
        if (leaf == 0x40000000)
            *r = (struct cpuid_regs){0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d}; /* "KVMKVMKVM" */
        else if (leaf == 0x40000001)
            r->eax = KVM_FEATURES;
        return;
    }
    c->host(leaf, sub, r);
    if (leaf >> 31) {
        leaf_extended(c, leaf, r);
        return;
    }
    switch (leaf) {
    case 0:
        if (r->eax > MAX_BASIC)
            r->eax = MAX_BASIC;
        break;
    case 1:
        leaf_1(c, cpu, cr4, r);
        break;
    case 2:
        break;
    case 6:
        *r = (struct cpuid_regs){.eax = BIT(2)}; /* the APIC timer always runs */
        break;
    case 7:
        *r = sub ? (struct cpuid_regs){0}
                 : (struct cpuid_regs){.ebx = r->ebx & L7_EBX, .ecx = r->ecx & L7_ECX, .edx = r->edx & L7_EDX};
        break;
    case 0xb:
        leaf_b(c, cpu, sub, r);
        break;
    case 0xd:
        leaf_d(c, sub, r);
        break;
    default:
        memset(r, 0, sizeof(*r));
    }
}
