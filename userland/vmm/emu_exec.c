#include "emu_priv.h"

enum { FL_C = 1, FL_P = 4, FL_A = 0x10, FL_Z = 0x40, FL_S = 0x80, FL_D = 0x400, FL_O = 0x800 };
#define FL_ARITH (FL_C | FL_P | FL_A | FL_Z | FL_S | FL_O)

/* ---- operands ---- */

static unsigned reg_number(ZydisRegister r, bool *high_byte) {
    *high_byte = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
    if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
        return (unsigned)(r - ZYDIS_REGISTER_AL);
    if (*high_byte)
        return (unsigned)(r - ZYDIS_REGISTER_AH);
    if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
        return (unsigned)(r - ZYDIS_REGISTER_SPL) + 4;
    if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
        return (unsigned)(r - ZYDIS_REGISTER_AX);
    if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
        return (unsigned)(r - ZYDIS_REGISTER_EAX);
    if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
        return (unsigned)(r - ZYDIS_REGISTER_RAX);
    return 16;
}

static bool reg_read(struct emu *e, ZydisRegister r, unsigned size, uint64_t *val) {
    bool high;
    unsigned n = reg_number(r, &high);

    if (n > 15)
        return false;
    *val = (*emu_gpr(e, n) >> (high ? 8 : 0)) & size_mask(size);
    return true;
}

/* Writing 32 bits clears the upper half, 8 and 16 bits leave the rest. */
static bool reg_write(struct emu *e, ZydisRegister r, unsigned size, uint64_t val) {
    bool high;
    unsigned n = reg_number(r, &high), shift;

    if (n > 15)
        return false;
    shift = high ? 8 : 0;
    if (size >= 4)
        *emu_gpr(e, n) = val & size_mask(size);
    else
        *emu_gpr(e, n) = (*emu_gpr(e, n) & ~(size_mask(size) << shift)) | (val & size_mask(size)) << shift;
    return true;
}

static uint64_t effective(struct emu *e, const struct emu_insn *in, const ZydisDecodedOperand *op) {
    uint64_t base = 0, index = 0, ea;

    if (op->mem.base == ZYDIS_REGISTER_RIP || op->mem.base == ZYDIS_REGISTER_EIP)
        base = e->s->rip + in->i.length;
    else if (op->mem.base != ZYDIS_REGISTER_NONE)
        (void)reg_read(e, op->mem.base, 8, &base);
    if (op->mem.index != ZYDIS_REGISTER_NONE)
        (void)reg_read(e, op->mem.index, 8, &index);
    ea = base + index * op->mem.scale + (op->mem.disp.has_displacement ? (uint64_t)op->mem.disp.value : 0);
    return ea & size_mask(in->i.address_width / 8u);
}

static uint64_t linear(struct emu *e, const struct emu_insn *in, const ZydisDecodedOperand *op) {
    uint64_t a = emu_segment_base(e, op->mem.segment) + effective(e, in, op);

    return emu_is_long(e) ? a : (uint32_t)a;
}

static enum emu_result op_read(struct emu *e, const struct emu_insn *in, unsigned n, uint64_t *val) {
    const ZydisDecodedOperand *op = &in->op[n];
    unsigned size = op->size / 8u;

    switch (op->type) {
    case ZYDIS_OPERAND_TYPE_REGISTER:
        return reg_read(e, op->reg.value, size, val) ? EMU_DONE : EMU_UNKNOWN;
    case ZYDIS_OPERAND_TYPE_IMMEDIATE:
        *val = op->imm.value.u;
        return EMU_DONE;
    case ZYDIS_OPERAND_TYPE_MEMORY:
        return size > 8 || !size ? EMU_UNKNOWN : emu_mem_read(e, linear(e, in, op), size, val);
    default:
        return EMU_UNKNOWN;
    }
}

static enum emu_result op_write(struct emu *e, const struct emu_insn *in, unsigned n, uint64_t val) {
    const ZydisDecodedOperand *op = &in->op[n];
    unsigned size = op->size / 8u;

    if (op->type == ZYDIS_OPERAND_TYPE_REGISTER)
        return reg_write(e, op->reg.value, size, val) ? EMU_DONE : EMU_UNKNOWN;
    if (op->type != ZYDIS_OPERAND_TYPE_MEMORY || size > 8 || !size)
        return EMU_UNKNOWN;
    return emu_mem_write(e, linear(e, in, op), size, val & size_mask(size));
}

