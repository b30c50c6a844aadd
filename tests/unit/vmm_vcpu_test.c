// LINK: userland/vmm/vcpu.c userland/vmm/vcpu_state.c userland/vmm/exits.c userland/vmm/irq.c userland/vmm/msr.c
// LINK: userland/vmm/cpuid.c userland/vmm/board.c userland/vmm/serial.c userland/vmm/vm.c userland/vmm/pvclock.c
// LINK: userland/vmm/gmem.c userland/vmm/walk.c userland/vmm/emu.c zydis userland/vmm/emu_exec.c userland/vmm/pic.c
// LINK: userland/vmm/lapic.c userland/vmm/ioapic.c userland/vmm/uart.c userland/vmm/pit.c userland/vmm/rtc.c
// LINK: userland/vmm/acpi_pm.c userland/vmm/pci.c userland/vmm/record.c userland/lib/msg.c
/* Goal: the handlers of a vCPU's exits do on AMD-V and on VT-x what docs/abi.md and the processor manuals ask for.
 * Method: a processor made of an ABI state. An exit hands over the fields of the portal's MTD and garbage in all others, the reply's MTD
 * says what the processor takes back; so a handler that looks at more than its portal carries is seen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "log.h"
#include "rt.h"
#include "vcpu.h"

#define RAM (2u << 20)
enum { VEC_UD = 6, VEC_GP = 13 };
#define EXCEPTION(vec) (INJ_VALID | 3 << 8 | (vec))
#define GP             (EXCEPTION(VEC_GP) | INJ_ERROR)

/* ---- what the VMM stands on ---- */

struct rt rt;
static struct startup_info info;
static struct vm vm;
static struct {
    uint32_t mtd;
    portal_fn fn;
    void *arg;
} portals[2 * ABI_EVENTS_VCPU];
static bool reported;
static jmp_buf end;
static unsigned recalls;
static sel_t next_sel;

uint64_t portal_create(struct portal *p, sel_t sel, const struct thread *t, uint32_t mtd, portal_fn fn, void *arg) {
    (void)p, (void)t;
    portals[sel % (2 * ABI_EVENTS_VCPU)].mtd = mtd;
    portals[sel % (2 * ABI_EVENTS_VCPU)].fn = fn;
    portals[sel % (2 * ABI_EVENTS_VCPU)].arg = arg;
    return NOVA_SUCCESS;
}

struct thread *thread_create_local(const char *name, uint32_t cpu_index) {
    static struct thread t;
    (void)name;
    t.cpu_index = cpu_index;
    return &t;
}

uint64_t hypercall(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t rax, uint64_t r8, uint64_t *out) {
    (void)rsi, (void)rdx, (void)rax, (void)r8, (void)out;
    recalls += (rdi & 0xf) == HC_EC_CTRL;
    if ((rdi & 0xf) == HC_SM_CTRL && (rdi >> 4 & HF_SM_DOWN)) /* somebody waits: for a STARTUP IPI */
        irq_ioapic_send(&vm, &(struct apic_msg){.vector = 0x9a, .delivery = APIC_STARTUP});
    return NOVA_SUCCESS;
}

sel_t sel_alloc(uint32_t order) { return next_sel += 1ul << (order < 9 ? 9 : order); }
sel_t sem_create(uint64_t counter) { return counter ? 0 : sel_alloc(0); }
bool mutex_init(struct mutex *m) { return !m->state; }
void mutex_lock(struct mutex *m) { assert_int_equal(m->state++, 0); }
void mutex_unlock(struct mutex *m) { assert_int_equal(m->state--, 1); }
void log_printf(const char *format, ...) { (void)format; }
enum parent_status parent_sc_create(sel_t ec, uint32_t cpu, const char *label, uint32_t priority, uint32_t quantum) {
    (void)ec, (void)cpu, (void)label, (void)priority, (void)quantum;
    return PARENT_OK;
}
size_t console_write(struct session *s, const void *bytes, size_t len) {
    (void)s, (void)bytes;
    return len;
}
size_t console_read(struct session *s, void *bytes, size_t size) {
    (void)s, (void)bytes, (void)size;
    return 0;
}
_Noreturn void parent_exit(int code, const char *reason) {
    (void)code, (void)reason;
    abort();
}
_Noreturn void report_and_end(struct vcpu *v, const struct abi_state *s, bool full, const char *format, ...) {
    (void)v, (void)s, (void)full, (void)format;
    reported = true;
    longjmp(end, 1);
}

