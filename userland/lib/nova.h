/* Typed wrappers of the hypercalls (docs/abi.md section 5). Every wrapper returns an enum abi_status.
 * All of them go through hypercall.h, which the simulator replaces. */
#pragma once
#include "core/abi.h"
#include <hypercall.h> /* of userland/lib/hw first */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t sel_t; /* capability selector */

#define NOVA_RDI(number, flags, sel) ((uint64_t)(sel) << 8 | (uint64_t)(flags) << 4 | (uint64_t)(number))

const char *nova_status_name(uint64_t status);

static inline uint64_t nova_call(sel_t pt) { return hypercall_1(NOVA_RDI(HC_CALL, 0, pt)); }

/* Does not block when the callee is busy: NOVA_TIMEOUT then. */
static inline uint64_t nova_call_try(sel_t pt) { return hypercall_1(NOVA_RDI(HC_CALL, HF_CALL_DB, pt)); }

static inline uint64_t nova_create_pd(sel_t new_sel, sel_t owner, uint64_t caps_crd) {
    return hypercall_3(NOVA_RDI(HC_CREATE_PD, 0, new_sel), owner, caps_crd);
}

/* utcb 0 makes a vCPU. */
static inline uint64_t nova_create_ec(sel_t new_sel, sel_t owner, uint64_t utcb, uint32_t cpu, uint64_t sp,
                                      sel_t event_base, bool global) {
    return hypercall(NOVA_RDI(HC_CREATE_EC, global ? HF_EC_GLOBAL : 0, new_sel), owner, utcb | cpu, sp, event_base,
                     NULL);
}

static inline uint64_t nova_create_sc(sel_t new_sel, sel_t owner, sel_t ec, uint64_t qpd) {
    return hypercall(NOVA_RDI(HC_CREATE_SC, 0, new_sel), owner, ec, qpd, 0, NULL);
}

static inline uint64_t nova_create_pt(sel_t new_sel, sel_t owner, sel_t ec, uint32_t mtd, uint64_t ip) {
    return hypercall(NOVA_RDI(HC_CREATE_PT, 0, new_sel), owner, ec, mtd, ip, NULL);
}

static inline uint64_t nova_create_sm(sel_t new_sel, sel_t owner, uint64_t counter) {
    return hypercall_3(NOVA_RDI(HC_CREATE_SM, 0, new_sel), owner, counter);
}

static inline uint64_t nova_revoke(uint64_t crd, bool self) {
    return hypercall_2(NOVA_RDI(HC_REVOKE, self ? HF_REVOKE_SELF : 0, 0), crd);
}

/* In: CRD with base and type; out: the mapping node that covers it, or a null CRD. */
static inline uint64_t nova_lookup(uint64_t *crd) {
    uint64_t out[2];
    uint64_t status = hypercall(NOVA_RDI(HC_LOOKUP, 0, 0), *crd, 0, 0, 0, out);

    *crd = out[0];
    return status;
}

static inline uint64_t nova_recall(sel_t ec) { return hypercall_1(NOVA_RDI(HC_EC_CTRL, 0, ec)); }

static inline uint64_t nova_sc_time(sel_t sc, uint64_t *time_us) {
    uint64_t out[2];
    uint64_t status = hypercall(NOVA_RDI(HC_SC_CTRL, 0, sc), 0, 0, 0, 0, out);

    *time_us = out[0] << 32 | (out[1] & 0xffffffffu);
    return status;
}

static inline uint64_t nova_pt_ctrl(sel_t pt, uint64_t pid) { return hypercall_2(NOVA_RDI(HC_PT_CTRL, 0, pt), pid); }

static inline uint64_t nova_sm_up(sel_t sm) { return hypercall_1(NOVA_RDI(HC_SM_CTRL, 0, sm)); }

/* zero: take the whole counter, not one. deadline_tsc 0: wait for ever; else NOVA_TIMEOUT once the TSC has passed it. */
static inline uint64_t nova_sm_down(sel_t sm, bool zero, uint64_t deadline_tsc) {
    return hypercall_3(NOVA_RDI(HC_SM_CTRL, HF_SM_DOWN | (zero ? HF_SM_ZERO : 0), sm), deadline_tsc >> 32,
                       deadline_tsc & 0xffffffffu);
}

static inline uint64_t nova_assign_pci(sel_t pd, uint64_t dev, uint64_t rid) {
    return hypercall_3(NOVA_RDI(HC_ASSIGN_PCI, 0, pd), dev, rid);
}

static inline uint64_t nova_assign_gsi(sel_t sm, uint64_t dev, uint32_t cpu, uint64_t msi[2]) {
    return hypercall(NOVA_RDI(HC_ASSIGN_GSI, 0, sm), dev, cpu, 0, 0, msi);
}

/* Extension hypercall; out[0], out[1] as its table says. */
static inline uint64_t nova_extension(enum abi_ext op, sel_t sel, uint64_t arg, uint64_t out[2]) {
    return hypercall(NOVA_RDI(HC_EXTENSION, op, sel), arg, 0, 0, 0, out);
}

static inline uint64_t crd_obj(sel_t base, uint32_t order, uint32_t perm) {
    return CRD_MAKE(CRD_OBJ, base, order, perm);
}
static inline uint64_t crd_mem(uint64_t page, uint32_t order, uint32_t perm) {
    return CRD_MAKE(CRD_MEM, page, order, perm);
}
static inline uint64_t crd_pio(uint64_t port, uint32_t order) { return CRD_MAKE(CRD_PIO, port, order, PERM_PIO_A); }

#define CRD_ORDER_MAX 31u
#define CRD_PERM_ANY  0x1fu
