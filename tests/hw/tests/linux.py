"""The main job: Debian's kernel in a VM, from the GRUB image to its shell and back to power-off."""
import time
from guest import boot_figures, session
from machine import Machine


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