/* ---- the processor ---- */

struct model { /* what the manuals say about a vendor */
    const struct exit_vendor *vmm;
    uint16_t cpuid, hlt, io, rdmsr, wrmsr, window, memory, invalid, shutdown, rdpmc, vmcall, foreign;
    bool length; /* gives instruction lengths */
};
static const struct model amd = {&exit_amd,       0x72, 0x78, 0x7b, 0x7c, 0x7c, 0x64, EVT_SVM_NPF,
                                 EVT_SVM_INVALID, 0x7f, 0x6f, 0x81, 0x80, false};
static const struct model intel = {&exit_intel,     10, 12, 30, 31, 32,  7, EVT_VMX_EPT,
                                   EVT_VMX_INVALID, 2,  15, 18, 20, true};
static const struct model *model;
static struct abi_state cpu;
static struct abi_utcb utcb;

static void move(struct abi_state *to, const struct abi_state *from, uint32_t mtd) {
#define FIELDS(bit, first, last)                                                                                       \
    if (mtd & (bit))                                                                                                   \
    memcpy(&to->first, &from->first, (size_t)((const uint8_t *)(&from->last + 1) - (const uint8_t *)&from->first))
    FIELDS(MTD_ACDB, rax, rbx);
    FIELDS(MTD_BSD, rbp, rdi);
    FIELDS(MTD_RSP, rsp, rsp);
    FIELDS(MTD_RIP, inst_len, rip);
    FIELDS(MTD_RFLAGS, rflags, rflags);
    FIELDS(MTD_R8_R15, r8, r15);
    FIELDS(MTD_QUAL, qual, qual);
    FIELDS(MTD_CTRL, ctrl, ctrl);
    FIELDS(MTD_INJ, inj_info, inj_error);
    FIELDS(MTD_STA, intr_state, actv_state);
    FIELDS(MTD_CR, cr0, cr8);
    FIELDS(MTD_EFER, efer, efer);
    FIELDS(MTD_DR, dr7, dr7);
    FIELDS(MTD_SYSENTER, sysenter_cs, sysenter_rip);
    FIELDS(MTD_DS_ES, es, es);
    FIELDS(MTD_DS_ES, ds, ds);
    FIELDS(MTD_CS_SS, cs, ss);
    FIELDS(MTD_FS_GS, fs, gs);
    FIELDS(MTD_LDTR, ldtr, ldtr);
    FIELDS(MTD_TR, tr, tr);
    FIELDS(MTD_GDTR, gdtr, gdtr);
    FIELDS(MTD_IDTR, idtr, idtr);
    FIELDS(MTD_TSC, tsc_value, tsc_offset);
    FIELDS(MTD_SYSCALL, star, kernel_gs_base);
    FIELDS(MTD_TSC_AUX, tsc_aux, tsc_aux);
    FIELDS(MTD_PAT, pat, pat);
#undef FIELDS
}

/* An exit of vCPU 0; false: the VMM gave up. Whatever the processor keeps to itself about injection is over by then. */
static bool exit_event(unsigned event) {
    memset(&utcb, 0xa5, sizeof(utcb));
    utcb.items = UTCB_ITEMS(ABI_STATE_WORDS, 0);
    utcb.state.mtd = portals[event].mtd;
    move(&utcb.state, &cpu, portals[event].mtd);
    if (portals[event].mtd & MTD_INJ)
        cpu.inj_info = cpu.inj_error = 0;
    if (setjmp(end))
        return false;
    portals[event].fn(portals[event].arg, &utcb);
    move(&cpu, &utcb.state, (uint32_t)utcb.state.mtd);
    cpu.inst_len = 0;
    return true;
}

