/* Log lines of a component: root prints them with its name in front. One line a call, no newline at the end. */
#pragma once
#include <stdarg.h>

void log_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_vprintf(const char *format, va_list args);

/* A bug of ours or a state that cannot be continued: one line, then the component ends. */
_Noreturn void panic(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define rt_assert(cond)                                                                                                \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            panic("assertion failed: %s (%s:%d)", #cond, __FILE__, __LINE__);                                          \
    } while (0)
