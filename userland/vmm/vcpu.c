#include "vcpu.h"

#include "clock.h"
#include "log.h"
#include "msg.h"
#include "rt.h"

enum { VEC_UD = 6, VEC_GP = 13 };
enum { RFLAGS_IF = 1 << 9, CR0_PE = 1 };
#define INJ_EXCEPTION(vec) (INJ_VALID | 3u << 8 | (vec))
#define MTD_INJECT         (MTD_RFLAGS | MTD_STA | MTD_INJ)
#define MTD_EMULATED       (MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RIP | MTD_RFLAGS | MTD_INJ | MTD_STA | MTD_R8_R15)
#define VCPU_PRIORITY      20
#define VCPU_QUANTUM_US    10000
#define FAULTS_IN_A_ROW    8

static struct load_result vcpu_boot; /* state of the boot CPU at STARTUP */

/* ---- leaving a handler ---- */

static void enter(struct vcpu *v, enum exit_reason r) {
    v->exits[r]++;
    __atomic_store_n(&v->in_handler, 1, __ATOMIC_SEQ_CST);
    if (v->pv_eoi_marked)
        irq_pv_eoi_settle(v);
}

/* From here on other threads recall the vCPU. An INIT that came before has recalled nobody. */
static void handler_ends(struct vcpu *v) {
    __atomic_store_n(&v->in_handler, 0, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->init_pending, __ATOMIC_SEQ_CST))
        (void)nova_recall(v->ec);
    if (v->pv_eoi_marked)
        irq_pv_eoi_withdraw(v);
}

/* Reply with injection. */
static void leave(struct vcpu *v, struct abi_state *s, uint32_t mtd) {
    handler_ends(v);
    irq_inject(v, s);
    s->mtd = mtd | MTD_INJ;
}

/* Reply that injects an exception of the instruction; RIP stays. What was pending waits for the next exit. With an error code the message
 * needs CR0: there is none in real mode, and VT-x refuses it. */
static void leave_exception(struct vcpu *v, struct abi_state *s, uint32_t mtd, unsigned vec, bool has_error,
                            uint32_t error) {
    handler_ends(v);
    s->inj_info = INJ_EXCEPTION(vec) | (has_error && s->cr0 & CR0_PE ? INJ_ERROR : 0) | irq_windows(v);
    s->inj_error = error;
    s->mtd = mtd | MTD_INJ;
}

/* The instruction is done: past it, and out of an interrupt shadow. NMIs stay blocked if they are. */
static void done(struct abi_state *s, uint64_t next_rip) {
    s->rip = next_rip;
    s->intr_state &= ~INTR_SHADOW;
}

static void skip(struct abi_state *s, unsigned len) { done(s, s->rip + (s->inst_len ? s->inst_len : len)); }

/* ---- waiting ---- */