/* Would the processor run the guest, or come back with its invalid-state event? docs/abi.md, "VT-x controls", "AMD-V controls"; SDM vol. 3
 * 26.2.1.3: an error code is delivered in protected mode only. */
static bool runs(void) {
    if (model == &amd)
        return cpu.ctrl[1] & 1;
    return cpu.actv_state <= 1 && !(cpu.inj_info & INJ_VALID && cpu.inj_info & INJ_ERROR && !(cpu.cr0 & 1));
}

static void instruction(const char *bytes, unsigned len) {
    memcpy(vm.mem.base + cpu.rip, bytes, len);
    cpu.inst_len = model->length ? len : 0;
}

static void host_cpuid(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *r) {
    (void)subleaf;
    *r = (struct cpuid_regs){~0u, ~0u, ~0u, ~0u}; /* has everything */
    if (!(leaf & 0xffff))
        r->eax = leaf + 0x20;
}

static void machine(const struct model *m) {
    struct load_result boot = {.entry = 0x100000, .long_mode = false};

    model = m;
    if (vm.mem.base)
        free(vm.mem.base);
    memset(&vm, 0, sizeof(vm));
    memset(portals, 0, sizeof(portals));
    info = (struct startup_info){.cpu_count = 1, .tsc_khz = 1000000};
    rt.tsc_khz = info.tsc_khz;
    vm.info = &info;
    vm.exits = m->vmm;
    vm.cpus = 1;
    vm.mem = (struct gmem){.base = aligned_alloc(RAM, RAM), .size = RAM};
    memset(vm.mem.base, 0, RAM);
    vm.cpuid = (struct cpuid_config){.host = host_cpuid, .xcr0 = 7, .cpus = 1};
    vm.scale = tsc_scale_of(info.tsc_khz);
    vm.bus = (struct emu_bus){board_mmio_read, board_mmio_write, board_in, board_out, &vm};
    recalls = 0;
    reported = false;
    board_init(&vm, 1000000000);
    assert_true(vcpus_create(&vm, &boot));
    memset(&cpu, 0, sizeof(cpu));
    assert_true(exit_event(EVT_VCPU_STARTUP));
    assert_true(runs());
    assert_int_equal(cpu.rip, 0x100000);
    cpu.rflags = 0x202;
}

#define BOTH(test)                                                                                                     \
    static void test##_amd(void **state) {                                                                             \
        (void)state;                                                                                                   \
        machine(&amd);                                                                                                 \
        test();                                                                                                        \
    }                                                                                                                  \
    static void test##_intel(void **state) {                                                                           \
        (void)state;                                                                                                   \
        machine(&intel);                                                                                               \
        test();                                                                                                        \
    }

static void interrupt(uint8_t vector) {
    irq_ioapic_send(&vm, &(struct apic_msg){.vector = vector, .delivery = APIC_FIXED});
}

/* ---- cases ---- */

