/* Operations: what they do, and the pools that their arguments choose from. */
#include "machine.h"
#include <mach/point.h>

extern const char __executable_start[], end[]; /* linker: this program's image */

/* Whatever a program has in its hands may become a RIP, and there would be something of ours there. */
static u64 harmless(u64 v) { return v >= (u64)__executable_start && v < (u64)end ? (u64)__executable_start - 1 : v; }
static u64 value(u8 b) {
    static const u64 extremes[16] = {0,          2,          0xff,     0xfff,     0xffff,    0x10000,
                                     0x7fffffff, 0x80000000, ~0u,      1ul << 35, 1ul << 47, ABI_USER_END,
                                     1ul << 63,  ~1ul,       ~0xffful, ~0ul};
    return harmless(b < 64 ? b : b < 240 ? 1ul << (b - 64) % 64 : extremes[b - 240]);
}

static bool in_root(void) { return arch_cpu_self()->ec->pd->is_root; }
/* Where the capabilities of SCRATCH are: a new PD gets them from 0 on. */
static u64 scratch(void) { return in_root() ? SCRATCH : 0; }

static u64 sel(u8 b, enum slot_kind kind) {
    if (b < 176)
        return kind == SLOT_ANY ? scratch() + b % 40 : scratch() + kind * 8u + b % 8;
    if (b < 208)
        return scratch() + b % 40;
    static const u8 events[] = {EVT_VCPU_STARTUP, EVT_SVM_NPF,     0x78, 0x7b, 0x72,
                                EVT_VCPU_RECALL,  EVT_SVM_INVALID, 0x7f};
    if (b < 216)
        return scratch() + VBASE - SCRATCH + events[b - 208];
    static const u8 traps[] = {EVT_THREAD_STARTUP, EVT_THREAD_RECALL, 14, 13, 0, 3, 6, 29};
    if (b < 224)
        return scratch() + TBASE - SCRATCH + traps[b - 216];
    if (b < 232)
        return WORKER_EC(b % WORKERS);
    static const u64 others[] = {SEL_PD, 33, 34, 0, SCRATCH + ABI_SEL_COUNT, ABI_SEL_COUNT - 1, ~0ul >> 8, NEVER};
    return others[b % 8];
}

static u64 owner(u8 b) { return b < 100 ? (in_root() ? SEL_PD : 0) : b < 200 ? scratch() + b % 8 : sel(b, SLOT_PD); }

static u64 page(u8 b) {
    if (b < 176)
        return PAGE_OF(REGION_VA) + b;
    if (b < 224) {
        static const u16 at[] = {0,     1,     0x100, 0x1ff, 0x200, 0x201, 0x3ff,  0x400,
                                 0x600, 0x7ff, 0x800, 0xa00, 0xc00, 0xe00, 0x1000, 0x1800};
        return PAGE_OF(BIG_VA) + at[b % 16];
    }
    static const u64 others[] = {
        0,     1,         REGION_PFN, BIG_PFN,   0x400,           0xfee00,   0xa0,      PAGE_OF(ABI_ROOT_UTCB),
        0x200, 1ul << 20, 1ul << 28,  1ul << 31, (1ul << 35) - 1, 1ul << 35, 1ul << 40, ~0ul >> 12};
    return others[b % 16];
}

static u64 device(u8 b) { return (b < 160 ? PAGE_OF(CONFIG_VA) + b % 5 : page(b)) << PAGE_SHIFT; }
static u16 routing_id(u8 b) { return b % 5 < 4 ? b % 5 : 0x100; }

static u64 port(u8 b) {
    static const u32 others[] = {0x3f8, 0xff8, 0x1000, 0x7fff, 0x8000, 0xfffe, 0xffff, 0x10000};
    return b < 128 ? b : others[b % 8];
}

static u64 crd(u8 kind, u8 base, u8 perm) {
    unsigned type = kind & 3, order = kind & 0x80 ? kind >> 2 & 31 : kind >> 2 & 7;
    u64 at = type == CRD_MEM ? page(base) : type == CRD_PIO ? port(base) : sel(base, SLOT_ANY);
    if (!(kind & 0x40))
        at &= ~((1ul << order) - 1);
    return CRD_MAKE(type, at, order, perm & 0x20 ? perm & 0x1f : 0x1f);
}

static u64 utcb_address(u8 b) {
    static const u64 others[] = {
        ABI_USER_END, ABI_USER_END - PAGE_SIZE, ABI_HIP_ADDR, ABI_ROOT_UTCB, ~0xffful, 0x1000, 1ul << 47, BIG_VA};
    if (b < 160)
        return REGION_VA + (128ul + b % 32) * PAGE_SIZE;
    if (b < 208)
        return 0; /* a vCPU */
    return b < 240 ? REGION_VA + (u64)b % 64 * PAGE_SIZE : others[b % 8];
}

