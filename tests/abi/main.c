/* The interface suite's cases, one after the other, and its verdict. */
#include "abi.h"

static const struct abi_case *const groups[] = {boot_cases,  call_cases,  create_cases, delegate_cases,  revoke_cases,
                                                ctrl_cases,  sm_cases,    assign_cases, extension_cases, event_cases,
                                                help_cases,  life_cases,  vcpu_cases,   state_cases,     window_cases,
                                                check_cases, sched_cases, cycle_cases,  entry_cases};

static void skip(const struct abi_case *c, const char *why) {
    struct line l = {.n = 0};
    line_text(&l, "# ");
    line_text(&l, c->name);
    line_text(&l, why);
    line_text(&l, "\n");
    machine_out(l.text);
}

_Noreturn void abi_main(u64 cpu);
_Noreturn void abi_main(u64 cpu) {
    unsigned passed = 0, failed = 0;
    abi_boot_cpu = cpu;
    abi_setup();
    abi_report(0, "harness");
    if (abi_failed())
        machine_end(1);
    u32 features = (u32)mem_read64((void *)(ABI_HIP_ADDR + offsetof(struct abi_hip, features)));
    for (unsigned g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
        for (const struct abi_case *c = groups[g]; c->name; c++) {
            if (!machine_wanted(c->name))
                continue;
            if (c->cpus > abi_cpus) {
                skip(c, ": needs more CPUs");
                continue;
            }
            if (c->features && !(c->features & features)) {
                skip(c, ": needs a feature that the HIP does not show");
                continue;
            }
            abi_case_begin();
            c->run();
            abi_case_end();
            abi_report(passed + failed + 1, c->name);
            if (abi_failed())
                failed++;
            else
                passed++;
        }
    struct line l = {.n = 0};
    line_text(&l, "abi: ");
    line_number(&l, passed, 10);
    line_text(&l, " passed, ");
    line_number(&l, failed, 10);
    line_text(&l, " failed\n");
    machine_out(l.text);
    machine_end(failed);
}
