"""make bench-guest: Linux from its kernel's entry to its shell, and three workloads there, as a guest and directly on the same emulator: instructions, exits by reason."""
import bisect
import collections
import hashlib
import os
import re
import shutil
import subprocess
import sys

import machine

# Name, what it is, the marks of the plugin (tests/bench/guest/work.sh) between which it runs; mark 0 is the kernel's entry.
WORK = [("boot", "kernel entry to shell", 0, 1), ("procs", "1,000 process starts", 2, 3), ("sha256", "SHA-256 of 64 MiB", 4, 5), ("pipe", "10,000 pipe round trips", 6, 7)]
ENTRY = 0x1000000  # of the kernel's ELF image, physical
CMDLINE = "console=ttyS0 rdinit=/init ENV=/etc/work.sh"
# The machine without us has what the guest sees: nothing that the VMM hides (userland/vmm/cpuid.c).
DIRECT_CPU = "max,la57=off,pku=off,svm=off,xlevel=0x80000008"
HERE = os.path.dirname(os.path.abspath(__file__))


def die(text):
    sys.exit("bench: " + text)


class Image:
    """An ELF file: its functions, and the bytes at an address."""

    def __init__(self, path):
        self.name = os.path.basename(path)[:-4]
        symbols = sorted((int(m[1], 16), m[2]) for m in re.finditer(r"^([0-9a-f]+) [tTwW] (\S+)$", self.output("nm", path), re.M))
        self.starts, self.names = [s[0] for s in symbols], [s[1] for s in symbols]
        self.segments = [[int(x, 16) for x in m.groups()] for m in re.finditer(r"^ +LOAD +(\S+) (\S+) \S+ (\S+)", self.output("readelf", "-lW", path), re.M)]
        with open(path, "rb") as f:
            self.data = f.read()

    @staticmethod
    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def bytes(self, address, count):
        for offset, start, size in self.segments:
            if start <= address < start + size:
                return self.data[offset + address - start:][:count]
        return b""

    def function(self, address):
        return self.names[bisect.bisect_right(self.starts, address) - 1]


class Run:
    """Marks of one run, and what is left of its text."""

    def __init__(self, text, path):
        self.text, self.marks, self.total, self.ran = text, [], None, []
        digest = hashlib.sha256(bytes(64 << 20)).hexdigest()
        for wanted in ("novella guest ready", digest, "work times: done", "work pipe: done"):
            if wanted not in text:
                die("no '%s' from the guest: ...%s" % (wanted, text[-600:]))
        with open(path) as f:
            for line in f:
                kind, *fields = line.split()
                if kind in ("at", "end"):
                    numbers = collections.Counter(dict(zip(("guest", "kernel", "components", "exits"), map(int, fields))))
                    numbers.update({k: int(v) for k, v in (x.split("=") for x in fields[4:])})
                    self.marks.append(numbers) if kind == "at" else setattr(self, "total", numbers)
                elif kind == "ran":
                    self.ran.append((int(fields[0], 16), bytes.fromhex(fields[1]), int(fields[2])))
        if len(self.marks) != 1 + max(w[3] for w in WORK):
            die("%d marks" % len(self.marks))

    def between(self, first, last):
        found = collections.Counter(self.marks[last])
        found.subtract(self.marks[first])
        return found


def directly(qemu, work, build):
    out = os.path.join(work, "direct.out")
    text = qemu("-nodefaults", "-seed", "1", "-cpu", DIRECT_CPU, "-m", "512M", "-kernel", os.path.join(build, "guest", "vmlinux"), "-initrd", os.path.join(work, "initrd"),
                "-append", CMDLINE, "-plugin", "%s,out=%s,start=%#x" % (os.path.join(work, "count.so"), out, ENTRY))
    return Run(text, out)


def as_guest(qemu, work, build, mitigations, *options):
    directory, out = os.path.join(os.path.abspath(work), "guest"), os.path.join(work, "guest.out")
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(os.path.join(directory, "guest"))
    modules = ["root.elf", "novella.conf", "console.elf", "vmm.elf", "guest/vmlinux", "guest/initrd"]
    files = {m: os.path.join(build, "boot", m) for m in modules}
    files["guest/initrd"], files["novella32.elf"] = os.path.join(work, "initrd"), os.path.join(build, "boot", "novella32.elf")
    for name, path in files.items():
        if name != "novella.conf":
            os.symlink(os.path.abspath(path), os.path.join(directory, name))
    with open(os.path.join(directory, "novella.conf"), "w") as f:
        f.write(machine.config(machine.vm_section("linux", cmdline=CMDLINE, memory="512M", cpu=0, console=1, autostart="yes")))
    vmm = Image(os.path.join(directory, "vmm.elf"))
    watches = ["watch=%s:%x:%s" % (n[5:], a, vmm.bytes(a, 16).hex()) for a, n in zip(vmm.starts, vmm.names) if re.fullmatch("exit_[a-z]+", n)]
    text = qemu("-nodefaults", "-seed", "1", "-cpu", "max", "-m", "2G", "-kernel", "novella32.elf", "-append", "mitigations=" + mitigations, "-initrd", ",".join(modules), "-plugin",
                ",".join(["%s,out=%s,start=%#x" % (os.path.abspath(os.path.join(work, "count.so")), os.path.abspath(out), ENTRY), *watches, *options]), cwd=directory)
    return Run(text, out)


