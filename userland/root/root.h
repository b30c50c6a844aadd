/* Root partition manager: its one instance structure and what its files offer to each other.
 *
 *   boot: main.c (order) grab.c (takes everything from the kernel) phys.c module.c report.c rtc.c power.c
 *   work: unit.c (life of a component) events.c (STARTUP, faults) server.c (parent protocol) session.c vm.c shell.c rootlog.c
 *
 * Threads: one local server thread per CPU (events and parent calls of the components there) and the main loop, a global thread on
 * the boot CPU. All of them take root.lock for everything in here; log_lock and phys.c's lock are leaves below it. */
#pragma once
#include "acpi.h"
#include "config.h"
#include "core/abi.h"
#include "msg.h"
#include "ring.h"
#include "rt.h"
#include "startup.h"
#include "sync.h"
#include "thread.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Root sees physical memory at this address; one 2^31-page receive window. */
#define ROOT_PHYS_VA  0x100000000000ul
#define ROOT_PHYS_MAX 0x80000000000ul
static inline void *phys_ptr(uint64_t pa) { return (void *)(ROOT_PHYS_VA + pa); }

#define ROOT_PRIORITY    120 /* main loop: above every component (config: 1..100) */
#define QUANTUM_US       10000
#define SESSIONS_MAX     32
#define COMP_SCS_MAX     16
#define COMP_PORTALS_CPU 33 /* 32 events and the parent portal of one CPU index */

struct component;
struct unit;

/* Argument of a component's portal in root. */
struct comp_portal {
    struct portal portal;
    struct component *comp;
    uint32_t cpu_index, event; /* event 32: parent portal */
};

/* Memory that belongs to a component. */
enum grant_kind { GRANT_STARTUP, GRANT_REQUEST, GRANT_RAM };
struct grant {
    struct grant *next;
    enum grant_kind kind;
    uint64_t page, pages; /* physical */
    uint64_t va;          /* in the component */
    uint32_t perm;
};

struct sc_record {
    sel_t sel;
    uint32_t cpu;
    char label[20];
    uint64_t shown_us; /* time at the last `top` */
};

/* One incarnation of a unit. */
struct component {
    struct unit *unit;
    bool running;                    /* false: its PD is gone, it waits for the reaper */
    uint32_t inflight;               /* handlers that hold a pointer to this */
    uint32_t cpus_used, cpus_served; /* CPU indices that calls can come from; where a handler has run */
    uint32_t cpu_count, cpu[COMP_MAX_CPUS];
    sel_t pd, ec;
    struct sc_record sc[COMP_SCS_MAX];
    uint32_t sc_count;
    struct grant *grants;
    uint64_t quota_pages, used_pages, ram_pages;
    struct startup_info *info;
    uint64_t entry;
    bool main_started, waits_for_service, served;
    int exit_code;
    char reason[200];
    struct component *next_dead, *next_retired;
    struct comp_portal portals[]; /* COMP_PORTALS_CPU per CPU index */
};

/* One section of the configuration. */
struct unit {
    struct config_unit *cfg;
    sel_t caps;                /* 2^COMP_CAP_ORDER selectors that become the component's first ones */
    sel_t signal;              /* signal semaphore, lives across restarts so that sessions do */
    struct component *comp;    /* null: not running */
    struct component *retired; /* earlier incarnations that a handler may still point to */
    bool restart_due, ever_ended;
    uint32_t quick_deaths; /* ended within a second of its start, in a row */
    uint64_t started_tsc;
    char last_end[200];
};

enum session_state { SESSION_FREE, SESSION_NEW, SESSION_OPEN, SESSION_CLOSING, SESSION_CLOSED_TOLD };
struct session_rec {
    enum session_state state;
    struct unit *client; /* null: root */
    struct unit *server;
    uint64_t page; /* physical, SESSION_PAGES */
    uint64_t key;
    char label[CONFIG_NAME_MAX];
};

struct module {
    const char *name; /* as the configuration names it */
    uint64_t addr, size;
};
#define MODULES_MAX 32

struct root {
    const struct abi_hip *hip;
    uint32_t boot_cpu, cpu_count, cpu[ABI_MAX_CPUS]; /* enabled CPUs */
    struct mutex lock;
    sel_t wake;                          /* main loop: something to do */
    struct thread *server[ABI_MAX_CPUS]; /* by kernel CPU number */
    sel_t idle_sc[ABI_MAX_CPUS];
    struct acpi_isa isa[16];
    sel_t isa_irq[16]; /* interrupt semaphores; 0: not there */
    uint64_t idle_shown_us[ABI_MAX_CPUS], top_tsc;
    struct module module[MODULES_MAX];
    uint32_t module_count;
    struct config config;
    struct unit unit[CONFIG_UNITS_MAX];
    struct component *dead;
    struct session_rec session[SESSIONS_MAX];
    uint32_t vm_autostarts;
    bool vm_ever_ran;
};
extern struct root root;

