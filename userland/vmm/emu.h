/* Instruction emulator for what touches device memory or string ports: Zydis decodes, a table executes.
 * Works on the state of an exit message; everything that it cannot do is said, nothing is guessed.
 * Segment limits are not checked: the processor has done so for the access that faulted. */
#pragma once
#include "core/abi.h"
#include "gmem.h"

enum emu_result {
    EMU_DONE,      /* executed; RIP, registers and flags are updated */
    EMU_AGAIN,     /* a repeated instruction made progress, RIP still points to it */
    EMU_EXCEPTION, /* deliver emu->vector */
    EMU_UNKNOWN,   /* no such instruction in the table */
    EMU_NOWHERE,   /* touches emu->gpa, where there is neither RAM nor a device */
};

struct emu;
struct emu_bus {
    /* Device memory; false: nothing there. size 1, 2, 4 or 8. */
    bool (*mmio_read)(void *ctx, uint64_t gpa, unsigned size, uint64_t *val);
    bool (*mmio_write)(void *ctx, uint64_t gpa, unsigned size, uint64_t val);
    uint32_t (*port_in)(void *ctx, uint16_t port, unsigned size);
    void (*port_out)(void *ctx, uint16_t port, unsigned size, uint32_t val);
    void *ctx;
};

struct emu {
    struct abi_state *s; /* needs all general registers, segments, control registers, EFER */
    const struct gmem *mem;
    const struct emu_bus *bus;
    /* results */
    uint64_t gpa;
    uint8_t vector, has_error;
    uint32_t error_code;
    uint8_t code[15], code_len; /* bytes that were fetched */
};

#define EMU_REP_BATCH 512 /* iterations of a repeated instruction before EMU_AGAIN */

/* Executes the instruction at CS:RIP. */
enum emu_result emu_step(struct emu *e);

/* Length of the instruction at CS:RIP, 0 when it cannot be fetched or decoded. */
unsigned emu_length(struct emu *e);
