/* Goal: vCPUs, section 4: STARTUP, RECALL, invalid state, exits. Method: a guest of a few instructions at guest-physical 0x1000 (a
 * script in the simulator) in a PD of its own; what differs between AMD-V and VT-x stands in exit_number(). */
#include "abi.h"

#define GPA 0x1000ul

enum exit { EXIT_CPUID, EXIT_HLT, EXIT_FAULT, EXIT_INVALID };
static bool vmx(void) { return mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features))) & HIP_VMX; }
/* AMD APM vol 2 appendix C, Intel SDM vol 3 appendix C. */
static unsigned exit_number(enum exit e) {
    static const uint8_t numbers[2][4] = {{0x72, 0x78, EVT_SVM_NPF, EVT_SVM_INVALID},
                                          {10, 12, EVT_VMX_EPT, EVT_VMX_INVALID}};
    return numbers[vmx()][e];
}

static struct thread handler;
static sel_t vcpu, sc, pd, base, done;
static u64 seen[UTCB_WORDS], seen_items, event_count[256], guest_ip;
static enum machine_guest kind;
static unsigned stop_at; /* event after which the handler does not reply any more */

static void seg_put(const struct thread *t, unsigned word, u64 sel, u64 ar, u64 limit) {
    utcb_put(t, word, sel | ar << 16 | limit << 32);
    utcb_put(t, word + 1, 0);
}
/* Real mode; AMD-V: intercepts VMRUN and CPUID (APM vol 2 appendix B, offsets 10h, 0ch), VT-x: what is forced. */
static void guest_state(const struct thread *t) {
    for (unsigned i = 1; i < ABI_STATE_WORDS; i++)
        utcb_put(t, i, 0);
    utcb_put(t, STATE_WORD(rip), guest_ip);
    utcb_put(t, STATE_WORD(rflags), 2);
    utcb_put(t, STATE_WORD(ctrl), vmx() ? 0 : 1ul << 32 | 1ul << 18);
    utcb_put(t, STATE_WORD(cr0), 0x10);
    utcb_put(t, STATE_WORD(dr7), 0x400);
    seg_put(t, STATE_WORD(es), 0, 0x93, 0xffff);
    seg_put(t, STATE_WORD(cs), 0, 0x9b, 0xffff);
    seg_put(t, STATE_WORD(ss), 0, 0x93, 0xffff);
    seg_put(t, STATE_WORD(ds), 0, 0x93, 0xffff);
    seg_put(t, STATE_WORD(fs), 0, 0x93, 0xffff);
    seg_put(t, STATE_WORD(gs), 0, 0x93, 0xffff);
    seg_put(t, STATE_WORD(ldtr), 0, 0x82, 0xffff);
    seg_put(t, STATE_WORD(tr), 0, 0x8b, 0xffff);
    seg_put(t, STATE_WORD(gdtr), 0, 0, 0xffff);
    seg_put(t, STATE_WORD(idtr), 0, 0, 0xffff);
    utcb_put(t, 0,
             MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RIP | MTD_RFLAGS | MTD_DS_ES | MTD_FS_GS | MTD_CS_SS | MTD_TR |
                 MTD_LDTR | MTD_GDTR | MTD_IDTR | MTD_CR | MTD_DR | MTD_CTRL | MTD_INJ | MTD_STA | MTD_EFER);
}

