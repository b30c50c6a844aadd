/* The control shell on console 0: a line editor and a table of commands. Runs on the main loop only; the log calls shell_hide and
 * shell_redraw around its lines, so that what is being typed stays the last line. */
#include "root.h"

#include "clock.h"
#include "mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHELL_LINE   120
#define SHELL_PROMPT "novella> "

static struct {
    bool active; /* prompt and line are on the screen */
    bool started;
    char line[SHELL_LINE];
    size_t len;
} shell;

static void shell_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell_printf(const char *format, ...) {
    char text[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(text, sizeof text - 2, format, args);
    va_end(args);
    if (len < 0)
        return;
    if (len > (int)sizeof text - 3)
        len = (int)sizeof text - 3;
    memcpy(text + len, "\r\n", 2);
    rootlog_raw(text, (size_t)len + 2);
}

void shell_hide(void) {
    if (shell.active)
        rootlog_raw_locked("\r\033[K", 4);
}

void shell_redraw(void) {
    if (!shell.active)
        return;
    rootlog_raw_locked(SHELL_PROMPT, sizeof SHELL_PROMPT - 1);
    rootlog_raw_locked(shell.line, shell.len);
}

void shell_start(void) {
    if (!shell.started) {
        root_log("control shell on console 0, type help");
        shell.started = true;
        shell.active = true;
        rootlog_raw(SHELL_PROMPT, sizeof SHELL_PROMPT - 1);
    }
    sem_up(root.wake); /* input may be waiting already */
}

static uint64_t sc_time_us(sel_t sc) {
    uint64_t us = 0;

    return nova_sc_time(sc, &us) == NOVA_SUCCESS ? us : 0;
}

static uint64_t unit_time_us(const struct unit *u) {
    uint64_t us = 0;

    for (uint32_t i = 0; u->comp && i < u->comp->sc_count; i++)
        us += sc_time_us(u->comp->sc[i].sel);
    return us;
}

static const char *unit_state(const struct unit *u) {
    if (u->cfg->bad)
        return "bad configuration";
    if (u->comp)
        return u->comp->running ? "running" : "ending";
    return u->ever_ended ? "ended" : "stopped";
}

static void unit_list(enum config_kind kind) {
    shell_printf("%-16s %-18s %4s %8s %8s %8s", "NAME", "STATE", "CPU", "MEMORY", "CONSOLE", "TIME");
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        const struct unit *u = &root.unit[i];

        if (u->cfg->kind != kind)
            continue;
        shell_printf("%-16s %-18s %4d %7luM %8u %6lu.%lus", u->cfg->name, unit_state(u),
                     u->comp ? (int)u->comp->cpu[0] : -1, (unsigned long)(u->cfg->memory >> 20), u->cfg->console,
                     (unsigned long)(unit_time_us(u) / 1000000), (unsigned long)(unit_time_us(u) / 100000 % 10));
    }
}

static void unit_info(const struct unit *u) {
    shell_printf("%s %s: %s, line %u of the configuration", unit_kind(u), u->cfg->name, unit_state(u), u->cfg->line);
    if (u->cfg->kind == CONFIG_VM)
        shell_printf("  image %s, kernel %s, initrd %s, memory %lu MiB, %u CPUs, console %u, cmdline %s", u->cfg->image,
                     u->cfg->kernel, u->cfg->initrd[0] ? u->cfg->initrd : "none", (unsigned long)(u->cfg->memory >> 20),
                     u->cfg->cpus, u->cfg->console, u->cfg->cmdline);
    else
        shell_printf("  image %s, limit %lu KiB, serves: %s", u->cfg->image, (unsigned long)(u->cfg->memory >> 10),
                     u->cfg->services[0] ? u->cfg->services : "nothing");
    for (uint32_t i = 0; u->comp && i < u->comp->sc_count; i++)
        shell_printf("  thread %-12s CPU %u, %lu ms", u->comp->sc[i].label, u->comp->sc[i].cpu,
                     (unsigned long)(sc_time_us(u->comp->sc[i].sel) / 1000));
    if (u->last_end[0])
        shell_printf("  ended last: %s", u->last_end);
}

