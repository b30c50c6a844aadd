/* From the backend's boot information to a running root. */
#include "arch/acpi.h"
#include "arch/assert.h"
#include "arch/elf.h"
#include "arch/iommu.h"
#include "arch/mem.h"
#include "core/core.h"
#include "core/hypercall.h"
#include "core/klog.h"
#include "core/pd.h"

static const struct boot_info *boot;
static struct abi_hip *hip;

static bool cpus_make(struct cpu *boot_cpu, unsigned count) {
    unsigned order = 0;
    while ((PAGE_SIZE << order) < sizeof(struct cpu))
        order++;
    cpu_count = 0;
    for (unsigned i = 0; i < count; i++) {
        struct cpu *c = i ? kmem_pages_alloc(&kernel_account, order) : boot_cpu;
        if (!c)
            return false;
        c->id = i;
        c->deadline = ~0ul;
        c->rcu.idle = true; /* until it runs */
        cpus[i] = c;
        cpu_count = i + 1;
    }
    return true;
}

/* All memory that the kernel may hand out: everything but its own and the register pages of interrupt controllers and IOMMUs. */
static bool excluded_from(u64 pos, u64 *start, u64 *end) {
    *start = *end = ~0ul;
    for (unsigned i = 0; i < boot->range_count + boot->hole_count; i++) {
        const struct boot_range *r = i < boot->range_count ? &boot->ranges[i] : &boot->holes[i - boot->range_count];
        if (i < boot->range_count && r->type != HIP_MEM_KERNEL)
            continue;
        u64 s = r->base & ~PAGE_MASK, e = (r->base + r->size + PAGE_MASK) & ~PAGE_MASK;
        if (e > pos && s < *start) {
            *start = s;
            *end = e;
        }
    }
    return *start != ~0ul;
}

static bool source_range(unsigned type, u64 first, u64 end) {
    while (first < end) {
        unsigned order = 0;
        while (order < 40 && !(first & (1ul << order)) && first + (2ul << order) <= end)
            order++;
        unsigned perm = type == CRD_MEM ? PERM_MEM_ALL : PERM_PIO_A;
        if (space_source_create(&kernel_pd, type, first, first, order, perm) != NOVA_SUCCESS)
            return false;
        first += 1ul << order;
    }
    return true;
}

static bool sources_make(void) {
    u64 pos = 0, limit = 1ul << boot->phys_bits, start, end;
    while (pos < limit && excluded_from(pos, &start, &end)) {
        if (start > pos && !source_range(CRD_MEM, pos >> PAGE_SHIFT, min_u64(start, limit) >> PAGE_SHIFT))
            return false;
        pos = max_u64(pos, end);
    }
    return source_range(CRD_MEM, min_u64(pos, limit) >> PAGE_SHIFT, limit >> PAGE_SHIFT) &&
           source_range(CRD_PIO, 0, 65536);
}

static bool hip_add(u64 addr, u64 size, i32 type, u64 aux) {
    if (hip->length + sizeof(struct abi_hip_mem_desc) > PAGE_SIZE)
        return false;
    *(struct abi_hip_mem_desc *)((char *)hip + hip->length) =
        (struct abi_hip_mem_desc){.addr = addr, .size = size, .type = type, .aux = (u32)aux};
    hip->length = (u16)(hip->length + sizeof(struct abi_hip_mem_desc));
    return true;
}