/* PID: event. */
ENTRY(on_exit) {
    const struct thread *t = &handler;
    unsigned event = (unsigned)rdi;
    seen_items = utcb_items(t);
    for (unsigned i = 0; i < ABI_STATE_WORDS; i++)
        seen[i] = utcb_get(t, i);
    event_count[event]++;
    if (event == stop_at) {
        wake_up(done);
        for (;;)
            (void)nova_sm_down(SEL_NEVER, false, 0);
    }
    utcb_put(t, 0, 0);
    if (event == EVT_VCPU_STARTUP && kind != GUEST_NONE) {
        guest_state(t);
        utcb_put_item(t, 0, crd_mem(VA_RAM >> 12, 0, PERM_MEM_ALL), DELEGATE(GPA >> 12, ITEM_G));
        utcb_set_items(t, ABI_STATE_WORDS, 1);
    } else if (event == EVT_VCPU_STARTUP) {
        utcb_put(t, STATE_WORD(cr0), 0x80000010);
        utcb_put(t, 0, MTD_CR);
    } else if (event == exit_number(EXIT_CPUID)) {
        utcb_put(t, 0, MTD_RIP);
        utcb_put(t, STATE_WORD(rip), seen[STATE_WORD(rip)] + MACHINE_CPUID_LEN);
        wake_up(done);
    } else if (event == EVT_VCPU_RECALL) {
        wake_up(done);
    }
}

static void vcpu_make(unsigned cpu, enum machine_guest guest, unsigned stop) {
    const struct {
        unsigned event;
        u32 mtd;
    } portals[] = {{exit_number(EXIT_CPUID), MTD_RIP | MTD_ACDB}, {exit_number(EXIT_HLT), MTD_RIP | MTD_RFLAGS},
                   {exit_number(EXIT_FAULT), MTD_RIP | MTD_QUAL}, {exit_number(EXIT_INVALID), MTD_RIP},
                   {EVT_VCPU_STARTUP, MTD_RSP | MTD_RIP},         {EVT_VCPU_RECALL, MTD_RIP | MTD_RFLAGS}};
    for (unsigned i = 0; i < 256; i++)
        event_count[i] = 0;
    kind = guest, stop_at = stop;
    guest_ip = guest == GUEST_NONE ? 0 : machine_guest_ip(guest, VA_RAM, GPA);
    done = sm_new(0), pd = sel_new(), vcpu = sel_new(), base = sels_new(8);
    thread_local(&handler, SEL_PD, cpu);
    CHECK_EQ(nova_create_pd(pd, SEL_PD, crd_obj(base, 8, 0x1f)), NOVA_SUCCESS); /* too early: nothing there yet */
    for (unsigned i = 0; i < sizeof(portals) / sizeof(portals[0]); i++) {
        CHECK_EQ(nova_create_pt(base + portals[i].event, SEL_PD, handler.ec, portals[i].mtd, IP(on_exit)),
                 NOVA_SUCCESS);
        CHECK_EQ(nova_pt_ctrl(base + portals[i].event, portals[i].event), NOVA_SUCCESS);
    }
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_pd(pd, SEL_PD, crd_obj(base, 8, 0x1f)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(vcpu, pd, 0, abi_cpu[cpu], 0, 0, true), NOVA_SUCCESS);
}
static void vcpu_run(unsigned prio) {
    sc = sel_new();
    CHECK_EQ(nova_create_sc(sc, SEL_PD, vcpu, QPD_MAKE(prio, 1000000000)), NOVA_SUCCESS); /* does not end by itself */
}

