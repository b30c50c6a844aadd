#include "vcpu.h"

#include <string.h>

#define CR0_PE       1ull
#define CR0_ET       0x10ull
#define CR0_NE       0x20ull
#define CR0_PG       0x80000000ull
#define CR4_PAE      0x20ull
#define EFER_LME_LMA 0x500ull
#define PAT_RESET    0x0007040600070406ull

static void common(struct abi_state *s) {
    memset(s, 0, sizeof(*s));
    s->rflags = 2;
    s->cr0 = CR0_ET;
    s->dr7 = 0x400;
    s->pat = PAT_RESET;
    s->tr = (struct abi_seg){.ar = 0x8b, .limit = 0xffff};
    s->ldtr = (struct abi_seg){.ar = 0x82, .limit = 0xffff};
    s->gdtr.limit = s->idtr.limit = 0xffff;
}

static void data_segments(struct abi_state *s, struct abi_seg seg) { s->ds = s->es = s->fs = s->gs = s->ss = seg; }

void vcpu_state_boot(struct abi_state *s, const struct load_result *boot) {
    common(s);
    s->rip = boot->entry;
    s->rsi = boot->boot_params;
    s->rsp = 0x5ff0; /* nobody needs it, but a push must not leave memory */
    s->gdtr = (struct abi_seg){.limit = LOADER_GDT_LIMIT, .base = boot->gdt};
    s->idtr.limit = 0;
    s->cr0 |= CR0_PE | CR0_NE;
    s->cs = (struct abi_seg){.sel = LOADER_CS, .ar = boot->long_mode ? 0xa9b : 0xc9b, .limit = 0xffffffff};
    data_segments(s, (struct abi_seg){.sel = LOADER_DS, .ar = 0xc93, .limit = 0xffffffff});
    if (boot->long_mode) {
        s->cr0 |= CR0_PG;
        s->cr3 = boot->cr3;
        s->cr4 = CR4_PAE;
        s->efer = EFER_LME_LMA;
    }
}

void vcpu_state_sipi(struct abi_state *s, uint8_t vector) {
    common(s);
    s->cs =
        (struct abi_seg){.sel = (uint16_t)(vector << 8), .ar = 0x9b, .limit = 0xffff, .base = (uint64_t)vector << 12};
    data_segments(s, (struct abi_seg){.ar = 0x93, .limit = 0xffff});
}
