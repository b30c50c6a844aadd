/* Single instructions of a fictitious AMD or Intel processor: CPUID, MSRs, control and debug registers. */
#include "arch/insn.h"
#include "arch/assert.h"
#include "arch/mitigate.h"
#include "sim/internal.h"
#include "sim/vmcs.h"

const u64 sim_syscall_msrs[4] = {0x1b000800000000, 0xffffffff80101000, 0xffffffff80102000, 0x257fd5};
static u64 dr[ABI_MAX_CPUS][8];

/* SDM vol 2 "CPUID". */
static struct cpuid_regs cpuid_intel(u32 leaf, u32 sub) {
    u32 vmx = sim_opt.no_svm ? 0 : 1u << 5;
    switch (leaf) {
    case 0:
        return (struct cpuid_regs){0xd, 0x756e6547, 0x6c65746e, 0x49656e69}; /* GenuineIntel */
    case 1:
        return (struct cpuid_regs){0x00050654, 0, vmx | 1u << 26 | 1u << 27 | 1u << 21, 0x1783fbff};
    case 0xd:
        return (struct cpuid_regs){sub ? 0 : 7, 576, 576, 0};
    case 0x80000000:
        return (struct cpuid_regs){0x80000008, 0, 0, 0};
    case 0x80000001:
        return (struct cpuid_regs){0, 0, 1, 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29};
    case 0x80000008:
        return (struct cpuid_regs){40 | 48 << 8, 0, 0, 0};
    default:
        return (struct cpuid_regs){0, 0, 0, 0};
    }
}

/* AMD APM vol 3 appendix E "Obtaining Processor Information Via the CPUID Instruction". */
struct cpuid_regs cpuid(u32 leaf, u32 sub) {
    u32 svm = sim_opt.no_svm ? 0 : 1u << 2;
    if (sim_is_intel())
        return cpuid_intel(leaf, sub);
    switch (leaf) {
    case 0:
        return (struct cpuid_regs){0xd, 0x68747541, 0x444d4163, 0x69746e65}; /* AuthenticAMD */
    case 1:
        return (struct cpuid_regs){0x00a20f10, 0, 1u << 26 | 1u << 27 | 1u << 21, 0x1780bfff};
    case 0xd:
        return (struct cpuid_regs){sub ? 0 : 7, 576, 576, 0};
    case 0x80000000:
        return (struct cpuid_regs){0x8000000a, 0, 0, 0};
    case 0x80000001:
        return (struct cpuid_regs){0, 0, svm | 1, 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29};
    case 0x80000008:
        return (struct cpuid_regs){40 | 48 << 8, 0, 0, 0};
    case 0x8000000a: /* revision 1, 8 ASIDs so that they run out often, NPT, NRIP save, FlushByAsid */
        return (struct cpuid_regs){1, 8, 0, 1u << 0 | 1u << 3 | 1u << 6};
    default:
        return (struct cpuid_regs){0, 0, 0, 0};
    }
}