/* Controls: nothing but what docs/abi.md lets a VMM switch on; on AMD-V every intercept is the VMM's to add. */
static void controls(void) {
    const uint32_t forced = 1u << 3 | 1u << 7 | 1u << 21 | 1u << 25 | 1u << 28 | 1u << 31;
    const uint32_t may =
        1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | 3u << 15 | 3u << 19 | 1u << 23 | 1u << 24 | 1u << 27 | 3u << 29;

    if (model == &intel) {
        assert_int_equal(cpu.ctrl[0] & ~(forced | may), 0);
        assert_int_equal(cpu.ctrl[1] & ~(1u << 2 | 1u << 6 | 1u << 11 | 1u << 16), 0);
        assert_true(cpu.ctrl[0] & 1u << 11); /* RDPMC, MWAIT, MONITOR: the guest has none of them */
        assert_true(cpu.ctrl[0] & 1u << 10);
        assert_true(cpu.ctrl[0] & 1u << 29);
    } else {
        assert_true(cpu.ctrl[0] & 1u << 15);
        assert_true(cpu.ctrl[0] & 1u << 18); /* CPUID */
        assert_int_equal(cpu.ctrl[1] & (1u << 10 | 1u << 11), 1u << 10 | 1u << 11);
    }
}
BOTH(controls)

static void cpuid_hides_virtualization(void) {
    cpu.rax = 1;
    cpu.intr_state = 1;
    instruction("\x0f\xa2", 2);
    assert_true(exit_event(model->cpuid));
    assert_int_equal(cpu.rip, 0x100002);
    assert_int_equal(cpu.intr_state, 0);
    assert_false(cpu.rcx & 1 << 5);  /* VMX */
    assert_true(cpu.rcx & 1u << 31); /* hypervisor */
    cpu.rax = 0x80000001;
    instruction("\x0f\xa2", 2);
    assert_true(exit_event(model->cpuid));
    assert_false(cpu.rcx & 1 << 2); /* SVM */
    assert_true(runs());
}
BOTH(cpuid_hides_virtualization)

/* An instruction ends the shadow of STI and MOV SS; on VT-x the blocking of NMIs goes on until the guest's IRET. */
static void nmi_blocking_stays(void) {
    cpu.intr_state = 8 | 2;
    instruction("\x0f\xa2", 2);
    assert_true(exit_event(model->cpuid));
    assert_int_equal(cpu.intr_state, 8);
    cpu.intr_state = 8 | 1;
    instruction("\xe6\x80", 2);
    cpu.qual[0] = 0x800000 | 1 << 6;
    assert_true(exit_event(model->io));
    assert_int_equal(cpu.intr_state, 8);
}
static void nmi_blocking_stays_intel(void **state) {
    (void)state;
    machine(&intel);
    nmi_blocking_stays();
}

/* APM vol. 2 15.10.2 and SDM vol. 3 table 27-5. */
static uint64_t io_qualification(uint16_t port, unsigned size, bool in, bool string) {
    if (model == &amd)
        return (uint64_t)port << 16 | size << 4 | (unsigned)string << 2 | in;
    return (uint64_t)port << 16 | (size - 1) | (unsigned)in << 3 | (unsigned)string << 4;
}

static void io_exit(uint16_t port, unsigned size, bool in, bool string, unsigned len) {
    cpu.qual[0] = io_qualification(port, size, in, string);
    cpu.qual[1] = model == &amd ? cpu.rip + len : 0;
    assert_true(exit_event(model->io));
}

static void ports(void) {
    instruction("\xe6\x3f", 2);
    cpu.rax = 0x1234567890ull;
    io_exit(0x3ff, 1, false, false, 2); /* scratch register of the UART */
    assert_int_equal(cpu.rip, 0x100002);
    cpu.rax = 0x1111111111111111;
    instruction("\xe4\x3f", 2);
    io_exit(0x3ff, 1, true, false, 2);
    assert_true(cpu.rax == 0x1111111111111190);
    instruction("\x66\xed", 2);
    io_exit(0x5550, 2, true, false, 2); /* nobody there: ones */
    assert_true(cpu.rax == 0x111111111111ffff);
    instruction("\xed", 1);
    io_exit(0x5550, 4, true, false, 1);
    assert_true(cpu.rax == 0xffffffff);
    assert_int_equal(cpu.rip, 0x100007);
    assert_int_equal(vm.vcpu[0].exits[EXIT_IO], 4);
    assert_true(runs());
}
BOTH(ports)

