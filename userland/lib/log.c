#include "log.h"

#include "rt.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LOG_LINE 512

static size_t log_format(char line[LOG_LINE], const char *format, va_list args) {
    int len = vsnprintf(line, LOG_LINE, format, args);

    if (len < 0)
        return 0;
    return len < LOG_LINE ? (size_t)len : LOG_LINE - 1;
}

static void log_vprintf(enum log_level level, const char *format, va_list args) {
    char line[LOG_LINE];

    rt.log(level, line, log_format(line, format, args));
}

void log_level_printf(enum log_level level, const char *format, ...) {
    va_list args;

    va_start(args, format);
    log_vprintf(level, format, args);
    va_end(args);
}

void log_printf(const char *format, ...) {
    va_list args;

    va_start(args, format);
    log_vprintf(LOG_INFO, format, args);
    va_end(args);
}

_Noreturn void panic(const char *format, ...) {
    char line[LOG_LINE];
    va_list args;

    va_start(args, format);
    (void)log_format(line, format, args);
    va_end(args);
    rt.end(EXIT_CODE_ERROR, line);
}
