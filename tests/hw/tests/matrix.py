"""1, 2 and 4 host CPUs, 512 MiB to 8 GiB of host memory, guests of 128 MiB to 6 GiB; 64 MiB gives one clear line."""
from machine import Failure, Machine, config, vm_section


def run(test):
    for cpus, mem, guest, mib in ((1, "512M", "128M", 128), (2, "1G", "512M", 512), (4, "2G", "1G", 1024), (4, "8G", "6G", 6144)):
        vm = vm_section("linux", memory=guest, cpu=min(1, cpus - 1), autostart="yes", console=1)
        with Machine(test, config(vm), cpus=cpus, mem=mem, name="%d-%s-%s" % (cpus, mem, guest)) as m:
            m.expect(r"novella guest ready", 180)
            m.expect(r"guest# ", 30)
            total = int(m.command_output("grep MemTotal /proc/meminfo", r"MemTotal: +(\d+) kB", 30).group(1))
            if not mib * 1024 * 0.5 < total <= mib * 1024:
                raise Failure("%s of guest memory: the guest sees %d kB" % (guest, total))
            m.send("poweroff\r")
            m.end(60)
            test.note("%d host CPUs, %s: guest of %s sees %d kB" % (cpus, mem, guest, total))
    vm = vm_section("small", memory="64M", autostart="yes")
    with Machine(test, config(vm, on_last_exit="stay"), mem="1G", name="64M") as m:
        line = m.expect(r"[^\n]*small[^\n]*(need|at least)[^\n]*\d+ MiB[^\n]*", 60).group().decode().strip()
        test.note(line)
        m.expect(r"novella> ", 30)