/* OUTSB needs what the portal does not carry: the vCPU comes back with its whole state, and runs on afterwards. */
static void string_port(void) {
    cpu.ds = cpu.es = cpu.ss = (struct abi_seg){.ar = 0xc93, .limit = 0xffffffff};
    cpu.cs = (struct abi_seg){.ar = 0xc9b, .limit = 0xffffffff};
    cpu.rsi = 0x2000;
    cpu.rdx = 0x3ff;
    cpu.intr_state = 0;
    vm.mem.base[0x2000] = 'N';
    instruction("\x6e", 1);
    io_exit(0x3ff, 1, false, true, 1);
    assert_int_equal(cpu.rip, 0x100000);
    assert_false(runs());
    cpu.actv_state = 0; /* the kernel's VMCS never has what it refused */
    assert_true(exit_event(model->invalid));
    assert_true(runs());
    assert_int_equal(cpu.rip, 0x100001);
    assert_int_equal(cpu.rsi, 0x2001);
    assert_int_equal(serial_in(&vm, 7), 'N');
    /* a refusal that nobody asked for is an error */
    assert_false(exit_event(model->invalid));
    assert_true(reported);
}
BOTH(string_port)

static bool msr(bool write, uint32_t index) {
    cpu.rcx = index;
    cpu.qual[0] = model == &amd ? write : 0;
    instruction(write ? "\x0f\x30" : "\x0f\x32", 2);
    return exit_event(write ? model->wrmsr : model->rdmsr);
}

static void msrs(void) {
    cpu.rax = cpu.rdx = 0x01070406;
    assert_true(msr(true, 0x277)); /* PAT */
    assert_int_equal(cpu.rip, 0x100002);
    assert_true(cpu.pat == 0x0107040601070406);
    cpu.rax = cpu.rdx = ~0ull;
    assert_true(msr(false, 0x277));
    assert_true(cpu.rax == 0x01070406 && cpu.rdx == 0x01070406);
    assert_int_equal(vm.vcpu[0].exits[EXIT_RDMSR], 1);
    assert_int_equal(vm.vcpu[0].exits[EXIT_WRMSR], 1);
    uint64_t rip = cpu.rip;
    cpu.cr0 |= 1;
    cpu.rdx = 0x02000000; /* no such memory type */
    assert_true(msr(true, 0x277));
    assert_int_equal(cpu.inj_info, GP);
    assert_int_equal(cpu.rip, rip);
    assert_true(cpu.pat == 0x0107040601070406);
    cpu.inj_info = 0;
    assert_true(msr(false, 0x12345));
    assert_int_equal(cpu.inj_info, GP);
    assert_int_equal(cpu.inj_error, 0);
    assert_int_equal(cpu.rip, rip);
    assert_true(runs());
}
BOTH(msrs)

/* In real mode an exception has no error code. */
static void real_mode_fault(void) {
    cpu.cr0 &= ~1ull;
    assert_true(msr(false, 0x12345));
    assert_int_equal(cpu.inj_info, EXCEPTION(VEC_GP));
    assert_int_equal(cpu.rip, 0x100000);
    assert_true(runs());
    cpu.inj_info = 0;
    assert_true(exit_event(model->rdpmc));
    assert_int_equal(cpu.inj_info, EXCEPTION(VEC_GP));
}
BOTH(real_mode_fault)

static void instructions_that_are_not_there(void) {
    assert_true(exit_event(model->foreign)); /* the vendor's own virtualization */
    assert_int_equal(cpu.inj_info, EXCEPTION(VEC_UD));
    assert_int_equal(cpu.rip, 0x100000);
    cpu.inj_info = 0;
    assert_true(exit_event(model->rdpmc));
    assert_int_equal(cpu.inj_info, GP);
    cpu.inj_info = 0;
    instruction("\x0f\x01\xc1", 3);
    assert_true(exit_event(model->vmcall));
    assert_int_equal(cpu.rip, 0x100003);
    assert_int_equal((int64_t)cpu.rax, -1000); /* KVM: no such hypercall */
    assert_false(exit_event(model->shutdown));
    assert_true(reported);
}
BOTH(instructions_that_are_not_there)