/* grab.c: delegations from the kernel to root itself, during boot only (boot CPU, main thread). grab_init first. phys_map: makes
 * [pa, pa + len) readable at phys_ptr (modules, firmware tables); false if the kernel keeps it. */
void grab_init(void);
void grab_ports(void);
bool grab_memory(uint64_t page, uint64_t pages);
bool grab_object(uint64_t kernel_sel, sel_t sel, uint32_t perm);
bool phys_map(uint64_t pa, uint64_t len);

/* phys.c: physical pages that are nobody's. Thread-safe. */
void phys_init(const struct abi_hip *hip);
bool phys_alloc(uint64_t pages, uint64_t align_pages, uint64_t *page);
void phys_free(uint64_t page, uint64_t pages);
void phys_wipe(uint64_t page, uint64_t pages);
void phys_revoke(uint64_t page, uint64_t pages); /* from everybody but root */
uint64_t phys_free_pages(void);
uint64_t phys_total_pages(void);
uint64_t phys_largest_pages(void);
void *root_pages_alloc(size_t bytes);

/* module.c */
void modules_init(void);
const struct module *module_find(const char *name);
void module_names(char *text, size_t size); /* comma-separated, for messages */

/* rootlog.c. Lines of root itself carry no prefix of their own; root_log writes one line. */
void root_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
void rootlog_write(const char *line, size_t len);
void rootlog_raw(const char *text, size_t len);        /* shell output: as it is */
void rootlog_raw_locked(const char *text, size_t len); /* the same from shell_hide and shell_redraw */
bool rootlog_init(void);
void rootlog_attach(struct session_mem *mem, sel_t console_signal); /* from now on through the console */
void rootlog_detach(void);                                          /* back to the serial port */
size_t rootlog_input(char *text, size_t size);
void rootlog_replay(void); /* `log` */

/* unit.c, called with root.lock held unless said otherwise */
bool unit_start(struct unit *u);
void unit_kill(struct unit *u, const char *reason); /* from the main loop */
void component_end(struct component *c, int code,
                   const char *reason); /* from handlers: the PD dies now, the rest is reaped later */
void units_reap(void);                  /* main loop, lock not held */
struct unit *unit_find(const char *name);
const char *unit_kind(const struct unit *u);
bool component_grant(struct component *c, enum grant_kind kind, uint64_t page, uint64_t pages, uint64_t va,
                     uint32_t perm);
enum parent_status component_add_sc(struct component *c, sel_t ec, uint32_t cpu, const char *label, uint32_t priority,
                                    uint32_t quantum_us);

/* Around every portal function of a component: takes and releases root.lock. */
void component_enter(struct component *c, uint32_t cpu_index);
void component_leave(struct component *c);

/* events.c, server.c: portal functions; arg is a struct comp_portal */
void event_portal(void *arg, struct abi_utcb *utcb);
void parent_portal(void *arg, struct abi_utcb *utcb);
uint32_t event_mtd(uint32_t event);

/* session.c, root.lock held */
enum parent_status session_create(struct unit *client, const char *service, uint32_t *id);
struct session_rec *session_next(struct unit *server, uint32_t *id);    /* first NEW one */
struct session_rec *session_closing(struct unit *server, uint32_t *id); /* first CLOSING one */
struct session_rec *session_of(struct unit *u, uint64_t id);            /* u is client or server */
void session_free(struct session_rec *s);
void sessions_unit_ended(struct unit *u);
void service_up(struct unit *server);
void console_flush(void); /* main loop: lets the console write out what it has, a second at most; lock not needed */
#define SESSION_KEY_FOREGROUND 0x100u

/* vm.c, root.lock held */
const char *vm_check(struct unit *u, char *text, size_t size); /* null: can be started; else one line why not */
bool vm_prepare(struct component *c);                          /* RAM and parameters */
uint64_t vm_region_map(struct component *c, struct msg *m, enum region region, uint64_t offset,
                       enum parent_status *status);
uint32_t vm_running(void);

/* shell.c: main loop */
void shell_start(void);
void shell_poll(void);
void shell_redraw(void); /* from rootlog, under its lock */
void shell_hide(void);

/* report.c, rtc.c, power.c */
void report_boot(void);
uint64_t rtc_read_epoch(uint8_t century_index);
void power_init(void);
uint8_t power_century_index(void);
_Noreturn void power_off(void);
_Noreturn void power_reset(void);

/* Port access; root has all ports. */
static inline uint8_t port_in8(uint16_t port) {
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint16_t port_in16(uint16_t port) {
    uint16_t v;

    __asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline void port_out8(uint16_t port, uint8_t v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }
static inline void port_out16(uint16_t port, uint16_t v) { __asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port)); }