static u64 *sim_msr(u32 msr) {
    struct mach_cpu *m = &arch_cpu_self()->mach;
    static u64 zero, pat = 0x0007040600070406;
    if (sim_is_intel() && sim_vmx_capability(msr) != ~0ul) {
        zero = sim_vmx_capability(msr);
        return &zero;
    }
    switch (msr) {
    case 0x3a:
        return &m->feature_control;
    case 0xfe: /* MTRRcap: fixed, 2 variable: all is write-back but A0000h to FFFFFh and the last GiB below 4 GiB */
    case 0x2ff:
    case 0x200:
    case 0x201:
    case 0x202:
    case 0x203:
        zero = msr == 0xfe ? 0x102 : msr == 0x2ff ? 0xc06 : msr == 0x200 ? 0xc0000000 : msr == 0x201 ? 0xffc0000800 : 0;
        return &zero;
    case 0x250: /* 64 KiB each; then 16 KiB and 4 KiB */
    case 0x258:
        zero = 0x0606060606060606;
        return &zero;
    case 0x259:
    case 0x268:
    case 0x269:
    case 0x26a:
    case 0x26b:
    case 0x26c:
    case 0x26d:
    case 0x26e:
    case 0x26f:
        zero = 0;
        return &zero;
    case 0x277:
        return &pat;
    case 0xc0000080:
        return &m->efer;
    case 0xc0000081: /* STAR LSTAR CSTAR FMASK */
    case 0xc0000082:
    case 0xc0000083:
    case 0xc0000084:
        return &m->syscall_msr[msr - 0xc0000081];
    case 0xc0000102:
        return &m->gs_base; /* the thread's, while the kernel runs */
    case 0xc0010117:
        return &m->vm_hsave;
    case 0xc0000103:
        return &m->tsc_aux;
    case 0xc0010114: /* VM_CR: SVM not disabled */
    case 0xc0010015: /* HWCR */
    case 0x179:      /* MCG_CAP: no banks */
    case 0x17a:      /* MCG_STATUS */
    case 0xda0:
    case 0x48:  /* SPEC_CTRL */
    case 0x49:  /* PRED_CMD */
    case 0x10b: /* FLUSH_CMD */
        zero = 0;
        return &zero;
    default:
        arch_panic("access to an MSR that this CPU does not have", __FILE__, __LINE__);
    }
}
u64 rdmsr(u32 msr) { return *sim_msr(msr); }
void wrmsr(u32 msr, u64 v) { /* serializing, those that there are: SDM vol 3 9.3, APM vol 2 7.6.4 */
    struct mach_cpu *m = &arch_cpu_self()->mach;
    sim_stores_done();
    *sim_msr(msr) = v;
    if (msr == 0x49 && v == 1)
        m->branches = NULL;
    m->l1d_clean = msr == 0x10b && v == 1;
}
u64 rdtsc(void) { return sim_now; }
void rsb_fill(void) { arch_cpu_self()->mach.returns = NULL; }

void sim_speculate(struct cpu *c) {
    struct mach_cpu *m = &c->mach;
    if (!mitigations)
        return;
    struct pd *pd = c->ec->pd;
    assert(!(mitigations & MIT_IBPB) || !m->branches || m->branches == pd);
    assert(!(mitigations & MIT_RSB) || !m->returns || m->returns == pd);
    assert(!(mitigations & MIT_L1D) || c->ec->kind != EC_VCPU || m->l1d_clean);
    assert(!(mitigations & MIT_EAGER_FPU) || c->fpu_owner == c->ec); /* a guest has its own CR0 */
    assert(!(mitigations & MIT_EAGER_FPU) || c->ec->kind == EC_VCPU || !m->fpu_disabled);
    m->branches = m->returns = pd;
    m->l1d_clean = false;
}

u64 xgetbv(u32 reg) {
    assert(reg == 0);
    return arch_cpu_self()->mach.xcr0;
}

void xsetbv(u32 reg, u64 v) {
    assert(reg == 0 && (v & 1) && !(v & ~7ul) && (v & 6) != 4); /* else #GP in ring 0 */
    arch_cpu_self()->mach.xcr0 = v;
}

u64 cr0_read(void) { return 0x80010033 | (arch_cpu_self()->mach.fpu_disabled ? 8 : 0); }
u64 cr2_read(void) { return arch_cpu_self()->mach.cr2; }
void cr2_write(u64 v) { arch_cpu_self()->mach.cr2 = v; }
u64 cr4_read(void) { return arch_cpu_self()->mach.cr4; }
void cr4_write(u64 v) {
    sim_stores_done();
    arch_cpu_self()->mach.cr4 = v;
}

static u64 *debug_register(unsigned n) { return &dr[arch_cpu_self()->id][n]; }
u64 dr0_read(void) { return *debug_register(0); }
u64 dr1_read(void) { return *debug_register(1); }
u64 dr2_read(void) { return *debug_register(2); }
u64 dr3_read(void) { return *debug_register(3); }
u64 dr6_read(void) { return *debug_register(6); }
u64 dr7_read(void) { return *debug_register(7); }
void dr0_write(u64 v) { *debug_register(0) = v; }
void dr1_write(u64 v) { *debug_register(1) = v; }
void dr2_write(u64 v) { *debug_register(2) = v; }
void dr3_write(u64 v) { *debug_register(3) = v; }
void dr6_write(u64 v) { *debug_register(6) = v; }
void dr7_write(u64 v) { *debug_register(7) = v; }
