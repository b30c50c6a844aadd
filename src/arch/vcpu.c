#include "arch/vcpu.h"
#include "arch/assert.h"
#include "arch/insn.h"
#include "arch/mem.h"
#include "arch/vcpu_vendor.h"
#include "core/cpu.h"
#include "core/klog.h"
#include "core/pd.h"

static const struct vcpu_vendor *const vendors[] = {&svm_vendor, &vmx_vendor};
static const struct vcpu_vendor *vendor; /* written on the boot CPU before the others start; NULL: no vCPUs here */

/* Sets `vendor`; why there is none. */
static const char *vendor_choose(void) {
    const char *missing = "the CPU has neither AMD-V nor VT-x; in QEMU use -cpu max";
    vendor = NULL;
    for (unsigned i = 0; !vendor && i < ARRAY_SIZE(vendors); i++)
        if (vendors[i]->present()) {
            missing = vendors[i]->missing();
            vendor = missing ? NULL : vendors[i];
        }
    return missing;
}

u32 arch_vcpu_features(void) { return vendor_choose() ? 0 : vendor->feature; }
enum ptab_kind arch_vcpu_ptab(void) { return vendor ? vendor->ptab : PTAB_NPT; }
bool arch_vcpu_faulted(unsigned event) { return vendor && event == vendor->fault_event; }

bool arch_vcpu_cpu_init(struct cpu *c) {
    const char *missing = vendor ? NULL : vendor_choose();
    if (vendor)
        return vendor->cpu_init(c);
    if (c->id == 0)
        klog_warn("missing: AMD-V or VT-x with nested paging: no virtual machines: %s\n", missing);
    return false;
}

enum abi_status arch_vcpu_init(struct ec *ec) { return vendor ? vendor->init(ec) : NOVA_BAD_FTR; }
void arch_vcpu_fini(struct ec *ec) { vendor->fini(ec); }

void arch_vcpu_get(struct ec *ec, struct abi_utcb *u, u32 mtd, unsigned event) {
    vendor == &svm_vendor ? svm_get(ec, u, mtd, event) : vmx_get(ec, u, mtd, event);
}

void arch_vcpu_set(struct ec *ec, const struct abi_utcb *u, u32 mtd) {
    vendor == &svm_vendor ? svm_set(ec, u, mtd) : vmx_set(ec, u, mtd);
}

struct ec *arch_vcpu_run(struct cpu *c) {
    return vendor == &svm_vendor ? svm_run(c) : vmx_run(c);
}

void vcpu_lazy_load(struct vcpu_lazy **owner, struct vcpu_lazy *mine, bool pku) {
    struct vcpu_lazy *old = *owner;
    *owner = mine;
    u64 cr4 = pku ? cr4_read() : 0;
    if (pku)
        cr4_write(cr4 | CR4_PKE); /* WRPKRU needs it; no user page is touched until it is off again */
    if (old) {
        old->dr[0] = dr0_read(), old->dr[1] = dr1_read(), old->dr[2] = dr2_read(), old->dr[3] = dr3_read();
        old->pkru = pku ? rdpkru() : 0;
    }
    dr0_write(mine->dr[0]), dr1_write(mine->dr[1]), dr2_write(mine->dr[2]), dr3_write(mine->dr[3]);
    if (pku) {
        wrpkru(mine->pkru);
        cr4_write(cr4);
    }
}

bool vcpu_xcr0_valid(u64 x, u64 host) { /* SDM vol 1 13.3 "Enabling the XSAVE Feature Set", the same on AMD */
    u64 avx512 = x & 0xe0, mpx = x & 0x18;
    return (x & 1) && !(x & ~host) && (!(x & 4) || (x & 2)) && (!avx512 || (avx512 == 0xe0 && (x & 4))) &&
           (!mpx || mpx == 0x18);
}

/* The map: a bit per port, 1 = exit, in 8 KiB, the same for SVM (whose third page covers accesses that run past port 0xffff;
 * APM vol 2 15.10.1 "I/O Permissions Map") and VMX. Buddy orders make it four pages. */
#define MAP_ORDER 2
#define MAP_BYTES (PAGE_SIZE << MAP_ORDER)

enum abi_status arch_guest_ports(struct pd *pd, unsigned first, unsigned count, bool allow) {
    assert(first < 0x10000 && count <= 0x10000 - first);
    u8 *map = pd->guest_pio_bitmap;
    if (!map) {
        if (!allow)
            return NOVA_SUCCESS;
        map = kmem_pages_alloc(&pd->account, MAP_ORDER);
        if (!map)
            return NOVA_BAD_MEM;
        memset(map, 0xff, MAP_BYTES);
    }
    for (unsigned port = first; port < first + count; port++) {
        if (!(port & 7) && first + count - port >= 8) {
            map[port >> 3] = allow ? 0 : 0xff;
            port += 7;
        } else if (allow) {
            map[port >> 3] &= (u8) ~(1u << (port & 7));
        } else {
            map[port >> 3] |= (u8)(1u << (port & 7));
        }
    }
    if (!pd->guest_pio_bitmap) {
        atomic_store_rel(&pd->guest_pio_bitmap, (void *)map);
        atomic_fetch_add(&pd->guest_gen, 1); /* the vendor's run looks at this one only */
    }
    return NOVA_SUCCESS;
}

void arch_guest_ports_free(struct pd *pd) {
    if (pd->guest_pio_bitmap)
        kmem_pages_free(&pd->account, pd->guest_pio_bitmap, MAP_ORDER);
    pd->guest_pio_bitmap = NULL;
}
