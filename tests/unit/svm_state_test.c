/* AMD-V: messages and validity of guest state (src/arch/svm_state.c). ABI sections 3 and 8. */
#include "svm_fixture.h"

static void set_get_round_trip(void **state) {
    (void)state;
    u64 words[ABI_STATE_EXT_WORDS];
    for (unsigned i = 0; i < ABI_STATE_EXT_WORDS; i++)
        words[i] = 0x1000 + i * 0x11;
    memcpy(utcb.w, words, sizeof(words));
    struct abi_state *s = &utcb.state, in;
    s->rflags |= 2;
    s->ctrl[1] = 1;
    s->inj_info = INJ_VALID | 0x30;
    s->intr_state = 1;
    s->cr8 = 5;
    s->tpr = 0x50;
    s->tpr_threshold = 3;
    s->xcr0 = 7, s->xss = 0;
    s->tsc_offset = 77;
    s->efer = 0x501;
    for (struct abi_seg *g = &s->es; g <= &s->tr; g++)
        g->ar = 0xa9b;
    s->tr.ar = 0x8b;
    s->ss.ar = 0x4f3; /* DPL 3 = CPL 3 */
    s->fs.ar = 0x1000;
    in = *s;
    arch_vcpu_set(&vcpu_ec, &utcb, ALL_MTD);
    assert_int_equal(vcpu_ec.vcpu->vmcb->cpl, 3);
    assert_int_equal(vcpu_ec.vcpu->vmcb->fs.attrib, 0);
    assert_true(vcpu_ec.vcpu->vmcb->efer & EFER_SVME);
    assert_true(vcpu_ec.vcpu->vmcb->cr & SVM_CR8_WRITE);
    memset(&utcb, 0xee, sizeof(utcb));
    arch_vcpu_get(&vcpu_ec, &utcb, ALL_MTD, EVT_VCPU_RECALL);
    in.mtd = in.preempt_timer = s->mtd; /* not ours to write */
    in.ctrl[0] = in.ctrl[1] = 0xeeeeeeee;
    in.reserved = 0xeeeeeeee;
    in.inst_len = in.qual[0] = in.qual[1] = in.actv_state = 0;
    in.tsc_value = 1077;
    memset(in.pdpte, 0, sizeof(in.pdpte));
    in.gdtr.sel = in.gdtr.ar = in.idtr.sel = in.idtr.ar = 0;
    in.cr0_mask = in.cr4_mask = ~0ul;
    assert_memory_equal(&in, s, sizeof(in));
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_TSC); /* write adds */
    assert_int_equal(vcpu_ec.vcpu->vmcb->tsc_offset, 154);
}

static void get_touches_only_what_the_mtd_names(void **state) {
    (void)state;
    for (unsigned n = 0; n < 32; n++) {
        memset(&utcb, 0xee, sizeof(utcb));
        arch_vcpu_get(&vcpu_ec, &utcb, 1u << n, 0x72);
        unsigned changed = 0;
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            changed += utcb.w[i] != 0xeeeeeeeeeeeeeeee;
        static const u8 words[32] = {4, 3, 1, 2, 1, 4, 4, 4, 2, 2, 2, 2, 5, 1, 3,
                                     2, 0, 1, 1, 2, 1, 4, 8, 5, 1, 1, 2, 1, 3};
        assert_int_equal(changed, words[n]);
        assert_int_equal(utcb.items, 0xeeeeeeeeeeeeeeee);
    }
}

