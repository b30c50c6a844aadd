/* Calls, replies and events: the caller and callee links, and what moves along them. Home CPU of both ends only.
 *
 *    SC ---> client --callee--> server --callee--> deeper server      the SC runs the end of the chain; c->hops counts the
 *               <--caller--        <--caller--                        links up to the last helping one
 */
#pragma once
#include "core/status.h"
#include "arch/types.h"
struct cpu;
struct ec;
struct pt;
/* ec, the current one, calls through pt: c->ec is the callee then, or helps and tries again later, or has its status. What runs next, as core_syscall says. */
struct ec *ipc_call(struct cpu *c, struct ec *ec, struct pt *pt);
/* It replies: transfers to its caller if any, then waits for the next call. The same. */
struct ec *ipc_reply(struct cpu *c, struct ec *ec);
/* Continuations CONT_RECV and CONT_REPLY, of events and messages with typed items; both may be preempted in long transfers and go on when
 * called again. */
void ipc_receive(struct cpu *c, struct ec *ec);
void ipc_reply_transfer(struct cpu *c, struct ec *ec);
/* c->ec raises event `number`: an implicit call of the portal at its event base + number. */
void ipc_event(struct cpu *c, unsigned number);