static u64 entry_address(u8 b) {
    static const u64 others[] = {0, 0x1000, ABI_USER_END, ABI_USER_END - 1, 1ul << 47, ~0ul, REGION_VA, 0x10000000};
    return b < 224 ? (u64)portal_main : others[b % 8];
}

static u64 event_base(u8 b, unsigned cpu) {
    static const u64 others[] = {VBASE, ABI_SEL_COUNT - 1, ~0ul, SCRATCH};
    return b < 2 ? EVENTS(cpu) : b < 4 ? TBASE : b < 6 ? TBASE - SCRATCH : b < 7 ? 0 : others[cpu % 4];
}

static u32 mtd_bits(u8 b) {
    static const u32 sets[] = {
        0, ~0u, 0x1fffff, MTD_RIP | MTD_RSP, ABI_MTD_EXT, MTD_QUAL | MTD_ACDB | MTD_RIP, MTD_INJ | MTD_STA, 0x1fffffff};
    return b < 32 ? 1u << b : b < 160 ? sets[b % 8] : b * 0x9e3779b1u;
}

static u64 deadline(u8 b) {
    return b < 32 ? 0 : b < 40 ? 1 : b < 48 ? ~0ul : sim_clock() + (b < 128 ? b * 10ul : b * 400ul);
}

static u64 quantum_priority(u8 prio, u8 us) {
    static const u8 special[] = {0, 1, 126, 128, 255, 63, 64, 65};
    static const u64 quanta[] = {0, 1, 10, 100, 1000, 10000, ~0ul >> 12, 1ul << 40};
    u64 p = prio < 192 ? 1u + prio % 126 : special[prio % 8]; /* never above the manager's */
    return QPD_MAKE(p, us < 192 ? 1 + us * 8ul : quanta[us % 8]);
}

static unsigned cpu_number(u8 b) {
    static const u16 others[] = {63, 64, 0xfff, 5};
    return b < 192 ? b % prog->cpus : b < 224 ? b % 4 : others[b % 4];
}

/* Root's harness stands on some of root's memory and capabilities: threads there revoke elsewhere only. */
static bool revoke_allowed(u64 c) {
    u64 base = CRD_BASE(c), order = CRD_ORDER(c);
    if (!in_root() || CRD_TYPE(c) == CRD_NULL || CRD_TYPE(c) == CRD_PIO)
        return true;
    base &= ~((1ul << order) - 1);
    if (CRD_TYPE(c) == CRD_MEM)
        return base >= PAGE_OF(REGION_VA) && order < 16 && base + (1ul << order) <= PAGE_OF(ABI_ROOT_UTCB);
    base %= ABI_SEL_COUNT;
    return base >= SCRATCH && base + (1ul << order) <= SCRATCH + (1ul << SCRATCH_ORDER);
}

static struct abi_utcb *at_utcb(u64 va) { return sim_mem_ptr(va, true); }

