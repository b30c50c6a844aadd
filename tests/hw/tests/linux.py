"""The main job: Debian's kernel in a VM, from the GRUB image to its shell and back to power-off."""
import hashlib
import time
from machine import Failure, Machine


def shell(m, text, pattern, timeout=30):
    return m.command_output(text, pattern, timeout)


def check(ok, what):
    if not ok:
        raise Failure(what)


def session(m, memory_mib):
    """Everything that is checked at the guest's shell; leaves it at the prompt."""
    m.expect(r"novella guest ready", 120)
    m.expect(r"guest# ", 30)
    shell(m, "uname -a", r"Linux \S+ 6\.1\.\S+-amd64 .*x86_64 GNU/Linux")
    total = int(shell(m, "grep MemTotal /proc/meminfo", r"MemTotal: +(\d+) kB").group(1))
    check(memory_mib * 1024 * 0.8 < total <= memory_mib * 1024, "MemTotal %d kB of %d MiB" % (total, memory_mib))
    flags = shell(m, "grep -m1 ^flags /proc/cpuinfo", r"flags\s*: ([a-z0-9_ ]+)\r?\n").group(1).decode().split()
    for flag in ("lm", "nx", "sse2", "syscall", "hypervisor", "apic"):
        check(flag in flags, "CPU flag %s is missing" % flag)
    check("svm" not in flags, "the guest sees svm, which it cannot use")
    digest = hashlib.sha256("".join("%d\n" % i for i in range(1, 200001)).encode()).hexdigest()
    got = shell(m, "seq 1 200000 | sha256sum", r"([0-9a-f]{64})", 60).group(1).decode()
    check(got == digest, "SHA-256 of generated data is %s, not %s" % (got, digest))
    m.send("cat /proc/uptime; sleep 5; cat /proc/uptime\r")
    first = float(m.expect(r"\n(\d+\.\d+) \d+\.\d+").group(1))
    start = time.monotonic()
    second = float(m.expect(r"\n(\d+\.\d+) \d+\.\d+").group(1))
    host, guest = time.monotonic() - start, second - first
    check(abs(host - guest) < 0.25, "5 s sleep: guest clock %.2f s, host clock %.2f s" % (guest, host))
    shell(m, "i=0; while [ $i -lt 1000 ]; do /bin/busybox true; i=$((i+1)); done; echo loop-$i", r"loop-1000", 120)
    started = int(shell(m, "grep processes /proc/stat", r"processes (\d+)\r?\n").group(1))
    check(started >= 1000, "only %d processes were started" % started)
    return "clock: guest %.2f s, host %.2f s; %d processes" % (guest, host, started)


def run(test):
    with Machine(test, boot="iso") as m:
        test.note(session(m, 512))
        m.send("poweroff\r")
        m.end(60)
