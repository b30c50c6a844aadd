"""The kernel's report of the machine, as root reads it: processors, topology, memory, virtualization, IOMMU, timers, and a line with the consequence for each
thing that this machine lacks and no other. Idle processors halt: the emulator needs next to no time."""
import os
import re
import time
from bochs_machine import Bochs, madt
from machine import Failure, Machine, config

LANE = "bochs"
SMALL = ["root.elf", "novella.conf", "console.elf"]
ALWAYS = {"x2APIC", "TSC deadline timer", "invariant TSC"}  # QEMU 7.2's own processor has none of them
VIRTUAL = "AMD-V or VT-x with nested paging"
IOMMU = ["-device", "intel-iommu,aw-bits=48"]
# name, -smp, -cpu, devices, how the line about processors begins, what is missing
RUNS = [("full", "4,sockets=2,cores=2", "max", IOMMU, "cpus: 4 of 4 run; packages 2, cores 4;", ALWAYS),
        ("bare", "2,threads=2", "max,-svm,-smep,-smap,-umip,-xsave,-pdpe1gb", [], "cpus: 2 of 2 run; packages 1, cores 1;",
         ALWAYS | {VIRTUAL, "SMEP", "SMAP", "UMIP", "XSAVE", "1 GiB pages", "IOMMU"}),
        ("no-npt", "1", "max,-npt", [], "cpus: 1 of 1 run; packages 1, cores 1;", ALWAYS | {VIRTUAL, "IOMMU"})]
LINES = (r"Novella microhypervisor, \d+-bit physical addresses", r"memory: \d+ MiB RAM, kernel image \d+ KiB at 0x", r"time: TSC \d+ kHz", r"boot: \d modules, \d+ GSIs")


def klog(m):
    """What root reads of the kernel's log; the kernel itself was told to say nothing."""
    m.expect(r"novella> ", 60, refuse=rb"(?m)^(missing|cpus|memory|KERNEL PANIC)")
    m.send("klog\r")
    return m.expect(r"(?s)klog\r?\n(.*)novella> ", 20).group(1).decode(errors="replace").replace("\r", "")


def judge(test, name, text, cpus, missing):
    for line in LINES + (re.escape(cpus),):
        if not re.search("(?m)^" + line, text):
            raise Failure("%s: the log that root reads has no line '%s': %r" % (name, line, text))
    said = re.findall(r"(?m)^.*missing:.*$", text)
    forms = [re.fullmatch(r"missing: ([^:]+): \S.*", line) for line in said]
    if not all(forms):
        raise Failure("%s: not of the form 'missing: what: consequence': %r" % (name, said))
    names = [f.group(1) for f in forms]
    if set(names) != missing or len(names) != len(missing):
        raise Failure("%s: missing are %s, but the log says %s" % (name, sorted(missing), sorted(names)))
    test.note("%-8s %s missing: %s" % (name, cpus, ", ".join(sorted(missing))))


def idle(m):
    """Seconds of the host's time that five seconds of an idle machine take."""
    def used():
        with open("/proc/%d/stat" % m.proc.pid) as f:
            return sum(map(int, f.read().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")
    start, end = used(), time.monotonic() + 5
    while time.monotonic() < end:
        m.pump(0.5)
    return used() - start


def run(test):
    conf = config(on_last_exit="stay")
    for name, smp, cpu, devices, cpus, missing in RUNS:
        with Machine(test, conf, cpus=smp, cpu=cpu, mem="512M", modules=SMALL, extra=["-append", "loglevel=0"] + devices, name=name) as m:
            judge(test, name, klog(m), cpus, missing)
            if name == "full":
                seconds = idle(m)
                test.note("idle: 5 s of four processors take %.2f s of the host's" % seconds)
                if seconds > 0.5:
                    raise Failure("an idle machine keeps the emulator busy: %.2f s of 5 s" % seconds)
    # Two processors are there; one that is named has an id that only x2APIC can say.
    files = {"novella.conf": conf.encode(), "madt": madt([0, 1], [0x12345])}
    modules = [(f, f) for f in SMALL + ["madt"]]
    with Bochs(test, "bochs", "corei7_skylake_x", 2, modules, files, options="loglevel=0", first=" acpi --exclude=APIC /madt") as m:
        text = klog(m)
        judge(test, "bochs", text, "cpus: 2 of 3 run; packages 2, cores 2;", {"UMIP", "IOMMU", "1 of 3 processors"})
        if "cpu 2 (APIC id 74565) does not start and is left out" not in text or "x2APIC\n" not in text:
            raise Failure("bochs: nothing about the processor with APIC id 74565, or not x2APIC: %r" % text)