/* Each MTD bit alone: writing with it changes what it names and nothing else. */
static void set_takes_only_what_the_mtd_names(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    for (unsigned n = 0; n < 32; n++) {
        struct abi_utcb before, after;
        memset(&utcb, 0, sizeof(utcb));
        arch_vcpu_set(&vcpu_ec, &utcb, ALL_MTD & ~(u32)MTD_TSC);
        arch_vcpu_get(&vcpu_ec, &utcb, ALL_MTD, EVT_VCPU_RECALL);
        before = utcb;
        for (unsigned i = 0; i < ABI_STATE_EXT_WORDS; i++)
            utcb.w[i] = 0x0001000100010001ul * (i + 0x21);
        s->inj_info = INJ_VALID | 0x30, s->tpr_threshold = 5, s->tpr = 0x70, s->cr8 = 6, s->intr_state = 1,
        s->efer = 0x501;
        for (struct abi_seg *g = &s->es; g <= &s->tr; g++)
            g->ar = 0x8f3;
        arch_vcpu_set(&vcpu_ec, &utcb, 1u << n);
        memset(&after, 0, sizeof(after));
        utcb = before; /* what get leaves alone is the same on both sides */
        arch_vcpu_get(&vcpu_ec, &utcb, ALL_MTD, EVT_VCPU_RECALL);
        after = utcb;
        unsigned changed = 0;
        for (unsigned i = 0; i < UTCB_WORDS; i++)
            changed += after.w[i] != before.w[i];
        /* ACDB BSD RSP RIP RFLAGS, segments by pairs, TR LDTR GDTR IDTR (limit and base), CRs, DR7, SYSENTER; qualification and controls
         * do not come back, PDPTEs do not exist here; CR8 and TPR are one register, XSS is 0 */
        static const u8 words[32] = {4, 3, 1, 1, 1, 4, 4, 4, 2, 2, 2, 2, 6, 1, 3,
                                     0, 0, 1, 1, 2, 1, 0, 8, 5, 2, 1, 1, 1, 3};
        if (changed != words[n])
            fail_msg("MTD bit %u: %u words", n, changed);
        if (n == 19) /* the offset moves the value */
            assert_int_equal(after.state.tsc_value - before.state.tsc_value,
                             after.state.tsc_offset - before.state.tsc_offset);
        memset(&utcb, 0, sizeof(utcb));
        if (n == 19)
            s->tsc_offset = -after.state.tsc_offset;
        arch_vcpu_set(&vcpu_ec, &utcb, ALL_MTD & ~(u32)MTD_CTRL);
    }
}

static void tpr_and_its_threshold(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    s->tpr = 0xa7, s->tpr_threshold = 0x13;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_TPR);
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.seen->int_ctl & SVM_INT_TPR, 0xa);
    assert_int_equal(rec.seen->cr, SVM_CR8_WRITE); /* a guest that changes its CR8 leaves */
    memset(s, 0xee, sizeof(*s));
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_TPR | MTD_CR | MTD_MASKS, 0x72);
    assert_int_equal(s->tpr, 0xa0);
    assert_int_equal(s->tpr_threshold, 3);
    assert_int_equal(s->cr8, 0xa);
    assert_int_equal(s->cr0_mask, 0);
    assert_int_equal(s->cr4_mask, 0);
    s->cr0_mask = 1ul << 30, s->tpr_threshold = 0xf0; /* no more than four bits */
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_MASKS | MTD_TPR);
    run();
    assert_int_equal(rec.seen->cr, SVM_CR0_WRITE);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_MASKS, 0x72);
    assert_int_equal(s->cr0_mask, ~0ul);
    assert_int_equal(s->cr4_mask, 0);
    s->cr0_mask = 0, s->cr4_mask = 2;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_MASKS);
    run();
    assert_int_equal(rec.seen->cr, SVM_CR4_WRITE);
    *s = (struct abi_state){.cr8 = 0x35, .cr0 = 0x10};
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CR);
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.seen->int_ctl & 0xff, 5); /* and no request for an interrupt window */
}

