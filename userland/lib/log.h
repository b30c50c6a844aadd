/* Log lines of a component: root prints them with its name in front. One line a call, no newline at the end. */
#pragma once
#include <stdarg.h>

/* The configuration says (log_level) up to which level lines are shown; log_printf is LOG_INFO. */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_level_printf(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A bug of ours or a state that cannot be continued: one line, then the component ends. */
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define rt_assert(cond)                                                                                                \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            panic("assertion failed: %s (%s:%d)", #cond, __FILE__, __LINE__);                                          \
    } while (0)
