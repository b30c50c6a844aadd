/* A simulated CPU: what belongs to the machine. */
#pragma once
#include "arch/types.h"

#define SIM_TLB_SIZE 64 /* entries of the host TLB and of the guest TLB, direct mapped */

struct cpu;
struct pd;
struct spinlock;
struct sim_fiber;

struct sim_tlb_entry {
    u64 tag;  /* guest TLB: ASID, or EPT root and VPID; host TLB: 0 */
    u64 page; /* page number + 1; 0: empty */
    u64 frame;
    u32 perm; /* PERM_MEM_* */
    u32 tables
        [3]; /* host TLB: page frames of the tables below the root that it came from, which the CPU may still walk; 0: none */
};

enum sim_cpu_state { SIM_CPU_OFF, SIM_CPU_RUN, SIM_CPU_IDLE, SIM_CPU_LOCK };

struct mach_cpu {
    enum sim_cpu_state state;
    struct spinlock *wait_lock; /* state LOCK */
    u32 locks_held;
    i64 prio;                 /* PCT: higher runs first */
    u64 points;               /* scheduling points that it passed in this run */
    u64 relaxed, relaxed_at;  /* iterations of the wait loop it is in; its points at the last one */
    struct sim_fiber *kernel; /* its kernel stack */
    struct sim_fiber *active; /* kernel, or the user fiber that runs on this CPU */
    bool in_guest;            /* a guest runs: the kernel's structures are at rest here */
    /* interrupts */
    bool ipi;
    u64 irq[2]; /* pending GSIs */
    u64 deadline;
    u64 shut; /* clock when an interrupt could last come in */
    /* translations */
    struct sim_tlb_entry tlb[SIM_TLB_SIZE], guest_tlb[SIM_TLB_SIZE];
    u64 guess; /* page number + 1 that was translated last */
    /* registers that are not in the frame */
    u64 fpu[8];
    bool fpu_disabled; /* CR0.TS */
    u64 fs_base, gs_base;
    u64 cr2;
    u64 efer, vm_hsave, tsc_aux, xcr0;
    bool gif;
    u64 cr4, feature_control;
    u64 vmxon, vmcs;               /* physical addresses; vmcs ~0: none is current */
    struct pd *branches, *returns; /* who has trained the predictors since they were last cleared; NULL: nobody */
    bool l1d_clean;                /* nothing has been written to MSRs since the L1 data cache was flushed */
    u64 syscall_msr[4];            /* STAR LSTAR CSTAR FMASK */
    /* trap of the user fiber that just switched to the kernel fiber */
    int trap;
};

struct cpu *arch_cpu_self(void);
void arch_cpu_relax(void);
u64 arch_clock(void);
bool arch_preempt_pending(void);
struct arch_bases arch_bases_read(void);
void arch_bases_switch(struct arch_bases *from, const struct arch_bases *to);