/* ABI section 3, access rights: what a segment says comes back; not present is unusable. */
static void segment_access_rights(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    static const struct {
        u16 set, attrib, get;
    } cases[] = {{0x0093, 0x093, 0x0093}, {0xa09b, 0x09b, 0x009b}, {0x0c93, 0xc93, 0x0c93},
                 {0x1093, 0x000, 0x1000}, {0x0013, 0x013, 0x1013}, {0x0fff, 0xfff, 0x0fff}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        s->ds = (struct abi_seg){(u16)(i + 1), cases[i].set, i + 2, i + 3};
        s->ldtr = s->es = s->ds;
        arch_vcpu_set(&vcpu_ec, &utcb, MTD_DS_ES | MTD_LDTR);
        const struct vmcb *b = vcpu_ec.vcpu->vmcb;
        assert_int_equal(b->ds.attrib, cases[i].attrib);
        assert_int_equal(b->es.attrib, cases[i].attrib);
        assert_int_equal(b->ldtr.attrib, cases[i].attrib);
        memset(s, 0xee, sizeof(*s));
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_DS_ES | MTD_LDTR, 0x72);
        assert_int_equal(s->ds.ar, cases[i].get);
        assert_int_equal(s->ldtr.ar, cases[i].get);
        assert_int_equal(s->es.sel, i + 1);
        assert_int_equal(s->es.limit, i + 2);
        assert_int_equal(s->es.base, i + 3);
    }
    for (unsigned dpl = 0; dpl < 4; dpl++) { /* CPL is SS.DPL */
        s->ss.ar = (u16)(0x93 | dpl << 5);
        arch_vcpu_set(&vcpu_ec, &utcb, MTD_CS_SS);
        assert_int_equal(vcpu_ec.vcpu->vmcb->cpl, dpl);
        vcpu_ec.vcpu->vmcb->cpl = 3 - dpl; /* SYSRET changes it alone */
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_CS_SS, 0x72);
        assert_int_equal(s->ss.ar, 0x93 | (3 - dpl) << 5);
    }
    s->tr.ar = 0x89; /* loaded, so busy */
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_TR);
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_TR, 0x72);
    assert_int_equal(s->tr.ar, 0x8b);
}

/* ABI section 3, injection info: types 5 and 6 are exceptions on AMD-V; bits 12 and 13 ask for windows. */
static void injection_types(void **state) {
    (void)state;
    static const struct {
        u32 info;
        u64 event; /* 0: refused */
    } cases[] = {
        {0x80000030, 0x80000030}, {0x80000202, 0x80000202}, {0x8000030d, 0x8000030d}, {0x80000b0d, 0x123480000b0d},
        {0x80000480, 0x80000480}, {0x80000501, 0x80000301}, {0x80000603, 0x80000303}, {0x80000604, 0x80000304},
        {0x00000030, 0},          {0x80000130, 0},          {0x80000730, 0},          {0x80000302, 0},
        {0x8000031f, 0x8000031f}, {0x80000320, 0},          {0x80000402, 0x80000402}, {0x80000502, 0},
        {0x80000630, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        utcb.state.inj_info = cases[i].info;
        utcb.state.inj_error = cases[i].event >> 32 ? 0x1234 : 0;
        arch_vcpu_set(&vcpu_ec, &utcb, MTD_INJ);
        bool refused = !cases[i].event && (cases[i].info & INJ_VALID);
        assert_int_equal(vcpu_ec.vcpu->refused & MTD_INJ, refused ? MTD_INJ : 0);
        if (!refused)
            assert_int_equal(vcpu_ec.vcpu->inj, cases[i].event);
        assert_int_equal(svm_state_valid(vcpu_ec.vcpu), !refused);
        assert_false(vcpu_ec.vcpu->irq_window || vcpu_ec.vcpu->nmi_window);
    }
    utcb.state.inj_info = 0x1000;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_INJ);
    assert_true(vcpu_ec.vcpu->irq_window && !vcpu_ec.vcpu->nmi_window);
    utcb.state.inj_info = 0x2000;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_INJ);
    assert_true(!vcpu_ec.vcpu->irq_window && vcpu_ec.vcpu->nmi_window);
}

