#include "parent.h"

#include "mem.h"
#include "msg.h"
#include "rt.h"
#include "thread.h"

#include <stdio.h>
#include <string.h>

/* The caller may be inside a portal handler whose UTCB holds a message: every exchange saves and restores the whole page. */
struct exchange {
    struct abi_utcb *utcb;
    struct abi_utcb saved;
    struct msg out;
    struct msg_in in;
};

static void exchange_begin(struct exchange *x, enum parent_op op) {
    x->utcb = thread_utcb();
    memcpy(&x->saved, x->utcb, sizeof x->saved);
    msg_begin(&x->out, x->utcb);
    msg_put_word(&x->out, op);
}

static enum parent_status exchange_call(struct exchange *x) {
    uint64_t status;

    if (!msg_end(&x->out))
        return PARENT_BAD;
    status = nova_call(thread_self()->parent_pt);
    if (status != NOVA_SUCCESS)
        return PARENT_FAILED;
    msg_parse(&x->in, x->utcb);
    return (enum parent_status)msg_get_word(&x->in);
}

static void exchange_end(struct exchange *x) { memcpy(x->utcb, &x->saved, sizeof x->saved); }

enum parent_status parent_call(enum parent_op op, const uint64_t *in, uint32_t in_words, uint64_t *out,
                               uint32_t out_words) {
    struct exchange x;
    enum parent_status status;

    exchange_begin(&x, op);
    for (uint32_t i = 0; i < in_words; i++)
        msg_put_word(&x.out, in[i]);
    status = exchange_call(&x);
    for (uint32_t i = 0; i < out_words; i++)
        out[i] = msg_get_word(&x.in);
    exchange_end(&x);
    return status;
}

/* The same with a receive window. */
static enum parent_status parent_receive(enum parent_op op, uint64_t window, const uint64_t *in, uint32_t in_words,
                                         uint64_t *out) {
    struct exchange x;
    enum parent_status status;

    exchange_begin(&x, op);
    for (uint32_t i = 0; i < in_words; i++)
        msg_put_word(&x.out, in[i]);
    msg_window_delegate(x.utcb, window);
    status = exchange_call(&x);
    if (out)
        *out = msg_get_word(&x.in);
    exchange_end(&x);
    return status;
}

/* All memory that root delegates lies below 2^43: one window covers it. */
static uint64_t parent_memory_window(void) { return crd_mem(0, CRD_ORDER_MAX, PERM_MEM_ALL); }

static sel_t parent_receive_cap(enum parent_op op, uint64_t arg) {
    sel_t sel = sel_alloc(0);

    if (sel && parent_receive(op, crd_obj(sel, 0, CRD_PERM_ANY), &arg, 1, NULL) != PARENT_OK) {
        sel_free(sel, 0);
        sel = 0;
    }
    return sel;
}

void parent_log(uint32_t level, const char *text, size_t len) {
    struct exchange x;

    exchange_begin(&x, PARENT_LOG);
    msg_put_word(&x.out, level);
    msg_put_bytes(&x.out, text, len);
    (void)exchange_call(&x);
    exchange_end(&x);
}

_Noreturn void parent_exit(int code, const char *reason) {
    struct exchange x;

    exchange_begin(&x, PARENT_EXIT);
    msg_put_word(&x.out, (uint64_t)(int64_t)code);
    msg_put_string(&x.out, reason);
    (void)exchange_call(&x);
    for (;;) /* root takes the PD away during the call */
        __asm__ volatile("pause");
}

enum parent_status parent_memory(uint64_t va, uint64_t bytes, uint32_t perm) {
    uint64_t pages = (bytes + 4095) >> 12;

    for (uint64_t done = 0, got = 0; done < pages; done += got) {
        uint64_t in[3] = {(va >> 12) + done, pages - done, perm};
        enum parent_status status = parent_receive(PARENT_MEMORY, parent_memory_window(), in, 3, &got);

        if (status != PARENT_OK)
            return status;
        if (!got)
            return PARENT_BAD;
    }
    return PARENT_OK;
}

enum parent_status parent_region_map(enum region region) {
    uint64_t next = 0;

    do {
        uint64_t in[2] = {region, next};
        enum parent_status status = parent_receive(PARENT_REGION, parent_memory_window(), in, 2, &next);

        if (status != PARENT_OK)
            return status;
    } while (next);
    return PARENT_OK;
}

