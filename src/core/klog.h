/* Kernel log: the console and a ring that root can read (EXT_KLOG_READ). Formats: %s %u %d %x (32 bit) %lu %lx (64 bit) %p %c %%. */
#pragma once
#include "arch/types.h"
enum klog_level { KLOG_FATAL, KLOG_WARNING, KLOG_INFO };
extern u32 klog_level; /* lines above it go to the ring only */
void klog_at(enum klog_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define klog(...)      klog_at(KLOG_INFO, __VA_ARGS__)
#define klog_warn(...) klog_at(KLOG_WARNING, __VA_ARGS__)
/* Copies log text from absolute position *pos into buf, advances *pos; returns bytes. */
u32 klog_read(u64 *pos, char *buf, u32 size);