/* SDM vol 1 13.3, the same on AMD: x87 always, SSE before AVX, MPX and AVX-512 whole. */
static void xcr0_values(void **state) {
    (void)state;
    for (u64 x = 0; x < 0x400; x++) {
        bool ok = (x & 1) && x < 0x100 && !((x & 4) && !(x & 2)) && ((x & 0x18) == 0 || (x & 0x18) == 0x18) &&
                  ((x & 0xe0) == 0 || ((x & 0xe0) == 0xe0 && (x & 4)));
        assert_int_equal(vcpu_xcr0_valid(x, 0xff), ok);
    }
    assert_true(vcpu_xcr0_valid(3, 3));
    assert_false(vcpu_xcr0_valid(7, 3)); /* the host's are all there are */
}

static void pat_values(void **state) {
    (void)state;
    for (unsigned type = 0; type < 256; type++)
        for (unsigned shift = 0; shift < 64; shift += 8) {
            vcpu_ec.vcpu->vmcb->g_pat = (u64)type << shift;
            assert_int_equal(svm_state_valid(vcpu_ec.vcpu), type <= 7 && type != 2 && type != 3);
        }
}

/* APM vol 2 15.5.1 "MBZ": a bit of CR4 or EFER that its CPUID feature does not give must be zero. */
static void features_follow_cpuid(void **state) {
    (void)state;
    static const struct {
        u32 *reg, from, to;
    } cr4[] = {{&cpuid7.c, 2, 11}, {&cpuid7.c, 16, 12}, {&cpuid7.b, 0, 16}, {&cpuid1.c, 17, 17}, {&cpuid1.c, 26, 18},
               {&cpuid7.b, 7, 20}, {&cpuid7.b, 20, 21}, {&cpuid7.c, 3, 22}, {&cpuid7.c, 7, 23}},
      efer[] = {{&cpuid81.d, 11, 0},  {&cpuid81.d, 20, 11}, {&cpuid81.d, 29, 8},
                {&cpuid81.d, 29, 10}, {&cpuid81.d, 25, 14}, {&cpuid81.c, 17, 15}};
    struct svm_features f;
    cpuid1 = cpuid7 = cpuid81 = (struct cpuid_regs){0};
    svm_features_read(&f);
    assert_int_equal(f.cr4_mbz, ~0x7fful);
    assert_int_equal(f.efer_mbz, ~(u64)EFER_SVME);
    assert_false(f.xsave || f.tsc_aux || f.pku || f.mca || f.nrip || f.flush_asid);
    assert_int_equal(f.xcr0, 1);
    for (unsigned i = 0; i < ARRAY_SIZE(cr4); i++) {
        *cr4[i].reg = 1u << cr4[i].from;
        svm_features_read(&f);
        assert_int_equal(f.cr4_mbz, ~(0x7fful | 1ul << cr4[i].to));
        *cr4[i].reg = 0;
    }
    u64 lm = 1ul << 8 | 1ul << 10;
    for (unsigned i = 0; i < ARRAY_SIZE(efer); i++) {
        *efer[i].reg = 1u << efer[i].from;
        svm_features_read(&f);
        assert_int_equal(f.efer_mbz, ~(EFER_SVME | (efer[i].from == 29 ? lm : 1ul << efer[i].to)));
        *efer[i].reg = 0;
    }
    for (u32 bits = 30; bits < 56; bits++) { /* unusable values: the least there is */
        phys_bits = bits;
        svm_features_read(&f);
        assert_int_equal(f.cr3_mbz, ~0ul << (bits >= 32 && bits <= 52 ? bits : 36));
    }
    cpuid1.c = 1u << 26; /* XSAVE, but not switched on */
    svm_features_read(&f);
    assert_false(f.xsave);
    cpuid1.c = 1u << 26 | 1u << 27;
    cpuid1.d = 1u << 14, cpuid7.c = 1u << 22;
    rec.features_d = 1 | 1u << 3;
    svm_features_read(&f);
    assert_true(f.xsave && f.mca && f.tsc_aux && f.nrip && !f.flush_asid);
    assert_int_equal(f.xcr0, 7);
    cpuid7.c = 0, cpuid81.d = 1u << 27, rec.features_d = 1u << 6;
    svm_features_read(&f);
    assert_true(f.tsc_aux && !f.nrip && f.flush_asid);
    assert_int_equal(f.asid_count, 16);
    assert_false(f.repeats_inj);
    cpuid1.c = 1u << 31; /* a hypervisor */
    svm_features_read(&f);
    assert_false(f.repeats_inj);
    memcpy(&cpuid40.b, "TCGT", 4);
    svm_features_read(&f);
    assert_true(f.repeats_inj);
    cpuid1.c = 0; /* a leaf of something else */
    svm_features_read(&f);
    assert_false(f.repeats_inj);
}

