/* VMCS fields and the checks of VM entry for a fictitious Intel processor: Intel SDM vol 3 appendix A and B, 26.2 "Checks on VMX controls
 * and host-state area", 26.3 "Checking and loading guest state" (edition 070). Written from the manual, not from the kernel: the two meet in tests. */
#include "sim/vmcs.h"
#include "arch/assert.h"
#include "arch/mem.h"
#include "arch/regs.h"
#include "arch/vcpu_vendor.h"
#include "sim/internal.h"

#define PHYS_BITS      40
#define BEYOND         (~0ul << PHYS_BITS) /* address bits that do not exist */
#define CR0_FIXED0     0x80000021ul
#define CR0_FIXED1     0xfffffffful
#define CR4_FIXED0     0x2000ul
#define CR4_FIXED1     0x3727fful /* VME to OSXMMEXCPT, VMXE FSGSBASE PCIDE OSXSAVE SMEP SMAP */
#define CR4_PCIDE      (1ul << 17)
#define EFER_SUPPORTED (EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE)
#define RFLAGS_VM      (1ul << 17)
#define CPU2_APIC      (1ul << 0)
#define CPU2_PML       (1ul << 17)

struct sim_vmx_counts sim_vmx_counts;
const char *sim_vmcs_why = "";

#define NEED(x)                                                                                                        \
    do {                                                                                                               \
        if (!(x)) {                                                                                                    \
            sim_vmcs_why = #x;                                                                                         \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

/* Fields that this CPU has, in runs of encodings two apart. */
static const struct {
    u16 first, count;
} runs[] = {
    {0x0000, 1},  {0x0800, 8}, {0x0812, 1},  {0x0c00, 7},               /* 16 bits: control, guest, host */
    {0x2000, 8},  {0x2010, 3}, {0x201a, 1},  {0x2400, 1},  {0x2800, 4}, /* 64 bits: control, read-only, guest */
    {0x280a, 4},  {0x2c00, 2},                                          /* guest PDPTEs, host */
    {0x4000, 16}, {0x4400, 8}, {0x4800, 22}, {0x4c00, 1},               /* 32 bits */
    {0x6000, 8},  {0x6400, 6}, {0x6800, 20}, {0x6c00, 12},              /* natural */
};
static u8 places[4 * 4 * 64]; /* by width, type and index: place + 1 */

static unsigned place_of(u32 encoding) {
    return (encoding >> 13 & 3) << 8 | (encoding >> 10 & 3) << 6 | (encoding >> 1 & 63);
}

static void places_fill(void) {
    unsigned n = 0;
    for (unsigned r = 0; r < ARRAY_SIZE(runs); r++)
        for (unsigned i = 0; i < runs[r].count; i++)
            places[place_of(runs[r].first + 2 * i)] = (u8)++n;
    assert(n <= SIM_VMCS_FIELDS);
}

u64 *sim_vmcs_field(struct sim_vmcs *v, u32 encoding, bool write) {
    bool read_only = (encoding >> 10 & 3) == 1, high = encoding & 1;
    if (!places[0])
        places_fill();
    if (encoding >> 15 || encoding & 0x1380 || high ||
        (write && read_only)) /* the kernel has no use for halves of fields */
        return NULL;
    unsigned place = places[place_of(encoding)];
    return place ? &v->field[place - 1] : NULL;
}

u64 sim_vmcs_get(const struct sim_vmcs *v, u32 encoding) {
    const u64 *p = sim_vmcs_field((struct sim_vmcs *)v, encoding, false);
    assert(p);
    return *p;
}

void sim_vmcs_put(struct sim_vmcs *v, u32 encoding, u64 value) {
    u64 *p = sim_vmcs_field(v, encoding, false);
    assert(p);
    static const u64 width[] = {0xffff, ~0ul, 0xffffffff, ~0ul};
    *p = value & width[encoding >> 13 & 3];
}

/* Appendix A. Bits that must be 1 in the low half, that may be 1 in the high half. */
static const u64 ctrl_pin = 0x16ul | (0x16ul | 1 << 0 | 1 << 3 | 1 << 5) << 32;
static const u64 ctrl_cpu = 0x04006172ul | (0x04006172ul | 0xfbf99e8c) << 32; /* all but tertiary controls */
static const u64 ctrl_cpu2 = (1ul << 0 | 1ul << 17 | 1ul << 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 12)
                             << 32;
static const u64 ctrl_exit = 0x36dfbul | (0x36dfbul | 1 << 2 | 1 << 9 | 1 << 15 | 0xf << 18) << 32;
static const u64 ctrl_entry = 0x11fbul | (0x11fbul | 1 << 2 | 1 << 9 | 3 << 14) << 32;

u64 sim_vmx_capability(u32 msr) {
    switch (msr) {
    case 0x480: /* BASIC: revision, 4 KiB, write-back, string I/O information, TRUE controls */
        return SIM_VMCS_REVISION | 4096ul << 32 | 6ul << 50 | 1ul << 54 | 1ul << 55;
    case 0x485: /* MISC: activity states HLT, shutdown, wait-for-SIPI; LMA is stored; 4 CR3 targets */
        return 5 | 1 << 5 | 7 << 6 | 4 << 16;
    case 0x486:
        return CR0_FIXED0;
    case 0x487:
        return CR0_FIXED1;
    case 0x488:
        return CR4_FIXED0;
    case 0x489:
        return CR4_FIXED1;
    case 0x48b:
        return ctrl_cpu2;
    case 0x48c: /* 4 levels, UC and WB tables, 2 MiB and 1 GiB pages, INVEPT and INVVPID of all types; no execute-only pages */
        return 1ul << 6 | 1ul << 8 | 1ul << 14 | 3ul << 16 | 1ul << 20 | 3ul << 25 | 1ul << 32 | 0xful << 40;
    case 0x48d:
        return ctrl_pin;
    case 0x48e:
        return ctrl_cpu;
    case 0x48f:
        return ctrl_exit;
    case 0x490:
        return ctrl_entry;
    default:
        return ~0ul;
    }
}

static bool ctrl_valid(u64 value, u64 capability) {
    return !(~value & (u32)capability) && !(value & ~(capability >> 32));
}
static bool fixed_valid(u64 value, u64 fixed0, u64 fixed1) { return !(~value & fixed0) && !(value & ~fixed1); }
static bool canonical(u64 a) { return (u64)((i64)(a << 16) >> 16) == a; }
static bool aligned(u64 a, u64 size) { return !(a & (size - 1)) && !(a & BEYOND); }
static bool pat_valid(u64 pat) {
    for (unsigned i = 0; i < 8; i++, pat >>= 8)
        if ((pat & 0xff) > 7 || (pat & 0xff) == 2 || (pat & 0xff) == 3)
            return false;
    return true;
}
#define F(field) sim_vmcs_get(v, field)

static bool list_valid(u64 count, u64 address) {
    return !count || (!(address & 15) && !((address + count * 16 - 1) & BEYOND) && !(address & BEYOND));
}

/* 26.2.1.3, last part. */
static bool injection_valid(const struct sim_vmcs *v) {
    u64 event = F(ENTRY_EVENT);
    unsigned vector = event & 0xff, type = event >> 8 & 7;
    if (!(event >> 31 & 1))
        return true;
    NEED(type != 1);
    NEED(type != 7 || vector == 0); /* monitor trap flag is supported */
    NEED(type != 2 || vector == 2);
    NEED(type != 3 || vector <= 31);
    bool has_error =
        type == 3 && (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17) && F(GUEST_CR0) & CR0_PE;
    NEED((event >> 11 & 1) == has_error);
    NEED(!(event & 0x7ffff000));
    NEED(!has_error || !(F(ENTRY_EVENT_ERROR) >> 15));
    NEED(type < 4 || type == 7 || (F(ENTRY_INSN_LEN) >= 1 && F(ENTRY_INSN_LEN) <= 15));
    return true;
}

bool sim_vmcs_controls_valid(const struct sim_vmcs *v) {
    u64 pin = F(CTRL_PIN), cpu = F(CTRL_CPU), cpu2 = cpu >> 31 & 1 ? F(CTRL_CPU2) : 0, eptp = F(EPT_POINTER);
    NEED(ctrl_valid(pin, ctrl_pin));
    NEED(ctrl_valid(cpu, ctrl_cpu));
    NEED(!cpu2 || ctrl_valid(cpu2, ctrl_cpu2));
    NEED(F(CR3_TARGETS) <= 4);
    NEED(!(cpu >> 25 & 1) || (aligned(F(IO_BITMAP_A), PAGE_SIZE) && aligned(F(IO_BITMAP_B), PAGE_SIZE)));
    NEED(!(cpu >> 28 & 1) || aligned(F(MSR_BITMAP), PAGE_SIZE));
    if (cpu & CPU_TPR_SHADOW) {
        NEED(aligned(F(VIRTUAL_APIC), PAGE_SIZE) && sim_phys(PADDR(F(VIRTUAL_APIC))));
        u8 tpr = ((u8 *)sim_phys(PADDR(F(VIRTUAL_APIC))))[0x80];
        NEED(!(F(TPR_THRESHOLD) >> 4));
        NEED(F(TPR_THRESHOLD) <= tpr >> 4);
    }
    NEED(pin >> 3 & 1 || !(pin >> 5 & 1));
    NEED(pin >> 5 & 1 || !(cpu & CPU_NMI_WINDOW));
    NEED(!(cpu2 & CPU2_VPID) || F(VMCS_VPID));
    NEED(!(cpu2 & CPU2_EPT) || ((eptp & 7) == 6 || (eptp & 7) == 0));
    NEED(!(cpu2 & CPU2_EPT) || ((eptp >> 3 & 7) == 3 && !(eptp >> 6 & 0x3f) && !(eptp & BEYOND)));
    NEED(!(cpu2 & CPU2_UNRESTRICTED) || cpu2 & CPU2_EPT);
    NEED(!(cpu2 & CPU2_APIC) || aligned(F(0x2014), PAGE_SIZE)); /* APIC-access address; page-modification log */
    NEED(!(cpu2 & CPU2_PML) || (cpu2 & CPU2_EPT && aligned(F(0x200e), PAGE_SIZE)));
    NEED(ctrl_valid(F(CTRL_EXIT), ctrl_exit));
    NEED(list_valid(F(EXIT_STORE_COUNT), F(EXIT_MSR_STORE)));
    NEED(list_valid(F(EXIT_LOAD_COUNT), F(EXIT_MSR_LOAD)));
    NEED(ctrl_valid(F(CTRL_ENTRY), ctrl_entry));
    NEED(list_valid(F(ENTRY_LOAD_COUNT), F(ENTRY_MSR_LOAD)));
    return injection_valid(v);
}

/* 26.2.2 to 26.2.4; the host is in IA-32e mode. */
bool sim_vmcs_host_valid(const struct sim_vmcs *v) {
    u64 exit = F(CTRL_EXIT), efer = F(HOST_EFER);
    NEED(fixed_valid(F(HOST_CR0), CR0_FIXED0, CR0_FIXED1));
    NEED(fixed_valid(F(HOST_CR4), CR4_FIXED0, CR4_FIXED1));
    NEED(!(F(HOST_CR3) & BEYOND));
    NEED(canonical(F(HOST_SYSENTER_ESP)) && canonical(F(HOST_SYSENTER_EIP)));
    NEED(!(exit >> 19 & 1) || pat_valid(F(HOST_PAT)));
    NEED(!(exit >> 21 & 1) || (!(efer & ~EFER_SUPPORTED) && efer & EFER_LMA && efer & EFER_LME));
    for (u32 sel = 0xc00; sel <= HOST_TR; sel += 2)
        NEED(!(F(sel) & 7));
    NEED(F(HOST_CS) && F(HOST_TR));
    for (u32 base = HOST_FS_BASE; base <= HOST_IDTR_BASE; base += 2)
        NEED(canonical(F(base)));
    NEED(exit >> 9 & 1);
    NEED(F(HOST_CR4) & CR4_PAE);
    NEED(canonical(F(HOST_RIP)));
    return true;
}

/* 26.3.1.1 */
static bool registers_valid(const struct sim_vmcs *v, bool ia32e) {
    u64 cr0 = F(GUEST_CR0), cr4 = F(GUEST_CR4), entry = F(CTRL_ENTRY), efer = F(GUEST_EFER);
    bool unrestricted = F(CTRL_CPU) >> 31 & 1 && F(CTRL_CPU2) & CPU2_UNRESTRICTED;
    NEED(fixed_valid(cr0, CR0_FIXED0 & ~(unrestricted ? CR0_PE | CR0_PG : 0), CR0_FIXED1));
    NEED(!(cr0 & CR0_PG) || cr0 & CR0_PE);
    NEED(fixed_valid(cr4, CR4_FIXED0, CR4_FIXED1));
    NEED(!(entry >> 2 & 1) || !(F(GUEST_DEBUGCTL) & ~0xdfc3ul));
    NEED(!ia32e || (cr0 & CR0_PG && cr4 & CR4_PAE));
    NEED(ia32e || !(cr4 & CR4_PCIDE));
    NEED(!(F(GUEST_CR3) & BEYOND));
    NEED(!(entry >> 2 & 1) || !(F(GUEST_DR7) >> 32));
    NEED(canonical(F(GUEST_SYSENTER_ESP)) && canonical(F(GUEST_SYSENTER_EIP)));
    NEED(!(entry >> 14 & 1) || pat_valid(F(GUEST_PAT)));
    if (entry >> 15 & 1) {
        NEED(!(efer & ~EFER_SUPPORTED));
        NEED(!!(efer & EFER_LMA) == ia32e);
        NEED(!(cr0 & CR0_PG) || !!(efer & EFER_LMA) == !!(efer & EFER_LME));
    }
    return true;
}

struct segment {
    u64 sel, limit, ar, base;
    unsigned type, dpl, rpl;
    bool usable;
};
static struct segment segment_read(const struct sim_vmcs *v, unsigned n) {
    struct segment s = {
        F(GUEST_SEL + 2 * n), F(GUEST_LIMIT + 2 * n), F(GUEST_AR + 2 * n), F(GUEST_BASE + 2 * n), 0, 0, 0, 0};
    s.type = s.ar & 0xf, s.dpl = s.ar >> 5 & 3, s.rpl = s.sel & 3;
    s.usable = !(s.ar >> 16 & 1);
    return s;
}

/* P, reserved bits, and the granularity that fits the limit. */
static bool rights_valid(const struct segment *s) {
    NEED(s->ar >> 7 & 1);
    NEED(!(s->ar & 0xf00) && !(s->ar >> 17));
    NEED((s->limit & 0xfff) == 0xfff || !(s->ar >> 15 & 1));
    NEED(!(s->limit >> 20) || s->ar >> 15 & 1);
    return true;
}

static bool code_valid(const struct segment *cs, const struct segment *ss, bool unrestricted, bool ia32e) {
    NEED(cs->type == 9 || cs->type == 11 || cs->type == 13 || cs->type == 15 || (unrestricted && cs->type == 3));
    NEED(cs->ar >> 4 & 1);
    NEED(cs->type != 3 || cs->dpl == 0);
    NEED((cs->type != 9 && cs->type != 11) || cs->dpl == ss->dpl);
    NEED((cs->type != 13 && cs->type != 15) || cs->dpl <= ss->dpl);
    NEED(!ia32e || !(cs->ar >> 13 & 1) || !(cs->ar >> 14 & 1));
    return rights_valid(cs);
}

static bool data_valid(const struct segment *s, bool unrestricted) {
    if (!s->usable)
        return true;
    NEED(s->type & 1);
    NEED(!(s->type & 8) || s->type & 2);
    NEED(s->ar >> 4 & 1);
    NEED(unrestricted || s->type > 11 || s->dpl >= s->rpl);
    return rights_valid(s);
}

/* 26.3.1.2, CS SS DS ES FS GS outside of virtual-8086 mode */
static bool user_segments_valid(const struct sim_vmcs *v, const struct segment *seg, bool ia32e) {
    bool unrestricted = F(CTRL_CPU) >> 31 & 1 && F(CTRL_CPU2) & CPU2_UNRESTRICTED;
    const struct segment *cs = &seg[1], *ss = &seg[2];
    NEED(unrestricted || ss->rpl == cs->rpl);
    if (!code_valid(cs, ss, unrestricted, ia32e))
        return false;
    NEED(!ss->usable || ((ss->type == 3 || ss->type == 7) && ss->ar >> 4 & 1));
    NEED(unrestricted || ss->dpl == ss->rpl);
    NEED(ss->dpl == 0 || (cs->type != 3 && F(GUEST_CR0) & CR0_PE));
    if (ss->usable && !rights_valid(ss))
        return false;
    for (unsigned n = 0; n < 6; n++)
        if (n != 1 && n != 2 && !data_valid(&seg[n], unrestricted))
            return false;
    return true;
}

static bool segments_valid(const struct sim_vmcs *v, bool ia32e) {
    struct segment seg[8];
    for (unsigned n = 0; n < 8; n++)
        seg[n] = segment_read(v, n);
    const struct segment *ldtr = &seg[SEG_LDTR], *tr = &seg[SEG_TR];
    NEED(!(tr->sel & 4) && (!ldtr->usable || !(ldtr->sel & 4)));
    NEED(canonical(seg[4].base) && canonical(seg[5].base) && canonical(tr->base));
    NEED(!ldtr->usable || canonical(ldtr->base));
    NEED(!(seg[1].base >> 32));
    NEED((!seg[2].usable || !(seg[2].base >> 32)) && (!seg[3].usable || !(seg[3].base >> 32)) &&
         (!seg[0].usable || !(seg[0].base >> 32)));
    if (F(GUEST_RFLAGS) & RFLAGS_VM) {
        for (unsigned n = 0; n < 6; n++)
            NEED(seg[n].base == seg[n].sel << 4 && seg[n].limit == 0xffff && seg[n].ar == 0xf3);
    } else if (!user_segments_valid(v, seg, ia32e)) {
        return false;
    }
    NEED(tr->usable && (tr->type == 11 || (tr->type == 3 && !ia32e)) && !(tr->ar >> 4 & 1));
    NEED(!ldtr->usable || (ldtr->type == 2 && !(ldtr->ar >> 4 & 1)));
    if (!rights_valid(tr) || (ldtr->usable && !rights_valid(ldtr)))
        return false;
    for (unsigned n = SEG_GDTR; n <= SEG_IDTR; n++) /* 26.3.1.3 */
        NEED(canonical(F(GUEST_BASE + 2 * n)) && !(F(GUEST_LIMIT + 2 * n) >> 16));
    return true;
}

/* 26.3.1.4 */
static bool rip_valid(const struct sim_vmcs *v, bool ia32e) {
    u64 rip = F(GUEST_RIP), flags = F(GUEST_RFLAGS), event = F(ENTRY_EVENT);
    bool wide = ia32e && F(GUEST_AR + 2 * SEG_CS) >> 13 & 1;
    NEED(wide ? rip >> 48 == 0 || rip >> 48 == 0xffff : !(rip >> 32));
    NEED(!(flags >> 22) && !(flags & 0x8028) && flags & 2);
    NEED(!(flags & RFLAGS_VM) || (!ia32e && F(GUEST_CR0) & CR0_PE));
    NEED(!(event >> 31 & 1) || (event >> 8 & 7) != 0 || flags & RFLAGS_IF);
    return true;
}

/* 26.3.1.5 */
static bool other_state_valid(const struct sim_vmcs *v) {
    u64 activity = F(ACTIVITY), blocking = F(INTERRUPTIBILITY), flags = F(GUEST_RFLAGS), event = F(ENTRY_EVENT);
    u64 pending = F(PENDING_DEBUG);
    unsigned type = event >> 8 & 7, vector = event & 0xff;
    bool inject = event >> 31 & 1, virtual_nmis = F(CTRL_PIN) >> 5 & 1, btf = F(GUEST_DEBUGCTL) & 2;
    NEED(activity <= 3);
    NEED(activity != 1 || !(F(GUEST_AR + 2 * SEG_SS) >> 5 & 3));
    NEED(activity == 0 || !(blocking & 3));
    if (inject && activity == 1)
        NEED(type == 0 || type == 2 || type == 7 || (type == 3 && (vector == 1 || vector == 18)));
    if (inject && activity == 2)
        NEED(type == 2 || (type == 3 && vector == 18));
    NEED(!inject || activity != 3);
    NEED(!(blocking >> 4));
    NEED((blocking & 3) != 3);
    NEED(!(blocking & 1) || flags & RFLAGS_IF);
    NEED(!inject || type != 0 || !(blocking & 3));
    NEED(!inject || type != 2 || !(blocking & 2));
    NEED(!inject || type != 2 || !virtual_nmis || !(blocking & 8));
    NEED(!(blocking & 4));                  /* not in SMM */
    NEED(!(pending & ~0x15000ul & ~0xful)); /* B0-3, enabled breakpoint, BS, RTM */
    if (blocking & 3 || activity == 1)
        NEED(!!(pending >> 14 & 1) == (flags & RFLAGS_TF && !btf));
    return true;
}

bool sim_vmcs_guest_valid(const struct sim_vmcs *v, u64 *qualification) {
    bool ia32e = F(CTRL_ENTRY) & ENTRY_IA32E;
    *qualification = 0;
    if (!registers_valid(v, ia32e) || !segments_valid(v, ia32e) || !rip_valid(v, ia32e) || !other_state_valid(v))
        return false;
    *qualification = 4;
    NEED(F(VMCS_LINK) == ~0ul);
    *qualification = 2; /* 26.3.1.6 */
    bool pae = F(GUEST_CR0) & CR0_PG && F(GUEST_CR4) & CR4_PAE && !ia32e;
    for (unsigned i = 0; i < 4 && pae; i++) {
        u64 pdpte = F(GUEST_PDPTE + 2 * i);
        NEED(!(pdpte & 1) || !(pdpte & (0x1e6 | BEYOND)));
    }
    return true;
}

bool sim_vmx_msr_valid(const struct vmx_msr *m) {
    switch (m->index) {
    case 0xc0000081: /* STAR */
        return true;
    case 0xc0000082: /* LSTAR CSTAR KERNEL_GS_BASE */
    case 0xc0000083:
    case 0xc0000102:
        return canonical(m->value);
    case 0xc0000084: /* FMASK, TSC_AUX */
    case 0xc0000103:
        return !(m->value >> 32);
    default: /* FS_BASE and GS_BASE never; upper half of the index set; others this CPU does not have */
        return false;
    }
}
