/* AMD-V: entries and exits (src/arch/svm.c). ABI sections 4 and 8. */
#include "svm_fixture.h"

static void run_vmrun_intercept_clear_is_invalid(void **state) {
    (void)state;
    utcb.state.ctrl[1] = 0;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CTRL);
    assert_int_equal(run(), EVT_SVM_INVALID);
    assert_int_equal(rec.switches, 0);
    assert_int_equal(run(), EVT_SVM_INVALID); /* and again, and a new vCPU starts so */
    arch_vcpu_fini(&vcpu_ec);
    assert_int_equal(arch_vcpu_init(&vcpu_ec), NOVA_SUCCESS);
    assert_int_equal(run(), EVT_SVM_INVALID);
    assert_int_equal(rec.switches, 0);
}

static void run_forced_intercepts_stay(void **state) {
    (void)state;
    assert_int_equal(run(), 0x72);
    u32 misc1 = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 22 | 1u << 24 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 31;
    assert_int_equal(rec.seen->misc1, misc1);
    assert_int_equal(rec.seen->misc2, 0x207d);
    assert_int_equal(rec.seen->exc, 1u << 1 | 1u << 17 | 1u << 18);
    assert_int_equal(rec.seen->misc3, 0);
    assert_int_equal(rec.seen->clean, 0);
    assert_true(rec.seen->int_ctl & SVM_INT_V_MASKING);
    assert_true(rec.msr_efer & EFER_SVME);
    utcb.state.ctrl[0] = 1 << 18;
    utcb.state.exc_intercepts = 1 << 14;
    utcb.state.cr0_mask = 1;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CTRL);
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.seen->misc1, misc1 | 1 << 18);
    assert_false(rec.seen->exc & 1 << 14);
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_MASKS);
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.seen->misc1, misc1 | 1 << 18);
    assert_true(rec.seen->exc & 1 << 14);
    assert_int_equal(rec.seen->cr, 1 << 16);
}

static void msrpm_passes_only_what_the_vmcb_switches(void **state) {
    (void)state;
    const u8 *m = msrpm;
    unsigned clear = 0;
    for (unsigned i = 0; i < 2 * PAGE_SIZE * 8; i++)
        clear += !(m[i / 8] >> (i % 8) & 1);
    assert_int_equal(clear, 20);
    assert_int_equal(m[0x174 / 4], 0xc0);         /* 174, 175, 176 pass; 177 does not */
    assert_int_equal(m[0x800 + 0x80 / 4], 0x03);  /* EFER exits; STAR LSTAR CSTAR pass */
    assert_int_equal(m[0x800 + 0x84 / 4], 0xfc);  /* SFMASK */
    assert_int_equal(m[0x800 + 0x100 / 4], 0xc0); /* TSC_AUX exits */
}

static u64 seen_inj, seen_nrip, seen_int_ctl, abort_with;
static u64 abort_code;
static void guest_records(struct vmcb *b, struct uregs *r) {
    (void)r;
    seen_inj = b->eventinj;
    seen_nrip = b->nrip;
    seen_int_ctl = b->int_ctl & ~SVM_INT_TPR;
    b->exitintinfo = abort_with;
    if (abort_code)
        b->exitcode = abort_code;
}

static void inject(u32 info, u32 error) {
    utcb.state.inj_info = info;
    utcb.state.inj_error = error;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_INJ);
}

static void injection_window_bits_never_reach_the_hardware(void **state) {
    (void)state;
    rec.guest = guest_records;
    abort_with = abort_code = 0;
    inject(0xffffffff & ~0x700u, 0x1234);
    vcpu_ec.vcpu->nmi_window = false;
    assert_int_equal(run(), 0x72);
    assert_int_equal(seen_inj, 0x80000800ul | 0xff | 0x1234ul << 32);
    assert_true(rec.seen->misc1 & SVM_MISC1_VINTR);
    assert_int_equal(seen_int_ctl, SVM_INT_V_IRQ | SVM_INT_V_MASKING);
    run();
    assert_int_equal(seen_inj, 0); /* once */
    inject(0, 0);
    run();
    assert_false(rec.seen->misc1 & SVM_MISC1_VINTR);
    inject(INJ_IRQ_WINDOW, 0); /* alone */
    run();
    assert_int_equal(seen_int_ctl, SVM_INT_V_IRQ | SVM_INT_V_MASKING);
    inject(0, 0);
    run();
    assert_int_equal(seen_int_ctl, SVM_INT_V_MASKING);
}

