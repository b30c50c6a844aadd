/* Root's log: a history of its own, and the way out: the serial port until the console component takes over, its ring after that. */
#include "root.h"

#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HISTORY 0x8000u

static struct {
    struct mutex lock;
    bool ready;
    uint8_t history[HISTORY];
    uint64_t written;
    bool attached;
    struct ring out, in;
    sel_t console_signal;
} rootlog;

/* 16550: line status register at offset 5, bit 5 transmitter empty. */
static void rootlog_serial(const char *text, size_t len) {
    for (; len; len--, text++) {
        for (uint32_t i = 0; i < 100000 && !(port_in8(0x3fd) & 0x20); i++)
            __asm__ volatile("pause");
        port_out8(0x3f8, (uint8_t)*text);
    }
}

bool rootlog_init(void) {
    rootlog.ready = mutex_init(&rootlog.lock);
    return rootlog.ready;
}

/* What does not fit into the ring is dropped: root never waits for the console. The history has it. */
static void rootlog_out(const char *text, size_t len) {
    if (!rootlog.attached) {
        rootlog_serial(text, len);
        return;
    }
    (void)ring_put(&rootlog.out, text, (uint32_t)len);
    if (ring_wake_reader(&rootlog.out))
        sem_up(rootlog.console_signal);
}

static void rootlog_remember(const char *text, size_t len) {
    for (; len; len--)
        rootlog.history[rootlog.written++ % HISTORY] = (uint8_t)*text++;
}

void rootlog_write(const char *line, size_t len) {
    if (rootlog.ready)
        mutex_lock(&rootlog.lock);
    if (rootlog.attached)
        shell_hide();
    rootlog_remember(line, len);
    rootlog_remember("\r\n", 2);
    rootlog_out(line, len);
    rootlog_out("\r\n", 2);
    if (rootlog.attached)
        shell_redraw();
    if (rootlog.ready)
        mutex_unlock(&rootlog.lock);
}

void rootlog_raw(const char *text, size_t len) {
    mutex_lock(&rootlog.lock);
    rootlog_out(text, len);
    mutex_unlock(&rootlog.lock);
}

void rootlog_raw_locked(const char *text, size_t len) { rootlog_out(text, len); }

void root_log(const char *format, ...) {
    char line[512];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (len > 0)
        rootlog_write(line, len < (int)sizeof line ? (size_t)len : sizeof line - 1);
}

void rootlog_attach(struct session_mem *mem, sel_t console_signal) {
    mutex_lock(&rootlog.lock);
    if (!rootlog.attached) {
        ring_init(&rootlog.out, &mem->out, SESSION_OUT_SIZE);
        ring_init(&rootlog.in, &mem->in, SESSION_IN_SIZE);
        ring_resume(&rootlog.out, true);
        ring_resume(&rootlog.in, false);
        rootlog.console_signal = console_signal;
        rootlog.attached = true;
    }
    mutex_unlock(&rootlog.lock);
}

void rootlog_detach(void) {
    mutex_lock(&rootlog.lock);
    rootlog.attached = false;
    mutex_unlock(&rootlog.lock);
}

size_t rootlog_input(char *text, size_t size) {
    size_t got = 0;

    mutex_lock(&rootlog.lock);
    if (rootlog.attached) {
        got = ring_get(&rootlog.in, text, (uint32_t)size);
        if (!got) {
            ring_sleep_reader(&rootlog.in);
            got = ring_get(&rootlog.in, text, (uint32_t)size);
        }
        if (got && ring_wake_writer(&rootlog.in))
            sem_up(rootlog.console_signal);
    }
    mutex_unlock(&rootlog.lock);
    return got;
}

void rootlog_replay(void) {
    mutex_lock(&rootlog.lock);
    uint64_t at = rootlog.written > HISTORY ? rootlog.written - HISTORY : 0;

    while (at < rootlog.written) {
        size_t offset = at % HISTORY;
        size_t len = HISTORY - offset < rootlog.written - at ? HISTORY - offset : rootlog.written - at;

        rootlog_out((const char *)rootlog.history + offset, len);
        at += len;
    }
    mutex_unlock(&rootlog.lock);
}
