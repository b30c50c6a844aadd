/* A run from power-on to its verdict. */
#define _GNU_SOURCE
#include "sim/sim.h"
#include "arch/acpi.h"
#include "arch/assert.h"
#include "arch/mitigate.h"
#include "arch/mem.h"
#include "arch/vcpu.h"
#include "core/kmem.h"
#include "core/pd.h"
#include "sim/engine.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct sim_options sim_opt = {.cpus = 1, .ram = 64ul << 20};
unsigned sim_failures;
bool sim_on_host = true;
static unsigned cpus_up;
static bool root_up;
static struct boot_range ranges[3];
static struct boot_range holes[2];
static const u64 iommus[] = {SIM_VTD_BASE};
static const struct acpi_mcfg mcfg = {.base = SIM_MCFG_BASE, .bus_last = 3};
static struct boot_module module;
static struct boot_cpu boot_cpus[ABI_MAX_CPUS];

#define IMAGE_BASE  0x200000ul /* root's boot module, and its command line a page above */
#define IMAGE_PAGES 4ul
#define POOL_BASE   0x400000ul

/* Memory from bottom to top: RAM with the module, the kernel's pool, RAM. */
static void machine_describe(struct boot_info *b) {
    u64 pool = sim_opt.pool ? sim_opt.pool : max_u64(4ul << 20, sim_opt.ram / 64);
    char *line = arch_phys_ptr(PADDR(IMAGE_BASE + IMAGE_PAGES * PAGE_SIZE));
    memcpy(line, "root.elf", sizeof("root.elf"));
    module = (struct boot_module){IMAGE_BASE, sim_image_make(arch_phys_ptr(PADDR(IMAGE_BASE)), (u64)sim_opt.root),
                                  arch_ptr_phys(line).v};
    ranges[0] = (struct boot_range){0, POOL_BASE, HIP_MEM_RAM};
    ranges[1] = (struct boot_range){POOL_BASE, pool, HIP_MEM_KERNEL};
    ranges[2] = (struct boot_range){POOL_BASE + pool, sim_opt.ram - POOL_BASE - pool, HIP_MEM_RAM};
    holes[0] = (struct boot_range){0xfee00000, PAGE_SIZE, HIP_MEM_RESERVED};
    holes[1] = (struct boot_range){SIM_VTD_BASE, PAGE_SIZE, HIP_MEM_RESERVED};
    for (unsigned i = 0; i < sim_opt.cpus; i++)
        boot_cpus[i] = (struct boot_cpu){.core = (u8)i, .acpi_id = (u8)i};
    *b = (struct boot_info){
        .ranges = ranges,
        .range_count = ARRAY_SIZE(ranges),
        .holes = holes,
        .hole_count = ARRAY_SIZE(holes),
        .modules = &module,
        .module_count = 1,
        .cpus = boot_cpus,
        .cpu_count = sim_opt.cpus,
        .iommus = iommus,
        .iommu_count = sim_opt.no_iommu ? 0 : 1,
        .mcfg = &mcfg,
        .mcfg_count = 1,
        .cmdline = sim_opt.cmdline ? sim_opt.cmdline : "",
        .gsi_count = 32,
        .features = arch_vcpu_features(),
        .tsc_khz = SIM_TSC_KHZ,
        .phys_bits = 40,
        .pool_base = PADDR(POOL_BASE),
        .pool_size = pool,
    };
}

static void boot_wait(const bool *flag) {
    while (!*flag)
        arch_cpu_relax();
    sim_race_acquire(flag);
}

/* The other CPUs' structures are ours, with the machine half that runs already: core's state of them moves in. */
static void cpus_adopt(void) {
    for (unsigned i = 1; i < sim_opt.cpus; i++) {
        struct mach_cpu mach = sim_cpus[i].mach;
        sim_cpus[i] = *cpus[i];
        sim_cpus[i].mach = mach;
        cpus[i] = &sim_cpus[i];
    }
}