static void injection_aborted_is_repeated(void **state) {
    (void)state;
    rec.guest = guest_records;
    inject(INJ_VALID | 0x30, 0);
    abort_with = SVM_EVENT(0x30, 0, 0), abort_code = SVM_EXIT_INTR;
    assert_int_equal(run(), -1); /* the kernel's exit */
    assert_int_equal(rec.preempts, 1);
    assert_int_equal(rec.resumes, 1);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_INJ, EVT_VCPU_RECALL);
    assert_int_equal(utcb.state.inj_info, INJ_VALID | 0x30);
    abort_code = SVM_EXIT_NPF;
    assert_int_equal(run(), EVT_SVM_NPF);
    assert_int_equal(seen_inj, SVM_EVENT(0x30, 0, 0));
    abort_with = 0, abort_code = 0;
    assert_int_equal(run(), 0x72); /* the handler did not ask for INJ: again */
    assert_int_equal(seen_inj, SVM_EVENT(0x30, 0, 0));
    inject(INJ_VALID | 0x31, 0);
    abort_with = SVM_EVENT(0x31, 0, 0), abort_code = SVM_EXIT_NPF;
    assert_int_equal(run(), EVT_SVM_NPF);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_INJ, EVT_SVM_NPF); /* it did: its decision */
    assert_int_equal(utcb.state.inj_info, INJ_VALID | 0x31);
    run();
    assert_int_equal(seen_inj, 0);
    abort_with = SVM_EVENT(14, SVM_EVENT_EXC, SVM_EVENT_ERROR | 0x8001001aul << 32), abort_code = SVM_EXIT_INTR;
    run();
    abort_with = 0, abort_code = 0;
    run();
    assert_int_equal(seen_inj, SVM_EVENT(14, SVM_EVENT_EXC, SVM_EVENT_ERROR | 0x8001001aul << 32));
    abort_with = SVM_EVENT(0x80, SVM_EVENT_SOFT, 0); /* the guest's INT runs again by itself */
    run();
    run();
    assert_int_equal(seen_inj, 0);
}

static bool takes;
static void guest_takes(struct vmcb *b, struct uregs *r) {
    guest_records(b, r);
    if (takes)
        b->int_ctl &= ~SVM_INT_PENDING;
}

/* On QEMU an interrupt that the guest can take is a virtual one (15.21.4), all others are EVENTINJ's; what becomes of it is told the same. */
static void interrupt_that_can_be_taken_is_virtual_on_qemu(void **state) {
    (void)state;
    rec.guest = guest_takes;
    svm.repeats_inj = true;
    utcb.state.rflags = RFLAGS_IF;
    utcb.state.intr_state = 0;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_RFLAGS | MTD_STA);
    abort_with = 0, abort_code = SVM_EXIT_INTR, takes = false;
    inject(INJ_VALID | 0x41, 0);
    for (int i = 0; i < 2; i++, abort_code = 0, takes = true) { /* the host's interrupt came first: again */
        assert_int_equal(run(), i ? 0x72 : -1);
        assert_int_equal(seen_inj, 0);
        assert_int_equal(seen_int_ctl, SVM_INT_V_IRQ | SVM_INT_VECTOR(0x41) | SVM_INT_V_MASKING);
    }
    run(); /* once */
    assert_int_equal(seen_inj, 0);
    assert_int_equal(seen_int_ctl, SVM_INT_V_MASKING);
    for (int type = 0; type < 4; type += 3) { /* interrupted: as APM and as QEMU have it */
        inject(INJ_VALID | 0x42, 0);
        abort_with = SVM_EVENT(0x42, type, 0), abort_code = SVM_EXIT_NPF;
        assert_int_equal(run(), EVT_SVM_NPF);
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_INJ, EVT_SVM_NPF);
        assert_int_equal(utcb.state.inj_info, INJ_VALID | 0x42);
    }
    abort_with = SVM_EVENT(31, SVM_EVENT_EXC, 0); /* an exception */
    assert_int_equal(run(), EVT_SVM_NPF);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_INJ, EVT_SVM_NPF);
    assert_int_equal(utcb.state.inj_info, INJ_VALID | 3 << 8 | 31);
    abort_with = 0, abort_code = 0;
    static const struct {
        u64 rflags;
        u32 shadow, inj;
    } direct[] = {{0, 0, INJ_VALID | 0x43},
                  {RFLAGS_IF, 1, INJ_VALID | 0x43},
                  {RFLAGS_IF, 0, INJ_VALID | INJ_IRQ_WINDOW | 0x43},
                  {RFLAGS_IF, 0, INJ_VALID | 31},
                  {RFLAGS_IF, 0, INJ_VALID | 2 << 8 | 2},
                  {RFLAGS_IF, 0, INJ_VALID | 4 << 8 | 0x43}};
    for (unsigned i = 0; i < sizeof(direct) / sizeof(*direct); i++) {
        utcb.state.rflags = direct[i].rflags, utcb.state.intr_state = direct[i].shadow;
        arch_vcpu_set(&vcpu_ec, &utcb, MTD_RFLAGS | MTD_STA);
        inject(direct[i].inj, 0);
        run();
        assert_int_equal(seen_inj, direct[i].inj & ~(u32)INJ_IRQ_WINDOW);
        assert_int_equal(seen_int_ctl, SVM_INT_V_MASKING | (direct[i].inj & INJ_IRQ_WINDOW ? SVM_INT_V_IRQ : 0));
        run();
        assert_int_equal(seen_inj, 0); /* an open window is not an interrupt that was not taken */
    }
}

