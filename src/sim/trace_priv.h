/* Between the files of the trace: records of objects, events and arrows. */
#pragma once
#include "core/pd.h"
#include "core/pt.h"
#include "core/sm.h"
#include "sim/trace.h"

enum trace_kind { /* of an event; the page and the text know their colours */
                  EV_ENTER,
                  EV_LEAVE,
                  EV_CALL,
                  EV_REPLY,
                  EV_HELP,
                  EV_BLOCK,
                  EV_WAKE,
                  EV_PREEMPT,
                  EV_IRQ,
                  EV_IPI,
                  EV_SHOOT,
                  EV_OBJECT,
                  EV_GUEST,
                  EV_IDLE,
                  EV_LOG,
                  EV_FAIL,
                  EV_END,
};
enum trace_state { TS_BOOT, TS_KERNEL, TS_USER, TS_GUEST, TS_IDLE, TS_LOCK };
enum trace_flow { FLOW_CALL, FLOW_REPLY, FLOW_HELP, FLOW_WAKE, FLOW_IPI, FLOW_SHOOT };

#define NO_EVENT ~0u
#define NO_FLOW  ~0u

/* An object, from when the trace first sees it. Numbers count per type, in this order; 0: none or the kernel's own. */
struct trace_obj {
    const struct kobj *p; /* NULL: its memory is free again */
    struct trace_obj *hash_next;
    struct trace_obj *next;      /* live ones of the same type */
    struct trace_obj *ever_next; /* ECs, also those that are gone */
    const char *name;            /* NULL: only a number */
    u32 number;
    u8 type;
    /* ECs, as they were when their CPU last left the kernel */
    u8 cont;
    bool in_event;
    struct trace_obj *callee, *helping, *blocked;
    /* what an EC went into the kernel for and has not come back from */
    bool pending, trapped; /* trapped: by an exception or VM exit, not a hypercall */
    u8 number_in;          /* hypercall or vector */
    u64 sel;
    u32 enter; /* event of the entry */
    u32 wake;  /* arrow of the wake-up, ends when it runs */
};

struct trace_event {
    u64 time;
    u32 text;
    u16 ec;
    u8 cpu, kind, depth;
};
struct trace_seg {
    u64 time;
    u16 ec, payer;
    u8 cpu, state, depth;
};
struct trace_arrow {
    u32 from, to; /* events; to may be NO_EVENT */
    u8 kind, to_cpu, d1, d2;
};

/* What a CPU does. */
struct lane {
    struct trace_obj *ec;    /* entered the kernel last, or runs; NULL: idle */
    struct trace_obj *ran;   /* ran last and was said to */
    struct trace_obj *sc;    /* paid at the last exit */
    bool interrupt;          /* the kernel works for an interrupt, not for ec */
    struct trace_obj *payer; /* the SC that was named last */
    bool creates;            /* a hypercall that makes an object, not looked up yet */
    u32 *coming;             /* arrows of IPIs on their way here */
    unsigned coming_count, coming_room;
    u32 *shoots; /* arrows of shootdowns that wait here */
    unsigned shoot_count, shoot_room;
};
extern struct lane trace_lanes[ABI_MAX_CPUS];
static inline struct lane *lane(const struct cpu *c) { return &trace_lanes[c->id]; }
static inline const struct ec *ec_of(const struct trace_obj *o) { return container_of(o->p, struct ec, obj); }

/* trace.c: events are numbered; `who` may be NULL. */
unsigned trace_depth(const struct trace_obj *ec); /* callers above it */
__attribute__((format(printf, 5, 6))) u32 trace_event_add(const struct cpu *c, enum trace_kind kind,
                                                          const struct trace_obj *who, unsigned depth, const char *fmt,
                                                          ...);
#define TRACE_EVENT(c, kind, who, ...) trace_event_add(c, kind, who, trace_depth(who), __VA_ARGS__)
const char *trace_machine(void); /* what CPUs these are */
u32 trace_arrow_add(enum trace_flow kind, u32 from, u32 to, unsigned to_cpu, unsigned d1, unsigned d2);

/* trace_links.c: compares with what c's ECs looked like, and says what c did. */
void trace_links(const struct cpu *c, struct trace_obj *ec);
void trace_queue(const struct cpu *c, struct trace_obj *ec, const struct ec *now);
void trace_payer(const struct cpu *c);

/* trace_objects.c */
extern struct trace_obj *trace_list[KOBJ_SM + 1]; /* by type, newest first */
extern struct trace_obj *trace_ecs_ever;
/* The record of a live object, made if it is new; NULL for NULL. */
struct trace_obj *trace_obj(const void *kobj);
struct trace_obj *trace_obj_known(const void *kobj); /* NULL if it has none */
/* Forgets the record's object if there is one in that memory. Returns it. */
struct trace_obj *trace_obj_freed(const char *p, size_t size);
/* What stands behind a selector of a PD. */
struct trace_obj *trace_sel(const struct ec *ec, u64 sel);
void trace_name(struct trace_obj *o, const char *name);
/* "EC 3 server", for one printf with at most 8 of them; "nothing" for NULL. */
const char *trace_label(const struct trace_obj *o);
bool trace_mapped(const struct ptab *t, u64 addr, unsigned *perm);

/* trace_decode.c: into `to`, which has room for `size`. */
void trace_hypercall(char *to, size_t size, const struct ec *ec);
void trace_exception(char *to, size_t size, const struct ec *ec, u64 addr);
const char *trace_status(u64 status);
const char *trace_event_name(const struct ec *ec, unsigned number);
const char *trace_vmexit(u64 code);
/* "function" or "function+8", or "address" (never its value). */
const char *trace_code(u64 rip);
const char *trace_guest_code(u64 rip); /* "script[step]" */
double trace_us(u64 tsc);

/* trace_page.c */
void trace_page_event(const struct trace_event *e, const char *text);
u32 trace_page_arrow(const struct trace_arrow *a);
void trace_page_arrow_end(u32 arrow, u32 event);
void trace_page_seg(const struct trace_seg *s);
struct trace_meta {
    const char *name, *commit, *result;
    bool good;
    unsigned failures;
};
/* Returns the path, or NULL (said why on stderr). */
const char *trace_page_write(const struct trace_meta *m);

/* symbols.c: the function or array of this program at addr, and how far behind its start; NULL: none. */
const char *sim_symbol(u64 addr, u64 *offset);
