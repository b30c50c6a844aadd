/* For assembly. Code that is there only with a mitigation: `alt BITS` ... `alt_end`, two to 129 bytes. It is jumped over where none of the bits is
 * on (alternatives_apply in cpu.c, at boot). */
/* clang-format off */
#pragma once
#include "hw/layout.h"
    .macro alt bits
771:
    .pushsection .alt, "a"
    .quad 771b
    .long 772f - 771b, \bits
    .popsection
    .endm
    .macro alt_end
772:
    .endm

/* Buffers of the CPU are overwritten (SDM vol 2 "VERW" with MD_CLEAR); changes ZF only. The operand is in memory that threads' tables have, too. */
    .macro buffers_clear
    alt ALT_VERW
    verw verw_operand(%rip)
    alt_end
    .endm
