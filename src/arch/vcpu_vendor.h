/* A vendor's virtualization; vcpu.c chooses one at boot. The functions' contracts are those of arch/vcpu.h. */
#pragma once
#include "arch/vcpu.h"

struct vcpu_vendor {
    u32 feature;                  /* enum abi_hip_feature */
    const char *(*missing)(void); /* NULL: all that is needed is there; else what is not, and what would help */
    bool (*cpu_init)(struct cpu *c);
    enum abi_status (*init)(struct ec *ec);
    void (*fini)(struct ec *ec);
    void (*get)(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event);
    void (*set)(struct ec *ec, const struct abi_utcb *u, u32 mtd);
    struct ec *(*run)(struct cpu *c);
};
extern const struct vcpu_vendor svm_vendor;