/* Which events come again when an exit that the kernel consumes interrupts their delivery: not those of the guest's own instruction,
 * unless the VMM had injected them (ABI section 8). */
static void injection_of_own_instructions(void **state) {
    (void)state;
    static const struct {
        unsigned vec, type;
        bool again;
    } cases[] = {{0x80, SVM_EVENT_SOFT, false}, {3, SVM_EVENT_EXC, false}, {4, SVM_EVENT_EXC, false},
                 {5, SVM_EVENT_EXC, true},      {1, SVM_EVENT_EXC, true},  {3, 0, true},
                 {2, SVM_EVENT_NMI, true}};
    rec.guest = guest_records;
    abort_code = SVM_EXIT_INTR;
    for (unsigned mine = 0; mine < 2; mine++)
        for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
            abort_with = SVM_EVENT(cases[i].vec, cases[i].type, 0);
            vcpu_ec.vcpu->inj = mine ? abort_with : 0;
            vcpu_ec.vcpu->nmi_masked = false;
            vcpu_ec.vcpu->vmcb->rip = 0x1000, vcpu_ec.vcpu->vmcb->nrip = 0x55;
            assert_int_equal(run(), -1);
            assert_int_equal(seen_inj, mine ? abort_with : 0);
            /* INT of the VMM returns to RIP, whatever next RIP the last exit left (APM vol 2 15.20) */
            assert_int_equal(seen_nrip, mine && cases[i].type == SVM_EVENT_SOFT ? 0x1000 : 0x55);
            assert_int_equal(vcpu_ec.vcpu->inj, mine || cases[i].again ? abort_with : 0);
            assert_int_equal(vcpu_ec.vcpu->interrupted, abort_with);
            assert_false(vcpu_ec.vcpu->nmi_masked); /* not delivered */
        }
    abort_with = 0;
    vcpu_ec.vcpu->inj = SVM_EVENT(2, SVM_EVENT_NMI, 0);
    run();
    assert_true(vcpu_ec.vcpu->nmi_masked);
    assert_int_equal(vcpu_ec.vcpu->inj, 0);
}

static void exit_invalid_keeps_the_injection(void **state) {
    (void)state;
    rec.guest = guest_records;
    abort_with = 0;
    static const u64 codes[] = {~0ul, 0xffffffff};
    for (unsigned i = 0; i < 2; i++) {
        inject(INJ_VALID | 0x44, 0);
        abort_code = codes[i];
        assert_int_equal(run(), EVT_SVM_INVALID);
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_INJ, EVT_SVM_INVALID);
        assert_int_equal(utcb.state.inj_info, INJ_VALID | 0x44);
        abort_code = 0;
        run();
        assert_int_equal(seen_inj, SVM_EVENT(0x44, 0, 0));
    }
}