static void vcpu_startup(void) {
    vcpu_make(0, GUEST_NONE, EVT_VCPU_STARTUP);
    vcpu_run(PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(event_count[EVT_VCPU_STARTUP], 1);
    CHECK_EQ(seen_items, UTCB_ITEMS(58, 0));
    CHECK_EQ(seen[0], MTD_RSP | MTD_RIP);
    CHECK_EQ(seen[STATE_WORD(rsp)], 0);
}
/* Paging without protected mode; on AMD-V entered with the VMRUN intercept clear, too: invalid guest state. */
static void vcpu_invalid(void) {
    vcpu_make(0, GUEST_NONE, exit_number(EXIT_INVALID));
    vcpu_run(PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(event_count[EVT_VCPU_STARTUP], 1);
    CHECK_EQ(event_count[exit_number(EXIT_INVALID)], 1);
}
static void vcpu_bad_cap_second_sc(void) {
    vcpu_make(0, GUEST_NONE, EVT_VCPU_STARTUP);
    vcpu_run(PRIO_MAIN);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(1, 1000)), NOVA_BAD_CAP);
    CHECK_EQ(nova_create_pt(sel_new(), SEL_PD, vcpu, 0, abi_exit_ip()), NOVA_BAD_CAP);
    wait_for(done);
}
static void vcpu_no_portal(void) {
    u64 a, b;
    vcpu_make(0, GUEST_NONE, 0);
    CHECK_EQ(nova_revoke(crd_obj(base + EVT_VCPU_STARTUP, 0, 0x1f), true), NOVA_SUCCESS);
    vcpu_run(PRIO_MAIN);
    pause_us(1000);
    CHECK_EQ(nova_sc_time(sc, &a), NOVA_SUCCESS);
    pause_us(1000);
    CHECK_EQ(nova_sc_time(sc, &b), NOVA_SUCCESS);
    CHECK_EQ(a, b);
}
static void vcpu_exit_cpuid(void) {
    vcpu_make(0, GUEST_CPUID, 0);
    vcpu_run(PRIO_MAIN - 1);
    wait_for(done);
    CHECK_EQ(event_count[EVT_VCPU_STARTUP], 1);
    CHECK_EQ(event_count[exit_number(EXIT_CPUID)], 1);
    CHECK_EQ(seen[STATE_WORD(rip)], guest_ip);
    CHECK_EQ(nova_recall(vcpu), NOVA_SUCCESS); /* it spins below us now */
    wait_for(done);
    CHECK_EQ(seen[STATE_WORD(rip)], guest_ip + MACHINE_CPUID_LEN);
}
static void vcpu_exit_hlt(void) {
    vcpu_make(0, GUEST_HLT, exit_number(EXIT_HLT));
    vcpu_run(PRIO_MAIN);
    wait_for(done);
    CHECK_EQ(event_count[exit_number(EXIT_HLT)], 1);
    CHECK_EQ(seen[STATE_WORD(rip)], guest_ip);
}
/* Running on another CPU: forced out. */
static void vcpu_recall_running(void) {
    vcpu_make(1, GUEST_SPIN, 0);
    vcpu_run(PRIO_MAIN);
    for (unsigned i = 0; i < 3; i++) {
        pause_us(500);
        CHECK_EQ(nova_recall(vcpu), NOVA_SUCCESS);
        wait_for(done);
    }
    CHECK_EQ(event_count[EVT_VCPU_STARTUP], 1);
    CHECK(event_count[EVT_VCPU_RECALL] >= 1);
}
/* The VM goes while it runs on another CPU. */
static void vcpu_pd_dies(void) {
    vcpu_make(1, GUEST_SPIN, 0);
    vcpu_run(PRIO_MAIN);
    pause_us(500);
    CHECK_EQ(nova_revoke(crd_obj(pd, 0, 0x1f), true), NOVA_SUCCESS);
    u64 a = 0, b = 1;
    for (unsigned i = 0; i < 100 && a != b; i++) {
        pause_us(1000);
        a = b;
        CHECK_EQ(nova_sc_time(sc, &b), NOVA_SUCCESS);
    }
    CHECK_EQ(a, b);
}

const struct abi_case vcpu_cases[] = {
    CASE_FEATURE(vcpu_startup, HIP_SVM | HIP_VMX),
    CASE_FEATURE(vcpu_invalid, HIP_SVM | HIP_VMX),
    CASE_FEATURE(vcpu_bad_cap_second_sc, HIP_SVM | HIP_VMX),
    CASE_FEATURE(vcpu_no_portal, HIP_SVM | HIP_VMX),
    CASE_FEATURE(vcpu_exit_cpuid, HIP_SVM | HIP_VMX),
    CASE_FEATURE(vcpu_exit_hlt, HIP_SVM | HIP_VMX),
    {"vcpu_recall_running", vcpu_recall_running, 2, HIP_SVM | HIP_VMX},
    {"vcpu_pd_dies", vcpu_pd_dies, 2, HIP_SVM | HIP_VMX},
    {0},
};
