#include "emu_priv.h"

#include "mem.h"
#include "walk.h"

#define EFER_LMA (1ull << 10)
#define CR0_PE   1ull
#define AR_L     (1u << 9)
#define AR_DB    (1u << 10)
enum { VEC_PF = 14 };

bool emu_is_long(const struct emu *e) { return e->s->efer & EFER_LMA && e->s->cs.ar & AR_L; }

uint64_t emu_segment_base(const struct emu *e, ZydisRegister seg) {
    const struct abi_state *s = e->s;

    switch (seg) {
    case ZYDIS_REGISTER_FS:
        return s->fs.base;
    case ZYDIS_REGISTER_GS:
        return s->gs.base;
    default:
        break;
    }
    if (emu_is_long(e))
        return 0;
    switch (seg) {
    case ZYDIS_REGISTER_ES:
        return s->es.base;
    case ZYDIS_REGISTER_CS:
        return s->cs.base;
    case ZYDIS_REGISTER_SS:
        return s->ss.base;
    default:
        return s->ds.base;
    }
}

static bool translate(struct emu *e, uint64_t gva, unsigned access, uint64_t *gpa) {
    uint32_t error;

    if (e->s->cr0 & CR0_PE && (e->s->ss.ar >> 5 & 3) == 3)
        access |= WALK_USER;
    if (walk_gva(e->mem, e->s, gva, access, gpa, &error))
        return true;
    e->vector = VEC_PF;
    e->has_error = 1;
    e->error_code = error;
    e->s->cr2 = gva;
    return false;
}

/* Part of an operand that lies in one page. */
static enum emu_result piece_read(struct emu *e, uint64_t gva, unsigned size, uint64_t *val) {
    uint64_t gpa;

    *val = 0;
    if (!translate(e, gva, WALK_READ, &gpa))
        return EMU_EXCEPTION;
    if (gmem_read(e->mem, gpa, val, size))
        return EMU_DONE;
    if (size & (size - 1) || !e->bus->mmio_read(e->bus->ctx, gpa, size, val)) {
        e->gpa = gpa;
        return EMU_NOWHERE;
    }
    return EMU_DONE;
}

static enum emu_result piece_write(struct emu *e, uint64_t gva, unsigned size, uint64_t val) {
    uint64_t gpa;

    if (!translate(e, gva, WALK_WRITE, &gpa))
        return EMU_EXCEPTION;
    if (gmem_write(e->mem, gpa, &val, size))
        return EMU_DONE;
    if (size & (size - 1) || !e->bus->mmio_write(e->bus->ctx, gpa, size, val)) {
        e->gpa = gpa;
        return EMU_NOWHERE;
    }
    return EMU_DONE;
}

static unsigned first_part(uint64_t gva, unsigned size) {
    unsigned left = 4096 - (gva & 4095);

    return size < left ? size : left;
}

enum emu_result emu_mem_read(struct emu *e, uint64_t gva, unsigned size, uint64_t *val) {
    unsigned part = first_part(gva, size);
    uint64_t high = 0;
    enum emu_result r = piece_read(e, gva, part, val);

    if (r == EMU_DONE && part < size) {
        r = piece_read(e, gva + part, size - part, &high);
        *val |= high << part * 8;
    }
    return r;
}

enum emu_result emu_mem_write(struct emu *e, uint64_t gva, unsigned size, uint64_t val) {
    unsigned part = first_part(gva, size);
    uint64_t gpa;

    /* both pages must be writable before the first byte is written */
    if (part < size && !translate(e, gva + part, WALK_WRITE, &gpa))
        return EMU_EXCEPTION;
    enum emu_result r = piece_write(e, gva, part, val & size_mask(part));
    if (r == EMU_DONE && part < size)
        r = piece_write(e, gva + part, size - part, val >> part * 8);
    return r;
}

static bool code_fetch(struct emu *e) {
    uint64_t rip = e->s->rip, gpa;

    if (!emu_is_long(e))
        rip = (uint32_t)(rip + e->s->cs.base);
    e->code_len = 0;
    while (e->code_len < sizeof(e->code)) {
        unsigned part = first_part(rip + e->code_len, (unsigned)sizeof(e->code) - e->code_len);
        if (!translate(e, rip + e->code_len, WALK_FETCH, &gpa) || !gmem_read(e->mem, gpa, e->code + e->code_len, part))
            break; /* what was fetched may be enough */
        e->code_len = (uint8_t)(e->code_len + part);
    }
    return e->code_len;
}

static bool decode(struct emu *e, struct emu_insn *in) {
    ZydisMachineMode mode = ZYDIS_MACHINE_MODE_LONG_64;
    ZydisStackWidth stack = ZYDIS_STACK_WIDTH_64;
    ZydisDecoderContext context;
    ZydisDecoder d;

    if (!emu_is_long(e)) {
        bool big = e->s->cs.ar & AR_DB;
        mode = !(e->s->cr0 & CR0_PE) ? ZYDIS_MACHINE_MODE_REAL_16
               : big                 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                     : ZYDIS_MACHINE_MODE_LEGACY_16;
        stack = e->s->ss.ar & AR_DB ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;
    }
    /* ZydisDecoderDecodeFull, but for its way to clear what is left: a byte at a time, which takes as long as all the rest */
    memset(in->op, 0, sizeof(in->op));
    return ZYAN_SUCCESS(ZydisDecoderInit(&d, mode, stack)) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, &context, e->code, e->code_len, &in->i)) &&
           ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&d, &context, &in->i, in->op, in->i.operand_count));
}

unsigned emu_length(struct emu *e) {
    struct emu_insn in;

    return code_fetch(e) && decode(e, &in) ? in.i.length : 0;
}

enum emu_result emu_step(struct emu *e) {
    struct emu_insn in;

    e->has_error = 0;
    if (!code_fetch(e)) {
        if (e->has_error)
            return EMU_EXCEPTION;
        e->gpa = e->s->rip;
        return EMU_NOWHERE;
    }
    if (!decode(e, &in))
        return EMU_UNKNOWN;
    enum emu_result r = emu_execute(e, &in);
    if (r != EMU_DONE)
        return r;
    e->s->rip += in.i.length;
    if (!emu_is_long(e))
        e->s->rip &= e->s->cs.ar & AR_DB ? 0xffffffff : 0xffff;
    return EMU_DONE;
}
