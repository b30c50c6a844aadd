/* The simulator as tests see it: machine, user programs, guests. docs/simulator.md tells the story.
 *
 * A run: N CPUs, a seed, a root program. Root's first EC starts at `root` with RDI = boot CPU, RSP = HIP address. A thread's
 * program is a C function f(u64 rdi) named by its address; RIP in a message is either such an address or an opaque token that says
 * "go on where you were". A function that returns does the reply hypercall.
 *
 *   host stack            CPU fibers (kernel stacks)           user fibers (one per EC that runs)
 *   sim_run ------------> core_resume ... sim_user_run <-----> abi_main(), portal functions
 *      ^                       | every atomic, lock, IPI wait, user step: sim_choose decides which CPU goes on
 *      `---- sim_done, failure, deadlock
 */
#pragma once
#include "arch/regs.h"
#include "arch/types.h"

struct ec;
struct pd;

enum sim_sched {
    SIM_AUTO,       /* by seed: random walks of several densities and PCT */
    SIM_RANDOM,     /* at each chosen point any CPU that can run, uniformly */
    SIM_PCT,        /* priorities with `depth` change points in a window */
    SIM_EXHAUSTIVE, /* all schedules with at most `preemptions`, for one seed of the other streams */
    SIM_SCRIPT,     /* what a replay file says */
};
#define SIM_CHECK_END   (~0u)     /* all invariants at the end only: for measuring and for long searches */
#define SIM_CHECK_CALLS (~0u - 1) /* after every call those of what it touched, all at every 64th */
enum sim_vendor { SIM_AMD, SIM_INTEL, SIM_ANY /* by seed */ };
/* Where the code of root's image lies: not the page of its entry, or page tables, and so traces, would depend on the linker. */
#define SIM_ROOT_VADDR 0x400000ul
struct sim_options {
    unsigned cpus; /* 1..64; 0: 4 */
    u64 seed;
    u64 ram;  /* bytes; 0: 64 MiB */
    u64 pool; /* kernel memory; 0: as on hardware, max(4 MiB, 1/64 of RAM) */
    void (*root)(u64 cpu);
    const char *cmdline; /* kernel's */
    enum sim_sched sched;
    unsigned depth;       /* PCT: change points; 0: 1 to 4 by seed */
    int preemptions;      /* exhaustive: at most; 0: 2; -1: none */
    bool setup;           /* the seed rules from root's sim_begin() on; else from root's first instruction */
    bool cold;            /* the seed rules from power-on: boots under it, each run in a process of its own */
    bool isolate;         /* each run in a process of its own, forked at the snapshot point */
    unsigned check_every; /* all invariants at every Nth return to user or guest mode; 0: 64; or SIM_CHECK_* */
    u64 steps;            /* budget of scheduling points; 0: 50 million */
    bool no_svm;          /* CPUs without virtualization */
    enum sim_vendor vendor;
    u32 mitigations;    /* enum mitigation: the kernel does them, and the CPUs notice what is forgotten (insn.c) */
    bool no_iommu;      /* machine without VT-d */
    bool iommu_39;      /* VT-d with 39-bit addresses: three levels, and without large pages */
    bool no_flush;      /* mutant: TLB flushes do nothing, to prove that the model notices */
    bool no_ipi;        /* mutant: IPIs are lost */
    bool model;         /* the reference model in lock-step (model.h); programs linked with SIM_LINK */
    bool store_buffers; /* x86-TSO instead of sequential consistency */
    bool stores_stay;   /* in their buffers until an instruction lets them out; else how soon they leave is chosen */
    bool verbose;       /* kernel log to stdout as it comes */
    void (*end)(void);  /* on the host stack after the run: asserts over kernel state */
};
enum sim_result {
    SIM_OK,
    SIM_FAILED, /* sim_expect */
    SIM_PANIC,
    SIM_DEADLOCK,
    SIM_BUDGET,
    SIM_DIVERGED, /* repeated, and another trace hash: something in it is not a function of the seed */
    SIM_PAUSED,   /* internal */
};

/* How many calls the reference model was compared with: alone, in an order of up to four that overlapped, or not at all. */
struct sim_model_stats {
    u64 alone, overlapping, unchecked;
};
extern struct sim_model_stats sim_model_stats;

