/* Byte ring in shared memory, one producer and one consumer, which need not trust each other.
 *
 *   shared: struct ring_mem { head, tail, wake flags, data[] }      private to each side: struct ring
 *
 * head counts bytes written, tail bytes read, both free running. Each side keeps its own index privately and only publishes it;
 * the peer's index is validated on each use, so a hostile peer can garble the contents and nothing else.
 *
 * Sleeping: the side that wants to wait calls ring_sleep_*, checks again and then waits on its semaphore; after a successful
 * put or get the other side calls ring_wake_* and ups the sleeper's semaphore if that says true. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_mem {
    uint32_t head;
    uint32_t reader_sleeps; /* set by the consumer before it waits for data */
    uint32_t pad0[14];
    uint32_t tail;
    uint32_t writer_sleeps; /* set by the producer before it waits for space */
    uint32_t pad1[14];
    uint8_t data[];
};
_Static_assert(sizeof(struct ring_mem) == 128, "indices on cache lines of their own");

struct ring {
    struct ring_mem *mem;
    uint32_t size; /* power of two */
    uint32_t mine; /* own index: head for a producer, tail for a consumer */
};

/* size: bytes of data, a power of two. The memory is zero when the session starts. */
void ring_init(struct ring *r, struct ring_mem *mem, uint32_t size);

/* Goes on where the shared memory says this side stood: a restarted server takes over the rings of its predecessor. */
void ring_resume(struct ring *r, bool producer);

/* Producer. */
uint32_t ring_space(const struct ring *r);
uint32_t ring_put(struct ring *r, const void *bytes, uint32_t len); /* returns the bytes taken, never blocks */
bool ring_wake_reader(struct ring *r);                              /* after ring_put: must the consumer be woken? */
void ring_sleep_writer(struct ring *r);

/* Consumer. */
uint32_t ring_used(const struct ring *r);
uint32_t ring_get(struct ring *r, void *bytes, uint32_t size); /* returns the bytes copied, never blocks */
bool ring_wake_writer(struct ring *r);
void ring_sleep_reader(struct ring *r);

/* Memory of a console session: what the client writes, and what was typed. */
#define SESSION_OUT_SIZE 0x10000u
#define SESSION_IN_SIZE  0x1000u
struct session_mem {
    union {
        struct ring_mem out;
        uint8_t out_bytes[SESSION_OUT_SIZE + sizeof(struct ring_mem)];
    };
    union {
        struct ring_mem in;
        uint8_t in_bytes[SESSION_IN_SIZE + sizeof(struct ring_mem)];
    };
};
#define SESSION_PAGES ((sizeof(struct session_mem) + 4095) / 4096)