static void nmi_window_opens_at_iret(void **state) {
    (void)state;
    rec.guest = guest_records;
    abort_with = abort_code = 0;
    inject(INJ_VALID | 0x202 | INJ_NMI_WINDOW, 0);
    assert_int_equal(run(), 0x72);
    assert_true(rec.seen->misc1 & SVM_MISC1_IRET);
    assert_int_equal(run(), 0x72);
    abort_code = SVM_EXIT_IRET;
    assert_int_equal(run(), SVM_EXIT_IRET);
    unsigned n = rec.switches;
    vcpu_ec.vcpu->vmcb->exitinfo1 = vcpu_ec.vcpu->vmcb->exitinfo2 = 5; /* of an exit before */
    assert_int_equal(run(), SVM_EXIT_IRET);                            /* open: at once */
    assert_int_equal(rec.switches, n);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_QUAL | MTD_INJ, SVM_EXIT_IRET);
    assert_true(!utcb.state.qual[0] && !utcb.state.qual[1] && !utcb.state.inj_info);
    inject(0, 0);
    abort_code = 0;
    assert_int_equal(run(), 0x72);
    assert_false(rec.seen->misc1 & SVM_MISC1_IRET);
}

static u64 exit_args[3];
static void guest_exits(struct vmcb *b, struct uregs *r) {
    (void)r;
    seen_inj = b->eventinj;
    seen_nrip = b->nrip;
    guest_exit(exit_args[0], exit_args[1], exit_args[2]);
}
static int run_exit(u64 code, u64 info1, u64 info2) {
    rec.guest = guest_exits;
    exit_args[0] = code, exit_args[1] = info1, exit_args[2] = info2;
    return run();
}

static void exit_codes_become_events(void **state) {
    (void)state;
    assert_int_equal(run_exit(0x7b, 0x3f80011, 2), 0x7b);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_QUAL | MTD_RIP, 0x7b);
    assert_int_equal(utcb.state.qual[0], 0x3f80011);
    assert_int_equal(utcb.state.qual[1], 2);
    assert_int_equal(utcb.state.inst_len, 2);
    assert_int_equal(run_exit(0x400, 6, 0x12345678), EVT_SVM_NPF);
    assert_int_equal(vcpu_ec.fault_addr, 0x12345678);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_QUAL | MTD_RIP, EVT_SVM_NPF);
    assert_int_equal(utcb.state.qual[0], 6);
    assert_int_equal(utcb.state.qual[1], 0x12345678);
    assert_int_equal(utcb.state.inst_len, 0);
    assert_int_equal(run_exit(0x7f, 0, 0), 0x7f);
    assert_int_equal(run_exit(0x63, 0, 0), 0x63);
    assert_int_equal(run_exit(0x9f, 0, 0), 0x9f);
    assert_int_equal(rec.kills, 0);
    static const u64 outside[] = {0xa0, 0xff, 0x401, 0x403, ~1ul, 0x100000072};
    for (unsigned i = 0; i < ARRAY_SIZE(outside); i++)
        assert_int_equal(run_exit(outside[i], 0, 0), -1);
    assert_int_equal(rec.kills, ARRAY_SIZE(outside));
}

static void guest_exits_assisted(struct vmcb *b, struct uregs *r) {
    memset((u8 *)b + 0xd0, 0xcc, 16); /* APM vol 2 15.33: bytes fetched */
    *((u8 *)b + 0xd0) = 15;
    guest_exits(b, r);
}
/* A CPU with decode assists says more about an exit: the VMM gets it as it is, and all else is as without them. */
static void decode_assists_are_passed_on(void **state) {
    static const struct {
        u64 code, info1, info2;
    } exits[] = {{0x10, 1ul << 63 | 5, 0}, {0x79, 0xffff800000001000, 0}, {0x75, 0x80, 0}, {0x400, 6, 0x12345678}};
    for (unsigned assisted = 0; assisted < 2; assisted++) {
        teardown(state);
        assert_int_equal(setup_with(1 | assisted << 7, 64), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(exits); i++) {
            u64 code = exits[i].code;
            rec.guest = assisted ? guest_exits_assisted : guest_exits;
            exit_args[0] = code, exit_args[1] = exits[i].info1, exit_args[2] = exits[i].info2;
            unsigned event = code == 0x400 ? EVT_SVM_NPF : (unsigned)code;
            assert_int_equal(run(), event);
            arch_vcpu_get(&vcpu_ec, &utcb, MTD_QUAL | MTD_RIP, event);
            assert_int_equal(utcb.state.qual[0], exits[i].info1);
            assert_int_equal(utcb.state.qual[1], exits[i].info2);
            assert_int_equal(utcb.state.inst_len, 0);
        }
    }
}