static void unit_request(struct unit *u, enum control_request request) {
    if (!u->comp || !u->comp->running) {
        shell_printf("%s is not running", u->cfg->name);
        return;
    }
    (void)mem_or32(&u->comp->info->control, request);
    sem_up(u->signal);
}

static void unit_command(enum config_kind kind, char *args) {
    const char *what = kind == CONFIG_VM ? "vm" : "component";
    char *verb = strtok(args, " ");
    char *name = strtok(NULL, " ");
    struct unit *u = name ? unit_find(name) : NULL;

    if (!verb || !strcmp(verb, "list")) {
        unit_list(kind);
        return;
    }
    if (!u || u->cfg->kind != kind) {
        shell_printf("%s: no such %s (%s list shows them)", name ? name : "name missing", what, what);
        return;
    }
    if (!strcmp(verb, "start")) {
        if (u->comp)
            shell_printf("%s is running", name);
        else if (unit_start(u))
            shell_printf("%s started", name);
    } else if (!strcmp(verb, "stop")) {
        unit_request(u, CONTROL_STOP);
    } else if (!strcmp(verb, "crash")) {
        unit_request(u, CONTROL_CRASH);
    } else if (!strcmp(verb, "kill")) {
        if (u->comp)
            unit_kill(u, "killed by command");
        else
            shell_printf("%s is not running", name);
    } else if (!strcmp(verb, "info")) {
        unit_info(u);
        if (u->comp && u->comp->running)
            unit_request(u, CONTROL_INFO);
    } else {
        shell_printf("%s %s: unknown; list, start, stop, kill, crash, info", what, verb);
    }
}

static void command_vm(char *args) { unit_command(CONFIG_VM, args); }
static void command_component(char *args) { unit_command(CONFIG_COMPONENT, args); }

static void top_line(uint32_t cpu, const char *unit, const char *label, uint64_t now_us, uint64_t *shown_us,
                     uint64_t period_us) {
    uint64_t permille = period_us ? (now_us - *shown_us) * 1000 / period_us : 0;

    shell_printf("%3u %10lu.%03lu %4lu.%lu%%  %s %s", cpu, (unsigned long)(now_us / 1000000),
                 (unsigned long)(now_us / 1000 % 1000), (unsigned long)(permille / 10), (unsigned long)(permille % 10),
                 unit, label);
    *shown_us = now_us;
}

/* SC time since the start, and its share of one CPU since the last `top`. */
static void command_top(char *args) {
    uint64_t now = clock_tsc();
    uint64_t period_us = clock_tsc_to_us(now - root.top_tsc);

    (void)args;
    root.top_tsc = now;
    shell_printf("%3s %14s %6s  %s", "CPU", "SECONDS", "SHARE", "WHO");
    for (uint32_t i = 0; i < root.cpu_count; i++) {
        uint32_t cpu = root.cpu[i];

        if (root.idle_sc[cpu])
            top_line(cpu, "idle", "", sc_time_us(root.idle_sc[cpu]), &root.idle_shown_us[cpu], period_us);
    }
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        struct component *c = root.unit[i].comp;

        for (uint32_t j = 0; c && j < c->sc_count; j++)
            top_line(c->sc[j].cpu, c->unit->cfg->name, c->sc[j].label, sc_time_us(c->sc[j].sel), &c->sc[j].shown_us,
                     period_us);
    }
}

static void command_mem(char *args) {
    uint64_t kernel[2] = {0, 0};

    (void)args;
    shell_printf("root: %lu of %lu pages free, largest piece %lu", (unsigned long)phys_free_pages(),
                 (unsigned long)phys_total_pages(), (unsigned long)phys_largest_pages());
    shell_printf("root heap: %lu of %lu bytes used", (unsigned long)rt.heap.used, (unsigned long)rt.heap.total);
    if (nova_extension(EXT_KMEM_FREE, rt.pd, 0, kernel) == NOVA_SUCCESS)
        shell_printf("kernel: %lu of %lu pages free", (unsigned long)kernel[0], (unsigned long)kernel[1]);
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        const struct component *c = root.unit[i].comp;

        if (c)
            shell_printf("%s: %lu pages, limit %lu, guest memory %lu", c->unit->cfg->name, (unsigned long)c->used_pages,
                         (unsigned long)c->quota_pages, (unsigned long)c->ram_pages);
    }
}

