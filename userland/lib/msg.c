#include "msg.h"

#include <string.h>

#define WORD_CRD(item)  (UTCB_WORDS - 2 - 2 * (item))
#define WORD_DESC(item) (UTCB_WORDS - 1 - 2 * (item))

void msg_begin(struct msg *m, struct abi_utcb *utcb) { msg_begin_after(m, utcb, 0); }

void msg_begin_after(struct msg *m, struct abi_utcb *utcb, uint32_t words) {
    *m = (struct msg){.utcb = utcb, .words = words, .overflow = words > UTCB_WORDS};
}

static bool msg_full(const struct msg *m, uint32_t more_words) {
    return m->words + 2 * m->items + more_words > UTCB_WORDS;
}

void msg_put_word(struct msg *m, uint64_t word) {
    if (m->overflow || msg_full(m, 1)) {
        m->overflow = true;
        return;
    }
    m->utcb->w[m->words++] = word;
}

void msg_put_bytes(struct msg *m, const void *bytes, size_t len) {
    size_t words = (len + 7) / 8;

    if (m->overflow || words > UTCB_WORDS || msg_full(m, (uint32_t)words + 1)) {
        m->overflow = true;
        return;
    }
    m->utcb->w[m->words++] = len;
    if (words)
        m->utcb->w[m->words + words - 1] = 0;
    memcpy(&m->utcb->w[m->words], bytes, len);
    m->words += (uint32_t)words;
}

void msg_put_string(struct msg *m, const char *text) { msg_put_bytes(m, text, strlen(text)); }

static void msg_add_item(struct msg *m, uint64_t crd, uint64_t descriptor) {
    if (m->overflow || msg_full(m, 2)) {
        m->overflow = true;
        return;
    }
    m->utcb->w[WORD_CRD(m->items)] = crd;
    m->utcb->w[WORD_DESC(m->items)] = descriptor;
    m->items++;
}

void msg_add_delegate(struct msg *m, uint64_t crd, uint64_t hotspot, uint64_t flags) {
    msg_add_item(m, crd, hotspot << 12 | flags | ITEM_DELEGATE);
}

void msg_add_translate(struct msg *m, uint64_t crd) { msg_add_item(m, crd, 0); }

bool msg_end(struct msg *m) {
    if (m->overflow)
        return false;
    m->utcb->items = UTCB_ITEMS(m->words, m->items);
    return true;
}

uint32_t msg_range_order(uint64_t a, uint64_t b, uint64_t len) {
    uint32_t order = 0;

    while (order < 31 && !((a | b) & (1ul << order)) && 2ul << order <= len)
        order++;
    return order;
}

uint64_t msg_add_pages(struct msg *m, uint64_t from, uint64_t to, uint64_t pages, uint32_t perm, uint64_t flags) {
    uint64_t done = 0;

    while (done < pages && !m->overflow && !msg_full(m, 2)) {
        uint32_t order = msg_range_order(from + done, to + done, pages - done);

        msg_add_delegate(m, CRD_MAKE(CRD_MEM, from + done, order, perm), to + done, flags);
        done += 1ul << order;
    }
    return done;
}

void msg_parse(struct msg_in *m, const struct abi_utcb *utcb) {
    uint32_t words = utcb->items & 0xffff;
    uint32_t items = (uint32_t)(utcb->items >> 16) & 0xffff;

    *m = (struct msg_in){.utcb = utcb};
    m->words = words < UTCB_WORDS ? words : UTCB_WORDS;
    m->items = items < (UTCB_WORDS - m->words) / 2 ? items : (UTCB_WORDS - m->words) / 2;
}

uint64_t msg_get_word(struct msg_in *m) {
    if (m->next_word >= m->words) {
        m->short_read = true;
        return 0;
    }
    return m->utcb->w[m->next_word++];
}

size_t msg_get_bytes(struct msg_in *m, void *bytes, size_t size) {
    uint64_t len = msg_get_word(m);

    if (len > size || (len + 7) / 8 > m->words - m->next_word) {
        m->short_read = true;
        return 0;
    }
    memcpy(bytes, &m->utcb->w[m->next_word], len);
    m->next_word += (uint32_t)((len + 7) / 8);
    return len;
}

bool msg_get_string(struct msg_in *m, char *text, size_t size) {
    size_t len = msg_get_bytes(m, text, size - 1);

    text[len] = 0;
    return !m->short_read && !memchr(text, 0, len);
}

uint64_t msg_get_item(struct msg_in *m) {
    if (m->next_item >= m->items)
        return 0;
    return m->utcb->w[WORD_CRD(m->next_item++)];
}
