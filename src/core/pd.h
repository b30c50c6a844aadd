/* Protection domain: three spaces, an account, and what runs in it. */
#pragma once
#include "arch/ptab.h"
#include "core/kmem.h"
#include "core/kobj.h"
#include "core/space.h"

struct pd {
    struct kobj obj;
    struct account account; /* kernel memory charged to this PD */
    union {
        struct {
            struct space mem, pio, caps;
        };
        struct space spaces[3]; /* by type of CRD, from CRD_MEM on */
    };
    struct objtab objtab;
    struct ptab host;        /* page table of its threads */
    struct ptab guest;       /* of its vCPUs */
    struct ptab dma;         /* of its devices */
    void *pio_bitmap;        /* backend: port bitmap of threads, 2 pages, 0 = allowed; NULL: none */
    void *guest_pio_bitmap;  /* arch: I/O permission map of vCPUs (SVM 3 pages), NULL: all intercepted */
    struct spinlock ec_lock; /* rank sm: ecs */
    struct ec *ecs;          /* all of its ECs, by ec->pd_next */
    u64 guest_gen;           /* atomic: bumped by every shootdown of guest tables (shoot.c) */
    u16 dma_domain;          /* atomic: of the IOMMU; 0: has no device (arch/vtd.c) */
    bool is_root;
    struct pd *reap_next; /* dying PDs of a CPU */
    struct space_progress reap;
};
extern struct pd kernel_pd; /* what `H` delegates from; owns nothing else */
extern struct pd *root_pd;

must_check struct pd *pd_create(struct pd *owner);
/* The tables of a zeroed PD. */
void pd_setup(struct pd *pd);
/* The last capability is gone (kobj): shut down its ECs, then empty its spaces step by step on this CPU (pd_reap). */
void pd_die(struct pd *pd);
/* Nothing refers to the shell any more: frees it after a grace period. */
void pd_destroy(struct pd *pd);
/* A bounded step of what the dead have left on this CPU: teardown of PDs, revokes of ECs. True if there is more to do. */
struct cpu;
bool pd_reap(struct cpu *c);