static bool hip_make(void) {
    hip = kmem_pages_alloc(&kernel_account, 0);
    if (!hip)
        return false;
    *hip = (struct abi_hip){
        .signature = HIP_SIGNATURE,
        .length = offsetof(struct abi_hip, mem),
        .cpu_offs = offsetof(struct abi_hip, cpu),
        .cpu_size = sizeof(struct abi_hip_cpu),
        .mem_offs = offsetof(struct abi_hip, mem),
        .mem_size = sizeof(struct abi_hip_mem_desc),
        .features = boot->features | arch_iommu_init(boot->iommus, boot->iommu_count),
        .api_version = 7,
        .sel = ABI_SEL_COUNT,
        .exc = ABI_EVENTS_THREAD,
        .vmi = ABI_EVENTS_VCPU,
        .gsi_count = boot->gsi_count,
        .page_sizes = 1u << 12 | 1u << 21 | (ptab_max_leaf_order >= 18 ? 1u << 30 : 0),
        .utcb_sizes = 1u << 12,
        .tsc_khz = boot->tsc_khz,
    };
    for (unsigned i = 0; i < boot->cpu_count; i++) {
        const struct boot_cpu *b = &boot->cpus[i];
        hip->cpu[i] =
            (struct abi_hip_cpu){.thread = b->thread, .core = b->core, .package = b->package, .acpi_id = b->acpi_id};
    }
    /* modules first: they are what root cannot do without if the page were to overflow */
    for (unsigned i = 0; i < boot->module_count; i++)
        if (!hip_add(boot->modules[i].base, boot->modules[i].size, HIP_MEM_MODULE, boot->modules[i].cmdline))
            klog_warn("boot: module %u does not fit into the HIP and is ignored\n", i);
    for (unsigned i = 0; i < boot->range_count; i++)
        if (!hip_add(boot->ranges[i].base, boot->ranges[i].size, boot->ranges[i].type, 0))
            klog_warn("boot: memory range %lx does not fit into the HIP and is ignored\n", boot->ranges[i].base);
    return true;
}

bool core_device(u64 addr, u16 *rid) { return acpi_device(boot->mcfg, boot->mcfg_count, addr, rid); }

bool core_is_ram(u64 pfn, u64 pages) {
    for (unsigned i = 0; i < boot->range_count; i++) {
        const struct boot_range *r = &boot->ranges[i];
        if ((r->type == HIP_MEM_RAM || r->type == HIP_MEM_KERNEL) && pfn << PAGE_SHIFT >= r->base &&
            (pfn + pages) << PAGE_SHIFT <= r->base + r->size)
            return !(pfn >> (64 - PAGE_SHIFT)); /* the shifts above lose nothing */
    }
    return false;
}

u32 core_cmdline_read(u64 *pos, char *buf, u32 size) {
    u64 length = 0;
    while (boot->cmdline[length])
        length++;
    u32 n = *pos < length ? (u32)min_u64(length - *pos, size) : 0;
    memcpy(buf, boot->cmdline + (n ? *pos : 0), n);
    *pos += n;
    return n;
}

static void hip_seal(void) {
    u16 sum = 0;
    hip->checksum = 0;
    for (unsigned i = 0; i < hip->length / 2u; i++)
        sum = (u16)(sum + ((const u16 *)hip)[i]);
    hip->checksum = (u16)-sum;
}

bool core_init(const struct boot_info *b, struct cpu *boot_cpu) {
    boot = b;
    tsc_khz = b->tsc_khz;
    kmem_init();
    kmem_add(b->pool_base, b->pool_size);
    kobj_init(&kernel_pd.obj, KOBJ_PD, NULL);
    pd_setup(&kernel_pd);
    if (cpus_make(boot_cpu, b->cpu_count) && arch_space_init(&kernel_pd) == NOVA_SUCCESS && sources_make() &&
        hip_make())
        return true;
    klog_at(KLOG_FATAL, "boot: the kernel's memory pool of %lu KiB is too small to start; the machine needs more RAM\n",
            b->pool_size >> 10);
    return false;
}

bool core_cpu_init(struct cpu *c) {
    struct ec *ec;
    if (ec_create(&kernel_pd, EC_IDLE, c->id, 0, 0, 0, &ec) != NOVA_SUCCESS)
        return false;
    ec->cont = CONT_IDLE;
    struct sc *sc = sc_create(&kernel_pd, ec, 0, 1000000);
    if (!sc || space_cap_create(&kernel_pd, c->id, &sc->obj, PERM_SC_ALL) != NOVA_SUCCESS)
        return false;
    sc->state = SC_RUNNING;
    c->idle_ec = c->bases_owner = c->ec = ec;
    c->idle_sc = c->sc = sc;
    c->sc_start = arch_clock();
    hip->cpu[c->id].flags = 1;
    rcu_idle_leave(c);
    return true;
}

