/* The consoles behind the one serial line: a history each, one of them in front. Pure but for the two functions that it is given,
 * so it runs on a host. Not locked.
 *
 *   history: ring of the last SCREEN_HISTORY bytes; `written` counts all bytes ever, `shown` those that went out while in front */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCREENS        10
#define SCREEN_HISTORY 0x10000u
#define SCREEN_REPLAY  24 /* lines shown again at a switch */

struct screen {
    char label[32];
    uint64_t written, shown;
    uint8_t history[SCREEN_HISTORY];
};

struct screens {
    struct screen screen[SCREENS];
    uint32_t front;
    char notice[256]; /* goes out before the front console's bytes */
    size_t notice_len, notice_sent;
};

/* Bytes that screen n takes without losing what was not shown yet; a screen in the back drops its oldest bytes and takes all. */
size_t screen_space(const struct screens *s, uint32_t n);
void screen_put(struct screens *s, uint32_t n, const uint8_t *bytes, size_t len);

/* Brings n to the front: a line that says so, then its last lines again and what was never shown. why: may be empty. */
void screen_switch(struct screens *s, uint32_t n, const char *why);

/* The next bytes for the line, at most as many as lie together; 0: nothing. screen_sent says how many went out. */
size_t screen_next(const struct screens *s, const uint8_t **bytes);
void screen_sent(struct screens *s, size_t len);
