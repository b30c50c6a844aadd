/* Root: boot order and main loop. */
#include "root.h"

#include "clock.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

struct root root;

#define CONFIG_FILE      "novella.conf"
#define SEL_ROOT_STARTUP EVT_THREAD_STARTUP /* root's event base on the boot CPU is 0 */
#define SEL_FIRST_FREE   1024

_Noreturn void root_main(const struct abi_hip *hip, uint64_t cpu);
void thread_entry(void);

static sel_t root_events(uint32_t cpu_index) {
    return cpu_index == root.boot_cpu
               ? 0
               : 512; /* nobody handles faults of root: the kernel stops the thread and says so */
}

static uint32_t root_cpu_number(uint32_t cpu_index) { return cpu_index; }

static bool root_sc_create(const char *label, sel_t ec, uint32_t cpu_index, uint32_t priority, uint32_t quantum_us) {
    sel_t sel = sel_alloc(0);

    (void)label;
    (void)cpu_index;
    return sel && nova_create_sc(sel, rt.pd, ec, QPD_MAKE(priority, quantum_us)) == NOVA_SUCCESS;
}

static void root_log_line(uint32_t level, const char *line, size_t len) {
    (void)level;
    rootlog_write(line, len);
}

static _Noreturn void root_end(int code, const char *reason) {
    (void)code;
    root_log("root: %s: the system stops here", reason);
    for (;;)
        (void)sem_down(root.wake);
}

static const char *hip_error(const struct abi_hip *hip) {
    uint16_t sum = 0;

    if (hip->signature != HIP_SIGNATURE)
        return "wrong signature";
    if (hip->length < sizeof *hip || hip->length > 4096 || hip->length & 1)
        return "wrong length";
    for (uint32_t i = 0; i < hip->length / 2u; i++)
        sum = (uint16_t)(sum + ((const uint16_t *)hip)[i]);
    if (sum)
        return "wrong checksum";
    if (hip->mem_size != sizeof hip->mem[0] || hip->mem_offs != offsetof(struct abi_hip, mem) ||
        hip->cpu_size != sizeof hip->cpu[0])
        return "unknown layout";
    return NULL;
}

/* STARTUP of root's own further global thread. */
static void root_startup(void *arg, struct abi_utcb *utcb) {
    (void)arg;
    utcb->state.rip = (uint64_t)thread_entry;
    utcb->state.mtd = MTD_RIP;
    utcb->items = UTCB_ITEMS(ABI_STATE_WORDS, 0);
}

static void root_servers(void) {
    static struct portal startup;

    for (uint32_t i = 0; i < root.cpu_count; i++) {
        uint32_t cpu = root.cpu[i];
        struct thread *t = thread_create_local("server", cpu);
        sel_t window = sel_alloc(0);

        if (!t || !window)
            panic("no kernel memory for the server thread of CPU %u", cpu);
        msg_window_delegate(t->utcb, crd_obj(window, 0, CRD_PERM_ANY));
        root.server[cpu] = t;
    }
    if (portal_create(&startup, SEL_ROOT_STARTUP, root.server[root.boot_cpu], MTD_RIP, root_startup, NULL) !=
        NOVA_SUCCESS)
        panic("no kernel memory for the startup portal");
}

/* Idle SCs (for `top`) and ISA interrupts where the MADT says that they arrive: kernel-held selectors 0..63 and 64 + GSI
 * (docs/abi.md section 8). */
static void root_kernel_objects(void) {
    for (uint32_t i = 0; i < root.cpu_count; i++) {
        sel_t sel = sel_alloc(0);

        if (sel && grab_object(root.cpu[i], sel, PERM_SC_ALL))
            root.idle_sc[root.cpu[i]] = sel;
    }
    for (uint32_t irq = 0; irq < 16; irq++) {
        const struct acpi_isa *isa = &root.isa[irq];
        sel_t sel = isa->gsi < root.hip->gsi_count ? sel_alloc(0) : 0;

        if (sel && grab_object(ABI_MAX_CPUS + isa->gsi, sel, PERM_SM_ALL))
            root.isa_irq[irq] = sel;
    }
}

static void root_config_error(void *context, const char *line) {
    (void)context;
    root_log("%s", line);
}

/* Without a configuration there is at least a console with its shell, if its image is there. */
static const char default_config[] = "[system]\n"
                                     "on_last_exit = stay\n"
                                     "[component console]\n"
                                     "image = console.elf\n"
                                     "cpu = 0\n"
                                     "priority = 90\n"
                                     "ports = 0x3f8-0x3ff\n"
                                     "irq = 4\n"
                                     "services = console\n"
                                     "restart = yes\n";

