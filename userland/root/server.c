/* The parent protocol (startup.h): one portal per component and CPU, served by that CPU's server thread. */
#include "root.h"

#include <stdio.h>
#include <string.h>

struct request {
    struct component *c;
    const struct comp_portal *portal;
    struct msg_in in;
    struct msg out; /* starts after w[0] (status) and w[1] (result) */
    uint64_t result;
};

static bool address_ok(uint64_t page, uint64_t pages) {
    /* below the receive window's end, and not so long that sums overflow */
    return pages && pages <= 1ul << 31 && page < 1ul << 31 && page + pages <= 1ul << 31;
}

static enum parent_status serve_log(struct request *r) {
    char text[600], line[700];
    uint64_t level = msg_get_word(&r->in);
    size_t len = msg_get_bytes(&r->in, text, sizeof text - 1);
    int out;

    if (r->in.short_read)
        return PARENT_BAD;
    if (level > root.config.log_level)
        return PARENT_OK;
    for (size_t i = 0; i < len; i++) /* no control characters from a component on the system console */
        if ((uint8_t)text[i] < ' ' && text[i] != '\t')
            text[i] = ' ';
    text[len] = 0;
    out = snprintf(line, sizeof line, "%s: %s", r->c->unit->cfg->name, text);
    rootlog_write(line, (size_t)out);
    return PARENT_OK;
}

static enum parent_status serve_exit(struct request *r) {
    char reason[200];
    int code = (int)msg_get_word(&r->in);

    if (!msg_get_string(&r->in, reason, sizeof reason))
        (void)snprintf(reason, sizeof reason, "exit code %d", code);
    component_end(r->c, code, reason);
    return PARENT_OK;
}

static enum parent_status serve_memory(struct request *r) {
    uint64_t va_page = msg_get_word(&r->in);
    uint64_t pages = msg_get_word(&r->in);
    uint32_t perm = (uint32_t)msg_get_word(&r->in) & (PERM_MEM_R | PERM_MEM_W);
    uint64_t align = 1, page;

    if (r->in.short_read || !address_ok(va_page, pages))
        return PARENT_BAD;
    if (pages > r->c->quota_pages - r->c->used_pages)
        return PARENT_DENIED;
    while (align < pages && align < 512 && !(va_page & align)) /* same alignment on both sides: few items */
        align *= 2;
    if (!phys_alloc(pages, align, &page) && !phys_alloc(pages, 1, &page))
        return PARENT_NO_MEM;
    phys_wipe(page, pages);
    r->result = msg_add_pages(&r->out, (ROOT_PHYS_VA >> 12) + page, va_page, pages, perm, 0);
    if (r->result < pages || !component_grant(r->c, GRANT_REQUEST, page, pages, va_page << 12, perm)) {
        phys_free(page, pages);
        r->out.items = 0;
        return PARENT_NO_MEM;
    }
    return PARENT_OK;
}

static enum parent_status serve_sc(struct request *r) {
    uint32_t priority = (uint32_t)msg_get_word(&r->in);
    uint32_t quantum_us = (uint32_t)msg_get_word(&r->in);
    uint64_t cpu_index = msg_get_word(&r->in);
    char label[20];

    if (!msg_get_string(&r->in, label, sizeof label) || cpu_index >= r->c->cpu_count || !msg_get_item(&r->in))
        return PARENT_BAD;
    return component_add_sc(r->c, CRD_BASE(thread_utcb()->del), r->c->cpu[cpu_index], label, priority, quantum_us);
}

static enum parent_status serve_ports(struct request *r) {
    uint64_t first = msg_get_word(&r->in);
    uint64_t count = msg_get_word(&r->in);
    const struct config_unit *cfg = r->c->unit->cfg;
    bool granted = false;

    if (r->in.short_read || !count || first > 0xffff || count > 0x10000 - first)
        return PARENT_BAD;
    for (uint32_t i = 0; i < cfg->port_count; i++)
        granted |= first >= cfg->ports[i].first && first + count - 1 <= cfg->ports[i].last;
    if (!granted)
        return PARENT_DENIED;
    while (count) {
        uint32_t order = msg_range_order(first, first, count);

        msg_add_delegate(&r->out, crd_pio(first, order), 0, 0);
        first += 1ul << order;
        count -= 1ul << order;
    }
    return PARENT_OK;
}

static enum parent_status serve_irq(struct request *r) {
    uint64_t irq = msg_get_word(&r->in);

    if (irq > 15 || (int32_t)irq != r->c->unit->cfg->irq)
        return PARENT_DENIED;
    if (!root.isa_irq[irq])
        return PARENT_NONE;
    if (nova_extension(EXT_GSI_CONFIG, root.isa_irq[irq], root.isa[irq].level | root.isa[irq].low << 1, NULL) !=
            NOVA_SUCCESS ||
        nova_assign_gsi(root.isa_irq[irq], 0, r->c->cpu[0], (uint64_t[2]){0, 0}) != NOVA_SUCCESS)
        return PARENT_FAILED;
    msg_add_delegate(&r->out, crd_obj(root.isa_irq[irq], 0, PERM_SM_DN), 0, 0);
    return PARENT_OK;
}

static void session_map(struct request *r, const struct session_rec *s, uint64_t va_page) {
    (void)msg_add_pages(&r->out, (ROOT_PHYS_VA >> 12) + s->page, va_page, SESSION_PAGES, PERM_MEM_R | PERM_MEM_W, 0);
}

static enum parent_status serve_open(struct request *r) {
    uint64_t va_page = msg_get_word(&r->in);
    char service[CONFIG_NAME_MAX];
    uint32_t id;