def reasons(counted):
    """Exits by reason, most frequent first; those that the kernel handled itself are "kernel"."""
    of = {k: v for k, v in counted.items() if k not in ("guest", "kernel", "components", "exits") and v}
    of["kernel"] = counted["exits"] - sum(of.values())
    return dict(sorted(of.items(), key=lambda e: -e[1]))


def executed(counted):
    return counted["guest"] + counted["kernel"] + counted["components"]


def budgets():
    """Workload -> (ratio, reason -> exits)."""
    found = {}
    with open(os.path.join(HERE, "guest", "budgets")) as f:
        for line in f:
            if not line.startswith("#") and line.strip():
                name, ratio, limits = [field.strip() for field in line.split("|")]
                words = limits.split()
                found[name] = float(ratio), dict(zip(words[::2], map(int, words[1::2])))
    return found


def table(qemu, work, build):
    direct, off, force = directly(qemu, work, build), as_guest(qemu, work, build, "off"), as_guest(qemu, work, build, "force")
    print("Debian's kernel as a guest and directly on QEMU, one CPU; millions of instructions outside HLT (own: the guest's; mitigations=off, but the last column)\n")
    print("%-24s %8s %8s %8s %6s %6s %6s %6s  %7s %7s %7s" % ("", "direct", "guest", "own", "kernel", "comp.", "ratio", "budget", "exits", "per 1e9", "force"))
    bad, lines = [], []
    for name, what, first, last in WORK:
        ours, without = off.between(first, last), executed(direct.between(first, last))
        ratio, forced = executed(ours) / without, executed(force.between(first, last)) / without
        limit, exits = budgets()[name]
        print("%-24s %8.1f %8.1f %8.1f %6.1f %6.1f %6.3f %6.2f  %7d %7d %7.3f" % (what, without / 1e6, executed(ours) / 1e6, ours["guest"] / 1e6, ours["kernel"] / 1e6, ours["components"] / 1e6,
                                                                                ratio, limit, ours["exits"], ours["exits"] * 1e9 / executed(ours), forced))
        lines.append("%-24s %s" % (what, ", ".join("%s %d" % e for e in reasons(ours).items())))
        bad += ["%s: ratio %.3f" % (what, ratio)] if ratio > limit else []
        bad += ["%s: %d exits by %s, not more than %d" % (what, n, r, exits.get(r, 0)) for r, n in reasons(ours).items() if n > exits.get(r, 0)]
    print("\nexits by reason (kernel: handled there)\n" + "\n".join(lines))
    told, seen = re.search(r"exits total (\d+)", off.text), sum(v for k, v in reasons(off.total).items() if k != "kernel")
    if not told or int(told[1]) != seen:
        bad.append("the VMM counted %s exits, the plugin %d" % (told and told[1], seen))
    print("\n" + ("\n".join("OVER: " + b for b in bad) if bad else "all within their budgets (tests/bench/guest/budgets)"))
    return bool(bad)


def profile(qemu, work, build, name):
    first, last = next(((w[2], w[3]) for w in WORK if w[0] == name), None) or die("no workload '%s'; there are: %s" % (name, " ".join(w[0] for w in WORK)))
    run = as_guest(qemu, work, build, "off", "profile=%d" % first)
    images = [Image(os.path.join(build, "boot", f + ".elf")) for f in ("novella", "vmm", "console", "root")]
    by, exits = collections.Counter(), run.between(first, last)["exits"]
    for address, code, count in run.ran:  # components share addresses: the bytes tell (those of the kernel may have been patched)
        image = next((i for i in images if i.bytes(address, 1) and (address >> 63 or code.rstrip(b"\0").startswith(i.bytes(address, 1)) and i.bytes(address, 4).startswith(code.rstrip(b"\0")))), None)
        by["%s %s" % (image.name, image.function(address)) if image else "?"] += count
    print("%s: %d instructions of kernel and components, %d exits\n%12s %9s" % (name, sum(by.values()), exits, "", "per exit"))
    for function, n in by.most_common(60):
        print("%12d %9.1f  %s" % (n, n / exits, function))
    return 0
