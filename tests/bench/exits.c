/* A guest that executes CPUID again and again, in a PD of its own; its handler, in another, adds 2 to RIP and replies with what came.
 * A round goes from one entry of the handler to the next. After the last CPUID a HLT ends the stretch. */
#include "bench.h"

#define GPA      0x1000ul
#define SVM      HIP_SVM
#define VMX      HIP_VMX
#define MTD_GPR  (MTD_ACDB | MTD_BSD | MTD_RIP)
#define MTD_FULL 0x1ffffful /* all that the public interface has but the FPU: bits 0-20 */

static struct thread handler;
static sel_t vcpu, vm, base, go, done;

static bool vmx(void) { return mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features))) & HIP_VMX; }
static u64 cpuid_event(void) { return vmx() ? 10 : 0x72; } /* SDM vol 3 appendix C, APM vol 2 appendix C */
static u64 hlt_event(void) { return vmx() ? 12 : 0x78; }

/* PID: the state in its UTCB. The TSC offset is a difference in the reply. */
__attribute__((naked, used)) static void exit_entry(void) {
    __asm__(BENCH_SAMPLE "addq $2, 0x10(%rdi)\n\tmov $1, %edi\n\tsyscall\n\tud2");
}
__attribute__((naked, used)) static void exit_full_entry(void) {
    __asm__(BENCH_SAMPLE "addq $2, 0x10(%rdi)\n\tmovq $0, 0x1c8(%rdi)\n\tmov $1, %edi\n\tsyscall\n\tud2");
}

static void go_on(void) {
    utcb_put(&handler, 0, MTD_RIP);
    utcb_put(&handler, STATE_WORD(rip), GPA);
}
ENTRY(on_hlt) {
    (void)rdi;
    wake_up(done);
    (void)nova_sm_down(go, false, 0);
    go_on();
}
/* Real mode. AMD-V: intercepts of VMRUN and CPUID. */
ENTRY(on_startup) {
    (void)rdi;
    const struct thread *t = &handler;
    for (unsigned i = 1; i < ABI_STATE_WORDS; i++)
        utcb_put(t, i, 0);
    utcb_put(t, STATE_WORD(rflags), 2);
    utcb_put(t, STATE_WORD(ctrl), vmx() ? 0 : 1ul << 32 | 1ul << 18);
    utcb_put(t, STATE_WORD(cr0), 0x30);
    utcb_put(t, STATE_WORD(dr7), 0x400);
    for (unsigned w = STATE_WORD(es); w <= STATE_WORD(idtr); w += 2) {
        u64 ar = w == STATE_WORD(cs) ? 0x9b : w == STATE_WORD(ldtr) ? 0x82 : w == STATE_WORD(tr) ? 0x8b : 0x93;
        utcb_put(t, w, ar << 16 | 0xffffull << 32);
        utcb_put(t, w + 1, 0);
    }
    (void)nova_sm_down(go, false, 0);
    go_on();
    utcb_put(t, 0, MTD_FULL & ~MTD_TSC);
    utcb_put_item(t, 0, crd_mem(VA_RAM >> 12, 0, PERM_MEM_ALL), DELEGATE(GPA >> 12, ITEM_G));
    utcb_set_items(t, ABI_STATE_WORDS, 1);
}

static void guest_make(u64 mtd) {
    go = sm_new(0), done = sm_new(0), vm = sel_new(), vcpu = sel_new(), base = sels_new(8);
    thread_local(&handler, SEL_PD, 0);
    const struct {
        u64 event, mtd, ip;
    } portals[] = {{cpuid_event(), mtd, (u64)(mtd & MTD_TSC ? exit_full_entry : exit_entry)},
                   {hlt_event(), 0, IP(on_hlt)},
                   {EVT_VCPU_STARTUP, 0, IP(on_startup)}};
    for (unsigned i = 0; i < sizeof(portals) / sizeof(portals[0]); i++) {
        CHECK_EQ(nova_create_pt(base + portals[i].event, SEL_PD, handler.ec, (u32)portals[i].mtd, portals[i].ip), 0);
        CHECK_EQ(nova_pt_ctrl(base + portals[i].event, handler.utcb + 0x20), NOVA_SUCCESS);
    }
    CHECK_EQ(nova_create_pd(vm, SEL_PD, crd_obj(base, 8, CRD_PERM_ANY)), NOVA_SUCCESS);
    CHECK_EQ(nova_create_ec(vcpu, vm, 0, abi_cpu[0], 0, 0, true), NOVA_SUCCESS);
    CHECK_EQ(nova_create_sc(sel_new(), SEL_PD, vcpu, QPD_MAKE(PRIO_MAIN - 1, 1000000000)), NOVA_SUCCESS);
}
static void rip(void) { guest_make(MTD_RIP); }
static void gpr(void) { guest_make(MTD_GPR); }
static void full(void) { guest_make(MTD_FULL); }

static void exits(void (*round)(void), u64 arg, unsigned count) {
    (void)round, (void)arg;
    for (unsigned i = 0; i <= count; i++) {
        mem_write8((void *)(VA_RAM + 2 * i), 0x0f); /* CPUID */
        mem_write8((void *)(VA_RAM + 2 * i + 1), 0xa2);
    }
    mem_write8((void *)(VA_RAM + 2 * count + 2), 0xf4); /* HLT */
    wake_up(go);
    wait_for(done);
}

const struct bench_op bench_exits[] = {
    {"exit_rip", rip, NULL, exits, 0, SVM | VMX},
    {"exit_gpr", gpr, NULL, exits, 0, SVM | VMX},
    {"exit_full", full, NULL, exits, 0, SVM | VMX},
    {0},
};