static void interrupts(void) {
    interrupt(0x41);
    assert_int_equal(recalls, 1);
    cpu.rflags = 2;
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_IRQ_WINDOW);
    cpu.inj_info = 0;
    cpu.rflags = 0x202;
    cpu.intr_state = 1; /* just after STI */
    assert_true(exit_event(model->window));
    assert_int_equal(cpu.inj_info, INJ_IRQ_WINDOW);
    cpu.inj_info = 0;
    cpu.intr_state = 0;
    interrupt(0x51);
    assert_true(exit_event(model->window));
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x51);
    cpu.inj_info = 0;
    assert_true(exit_event(EVT_VCPU_RECALL)); /* 0x41 is of lower priority: waits for the EOI */
    assert_int_equal(cpu.inj_info, 0);
}
BOTH(interrupts)

/* MSR_KVM_EOI_EN: bit 0 of the word is set while clearing it is enough, which is not so while another vector waits or for a level. */
static void interrupt_ends_without_an_exit(void) {
    uint8_t *word = vm.mem.base + 0x3000;
    struct lapic *l = &vm.vcpu[0].lapic;

    cpu.cr0 |= 1;
    cpu.rdx = 0;
    cpu.rax = 0x3003;
    assert_true(msr(true, 0x4b564d04));
    assert_int_equal(cpu.inj_info, GP); /* reserved bit */
    cpu.inj_info = 0;
    cpu.rax = RAM | 1;
    assert_true(msr(true, 0x4b564d04));
    assert_int_equal(cpu.inj_info, GP); /* no memory there */
    cpu.inj_info = 0;
    cpu.rax = 0x3001;
    assert_true(msr(true, 0x4b564d04));
    assert_int_equal(cpu.inj_info, 0);
    *word = 2; /* its other bits are not ours */

    interrupt(0x41);
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x41);
    cpu.inj_info = 0; /* delivered */
    assert_int_equal(*word, 3);
    assert_true(exit_event(EVT_VCPU_RECALL)); /* not ended: still in service */
    assert_int_equal(*word, 3);
    assert_int_equal(l->isr[2], 2);
    *word = 2; /* ended: a lower one comes at once */
    interrupt(0x31);
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x31);
    cpu.inj_info = 0;
    assert_int_equal(l->isr[2] | l->isr[1], 1 << 17);
    assert_int_equal(*word, 3);
    interrupt(0x32); /* has to wait: the guest must be seen at the end */
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, 0);
    assert_int_equal(*word, 2);
    *word = 0; /* nothing ends by that now */
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(l->isr[1], 1 << 17);
    lapic_init(l, 0, true);
    irq_ioapic_send(&vm, &(struct apic_msg){.vector = 0x61, .delivery = APIC_FIXED, .level = true});
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x61);
    cpu.inj_info = 0;
    assert_int_equal(*word, 0);
}
BOTH(interrupt_ends_without_an_exit)

