#!/usr/bin/env python3
"""baseline.py BUILD KERNEL...: the guest's kernel and initramfs directly on QEMU, seconds from kernel entry to its shell."""
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from machine import Machine  # noqa: E402

CMDLINE = "console=ttyS0 rdinit=/init"
ROUNDS = 3


class Place:
    """What Machine wants of a test: where things are."""

    def __init__(self, build):
        self.build = os.path.abspath(build)
        self.dir = os.path.join(self.build, "hw-tests", "baseline")


def once(place, kernel):
    guest = os.path.join(place.build, "guest")
    boot = ("-kernel", os.path.join(guest, kernel), "-initrd", guest + "/initrd", "-append", CMDLINE)
    # SeaBIOS says on its debug port when it jumps to the kernel loader: that is the kernel's entry, give or take the loading.
    debug = ("-chardev", "file,id=bios,path=bios.log", "-device", "isa-debugcon,iobase=0x402,chardev=bios")
    with Machine(place, boot=boot, cpus=1, mem="512M", name=kernel, extra=debug) as m:
        bios = os.path.join(m.dir, "bios.log")
        limit = time.monotonic() + 30
        while not (os.path.exists(bios) and b"Booting from ROM" in open(bios, "rb").read()) and time.monotonic() < limit:
            m.pump(0.005)
        start = time.monotonic()
        m.expect(r"novella guest ready", 120)
        seconds = time.monotonic() - start
        m.expect(r"guest# ", 30)
        m.send("poweroff\r")
        m.end(30)
        return seconds


def main():
    place = Place(sys.argv[1])
    for kernel in sys.argv[2:]:
        times = sorted(once(place, kernel) for _ in range(ROUNDS))
        print("%-8s kernel entry to shell: %s s, median %.2f s" % (kernel, " ".join("%.2f" % t for t in times), statistics.median(times)))


main()
