/* Life of a component: everything it gets is recorded in struct component, so that the reaper can take it back.
 *
 *   start: memory, portals, PD, EC, SC      end: PD revoked at once (handler or main loop), then the reaper: SCs, portals, memory */
#include "root.h"

#include "clock.h"
#include "elf.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *unit_kind(const struct unit *u) { return u->cfg->kind == CONFIG_VM ? "vm" : "component"; }

struct unit *unit_find(const char *name) {
    for (uint32_t i = 0; i < root.config.unit_count; i++)
        if (!strcmp(root.config.unit[i].name, name))
            return &root.unit[i];
    return NULL;
}

bool component_grant(struct component *c, enum grant_kind kind, uint64_t page, uint64_t pages, uint64_t va,
                     uint32_t perm) {
    struct grant *g = malloc(sizeof *g);

    if (!g)
        return false;
    *g = (struct grant){c->grants, kind, page, pages, va, perm};
    c->grants = g;
    if (kind != GRANT_RAM)
        c->used_pages += pages;
    return true;
}

/* Fresh zeroed memory that is mapped when the main thread starts. Null when there is none. */
static void *component_memory(struct component *c, uint64_t va, uint64_t bytes, uint32_t perm) {
    uint64_t pages = (bytes + 4095) >> 12;
    uint64_t page;

    if (!phys_alloc(pages, 1, &page))
        return NULL;
    phys_wipe(page, pages);
    if (!component_grant(c, GRANT_STARTUP, page, pages, va, perm)) {
        phys_free(page, pages);
        return NULL;
    }
    return phys_ptr(page << 12);
}

static bool component_load(struct component *c, const char **error) {
    const struct module *m = module_find(c->unit->cfg->image);
    struct elf_image elf;

    *error = m ? elf_parse(&elf, phys_ptr(m->addr), m->size, 0x1000, COMP_VA_IMAGE_END) : "no such boot module";
    if (*error)
        return false;
    *error = "out of memory";
    for (uint32_t i = 0; i < elf.count; i++) {
        const struct elf_segment *s = &elf.segment[i];
        uint8_t *memory = component_memory(c, s->va, s->mem_size, s->perm);

        if (!memory)
            return false;
        memcpy(memory + s->copy_offset, (const uint8_t *)phys_ptr(m->addr) + s->file_offset, s->file_size);
    }
    c->entry = elf.entry;
    return true;
}

static bool component_info(struct component *c) {
    struct startup_info *info = component_memory(c, COMP_VA_INFO, 4096, PERM_MEM_R | PERM_MEM_W);

    if (!info || !component_memory(c, COMP_VA_STACK_TOP - COMP_STACK_SIZE, COMP_STACK_SIZE, PERM_MEM_R | PERM_MEM_W))
        return false;
    c->info = info;
    info->magic = STARTUP_MAGIC;
    info->size = sizeof *info;
    (void)snprintf(info->name, sizeof info->name, "%s", c->unit->cfg->name);
    info->cpu_count = c->cpu_count;
    memcpy(info->cpu, c->cpu, sizeof info->cpu);
    info->features = root.hip->features;
    info->tsc_khz = rt.tsc_khz;
    info->epoch_s = rt.epoch_s;
    info->epoch_tsc = rt.epoch_tsc;
    return true;
}

/* The configured CPUs, folded into those that the machine has. Returns their number. */
static uint32_t unit_cpus(const struct config_unit *cfg, uint32_t cpus[COMP_MAX_CPUS]) {
    uint32_t wanted = cfg->kind == CONFIG_VM && cfg->cpus > cfg->cpu_count ? cfg->cpus : cfg->cpu_count;
    uint32_t first = cfg->kind == CONFIG_VM ? cfg->console : 0; /* VMs spread over the CPUs behind the first */
    uint32_t count = 0;

    if (!wanted)
        wanted = 1;
    for (uint32_t i = 0; i < wanted; i++) {
        uint32_t want = i < cfg->cpu_count ? cfg->cpu[i]
                        : cfg->cpu_count   ? cfg->cpu[cfg->cpu_count - 1] + i
                                           : first + i;
        uint32_t cpu = root.cpu[want % root.cpu_count];
        bool have = false;

        for (uint32_t j = 0; j < count; j++)
            have |= cpus[j] == cpu;
        if (!have)
            cpus[count++] = cpu;
    }
    return count;
}

static bool component_portals(struct component *c) {
    for (uint32_t k = 0; k < c->cpu_count; k++) {
        for (uint32_t event = 0; event < COMP_PORTALS_CPU; event++) {
            struct comp_portal *p = &c->portals[k * COMP_PORTALS_CPU + event];
            bool parent = event == 32;
            sel_t sel = c->unit->caps + (parent ? COMP_SEL_PARENT(k) : COMP_SEL_EVENTS(k) + event);

            p->comp = c;
            p->cpu_index = k;
            p->event = event;
            if (portal_create(&p->portal, sel, root.server[c->cpu[k]], parent ? 0 : event_mtd(event),
                              parent ? parent_portal : event_portal, p) != NOVA_SUCCESS)
                return false;
        }
    }
    return true;
}

