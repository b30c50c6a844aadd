"""From VM start to the guest's shell against the same kernel and initramfs directly on the emulator; exits per reason."""
import os
import statistics
import time
from guest import exits
from machine import Failure, Machine, config, vm_section

CMDLINE = "console=ttyS0 earlyprintk=serial rdinit=/init"
ROUNDS = 3
ALONE = True
LIMITS = {"guest/vmlinux": 3.0, "guest/bzImage": 6.0}


def direct(test):
    guest = os.path.join(test.build, "guest")
    with Machine(test, boot=("-kernel", guest + "/bzImage", "-initrd", guest + "/initrd", "-append", CMDLINE), cpus=1, mem="512M", name="direct") as m:
        m.expect(r"Linux version", 60)  # the first thing that the unpacked kernel does
        start = time.monotonic()
        m.expect(r"novella guest ready", 60)
        return time.monotonic() - start


def virtual(test, kernel):
    vm = vm_section("linux", kernel=kernel, cmdline=CMDLINE, memory="512M", cpu=1, console=1, autostart="no")
    with Machine(test, config(vm), cpus=2, name=kernel.split("/")[1]) as m:
        m.expect(r"novella> ", 60)
        m.send("vm start linux\r")
        start = time.monotonic()
        m.console(1)
        m.expect(r"novella guest ready", 180)
        seconds = time.monotonic() - start
        m.expect(r"guest# ", 30)
        m.send("poweroff\r")
        m.end(60)
        return seconds, exits(m.dir)


def run(test):
    base = statistics.median(direct(test) for _ in range(ROUNDS))
    slow = []
    for kernel, limit in LIMITS.items():
        runs = sorted(virtual(test, kernel) for _ in range(ROUNDS))
        seconds, counts = runs[ROUNDS // 2]
        test.note("%-14s VM start to shell %.2f s, directly from kernel entry %.2f s: %.2f times (limit %.0f)" % (kernel, seconds, base, seconds / base, limit))
        test.note("  exits: %s" % ", ".join("%s %s" % e for e in counts.items()))
        if seconds / base > limit:
            slow.append("%s %.2f times" % (kernel, seconds / base))
        if not counts:
            raise Failure("the VMM printed no exit counts")
    if slow:
        raise Failure("too slow: " + ", ".join(slow))
