"""Debian's kernel in a VM under mitigations=force on QEMU (AMD-V): to its shell and back to power-off, as in TEST=linux."""
from guest import session
from machine import Machine, config, vm_section


def run(test):
    conf = config(vm_section("linux", memory="512M", autostart="yes", console=1))
    with Machine(test, conf, extra=["-append", "mitigations=force"]) as m, test.cell("linux", "QEMU AMD-V, force"):
        m.expect(r"mitigations: force; isolation retpolines RSB VERW eager-FPU", 60)
        m.expect(r"novella guest ready", 120)
        test.note(session(m, 512))
        m.send("poweroff\r")
        m.end(60)