static void boot_main(struct cpu *c) {
    static struct boot_info info;
    static bool core_up;
    if (c->id == 0) {
        machine_describe(&info);
        if (!core_init(&info, c))
            sim_stop(SIM_PANIC);
        cpus_adopt();
    } else {
        boot_wait(&core_up);
    }
    (void)arch_vcpu_cpu_init(c); /* without it there are no vCPUs, that is all */
    if (c->id == 0) {            /* has done first what the others build on */
        sim_race_release(&core_up);
        core_up = true;
    }
    if (!core_cpu_init(c))
        sim_stop(SIM_PANIC);
    sim_race_release(&cpus_up);
    cpus_up++;
    if (c->id == 0) {
        while (cpus_up < sim_opt.cpus)
            arch_cpu_relax();
        sim_race_acquire(&cpus_up);
        if (!core_root_init(c))
            sim_stop(SIM_PANIC);
        sim_check_boot();
        sim_race_release(&root_up);
        root_up = true;
    }
    boot_wait(&root_up);
}

/* A CPU's kernel fiber: what the entry and exit code of ring 0 does. */
static void cpu_main(u64 id) {
    struct cpu *c = &sim_cpus[id];
    boot_main(c);
    struct ec *ec = core_resume(c);
    for (;;) {
        TRACE(exit, c, ec);
        assert(c->mach.locks_held == 0);
        switch (ec->kind) {
        case EC_IDLE:
            arch_cpu_idle();
            ec = core_resume(c);
            break;
        case EC_VCPU:
            ec = arch_vcpu_run(c);
            break;
        default:
            ec = sim_user_run(c, ec);
        }
    }
}

/* Address sanitizer asks for this: its reports must not look like a failed expectation. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "exitcode=99"; }

const char *sim_result_name(int r) {
    static const char *const names[] = {"ok",
                                        "expectation failed",
                                        "kernel panic",
                                        "deadlock: no CPU can ever run again",
                                        "step budget used up: livelock?",
                                        "another trace hash than the run before with the same seed"};
    return r >= 0 && r < (int)ARRAY_SIZE(names) ? names[r] : "the process died";
}

void sim_replay_print(void) {
    fprintf(stderr, "replay: SEED=%lu CPUS=%u STOREBUF=%d VENDOR=%s %s (TRACE=1 or TRACE=html shows what happens)\n",
            sim_opt.seed, sim_opt.cpus, sim_opt.store_buffers, sim_is_intel() ? "intel" : "amd",
            program_invocation_name);
}

enum sim_vendor sim_vendor_of(const struct sim_options *o, u64 seed) {
    if (o->vendor != SIM_ANY)
        return o->vendor;
    return (seed * 0x9e3779b97f4a7c15ul) >> 63 ? SIM_INTEL : SIM_AMD;
}

static void power_on(const struct sim_options *o) {
    sim_engine_map();
    sim_opt = *o;
    sim_opt.cpus = o->cpus ? o->cpus : 4;
    sim_opt.ram = o->ram ? o->ram : 64ul << 20;
    sim_opt.steps = o->steps ? o->steps : 50000000;
    sim_opt.check_every = o->check_every ? o->check_every : SIM_CHECK_DEFAULT;
    sim_opt.vendor = sim_vendor_of(o, o->seed);
    assert(sim_opt.cpus <= ABI_MAX_CPUS && sim_opt.ram <= SIM_ARENA_SIZE && sim_opt.root);
    mitigations = o->mitigations;
    sim_trace_begin();
    for (unsigned i = 0; i < sim_opt.cpus; i++) {
        struct cpu *c = &sim_cpus[i];
        c->id = i;
        c->mach = (struct mach_cpu){.state = SIM_CPU_RUN,
                                    .deadline = ~0ul,
                                    .fpu_disabled = true,
                                    .gif = true,
                                    .cr4 = SIM_CR4,
                                    .vmcs = ~0ul,
                                    .xcr0 = 7,
                                    .kernel = sim_fiber_create(SIM_KERNEL_STACK)};
        memcpy(c->mach.syscall_msr, sim_syscall_msrs, sizeof(sim_syscall_msrs));
        c->mach.efer = sim_opt.vendor == SIM_INTEL ? 0xd01 : 0; /* SCE LME LMA NXE */
        c->mach.active = c->mach.kernel;
        sim_fiber_prepare(c->mach.kernel, cpu_main, i);
    }
}