/* Copies a segment into fresh pages, zero beyond its file part, and maps them. */
static enum abi_status segment_map(struct pd *pd, const u8 *image, const struct elf_segment *s) {
    u64 first = s->vaddr & ~PAGE_MASK, end = (s->vaddr + s->memsz + PAGE_MASK) & ~PAGE_MASK;
    unsigned perm = PERM_MEM_R | (s->flags & ELF_W ? PERM_MEM_W : 0) | (s->flags & ELF_X ? PERM_MEM_X : 0);
    while (first < end) {
        unsigned order = 0;
        while (order < 4 && !(first >> PAGE_SHIFT & (1ul << order)) && first + (PAGE_SIZE << (order + 1)) <= end)
            order++;
        u8 *pages = kmem_pages_alloc(&kernel_account, order);
        if (!pages)
            return NOVA_BAD_MEM;
        u64 from = max_u64(first, s->vaddr), to = min_u64(first + (PAGE_SIZE << order), s->vaddr + s->filesz);
        if (from < to)
            memcpy(pages + (from - first), image + s->offset + (from - s->vaddr), to - from);
        enum abi_status status = space_mem_create(pd, first >> PAGE_SHIFT, arch_ptr_phys(pages).v >> PAGE_SHIFT, order,
                                                  perm, NODE_HOST | NODE_FIXED);
        if (status != NOVA_SUCCESS)
            return status;
        first += PAGE_SIZE << order;
    }
    return NOVA_SUCCESS;
}

static bool root_load(struct pd *pd, u64 *entry) {
    if (!boot->module_count) {
        klog_at(
            KLOG_FATAL,
            "boot: no boot module: give root's ELF image as the first module (GRUB: module2 /root.elf; QEMU: -initrd "
            "root.elf)\n");
        return false;
    }
    const struct boot_module *m = &boot->modules[0];
    const u8 *image = arch_phys_ptr(PADDR(m->base));
    static struct elf_info elf;
    const char *why = "";
    if (!elf_parse(image, m->size, &elf, &why)) {
        klog_at(KLOG_FATAL, "boot: the first module (%lu bytes) must be root's ELF image, but %s\n", m->size, why);
        return false;
    }
    for (unsigned i = 0; i < elf.count; i++) {
        enum abi_status status = segment_map(pd, image, &elf.segments[i]);
        if (status != NOVA_SUCCESS) {
            klog_at(KLOG_FATAL, "boot: root's segment at %lx (%lu bytes) cannot be mapped: %s\n", elf.segments[i].vaddr,
                    elf.segments[i].memsz,
                    status == NOVA_BAD_MEM ? "the kernel's memory pool is too small" : "it overlaps another one");
            return false;
        }
    }
    *entry = elf.entry;
    return true;
}

bool core_root_init(struct cpu *c) {
    hip_seal();
    struct pd *pd = pd_create(&kernel_pd);
    struct ec *ec;
    u64 entry = 0;
    if (!pd || !gsi_init(boot->gsi_count))
        goto nomem;
    root_pd = pd;
    pd->is_root = true;
    if (!root_load(pd, &entry))
        return false;
    if (space_mem_create(pd, ABI_HIP_ADDR >> PAGE_SHIFT, arch_ptr_phys(hip).v >> PAGE_SHIFT, 0, PERM_MEM_R,
                         NODE_HOST | NODE_FIXED) != NOVA_SUCCESS ||
        ec_create(pd, EC_GLOBAL, c->id, ABI_ROOT_UTCB >> PAGE_SHIFT, ABI_HIP_ADDR, 0, &ec) != NOVA_SUCCESS)
        goto nomem;
    ec->cont = CONT_USER; /* no STARTUP message for root's first EC */
    ec->regs.rip = entry;
    ec->regs.rdi = c->id;
    struct sc *sc = sc_create(pd, ec, 64, 10000);
    if (!sc || space_cap_create(pd, ABI_EVENTS_THREAD + 0, &pd->obj, PERM_PD_ALL) != NOVA_SUCCESS ||
        space_cap_create(pd, ABI_EVENTS_THREAD + 1, &ec->obj, PERM_EC_ALL) != NOVA_SUCCESS ||
        space_cap_create(pd, ABI_EVENTS_THREAD + 2, &sc->obj, PERM_SC_ALL) != NOVA_SUCCESS)
        goto nomem;
    ec->sc = sc;
    sched_enqueue(c, sc, false);
    return true;
nomem:
    klog_at(KLOG_FATAL, "boot: the kernel's memory pool of %lu KiB is too small for root; the machine needs more RAM\n",
            boot->pool_size >> 10);
    return false;
}
