/* Goal: register state in messages, sections 3 to 5 and 8: every MTD bit of threads and vCPUs by itself, what a reply may write, registers at
 * a portal's entry. Method: an MTD with one bit; the handler's data area is filled with a pattern before, so every word that must stay
 * shows. vCPUs are not run: with the VMRUN intercept clear they leave at once. */
#include "abi.h"

#define FILL    0xa5a5000000000000ul
#define MTD_ALL 32u

static struct thread thread, handler, server;
static sel_t done, base, pt;
static u64 seen_items, seen[UTCB_WORDS], events, regs[17], undefined_ip;
static u32 reply_mtd;
static u64 reply_value;

static void look(const struct thread *t) {
    events++;
    seen_items = utcb_items(t);
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        seen[i] = utcb_get(t, i);
}
static void fill(const struct thread *t) {
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        utcb_put(t, i, FILL + i);
}

/* Words of the data area that an MTD bit covers (offsets of section 3, divided by 8), for vCPUs; for threads those with `thread`. */
static const struct field {
    uint8_t bit, first, count;
    bool thread;
} fields[] = {
    {0, 6, 4, true},    {1, 11, 3, true},   {2, 10, 1, true},   {3, 1, 2, true},    {4, 3, 1, true},
    {5, 36, 2, false},  {5, 42, 2, false},  {6, 44, 4, false},  {7, 38, 4, false},  {8, 50, 2, false},
    {9, 48, 2, false},  {10, 52, 2, false}, {11, 54, 2, false}, {12, 26, 5, false}, {13, 32, 1, false},
    {14, 33, 3, false}, {15, 22, 2, true},  {17, 5, 1, false},  {18, 4, 1, false},  {19, 56, 2, false},
    {20, 31, 1, false}, {21, 58, 4, false}, {22, 14, 8, true},  {23, 62, 5, false}, {24, 67, 1, false},
    {25, 68, 1, false}, {26, 69, 2, false}, {27, 71, 1, false}, {28, 72, 3, false},
};
static bool covered(unsigned bit, unsigned word, bool thread_only) {
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const struct field *f = &fields[i];
        if (f->bit == bit && word >= f->first && word < f->first + f->count && (f->thread || !thread_only))
            return true;
    }
    return false;
}
/* The message of an MTD with just that bit. */
static void message_check(unsigned bit, bool is_thread) {
    CHECK_EQ(seen_items, UTCB_ITEMS(bit >= 21 && bit <= 28 ? ABI_STATE_EXT_WORDS : 58, 0));
    CHECK_EQ(seen[0], 1u << bit);
    for (unsigned i = 1; i < UTCB_WORDS; i++)
        if (!covered(bit, i, is_thread))
            CHECK_EQ(seen[i], FILL + i);
}

