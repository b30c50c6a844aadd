"""The interface suite in Bochs: VT-x on 4 CPUs and 1, and AMD-V with next RIP and flush by ASID, which QEMU lacks. Bochs has no PCI Express, so the
case that needs a page of configuration space fails there, and no other may. Any guest state is tried on VT-x only: with AMD-V Bochs 2.7 delivers the
page fault of an injected event's vector to the host, in the middle of VMRUN."""
import os
import re
import shutil
import subprocess
import time
from machine import Failure

LIMIT = 600
PACKAGES = {"bochs": "/usr/bin/bochs", "bochsbios": "/usr/share/bochs/BIOS-bochs-latest", "vgabios": "/usr/share/vgabios/vgabios.bin"}
# name, model, CPUs, at least so many cases, what the kernel must say, options of the suite
RUNS = [("vtx4", "corei7_skylake_x", 4, 185, "vcpu: VT-x", ""), ("vtx1", "corei7_haswell_4770", 1, 170, "vcpu: VT-x", ""),
        ("amdv2", "ryzen", 2, 185, "vcpu: AMD-V, nested paging, [0-9]+ ASIDs, next RIP, flush by ASID", "skip=entry_any_state")]
IMPOSSIBLE = {"assign_gsi_success_msi"}
CONFIG = """display_library: rfb, options="timeout=0"
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/vgabios/vgabios.bin
megs: 512
cpu: model=%(model)s, count=%(cpus)d, ips=50000000, reset_on_triple_fault=0
clock: sync=none, time0=utc
pci: enabled=1, chipset=i440fx
ata0: enabled=1
ata0-master: type=cdrom, path=image.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=serial.log
log: bochs.log
panic: action=fatal
error: action=report
speaker: enabled=0, mode=none
sound: driver=dummy
"""


def image(test, path, options):
    """A GRUB image whose root task is the suite."""
    tree = os.path.join(os.path.dirname(path), "tree")
    os.makedirs(os.path.join(tree, "boot/grub"))
    for name in ("novella.elf", "abi.elf"):
        shutil.copy(os.path.join(test.build, "boot", name), tree)
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as f:
        f.write("set timeout=0\nmenuentry Novella {\n multiboot2 /novella.elf\n set gfxpayload=text\n"
                " module2 /abi.elf abi.elf rounds=50 %s\n}\n" % options)
    made = subprocess.run(["grub-mkrescue", "-o", path, tree], capture_output=True, text=True)
    if made.returncode:
        raise Failure("grub-mkrescue: " + made.stderr[-300:])


def serial(directory):
    try:
        with open(os.path.join(directory, "serial.log"), errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def one(test, name, model, cpus, least, says, options):
    directory = os.path.join(test.dir, name)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    image(test, os.path.join(directory, "image.iso"), options)
    for file, text in (("bochsrc", CONFIG % {"model": model, "cpus": cpus}), ("commands", "c\n"),
                       ("command", "cd %s && bochs -q -f bochsrc -rc commands\n" % directory)):
        with open(os.path.join(directory, file), "w") as f:
            f.write(text)
    end, found = time.monotonic() + 200, None
    with open(os.path.join(directory, "stdout"), "wb") as out:  # its debugger reads the commands, then nothing more
        bochs = subprocess.Popen(["bochs", "-q", "-f", "bochsrc", "-rc", "commands"], cwd=directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        while not found:
            text = serial(directory)
            found = re.search(r"abi: (\d+) passed, (\d+) failed", text)
            if "KERNEL PANIC" in text:
                raise Failure("%s: the kernel panics" % name)
            if not found and (bochs.poll() is not None or time.monotonic() > end):
                raise Failure("%s: no verdict; last: %r" % (name, text[-200:]))
            time.sleep(0.5)
    finally:
        bochs.kill()  # neither ACPI nor the keyboard controller ends it
        bochs.wait()
    bad = set(re.findall(r"not ok \d+ - (\w+)", text))
    test.note("%s: %s cases passed%s" % (name, found.group(1), ", not possible here: " + " ".join(bad & IMPOSSIBLE) if bad & IMPOSSIBLE else ""))
    if bad - IMPOSSIBLE or int(found.group(2)) != len(bad) or int(found.group(1)) < least:
        raise Failure("%s: %s" % (name, found.group()))
    if options:
        test.note("%s: %s: not on this machine, the emulator does not survive it" % (name, options))
    if not re.search(says, text) or not re.search(r"ok \d+ - vcpu_exit_hlt", text):
        raise Failure("%s: not the processor that was asked for" % name)


def run(test):
    missing = [p for p, path in PACKAGES.items() if not os.path.exists(path)]
    if missing:
        raise Failure("not installed: apt-get install " + " ".join(missing))
    for r in RUNS:
        one(test, *r)