/* --- objects --- */
static void op_create_pd(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_CREATE_PD, 0, sel(o->a, SLOT_PD), owner(o->b), crd(o->c, o->d, o->e), 0, 0, NULL);
}
static void op_create_ec(const struct op *o, u64 utcb) {
    (void)utcb;
    u64 at = utcb_address(o->c);
    unsigned cpu = cpu_number(o->d), actor = (o->f & 1 ? 6 + (o->f >> 1 & 1) : 8 + (o->f >> 1 & 3));
    hc(HC_CREATE_EC, o->f & 1, sel(o->a, SLOT_EC), owner(o->b), at | (cpu & 0xfff), stack_code(actor, at),
       event_base(o->e & 7, cpu & 3), NULL);
}
static void op_create_sc(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_CREATE_SC, 0, sel(o->a, SLOT_SC), owner(o->b), sel(o->c, SLOT_EC), quantum_priority(o->d, o->e), 0, NULL);
}
static void op_create_pt(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_CREATE_PT, 0, sel(o->a, SLOT_PT), owner(o->b), sel(o->c, SLOT_EC), mtd_bits(o->d), entry_address(o->e), NULL);
}
static void op_create_sm(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_CREATE_SM, 0, sel(o->a, SLOT_SM), owner(o->b), value(o->c), 0, 0, NULL);
}
static void op_revoke(const struct op *o, u64 utcb) {
    (void)utcb;
    u64 c = crd(o->a, o->b, o->c);
    if (revoke_allowed(c))
        hc(HC_REVOKE, o->d & 3, 0, c, 0, 0, 0, NULL);
}
static void op_lookup(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_LOOKUP, o->d & 15, 0, crd(o->a, o->b, o->c), 0, 0, 0, NULL);
}
static void op_ec_ctrl(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_EC_CTRL, o->b & 15, sel(o->a, SLOT_EC), 0, 0, 0, 0, NULL);
}
static void op_sc_ctrl(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_SC_CTRL, o->b & 15, sel(o->a, SLOT_SC), 0, 0, 0, 0, NULL);
}
static void op_pt_ctrl(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_PT_CTRL, 0, sel(o->a, SLOT_PT), value(o->b), 0, 0, 0, NULL);
}
static void op_sm_up(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_SM_CTRL, o->b & 2, sel(o->a, SLOT_SM), 0, 0, 0, 0, NULL);
}
static void op_sm_down(const struct op *o, u64 utcb) {
    (void)utcb;
    u64 t = deadline(o->b);
    hc(HC_SM_CTRL, HF_SM_DOWN | (o->c & 2), sel(o->a, SLOT_SM), t >> 32, (u32)t, 0, 0, NULL);
}
static void op_assign_pci(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_ASSIGN_PCI, 0, sel(o->a, SLOT_PD), device(o->b), value(o->c), 0, 0, NULL);
}
static void op_assign_gsi(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_ASSIGN_GSI, 0, sel(o->a, SLOT_SM), device(o->b), cpu_number(o->c), 0, 0, NULL);
}
static void op_extension(const struct op *o, u64 utcb) {
    unsigned what = o->a & 15;
    u64 on = what == EXT_COUNTERS ? cpu_number(o->b) : sel(o->b, what == EXT_GSI_CONFIG ? SLOT_SM : SLOT_PD);
    u64 arg = what == EXT_KMEM_ADD ? crd(o->c, o->d, o->e) : value(o->c);
    pool_moved |= what == EXT_KMEM_ADD || what == EXT_KMEM_TAKE; /* even if we do not live to see it */
    hc(HC_EXTENSION, what, on, arg, 0, 0, 0, NULL);
    for (unsigned i = 0; what == EXT_KLOG_READ && i < UTCB_WORDS; i++) /* text */
        at_utcb(utcb)->w[i] = harmless(at_utcb(utcb)->w[i]);
}
/* Registers as they are given, selectors from the pools or not. */
static void op_raw(const struct op *o, u64 utcb) {
    (void)utcb;
    unsigned number = o->a & 15, flags = o->a >> 4;
    u64 rsi = o->f & 1 ? value(o->c) : sel(o->c, SLOT_PD);
    bool other = number == HC_REPLY || (number == HC_REVOKE && !revoke_allowed(rsi)) || number == HC_CREATE_SC;
    other |= number ==
             HC_EXTENSION; /* a priority above the manager's, the end of a thread, memory of the pool: not this way */
    if (!other)
        hc(number, flags, sel(o->b, SLOT_ANY), rsi, o->f & 2 ? value(o->d) : sel(o->d, SLOT_EC), value(o->e),
           value(o->e), NULL);
}

/* --- messages --- */
static void op_call(const struct op *o, u64 utcb) {
    (void)utcb;
    hc(HC_CALL, o->b & 1, sel(o->a, SLOT_PT), 0, 0, 0, 0, NULL);
}
static void op_reply(const struct op *o, u64 utcb) {
    (void)o, (void)utcb;
    hc(HC_REPLY, 0, 0, 0, 0, 0, 0, NULL);
}
static void op_window_delegate(const struct op *o, u64 utcb) { at_utcb(utcb)->del = crd(o->a, o->b, o->c); }
static void op_window_translate(const struct op *o, u64 utcb) { at_utcb(utcb)->xlt = crd(o->a, o->b, o->c); }
static void op_counts(const struct op *o, u64 utcb) {
    at_utcb(utcb)->items =
        o->c < 224 ? UTCB_ITEMS(o->a % 64, o->b % 8) : UTCB_ITEMS(value(o->a) & 0xffff, value(o->b) & 0xffff);
}
static void item_set(u64 utcb, unsigned n, u64 c, u64 desc) {
    struct abi_utcb *u = at_utcb(utcb);
    u->w[UTCB_WORDS - 2 - 2 * n] = c;
    u->w[UTCB_WORDS - 1 - 2 * n] = desc;
    if ((u->items >> 16 & 0xffff) <= n)
        u->items = (u->items & 0xffff) | (u64)(n + 1) << 16;
}
/* An item, counted; its hotspot is a page or a slot. */
static void op_item(const struct op *o, u64 utcb) {
    u64 hotspot = (o->a & 3) == CRD_OBJ ? sel(o->e, SLOT_ANY) : page(o->e);
    item_set(utcb, o->f & 3, crd(o->a, o->b, o->c),
             hotspot << 12 | (u64)(o->d & 7) << 9 | (o->d & 0x18 ? ITEM_DELEGATE : 0));
}
/* One item and the call: a delegation or translation in one operation. */
static void op_message(const struct op *o, u64 utcb) {
    at_utcb(utcb)->items = 0;
    item_set(utcb, 0, crd(o->a, o->b, o->c),
             ((o->a & 3) == CRD_OBJ ? sel(o->e, SLOT_ANY) : page(o->e)) << 12 | (u64)(o->d & 7) << 9 |
                 (o->d & 0x18 ? ITEM_DELEGATE : 0));
    hc(HC_CALL, o->d >> 7, sel(o->f, SLOT_PT), 0, 0, 0, 0, NULL);
}
static void op_word(const struct op *o, u64 utcb) { at_utcb(utcb)->w[(o->a | o->b << 8) % UTCB_WORDS] = value(o->c); }