/* An INIT arrived, or this is a CPU that was never started: waits for the STARTUP IPI and leaves with the state of real mode. */
static void wait_for_sipi(struct vcpu *v, struct abi_utcb *u) {
    uint32_t arrived = VCPU_SIPI_ARRIVED;

    __atomic_store_n(&v->halted, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_compare_exchange_n(&v->start, &arrived, VCPU_RUNS, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        (void)sem_down(v->wake);
        arrived = VCPU_SIPI_ARRIVED;
    }
    __atomic_store_n(&v->halted, 0, __ATOMIC_SEQ_CST);
    vcpu_state_sipi(&u->state, v->sipi_vector);
    (void)v->vm->exits->run(&u->state);
    u->items = UTCB_ITEMS(ABI_STATE_EXT_WORDS, 0);
    v->emulating = false;
    leave(v, &u->state, VCPU_MTD_ALL);
}

static void init_take(struct vcpu *v, struct abi_utcb *u) {
    __atomic_store_n(&v->init_pending, 0, __ATOMIC_SEQ_CST);
    (void)irq_pv_eoi_write(v, 0);
    mutex_lock(&v->lapic_lock);
    uint8_t mode = v->lapic.mode;
    lapic_init(&v->lapic, v->index, v->index == 0);
    v->lapic.mode = mode;
    mutex_unlock(&v->lapic_lock);
    wait_for_sipi(v, u);
}

static bool others_can_run(const struct vm *vm, const struct vcpu *v) {
    for (unsigned i = 0; i < vm->cpus; i++)
        if (&vm->vcpu[i] != v && __atomic_load_n(&vm->vcpu[i].start, __ATOMIC_SEQ_CST) == VCPU_RUNS &&
            !__atomic_load_n(&vm->vcpu[i].stopped, __ATOMIC_SEQ_CST))
            return true;
    return false;
}

static void exit_hlt(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;
    struct abi_state *s = &u->state;
    bool open = s->rflags & RFLAGS_IF;

    enter(v, EXIT_HLT);
    skip(s, 1);
    __atomic_store_n(&v->stopped, !open, __ATOMIC_SEQ_CST);
    if (!open && !others_can_run(v->vm, v))
        report_and_end(v, s, false, "halted for good: HLT with interrupts disabled on the last running CPU");
    serial_flush(v->vm);
    __atomic_store_n(&v->halted, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    while (!(open ? irq_pending(v) : irq_pending_unmaskable(v)))
        (void)sem_down(v->wake);
    __atomic_store_n(&v->halted, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&v->stopped, 0, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&v->init_pending, __ATOMIC_SEQ_CST))
        init_take(v, u);
    else
        leave(v, s, MTD_RIP | MTD_STA);
}

/* ---- instructions ---- */

static void exit_cpuid(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;
    struct abi_state *s = &u->state;
    struct cpuid_regs r;

    v->exits[EXIT_CPUID]++;
    cpuid_guest(&v->vm->cpuid, v->index, s->cr4, (uint32_t)s->rax, (uint32_t)s->rcx, &r);
    s->rax = r.eax;
    s->rbx = r.ebx;
    s->rcx = r.ecx;
    s->rdx = r.edx;
    skip(s, 2);
    s->mtd = MTD_ACDB | MTD_RIP | MTD_STA;
}

static void msr_access(struct vcpu *v, struct abi_utcb *u, bool write) {
    struct abi_state *s = &u->state;
    uint32_t mtd = MTD_RIP | MTD_STA;
    uint64_t val;
    bool ok;

    enter(v, write ? EXIT_WRMSR : EXIT_RDMSR);
    if (write) {
        ok = msr_write(v, (uint32_t)s->rcx, s, s->rdx << 32 | (uint32_t)s->rax, &mtd);
    } else {
        ok = msr_read(v, (uint32_t)s->rcx, s, &val);
        if (ok) {
            s->rax = (uint32_t)val;
            s->rdx = val >> 32;
            mtd |= MTD_ACDB;
        }
    }
    if (!ok) {
        leave_exception(v, s, 0, VEC_GP, true, 0);
        return;
    }
    skip(s, 2);
    if (mtd & ABI_MTD_EXT)
        u->items = UTCB_ITEMS(ABI_STATE_EXT_WORDS, 0);
    leave(v, s, mtd);
}

static void exit_msr(void *arg, struct abi_utcb *u) { msr_access(arg, u, u->state.qual[0] & 1); }
static void exit_rdmsr(void *arg, struct abi_utcb *u) { msr_access(arg, u, false); }
static void exit_wrmsr(void *arg, struct abi_utcb *u) { msr_access(arg, u, true); }

static void io_note(struct vcpu *v, const struct exit_io *io, uint32_t val) {
    v->last_io_port = io->port;
    v->last_io_size = io->size;
    v->last_io_in = io->in;
    v->last_io_val = val;
}

static void exit_io(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;
    struct abi_state *s = &u->state;
    uint32_t mtd = MTD_RIP | MTD_STA;
    struct exit_io io;

    enter(v, EXIT_IO);
    v->vm->exits->io(s, &io);
    if (io.string || (io.size != 1 && io.size != 2 && io.size != 4)) {
        /* needs more state than this portal carries: come back at once with EXIT_INVALID, which has it */
        v->emulating = true;
        s->inj_info = 0;
        s->mtd = v->vm->exits->stop(s) | MTD_INJ;
        return;
    }
    uint64_t mask = io.size == 4 ? 0xffffffff : (1u << io.size * 8) - 1;
    if (io.in) {
        uint32_t val = board_in(v->vm, io.port, io.size);
        io_note(v, &io, val);
        s->rax = io.size == 4 ? val : (s->rax & ~mask) | val;
        mtd |= MTD_ACDB;
    } else {
        io_note(v, &io, (uint32_t)(s->rax & mask));
        board_out(v->vm, io.port, io.size, (uint32_t)(s->rax & mask));
    }
    done(s, io.next_rip);
    leave(v, s, mtd);
}

static void exit_window(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_WINDOW);
    leave(v, &u->state, 0);
}

static void exit_recall(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_RECALL);
    if (__atomic_load_n(&v->init_pending, __ATOMIC_SEQ_CST))
        init_take(v, u);
    else
        leave(v, &u->state, 0);
}

static void exit_undefined(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_UNDEFINED);
    leave_exception(v, &u->state, 0, VEC_UD, false, 0);
}

static void exit_rdpmc(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_RDPMC);
    leave_exception(v, &u->state, 0, VEC_GP, true, 0);
}