/* One run in this process; only one per process (see sim_seeds). What went wrong has been printed with the replay command. */
enum sim_result sim_run(const struct sim_options *o);
/* Runs o with seeds first..first+count-1 (exhaustive: at most count schedules). Returns how many did not end as `expected` wants, 5 at
 * most; prints the seeds of those, shrinks the first and says how it is repeated. A worker process boots once and runs one after the
 * other from a snapshot; after a crash another worker goes on. C variables of tests are part of the snapshot, mapped memory is not.
 * The environment overrides: docs/simulator.md. */
unsigned sim_seeds(const struct sim_options *o, u64 first, unsigned count, enum sim_result expected);
/* How many of the runs end with `result`; silent. For mutants: some interleaving must find it. */
unsigned sim_count(const struct sim_options *o, u64 first, unsigned count, enum sim_result result);
/* What the last sim_seeds or sim_count did. */
struct sim_stats {
    u64 runs, died;          /* died: the process did */
    u64 results[SIM_PAUSED]; /* how many ended so */
    u64 first[SIM_PAUSED];   /* the first of them: 1, 2, ...; 0: none */
    u64 points, longest;     /* scheduling points of all runs, of the longest */
    u64 trace;               /* hash of the last run */
    bool exhausted;          /* exhaustive: no schedule is left ... */
    bool clipped;            /* ... but a run was too long to branch everywhere */
    u32 switches[2];         /* of the first run that failed, before and after shrinking */
    u32 choices[2];          /* likewise, of workload and faults */
    char replay[200];        /* where it was saved; empty: nowhere */
};
const struct sim_stats *sim_stats(void);
/* Repeats the run of a replay file; result or how the process died. *same: it had the trace that the file says. */
int sim_replay(const struct sim_options *o, const char *file, bool *same);
/* Choices, kernel entries and exits with their registers, page-table and object-table stores so far as one number. Equal for equal
 * seeds, in every build. */
u64 sim_hash(void);