enum parent_status component_add_sc(struct component *c, sel_t ec, uint32_t cpu, const char *label, uint32_t priority,
                                    uint32_t quantum_us) {
    struct sc_record *r = &c->sc[c->sc_count];
    uint32_t limit = c->unit->cfg->priority;

    if (c->sc_count == COMP_SCS_MAX)
        return PARENT_DENIED;
    if (!priority || priority > limit)
        priority = limit;
    if (quantum_us < 100 || quantum_us > 100000)
        quantum_us = QUANTUM_US;
    *r = (struct sc_record){.sel = sel_alloc(0), .cpu = cpu};
    (void)snprintf(r->label, sizeof r->label, "%s", label);
    if (!r->sel)
        return PARENT_NO_MEM;
    if (nova_create_sc(r->sel, c->pd, ec, QPD_MAKE(priority, quantum_us)) != NOVA_SUCCESS) {
        sel_free(r->sel, 0);
        return PARENT_FAILED;
    }
    c->sc_count++;
    return PARENT_OK;
}

/* PD, main EC and its SC: from the last step on the component runs and its STARTUP event waits for root.lock. */
static bool component_launch(struct component *c) {
    uint64_t caps = crd_obj(c->unit->caps, COMP_CAP_ORDER, PERM_PT_CALL);

    if (!(c->pd = sel_alloc(0)) || !(c->ec = sel_alloc(0)))
        return false;
    if (nova_create_pd(c->pd, rt.pd, caps) != NOVA_SUCCESS)
        return false;
    if (nova_create_ec(c->ec, c->pd, COMP_VA_UTCB, c->cpu[0], 0, COMP_SEL_EVENTS(0), true) != NOVA_SUCCESS)
        return false;
    c->cpus_used = 1;
    return component_add_sc(c, c->ec, c->cpu[0], "main", 0, QUANTUM_US) == PARENT_OK;
}

static void component_reap(struct component *c);

static const char *unit_start_error(struct unit *u, struct component *c) {
    const char *error = NULL;

    if (!component_load(c, &error))
        return error;
    if (!component_info(c) || (u->cfg->kind == CONFIG_VM && !vm_prepare(c)))
        return "out of memory";
    if (!component_portals(c))
        return "out of kernel memory";
    u->comp = c;
    if (!component_launch(c)) {
        u->comp = NULL;
        return "out of kernel memory";
    }
    return NULL;
}

bool unit_start(struct unit *u) {
    char text[300];
    const char *error = NULL;
    struct component *c;

    u->restart_due = false;
    if (u->comp)
        return true;
    if (u->cfg->bad)
        error = "its section in the configuration is wrong (see the message at boot)";
    else if (u->cfg->kind == CONFIG_VM)
        error = vm_check(u, text, sizeof text);
    if (!error && !module_find(u->cfg->image)) {
        int len = snprintf(text, sizeof text, "image '%s': no such boot module; there are: ", u->cfg->image);

        module_names(text + len, sizeof text - (size_t)len);
        error = text;
    }
    if (error) {
        root_log("%s %s: not started: %s", unit_kind(u), u->cfg->name, error);
        return false;
    }
    uint32_t cpus[COMP_MAX_CPUS] = {0};
    uint32_t cpu_count = unit_cpus(u->cfg, cpus);

    c = calloc(1, sizeof *c + cpu_count * COMP_PORTALS_CPU * sizeof c->portals[0]);
    if (!c) {
        root_log("%s %s: not started: root is out of memory", unit_kind(u), u->cfg->name);
        return false;
    }
    c->unit = u;
    c->cpu_count = cpu_count;
    memcpy(c->cpu, cpus, sizeof c->cpu);
    c->running = true;
    c->quota_pages = u->cfg->kind == CONFIG_VM ? 0x4000 : u->cfg->memory >> 12;
    u->started_tsc = clock_tsc();
    error = unit_start_error(u, c);
    if (error) {
        root_log("%s %s: not started: %s: %s", unit_kind(u), u->cfg->name, u->cfg->image, error);
        c->running = false;
        if (c->pd)
            (void)nova_revoke(crd_obj(c->pd, 0, CRD_PERM_ANY), true);
        component_reap(c);
        return false;
    }
    if (u->cfg->kind == CONFIG_VM)
        root.vm_ever_ran = true;
    return true;
}

void component_enter(struct component *c, uint32_t cpu_index) {
    __atomic_fetch_add(&c->inflight, 1, __ATOMIC_ACQ_REL);
    mutex_lock(&root.lock);
    c->cpus_used |= 1u << cpu_index;
    c->cpus_served |= 1u << cpu_index;
}

void component_leave(struct component *c) {
    mutex_unlock(&root.lock);
    __atomic_fetch_sub(&c->inflight, 1, __ATOMIC_ACQ_REL);
}

