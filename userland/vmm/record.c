#include "record.h"

#include <string.h>

static void tag_fill(char out[8], const char *tag) {
    memset(out, 0, 8);
    for (size_t i = 0; i < 8 && tag[i]; i++)
        out[i] = tag[i];
}

bool record_put(struct record_buf *b, const char *tag, uint32_t version, const void *state, size_t length) {
    struct record_head h = {.version = version, .length = (uint32_t)length};
    if (length > UINT32_MAX || b->size - b->used < sizeof(h) || b->size - b->used - sizeof(h) < length)
        return false;
    tag_fill(h.tag, tag);
    memcpy(b->data + b->used, &h, sizeof(h));
    memcpy(b->data + b->used + sizeof(h), state, length);
    b->used += sizeof(h) + length;
    return true;
}

bool record_get(const struct record_buf *b, const char *tag, unsigned n, uint32_t version, void *state, size_t length) {
    char want[8];
    tag_fill(want, tag);
    for (size_t pos = 0; b->size - pos >= sizeof(struct record_head);) {
        struct record_head h;
        memcpy(&h, b->data + pos, sizeof(h));
        pos += sizeof(h);
        if (h.length > b->size - pos)
            return false;
        if (memcmp(h.tag, want, 8) == 0 && n-- == 0) {
            if (h.version != version || h.length != length)
                return false;
            memcpy(state, b->data + pos, length);
            return true;
        }
        pos += h.length;
    }
    return false;
}
