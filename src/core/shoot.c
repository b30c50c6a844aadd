#include "core/shoot.h"
#include "arch/assert.h"
#include "arch/atomic.h"
#include "arch/cpu.h"
#include "arch/iommu.h"
#include "core/cpu.h"
#include "core/pd.h"

/* Each CPU has a mailbox of two counters: req (asked for, any CPU) and ack (served, its own). A request means: drop every host
 * translation you hold; guest translations are dropped at the next world switch, by pd->guest_gen.
 *
 *   revoker                                  target (arch_space_load)
 *   tables changed                           c->space_next = pd
 *   full fence                               CR3 = pd->host.root  (serializing)
 *   c->space_next == pd ? req++, IPI         c->space = pd
 *   c->space == pd ? likewise                reads tables
 *
 * Either the target sees the new tables or we see c->space_next. c->space is the old one until nothing of it is left in the TLB. */

void shoot_serve(struct cpu *c) {
    u64 req = atomic_load_acq(&c->shoot_req);
    if (req == atomic_load_rlx(&c->shoot_ack))
        return;
    arch_tlb_flush();
    atomic_store_rel(&c->shoot_ack, req); /* pairs with the wait below */
}

/* Which other CPUs may hold translations, as bits: they have been asked to drop them. The fence: picture above. */
static no_inline u64 others_ask(const struct cpu *self, const struct pd *pd, bool host, bool guest) {
    u64 asked = 0;
    atomic_fence();
    for (unsigned i = 0; i < cpu_count; i++) {
        struct cpu *c = cpus[i];
        if (!c || c == self)
            continue;
        bool stale = (host && (atomic_load_acq(&c->space) == pd || atomic_load_acq(&c->space_next) == pd)) ||
                     (guest && atomic_load_acq(&c->guest_space) == pd);
        if (!stale)
            continue;
        asked |= 1ul << i;
        atomic_fetch_add(&c->shoot_req, 1);
        cpu_hazard_set(c, HZ_SHOOT);
        arch_ipi_send(i);
    }
    return asked;
}

static no_inline void others_await(struct cpu *self, u64 asked) {
    for (; asked; asked &= asked - 1) {
        const struct cpu *c = cpus[__builtin_ctzl(asked)];
        u64 want = atomic_load_acq(&c->shoot_req); /* ours, or a later one */
        while (atomic_load_acq(&c->shoot_ack) < want) {
            shoot_serve(self); /* two CPUs that shoot at each other both get on */
            arch_cpu_relax();
        }
    }
}

void shoot_down(struct pd *pd, unsigned tables) {
    struct cpu *self = arch_cpu_self();
    bool host = tables & NODE_HOST, guest = tables & NODE_GUEST;
    cpu_count_event(self, CNT_SHOOTDOWN);
    if (guest)
        atomic_fetch_add(&pd->guest_gen, 1); /* read by arch_vcpu_run before each entry */
    u64 asked = cpu_count > 1 ? others_ask(self, pd, host, guest) : 0;
    if (host && atomic_load_rlx(&self->space) == pd)
        arch_tlb_flush();
    if (asked)
        others_await(self, asked);
    if (tables & NODE_DMA)
        arch_iommu_flush(pd);
}