void component_end(struct component *c, int code, const char *reason) {
    struct unit *u = c->unit;

    if (!c->running)
        return;
    c->running = false;
    c->exit_code = code;
    (void)snprintf(c->reason, sizeof c->reason, "%s", reason);
    (void)snprintf(u->last_end, sizeof u->last_end, "%s", reason);
    (void)nova_revoke(crd_obj(c->pd, 0, CRD_PERM_ANY), true);
    c->next_dead = root.dead;
    root.dead = c;
    sem_up(root.wake);
}

void unit_kill(struct unit *u, const char *reason) {
    if (u->comp)
        component_end(u->comp, EXIT_CODE_ERROR, reason);
}

/* Nobody will get its memory: the last VM has ended and the machine goes off (wiping 6 GiB takes half a minute in an emulator). */
static bool machine_goes_off(const struct component *c) {
    if (!root.config.poweroff_on_last_exit || c->unit->cfg->kind != CONFIG_VM || c->unit->cfg->restart ||
        c->exit_code == EXIT_CODE_REBOOT)
        return false;
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        const struct unit *u = &root.unit[i];

        if (u->cfg->kind == CONFIG_VM && u->comp != c && (u->comp || u->restart_due))
            return false;
    }
    return true;
}

static void component_free_memory(struct component *c) {
    bool wipe = !machine_goes_off(c);

    while (c->grants) {
        struct grant *g = c->grants;

        c->grants = g->next;
        phys_revoke(g->page, g->pages);
        if (g->kind == GRANT_RAM && wipe)
            phys_wipe(g->page, g->pages); /* others are wiped when they are given out */
        phys_free(g->page, g->pages);
        free(g);
    }
}

/* A call that entered a portal before that was revoked may still be on its way to root.lock with a pointer to its component. It
 * occupies the server thread of its CPU, so when a later incarnation has been served on that CPU it is over: free it then. */
static void component_retire(struct component *c) {
    struct component **link = &c->unit->retired;

    while (*link) {
        struct component *old = *link;

        if (old->cpus_used & ~c->cpus_served || __atomic_load_n(&old->inflight, __ATOMIC_ACQUIRE)) {
            link = &old->next_retired;
            continue;
        }
        *link = old->next_retired;
        free(old);
    }
    if (!c->cpus_used) {
        free(c); /* it never ran */
        return;
    }
    c->next_retired = c->unit->retired;
    c->unit->retired = c;
}

/* Nobody refers to c but handlers that are on their way; they see running == false. */
static void component_reap(struct component *c) {
    for (uint32_t i = 0; i < c->sc_count; i++) {
        (void)nova_revoke(crd_obj(c->sc[i].sel, 0, CRD_PERM_ANY), true);
        sel_free(c->sc[i].sel, 0);
    }
    if (c->ec) {
        (void)nova_revoke(crd_obj(c->ec, 0, CRD_PERM_ANY), true);
        sel_free(c->ec, 0);
    }
    if (c->pd)
        sel_free(c->pd, 0);
    (void)nova_revoke(crd_obj(c->unit->caps, COMP_CAP_ORDER, CRD_PERM_ANY), true);
    component_free_memory(c);
    component_retire(c);
}

/* Restart rules: a VM whose guest rebooted and units with restart = yes; not after five ends in a row within a second of the start. */
static void unit_ended(struct unit *u, int exit_code, const char *reason) {
    uint64_t lived_us = clock_tsc_to_us(clock_tsc() - u->started_tsc);
    bool restart = u->cfg->restart || (u->cfg->kind == CONFIG_VM && exit_code == EXIT_CODE_REBOOT);

    root_log("%s %s: ended (%s)", unit_kind(u), u->cfg->name,
             reason[0]   ? reason
             : exit_code ? "with an error"
                         : "regularly");
    u->quick_deaths = lived_us < 1000000 ? u->quick_deaths + 1 : 0;
    if (restart && u->quick_deaths >= 5) {
        root_log("%s %s: not restarted: it ended %u times within a second of its start", unit_kind(u), u->cfg->name,
                 u->quick_deaths);
        restart = false;
    }
    u->restart_due = restart;
}

void units_reap(void) {
    for (;;) {
        mutex_lock(&root.lock);
        struct component *c = root.dead;

        if (c)
            root.dead = c->next_dead;
        mutex_unlock(&root.lock);
        if (!c)
            break;
        struct unit *u = c->unit;
        int served = c->served, exit_code = c->exit_code;

        component_reap(c); /* long (wiping), so without the lock: nothing else refers to c */
        mutex_lock(&root.lock);
        if (served)
            rootlog_detach();
        u->comp = NULL;
        u->ever_ended = true;
        sessions_unit_ended(u);
        unit_ended(u, exit_code, u->last_end);
        mutex_unlock(&root.lock);
    }
    mutex_lock(&root.lock);
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        struct unit *u = &root.unit[i];

        if (!u->restart_due || u->comp)
            continue;
        root_log("%s %s: starting again", unit_kind(u), u->cfg->name);
        (void)unit_start(u);
    }
    mutex_unlock(&root.lock);
}