    if (!msg_get_string(&r->in, service, sizeof service) || !address_ok(va_page, SESSION_PAGES))
        return PARENT_BAD;

    const struct config_unit *cfg = r->c->unit->cfg;

    if (!config_list_has(cfg->uses, service) && !(cfg->kind == CONFIG_VM && !strcmp(service, "console")))
        return PARENT_DENIED;

    enum parent_status status = session_create(r->c->unit, service, &id);

    if (status == PARENT_WAIT)
        r->c->waits_for_service = true;
    if (status != PARENT_OK)
        return status;
    session_map(r, &root.session[id - 1], va_page);
    r->result = id;
    return PARENT_OK;
}

static enum parent_status serve_open_signal(struct request *r) {
    struct session_rec *s = session_of(r->c->unit, msg_get_word(&r->in));
    sel_t signal;

    if (!s)
        return PARENT_BAD;
    if (s->client == r->c->unit)
        signal = s->server->signal;
    else
        signal = s->client ? s->client->signal : root.wake;
    msg_add_delegate(&r->out, crd_obj(signal, 0, PERM_SM_UP), 0, 0);
    return PARENT_OK;
}

static enum parent_status serve_serve(struct request *r) {
    char service[CONFIG_NAME_MAX];

    if (!msg_get_string(&r->in, service, sizeof service))
        return PARENT_BAD;
    if (!config_list_has(r->c->unit->cfg->services, service))
        return PARENT_DENIED;
    r->c->served = true;
    service_up(r->c->unit);
    return PARENT_OK;
}

static enum parent_status serve_accept(struct request *r) {
    uint64_t va_page = msg_get_word(&r->in);
    uint32_t id;
    struct session_rec *s = session_next(r->c->unit, &id);

    if (!address_ok(va_page, SESSION_PAGES))
        return PARENT_BAD;
    if (!s)
        return PARENT_NONE;
    s->state = SESSION_OPEN;
    session_map(r, s, va_page);
    msg_put_word(&r->out, s->key);
    msg_put_string(&r->out, s->label);
    s->key &= ~(uint64_t)SESSION_KEY_FOREGROUND; /* once, not at every restart of the console */
    r->result = id;
    return PARENT_OK;
}

static enum parent_status serve_closed(struct request *r) {
    uint32_t id;
    struct session_rec *s = session_closing(r->c->unit, &id);

    if (!s)
        return PARENT_NONE;
    s->state = SESSION_CLOSED_TOLD;
    r->result = id;
    return PARENT_OK;
}

static enum parent_status serve_close_done(struct request *r) {
    struct session_rec *s = session_of(r->c->unit, msg_get_word(&r->in));

    if (!s || s->server != r->c->unit || s->state != SESSION_CLOSED_TOLD)
        return PARENT_BAD;
    session_free(s);
    return PARENT_OK;
}

static enum parent_status serve_region(struct request *r) {
    uint64_t region = msg_get_word(&r->in);
    uint64_t offset = msg_get_word(&r->in);
    enum parent_status status = PARENT_OK;

    if (r->in.short_read || region >= REGION_COUNT || r->c->unit->cfg->kind != CONFIG_VM)
        return PARENT_BAD;
    r->result = vm_region_map(r->c, &r->out, (enum region)region, offset, &status);
    return status;
}

static enum parent_status serve(struct request *r) {
    switch (msg_get_word(&r->in)) {
    case PARENT_PD:
        /* everything but scheduling contexts: those are given by root alone */
        msg_add_delegate(&r->out, crd_obj(r->c->pd, 0, PERM_PD_ALL & ~PERM_PD_SC), 0, 0);
        return PARENT_OK;
    case PARENT_SIGNAL:
        msg_add_delegate(&r->out, crd_obj(r->c->unit->signal, 0, PERM_SM_ALL), 0, 0);
        return PARENT_OK;
    case PARENT_LOG:
        return serve_log(r);
    case PARENT_EXIT:
        return serve_exit(r);
    case PARENT_MEMORY:
        return serve_memory(r);
    case PARENT_REGION:
        return serve_region(r);
    case PARENT_SC:
        return serve_sc(r);
    case PARENT_PORTS:
        return serve_ports(r);
    case PARENT_IRQ:
        return serve_irq(r);
    case PARENT_OPEN:
        return serve_open(r);
    case PARENT_OPEN_SIGNAL:
        return serve_open_signal(r);
    case PARENT_SERVE:
        return serve_serve(r);
    case PARENT_ACCEPT:
        return serve_accept(r);
    case PARENT_CLOSED:
        return serve_closed(r);
    case PARENT_CLOSE_DONE:
        return serve_close_done(r);
    default:
        return PARENT_BAD;
    }
}

void parent_portal(void *arg, struct abi_utcb *utcb) {
    const struct comp_portal *p = arg;
    struct component *c = p->comp;
    struct abi_utcb request_copy = *utcb; /* the reply is built where the request lies */
    struct request r = {.c = c, .portal = p};
    enum parent_status status = PARENT_DENIED;

    component_enter(c, p->cpu_index);
    msg_parse(&r.in, &request_copy);
    msg_begin_after(&r.out, utcb, 2);
    if (c->running)
        status = serve(&r);
    if (r.in.items) /* whatever was received has served its purpose: the window is free for the next call */
        (void)nova_revoke(utcb->del | (uint64_t)CRD_PERM_ANY << 2, true);
    utcb->w[0] = status;
    utcb->w[1] = r.result;
    if (!msg_end(&r.out)) {
        utcb->w[0] = PARENT_BAD;
        utcb->items = UTCB_ITEMS(2, 0);
    }
    component_leave(c);
}