/* What the kernel said since boot, as far as its ring still has it. The text arrives in this thread's UTCB. */
static void command_klog(char *args) {
    uint64_t out[2] = {0, 0}; /* next position, bytes */
    char line[256];
    size_t len = 0;

    (void)args;
    while (nova_extension(EXT_KLOG_READ, 0, out[0], out) == NOVA_SUCCESS && out[1]) {
        char text[sizeof thread_utcb()->w];
        size_t bytes = out[1] < sizeof text ? out[1] : sizeof text;

        mem_copy_from(text, thread_utcb()->w, bytes);
        for (size_t k = 0; k < bytes; k++) {
            if (text[k] != '\n' && len < sizeof line - 1) {
                line[len++] = text[k];
                continue;
            }
            shell_printf("%.*s", (int)len, line);
            len = 0;
        }
    }
}

static void command_log(char *args) {
    (void)args;
    rootlog_replay();
}

static void command_poweroff(char *args) {
    (void)args;
    root_log("powering off");
    power_off();
}

static void command_reboot(char *args) {
    (void)args;
    root_log("rebooting");
    power_reset();
}

static void command_help(char *args);

static const struct {
    const char *name, *help;
    void (*run)(char *args);
} commands[] = {
    {"help", "this list", command_help},
    {"vm",
     "vm list | start NAME | stop NAME (power button) | kill NAME | crash NAME (test: its VMM divides by zero) | info "
     "NAME",
     command_vm},
    {"component", "component list | start NAME | stop NAME | kill NAME | crash NAME | info NAME", command_component},
    {"top", "processor time of all threads by CPU", command_top},
    {"mem", "memory of root, kernel and components", command_mem},
    {"log", "the system log again", command_log},
    {"klog", "the kernel's own log", command_klog},
    {"poweroff", "switch the machine off", command_poweroff},
    {"reboot", "reset the machine", command_reboot},
};

static void command_help(char *args) {
    (void)args;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        shell_printf("%-10s %s", commands[i].name, commands[i].help);
    shell_printf("%-10s Ctrl-] then a digit: 0 this console, 1 to 9 the VMs", "consoles");
}

static void shell_run(char *line) {
    char *name = line + strspn(line, " ");
    char *args = name + strcspn(name, " ");

    if (!*name)
        return;
    if (*args)
        *args++ = 0;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(commands[i].name, name))
            continue;
        mutex_lock(&root.lock);
        commands[i].run(args);
        mutex_unlock(&root.lock);
        return;
    }
    shell_printf("%s: unknown command; help lists them", name);
}

static void shell_key(char key) {
    if (key == '\r' || key == '\n') {
        rootlog_raw("\r\n", 2);
        shell.active = false; /* output of the command comes without redrawing */
        shell.line[shell.len] = 0;
        shell_run(shell.line);
        shell.len = 0;
        rootlog_raw(SHELL_PROMPT, sizeof SHELL_PROMPT - 1);
        shell.active = true;
    } else if (key == '\b' || key == 0x7f) {
        if (shell.len) {
            shell.len--;
            rootlog_raw("\b \b", 3);
        }
    } else if (key == 0x15) { /* Ctrl-U */
        shell.len = 0;
        rootlog_raw("\r\033[K" SHELL_PROMPT, 4 + sizeof SHELL_PROMPT - 1);
    } else if (key >= ' ' && key < 0x7f && shell.len < SHELL_LINE - 1) {
        shell.line[shell.len++] = key;
        rootlog_raw(&key, 1);
    }
}

void shell_poll(void) {
    char text[64];
    size_t got;

    if (!shell.started)
        return;
    while ((got = rootlog_input(text, sizeof text)))
        for (size_t i = 0; i < got; i++)
            shell_key(text[i]);
}