/* ---- flags ---- */

static uint64_t flags_result(uint64_t r, unsigned size) {
    uint64_t f = 0;

    r &= size_mask(size);
    if (!r)
        f |= FL_Z;
    if (r >> (size * 8 - 1))
        f |= FL_S;
    if (!(__builtin_popcount((unsigned)(r & 0xff)) & 1))
        f |= FL_P;
    return f;
}

static void flags_set(struct emu *e, uint64_t mask, uint64_t f) { e->s->rflags = (e->s->rflags & ~mask) | (f & mask); }

static uint64_t flags_add(uint64_t a, uint64_t b, uint64_t carry, unsigned size) {
    uint64_t r = (a + b + carry) & size_mask(size), f = flags_result(r, size);

    if ((unsigned __int128)a + b + carry > size_mask(size))
        f |= FL_C;
    if ((a ^ b ^ r) & 0x10)
        f |= FL_A;
    if (((a ^ r) & (b ^ r)) >> (size * 8 - 1) & 1)
        f |= FL_O;
    return f;
}

static uint64_t flags_sub(uint64_t a, uint64_t b, uint64_t borrow, unsigned size) {
    uint64_t r = (a - b - borrow) & size_mask(size), f = flags_result(r, size);

    if ((unsigned __int128)b + borrow > a)
        f |= FL_C;
    if ((a ^ b ^ r) & 0x10)
        f |= FL_A;
    if (((a ^ b) & (a ^ r)) >> (size * 8 - 1) & 1)
        f |= FL_O;
    return f;
}

/* ---- operations with one destination ---- */

/* a op b -> *r and flags; false: not an arithmetic operation of the table. */
static bool arith(struct emu *e, ZydisMnemonic m, uint64_t a, uint64_t b, unsigned size, uint64_t *r) {
    uint64_t carry = e->s->rflags & FL_C;

    a &= size_mask(size);
    b &= size_mask(size);
    switch (m) {
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_TEST:
        *r = a & b;
        break;
    case ZYDIS_MNEMONIC_OR:
        *r = a | b;
        break;
    case ZYDIS_MNEMONIC_XOR:
        *r = a ^ b;
        break;
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_XADD:
        carry = m == ZYDIS_MNEMONIC_ADC ? carry : 0;
        *r = a + b + carry;
        flags_set(e, FL_ARITH, flags_add(a, b, carry, size));
        return true;
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_CMPXCHG:
        carry = m == ZYDIS_MNEMONIC_SBB ? carry : 0;
        *r = a - b - carry;
        flags_set(e, FL_ARITH, flags_sub(a, b, carry, size));
        return true;
    case ZYDIS_MNEMONIC_INC:
        *r = a + 1;
        flags_set(e, FL_ARITH & ~FL_C, flags_add(a, 1, 0, size));
        return true;
    case ZYDIS_MNEMONIC_DEC:
        *r = a - 1;
        flags_set(e, FL_ARITH & ~FL_C, flags_sub(a, 1, 0, size));
        return true;
    case ZYDIS_MNEMONIC_NEG:
        *r = 0 - a;
        flags_set(e, FL_ARITH, flags_sub(0, a, 0, size));
        return true;
    case ZYDIS_MNEMONIC_NOT:
        *r = ~a;
        return true;
    default:
        return false;
    }
    flags_set(e, FL_ARITH, flags_result(*r, size)); /* logic operations clear carry and overflow */
    return true;
}

static enum emu_result do_arith(struct emu *e, const struct emu_insn *in) {
    unsigned size = in->op[0].size / 8u;
    uint64_t a, b = 0, r, flags = e->s->rflags;
    enum emu_result res = op_read(e, in, 0, &a);

    if (res == EMU_DONE && in->i.operand_count_visible > 1)
        res = op_read(e, in, 1, &b);
    if (res != EMU_DONE)
        return res;
    if (!arith(e, in->i.mnemonic, a, b, size, &r))
        return EMU_UNKNOWN;
    if (in->i.mnemonic != ZYDIS_MNEMONIC_CMP && in->i.mnemonic != ZYDIS_MNEMONIC_TEST)
        res = op_write(e, in, 0, r);
    if (res != EMU_DONE)
        e->s->rflags = flags;
    return res;
}

