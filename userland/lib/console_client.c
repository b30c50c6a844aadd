#include "console_client.h"

#include "sync.h"

enum parent_status console_open(struct session *s) { return session_open(s, "console"); }

size_t console_write(struct session *s, const void *bytes, size_t len) {
    uint32_t want = len < SESSION_OUT_SIZE ? (uint32_t)len : SESSION_OUT_SIZE;
    uint32_t done = ring_put(&s->out, bytes, want);

    if (done < want) {
        ring_sleep_writer(&s->out);
        done += ring_put(&s->out, (const uint8_t *)bytes + done, want - done);
    }
    if (done && ring_wake_reader(&s->out))
        sem_up(s->peer);
    return done;
}

size_t console_read(struct session *s, void *bytes, size_t size) {
    uint32_t want = size < SESSION_IN_SIZE ? (uint32_t)size : SESSION_IN_SIZE;
    uint32_t got = ring_get(&s->in, bytes, want);

    if (!got) {
        ring_sleep_reader(&s->in);
        got = ring_get(&s->in, bytes, want);
    }
    if (got && ring_wake_writer(&s->in))
        sem_up(s->peer);
    return got;
}
