"""mitigations=force in Bochs: the interface suite on VT-x and AMD-V and 1,000 guest states on VT-x, then Debian's kernel on VT-x to its shell."""
import time
from bochs_machine import Bochs
from machine import config, vm_section
from other import load

LIMIT = 600
LANE = "bochs"
bochs = load("bochs")


def linux(test):
    kernel = "guest/bzImage"
    vm = vm_section("linux", kernel=kernel, cmdline="console=ttyS0 quiet rdinit=/init cryptomgr.notests", memory="256M", cpu=0, console=1, autostart="yes")
    files = ["root.elf", "novella.conf", "console.elf", "vmm.elf", kernel, "guest/initrd"]
    with Bochs(test, "linux", "corei7_skylake_x", 1, [(f, f) for f in files], {"novella.conf": config(vm).encode()}, options="mitigations=force") as m, test.cell("linux", "Bochs VT-x, force"):
        m.expect("mitigations: force; isolation retpolines RSB VERW eager-FPU", 60)
        start = time.monotonic()
        m.expect(r"novella guest ready, up ([\d.]+) s", 300)
        test.note("linux on VT-x: VM start to shell %.0f s" % (time.monotonic() - start))
        m.expect(r"guest# ", 30)
        m.send("poweroff\r")
        m.expect(r"vm linux: ended \(powered off\)", 60)


def run(test):
    for name, column, row, *rest in bochs.RUNS[0], bochs.RUNS[1], bochs.RUNS[3]:
        bochs.one(test, name, column, row.split(",")[0] + ", force", *rest, kernel="mitigations=force")
    linux(test)
