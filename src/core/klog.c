#include "core/klog.h"
#include "arch/assert.h"
#include "arch/atomic.h"
#include "arch/cpu.h"
#include "arch/mem.h"
#include "arch/spin.h"
#include <stdarg.h>

#define KLOG_SIZE 32768u

static struct spinlock klog_lock; /* rank klog: the ring */
static char ring[KLOG_SIZE];
static u64 ring_end; /* absolute position of the next character */
static bool silent;  /* this line is for the ring only */
u32 klog_level = KLOG_INFO;

static void put(char c) {
    ring[ring_end++ % KLOG_SIZE] = c;
    if (silent)
        return;
    if (c == '\n')
        arch_putc('\r');
    arch_putc(c);
}

static void put_number(u64 v, unsigned base, bool negative) {
    char buf[24];
    unsigned n = 0;
    do
        buf[n++] = "0123456789abcdef"[v % base];
    while (v /= base);
    if (negative)
        buf[n++] = '-';
    while (n)
        put(buf[--n]);
}

void klog_at(enum klog_level level, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    spin_lock(&klog_lock);
    silent = level > klog_level;
    for (const char *f = fmt; *f; f++) {
        if (*f != '%') {
            put(*f);
            continue;
        }
        bool wide = *++f == 'l';
        if (wide)
            f++;
        switch (*f) {
        case 's':
            for (const char *s = va_arg(ap, const char *); *s; s++)
                put(*s);
            break;
        case 'c':
            put((char)va_arg(ap, int));
            break;
        case 'd': {
            i64 v = wide ? va_arg(ap, long) : va_arg(ap, int);
            put_number(v < 0 ? -(u64)v : (u64)v, 10, v < 0);
            break;
        }
        case 'u':
            put_number(wide ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 10, false);
            break;
        case 'x':
            put_number(wide ? va_arg(ap, unsigned long) : va_arg(ap, unsigned), 16, false);
            break;
        case 'p':
            put_number((u64)va_arg(ap, void *), 16, false);
            break;
        default:
            put(*f);
        }
    }
    spin_unlock(&klog_lock);
    va_end(ap);
}

u32 klog_read(u64 *pos, char *buf, u32 size) {
    u32 n = 0;
    spin_lock(&klog_lock);
    if (ring_end > KLOG_SIZE && *pos < ring_end - KLOG_SIZE)
        *pos = ring_end - KLOG_SIZE;
    for (; n < size && *pos < ring_end; n++)
        buf[n] = ring[(*pos)++ % KLOG_SIZE];
    spin_unlock(&klog_lock);
    return n;
}