/* APM vol 2 15.5.1, each condition at its edges. */
static void validity_conditions(void **state) {
    (void)state;
    struct vmcb *b = vcpu_ec.vcpu->vmcb;
    struct {
        u64 *field;
        u64 value;
        bool ok;
    } cases[] = {{&b->cr0, 0, true},
                 {&b->cr0, 0xffffffff & ~(1ul << 29), true},
                 {&b->cr0, 1ul << 32, false},
                 {&b->cr0, 1ul << 63, false},
                 {&b->cr0, 1ul << 29, false},
                 {&b->cr0, 3ul << 29, true},
                 {&b->cr0, 1ul << 30, true},
                 {&b->dr6, 0xffffffff, true},
                 {&b->dr6, 1ul << 32, false},
                 {&b->dr7, 0xffffffff, true},
                 {&b->dr7, 1ul << 40, false},
                 {&b->cr3, (1ul << 40) - 1, true},
                 {&b->cr3, 1ul << 40, false},
                 {&b->cr4, 0x7ff, true},
                 {&b->cr4, 1ul << 19, false},
                 {&b->efer, EFER_SVME | 0x901, true},
                 {&b->efer, EFER_SVME | 1 << 1, false}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        u64 good = *cases[i].field;
        *cases[i].field = cases[i].value;
        if (svm_state_valid(vcpu_ec.vcpu) != cases[i].ok)
            fail_msg("case %u", i);
        *cases[i].field = good;
    }
    /* long mode: PAE and PE with it, CS not both L and D; LMA follows PG and LME */
    for (unsigned n = 0; n < 64; n++) {
        bool pg = n & 1, lme = n & 2, pae = n & 4, pe = n & 8, l = n & 16, d = n & 32;
        b->cr0 = (pg ? 1ul << 31 : 0) | pe;
        b->efer = EFER_SVME | (lme ? EFER_LME : 0);
        b->cr4 = pae ? 1 << 5 : 0;
        b->cs.attrib = (u16)((l ? 0x200 : 0) | (d ? 0x400 : 0));
        assert_int_equal(svm_state_valid(vcpu_ec.vcpu), !pg || !lme || (pae && pe && !(l && d)));
        assert_int_equal(!!(b->efer & EFER_LMA), pg && lme);
    }
}

static void reset_state(void **state) {
    (void)state;
    const struct vmcb *b = vcpu_ec.vcpu->vmcb;
    assert_int_equal(b->np_enable, 1);
    assert_int_equal(b->efer, EFER_SVME);
    assert_int_equal(b->rflags, 2);
    assert_int_equal(b->dr6, 0xffff0ff0);
    assert_int_equal(b->dr7, 0x400);
    assert_int_equal(b->g_pat, 0x0007040600070406);
    assert_int_equal(b->int_ctl, SVM_INT_V_MASKING);
    assert_int_equal(vcpu_ec.vcpu->xcr0, 1);
    assert_int_equal(b->cr0 | b->cr3 | b->cr4 | b->rip | b->rax, 0);
}