/* No hypercall is offered: the answer is the KVM ABI's "no such hypercall". */
static void exit_hypercall(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_HYPERCALL);
    u->state.rax = (uint64_t)-1000;
    skip(&u->state, 3);
    leave(v, &u->state, MTD_ACDB | MTD_RIP | MTD_STA);
}

static void exit_cache(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    v->exits[EXIT_CACHE]++;
    skip(&u->state, 2);
    u->state.mtd = MTD_RIP | MTD_STA;
}

/* ---- memory ---- */

static void emulate(struct vcpu *v, struct abi_utcb *u) {
    struct abi_state *s = &u->state;
    struct emu e = {.s = s, .mem = &v->vm->mem, .bus = &v->vm->bus};
    uint32_t mtd = MTD_EMULATED | v->vm->exits->run(s);

    switch (emu_step(&e)) {
    case EMU_DONE:
        done(s, s->rip);
        leave(v, s, mtd);
        return;
    case EMU_AGAIN: /* interrupts may come in between, as on hardware */
        leave(v, s, mtd);
        return;
    case EMU_EXCEPTION: /* CR2 */
        leave_exception(v, s, mtd | MTD_CR, e.vector, e.has_error, e.error_code);
        return;
    case EMU_NOWHERE:
        report_and_end(v, s, true,
                       "the guest touched guest-physical 0x%llx, where there is neither memory nor a device",
                       (unsigned long long)e.gpa);
    default:
        report_and_end(v, s, true, "the emulator does not know the instruction at 0x%llx", (unsigned long long)s->rip);
    }
}

/* Guest memory is mapped in pieces as large as one message takes, starting with the one that was touched. */
static void memory_map(struct vcpu *v, struct abi_utcb *u, uint64_t gpa) {
    const struct gmem *g = &v->vm->mem;
    uint64_t low = gmem_low_size(g), high = gmem_high_size(g), base = (uint64_t)g->base >> 12;
    struct msg m;

    msg_begin_after(&m, u, ABI_STATE_EXT_WORDS);
    if (gpa < low) {
        uint64_t start = gpa & ~((1ull << 30) - 1); /* the RAM's pieces are at most 1 GiB, naturally aligned */
        uint64_t len = low - start < 1ull << 30 ? low - start : 1ull << 30;
        (void)msg_add_pages(&m, base + (start >> 12), start >> 12, len >> 12, PERM_MEM_ALL, ITEM_G | ITEM_N);
    } else {
        uint64_t off = (gpa - GMEM_HIGH_START) & ~((1ull << 30) - 1);
        uint64_t len = high - off < 1ull << 30 ? high - off : 1ull << 30;
        (void)msg_add_pages(&m, base + ((low + off) >> 12), (GMEM_HIGH_START + off) >> 12, len >> 12, PERM_MEM_ALL,
                            ITEM_G | ITEM_N);
    }
    (void)msg_end(&m);
}

static void exit_memory(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;
    struct abi_state *s = &u->state;
    uint64_t gpa = s->qual[1];
    bool ram = gmem_ptr(&v->vm->mem, gpa & ~4095ull, 4096) != NULL;

    enter(v, ram ? EXIT_MEMORY : EXIT_DEVICE);
    if (!ram) {
        if (!(gpa >= GMEM_HOLE_START && gpa < GMEM_HIGH_START))
            report_and_end(v, s, true,
                           "the guest touched guest-physical 0x%llx, where there is neither memory nor a device",
                           (unsigned long long)gpa);
        emulate(v, u);
        return;
    }
    v->fault_repeats = gpa >> 12 == v->fault_gpa >> 12 ? v->fault_repeats + 1 : 0;
    v->fault_gpa = gpa;
    if (v->fault_repeats > FAULTS_IN_A_ROW)
        report_and_end(v, s, true, "no kernel memory to map guest-physical 0x%llx", (unsigned long long)gpa);
    leave(v, s, 0);
    memory_map(v, u, gpa);
}

static void exit_invalid(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_INVALID);
    if (!v->emulating)
        report_and_end(v, &u->state, true, "the processor refused the guest's state");
    v->emulating = false;
    emulate(v, u);
}

/* ---- the ends ---- */

static void exit_shutdown(void *arg, struct abi_utcb *u) {
    enter(arg, EXIT_SHUTDOWN);
    report_and_end(arg, &u->state, true, "triple fault");
}

static void exit_unexpected(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_UNEXPECTED);
    report_and_end(v, &u->state, true, "unexpected exit, qualification %llx %llx", (unsigned long long)u->state.qual[0],
                   (unsigned long long)u->state.qual[1]);
}

