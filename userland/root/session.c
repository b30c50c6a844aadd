/* Sessions: shared memory and signals between a client and a server, brokered by root. A session outlives its server (the next
 * incarnation accepts it again and goes on in its rings); when the client ends, the server drains it and says so. */
#include "root.h"

#include "clock.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

static struct unit *service_unit(const char *service) {
    for (uint32_t i = 0; i < root.config.unit_count; i++)
        if (config_list_has(root.config.unit[i].services, service))
            return &root.unit[i];
    return NULL;
}

enum parent_status session_create(struct unit *client, const char *service, uint32_t *id) {
    struct unit *server = service_unit(service);
    uint64_t page;

    if (!server)
        return PARENT_DENIED;
    if (client && (!server->comp || !server->comp->running || !server->comp->served))
        return PARENT_WAIT;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        struct session_rec *s = &root.session[i];

        if (s->state != SESSION_FREE)
            continue;
        if (!phys_alloc(SESSION_PAGES, 32, &page))
            return PARENT_NO_MEM;
        phys_wipe(page, SESSION_PAGES);
        *s = (struct session_rec){.state = SESSION_NEW, .client = client, .server = server, .page = page};
        (void)snprintf(s->label, sizeof s->label, "%s", client ? client->cfg->name : "system");
        if (client && client->cfg->kind == CONFIG_VM)
            s->key =
                client->cfg->console | (root.vm_autostarts == 1 && client->cfg->autostart ? SESSION_KEY_FOREGROUND : 0);
        *id = i + 1;
        sem_up(server->signal);
        return PARENT_OK;
    }
    return PARENT_NO_MEM;
}

static struct session_rec *session_in_state(struct unit *server, enum session_state state, uint32_t *id) {
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        if (root.session[i].state == state && root.session[i].server == server) {
            *id = i + 1;
            return &root.session[i];
        }
    }
    return NULL;
}

struct session_rec *session_next(struct unit *server, uint32_t *id) {
    return session_in_state(server, SESSION_NEW, id);
}
struct session_rec *session_closing(struct unit *server, uint32_t *id) {
    return session_in_state(server, SESSION_CLOSING, id);
}

struct session_rec *session_of(struct unit *u, uint64_t id) {
    struct session_rec *s = id >= 1 && id <= SESSIONS_MAX ? &root.session[id - 1] : NULL;

    return s && s->state != SESSION_FREE && (s->client == u || s->server == u) ? s : NULL;
}

void session_free(struct session_rec *s) {
    phys_revoke(s->page, SESSION_PAGES);
    phys_free(s->page, SESSION_PAGES);
    s->state = SESSION_FREE;
}

void sessions_unit_ended(struct unit *u) {
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        struct session_rec *s = &root.session[i];

        if (s->state == SESSION_FREE)
            continue;
        if (s->server == u) {
            if (s->state == SESSION_OPEN)
                s->state = SESSION_NEW; /* for its next incarnation */
            else if (s->state != SESSION_NEW)
                session_free(s);
        } else if (s->client == u && s->state == SESSION_NEW) {
            session_free(s);
        } else if (s->client == u && s->state == SESSION_OPEN) {
            s->state = SESSION_CLOSING;
            sem_up(s->server->signal);
        }
    }
}

/* Root is a client of the console like any other; its session is made once and goes on when the console is started again. */
static void session_root_console(struct unit *server) {
    static uint32_t id;

    if (!config_list_has(server->cfg->services, "console"))
        return;
    if (!id && session_create(NULL, "console", &id) != PARENT_OK)
        return;
    rootlog_attach(phys_ptr(root.session[id - 1].page << 12), server->signal);
    shell_start();
}

void service_up(struct unit *server) {
    session_root_console(server);
    sem_up(server->signal);
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        struct component *c = root.unit[i].comp;

        if (c && c->running && c->waits_for_service) {
            c->waits_for_service = false;
            sem_up(root.unit[i].signal);
        }
    }
}

void console_flush(void) {
    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        struct component *c = root.unit[i].comp;

        if (!c || !c->running || !config_list_has(c->unit->cfg->services, "console"))
            continue;
        (void)mem_or32(&c->info->control, CONTROL_FLUSH);
        sem_up(c->unit->signal);
        for (uint32_t tries = 0; tries < 200 && mem_read32(&c->info->control) & CONTROL_FLUSH; tries++)
            (void)nova_sm_down(root.wake, true, clock_tsc() + clock_us_to_tsc(5000));
    }
}
