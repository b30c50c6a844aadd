/* Goal: VM entry is no way into the kernel, on real instructions too (sections 4 and 8): whatever a VMM writes into a vCPU's state, the vCPU runs and
 * leaves with an event, or the entry comes back as the invalid-guest-state event; afterwards good state runs again.
 * Method: a handler that answers every event of a guest with the whole state, a few words of it at and across the boundaries of validity, 20 states
 * per round of the suite; the guest that runs on for too long is recalled. tests/sim/entry_test.c does the same with a guest that does more. */
#include "abi.h"

#define GPA            0x1000ul
#define MTD_ALL        (0x1fffffu | ABI_MTD_EXT)
#define STATES_A_ROUND 20u

static struct thread handler;
static unsigned events, invalid, wanted, others;
static u64 guest_ip, cpuids;
static bool was_good;

static bool vmx(void) { return mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features))) & HIP_VMX; }
static u64 invalid_event(void) { return vmx() ? EVT_VMX_INVALID : EVT_SVM_INVALID; }
static u64 cpuid_event(void) { return vmx() ? 10 : 0x72; } /* SDM vol 3 appendix C, APM vol 2 appendix C */

static void segment_put(unsigned word, u64 ar) {
    utcb_put(&handler, word, ar << 16 | 0xffffull << 32);
    utcb_put(&handler, word + 1, 0);
}
/* Real mode at the guest's first instruction, with everything that an entry needs. */
static void state_good(void) {
    const struct thread *t = &handler;
    for (unsigned i = 1; i < ABI_STATE_EXT_WORDS; i++)
        utcb_put(t, i, 0);
    utcb_put(t, STATE_WORD(rip), guest_ip);
    utcb_put(t, STATE_WORD(rflags), 2);
    utcb_put(t, STATE_WORD(cr0), 0x30);
    utcb_put(t, STATE_WORD(dr7), 0x400);
    utcb_put(t, STATE_WORD(pat), 0x0007040600070406);
    utcb_put(t, STATE_WORD(xcr0), 1);
    utcb_put(t, STATE_WORD(ctrl), vmx() ? 0 : 1ul << 32 | 1ul << 18); /* intercepts of VMRUN and CPUID */
    for (unsigned w = STATE_WORD(es); w <= STATE_WORD(idtr); w += 2)
        segment_put(w, w == STATE_WORD(cs) ? 0x9b : w == STATE_WORD(ldtr) ? 0x82 : w == STATE_WORD(tr) ? 0x8b : 0x93);
}

/* What emulators do not survive; not the kernel's fault, and nothing that it could prevent. QEMU 7.2 loses itself when a guest leaves with EFER.LME set and CR4.PAE and CR0.PG clear: its VM exit does not bring back the host's CR0
 * (cpu_x86_update_cr0: "XXX: generate an exception"). Bochs 2.7 with AMD-V panics when a guest leaves in virtual-8086 mode; with VT-x
 * no interrupt leaves a guest that is entered with interrupts off and waits (HLT) or spins (TEST=modes). */
static void emulator_spare(void) {
    u64 efer = utcb_get(&handler, STATE_WORD(efer));
    if (!vmx() && !(utcb_get(&handler, STATE_WORD(cr4)) & 0x20))
        utcb_put(&handler, STATE_WORD(efer), efer &= ~0x100ul);
    if (!vmx())
        utcb_put(&handler, STATE_WORD(rflags), utcb_get(&handler, STATE_WORD(rflags)) & ~(1ul << 17));
    else
        utcb_put(&handler, STATE_WORD(rflags), utcb_get(&handler, STATE_WORD(rflags)) | 1ul << 9);
}

static void state_spoil(void) {
    static const u64 edges[] = {0,         ~0ul,       0x7ffffffffffful,     0x800000000000ul,
                                1ul << 40, 0xffffffff, 0xffff800000000000ul, 0xffff7ffffffffffful,
                                1ul << 32, 0x80000000, 0x80000b0d,           0x80000202};
    for (unsigned n = 1 + abi_random(3); n; n--) {
        unsigned word = 1 + abi_random(ABI_STATE_EXT_WORDS - 1);
        u64 v = (u64)abi_random(~0u) << 32 | abi_random(~0u);
        unsigned how = abi_random(3);
        if (how == 0 &&
            word != STATE_WORD(rip)) /* an address of this program's, in the simulator: equal traces in all builds */
            v = utcb_get(&handler, word) ^ 1ul << abi_random(64);
        else if (how == 1)
            v = edges[abi_random(sizeof(edges) / sizeof(edges[0]))];
        utcb_put(&handler, word, v);
    }
}

/* PID: event. The first good state may leave for any reason that has nothing to do with the entry, a page fault of the guest's first fetch included. */
ENTRY(on_any_event) {
    if (was_good && rdi == invalid_event())
        others++;
    cpuids += was_good && rdi == cpuid_event();
    invalid += rdi == invalid_event();
    __atomic_fetch_add(&events, 1, __ATOMIC_SEQ_CST);
    state_good();
    was_good = events >= wanted || !abi_random(4);
    if (!was_good) {
        state_spoil();
        emulator_spare();
    }
    utcb_put(&handler, 0, MTD_ALL);
    utcb_set_items(&handler, ABI_STATE_EXT_WORDS, 0);
    if (events == 1) {
        utcb_put_item(&handler, 0, crd_mem(VA_RAM >> 12, 0, PERM_MEM_ALL), DELEGATE(GPA >> 12, ITEM_G));
        utcb_set_items(&handler, ABI_STATE_EXT_WORDS, 1);
    }
}

static void entry_any_state(void) {
    sel_t base = sels_new(8), pd = sel_new(), vcpu = sel_new();
    unsigned cpu = abi_cpus - 1;
    events = invalid = others = 0, cpuids = 0, was_good = false, wanted = STATES_A_ROUND * machine_rounds();
    guest_ip = machine_guest_ip(GUEST_CPUID, VA_RAM, GPA);
    thread_local(&handler, SEL_PD, cpu);
    for (unsigned e = 0; e < ABI_EVENTS_VCPU; e++) {
        CHECK_EQ(nova_create_pt(base + e, SEL_PD, handler.ec, 0, IP(on_any_event)), NOVA_SUCCESS);
        CHECK_EQ(nova_pt_ctrl(base + e, e), NOVA_SUCCESS);
    }
    CHECK_EQ(nova_create_pd(pd, SEL_PD, crd_obj(base, 8, 0x1f)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(vcpu, pd, 0, abi_cpu[cpu], 0, 0, true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(PRIO_MAIN - 1, 10000)), NOVA_SUCCESS);
    for (unsigned seen = 0, quiet = 0; seen < wanted + 20 && quiet < 2000 && !abi_failed();) {
        pause_us(200);
        unsigned now = __atomic_load_n(&events, __ATOMIC_SEQ_CST);
        quiet = now == seen ? quiet + 1 : 0;
        seen = now;
        if (quiet)
            CHECK_EQ(nova_recall(vcpu), NOVA_SUCCESS); /* it runs on, or waits for an interrupt that does not come */
    }
    CHECK(events >= wanted + 20);
    CHECK_EQ(others, 0);
    CHECK(cpuids);
    abi_note("entry_any_state: states", events);
    abi_note("entry_any_state: refused", invalid);
    abi_note("entry_any_state: seed", abi_seed);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS); /* quietly: the log stands in the middle of ours */
    CHECK(wanted < 1000 || (invalid > wanted / 20 && invalid < wanted / 20 * 19));
}

const struct abi_case entry_cases[] = {CASE_FEATURE(entry_any_state, HIP_SVM | HIP_VMX), {0}};