static void exit_resolved_by_the_kernel_unless_asked_for(void **state) {
    (void)state;
    rec.guest = guest_exits;
    struct {
        u64 code, inj;
    } cases[] = {
        {0x41, SVM_EVENT(1, 3, 0)}, {0x51, SVM_EVENT(17, 3, 0x800)}, {0x52, SVM_EVENT(18, 3, 0)},
        {0x84, SVM_EVENT(6, 3, 0)}, {0x7a, SVM_EVENT(6, 3, 0)},
    };
    u64 *dr7 = &vcpu_ec.vcpu->vmcb->dr7;
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        *dr7 = 0x2400; /* GD: delivery of #DB clears it, APM vol 2 13.1.1.4 */
        assert_int_equal(run_exit(cases[i].code, 0, 0), -1);
        assert_int_equal(*dr7, cases[i].code == 0x41 ? 0x400 : 0x2400);
        assert_int_equal(rec.preempts, i + 1);
        assert_int_equal(run_exit(0x72, 0, 0), 0x72);
        assert_int_equal(seen_inj, cases[i].inj);
    }
    utcb.state.ctrl[0] = 1 << 26;
    utcb.state.ctrl[1] = 1 | 1 << 4 | 1 << 13;
    utcb.state.exc_intercepts = 1 << 1 | 1 << 17 | 1 << 18;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CTRL | MTD_MASKS);
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++)
        assert_int_equal(run_exit(cases[i].code, 0, 0), (int)cases[i].code);
    assert_int_equal(run_exit(0x8d, 0, 0), 0x8d);
}

static void tsc_aux_is_the_guests_while_it_runs(void **state) {
    (void)state;
    utcb.state.tsc_aux = 9;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_TSC_AUX);
    utcb.state.tsc_aux = 5;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_PAT | MTD_SYSCALL | MTD_MASKS); /* other extensions leave it */
    run();
    assert_int_equal(rec.aux_in_guest, 9);
    assert_int_equal(rec.msr_tsc_aux, 0); /* the host's */
    utcb.state.tsc_aux = 0;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_TSC_AUX);
    run();
    assert_int_equal(rec.aux_in_guest, 0);
}

static void xsetbv_switches_xcr0(void **state) {
    (void)state;
    struct vmcb *b = vcpu_ec.vcpu->vmcb;
    run();
    assert_int_equal(rec.xcr0_in_guest, 1);
    b->rip = 0x1000, b->rax = 7;
    assert_int_equal(run_exit(0x8d, 0, 0), -1);
    assert_int_equal(b->rip, 0x1003);
    assert_int_equal(run_exit(0x72, 0, 0), 0x72);
    assert_int_equal(seen_inj, 0);
    assert_int_equal(rec.xcr0_in_guest, 7);
    static const u64 bad[] = {0, 2, 5, 0xf, 0x8000000000000001};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        b->rax = bad[i];
        vcpu_ec.regs.rdx = bad[i] >> 32;
        assert_int_equal(run_exit(0x8d, 0, 0), -1);
        assert_int_equal(b->rip, 0x1003);
        run_exit(0x72, 0, 0);
        assert_int_equal(seen_inj, SVM_EVENT(13, 3, 0x800));
    }
    vcpu_ec.regs.rdx = 0, b->rax = 1, b->cpl = 3;
    run_exit(0x8d, 0, 0);
    assert_int_equal(vcpu_ec.vcpu->xcr0, 7);
}

static void guest_xsetbv(struct vmcb *b, struct uregs *r) {
    (void)b, (void)r;
    rec.xcr0 = 3;
}
/* QEMU 7.2 does not honour the intercept. */
static void xsetbv_that_did_not_exit_is_kept(void **state) {
    (void)state;
    rec.guest = guest_xsetbv;
    run(); /* asserts the host's value */
    rec.guest = NULL;
    run();
    assert_int_equal(rec.xcr0_in_guest, 3);
}

static void hazard_stops_the_entry(void **state) {
    (void)state;
    cpu0.hazard = HZ_SHOOT;
    assert_int_equal(run(), -1);
    cpu0.hazard = 0;
    vcpu_ec.hazard = EC_HZ_RECALL;
    assert_int_equal(run(), -1);
    assert_int_equal(rec.resumes, 2);
    assert_int_equal(rec.switches, 0);
    vcpu_ec.hazard = 0;
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.flushes_all, 1); /* still owed after the entries that were not */
}

