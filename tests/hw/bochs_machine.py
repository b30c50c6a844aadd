"""One machine in Bochs: its serial line is a socket that we listen at, its image a GRUB tree made here."""
import os
import shutil
import socket
import struct
import subprocess
import time
from machine import Failure, Machine

PACKAGES = {"bochs": "/usr/bin/bochs", "bochsbios": "/usr/share/bochs/BIOS-bochs-latest", "vgabios": "/usr/share/vgabios/vgabios.bin"}
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
com1: enabled=1, mode=socket-client, dev=localhost:%(port)d
log: bochs.log
panic: action=fatal
error: action=report
speaker: enabled=0, mode=none
sound: driver=dummy
"""


def madt(ids, x2apic_ids=()):
    """A table that names processors with these APIC ids, and the I/O APIC where QEMU and Bochs have it; for GRUB's `acpi --exclude=APIC`. ACPI 6.5, 5.2.12."""
    entries = b"".join(struct.pack("<BBBBI", 0, 8, n, i, 1) for n, i in enumerate(ids))
    entries += b"".join(struct.pack("<BBHIII", 9, 16, 0, i, 1, len(ids) + n) for n, i in enumerate(x2apic_ids))
    entries += struct.pack("<BBBBII", 1, 12, 0, 0, 0xfec00000, 0) + struct.pack("<BBBBIH", 2, 10, 0, 0, 2, 0)
    body = struct.pack("<4sIBB6s8sI4sI", b"APIC", 44 + len(entries), 3, 0, b"TEST  ", b"MADT    ", 1, b"TEST", 1) + struct.pack("<II", 0xfee00000, 1) + entries
    return body[:9] + bytes([-sum(body) & 255]) + body[10:]


def image(path, boot_dir, modules, files, first="", options=""):
    """A GRUB image of novella.elf and modules: (name in files or boot_dir, command line). `first`: a command before them; options: the kernel's."""
    tree = os.path.join(os.path.dirname(path), "tree")
    os.makedirs(os.path.join(tree, "boot/grub"))
    shutil.copy(os.path.join(boot_dir, "novella.elf"), tree)
    lines = [first, " multiboot2 /novella.elf " + options, " set gfxpayload=text"]  # docs/boot.md
    for name, line in modules:
        os.makedirs(os.path.dirname(os.path.join(tree, name)), exist_ok=True)
        if name in files:
            with open(os.path.join(tree, name), "wb") as f:
                f.write(files[name])
        else:
            shutil.copy(os.path.join(boot_dir, name), os.path.join(tree, name))
        lines.append(" module2 /%s %s" % (name, line))
    with open(os.path.join(tree, "boot/grub/grub.cfg"), "w") as f:
        f.write("set timeout=0\nmenuentry Novella {\n%s\n}\n" % "\n".join(lines))
    made = subprocess.run(["grub-mkrescue", "-o", path, tree], capture_output=True, text=True)
    if made.returncode:
        raise Failure("grub-mkrescue: " + made.stderr[-300:])
    shutil.rmtree(tree)


class Bochs(Machine):
    """with Bochs(...) as m: as with Machine. Neither ACPI nor a reset ends it: the test does."""
    patience = 3  # it shares two cores with QEMU's tests and is itself slow; what is measured in it is its own time

    def __init__(self, test, name, model, cpus, modules, files=None, config="", commands="c\n", **image_options):
        missing = [p for p, path in PACKAGES.items() if not os.path.exists(path)]
        if missing:
            raise Failure("not installed: apt-get install " + " ".join(missing))
        self.dir = os.path.join(test.dir, name)
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        image(os.path.join(self.dir, "image.iso"), os.path.join(test.build, "boot"), modules, files or {}, **image_options)
        self.buffer, self.log, self.proc = b"", open(os.path.join(self.dir, "serial.log"), "wb"), None
        self.listener = socket.create_server(("localhost", 0))
        port = self.listener.getsockname()[1]
        command = ["bochs", "-q", "-f", "bochsrc", "-rc", "commands"]  # its debugger reads the commands, then nothing more
        again = "cd %s && (nc -l %d &) && %s\n" % (self.dir, port, " ".join(command))
        for file, text in (("bochsrc", CONFIG % {"model": model, "cpus": cpus, "port": port} + config), ("commands", commands), ("command", again)):
            with open(os.path.join(self.dir, file), "w") as f:
                f.write(text)
        self.command = command

    def __enter__(self):
        with open(os.path.join(self.dir, "stdout"), "wb") as out:
            self.proc = subprocess.Popen(self.command, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.listener.settimeout(30)
        try:
            self.serial = self.listener.accept()[0]
        except OSError:
            self.__exit__()
            raise Failure("Bochs does not start: see stdout and bochs.log") from None
        self.serial.settimeout(0)
        return self

    def __exit__(self, *exc):
        self.proc.kill()
        self.proc.wait()
        self.log.close()
        self.listener.close()

    def read(self, timeout):
        self.serial.settimeout(timeout)
        try:
            return self.serial.recv(65536)
        except TimeoutError:
            return None

    def send(self, text):
        self.serial.settimeout(10)
        self.serial.sendall(text.encode() if isinstance(text, str) else text)
