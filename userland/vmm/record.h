/* Saved state: a sequence of records, each {tag, version, length} followed by the bytes of one device's state.
 * A reader skips records with tags it does not know and refuses versions or lengths that do not fit. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct record_buf {
    uint8_t *data;
    size_t size; /* capacity when writing, valid bytes when reading */
    size_t used;
};

struct record_head {
    char tag[8];
    uint32_t version;
    uint32_t length;
};
_Static_assert(sizeof(struct record_head) == 16, "format of saved state");

/* False when the buffer is full; nothing is written then. */
bool record_put(struct record_buf *b, const char *tag, uint32_t version, const void *state, size_t length);

/* Finds the n-th record of that tag; false unless version and length match exactly. */
bool record_get(const struct record_buf *b, const char *tag, unsigned n, uint32_t version, void *state, size_t length);
