#include "vm.h"

#include "clock.h"
#include "log.h"

/* Facts: Intel SDM vol. 4, AMD APM vol. 2 appendix A; STAR, LSTAR, CSTAR, SFMASK, SYSENTER_*, FS, GS and KERNEL_GS base never exit. */
enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_UCODE = 0x8b,
    MSR_MTRR_CAP = 0xfe,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_PHYS = 0x200, /* 16 words: 8 pairs */
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258, /* 2 */
    MSR_MTRR_FIX4K = 0x268,  /* 8 */
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
    MSR_TSC_DEADLINE = 0x6e0,
    MSR_X2APIC = 0x800,
};
#define MSR_EFER     0xc0000080u
#define MSR_TSC_AUX  0xc0000103u
#define MSR_SYSCFG   0xc0010010u
#define MSR_HWCR     0xc0010015u
#define MSR_VM_CR    0xc0010114u
#define MSR_DE_CFG   0xc0011029u
#define MSR_PV_EOI   0x4b564d04u
#define VM_CR_SVMDIS 0x10u

#define EFER_WRITABLE 0x4d01ull /* SCE LME NXE FFXSR; LMA is the processor's, SVME is not offered */
#define EFER_LMA      0x400ull
#define MTRR_CAP      0x508u /* 8 variable ranges, fixed ranges, write-combining */
#define MTRR_DEF      0xc06u /* enabled, fixed enabled, write-back */

/* The word that keeps an MTRR, or null. */
static uint64_t *mtrr_word(struct vcpu *v, uint32_t msr) {
    if (msr >= MSR_MTRR_PHYS && msr < MSR_MTRR_PHYS + 16)
        return &v->mtrr[msr - MSR_MTRR_PHYS];
    if (msr == MSR_MTRR_FIX64K)
        return &v->mtrr[16];
    if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
        return &v->mtrr[17 + msr - MSR_MTRR_FIX16K];
    if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
        return &v->mtrr[19 + msr - MSR_MTRR_FIX4K];
    return msr == MSR_MTRR_DEF ? &v->mtrr_def : NULL;
}

void msr_init(struct vcpu *v) {
    v->pat = 0x0007040600070406;
    v->mtrr_def = MTRR_DEF;
    for (int i = 16; i < 19; i++)
        v->mtrr[i] = i == 18 ? 0 : 0x0606060606060606; /* 0xa0000: uncached */
    for (int i = 19; i < 27; i++)
        v->mtrr[i] = 0x0606060606060606;
}

/* AMD's platform MSRs that Linux reads or writes without asking CPUID; as on KVM they read 0 and ignore writes. */
static bool is_platform(uint32_t msr) {
    switch (msr) {
    case 0xc0010000:
    case 0xc0010001:
    case 0xc0010002:
    case 0xc0010003: /* performance counters */
    case 0xc0010004:
    case 0xc0010005:
    case 0xc0010006:
    case 0xc0010007:
    case MSR_SYSCFG:
    case 0xc0010016:
    case 0xc0010017:
    case 0xc0010018:
    case 0xc0010019:
    case 0xc001001a:
    case 0xc001001d: /* IORR, TOP_MEM */
    case 0xc001001b:
    case 0xc001001f: /* CLK_CTL, NB_CFG */
    case 0xc0010055:
    case 0xc0010058: /* INT_PENDING, MMIO configuration base */
    case 0xc0010111:
    case 0xc0010112:
    case 0xc0010113: /* SMM */
    case 0xc0011020:
    case 0xc0011021:
    case 0xc0011022:
    case 0xc0011023:
    case 0xc001102a:
    case 0xc001102c: /* LS IC DC CU */
    case MSR_UCODE:
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS:
    case MSR_DEBUGCTL:
        return true;
    default:
        return false;
    }
}

static void unknown_log(struct vcpu *v, uint32_t msr, const char *what) {
    struct vm *vm = v->vm;
    bool fresh = true;

    mutex_lock(&vm->log_lock);
    for (unsigned i = 0; i < vm->msrs_logged_count; i++)
        fresh &= vm->msrs_logged[i] != msr;
    fresh &= vm->msrs_logged_count < 64;
    if (fresh)
        vm->msrs_logged[vm->msrs_logged_count++] = msr;
    mutex_unlock(&vm->log_lock);
    if (fresh)
        log_printf("%s MSR 0x%x: not there, the guest gets #GP", what, msr);
}

static bool x2apic_read(struct vcpu *v, unsigned reg, uint64_t *val) {
    mutex_lock(&v->lapic_lock);
    bool ok = v->lapic.mode == LAPIC_X2APIC && lapic_read(&v->lapic, reg, vm_now_ns(v->vm), val);
    mutex_unlock(&v->lapic_lock);
    return ok;
}