/* An entry that a hazard stopped leaves nothing behind: the flush that it owed is done by who comes next, and the event that it would have
 * injected is gone if the VMM takes it back. */
static void stopped_entry_owes_its_flush_not_its_event(void **state) {
    (void)state;
    static struct ec other;
    vcpu_make(&other);
    rec.guest = guest_records;
    inject(0x80000020, 0);
    cpu0.hazard = HZ_SHOOT;
    assert_int_equal(run(), -1);
    cpu0.hazard = 0;
    cpu0.ec = &other;
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.flushes_all, 1);
    cpu0.ec = &vcpu_ec;
    inject(0, 0);
    assert_int_equal(run(), 0x72);
    assert_int_equal(seen_inj, 0);
    arch_vcpu_fini(&other);
}

static void asids_never_run_out(void **state) {
    (void)state;
    enum { N = 40 };
    static struct ec ecs[N];
    for (unsigned i = 0; i < N; i++)
        vcpu_make(&ecs[i]);
    static u64 owner_of[16]; /* vCPU + 1 that used the ASID since the last flush */
    memset(owner_of, 0, sizeof(owner_of));
    u32 seed = 1;
    for (unsigned i = 0; i < 5000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned n = (seed >> 16) % N;
        bool shot = (seed >> 8) % 7 == 0;
        if (shot)
            guest_pd.guest_gen++;
        unsigned flushes = rec.flushes_all;
        cpu0.ec = &ecs[n];
        cpu0.hazard = (seed >> 24) % 5 == 0;
        run();
        if (cpu0.hazard)
            continue;
        if (rec.flushes_all != flushes)
            memset(owner_of, 0, sizeof(owner_of));
        u64 *slot = &owner_of[rec.seen->asid], me = (n + 1) | guest_pd.guest_gen << 8;
        assert_true(*slot == 0 || *slot == me || (*slot & 0xff) == 0);
        *slot = me;
    }
    assert_true(rec.flushes_all > 100);
    for (unsigned i = 0; i < N; i++)
        arch_vcpu_fini(&ecs[i]);
}

static void flush_by_asid_where_there_is_one(void **state) {
    teardown(state);
    assert_int_equal(setup_with(1 | 1 << 3 | 1 << 6, 64), 0);
    run();
    u32 asid = rec.seen->asid;
    assert_int_equal(rec.flushes_asid, 0);
    guest_pd.guest_gen++;
    cpu0.hazard = 1;
    run();
    cpu0.hazard = 0;
    run();
    assert_int_equal(rec.flushes_asid, 1);
    assert_int_equal(rec.seen->asid, asid);
    run();
    assert_int_equal(rec.flushes_asid, 1);
    rec.seen->rip = 0x100, rec.seen->nrip = 0x104;
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_RIP, 0x72);
    assert_int_equal(utcb.state.inst_len, 4);
}

/* A VMM that writes CR0, CR3, CR4 or EFER does what MOV would do: translations that they led to are gone (15.16.1: entries of an ASID
 * stay until somebody flushes them), also if the value stays the same. */
static void control_registers_of_the_vmm_flush(void **state) {
    teardown(state);
    assert_int_equal(setup_with(1 | 1 << 3 | 1 << 6, 64), 0);
    run();
    static const u32 flush[] = {MTD_CR, MTD_EFER, MTD_CR | MTD_EFER | MTD_RIP},
                     keep[] = {MTD_RIP, MTD_ALL & ~(MTD_CR | MTD_EFER)};
    for (unsigned i = 0; i < ARRAY_SIZE(flush); i++) {
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_ALL, 0x72);
        arch_vcpu_set(&vcpu_ec, &utcb, flush[i]);
        run();
        assert_int_equal(rec.flushes_asid, i + 1);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(keep); i++) {
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_ALL, 0x72);
        arch_vcpu_set(&vcpu_ec, &utcb, keep[i]);
        run();
        assert_int_equal(rec.flushes_asid, ARRAY_SIZE(flush));
    }
}

