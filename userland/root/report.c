/* Boot report: what the machine has, and for each thing that is missing what follows from it. */
#include "root.h"

#include <stdio.h>

void report_boot(void) {
    const struct abi_hip *hip = root.hip;
    uint32_t count = (hip->length - hip->mem_offs) / hip->mem_size;
    uint64_t ram = 0, kernel = 0, modules = 0;

    for (uint32_t i = 0; i < count; i++) {
        if (hip->mem[i].type == HIP_MEM_RAM)
            ram += hip->mem[i].size;
        else if (hip->mem[i].type == HIP_MEM_KERNEL)
            kernel += hip->mem[i].size;
        else if (hip->mem[i].type == HIP_MEM_MODULE)
            modules += hip->mem[i].size;
    }
    root_log("root: %u processors, TSC %u.%03u MHz, %u interrupts", root.cpu_count, hip->tsc_khz / 1000,
             hip->tsc_khz % 1000, hip->gsi_count);
    root_log("root: memory %lu MiB, free %lu MiB, kernel %lu KiB, modules %lu KiB", (unsigned long)(ram >> 20),
             (unsigned long)(phys_free_pages() >> 8), (unsigned long)(kernel >> 10), (unsigned long)(modules >> 10));
    root_log("root: features:%s%s%s", hip->features & HIP_SVM ? " AMD-V" : "", hip->features & HIP_VMX ? " VT-x" : "",
             hip->features & HIP_IOMMU ? " IOMMU" : "");
    for (uint32_t i = 0; i < root.module_count; i++)
        root_log("root: module %s, %lu KiB", root.module[i].name, (unsigned long)((root.module[i].size + 1023) >> 10));
    if (!(hip->features & (HIP_SVM | HIP_VMX)))
        root_log(
            "root: missing: AMD-V with nested paging or VT-x with EPT: virtual machines cannot be started (in QEMU: "
            "-cpu max)");
    if (!(hip->features & HIP_IOMMU))
        root_log("root: missing: IOMMU: devices cannot be passed to drivers or virtual machines");
}
