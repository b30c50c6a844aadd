/* Between the parts of the emulator: emu.c (fetch, decode, memory) and emu_exec.c (operands and operations). */
#pragma once
#include "emu.h"

#include <Zydis/Zydis.h>

struct emu_insn {
    ZydisDecodedInstruction i;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

static inline uint64_t size_mask(unsigned size) { return size >= 8 ? ~0ull : (1ull << size * 8) - 1; }

/* General registers lie in the order of their encoding. */
static inline uint64_t *emu_gpr(struct emu *e, unsigned n) { return &e->s->rax + n; }

/* A memory operand at a linear address, RAM or device; size up to 8. */
enum emu_result emu_mem_read(struct emu *e, uint64_t gva, unsigned size, uint64_t *val);
enum emu_result emu_mem_write(struct emu *e, uint64_t gva, unsigned size, uint64_t val);

/* Base of a segment as the mode sees it. */
uint64_t emu_segment_base(const struct emu *e, ZydisRegister seg);
bool emu_is_long(const struct emu *e);

enum emu_result emu_execute(struct emu *e, const struct emu_insn *in);