static void exit_startup(void *arg, struct abi_utcb *u) {
    struct vcpu *v = arg;

    enter(v, EXIT_STARTUP);
    if (v->index) {
        wait_for_sipi(v, u);
        return;
    }
    vcpu_state_boot(&u->state, &vcpu_boot);
    (void)v->vm->exits->run(&u->state);
    u->items = UTCB_ITEMS(ABI_STATE_EXT_WORDS, 0);
    v->start = VCPU_RUNS;
    log_printf("guest entry at %llu us", (unsigned long long)clock_tsc_to_us(clock_tsc()));
    leave(v, &u->state, VCPU_MTD_ALL);
}

/* ---- creation ---- */

static portal_fn handler_of(enum exit_reason r) {
    static const portal_fn fn[EXIT_REASONS] = {
        [EXIT_UNEXPECTED] = exit_unexpected,
        [EXIT_CPUID] = exit_cpuid,
        [EXIT_HLT] = exit_hlt,
        [EXIT_IO] = exit_io,
        [EXIT_MSR] = exit_msr,
        [EXIT_RDMSR] = exit_rdmsr,
        [EXIT_WRMSR] = exit_wrmsr,
        [EXIT_WINDOW] = exit_window,
        [EXIT_MEMORY] = exit_memory,
        [EXIT_INVALID] = exit_invalid,
        [EXIT_STARTUP] = exit_startup,
        [EXIT_RECALL] = exit_recall,
        [EXIT_SHUTDOWN] = exit_shutdown,
        [EXIT_HYPERCALL] = exit_hypercall,
        [EXIT_CACHE] = exit_cache,
        [EXIT_UNDEFINED] = exit_undefined,
        [EXIT_RDPMC] = exit_rdpmc,
    };

    return fn[r];
}

static bool failed(const char *what, uint64_t status) {
    log_printf("cannot create %s: kernel status %llu", what, (unsigned long long)status);
    return false;
}

static bool portals_create(struct vcpu *v, sel_t base) {
    for (unsigned event = 0; event < ABI_EVENTS_VCPU; event++) {
        enum exit_reason r = v->vm->exits->reason(event);
        if (event >= 0xa0 && r == EXIT_UNEXPECTED)
            continue; /* no such event */
        uint64_t status =
            portal_create(&v->portals[event], base + event, v->handler, exit_reason_mtd(r), handler_of(r), v);
        if (status != NOVA_SUCCESS)
            return failed("a portal of the vCPU", status);
    }
    return true;
}

static bool vcpu_init(struct vm *vm, unsigned index, sel_t base) {
    struct vcpu *v = &vm->vcpu[index];

    v->vm = vm;
    v->index = index;
    lapic_init(&v->lapic, index, index == 0);
    msr_init(v);
    v->wake = sem_create(0);
    v->handler = thread_create_local("vcpu", index % vm->info->cpu_count);
    if (!v->wake || !v->handler || !mutex_init(&v->lapic_lock)) {
        log_printf("cannot create vCPU %u: no memory for its handler thread", index);
        return false;
    }
    return portals_create(v, base + index * ABI_EVENTS_VCPU);
}

bool vcpus_create(struct vm *vm, const struct load_result *boot) {
    unsigned order = 8;
    uint64_t status;

    vcpu_boot = *boot;
    while (1u << order < vm->cpus * ABI_EVENTS_VCPU)
        order++;
    sel_t base = sel_alloc(order);
    vm->pd = sel_alloc(0);
    if (!base || !vm->pd)
        return failed("the VM: no selectors", NOVA_BAD_MEM);
    for (unsigned i = 0; i < vm->cpus; i++)
        if (!vcpu_init(vm, i, base))
            return false;
    /* the VM's selectors 256 i + event are the portals of vCPU i */
    status = nova_create_pd(vm->pd, rt.pd, crd_obj(base, order, CRD_PERM_ANY));
    if (status != NOVA_SUCCESS)
        return failed("the VM's protection domain", status);
    for (unsigned i = 0; i < vm->cpus; i++) {
        struct vcpu *v = &vm->vcpu[i];
        v->ec = sel_alloc(0);
        status = nova_create_ec(v->ec, vm->pd, 0, v->handler->cpu, 0, (sel_t)i * ABI_EVENTS_VCPU, true);
        if (status != NOVA_SUCCESS)
            return failed("a vCPU", status);
    }
    return true;
}

bool vcpus_start(struct vm *vm) {
    for (unsigned i = 0; i < vm->cpus; i++) {
        char label[] = "vcpu 0";
        label[5] = (char)('0' + i);
        enum parent_status status =
            parent_sc_create(vm->vcpu[i].ec, vm->vcpu[i].handler->cpu_index, label, VCPU_PRIORITY, VCPU_QUANTUM_US);
        if (status != PARENT_OK) {
            log_printf("cannot start vCPU %u: root gives no time for it (status %u)", i, status);
            return false;
        }
    }
    return true;
}
