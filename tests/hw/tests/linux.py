"""The main job: Debian's kernel in a VM, from the GRUB image to its shell and back to power-off."""
import time
from guest import boot_figures, check, exits, session
from machine import Machine

# Exits of the boot and the session that do not depend on time, 5 % above what was measured: 34 CPUIDs of each of 1,000 processes (their C library), two port accesses for each
# byte on the serial line. make bench-guest counts the others, without a clock.
LIMITS = {"cpuid": 37000, "io": 41500, "device": 980, "rdmsr": 138, "memory": 1, "cache": 4, "emulate": 0, "unexpected": 0}


def run(test):
    with Machine(test, boot="iso") as m, test.cell("linux", "QEMU AMD-V") as cell:
        m.expect(r"to the front", 120)
        start = time.monotonic()
        m.expect(r"novella guest ready", 120)
        ready = time.monotonic() - start
        test.note(session(m, 512))
        m.send("poweroff\r")
        m.end(60)
        cell.note(boot_figures(ready, m.dir))
        for reason, most in LIMITS.items():
            seen = int(exits(m.dir).get(reason, 0))
            check(seen <= most, "%d exits by %s, more than %d" % (seen, reason, most))