/* Lengths only where the CPU tells: I/O by the next RIP in the qualification, others with next-RIP save. */
static void instruction_length(void **state) {
    struct vmcb *b = vcpu_ec.vcpu->vmcb;
    b->rip = 0x1000, b->nrip = 0x1003, b->exitinfo2 = 0x1002;
    struct {
        unsigned event;
        u64 plain, nrip;
    } cases[] = {{0x7b, 2, 2}, {0x72, 0, 3}, {0x64, 0, 0}, {0x65, 0, 3}, {0x9f, 0, 3},
                 {0xa0, 0, 0}, {0x4e, 0, 0}, {0xfc, 0, 0}, {0xfe, 0, 0}};
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        svm.nrip = false;
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_RIP, cases[i].event);
        assert_int_equal(utcb.state.inst_len, cases[i].plain);
        svm.nrip = true;
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_RIP, cases[i].event);
        assert_int_equal(utcb.state.inst_len, cases[i].nrip);
    }
    b->nrip = 0x100f;
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_RIP, 0x72);
    assert_int_equal(utcb.state.inst_len, 15);
    b->nrip = 0x1010; /* no instruction is that long */
    arch_vcpu_get(&vcpu_ec, &utcb, MTD_RIP, 0x72);
    assert_int_equal(utcb.state.inst_len, 0);
    svm.nrip = false;
    (void)state;
}

static void allocation_fails(void **state) {
    (void)state;
    struct ec ec = {.pd = &guest_pd};
    u64 used = guest_pd.account.used;
    for (unsigned n = 1; n <= 2; n++) {
        alloc_fail_at = n;
        assert_int_equal(arch_vcpu_init(&ec), NOVA_BAD_MEM);
        assert_int_equal(guest_pd.account.used, used);
        assert_null(ec.vcpu);
    }
    assert_int_equal(arch_vcpu_init(&ec), NOVA_SUCCESS);
    arch_vcpu_fini(&ec);
    assert_null(ec.vcpu);
    assert_int_equal(guest_pd.account.used, used);
    alloc_fail_at = 1;
    assert_int_equal(arch_guest_ports(&guest_pd, 0x60, 4, true), NOVA_BAD_MEM);
    assert_null(guest_pd.guest_pio_bitmap);
}

static void cpu_init_allocation_fails(void **state) {
    teardown(state);
    vcpu_ec.vcpu = NULL;
    for (unsigned n = 1; n <= 5; n++) {
        memset(svm_cpus, 0, sizeof(svm_cpus));
        msrpm = iopm_all = npt_empty = NULL;
        vendor = NULL;
        alloc_fail_at = n;
        assert_false(arch_vcpu_cpu_init(&cpu0));
        assert_int_equal(arch_vcpu_init(&vcpu_ec), NOVA_BAD_FTR);
    }
    assert_int_equal(alloc_fail_at, 0);
}

