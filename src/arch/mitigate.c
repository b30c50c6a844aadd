#include "arch/mitigate.h"
#include "arch/insn.h"

#define MSR_SPEC_CTRL         0x48
#define MSR_PRED_CMD          0x49
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_FLUSH_CMD         0x10b
#define MSR_EFER              0xc0000080
#define SPEC_CTRL_IBRS        1
#define PRED_CMD_IBPB         1
#define FLUSH_CMD_L1D         1
#define EFER_AIBRSE           (1ul << 21)

/* IA32_ARCH_CAPABILITIES: what the CPU has not, and what VERW does beyond MD_CLEAR. */
#define RDCL_NO       (1ul << 0)
#define IBRS_ALL      (1ul << 1)
#define SKIP_L1DFL    (1ul << 3)
#define MDS_NO        (1ul << 5)
#define TAA_NO        (1ul << 8)
#define STALE_DATA_NO (7ul << 13) /* SBDR_SSDP_NO FBSDP_NO PSDP_NO */
#define FB_CLEAR      (1ul << 17)
#define RFDS_NO       (1ul << 27)
#define RFDS_CLEAR    (1ul << 28)

u32 mitigations;

static bool bit(u64 v, unsigned n) { return v >> n & 1; }

/* AMD and Hygon have neither Meltdown nor MDS, L1TF or LazyFP (AMD: "Speculative execution" security notices); whoever else does not deny
 * them has them. No bit denies LazyFP. */
static u32 choose(u32 max, u32 max_ext, bool amd) {
    struct cpuid_regs l7 = max >= 7 ? cpuid(7, 0) : (struct cpuid_regs){0};
    u32 e8 = max_ext >= 0x80000008 ? cpuid(0x80000008, 0).b : 0;
    struct cpuid_regs e21 = max_ext >= 0x80000021 ? cpuid(0x80000021, 0) : (struct cpuid_regs){0};
    u64 caps = !amd && bit(l7.d, 29) ? rdmsr(MSR_ARCH_CAPABILITIES) : 0;
    u32 m = MIT_RSB | (bit(l7.d, 26) || bit(e8, 12) ? MIT_IBPB : 0);
    m |= caps & IBRS_ALL ? MIT_IBRS : amd && bit(e21.a, 8) ? MIT_AUTO_IBRS : MIT_RETPOLINE;
    if (amd) /* TSA: VERW_CLEAR, and neither TSA_SQ_NO nor TSA_L1_NO makes it needless alone */
        return m | (bit(e21.a, 5) && (e21.c >> 1 & 3) != 3 ? MIT_VERW : 0);
    m |= MIT_EAGER_FPU | (caps & RDCL_NO ? 0 : MIT_ISOLATION);
    if (bit(l7.d, 28) && !(caps & (RDCL_NO | SKIP_L1DFL)))
        m |= MIT_L1D;
    bool mds = bit(l7.d, 10) && (!(caps & MDS_NO) || (bit(l7.b, 11) && !(caps & TAA_NO))); /* TAA: by TSX */
    bool stale = (caps & FB_CLEAR) && (caps & STALE_DATA_NO) != STALE_DATA_NO;
    return m | (mds || stale || ((caps & RFDS_CLEAR) && !(caps & RFDS_NO)) ? MIT_VERW : 0);
}

u32 mitigations_choose(enum mitigate_mode mode) {
    struct cpuid_regs vendor = cpuid(0, 0);
    bool amd = vendor.c == 0x444d4163 || vendor.c == 0x656e6967; /* "cAMD", Hygon's "uine" */
    if (mode == MITIGATE_OFF)
        return 0;
    return choose(vendor.a, cpuid(0x80000000, 0).a, amd) |
           (mode == MITIGATE_FORCE ? MIT_ISOLATION | MIT_RETPOLINE | MIT_RSB | MIT_VERW | MIT_EAGER_FPU : 0);
}

void mitigate_cpu_init(void) {
    if (mitigations & MIT_IBRS)
        wrmsr(MSR_SPEC_CTRL, SPEC_CTRL_IBRS);
    if (mitigations & MIT_AUTO_IBRS)
        wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_AIBRSE);
}

void mitigate_domain_switch(void) {
    if (mitigations & MIT_IBPB)
        wrmsr(MSR_PRED_CMD, PRED_CMD_IBPB);
    if (mitigations & MIT_RSB)
        rsb_fill();
}

void mitigate_guest_entry(void) {
    if (unlikely(mitigations & MIT_L1D))
        wrmsr(MSR_FLUSH_CMD, FLUSH_CMD_L1D);
}