/* --- state in replies to events: a word of the state area, MTD bits --- */
static void op_state(const struct op *o, u64 utcb) {
    static const u64 values[] = {
        0,          0x80000011, 0x6a1,  0x6a0,  0xd01,  0x100,  0x7,   1,    0x0007040600070406, 0x80000b0e, 0x80000202,
        0x8000030d, 0x1000,     0x2000, 0x3000, 0x3202, 0xc093, 0x29b, 0x8b, 0x80000420};
    unsigned word = 1 + o->a % ABI_STATE_EXT_WORDS;
    u64 v = o->b < 20 ? values[o->b] : value(o->b);
    if (word == 2 && o->b < 128) /* RIP: somewhere where there is something */
        v = o->actor == 13 ? script_entry(o->b) : (u64)thread_main;
    at_utcb(utcb)->w[word % ABI_STATE_EXT_WORDS] = o->c & 1 && word != 2 ? v << 32 | v : v;
}
static void op_mtd(const struct op *o, u64 utcb) {
    u32 m = o->b & 1 ? o->c | (u32)o->d << 8 | (u32)o->e << 16 | (u32)o->f << 24 : mtd_bits(o->a);
    at_utcb(utcb)->state.mtd = o->b & 2 ? m : at_utcb(utcb)->state.mtd | m;
}
/* Injection and intercepts, where single words rarely meet. */
static void op_inject(const struct op *o, u64 utcb) {
    struct abi_state *s = &at_utcb(utcb)->state;
    s->inj_info = o->a | (u32)(o->b & 7) << 8 | (u32)(o->b >> 3 & 7) << 11 | (o->b & 0x40 ? INJ_VALID : 0);
    s->inj_error = o->c;
    s->mtd |= MTD_INJ;
}
static void op_controls(const struct op *o, u64 utcb) {
    struct abi_state *s = &at_utcb(utcb)->state;
    s->ctrl[0] = value(o->a) | value(o->b);
    s->ctrl[1] = value(o->c) | (o->d & 0xc0 ? 1 : 0) | (o->d & 1) << 13 | (o->d & 2) << 3;
    s->exc_intercepts = o->e | (u32)(o->f & 7) << 16;
    s->mtd |= MTD_CTRL | (o->d & 4 ? MTD_MASKS : 0);
}

