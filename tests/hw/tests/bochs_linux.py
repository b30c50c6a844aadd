"""Debian's kernel as a guest in Bochs: VT-x with one CPU and with two, AMD-V with next RIP; to its shell and to power-off, time and exits per reason."""
import time
from bochs_machine import Bochs
from guest import boot_figures, session
from machine import config, vm_section

LIMIT = 360
LANE = "bochs"
# name, row of the matrix, model, CPUs of the machine and of the guest, what is added to the command line: the self-tests of the cryptographic functions are half of
# the boot, once is enough
RUNS = [("vtx1", "Bochs VT-x", "corei7_skylake_x", 1, ""),
        ("vtx2", "Bochs VT-x", "corei7_haswell_4770", 2, " cryptomgr.notests"),
        ("amdv1", "Bochs AMD-V, next RIP", "ryzen", 1, " cryptomgr.notests")]
KERNEL = "guest/bzImage"  # a quarter of the ELF kernel's size: GRUB reads from an emulated CD


def one(test, name, row, model, cpus, more):
    vm = vm_section("linux", kernel=KERNEL, cmdline="console=ttyS0 quiet rdinit=/init" + more, memory="256M", cpu=0, cpus=cpus, console=1, autostart="yes")
    files = ["root.elf", "novella.conf", "console.elf", "vmm.elf", KERNEL, "guest/initrd"]
    with Bochs(test, name, model, cpus, [(f, f) for f in files], {"novella.conf": config(vm).encode()}) as m:
        m.expect("vcpu: AMD-V" if model == "ryzen" else "vcpu: VT-x", 60)
        with test.cell("boots", row):
            m.expect(r"root: %d processors" % cpus, 60)
        with test.cell("linux", row) as cell:
            m.expect(r"to the front", 60)
            start = time.monotonic()
            m.expect(r"novella guest ready, up ([\d.]+) s", 240)
            ready = time.monotonic() - start
            checked = session(m, 256, lines=20000, processes=50, same_clock=False, cpus=cpus)
            m.send("poweroff\r")
            m.expect(r"vm linux: ended \(powered off\)", 60)
            m.expect(r"powering off", 20)  # what the machine then does not do
            test.note("%s: %s" % (name, checked))
            cell.note("%s: %s" % (name, boot_figures(ready, m.dir)))


def run(test):
    for r in RUNS:
        one(test, *r)