static enum emu_result do_move(struct emu *e, const struct emu_insn *in) {
    uint64_t v;
    unsigned from = in->op[1].size / 8u;
    enum emu_result res = op_read(e, in, 1, &v);

    if (res != EMU_DONE)
        return res;
    if (in->i.mnemonic == ZYDIS_MNEMONIC_MOVSX || in->i.mnemonic == ZYDIS_MNEMONIC_MOVSXD)
        v = (uint64_t)((int64_t)(v << (64 - from * 8)) >> (64 - from * 8));
    return op_write(e, in, 0, v);
}

static enum emu_result do_exchange(struct emu *e, const struct emu_insn *in) {
    unsigned size = in->op[0].size / 8u, mem = in->op[1].type == ZYDIS_OPERAND_TYPE_MEMORY, reg = !mem;
    uint64_t a, b, sum;
    enum emu_result res = op_read(e, in, 0, &a);

    if (res == EMU_DONE)
        res = op_read(e, in, 1, &b);
    if (res != EMU_DONE)
        return res;
    if (in->i.mnemonic == ZYDIS_MNEMONIC_XADD) {
        uint64_t flags = e->s->rflags;
        (void)arith(e, ZYDIS_MNEMONIC_XADD, a, b, size, &sum);
        res = op_write(e, in, 0, sum);
        if (res != EMU_DONE) {
            e->s->rflags = flags;
            return res;
        }
        return op_write(e, in, 1, a);
    }
    res = op_write(e, in, mem, mem ? a : b); /* the operand that can fault first */
    return res == EMU_DONE ? op_write(e, in, reg, mem ? b : a) : res;
}

static enum emu_result do_cmpxchg(struct emu *e, const struct emu_insn *in) {
    unsigned size = in->op[0].size / 8u;
    uint64_t dest, src, acc = e->s->rax & size_mask(size), r, flags = e->s->rflags;
    enum emu_result res = op_read(e, in, 0, &dest);

    if (res == EMU_DONE)
        res = op_read(e, in, 1, &src);
    if (res != EMU_DONE)
        return res;
    (void)arith(e, ZYDIS_MNEMONIC_CMPXCHG, acc, dest, size, &r);
    res = op_write(e, in, 0, acc == dest ? src : dest);
    if (res != EMU_DONE) {
        e->s->rflags = flags;
        return res;
    }
    if (acc != dest)
        (void)reg_write(e,
                        size == 1   ? ZYDIS_REGISTER_AL
                        : size == 2 ? ZYDIS_REGISTER_AX
                        : size == 4 ? ZYDIS_REGISTER_EAX
                                    : ZYDIS_REGISTER_RAX,
                        size, dest);
    return EMU_DONE;
}

/* BT family; with a register index the bit may lie outside of the addressed operand. */
static enum emu_result do_bits(struct emu *e, const struct emu_insn *in) {
    unsigned size = in->op[0].size / 8u, bit;
    uint64_t idx, v, gva = 0;
    bool mem = in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
    enum emu_result res = op_read(e, in, 1, &idx);

    if (res != EMU_DONE)
        return res;
    bit = (unsigned)(idx & (size * 8 - 1));
    if (mem) {
        int64_t off = 0;
        if (in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
            off = (((int64_t)(idx << (64 - size * 8)) >> (64 - size * 8)) >> (size == 8   ? 6
                                                                              : size == 4 ? 5
                                                                                          : 4)) *
                  (int64_t)size;
        gva = linear(e, in, &in->op[0]) + (uint64_t)off;
        res = emu_mem_read(e, gva, size, &v);
    } else {
        res = op_read(e, in, 0, &v);
    }
    if (res != EMU_DONE)
        return res;
    uint64_t carry = v >> bit & 1;
    switch (in->i.mnemonic) {
    case ZYDIS_MNEMONIC_BTS:
        v |= 1ull << bit;
        break;
    case ZYDIS_MNEMONIC_BTR:
        v &= ~(1ull << bit);
        break;
    case ZYDIS_MNEMONIC_BTC:
        v ^= 1ull << bit;
        break;
    default:
        break;
    }
    if (in->i.mnemonic != ZYDIS_MNEMONIC_BT)
        res = mem ? emu_mem_write(e, gva, size, v) : op_write(e, in, 0, v);
    if (res == EMU_DONE)
        flags_set(e, FL_C, carry);
    return res;
}

/* ---- string operations ---- */

struct string_op {
    unsigned size;
    uint64_t addr_mask;
    uint64_t step; /* +size or -size */
    uint64_t src_base;
};

static uint64_t at(uint64_t reg, const struct string_op *s, uint64_t base) { return base + (reg & s->addr_mask); }

static void advance(uint64_t *reg, const struct string_op *s) {
    uint64_t v = (*reg + s->step) & s->addr_mask;

    *reg = s->addr_mask == 0xffff ? (*reg & ~0xffffull) | v : v;
}

/* long: one case per string instruction, each a few lines */
static enum emu_result string_once(struct emu *e, ZydisMnemonic m, const struct string_op *s) {
    uint64_t es = emu_segment_base(e, ZYDIS_REGISTER_ES), v = 0, w = 0, r;
    enum emu_result res = EMU_DONE;