/* More than one vector: each end is the right one's. */
static void interrupts_end_without_an_exit(void) {
    uint8_t *word = vm.mem.base + 0x3000;
    struct lapic *l = &vm.vcpu[0].lapic;

    cpu.cr0 |= 1;
    cpu.rdx = 0;
    cpu.rax = 0x3001;
    assert_true(msr(true, 0x4b564d04));
    interrupt(0x41);
    assert_true(exit_event(EVT_VCPU_RECALL));
    cpu.inj_info = 0;
    assert_int_equal(*word, 1);
    interrupt(0x31);
    instruction("\x0f\x0b", 2); /* an exit that injects an exception of its own */
    assert_true(exit_event(model->foreign));
    assert_int_equal(cpu.inj_info, EXCEPTION(VEC_UD));
    cpu.inj_info = 0;
    assert_int_equal(*word, 0);

    lapic_init(l, 0, true);
    interrupt(0x31);
    assert_true(exit_event(EVT_VCPU_RECALL));
    cpu.inj_info = 0;
    interrupt(0x51);
    interrupt(0x41);
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x51);
    cpu.inj_info = 0;
    assert_int_equal(*word, 0); /* 0x41 waits for its end */

    lapic_init(l, 0, true);
    interrupt(0x31);
    assert_true(exit_event(EVT_VCPU_RECALL));
    cpu.inj_info = 0;
    interrupt(0x41);
    assert_true(exit_event(EVT_VCPU_RECALL));
    cpu.inj_info = 0;
    assert_int_equal(*word, 1);
    *word = 0;
    for (unsigned i = 0; i < 2; i++) { /* one end for one vector */
        assert_true(exit_event(EVT_VCPU_RECALL));
        assert_int_equal(l->isr[2] | l->isr[1], 1 << 17);
    }

    lapic_init(l, 0, true);
    interrupt(0x41);
    assert_true(exit_event(EVT_VCPU_RECALL));
    cpu.inj_info = 0;
    assert_int_equal(*word, 1);
    cpu.rax = 0;
    assert_true(msr(true, 0x4b564d04)); /* switched off: the guest ends it itself */
    assert_int_equal(*word, 0);
}
BOTH(interrupts_end_without_an_exit)

/* What an exit interrupted comes first, software events excepted: their instruction runs again. */
static void interrupted_events(void) {
    interrupt(0x41);
    cpu.inj_info = EXCEPTION(14) | INJ_ERROR;
    cpu.inj_error = 2;
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, EXCEPTION(14) | INJ_ERROR | INJ_IRQ_WINDOW);
    assert_int_equal(cpu.inj_error, 2);
    cpu.inj_info = INJ_VALID | 4 << 8 | 0x80; /* INT 0x80 */
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x41);
}
BOTH(interrupted_events)

static void software_types_intel(void **state) {
    (void)state;
    machine(&intel);
    for (unsigned type = 4; type <= 6; type++) {
        cpu.inj_info = INJ_VALID | type << 8 | 3;
        assert_true(exit_event(EVT_VCPU_RECALL));
        assert_int_equal(cpu.inj_info, 0);
    }
}

static void nmi_send(void) { irq_ioapic_send(&vm, &(struct apic_msg){.delivery = APIC_NMI}); }

static void nmi_waits_intel(void **state) {
    (void)state;
    machine(&intel);
    cpu.rflags = 2;
    cpu.intr_state = 8;
    nmi_send();
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_NMI_WINDOW);
    cpu.inj_info = 0;
    cpu.intr_state = 0;
    assert_true(exit_event(8)); /* NMI window */
    assert_int_equal(cpu.inj_info, INJ_VALID | 2 << 8 | 2);
}

static void nmi_comes(void) {
    cpu.rflags = 2;
    nmi_send();
    interrupt(0x41);
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_int_equal(cpu.inj_info, INJ_VALID | 2 << 8 | 2 | INJ_IRQ_WINDOW);
}
BOTH(nmi_comes)

/* INIT that arrives while a handler is at work is taken as soon as it is done; then the CPU waits for its STARTUP IPI. */
static void init_in_handler(void) {
    cpu.rax = 0xfee00c00;
    cpu.rdx = 0;
    assert_true(msr(true, 0x1b)); /* x2APIC */
    cpu.rax = 0x500;
    assert_true(msr(true, 0x830)); /* to ourselves, by number */
    assert_int_equal(recalls, 1);
    assert_true(exit_event(EVT_VCPU_RECALL));
    assert_true(runs());
    assert_int_equal(cpu.rip, 0);
    assert_int_equal(cpu.cs.base, 0x9a000);
    assert_int_equal(cpu.cs.sel, 0x9a00);
    assert_int_equal(cpu.cr0 & 1, 0);
}
BOTH(init_in_handler)

