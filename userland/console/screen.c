#include "screen.h"

#include <stdio.h>
#include <string.h>

size_t screen_space(const struct screens *s, uint32_t n) {
    const struct screen *c = &s->screen[n];

    return s->front == n ? SCREEN_HISTORY - (size_t)(c->written - c->shown) : SCREEN_HISTORY;
}

void screen_put(struct screens *s, uint32_t n, const uint8_t *bytes, size_t len) {
    struct screen *c = &s->screen[n];

    while (len) {
        size_t at = c->written % SCREEN_HISTORY;
        size_t part = len < SCREEN_HISTORY - at ? len : SCREEN_HISTORY - at;

        memcpy(c->history + at, bytes, part);
        c->written += part;
        bytes += part;
        len -= part;
    }
    if (c->written - c->shown > SCREEN_HISTORY)
        c->shown = c->written - SCREEN_HISTORY;
}

static uint64_t screen_replay_start(const struct screen *c) {
    uint64_t oldest = c->written > SCREEN_HISTORY ? c->written - SCREEN_HISTORY : 0;
    uint64_t at = c->written;

    for (uint32_t lines = 0; at > oldest; at--)
        if (c->history[(at - 1) % SCREEN_HISTORY] == '\n' && at != c->written && ++lines == SCREEN_REPLAY)
            break;
    return at < c->shown ? at : c->shown;
}

void screen_switch(struct screens *s, uint32_t n, const char *why) {
    struct screen *c = &s->screen[n];
    int len = snprintf(s->notice, sizeof s->notice, "\r\n[console %u: %s%s%s]\r\n", n,
                       c->label[0] ? c->label : "nothing here yet", why[0] ? "; " : "", why);

    s->notice_len = len < (int)sizeof s->notice ? (size_t)len : sizeof s->notice - 1;
    s->notice_sent = 0;
    s->front = n;
    c->shown = screen_replay_start(c);
}

size_t screen_next(const struct screens *s, const uint8_t **bytes) {
    const struct screen *c = &s->screen[s->front];
    size_t at = c->shown % SCREEN_HISTORY;
    uint64_t left = c->written - c->shown;

    if (s->notice_sent < s->notice_len) {
        *bytes = (const uint8_t *)s->notice + s->notice_sent;
        return s->notice_len - s->notice_sent;
    }
    *bytes = c->history + at;
    return left < SCREEN_HISTORY - at ? (size_t)left : SCREEN_HISTORY - at;
}

void screen_sent(struct screens *s, size_t len) {
    if (s->notice_sent < s->notice_len)
        s->notice_sent += len;
    else
        s->screen[s->front].shown += len;
}