static void root_configure(void) {
    const struct module *m = module_find(CONFIG_FILE);
    const char *text = m ? phys_ptr(m->addr) : default_config;
    size_t size = m ? m->size : sizeof default_config - 1;

    if (!m) {
        char names[300];

        module_names(names, sizeof names);
        root_log(CONFIG_FILE ": no such boot module: only the console is started; there are: %s", names);
    }
    config_parse(&root.config, m ? CONFIG_FILE : "built-in configuration", text, size, root_config_error, NULL);
    if (root.config.errors)
        root_log(CONFIG_FILE ": %u wrong lines; sections that contain them are not started", root.config.errors);
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        struct unit *u = &root.unit[i];

        u->cfg = &root.config.unit[i];
        u->caps = sel_alloc(COMP_CAP_ORDER);
        u->signal = sem_create(0);
        if (!u->caps || !u->signal)
            panic("out of capabilities");
        root.vm_autostarts += u->cfg->kind == CONFIG_VM && u->cfg->autostart && !u->cfg->bad;
    }
}

static void root_autostart(void) {
    mutex_lock(&root.lock);
    for (uint32_t kind = CONFIG_COMPONENT; kind <= CONFIG_VM; kind++)
        for (uint32_t i = 0; i < root.config.unit_count; i++)
            if (root.config.unit[i].kind == (enum config_kind)kind && root.config.unit[i].autostart)
                (void)unit_start(&root.unit[i]);
    mutex_unlock(&root.lock);
}

static void root_check_last_exit(void) {
    bool last;

    mutex_lock(&root.lock);
    last = root.config.poweroff_on_last_exit && root.vm_ever_ran && !vm_running();
    mutex_unlock(&root.lock);
    if (!last)
        return;
    root_log("root: the last VM has ended: powering off");
    power_off();
}

static void root_loop(void *arg) {
    (void)arg;
    root_autostart();
    for (;;) {
        units_reap();
        root_check_last_exit();
        shell_poll();
        (void)sem_wait_all(root.wake, 0);
    }
}

/* The heap's first arena, large enough that the free memory does not change when components come and go. */
static void root_heap_reserve(void) {
    void *volatile block = malloc(0x80000); /* volatile: the compiler would drop the pair */

    free(block);
}

static void root_boot(const struct abi_hip *hip) {
    grab_init();
    grab_ports();
    const char *error = hip_error(hip);

    if (error)
        panic("hypervisor information page: %s", error);
    rt.tsc_khz = hip->tsc_khz ? hip->tsc_khz : 1000000;
    for (uint32_t i = 0; i < ABI_MAX_CPUS; i++)
        if (hip->cpu[i].flags & 1)
            root.cpu[root.cpu_count++] = i;
    if (!root.cpu_count || !mutex_init(&root.lock) || !rootlog_init() || !(root.wake = sem_create(0)))
        panic("no CPU or no kernel memory");
    phys_init(hip);
    root_heap_reserve();
    modules_init();
    power_init();
    rt.epoch_tsc = clock_tsc();
    rt.epoch_s = rtc_read_epoch(power_century_index());
    report_boot();
    root_servers();
    root_kernel_objects();
    root_configure();
}

_Noreturn void root_main(const struct abi_hip *hip, uint64_t cpu) {
    struct thread *t = &rt_main_thread;

    thread_tls_init(t);
    t->utcb = (struct abi_utcb *)((uint64_t)hip - 4096);
    t->name = "root";
    rt = (struct rt){.pd = hip->exc,
                     .pages_alloc = root_pages_alloc,
                     .events = root_events,
                     .cpu_number = root_cpu_number,
                     .sc_create = root_sc_create,
                     .log = root_log_line,
                     .end = root_end};
    root.hip = hip;
    root.boot_cpu = (uint32_t)cpu;
    rt_init(SEL_FIRST_FREE, 1ul << 20, 0x200000000000ul, 0x210000000000ul);
    root_boot(hip);
    /* The kernel chose the priority of this thread; the main loop must come before all components. */
    if (!thread_create_global("root", root.boot_cpu, ROOT_PRIORITY, QUANTUM_US, root_loop, NULL))
        panic("no kernel memory for the main loop");
    for (;;)
        (void)sem_down(sem_create(0));
}