enum parent_status parent_sc_create(sel_t ec, uint32_t cpu_index, const char *label, uint32_t priority,
                                    uint32_t quantum_us) {
    struct exchange x;
    enum parent_status status;

    exchange_begin(&x, PARENT_SC);
    msg_put_word(&x.out, priority);
    msg_put_word(&x.out, quantum_us);
    msg_put_word(&x.out, cpu_index);
    msg_put_string(&x.out, label);
    msg_add_delegate(&x.out, crd_obj(ec, 0, CRD_PERM_ANY), 0, 0);
    status = exchange_call(&x);
    exchange_end(&x);
    return status;
}

enum parent_status parent_ports(uint32_t first, uint32_t count) {
    uint64_t in[2] = {first, count};

    return parent_receive(PARENT_PORTS, CRD_MAKE(CRD_PIO, 0, 16, PERM_PIO_A), in, 2, NULL);
}

sel_t parent_irq(uint32_t irq) { return parent_receive_cap(PARENT_IRQ, irq); }

enum parent_status parent_serve(const char *service) {
    struct exchange x;
    enum parent_status status;

    exchange_begin(&x, PARENT_SERVE);
    msg_put_string(&x.out, service);
    status = exchange_call(&x);
    exchange_end(&x);
    return status;
}

static enum parent_status parent_open(const char *service, uint64_t page, uint64_t *id) {
    struct exchange x;
    enum parent_status status;

    exchange_begin(&x, PARENT_OPEN);
    msg_put_word(&x.out, page);
    msg_put_string(&x.out, service);
    msg_window_delegate(x.utcb, parent_memory_window());
    status = exchange_call(&x);
    *id = msg_get_word(&x.in);
    exchange_end(&x);
    return status;
}

static void session_rings_init(struct session *s, bool server) {
    ring_init(&s->out, server ? &s->mem->in : &s->mem->out, server ? SESSION_IN_SIZE : SESSION_OUT_SIZE);
    ring_init(&s->in, server ? &s->mem->out : &s->mem->in, server ? SESSION_OUT_SIZE : SESSION_IN_SIZE);
}

enum parent_status session_open(struct session *s, const char *service) {
    uint64_t va = va_alloc(SESSION_PAGES * 4096, 4096);
    uint64_t id = 0;
    enum parent_status status;

    if (!va)
        return PARENT_NO_MEM;
    while ((status = parent_open(service, va >> 12, &id)) == PARENT_WAIT)
        (void)sem_wait_all(COMP_SEL_SIGNAL, 0);
    if (status != PARENT_OK) {
        va_free(va, SESSION_PAGES * 4096);
        return status;
    }
    *s = (struct session){.mem = (struct session_mem *)va, .id = (uint32_t)id};
    session_rings_init(s, false);
    s->peer = parent_receive_cap(PARENT_OPEN_SIGNAL, id);
    sem_up(COMP_SEL_SIGNAL); /* what came in meanwhile was taken above: let the owner look */
    return s->peer ? PARENT_OK : PARENT_FAILED;
}

enum parent_status session_accept(struct session *s, uint64_t *key, char label[32]) {
    uint64_t va = va_alloc(SESSION_PAGES * 4096, 4096);
    uint64_t page = va >> 12;
    struct exchange x;
    enum parent_status status;

    if (!va)
        return PARENT_NO_MEM;
    exchange_begin(&x, PARENT_ACCEPT);
    msg_put_word(&x.out, page);
    msg_window_delegate(x.utcb, parent_memory_window());
    status = exchange_call(&x);
    *s = (struct session){.mem = (struct session_mem *)va, .id = (uint32_t)msg_get_word(&x.in)};
    *key = msg_get_word(&x.in);
    (void)msg_get_string(&x.in, label, 32);
    exchange_end(&x);
    if (status != PARENT_OK) {
        va_free(va, SESSION_PAGES * 4096);
        return status;
    }
    session_rings_init(s, true);
    ring_resume(&s->out, true);
    ring_resume(&s->in, false);
    s->peer = parent_receive_cap(PARENT_OPEN_SIGNAL, s->id);
    return s->peer ? PARENT_OK : PARENT_FAILED;
}

void session_release(struct session *s) {
    (void)nova_revoke(crd_obj(s->peer, 0, CRD_PERM_ANY), true);
    sel_free(s->peer, 0);
    va_free((uint64_t)s->mem, SESSION_PAGES * 4096);
    *s = (struct session){0};
}