    switch (m) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
        res = emu_mem_read(e, at(e->s->rsi, s, s->src_base), s->size, &v);
        if (res == EMU_DONE)
            res = emu_mem_write(e, at(e->s->rdi, s, es), s->size, v);
        if (res == EMU_DONE) {
            advance(&e->s->rsi, s);
            advance(&e->s->rdi, s);
        }
        return res;
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
        res = emu_mem_write(e, at(e->s->rdi, s, es), s->size, e->s->rax & size_mask(s->size));
        if (res == EMU_DONE)
            advance(&e->s->rdi, s);
        return res;
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_LODSQ:
        res = emu_mem_read(e, at(e->s->rsi, s, s->src_base), s->size, &v);
        if (res == EMU_DONE) {
            e->s->rax = s->size >= 4 ? v : (e->s->rax & ~size_mask(s->size)) | v;
            advance(&e->s->rsi, s);
        }
        return res;
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_CMPSQ:
        res = emu_mem_read(e, at(e->s->rsi, s, s->src_base), s->size, &v);
        if (res == EMU_DONE)
            res = emu_mem_read(e, at(e->s->rdi, s, es), s->size, &w);
        if (res == EMU_DONE) {
            (void)arith(e, ZYDIS_MNEMONIC_CMP, v, w, s->size, &r);
            advance(&e->s->rsi, s);
            advance(&e->s->rdi, s);
        }
        return res;
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_SCASQ:
        res = emu_mem_read(e, at(e->s->rdi, s, es), s->size, &v);
        if (res == EMU_DONE) {
            (void)arith(e, ZYDIS_MNEMONIC_CMP, e->s->rax, v, s->size, &r);
            advance(&e->s->rdi, s);
        }
        return res;
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_INSD:
        /* a read may have side effects: find a fault of the destination first */
        res = emu_mem_read(e, at(e->s->rdi, s, es), s->size, &v);
        if (res == EMU_DONE)
            res = emu_mem_write(e, at(e->s->rdi, s, es), s->size, v);
        if (res != EMU_DONE)
            return res;
        v = e->bus->port_in(e->bus->ctx, (uint16_t)e->s->rdx, s->size);
        res = emu_mem_write(e, at(e->s->rdi, s, es), s->size, v);
        advance(&e->s->rdi, s);
        return res;
    case ZYDIS_MNEMONIC_OUTSB:
    case ZYDIS_MNEMONIC_OUTSW:
    case ZYDIS_MNEMONIC_OUTSD:
        res = emu_mem_read(e, at(e->s->rsi, s, s->src_base), s->size, &v);
        if (res != EMU_DONE)
            return res;
        e->bus->port_out(e->bus->ctx, (uint16_t)e->s->rdx, s->size, (uint32_t)v);
        advance(&e->s->rsi, s);
        return EMU_DONE;
    default:
        return EMU_UNKNOWN;
    }
}

static ZydisRegister source_segment(const struct emu_insn *in) {
    ZydisInstructionAttributes a = in->i.attributes;

    return a & ZYDIS_ATTRIB_HAS_SEGMENT_CS   ? ZYDIS_REGISTER_CS
           : a & ZYDIS_ATTRIB_HAS_SEGMENT_SS ? ZYDIS_REGISTER_SS
           : a & ZYDIS_ATTRIB_HAS_SEGMENT_ES ? ZYDIS_REGISTER_ES
           : a & ZYDIS_ATTRIB_HAS_SEGMENT_FS ? ZYDIS_REGISTER_FS
           : a & ZYDIS_ATTRIB_HAS_SEGMENT_GS ? ZYDIS_REGISTER_GS
                                             : ZYDIS_REGISTER_DS;
}

