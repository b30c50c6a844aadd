/* CPUID of a guest: what the host has, less what this VMM does not offer, plus what it adds. */
#pragma once
#include <stdint.h>

struct cpuid_regs {
    uint32_t eax, ebx, ecx, edx;
};

struct cpuid_config {
    void (*host)(uint32_t leaf, uint32_t subleaf, struct cpuid_regs *r); /* the host's CPUID */
    uint64_t xcr0;                                                       /* of the host */
    unsigned cpus;
};

/* cr4: of the guest, some bits are visible in CPUID. */
void cpuid_guest(const struct cpuid_config *c, unsigned cpu, uint64_t cr4, uint32_t leaf, uint32_t subleaf,
                 struct cpuid_regs *r);