static void memory(void) {
    cpu.qual[0] = 0;
    cpu.qual[1] = 0x12345;
    assert_true(exit_event(model->memory));
    assert_int_equal(cpu.rip, 0x100000);
    assert_int_equal(utcb.items >> 16, 1);
    uint64_t crd = utcb.w[UTCB_WORDS - 2], flags = utcb.w[UTCB_WORDS - 1];
    assert_int_equal(CRD_BASE(crd), (uintptr_t)vm.mem.base >> 12);
    assert_int_equal(CRD_TYPE(crd), CRD_MEM);
    assert_int_equal(CRD_ORDER(crd), 9);
    assert_int_equal(flags & 0xfff, ITEM_DELEGATE | ITEM_G | ITEM_N);
    assert_int_equal(flags >> 12, 0);
    assert_int_equal(vm.vcpu[0].exits[EXIT_MEMORY], 1);
}
BOTH(memory)

/* MOV from the I/O APIC's window, at the place of its registers; then somewhere between RAM and it. */
static void device(void) {
    cpu.ds = cpu.es = cpu.ss = (struct abi_seg){.ar = 0xc93, .limit = 0xffffffff};
    cpu.cs = (struct abi_seg){.ar = 0xc9b, .limit = 0xffffffff};
    cpu.cr0 = 0x11;
    cpu.cr2 = 0x77;
    instruction("\xc7\x05\x00\x00\xc0\xfe\x01\x00\x00\x00", 10); /* movl $1, 0xfec00000 */
    cpu.inst_len = 0;                                            /* neither vendor gives it here */
    cpu.qual[1] = 0xfec00000;
    assert_true(exit_event(model->memory));
    assert_int_equal(cpu.rip, 0x10000a);
    instruction("\xa1\x10\x00\xc0\xfe", 5); /* mov 0xfec00010, %eax */
    cpu.inst_len = 0;
    cpu.qual[1] = 0xfec00010;
    assert_true(exit_event(model->memory));
    assert_int_equal(cpu.rip, 0x10000f);
    assert_int_equal(cpu.rax, 0x170020); /* version 0x20, 24 pins */
    assert_int_equal(cpu.cr2, 0x77);
    assert_true(runs());
    cpu.qual[1] = 0x90000000;
    assert_false(exit_event(model->memory));
}
BOTH(device)

static void hlt_until_interrupt(void) {
    interrupt(0x41);
    instruction("\xf4", 1);
    assert_true(exit_event(model->hlt));
    assert_int_equal(cpu.rip, 0x100001);
    assert_int_equal(cpu.actv_state, 0);
    assert_int_equal(cpu.inj_info, INJ_VALID | 0x41);
    cpu.inj_info = 0;
    cpu.rflags = 2;
    assert_false(exit_event(model->hlt)); /* for good */
    assert_true(reported);
}
BOTH(hlt_until_interrupt)

#define TWO(test) cmocka_unit_test(test##_amd), cmocka_unit_test(test##_intel)

int main(void) {
    const struct CMUnitTest tests[] = {
        TWO(controls),
        TWO(cpuid_hides_virtualization),
        cmocka_unit_test(nmi_blocking_stays_intel),
        TWO(ports),
        TWO(string_port),
        TWO(msrs),
        TWO(real_mode_fault),
        TWO(instructions_that_are_not_there),
        TWO(interrupts),
        TWO(interrupt_ends_without_an_exit),
        TWO(interrupts_end_without_an_exit),
        TWO(interrupted_events),
        cmocka_unit_test(software_types_intel),
        cmocka_unit_test(nmi_waits_intel),
        TWO(nmi_comes),
        TWO(init_in_handler),
        TWO(memory),
        TWO(device),
        TWO(hlt_until_interrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