static void state_invalid_is_refused_before_vmrun(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    *s = (struct abi_state){.ctrl = {0, 1}};
    struct {
        u64 *field;
        u64 bad;
        u32 mtd;
    } cases[] = {
        {&s->cr0, 1ul << 32, MTD_CR},          {&s->cr0, 1ul << 29, MTD_CR},    {&s->cr3, 1ul << 40, MTD_CR},
        {&s->cr4, 1ul << 12, MTD_CR},          {&s->cr4, 1ul << 32, MTD_CR},    {&s->dr7, 1ul << 32, MTD_DR},
        {&s->efer, 1ul << 2, MTD_EFER},        {&s->efer, 1ul << 13, MTD_EFER}, {&s->xcr0, 2, MTD_XSAVE},
        {&s->xcr0, 0x207, MTD_XSAVE},          {&s->xcr0, 5, MTD_XSAVE},        {&s->xss, 1, MTD_XSAVE},
        {&s->tsc_aux, 1ul << 32, MTD_TSC_AUX}, {&s->pat, 2, MTD_PAT},
    };
    s->xcr0 = 1;
    for (unsigned i = 0; i < 2 * ARRAY_SIZE(cases); i++) { /* alone, and with all other fields as they are */
        unsigned n = i % ARRAY_SIZE(cases);
        u32 mtd = cases[n].mtd | (i == n ? 0 : 0x1fffff);
        u64 good = *cases[n].field;
        *cases[n].field = cases[n].bad;
        arch_vcpu_set(&vcpu_ec, &utcb, mtd);
        assert_int_equal(run(), EVT_SVM_INVALID);
        arch_vcpu_set(&vcpu_ec, &utcb, mtd); /* once more the same */
        assert_int_equal(run(), EVT_SVM_INVALID);
        assert_int_equal(rec.switches, i);
        *cases[n].field = good;
        arch_vcpu_set(&vcpu_ec, &utcb, mtd);
        assert_int_equal(run(), 0x72);
    }
    s->cr0 = 1ul << 31 | 1, s->cr4 = 1 << 5, s->efer = EFER_LME, s->cs.ar = 0x29b;
    for (unsigned i = 0; i < 4; i++) {
        s->cs.ar = i & 1 ? 0x69b : 0x29b; /* L, with and without D */
        arch_vcpu_set(&vcpu_ec, &utcb, i ? MTD_CS_SS : MTD_CR | MTD_EFER | MTD_CS_SS);
        assert_int_equal(run(), i & 1 ? EVT_SVM_INVALID : 0x72);
    }
    static const u32 events[] = {INJ_VALID | 0x100, INJ_VALID | 0x700, INJ_VALID | 0x302, INJ_VALID | 0x320};
    unsigned before = rec.switches;
    for (unsigned i = 0; i < ARRAY_SIZE(events); i++) {
        s->inj_info = events[i];
        arch_vcpu_set(&vcpu_ec, &utcb, MTD_INJ);
        assert_int_equal(run(), EVT_SVM_INVALID);
        arch_vcpu_get(&vcpu_ec, &utcb, MTD_INJ, EVT_SVM_INVALID);
        assert_int_equal(s->inj_info, events[i]);
    }
    assert_int_equal(rec.switches, before);
}

static void long_mode_sets_lma(void **state) {
    (void)state;
    struct abi_state *s = &utcb.state;
    s->cr0 = 0x80000011, s->cr4 = 0x20, s->efer = 0x100;
    s->cs.ar = 0xa9b, s->ss.ar = 0xc93;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CR | MTD_EFER | MTD_CS_SS);
    assert_int_equal(run(), 0x72);
    assert_int_equal(rec.seen->efer, EFER_SVME | EFER_LME | EFER_LMA);
    s->cs.ar = 0xe9b; /* L and D */
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CS_SS);
    assert_int_equal(run(), EVT_SVM_INVALID);
    s->cs.ar = 0xa9b, s->cr4 = 0;
    arch_vcpu_set(&vcpu_ec, &utcb, MTD_CS_SS | MTD_CR);
    assert_int_equal(run(), EVT_SVM_INVALID);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        T(set_get_round_trip),
        T(get_touches_only_what_the_mtd_names),
        T(set_takes_only_what_the_mtd_names),
        T(tpr_and_its_threshold),
        T(segment_access_rights),
        T(injection_types),
        T(xcr0_values),
        T(pat_values),
        T(features_follow_cpuid),
        T(validity_conditions),
        T(reset_state),
        T(instruction_length),
        T(allocation_fails),
        T(cpu_init_allocation_fails),
        T(state_invalid_is_refused_before_vmrun),
        T(long_mode_sets_lma),
    };
    return cmocka_run_group_tests_name("svm state", tests, NULL, NULL);
}
