/* The fake VMCS: contents of a region, and the checks of VM entry (vmcs.c) apart from the instructions and the guest (vmx.c). */
#pragma once
#include "arch/vmx_vmcs.h"

#define SIM_VMCS_REVISION 0x17u
#define SIM_VMCS_FIELDS   192
#define SIM_VPID(tag)     ((tag)&0xffff)

struct sim_vmcs { /* as it lies in the region */
    u32 revision, abort;
    u32 active; /* CPU + 1 between VMPTRLD and VMCLEAR */
    bool launched;
    u64 field[SIM_VMCS_FIELDS];
};
static_assert(sizeof(struct sim_vmcs) <= PAGE_SIZE, "region");

/* Counts over all CPUs, for tests. */
struct sim_vmx_counts {
    u64 reads, writes, fails, loads, entries, invepts, invvpids, nmis;
};
extern struct sim_vmx_counts sim_vmx_counts;
/* What the last refused entry was refused for, as the source text of the check. */
extern const char *sim_vmcs_why;

/* Place of a field; NULL: this CPU has none with that encoding, or a VMWRITE may not change it. */
u64 *sim_vmcs_field(struct sim_vmcs *v, u32 encoding, bool write);
u64 sim_vmcs_get(const struct sim_vmcs *v, u32 encoding); /* exists */
void sim_vmcs_put(struct sim_vmcs *v, u32 encoding, u64 value);
u64 sim_vmx_capability(u32 msr); /* 480h to 491h; ~0: the CPU has no such MSR */

/* SDM vol 3 26.2: controls (VM-instruction error 7), host state (8); 26.3.1: guest state (exit reason 33 with *qualification). */
bool sim_vmcs_controls_valid(const struct sim_vmcs *v);
bool sim_vmcs_host_valid(const struct sim_vmcs *v);
bool sim_vmcs_guest_valid(const struct sim_vmcs *v, u64 *qualification);
/* 26.4: may an MSR-load list contain this? */
bool sim_vmx_msr_valid(const struct vmx_msr *m);
