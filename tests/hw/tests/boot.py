"""GRUB image and -kernel both reach root's report and the control shell; poweroff and reboot end the machine."""
from machine import Machine, config


def run(test):
    for how in ("kernel", "iso"):
        with Machine(test, config(on_last_exit="stay") if how == "kernel" else None, boot=how, mem="1G", name=how) as m:
            m.expect(r"cpus: 4 of 4 run", 60)
            m.expect(r"root: 4 processors", 30)
            if how == "kernel":
                m.expect(r"novella> ", 30)
                m.command_output("mem", r"kernel: \d+ of \d+ pages free", 10)
                m.command_output("klog", r"cpus: 4 of 4 run.*\n", 10)
                m.send("poweroff\r")
                m.end(20)