bool msr_read(struct vcpu *v, uint32_t msr, struct abi_state *s, uint64_t *val) {
    uint64_t *mtrr = mtrr_word(v, msr);

    *val = 0;
    if (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100 && x2apic_read(v, msr - MSR_X2APIC, val))
        return true;
    if (mtrr) {
        *val = *mtrr;
        return true;
    }
    switch (msr) {
    case MSR_TSC:
        *val = clock_tsc() + v->tsc_offset;
        return true;
    case MSR_APIC_BASE:
        *val = lapic_base_read(&v->lapic);
        return true;
    case MSR_MTRR_CAP:
        *val = MTRR_CAP;
        return true;
    case MSR_MISC_ENABLE:
        *val = 1;
        return true; /* fast strings */
    case MSR_PAT:
        *val = v->pat;
        return true;
    case MSR_TSC_DEADLINE:
        *val = v->lapic.tsc_deadline;
        return true;
    case MSR_EFER:
        *val = s->efer;
        return true;
    case MSR_TSC_AUX:
        *val = v->tsc_aux;
        return true;
    case MSR_HWCR:
        *val = v->hwcr;
        return true;
    case MSR_VM_CR:
        *val = VM_CR_SVMDIS;
        return true;
    case MSR_DE_CFG:
        *val = 2;
        return true; /* LFENCE waits for earlier instructions */
    case MSR_PVCLOCK_SYSTEM:
        *val = v->pv_system;
        return true;
    case MSR_PV_EOI:
        *val = v->pv_eoi;
        return true;
    case MSR_PVCLOCK_WALL:
        *val = v->vm->pv_wall;
        return true;
    default:
        break;
    }
    if (is_platform(msr))
        return true;
    unknown_log(v, msr, "read of");
    return false;
}

static bool pat_valid(uint64_t pat) {
    for (int i = 0; i < 8; i++, pat >>= 8)
        if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}

static void deadline_write(struct vcpu *v, uint64_t val) {
    struct vm *vm = v->vm;
    uint64_t host = val - v->tsc_offset, now = clock_tsc();
    /* a moment that has passed already is due at once */
    uint64_t ns = tsc_scale_ns(vm->scale, (int64_t)(host - now) < 0 ? now - vm->tsc_start : host - vm->tsc_start) + 1;

    mutex_lock(&v->lapic_lock);
    lapic_tsc_deadline_write(&v->lapic, val, ns);
    mutex_unlock(&v->lapic_lock);
    if (val)
        vm_deadline(vm, ns);
}

static bool pvclock_enable(struct vcpu *v, uint64_t val) {
    v->pv_system = val;
    return !(val & 1) || pvclock_system_write(&v->vm->mem, val & ~1ull, v->vm->scale, v->vm->tsc_start + v->tsc_offset);
}

/* State that the vCPU itself holds: goes back with the reply. */
static bool state_write(struct vcpu *v, uint32_t msr, struct abi_state *s, uint64_t val, uint32_t *mtd) {
    switch (msr) {
    case MSR_TSC:
        s->tsc_offset = val - (clock_tsc() + v->tsc_offset); /* the reply's value is added */
        v->tsc_offset += s->tsc_offset;
        *mtd |= MTD_TSC;
        (void)pvclock_enable(v, v->pv_system);
        return true;
    case MSR_PAT:
        if (!pat_valid(val))
            return false;
        v->pat = s->pat = val;
        *mtd |= MTD_PAT;
        return true;
    case MSR_EFER:
        if (val & ~EFER_WRITABLE)
            return false;
        s->efer = (val & ~EFER_LMA) | (s->efer & EFER_LMA);
        *mtd |= MTD_EFER;
        return true;
    default: /* MSR_TSC_AUX */
        if (val >> 32)
            return false;
        v->tsc_aux = s->tsc_aux = val;
        *mtd |= MTD_TSC_AUX;
        return true;
    }
}

bool msr_write(struct vcpu *v, uint32_t msr, struct abi_state *s, uint64_t val, uint32_t *mtd) {
    uint64_t *mtrr = mtrr_word(v, msr);
    bool ok;

    if (msr >= MSR_X2APIC && msr < MSR_X2APIC + 0x100) {
        if (v->lapic.mode != LAPIC_X2APIC)
            return false;
        irq_lapic_write(v, msr - MSR_X2APIC, val, &ok);
        return ok;
    }
    if (mtrr) {
        *mtrr = val;
        return true;
    }
    switch (msr) {
    case MSR_TSC_DEADLINE:
        deadline_write(v, val);
        return true;
    case MSR_TSC:
    case MSR_PAT:
    case MSR_EFER:
    case MSR_TSC_AUX:
        return state_write(v, msr, s, val, mtd);
    case MSR_HWCR:
        v->hwcr = val;
        return true;
    case MSR_MISC_ENABLE:
    case MSR_DE_CFG:
        return true;
    case MSR_PVCLOCK_SYSTEM:
        return pvclock_enable(v, val);
    case MSR_PV_EOI:
        return irq_pv_eoi_write(v, val);
    case MSR_PVCLOCK_WALL:
        v->vm->pv_wall = val;
        return pvclock_wall_write(&v->vm->mem, val, v->vm->wall_ns_at_zero);
    case MSR_APIC_BASE:
        mutex_lock(&v->lapic_lock);
        ok = lapic_base_write(&v->lapic, val);
        mutex_unlock(&v->lapic_lock);
        return ok;
    default:
        break;
    }
    if (is_platform(msr))
        return true;
    unknown_log(v, msr, "write to");
    return false;
}