static void guest_writes_registers(struct vmcb *b, struct uregs *r) {
    (void)b;
    r->rbx++;
    for (unsigned n = 0; n < 4; n++)
        rec.dr[n] += n + 1;
    rec.pkru++;
}
static void lazy_registers_belong_to_their_vcpu(void **state) {
    (void)state;
    static struct ec other;
    vcpu_make(&other);
    rec.guest = guest_writes_registers;
    for (unsigned i = 0; i < 3; i++) {
        cpu0.ec = &vcpu_ec;
        run();
        run();
        cpu0.ec = &other;
        run();
        for (unsigned n = 0; n < 4; n++)
            assert_int_equal(rec.dr[n], (n + 1) * (i + 1));
        assert_int_equal(rec.pkru, i + 1);
    }
    arch_vcpu_fini(&other); /* the owner goes */
    cpu0.ec = &vcpu_ec;
    run();
    assert_int_equal(rec.dr[0], 7);
    assert_int_equal(vcpu_ec.regs.rbx, 7);
}

static void nested_table_is_the_domains(void **state) {
    (void)state;
    run();
    assert_int_equal(rec.seen->n_cr3, (u64)npt_empty);
    assert_int_equal(rec.seen->np_enable, 1);
    guest_pd.guest.root = PADDR(0x7000);
    run();
    assert_int_equal(rec.seen->n_cr3, 0x7000);
}

static void guest_ports_map(void **state) {
    (void)state;
    assert_int_equal(arch_guest_ports(&guest_pd, 0, 0x10000, false), NOVA_SUCCESS);
    assert_null(guest_pd.guest_pio_bitmap);
    run();
    assert_int_equal(rec.seen->iopm, (u64)iopm_all);
    assert_int_equal(arch_guest_ports(&guest_pd, 0x3f3, 0x1b, true), NOVA_SUCCESS);
    const u8 *m = guest_pd.guest_pio_bitmap;
    for (unsigned p = 0; p < 4 * PAGE_SIZE * 8; p++)
        assert_int_equal(m[p / 8] >> (p % 8) & 1, p < 0x3f3 || p >= 0x40e);
    run();
    assert_int_equal(rec.seen->iopm, (u64)m);
    assert_int_equal(arch_guest_ports(&guest_pd, 0, 0x10000, false), NOVA_SUCCESS);
    for (unsigned p = 0; p < 4 * PAGE_SIZE; p++)
        assert_int_equal(m[p], 0xff);
}

static void vcpu_without_hardware_is_bad_ftr(void **state) {
    (void)state;
    struct ec ec = {.pd = &guest_pd, .cpu = 1}; /* a CPU that was not initialised */
    assert_int_equal(arch_vcpu_init(&ec), NOVA_BAD_FTR);
    assert_int_equal(arch_vcpu_features(), HIP_SVM);
    rec.msr_vm_cr = 1 << 4; /* SVMDIS, APM vol 2 15.30.1 */
    assert_non_null(strstr(vendor_choose(), "disabled by the firmware"));
    rec.msr_vm_cr = 0;
    assert_null(vendor_choose());
    rec.features_d = 0; /* no nested paging */
    vendor = NULL;
    assert_int_equal(arch_vcpu_features(), 0);
    assert_false(arch_vcpu_cpu_init(&cpu0));
    assert_int_equal(arch_vcpu_init(&ec), NOVA_BAD_FTR);
    vendor = &svm_vendor;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(run_vmrun_intercept_clear_is_invalid),
        T(run_forced_intercepts_stay),
        T(msrpm_passes_only_what_the_vmcb_switches),
        T(injection_window_bits_never_reach_the_hardware),
        T(injection_aborted_is_repeated),
        T(interrupt_that_can_be_taken_is_virtual_on_qemu),
        T(injection_of_own_instructions),
        T(exit_invalid_keeps_the_injection),
        T(nmi_window_opens_at_iret),
        T(exit_codes_become_events),
        T(decode_assists_are_passed_on),
        T(exit_resolved_by_the_kernel_unless_asked_for),
        T(tsc_aux_is_the_guests_while_it_runs),
        T(xsetbv_switches_xcr0),
        T(xsetbv_that_did_not_exit_is_kept),
        T(hazard_stops_the_entry),
        T(stopped_entry_owes_its_flush_not_its_event),
        T(asids_never_run_out),
        T(flush_by_asid_where_there_is_one),
        T(control_registers_of_the_vmm_flush),
        T(lazy_registers_belong_to_their_vcpu),
        T(nested_table_is_the_domains),
        T(guest_ports_map),
        T(vcpu_without_hardware_is_bad_ftr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
