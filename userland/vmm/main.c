/* The virtual-machine monitor: one component per VM. The main thread sets the VM up, then runs its timers, moves console input and
 * obeys root's control requests. */
#include "vcpu.h"

#include "clock.h"
#include "log.h"
#include "mem.h"
#include "rt.h"
#include "tables.h"

#include <string.h>

static struct vm vm;

static void host_cpuid(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *r) {
    __asm__ volatile("cpuid" : "=a"(r->eax), "=b"(r->ebx), "=c"(r->ecx), "=d"(r->edx) : "a"(leaf), "c"(subleaf));
}

static uint64_t host_xcr0(void) {
    struct cpuid_regs r;
    uint32_t lo, hi;

    host_cpuid(1, 0, &r);
    if (!(r.ecx & 1u << 27)) /* OSXSAVE */
        return 1;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool region(enum region which, const char *what) {
    enum parent_status status = parent_region_map(which);

    if (status == PARENT_OK)
        return true;
    log_printf("%s cannot be mapped (status %u)", what, status);
    return false;
}

static bool locks_init(void) {
    return mutex_init(&vm.uart_lock) && mutex_init(&vm.timer_lock) && mutex_init(&vm.out_lock) &&
           mutex_init(&vm.irq_lock) && mutex_init(&vm.log_lock);
}

static void machine_init(const struct startup_info *info) {
    vm.info = info;
    vm.exits = info->features & STARTUP_VMX ? &exit_intel : &exit_amd;
    vm.mem = (struct gmem){.base = (uint8_t *)COMP_VA_RAM, .size = info->vm.ram_size};
    vm.cpus = info->vm.cpus < 1 ? 1 : info->vm.cpus > VM_MAX_CPUS ? VM_MAX_CPUS : info->vm.cpus;
    vm.cpuid = (struct cpuid_config){.host = host_cpuid, .xcr0 = host_xcr0(), .cpus = vm.cpus};
    vm.bus = (struct emu_bus){board_mmio_read, board_mmio_write, board_in, board_out, &vm};
    vm.armed_ns = DEV_NO_DEADLINE;
    vm.tsc_start = clock_tsc();
    vm.scale = tsc_scale_of(info->tsc_khz);
    vm.wall_ns_at_zero = clock_wall_ns(vm.tsc_start);
    board_init(&vm, (int64_t)(vm.wall_ns_at_zero / NS_PER_SEC));
}

static bool guest_load(struct load_result *boot) {
    const struct vm_params *p = &vm.info->vm;
    struct load_request r = {.mem = &vm.mem,
                             .kernel = (const uint8_t *)COMP_VA_KERNEL,
                             .kernel_size = p->kernel_size,
                             .kernel_name = p->kernel_name,
                             .initrd = p->initrd_size ? (const uint8_t *)COMP_VA_INITRD : NULL,
                             .initrd_size = p->initrd_size,
                             .initrd_name = p->initrd_name,
                             .cmdline = p->cmdline,
                             .rsdp = tables_write(&vm.mem, vm.cpus)};

    if (!r.rsdp) {
        log_printf("no memory for the ACPI tables");
        return false;
    }
    if (loader_load(&r, boot))
        return true;
    log_printf("%s", boot->error);
    return false;
}

static void control(void) {
    uint32_t req = mem_xchg32(&rt.info->control, 0);

    if (req & CONTROL_CRASH) {
        log_printf("crash was asked for: dividing by zero");
        __asm__ volatile("divl %0" ::"r"(0), "a"(1), "d"(0)); /* C knows better than to divide */
    }
    if (req & CONTROL_STOP) {
        log_printf("power button pressed");
        mutex_lock(&vm.timer_lock);
        acpi_pm_power_button(&vm.pm);
        bool listens = vm.pm.enable & 1u << 8;
        mutex_unlock(&vm.timer_lock);
        if (!listens) /* nobody would ever see it */
            vm_end(&vm, EXIT_CODE_OK, "stopped: the guest does not listen to the power button");
    }
    if (req & CONTROL_INFO) {
        log_printf("%u vCPU, %llu MiB, up %llu ms", vm.cpus, (unsigned long long)(vm.mem.size >> 20),
                   (unsigned long long)(vm_now_ns(&vm) / 1000000));
        vm_statistics(&vm);
    }
}

static _Noreturn void run(void) {
    for (;;) {
        /* until the deadline is known everybody with a new one wakes us */
        __atomic_store_n(&vm.armed_ns, DEV_NO_DEADLINE, __ATOMIC_SEQ_CST);
        control();
        uint64_t now = vm_now_ns(&vm), next = board_tick(&vm, now), out = serial_poll(&vm, now);
        next = out < next ? out : next;
        __atomic_store_n(&vm.armed_ns, next, __ATOMIC_SEQ_CST);
        (void)sem_wait_all(COMP_SEL_SIGNAL, next == DEV_NO_DEADLINE ? 0 : vm_ns_to_tsc(&vm, next));
    }
}

int main(void) {
    static struct load_result boot;
    const struct startup_info *info = rt.info;

    if (!info->is_vm) {
        log_printf("started without a VM's parameters: use it as the image of a [vm] section");
        return EXIT_CODE_ERROR;
    }
    if (!locks_init()) {
        log_printf("no kernel memory for locks");
        return EXIT_CODE_ERROR;
    }
    if (!region(REGION_RAM, "the guest's memory") || !region(REGION_KERNEL, info->vm.kernel_name) ||
        (info->vm.initrd_size && !region(REGION_INITRD, info->vm.initrd_name)))
        return EXIT_CODE_ERROR;
    machine_init(info);
    log_printf("started, %u vCPU, %llu MiB, kernel %s, console %u", vm.cpus, (unsigned long long)(vm.mem.size >> 20),
               info->vm.kernel_name, info->vm.console);
    if (!guest_load(&boot))
        return EXIT_CODE_ERROR;
    if (console_open(&vm.console) != PARENT_OK) {
        log_printf("no console: the section needs the console service");
        return EXIT_CODE_ERROR;
    }
    if (!vcpus_create(&vm, &boot) || !vcpus_start(&vm))
        return EXIT_CODE_ERROR;
    run();
}
