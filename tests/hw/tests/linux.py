"""The main job: Debian's kernel in a VM, from the GRUB image to its shell and back to power-off."""
from guest import session
from machine import Machine


def run(test):
    with Machine(test, boot="iso") as m:
        m.expect(r"novella guest ready", 120)
        test.note(session(m, 512))
        m.send("poweroff\r")
        m.end(60)
