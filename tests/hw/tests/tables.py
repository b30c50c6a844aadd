"""The live page tables: the kernel half has no page that is both writable and executable, or the user's, a component none that is both; SMEP, SMAP, UMIP, WP and NX are on.
With mitigations=force: threads' tables have of the kernel what entries need (docs/hardening.md), and the kernel's have no page of a user."""
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


# src/hw/layout.h
TSS_AREA, STACK_AREA, IMAGE, CPUS = 0xffffff0000000000, 0xffffff0000200000, 0xffffffff80000000, 4
IST = (6, 8, 10, 12)  # pages of a CPU's 16


def isolated_page(address, flags):
    """Is it one that a thread's tables may have of the kernel half?"""
    writable, executable = "W" in flags, "X" not in flags
    if address >= IMAGE:
        return not writable  # text of the entries, IDT: counted below
    cpu, page = divmod(address - TSS_AREA >> 12, 4)
    if address < STACK_AREA:
        return not executable and (page in (1, 2) or cpu < CPUS) and writable == (page == 0)  # 1, 2: its own port bitmap
    cpu, page = divmod(address - STACK_AREA >> 12, 16)
    return cpu < CPUS and page in IST and not executable


def isolated_check(cpu, pages):
    kernel = {a: f for a, f in pages if a >= KERNEL_HALF}
    wrong = ["%x (%s)" % p for p in kernel.items() if not isolated_page(*p) or "G" in p[1] or "U" in p[1]]
    if wrong:
        raise Failure("CPU %d: a thread's tables have %d pages of the kernel that they should not: %s" % (cpu, len(wrong), wrong[:4]))
    text = [a for a in kernel if a >= IMAGE and "X" not in kernel[a]]
    data = [a for a in kernel if a >= IMAGE and "X" in kernel[a]]
    own = sum(a < STACK_AREA and a >> 12 & 3 in (1, 2) for a in kernel)
    if len(text) > 2 or len(data) != 1 or len(kernel) - len(text) - 1 - own != CPUS * (2 + len(IST)) or own not in (CPUS * 2, 64 * 2):
        raise Failure("CPU %d: %d pages of entry text, %d of data, %d of port bitmaps, %d in all" % (cpu, len(text), len(data), own, len(kernel)))
    both = [a for a, f in pages if a < KERNEL_HALF and "W" in f and "X" not in f]
    if both:
        raise Failure("CPU %d: %d pages of the component are writable and executable, from %x" % (cpu, len(both), min(both)))
    return len(kernel), len(pages) - len(kernel)


def isolated(test):
    path = os.path.join(test.dir, "monitor-force")
    conf = config(vm_section("linux", memory="128M", cpu=1, console=1, autostart="yes"), on_last_exit="stay")
    threads, roots, entry = {}, set(), 0
    with Machine(test, conf, mem="1G", cpu="max", extra=Monitor.options(path) + ["-append", "mitigations=force"], name="force") as m:
        m.expect(r"mitigations: force; isolation", 60)
        m.expect(r"root: 4 processors", 30)  # the identity map for starting CPUs is gone
        monitor = Monitor(path)
        for n in range(400):
            m.pump(0.02)
            monitor.ask("stop")
            for cpu in range(CPUS):
                monitor.ask("cpu %d" % cpu)
                state = monitor.ask("info registers")
                if not re.search(r"GDT=\s*ffffff000", state):
                    continue  # in the guest, whose registers and tables QEMU shows then, or not started yet
                cpl, rip = (re.search(p, state).group(1) for p in (r"CPL=(\d)", r"RIP=([0-9a-f]+)"))
                pages = mappings(monitor)
                if cpl == "3":
                    threads[registers(cpu, state)] = isolated_check(cpu, pages)
                elif all(a >= KERNEL_HALF for a, _ in pages):
                    roots.add(registers(cpu, state))
                    check(cpu, pages)
                elif IMAGE <= int(rip, 16) < IMAGE + (2 << 20) and isolated_check(cpu, pages):
                    entry += 1  # the first or last instructions of an entry
                else:
                    raise Failure("CPU %d: the kernel at %s is on a table with pages of a user" % (cpu, rip))
            monitor.ask("cont")
            if len(threads) >= 2 + (n < 60):
                break
    if len(threads) < 2 or len(roots) != 1:
        raise Failure("%d address spaces of threads and %d of the kernel were seen" % (len(threads), len(roots)))
    for root, (kernel, low) in sorted(threads.items()):
        test.note("isolated: address space %x: %d pages of the kernel, %d of the component" % (root, kernel, low))


def run(test):
    whole(test)
    isolated(test)


def whole(test):
    path = os.path.join(test.dir, "monitor")
    conf = config(vm_section("linux", memory="128M", cpu=1, console=1), on_last_exit="stay")
    seen = {}
    with Machine(test, conf, mem="1G", cpu="max", extra=Monitor.options(path)) as m:
        m.expect(r"to the front", 60)
        monitor = Monitor(path)
        for n in range(60):
            m.pump(0.5)
            if n >= 12 and len(seen) >= 2:
                break
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
    for root, (kernel, text, low, both) in sorted(seen.items()):
        if both:
            raise Failure("address space %x: %d pages of the component are writable and executable" % (root, both))
        test.note("address space %x: %d pages of the kernel, %d of them executable; %d of the component, %d of them writable and executable" % (root, kernel, text, low, both))