static unsigned string_size(const struct emu_insn *in) {
    switch (in->i.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_LODSB:
    case ZYDIS_MNEMONIC_CMPSB:
    case ZYDIS_MNEMONIC_SCASB:
    case ZYDIS_MNEMONIC_INSB:
    case ZYDIS_MNEMONIC_OUTSB:
        return 1;
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_LODSW:
    case ZYDIS_MNEMONIC_CMPSW:
    case ZYDIS_MNEMONIC_SCASW:
    case ZYDIS_MNEMONIC_INSW:
    case ZYDIS_MNEMONIC_OUTSW:
        return 2;
    case ZYDIS_MNEMONIC_MOVSQ:
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_LODSQ:
    case ZYDIS_MNEMONIC_CMPSQ:
    case ZYDIS_MNEMONIC_SCASQ:
        return 8;
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_LODSD:
    case ZYDIS_MNEMONIC_CMPSD:
    case ZYDIS_MNEMONIC_SCASD:
    case ZYDIS_MNEMONIC_INSD:
    case ZYDIS_MNEMONIC_OUTSD:
        return 4;
    default:
        return 0;
    }
}

static enum emu_result do_string(struct emu *e, const struct emu_insn *in, unsigned size) {
    struct string_op s = {.size = size,
                          .addr_mask = size_mask(in->i.address_width / 8u),
                          .step = e->s->rflags & FL_D ? 0 - (uint64_t)size : size,
                          .src_base = emu_segment_base(e, source_segment(in))};
    bool repe = in->i.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE);
    bool repne = in->i.attributes & ZYDIS_ATTRIB_HAS_REPNE;
    bool compares = in->i.attributes & (ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);

    if (!repe && !repne)
        return string_once(e, in->i.mnemonic, &s);
    for (unsigned n = 0; e->s->rcx & s.addr_mask; n++) {
        if (n == EMU_REP_BATCH)
            return EMU_AGAIN;
        enum emu_result r = string_once(e, in->i.mnemonic, &s);
        if (r != EMU_DONE)
            return r;
        uint64_t left = (e->s->rcx - 1) & s.addr_mask;
        e->s->rcx = s.addr_mask == 0xffff ? (e->s->rcx & ~0xffffull) | left : left;
        if (compares && !(e->s->rflags & FL_Z) == repe)
            break;
    }
    return EMU_DONE;
}

static enum emu_result do_port(struct emu *e, const struct emu_insn *in) {
    bool out = in->i.mnemonic == ZYDIS_MNEMONIC_OUT;
    const ZydisDecodedOperand *val = &in->op[out], *port = &in->op[!out];
    unsigned size = val->size / 8u;
    uint16_t n =
        port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ? (uint16_t)(port->imm.value.u & 0xff) : (uint16_t)e->s->rdx;

    if (out)
        e->bus->port_out(e->bus->ctx, n, size, (uint32_t)(e->s->rax & size_mask(size)));
    else
        (void)reg_write(e, val->reg.value, size, e->bus->port_in(e->bus->ctx, n, size));
    return EMU_DONE;
}

enum emu_result emu_execute(struct emu *e, const struct emu_insn *in) {
    unsigned size = string_size(in);

    /* MOVSD and CMPSD are SSE instructions as well */
    if (size && in->i.meta.isa_set != ZYDIS_ISA_SET_SSE2 && in->i.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
        return do_string(e, in, size);
    switch (in->i.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
        return do_move(e, in);
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
        return do_arith(e, in);
    case ZYDIS_MNEMONIC_XCHG:
    case ZYDIS_MNEMONIC_XADD:
        return do_exchange(e, in);
    case ZYDIS_MNEMONIC_CMPXCHG:
        return do_cmpxchg(e, in);
    case ZYDIS_MNEMONIC_BT:
    case ZYDIS_MNEMONIC_BTS:
    case ZYDIS_MNEMONIC_BTR:
    case ZYDIS_MNEMONIC_BTC:
        return do_bits(e, in);
    case ZYDIS_MNEMONIC_IN:
    case ZYDIS_MNEMONIC_OUT:
        return do_port(e, in);
    default:
        return EMU_UNKNOWN;
    }
}
