"""The live page tables: the kernel half has no page that is both writable and executable, or the user's; SMEP, SMAP, UMIP, WP and NX are on. What components have is shown."""
import os
import re
from machine import Failure, Machine, Monitor, config, vm_section

KERNEL_HALF = 0xffff800000000000
CR0, CR4, EFER = {"WP": 16}, {"SMEP": 20, "SMAP": 21, "UMIP": 11}, {"NXE": 11}


def mappings(monitor):
    """(address, flags) of each page of the current tables. Flags as QEMU's `info tlb` has them: X for no-execute, U user, W writable."""
    return [(int(a, 16), f) for a, f in re.findall(r"^([0-9a-f]{16}): [0-9a-f]+ (\S+)$", monitor.ask("info tlb"), re.M)]


def check(cpu, pages):
    for address, flags in pages:
        if "W" in flags and "X" not in flags and address >= KERNEL_HALF:
            raise Failure("CPU %d: the kernel's page at %x is writable and executable (%s)" % (cpu, address, flags))
        if "U" in flags and address >= KERNEL_HALF:
            raise Failure("CPU %d: the kernel's page at %x is the user's (%s)" % (cpu, address, flags))
    text = [a for a, f in pages if a >= KERNEL_HALF and "X" not in f]
    if not 10 < len(text) < 64 or max(text) - min(text) >= 64 << 12:
        raise Failure("CPU %d: %d executable pages of the kernel, from %x to %x" % (cpu, len(text), min(text), max(text)))
    low = [f for a, f in pages if a < KERNEL_HALF]
    return len(pages) - len(low), len(text), len(low), sum("W" in f and "X" not in f for f in low)


def registers(cpu, text):
    for name, bits in (("CR0", CR0), ("CR4", CR4), ("EFER", EFER)):
        value = int(re.search(name + r"=\s*([0-9a-f]+)", text).group(1), 16)
        missing = [b for b, at in bits.items() if not value >> at & 1]
        if missing:
            raise Failure("CPU %d: %s is %x: %s is off" % (cpu, name, value, " ".join(missing)))
    return int(re.search(r"CR3=([0-9a-f]+)", text).group(1), 16)


def run(test):
    path = os.path.join(test.dir, "monitor")
    conf = config(vm_section("linux", memory="128M", cpu=1, console=1), on_last_exit="stay")
    seen = {}
    with Machine(test, conf, mem="1G", cpu="max", extra=Monitor.options(path)) as m:
        m.expect(r"to the front", 60)
        monitor = Monitor(path)
        for _ in range(12):
            m.pump(0.5)
            monitor.ask("stop")
            for cpu in range(4):
                monitor.ask("cpu %d" % cpu)
                state = monitor.ask("info registers")
                if re.search(r"CR4=0*000", state) or "CR0=8" not in state:
                    continue  # in the guest: QEMU shows its registers and tables
                pages = mappings(monitor)
                if not any(a >= KERNEL_HALF for a, _ in pages):
                    continue
                if any(a >= KERNEL_HALF and a < 0xffffc00000000000 for a, _ in pages):
                    seen[registers(cpu, state)] = check(cpu, pages)
            monitor.ask("cont")
    if len(seen) < 2:
        raise Failure("only %d address spaces were seen" % len(seen))
    # Not judged yet: root's windows onto memory that it hands out, and a VMM's guest memory, hold x to be able to pass it on (docs/hardening.md).
    for root, (kernel, text, low, both) in sorted(seen.items()):
        test.note("address space %x: %d pages of the kernel, %d of them executable; %d of the component, %d of them writable and executable" % (root, kernel, text, low, both))
