/* Client side of the parent protocol (startup.h). Usable from any thread of a component. */
#pragma once
#include "nova.h"
#include "ring.h"
#include "startup.h"

/* Text without newline; at most about 4000 bytes. level: enum log_level. Used by log_printf. */
void parent_log(uint32_t level, const char *text, size_t len);

/* Ends the whole component. reason: one line for the log, may be empty. */
_Noreturn void parent_exit(int code, const char *reason);

/* Zeroed memory at va (page-aligned), from the component's quota. */
enum parent_status parent_memory(uint64_t va, uint64_t bytes, uint32_t perm);

/* Maps a boot module (read-only) or the guest's memory at its COMP_VA_* address, in pieces as large as they come. */
enum parent_status parent_region_map(enum region region);

/* A scheduling context for a global thread or vCPU of ours, created on CPU index cpu_index. label names it in `top`. */
enum parent_status parent_sc_create(sel_t ec, uint32_t cpu_index, const char *label, uint32_t priority,
                                    uint32_t quantum_us);

enum parent_status parent_ports(uint32_t first, uint32_t count);

/* The semaphore of an ISA interrupt that the section grants, at a fresh selector; 0 if it is not granted. */
sel_t parent_irq(uint32_t irq);

/* One operation with words in and out; the building block of the above. Returns the reply's status. */
enum parent_status parent_call(enum parent_op op, const uint64_t *in, uint32_t in_words, uint64_t *out,
                               uint32_t out_words);

/* A session with a service: shared rings and the peer's signal semaphore. The component's own COMP_SEL_SIGNAL is up'ed when there
 * is something to read, or space to write after console_write had to stop. */
struct session {
    struct session_mem *mem;
    struct ring out, in;
    uint32_t id;
    sel_t peer; /* signal semaphore of the peer */
};

/* Waits until the service is there. A denied or failed open says so. */
enum parent_status session_open(struct session *s, const char *service);

/* Server side. parent_serve makes root accept sessions for a service that the section grants ("services = ..."); COMP_SEL_SIGNAL is
 * up'ed for each. session_accept takes one (PARENT_NONE: no more); key: root's word about the client (console: its number); rings are
 * turned round, so `in` is what the client writes. A session whose client has gone is named by PARENT_CLOSED: release it then; its
 * memory is unmapped after PARENT_CLOSE_DONE only. */
enum parent_status parent_serve(const char *service);
enum parent_status session_accept(struct session *s, uint64_t *key, char label[32]);
void session_release(struct session *s);
