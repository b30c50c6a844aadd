/* Initial state of a vCPU. */
#pragma once
#include "loader.h"
#include "vm.h"

/* Everything that a STARTUP or INIT leaves behind, controls included, and the MTD that carries it. */
#define VCPU_MTD_ALL                                                                                                   \
    (MTD_ACDB | MTD_BSD | MTD_RSP | MTD_RIP | MTD_RFLAGS | MTD_DS_ES | MTD_FS_GS | MTD_CS_SS | MTD_TR | MTD_LDTR |     \
     MTD_GDTR | MTD_IDTR | MTD_CR | MTD_DR | MTD_SYSENTER | MTD_CTRL | MTD_INJ | MTD_STA | MTD_EFER | MTD_R8_R15 |     \
     MTD_SYSCALL | MTD_PAT)

/* The boot CPU as the loader wants it; controls (exits.h) are for the caller. */
void vcpu_state_boot(struct abi_state *s, const struct load_result *boot);
/* A CPU that a STARTUP IPI starts in real mode. */
void vcpu_state_sipi(struct abi_state *s, uint8_t vector);
