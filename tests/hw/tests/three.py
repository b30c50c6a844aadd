"""Three VMs on three CPUs, independent of each other: one VMM is crashed, the others go on and power off."""
import re
from machine import Failure, Machine, config, vm_section


def run(test):
    vms = [vm_section(n, cpu=i, console=i, autostart="yes") for i, n in enumerate("abc", 1)]
    with Machine(test, config(*vms), mem="2G") as m:
        m.expect(r"novella> ", 60)
        for n in (1, 2, 3):
            m.console(n)
            m.expect(r"novella guest ready", 180)
            m.expect(r"guest# ", 30)
        m.console(0)
        m.command_output("top", r"novella> ", 10)
        m.send("top\r")
        text = m.expect(r"(?s)SECONDS.*?novella> ", 10).group().decode()
        cpus = {}
        for cpu, seconds, name in re.findall(r"(\d+)\s+([\d.]+)\s+[\d.]+%\s+([abc]) vcpu", text):
            cpus[name] = (int(cpu), float(seconds))
        if sorted(c for c, _ in cpus.values()) != [1, 2, 3] or min(s for _, s in cpus.values()) <= 0.5:
            raise Failure("vCPU time per CPU is not one VM on each of CPUs 1 to 3: %s" % text)
        test.note("vCPU seconds: %s" % ", ".join("%s on CPU %d %.1f" % (n, c, s) for n, (c, s) in sorted(cpus.items())))
        m.send("vm crash b\r")
        m.expect(r"vm b: .*divide|b: .*divide|divide", 20)
        for n in (1, 3):
            m.console(n)
            m.send("echo alive-$((40+2))\r")
            m.expect(r"alive-42", 30)
        m.console(1)
        m.send("poweroff\r")
        m.console(3)
        m.send("echo still-$((40+2))\r")
        m.expect(r"still-42", 30)
        m.send("poweroff\r")
        m.end(60)