/* --- threads: #UD with known registers --- */
#define REG(i)           (0x1100000000000011ul * ((i) + 1))
#define ARITHMETIC_FLAGS 0x8d5ul
ENTRY(on_undefined) {
    const struct thread *t = (const struct thread *)rdi;
    look(t);
    for (unsigned i = 1; i < UTCB_WORDS; i++)
        utcb_put(t, i, reply_value);
    utcb_put(t, 0, reply_mtd | (MACHINE_UD_LEN ? MTD_RIP : 0)); /* on hardware the instruction must be left behind */
    utcb_put(t, STATE_WORD(rip), (seen[0] & MTD_RIP ? seen[STATE_WORD(rip)] : undefined_ip) + MACHINE_UD_LEN);
    utcb_set_items(t, 0, 0); /* the reply's MTD counts without it */
}
ENTRY(undefined) {
    (void)rdi;
    u64 r[17];
    for (unsigned i = 0; i < 16; i++)
        r[i] = REG(i);
    r[16] = ARITHMETIC_FLAGS | 0x202;
    machine_undefined_regs(r);
    for (unsigned i = 0; i < 17; i++)
        regs[i] = r[i];
    wake_up(done);
}
static void undefined_raise(u32 mtd, u32 out, u64 value) {
    static struct thread slot;
    reply_mtd = out, reply_value = value, events = 0;
    done = sm_new(0), base = sels_new(5);
    thread_local(&handler, SEL_PD, 0);
    thread_global(&slot, SEL_PD, 0, IP(undefined), 0);
    thread = slot;
    thread.ec = sel_new(), thread.utcb = utcb_new();
    CHECK_EQ(nova_create_ec(thread.ec, SEL_PD, thread.utcb, abi_cpu[0], thread.sp, base, true), NOVA_SUCCESS);
    CHECK_EQ(grab(crd_obj(EVENTS(0) + EVT_THREAD_STARTUP, 0, 0x1f), base + EVT_THREAD_STARTUP, 0, WINDOW_ALL(CRD_OBJ)),
             crd_obj(base + EVT_THREAD_STARTUP, 0, 0x1f));
    CHECK_EQ(nova_create_pt(base + 6, SEL_PD, handler.ec, mtd, IP(on_undefined)), NOVA_SUCCESS);
    CHECK_EQ(nova_pt_ctrl(base + 6, (u64)&handler), NOVA_SUCCESS);
    fill(&handler);
    thread_run(&thread, PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(events, 1);
}
/* Words of MTD bits 0, 1 and 22: the general registers in instruction encoding but RSP. */
static void registers_check(void) {
    for (unsigned i = 0; i < 16; i++)
        if (i != 4 && (seen[0] & (i < 4 ? MTD_ACDB : i < 8 ? MTD_BSD : MTD_R8_R15))) {
            static const uint8_t word[] = {6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21};
            CHECK_EQ(seen[word[i]], REG(i));
        }
}
static void mtd_thread_in(void) {
    undefined_raise(MTD_RIP, 0, 0);
    undefined_ip = seen[STATE_WORD(rip)];
    for (unsigned bit = 0; bit < MTD_ALL && !abi_failed(); bit++) {
        undefined_raise(1u << bit, 0, 0);
        message_check(bit, true);
        registers_check();
        if (bit == 3)
            CHECK_EQ(seen[STATE_WORD(inst_len)], 0);
        if (bit == 4)
            CHECK_EQ(seen[STATE_WORD(rflags)] & (ARITHMETIC_FLAGS | 0x3200), ARITHMETIC_FLAGS | 0x200);
        if (bit == 15) /* #UD: no error code, no address */
            CHECK(seen[STATE_WORD(qual)] == 0 && seen[STATE_WORD(qual) + 1] == 0);
    }
}
/* The reply writes what its MTD names and a thread has, nothing else. */
static void mtd_thread_out(void) {
    const u64 value = 0x4242424242424242;
    for (unsigned bit = 0; bit < MTD_ALL && !abi_failed(); bit++) {
        if (bit == 2 || bit == 3) /* where it goes on: exception_reply */
            continue;
        undefined_raise(MTD_RIP | MTD_RSP, 1u << bit, value);
        for (unsigned i = 0; i < 16; i++) {
            bool written = (bit == 0 && i < 4) || (bit == 1 && i >= 5 && i < 8) || (bit == 22 && i >= 8);
            if (i != 4)
                CHECK_EQ(regs[i], written ? value : REG(i));
        }
        CHECK_EQ(regs[16] & ARITHMETIC_FLAGS, (bit == 4 ? value : ~0ul) & ARITHMETIC_FLAGS);
    }
}

/* --- vCPUs: what is written at STARTUP comes back with the next event, by the same bit only --- */
static void vcpu_values(const struct thread *t) {
    for (unsigned i = 1; i < UTCB_WORDS; i++)
        utcb_put(t, i, 0x11110000ul * 0x10001 + i);
    for (unsigned i = STATE_WORD(es); i < STATE_WORD(tsc_value); i += 2) /* present data segments */
        utcb_put(t, i, 8ul * i | 0x93ul << 16 | 0xff00ul << 32);
    utcb_put(t, STATE_WORD(intr_state), 1);
    utcb_put(t, STATE_WORD(inj_info), 0x80000020); /* external interrupt, vector 0x20 */
    utcb_put(t, STATE_WORD(rflags), 0x46);
    utcb_put(t, STATE_WORD(cr0), 0x11);
    utcb_put(t, STATE_WORD(cr3), 0x5000);
    utcb_put(t, STATE_WORD(cr4), 0x20);
    utcb_put(t, STATE_WORD(cr8), 7);
    utcb_put(t, STATE_WORD(efer), 0x800);
    utcb_put(t, STATE_WORD(tpr), 0x30);
    utcb_put(t, STATE_WORD(tsc_aux), 0);
    utcb_put(t, STATE_WORD(xcr0), 1);
    utcb_put(t, STATE_WORD(xcr0) + 1, 0);
    utcb_put(t, STATE_WORD(pat), 0x0007040600010406);
    utcb_put(t, STATE_WORD(ctrl), 0); /* VMRUN intercept clear: leaves at once */
}
static void vcpu_leave(u64 rdi, bool startup) {
    const struct thread *t = &handler;
    (void)rdi;
    if (startup) {
        vcpu_values(t);
        utcb_put(t, 0, reply_mtd);
        utcb_set_items(t, 58, 0);
        return;
    }
    if (!events)
        look(t);
    wake_up(done);
    for (;;)
        (void)nova_sm_down(SEL_NEVER, false, 0);
}
ENTRY(on_vcpu_startup) { vcpu_leave(rdi, true); }
ENTRY(on_vcpu_invalid) { vcpu_leave(rdi, false); }
static u64 written[UTCB_WORDS];
static void vcpu_message(u32 out, u32 in) {
    sel_t pd = sel_new(), vcpu = sel_new();
    reply_mtd = out, events = 0;
    done = sm_new(0);
    thread_local(&handler, SEL_PD, 0);
    CHECK_EQ(nova_create_pt(base + EVT_VCPU_STARTUP, SEL_PD, handler.ec, 0, IP(on_vcpu_startup)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pt(base + EVT_SVM_INVALID, SEL_PD, handler.ec, in, IP(on_vcpu_invalid)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(pd, SEL_PD, crd_obj(base, 8, 0x1f)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(vcpu, pd, 0, abi_cpu[0], 0, 0, true), NOVA_SUCCESS);
    vcpu_values(&handler);
    for (unsigned i = 0; i < UTCB_WORDS; i++)
        written[i] = utcb_get(&handler, i);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(PRIO_MAIN, 10000)), NOVA_SUCCESS);
    wait_for(done);
    CHECK_EQ(events, 1);
    CHECK_EQ(nova_revoke(crd_obj(SCRATCH, SCRATCH_ORDER, 0x1f), true), NOVA_SUCCESS);
}
/* Words that come back as they were written; of the others some bits are the machine's. */
static bool word_is_exact(unsigned bit, unsigned i) {
    const u32 exact = MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RFLAGS | MTD_DS_ES | MTD_FS_GS | MTD_CS_SS | MTD_TR |
                      MTD_LDTR | MTD_CR | MTD_DR | MTD_SYSENTER | MTD_EFER | MTD_R8_R15 | MTD_SYSCALL | MTD_XSAVE |
                      MTD_PAT;
    return exact >> bit & 1 || i == STATE_WORD(rip) || i == STATE_WORD(tsc_offset) || i == STATE_WORD(gdtr) + 1 ||
           i == STATE_WORD(idtr) + 1;
}
static void mtd_vcpu_both_ways(void) {
    base = sels_new(8);
    for (unsigned bit = 0; bit < MTD_ALL && !abi_failed(); bit++) {
        vcpu_message(1u << bit, 1u << bit);
        CHECK_EQ(seen_items, UTCB_ITEMS(bit >= 21 && bit <= 28 ? ABI_STATE_EXT_WORDS : 58, 0));
        for (unsigned i = 1; i < UTCB_WORDS; i++) /* words of other bits: as the handler left them */
            if (!covered(bit, i, false) || word_is_exact(bit, i))
                CHECK_EQ(seen[i], written[i]);
        if (bit == 10 || bit == 11) /* limits: the word's upper half */
            CHECK_EQ(seen[bit == 10 ? STATE_WORD(gdtr) : STATE_WORD(idtr)] >> 32, 0xff00);
        if (bit == 17)
            CHECK_EQ(seen[STATE_WORD(inj_info)], written[STATE_WORD(inj_info)]);
        if (bit == 18)
            CHECK_EQ(seen[STATE_WORD(intr_state)] & 0xffffffff, 1);
        if (bit == 24)
            CHECK_EQ(seen[STATE_WORD(tpr)] & 0xff, 0x30);
        if (bit == 28)
            CHECK_EQ(seen[STATE_WORD(exc_intercepts)] & 0xffffffff, written[STATE_WORD(exc_intercepts)] & 0xffffffff);
    }
}
/* A reply without the bit changes nothing: a new vCPU's registers are zero whatever stood in the message. */
static void mtd_vcpu_not_named(void) {
    base = sels_new(8);
    vcpu_message(0, MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RIP | MTD_R8_R15 | MTD_SYSENTER);
    for (unsigned i = 6; i < 22; i++)
        CHECK_EQ(seen[i], 0);
    CHECK(seen[2] == 0 && seen[33] == 0 && seen[34] == 0 && seen[35] == 0);
}

/* --- portal entry: the callee's own registers, RDI = PID, RFLAGS 0x202 --- */
static u64 at_entry[17], patterns[16];
static unsigned unknown;
ENTRY_REGS(keeps_registers) {
    (void)rdi;
    unknown = machine_entry_read(at_entry);
    for (unsigned i = 0; i < 16; i++)
        patterns[i] = REG(i) ^ 0xf0f;
    machine_reply_regs(patterns);
}
static void call_entry_registers(void) {
    struct machine_call c;
    thread_local(&server, SEL_PD, 0);
    pt = portal_new(&server, 0, IP(keeps_registers));
    for (unsigned round = 0; round < 3; round++) {
        CHECK_EQ(nova_pt_ctrl(pt, 0x77000 + round), NOVA_SUCCESS);
        c = (struct machine_call){NOVA_RDI(HC_CALL, 0, pt), 0xbad1, 0xbad2, 0xbad3, 0xbad4};
        CHECK_EQ(machine_call_checked(&c), 0); /* and the caller keeps its own */
        CHECK_EQ(c.rdi, NOVA_SUCCESS);
        CHECK_EQ(at_entry[7], 0x77000 + round);
        CHECK_EQ(at_entry[16], 0x202);
        for (unsigned i = 0; i < 16; i++)
            if (i != 4 && i != 7 && !(unknown >> i & 1))
                CHECK_EQ(at_entry[i], round ? patterns[i] : 0);
    }
}

const struct abi_case state_cases[] = {
    CASE(mtd_thread_in),
    CASE(mtd_thread_out),
    CASE_FEATURE(mtd_vcpu_both_ways, HIP_SVM),
    CASE_FEATURE(mtd_vcpu_not_named, HIP_SVM),
    CASE(call_entry_registers),
    {0},
};
