"""Guests of the machine tests: what is checked at the shell of one with Debian's kernel, and guests of one page."""
import hashlib
import os
import re
import struct
import subprocess
import time
from machine import Failure


def shell(m, text, pattern, timeout=30):
    return m.command_output(text, pattern, timeout)


def check(ok, what):
    if not ok:
        raise Failure(what)


def session(m, memory_mib, lines=200000, processes=1000, same_clock=True, cpus=1):
    """Everything that is checked at the guest's shell; leaves it at the prompt. Lines that are hashed, processes that are started: how much
    work the machine can do in the time. same_clock: the machine's time is ours."""
    m.expect(r"guest# ", 30)
    shell(m, "uname -a", r"Linux \S+ 6\.1\.\S+-amd64 .*x86_64 GNU/Linux")
    total = int(shell(m, "grep MemTotal /proc/meminfo", r"MemTotal: +(\d+) kB").group(1))
    check(memory_mib * 1024 * 0.8 < total <= memory_mib * 1024, "MemTotal %d kB of %d MiB" % (total, memory_mib))
    flags = shell(m, "grep -m1 ^flags /proc/cpuinfo", r"flags\s*: ([a-z0-9_ ]+)\r?\n").group(1).decode().split()
    for flag in ("lm", "nx", "sse2", "syscall", "hypervisor", "apic"):
        check(flag in flags, "CPU flag %s is missing" % flag)
    for flag in ("svm", "vmx"):
        check(flag not in flags, "the guest sees %s, which it cannot use" % flag)
    count = int(shell(m, "grep -c ^processor /proc/cpuinfo", r"(\d+)\r?\n").group(1))
    check(count == cpus, "the guest has %d CPUs, not %d" % (count, cpus))
    digest = hashlib.sha256("".join("%d\n" % i for i in range(1, lines + 1)).encode()).hexdigest()
    got = shell(m, "seq 1 %d | sha256sum" % lines, r"([0-9a-f]{64})", 60).group(1).decode()
    check(got == digest, "SHA-256 of generated data is %s, not %s" % (got, digest))
    m.send("cat /proc/uptime; sleep 5; cat /proc/uptime\r")
    first = float(m.expect(r"\n(\d+\.\d+) \d+\.\d+").group(1))
    start = time.monotonic()
    second = float(m.expect(r"\n(\d+\.\d+) \d+\.\d+").group(1))
    host, guest = time.monotonic() - start, second - first
    check(abs((host if same_clock else 5) - guest) < 0.25, "5 s sleep: guest clock %.2f s, host clock %.2f s" % (guest, host))
    shell(m, "i=0; while [ $i -lt %d ]; do /bin/busybox true; i=$((i+1)); done; echo loop-$i" % processes, r"loop-%d" % processes, 120)
    started = int(shell(m, "grep processes /proc/stat", r"processes (\d+)\r?\n").group(1))
    check(started >= processes, "only %d processes were started" % started)
    return "clock: guest %.2f s, host %.2f s; %d processes" % (guest, host, started)


# Options of the interface suite: 1,000 guest states, 20 in a round.
FUZZ = "only=entry_any_state rounds=50 seed=%d" % int(os.environ.get("SEED") or 1)


def fuzzed(text, test):
    """What the suite said about them: states, those refused, seed."""
    counts = dict(re.findall(r"# entry_any_state: (\w+) (\d+)", text))
    states, refused = int(counts.get("states", 0)), int(counts.get("refused", 0))
    check(states >= 1000 and 0 < refused < states, "entry states: %r" % counts)
    return "%d states, %d of them refused; again: make check-hw TEST=%s SEED=%s" % (states, refused, test.name, counts["seed"])


def exits(directory):
    """What the VMM counted: reason -> number."""
    with open(directory + "/serial.log", errors="replace") as f:
        return dict(re.findall(r"exits (\w+) (\d+)", f.read()))


def boot_figures(seconds, directory):
    """For the matrix: from the VM's start to its shell, and why it left its vCPUs, most frequent reason first, to the end of the session."""
    counts = sorted(exits(directory).items(), key=lambda e: -int(e[1]))
    check(counts, "the VMM printed no exit counts")
    return "shell %.1f s after the VM's start; exits: %s" % (seconds, ", ".join("%s %s" % e for e in counts))


def tiny_elf(code):
    """A 64-bit ELF kernel of one page at 16 MiB that is nothing but `code`."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return (header + struct.pack("<IIQQQQQQ", 1, 7, 4096, 0x1000000, 0x1000000, 4096, 4096, 4096)).ljust(4096, b"\0") + code.ljust(4096, b"\xf4")


# Guests that end themselves: code, and what root says about it.
HOSTILE = {
    "triple": (b"\x0f\x0b", r"triple fault"),
    "nowhere": (b"\x48\xb8" + struct.pack("<Q", 0x123456789000) + b"\xff\xe0", r"triple fault"),
    "missing": (b"\x48\xb8" + struct.pack("<Q", 0x20000000) + b"\x8b\x00", r"[^\n]*neither memory nor a device"),
}


def assembled(source, directory):
    """tests/hw/SOURCE as such an ELF."""
    path = os.path.join(directory, source)
    os.makedirs(directory, exist_ok=True)
    subprocess.run(["gcc", "-c", os.path.join(os.path.dirname(__file__), source), "-o", path + ".o"], check=True)
    subprocess.run(["ld", "-Ttext", "0x1000000", "--oformat", "binary", path + ".o", "-o", path + ".bin"], check=True)
    with open(path + ".bin", "rb") as f:
        return tiny_elf(f.read())
