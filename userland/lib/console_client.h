/* A component's console: its number and label are root's business (configuration). */
#pragma once
#include "parent.h"

/* Waits for the console service. */
enum parent_status console_open(struct session *s);

/* Takes what fits and returns the count; never blocks. If it stopped early, COMP_SEL_SIGNAL is up'ed when there is space again. */
size_t console_write(struct session *s, const void *bytes, size_t len);

/* Typed bytes, never blocks. When it returns 0, COMP_SEL_SIGNAL is up'ed at the next input. */
size_t console_read(struct session *s, void *bytes, size_t size);
