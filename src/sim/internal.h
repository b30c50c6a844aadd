/* Between the simulator's own files. */
#pragma once
#include "core/core.h"
#include <mach/storebuf.h>
#include "sim/fiber.h"
#include "sim/race.h"
#include "sim/sim.h"

#define SIM_TSC_KHZ      10000u
#define SIM_CR4          0x406a0ul /* PAE MCE PGE OSFXSR OSXMMEXCPT OSXSAVE */
#define SIM_KERNEL_STACK 0x40000u
#define SIM_USER_STACK   0x20000u

#define SIM_CHECK_DEFAULT 64u /* kernel exits between two walks over everything */

enum sim_trap { SIM_TRAP_INTERRUPT, SIM_TRAP_SYSCALL, SIM_TRAP_EXCEPTION };

extern struct sim_options sim_opt;
extern struct cpu sim_cpus[ABI_MAX_CPUS];
extern bool sim_running; /* false also while invariants are looked at */
extern bool sim_on_host; /* on the host's stack: before and after a run, and in unit tests */
extern unsigned sim_failures;

/* sched.c */
extern bool sim_begun; /* the seed rules; before, from power-on to the snapshot point, there is one fixed order */
extern bool
    sim_ending; /* sim_done was called: from now on in the order without decisions, until the last look can be taken */
/* Gives the CPU away until it can run again (its state says why it cannot). */
void sim_sched_wait(void);
/* Somebody may run who could not: asks for a decision soon. */
void sim_sched_wake(void);
void sim_sched_deadline(u64 tsc);
/* Leaves the run for the host stack, to go on here later: the snapshot point. */
void sim_pause(void);
/* Leaves the run for the host stack. */
_Noreturn void sim_stop(enum sim_result r);
/* Host stack: starts the run or goes on after sim_pause, and returns how it ended. */
enum sim_result sim_sched_run(void);
/* Scheduling points of all CPUs so far. */
u64 sim_sched_steps(void);

/* snapshot.c: zeroed memory for the simulator's own records, which goes back with the snapshot; as much as could ever be wanted, only
 * what is used costs anything. During the boot only. malloc and mmap are not for what a run changes. */
void *sim_memory(size_t bytes);

/* record.c: into the trace hash, whatever program addresses are among them */
void sim_hash_registers(const struct uregs *r, u64 what);
void sim_hash_value(u64 v);
/* splitmix64 */
u64 sim_random(u64 *state);

/* storebuf.c, only with sim_opt.store_buffers. Memory is what the CPU that runs sees, between hide and show what all see; on an
 * occasion (a CPU changes or waits, never a moment that depends on how schedules are searched) stores are let out. stop: all of
 * them, at the end of a run. */
void sim_storebuf_start(void);
void sim_storebuf_hide(bool occasion);
void sim_storebuf_show(const struct cpu *c, bool occasion);
void sim_storebuf_relax(void); /* in a wait loop a store must leave some time */
void sim_storebuf_stop(void);

/* cpu.c */
/* Interrupts can come in here; from here on they cannot. */
void sim_shut_end(const struct mach_cpu *m);
static inline void sim_shut_begin(struct mach_cpu *m) { m->shut = sim_now; }
bool sim_interrupt_pending(const struct mach_cpu *m);
void sim_interrupts_deliver(struct cpu *c);
void sim_log_dump(void);
void sim_state_dump(void);

/* mmu.c */
void sim_tlb_flush(struct mach_cpu *m);
/* Translates a user access on c. access: PERM_MEM_* of which one bit is set. Returns 0 and *pa, or the error code of #PF | 1 << 31. */
u64 sim_mmu_translate(struct cpu *c, u64 va, unsigned access, paddr_t *pa);
void *sim_phys(paddr_t pa); /* host pointer, or NULL outside the arena */
/* Calls f for every PD that has a page table. */
void sim_pds_each(void (*f)(struct pd *));

/* vtd.c: the machine's IOMMU and configuration space; f(did, page, frame, perm) for every translation that the IOTLB holds. */
#define SIM_VTD_BASE  0xfed90000ul
#define SIM_MCFG_BASE 0xb0000000ul
void sim_iotlb_each(void (*f)(u16 domain, u64 page, u64 frame, unsigned perm));
/* f for every context table that the unit's root table refers to. */
void sim_contexts_each(void (*f)(const void *table));

/* user.c: resumes thread ec until its next trap and runs the kernel's part of it; returns what runs next. */
struct ec *sim_user_run(struct cpu *c, struct ec *ec);
/* The memory of an object is free: a fiber that belonged to it goes too. */
void sim_user_forget(const void *ec);
void sim_users_dump(void);

/* svm.c, vmx.c: what the kernel keeps for a vCPU of that vendor, for the invariants. */
struct sim_vcpu {
    u64 size; /* of its struct vcpu */
    const void *pages;
    unsigned order;
    bool enters_as_it_is; /* without new tag and flush: what the guest TLB holds for the tag must be true */
    u64 tag;
};
struct sim_vcpu sim_svm_vcpu(const struct ec *ec);
struct sim_vcpu sim_vmx_vcpu(const struct ec *ec);
static inline struct sim_vcpu sim_vcpu_of(const struct ec *ec) {
    return sim_opt.vendor == SIM_INTEL ? sim_vmx_vcpu(ec) : sim_svm_vcpu(ec);
}

/* svm.c: the step of a guest program at rip; false where there is none. Any other constant of the program is taken for one, too. */
bool sim_guest_fetch(u64 rip, struct sim_guest_step *s);
/* vmx.c: memory that a CPU may still write its VMCS to is not freed. */
void sim_vmx_forget(const void *memory, size_t size);

/* sim.c */
extern const u64 sim_syscall_msrs[4]; /* the host's */
void sim_replay_print(void);

/* check_space.c: invariants of a PD's spaces against its tables. */
void sim_space_check(const struct pd *pd);

/* check.c: all invariants; false if another CPU than self is inside the kernel. */
bool sim_check_now(const struct cpu *self);
/* The kernel is about to go back to user or guest mode on `self`: looks if it is time to. */
void sim_check_exit(struct cpu *self);
/* A thread or guest is entered: asserts that what was asked for against speculation (sim_options.mitigations) has been done. */
void sim_speculate(struct cpu *c);
/* A lock was taken: what it protects may change. */
void sim_check_touched(const struct spinlock *l);
/* lockstep.c: a program is about to write here. */
void sim_model_user_write(const void *p);
/* Once, when root exists and has not run: what the kernel keeps for ever. */
void sim_check_boot(void);

/* image.c: a root module for the loader: an ELF header whose entry is `entry`. Returns its size. */
u64 sim_image_make(void *to, u64 entry);

#include "sim/trace.h" /* TRACE(what, ...): every file of the backend has a line or two of it */
