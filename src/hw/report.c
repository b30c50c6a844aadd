/* What the machine has and what it lacks, for the log. */
#include "arch/cmdline.h"
#include "arch/mitigate.h"
#include "arch/multiboot.h"
#include "core/klog.h"
#include "hw/hw.h"

static bool cpu_runs(unsigned i) { return !i || atomic_load_acq(&cpus[i]->mach.started); }

static void cpus_report(const struct boot_info *b) {
    const struct hw_features *f = &hw_features;
    unsigned up = 0, packages = 0, cores = 0;
    for (unsigned i = 0; i < b->cpu_count; i++) {
        bool package = cpu_runs(i), core = package; /* the first of its package, of its core */
        up += package;
        for (unsigned k = 0; k < i; k++)
            if (cpu_runs(k) && b->cpus[k].package == b->cpus[i].package) {
                package = false;
                core &= b->cpus[k].core != b->cpus[i].core;
            }
        packages += package, cores += core;
    }
    klog("cpus: %u of %u run; packages %u, cores %u;%s%s%s%s%s%s\n", up, b->cpu_count, packages, cores,
         f->smep ? " SMEP" : "", f->smap ? " SMAP" : "", f->umip ? " UMIP" : "", f->xsave ? " XSAVE" : "",
         f->page_1g ? " 1G-pages" : "",
         b->features & HIP_SVM   ? " AMD-V with nested paging"
         : b->features & HIP_VMX ? " VT-x with nested paging"
                                 : "");
    if (up < b->cpu_count)
        klog_warn("missing: %u of %u processors: they do not start, the others go on\n", b->cpu_count - up,
                  b->cpu_count);
}

static void mitigations_report(u8 mode) {
    static const char *const modes[] = {"auto", "force", "off"};
    static const char *const names[] = {" isolation", " retpolines", " IBRS", " automatic-IBRS", " RSB",
                                        " IBPB",      " VERW",       " L1D",  " eager-FPU"};
    const char *n[ARRAY_SIZE(names)];
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        n[i] = mitigations >> i & 1 ? names[i] : "";
    klog("mitigations: %s;%s%s%s%s%s%s%s%s%s\n", modes[mode], n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]);
}

/* One line for each thing that is missing, with what follows from it; what cannot be found here (ACPI, I/O APIC, virtualization, a unit of
 * the IOMMU) was said where it was looked for. Root has it all from the log (docs/boot.md). */
void machine_report(const struct boot_info *b, const struct loader_info *l, const struct cmdline *o) {
    const struct hw_features *f = &hw_features;
    const struct {
        bool there;
        const char *consequence;
    } wanted[] = {
        {f->smep, "SMEP: a bug may lead the kernel into a program's code"},
        {f->smap, "SMAP: a bug may lead the kernel to a program's data"},
        {f->umip, "UMIP: programs can read where the kernel's tables are"},
        {f->xsave, "XSAVE: threads and virtual machines have no AVX"},
        {f->page_1g, "1 GiB pages: large memory needs more tables"},
        {f->x2apic, "x2APIC: no APIC ids above 254, and an interrupt costs accesses to device memory"},
        {f->tsc_deadline, "TSC deadline timer: the local APIC's counter is used, timeouts are less exact"},
        {f->invariant_tsc, "invariant TSC: time may run wrong when the processor changes its speed or sleeps"},
        {hw_acpi.drhd_count && !o->noiommu,
         "IOMMU: no VT-d in use; no device can be assigned, devices reach all memory"},
    };
    cpus_report(b);
    mitigations_report(o->mitigations);
    klog("boot: %u modules%s, %u GSIs, HPET %s, DMA remapping %s\n", l->module_count,
         l->modules_lost ? " (others unusable)" : "", b->gsi_count, hw_acpi.hpet_addr ? "there" : "none",
         o->noiommu           ? "switched off"
         : hw_acpi.drhd_count ? "VT-d"
                              : "none");
    for (unsigned i = 0; i < ARRAY_SIZE(wanted); i++)
        if (!wanted[i].there)
            klog_warn("missing: %s\n", wanted[i].consequence);
    if (hw_acpi.drhds_lost)
        klog_warn("missing: %u VT-d units: too many, of other PCI segments or above 4 GiB\n", hw_acpi.drhds_lost);
}
