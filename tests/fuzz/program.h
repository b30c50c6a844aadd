/* Byte-code programs for the simulator: any string of bytes is one, and one program is one run, schedule included.
 *
 *   byte 0        CPUs - 1 (bits 0-1), no virtualization (2), small kernel pool (3), nothing prepared (4), Intel CPUs (5)
 *   bytes 1-3     seed of the schedule
 *   then          operations of 8 bytes: actor, operation, six arguments; a short rest counts as filled with zeros
 *
 * Actors 0-5 are threads of root that start together, 6-7 the code of threads that the program makes, 8-11 of portals, 12 of the
 * handler of threads' events, 13 of VM exits, 14-15 are guests' scripts. Arguments choose from small pools and extreme values. */
#pragma once
#include "sim/sim.h"

#define PROGRAM_MAX  1024u
#define PROGRAM_HEAD 4u
#define OP_BYTES     8u
#define OPS_MAX      ((PROGRAM_MAX - PROGRAM_HEAD + OP_BYTES - 1) / OP_BYTES)
#define ACTORS       16u
#define WORKERS      6u

struct op {
    u8 actor, code, a, b, c, d, e, f;
};
struct program {
    u32 seed;
    u8 cpus;
    bool no_vm, small_pool, bare, intel;
    u16 count[ACTORS];
    struct op op[ACTORS][OPS_MAX];
};

/* What runs of programs have done; a driver puts it where it can see it from other processes. */
#define CALLS 32u /* hypercalls 0-14, 16 + operation for extensions */
struct tally {
    u64 programs, hypercalls;
    u32 status[CALLS][16];
};
extern struct tally *tally;

void program_decode(struct program *p, const u8 *bytes, size_t size);
/* Boots a machine of p's kind (CPUs, their vendor, pool) in this process, once, and makes it ready for programs. False: it did not come up. */
bool machine_boot(const struct program *p);
/* From there on, with the program in *slot (memory that a snapshot leaves alone) and its seed. */
enum sim_result machine_go(const struct program *slot);
unsigned machine_kind(const struct program *p);
#define KIND_BITS     0x2fu /* of byte 0 */
#define MACHINE_KINDS 32u
/* Name of an operation, and the number of them. */
const char *op_name(u8 code);
extern const unsigned op_kinds;