/* --- in user programs (on user fibers) --- */
enum sim_stream { SIM_BUFFERS /* storebuf.c */, SIM_WORKLOAD, SIM_FAULT, SIM_STREAMS };
/* The only source of nondeterminism: 0..n-1. Tests use the streams SIM_WORKLOAD and SIM_FAULT, after sim_begin. */
u32 sim_choose(enum sim_stream s, u32 n);
/* With the option `setup`: up to here the order was fixed and nothing was chosen; each run starts from here. */
void sim_begin(void);
_Noreturn void sim_done(void); /* ends the run; successful if no expectation failed */
/* Records a failure and goes on; usable on any stack. */
#define sim_expect(x) ((x) ? (void)0 : sim_expect_failed(#x, __FILE__, __LINE__, 0, 0))
#define sim_expect_eq(a, b)                                                                                            \
    ({                                                                                                                 \
        u64 va_ = (u64)(a), vb_ = (u64)(b);                                                                            \
        va_ == vb_ ? (void)0 : sim_expect_failed(#a " == " #b, __FILE__, __LINE__, va_, vb_);                          \
    })
void sim_expect_failed(const char *what, const char *file, int line, u64 a, u64 b);
void sim_log(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* into the run's log, shown when it fails */
/* The name of the object behind a selector of the running PD, in traces. */
void sim_name(u64 sel, const char *name);
/* A step of user code: other CPUs, interrupts and preemption may happen here. */
void sim_step(void);
unsigned sim_cpu(void);
u64 sim_clock(void);
/* Time passes at once, for all CPUs. */
void sim_clock_advance(u64 ticks);
/* Registers of the running thread as the kernel keeps them: RSP, RDI at entry, everything an exception message shows. */
struct uregs *sim_regs(void);
/* The one hypercall primitive: registers in and out. */
struct sim_hypercall {
    u64 rdi, rsi, rdx, rax, r8;
};
void sim_hypercall(struct sim_hypercall *h);
/* Raises an exception of the running thread and returns when it is resumed here. */
void sim_raise(unsigned vec, u64 err);
/* Memory of the running thread's PD, through page tables and TLB; raises #PF until the access is possible. */
void sim_mem_read(u64 va, void *to, size_t bytes);
void sim_mem_write(u64 va, const void *from, size_t bytes);
u32 sim_mem_xchg32(u64 va, u32 v);
u32 sim_mem_or32(u64 va, u32 v);
/* Host pointer to the page of an address as it is now: for a UTCB, valid until the thread blocks or the page is revoked. */
void *sim_mem_ptr(u64 va, bool write);
/* False instead of a fault. */
bool sim_mem_probe(u64 va, bool write);
/* Reads the fetch permission of an address without a fault. */
bool sim_mem_exec(u64 va);
u32 sim_port_in(unsigned port, unsigned bytes);
void sim_port_out(unsigned port, unsigned bytes, u32 value);
u64 sim_fpu_get(unsigned reg);
void sim_fpu_set(unsigned reg, u64 value);
void sim_fs_base_set(u64 v);
u64 sim_fs_base(void);
void sim_gs_base_set(u64 v);
u64 sim_gs_base(void);

/* --- the machine, from anywhere --- */
/* A device raises an interrupt line (edge). */
void sim_irq(unsigned gsi);
/* A device, named by its PCI routing id, reads or writes 8 aligned bytes at a DMA address. False: the IOMMU refused. */
bool sim_dma_read(u16 rid, u64 addr, u64 *value);
bool sim_dma_write(u16 rid, u64 addr, u64 value);
/* All invariants (check.c), if no other CPU is inside the kernel just now; a violation is a panic. */
void sim_check(void);
/* The Nth kernel allocation from now fails; 0: none. */
void sim_fail_alloc(u64 n);
/* Every Nth, until sim_fail_alloc(0): also when the kernel tries again (rcu_push). */
void sim_fail_allocs(u64 n);
/* The simulated CPUs are Intel's: known when root starts. */
bool sim_is_intel(void);
/* The longest time so far in which no interrupt could come in on some CPU, in ticks, and begins again with none. Exact with one CPU; with
 * more it contains the others' points. */
u64 sim_shut_longest(void);
/* Preemption points of the kernel that were passed so far, on all CPUs. */
u64 sim_preempt_points(void);
/* CPU `cpu` is idle right now. */
bool sim_cpu_is_idle(unsigned cpu);

/* --- guests: a program is an array of these; RIP of the vCPU is the address of its next element --- */
enum sim_guest_op {
    SIM_G_CPUID, /* exits */
    SIM_G_HLT,
    SIM_G_IO,    /* a = port, b = 1: in; size of 1 */
    SIM_G_RDMSR, /* a = MSR */
    SIM_G_WRMSR,
    SIM_G_VMMCALL,
    SIM_G_READ,  /* guest-physical a, 8 bytes -> RAX; nested fault when not mapped */
    SIM_G_WRITE, /* RAX -> guest-physical a */
    SIM_G_FETCH, /* executes at guest-physical a: only the permission counts */
    SIM_G_SET,   /* RAX = a */
    SIM_G_ADD,   /* RAX += a */
    SIM_G_CLI,
    SIM_G_STI,
    SIM_G_SPIN,   /* jumps to itself until an interrupt is injected */
    SIM_G_JUMP,   /* RIP = a */
    SIM_G_TRIPLE, /* triple fault: shutdown */
    SIM_G_FPU,    /* fpu register 0 = a; b = 1: RAX = it */
    SIM_G_DR,     /* debug register 0 = a; b = 1: RAX = it */
    SIM_G_EXIT, /* leaves with exit code a and first qualification b, whatever is intercepted; done, when it comes back */
    SIM_G_CR0, /* MOV to CR0 of a; CR4 */
    SIM_G_CR4,
    SIM_G_XSETBV,    /* XCR0 = a */
    SIM_G_EXCEPTION, /* raises exception a */
    SIM_G_IRET, /* back from the interrupt: RIP = RBX, IF set. An accepted event left its vector in RCX, the old RIP in RBX
                     and went on at RIP = RDX with IF clear. */
};
struct sim_guest_step {
    u32 op;
    u32 b;
    u64 a;
};
/* A program that is not a constant: guests find it (they find constants, and nothing that could differ between equal runs). */
void sim_guest_program(const struct sim_guest_step *steps, size_t count);