/* --- the machine --- */
static void op_memory(const struct op *o, u64 utcb) {
    (void)utcb;
    u64 va = (page(o->a) << PAGE_SHIFT) + o->b * 8ul % PAGE_SIZE, v = o->c;
    if (o->d & 1)
        sim_mem_write(va, &v, sizeof(v));
    else if (o->d & 2)
        (void)sim_mem_exec(va);
    else if (o->d & 4)
        (void)sim_mem_xchg32(va, o->c);
    else
        sim_mem_read(va, &v, sizeof(v));
}
static void op_port(const struct op *o, u64 utcb) {
    (void)utcb;
    if (o->b & 1)
        sim_port_out((unsigned)port(o->a) & 0xffff, 1u << (o->c & 1), o->d);
    else
        (void)sim_port_in((unsigned)port(o->a) & 0xffff, 1u << (o->c & 1));
}
/* A register keeps its value over whatever happens in between; nobody else sees it. */
static void op_fpu(const struct op *o, u64 utcb) {
    static u64 unique;
    u64 mine = ++unique << 8 | o->a;
    (void)utcb;
    sim_fpu_set(o->a, mine);
    for (unsigned n = o->b % 32; n; n--)
        sim_step();
    sim_expect_eq(sim_fpu_get(o->a), mine);
}
static void op_bases(const struct op *o, u64 utcb) {
    static u64 unique;
    u64 mine = ++unique << 12;
    (void)utcb;
    sim_fs_base_set(mine);
    for (unsigned n = o->b % 32; n; n--)
        sim_step();
    sim_expect_eq(sim_fs_base(), mine);
}
static void op_raise(const struct op *o, u64 utcb) {
    (void)utcb;
    sim_raise(o->a % 32, value(o->b));
}
static void op_irq(const struct op *o, u64 utcb) {
    static const u8 lines[] = {1, 17, 25, 4};
    (void)utcb;
    sim_step();
    sim_irq(o->a < 224 ? lines[o->a % 4] : o->a % ABI_MAX_GSIS);
}
static void op_fail(const struct op *o, u64 utcb) {
    (void)utcb;
    (o->a & 16 ? sim_fail_allocs : sim_fail_alloc)(1u + o->a % 16); /* every one: the kernel tries again */
}
static void op_steps(const struct op *o, u64 utcb) {
    (void)utcb;
    for (unsigned n = o->a; n && !stopped; n--)
        sim_step();
}
static void op_time(const struct op *o, u64 utcb) {
    (void)utcb;
    sim_step();
    sim_clock_advance(o->a < 224 ? o->a * 50ul : 1ul << (o->a - 208)); /* at most 2^47 ticks */
}
static void op_dma(const struct op *o, u64 utcb) {
    u64 v;
    (void)utcb;
    sim_step();
    if (o->c & 1)
        (void)sim_dma_write(routing_id(o->a), page(o->b) << PAGE_SHIFT, o->d);
    else
        (void)sim_dma_read(routing_id(o->a), page(o->b) << PAGE_SHIFT, &v);
}

static const struct {
    void (*run)(const struct op *, u64);
    const char *name;
} kinds[64] = {
    /* the number of a kind stays: programs are kept. The second half makes some likelier, until it is needed */
    {op_create_pd, "create_pd"},
    {op_create_ec, "create_ec"},
    {op_create_sc, "create_sc"},
    {op_create_pt, "create_pt"},
    {op_create_sm, "create_sm"},
    {op_revoke, "revoke"},
    {op_lookup, "lookup"},
    {op_ec_ctrl, "ec_ctrl"},
    {op_sc_ctrl, "sc_ctrl"},
    {op_pt_ctrl, "pt_ctrl"},
    {op_sm_up, "up"},
    {op_sm_down, "down"},
    {op_assign_pci, "assign_pci"},
    {op_assign_gsi, "assign_gsi"},
    {op_extension, "extension"},
    {op_raw, "raw"},
    {op_call, "call"},
    {op_reply, "reply"},
    {op_window_delegate, "delegate_to"},
    {op_window_translate, "translate_to"},
    {op_counts, "counts"},
    {op_item, "item"},
    {op_word, "word"},
    {op_state, "state"},
    {op_mtd, "mtd"},
    {op_inject, "inject"},
    {op_controls, "controls"},
    {op_memory, "memory"},
    {op_port, "port"},
    {op_fpu, "fpu"},
    {op_bases, "bases"},
    {op_raise, "raise"},
    {op_irq, "irq"},
    {op_fail, "fail"},
    {op_steps, "steps"},
    {op_time, "time"},
    {op_dma, "dma"},
    {op_message, "message"},
    {op_state, "state"},
    {op_state, "state"},
    {op_state, "state"},
    {op_mtd, "mtd"},
    {op_controls, "controls"},
    {op_inject, "inject"},
    {op_call, "call"},
    {op_call, "call"},
    {op_call, "call"},
    {op_message, "message"},
    {op_message, "message"},
    {op_item, "item"},
    {op_item, "item"},
    {op_revoke, "revoke"},
    {op_revoke, "revoke"},
    {op_revoke, "revoke"},
    {op_create_ec, "create_ec"},
    {op_create_pt, "create_pt"},
    {op_create_sc, "create_sc"},
    {op_create_pd, "create_pd"},
    {op_sm_down, "down"},
    {op_sm_up, "up"},
    {op_memory, "memory"},
    {op_window_delegate, "delegate_to"},
    {op_steps, "steps"},
    {op_fail, "fail"},
};
const unsigned op_kinds = ARRAY_SIZE(kinds);

const char *op_name(u8 code) { return kinds[code % ARRAY_SIZE(kinds)].name; }

void op_run(const struct op *op, u64 utcb) { kinds[op->code % ARRAY_SIZE(kinds)].run(op, utcb); }
