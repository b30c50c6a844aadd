/* Virtual machines: what root does for a VMM beyond an ordinary component. */
#include "root.h"

#include <stdio.h>
#include <string.h>

#define RAM_UNIT  0x200000ul /* RAM comes in naturally aligned powers of two from this size on */
#define RAM_MIN   (64ul << 20)
#define VMM_NEEDS (16ul << 20) /* besides RAM: image, heap, stacks, kernel objects */

static const char *vm_module_missing(const char *key, const char *name, char *text, size_t size) {
    int len = snprintf(text, size, "%s '%s': no such boot module; there are: ", key, name);

    if (len > 0 && (size_t)len < size)
        module_names(text + len, size - (size_t)len);
    return text;
}

const char *vm_check(struct unit *u, char *text, size_t size) {
    const struct config_unit *cfg = u->cfg;
    uint64_t free_bytes = phys_free_pages() << 12;

    if (!(root.hip->features & (HIP_SVM | HIP_VMX)))
        return "the CPU has neither AMD-V with nested paging nor VT-x with EPT: virtual machines cannot run (in QEMU: "
               "-cpu "
               "max)";
    if (!module_find(cfg->kernel))
        return vm_module_missing("kernel", cfg->kernel, text, size);
    if (cfg->initrd[0] && !module_find(cfg->initrd))
        return vm_module_missing("initrd", cfg->initrd, text, size);
    if (cfg->memory < RAM_MIN) {
        (void)snprintf(text, size,
                       "memory = %lu MiB is too little: a VM needs at least %lu MiB, a Debian kernel 128 MiB",
                       (unsigned long)(cfg->memory >> 20), RAM_MIN >> 20);
        return text;
    }
    if (cfg->memory + VMM_NEEDS > free_bytes) {
        (void)snprintf(
            text, size,
            "memory = %lu MiB, but only %lu MiB are free: set memory = %luM or less, or give the machine more",
            (unsigned long)(cfg->memory >> 20), (unsigned long)(free_bytes >> 20),
            (unsigned long)(free_bytes > VMM_NEEDS ? (free_bytes - VMM_NEEDS) >> 20 : 0));
        return text;
    }
    return NULL;
}

/* Large pieces first: then each piece is aligned at its place in the region as well. */
static bool vm_ram(struct component *c, uint64_t bytes) {
    uint64_t left = bytes >> 12;
    uint64_t piece = 1ul << 18; /* 1 GiB */
    uint64_t va = COMP_VA_RAM;

    while (left) {
        uint64_t page;

        while (piece > left)
            piece /= 2;
        while (!phys_alloc(piece, piece, &page)) {
            if (piece == RAM_UNIT >> 12)
                return false;
            piece /= 2;
        }
        if (!component_grant(c, GRANT_RAM, page, piece, va, PERM_MEM_ALL)) {
            phys_free(page, piece);
            return false;
        }
        va += piece << 12;
        left -= piece;
    }
    return true;
}

bool vm_prepare(struct component *c) {
    const struct config_unit *cfg = c->unit->cfg;
    const struct module *kernel = module_find(cfg->kernel);
    const struct module *initrd = cfg->initrd[0] ? module_find(cfg->initrd) : NULL;
    struct vm_params *vm = &c->info->vm;

    c->info->is_vm = 1;
    vm->ram_size = cfg->memory & ~(RAM_UNIT - 1);
    vm->kernel_size = kernel->size;
    vm->initrd_size = initrd ? initrd->size : 0;
    vm->cpus = cfg->cpus;
    vm->console = cfg->console;
    (void)snprintf(vm->kernel_name, sizeof vm->kernel_name, "%s", cfg->kernel);
    (void)snprintf(vm->initrd_name, sizeof vm->initrd_name, "%s", cfg->initrd);
    (void)snprintf(vm->cmdline, sizeof vm->cmdline, "%s", cfg->cmdline);
    c->ram_pages = vm->ram_size >> 12;
    return vm_ram(c, vm->ram_size);
}

static uint64_t vm_module_map(const struct module *m, struct msg *out, uint64_t va, uint64_t offset,
                              enum parent_status *status) {
    uint64_t pages = (m->size + 4095) >> 12;

    if (offset >= pages) {
        *status = PARENT_BAD;
        return 0;
    }
    offset += msg_add_pages(out, (ROOT_PHYS_VA + m->addr) / 4096 + offset, (va >> 12) + offset, pages - offset,
                            PERM_MEM_R, 0);
    return offset < pages ? offset : 0;
}

/* One grant an answer: they are few and large. */
static uint64_t vm_ram_map(struct component *c, struct msg *out, uint64_t offset, enum parent_status *status) {
    for (const struct grant *g = c->grants; g; g = g->next) {
        if (g->kind != GRANT_RAM || g->va != COMP_VA_RAM + (offset << 12))
            continue;
        (void)msg_add_pages(out, (ROOT_PHYS_VA >> 12) + g->page, g->va >> 12, g->pages, g->perm, ITEM_N);
        return offset + g->pages < c->ram_pages ? offset + g->pages : 0;
    }
    *status = PARENT_BAD;
    return 0;
}

uint64_t vm_region_map(struct component *c, struct msg *m, enum region region, uint64_t offset,
                       enum parent_status *status) {
    const struct config_unit *cfg = c->unit->cfg;

    switch (region) {
    case REGION_KERNEL:
        return vm_module_map(module_find(cfg->kernel), m, COMP_VA_KERNEL, offset, status);
    case REGION_INITRD:
        if (cfg->initrd[0])
            return vm_module_map(module_find(cfg->initrd), m, COMP_VA_INITRD, offset, status);
        *status = PARENT_NONE;
        return 0;
    default:
        return vm_ram_map(c, m, offset, status);
    }
}

uint32_t vm_running(void) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < root.config.unit_count; i++) {
        const struct unit *u = &root.unit[i];

        count += u->cfg->kind == CONFIG_VM && (u->comp || u->restart_due);
    }
    return count;
}
