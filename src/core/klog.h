/* Kernel log: serial and a ring that root can read (EXT_KLOG_READ). Formats: %s %u %d %x (32 bit) %lu %lx (64 bit) %p %c %%. */
#pragma once
#include "arch/types.h"
void klog(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Copies log text from absolute position *pos into buf, advances *pos; returns bytes. */
u32 klog_read(u64 *pos, char *buf, u32 size);