/* How the run ended, with the checks that follow it; says what is wrong. */
static enum sim_result verdict(enum sim_result r) {
    sim_on_host = true;
    if (r == SIM_OK)
        sim_check();
    if (sim_opt.model)
        sim_log("model: %lu calls alone, %lu overlapping, %lu not compared\n", sim_model_stats.alone,
                sim_model_stats.overlapping, sim_model_stats.unchecked);
    if (r == SIM_OK && sim_opt.end)
        sim_opt.end();
    if (r == SIM_OK && sim_failures)
        r = SIM_FAILED;
    if (r == SIM_DEADLOCK || r == SIM_BUDGET)
        TRACE(stuck);
    TRACE(end, sim_result_name((int)r), r == SIM_OK);
    if (r != SIM_OK) {
        sim_log_dump();
        if (r == SIM_DEADLOCK || r == SIM_BUDGET)
            sim_state_dump();
        fprintf(stderr, "sim: %s; seed %lu, %u CPUs, trace %016lx\n", sim_result_name(r), sim_opt.seed, sim_opt.cpus,
                sim_hash());
        sim_replay_print();
    }
    sim_record_end(r, sim_sched_steps());
    return r;
}

bool sim_boot(const struct sim_options *o, enum sim_result *r) {
    power_on(o);
    sim_on_host = false;
    *r = sim_sched_run();
    if (*r == SIM_PAUSED)
        return true;
    *r = verdict(*r);
    return false;
}

enum sim_result sim_go(const struct sim_options *o) {
    const struct sim_options booted = sim_opt;
    sim_opt = *o;
    sim_opt.cpus = booted.cpus, sim_opt.ram = booted.ram, sim_opt.steps = o->steps ? o->steps : booted.steps;
    sim_opt.check_every = booted.check_every, sim_opt.vendor = booted.vendor;
    sim_trace_on &= sim_opt.seed == sim_trace_seed; /* the boot was traced for that one */
    sim_sched_begin();
    sim_on_host = false;
    return verdict(sim_sched_run());
}

enum sim_result sim_run(const struct sim_options *o) {
    enum sim_result r;
    if (!o->cold)
        return sim_boot(o, &r) ? sim_go(o) : r;
    power_on(o);
    sim_sched_begin();
    sim_on_host = false;
    return verdict(sim_sched_run());
}

void sim_begin(void) {
    if (!sim_begun)
        sim_pause();
}

/* The other CPUs may finish what they are at in the kernel: then the last look at everything is taken, here or when the last one leaves it
 * (sim_check_exit). */
void sim_done(void) {
    sim_ending = true;
    for (unsigned i = 0; i < 4000 && !sim_check_now(arch_cpu_self()); i++) {
        sim_step();
        arch_cpu_relax();
    }
    sim_stop(SIM_OK);
}

void sim_expect_failed(const char *what, const char *file, int line, u64 a, u64 b) {
    sim_failures++;
    sim_log("sim: expected %s (%s:%d): %lx, %lx\n", what, file, line, a, b);
}

void sim_fail_alloc(u64 n) { kmem_fail_at = n, kmem_fail_again = 0; }
void sim_fail_allocs(u64 n) { kmem_fail_at = kmem_fail_again = n; }
bool sim_is_intel(void) { return sim_opt.vendor == SIM_INTEL; }
bool sim_cpu_is_idle(unsigned cpu) { return sim_cpus[cpu].mach.state == SIM_CPU_IDLE; }
