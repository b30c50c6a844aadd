/* Building and reading UTCB messages with bounds checks.
 *
 * A builder starts with msg_begin, adds words and typed items in any order and is closed with msg_end, which writes the
 * item counts. It never writes outside the data area: what does not fit sets `overflow` and msg_end says false.
 *
 *   w[0] w[1] ...                                             w[504]    w[505]    w[506]    w[507]
 *   untyped words, upward  -->              <--  downward     CRD 1     desc. 1   CRD 0     descriptor 0 */
#pragma once
#include "core/abi.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msg {
    struct abi_utcb *utcb;
    uint32_t words, items;
    bool overflow;
};

void msg_begin(struct msg *m, struct abi_utcb *utcb);

/* Starts after `words` untyped words that are already in the data area (replies to events keep the state area). */
void msg_begin_after(struct msg *m, struct abi_utcb *utcb, uint32_t words);
void msg_put_word(struct msg *m, uint64_t word);

/* Length word, then the bytes padded to words. */
void msg_put_bytes(struct msg *m, const void *bytes, size_t len);
void msg_put_string(struct msg *m, const char *text);

/* flags: ITEM_G, ITEM_D, ITEM_H, ITEM_N. hotspot: selector or page in the receiver's window. */
void msg_add_delegate(struct msg *m, uint64_t crd, uint64_t hotspot, uint64_t flags);
void msg_add_translate(struct msg *m, uint64_t crd);
bool msg_end(struct msg *m);

/* Splits the pages [from, from + pages) into naturally aligned power-of-two ranges that are aligned at `to` as well and adds
 * one delegation for each, hotspot = its page at `to`. Stops when the message is full; returns the pages that were added. */
uint64_t msg_add_pages(struct msg *m, uint64_t from, uint64_t to, uint64_t pages, uint32_t perm, uint64_t flags);

/* Largest order such that a naturally aligned range starts at both a and b and is not longer than len. */
uint32_t msg_range_order(uint64_t a, uint64_t b, uint64_t len);

/* Reader over a received message. Reads past the end give 0 and set `short_read`. */
struct msg_in {
    const struct abi_utcb *utcb;
    uint32_t words, items;
    uint32_t next_word, next_item;
    bool short_read;
};

void msg_parse(struct msg_in *m, const struct abi_utcb *utcb);
uint64_t msg_get_word(struct msg_in *m);

/* Copies at most size bytes (a longer one sets short_read); returns the length. */
size_t msg_get_bytes(struct msg_in *m, void *bytes, size_t size);

/* Always terminates; false if it did not fit. */
bool msg_get_string(struct msg_in *m, char *text, size_t size);

/* The CRD of the next typed item as received (0: null or none left). */
uint64_t msg_get_item(struct msg_in *m);

static inline void msg_window_delegate(struct abi_utcb *utcb, uint64_t crd) { utcb->del = crd; }
static inline void msg_window_translate(struct abi_utcb *utcb, uint64_t crd) { utcb->xlt = crd; }
