"""Each way to boot reaches root's report: -kernel, GRUB on BIOS and UEFI from CD and disk, isolinux, moved by the loader; options, screen, a CPU that is not there."""
import gzip
import os
import re
import shutil
import struct
import subprocess
import time
from bochs_machine import image, madt
from machine import Failure, Machine, Monitor, config

SMALL = ["root.elf", "novella.conf", "console.elf"]
OVMF = "/usr/share/OVMF/OVMF_%s_4M.fd"
ISOLINUX = ["/usr/lib/ISOLINUX/isolinux.bin"] + ["/usr/lib/syslinux/modules/bios/%s.c32" % m for m in ("ldlinux", "libcom32", "mboot")]
RELOCATABLE = struct.pack("<HHII", 10, 0, 24, 0x100000)  # Multiboot2 Specification 2.0, 3.1.13: type, flags, size, lowest address
FONT = "/usr/share/consolefonts/Lat15-Fixed16.psf.gz"
MOVED_TO = 0x3457000  # not a multiple of anything larger than a page


def small_files(test, name, kernel):
    """A directory with a kernel and the few modules that root's report and the control shell need."""
    top = os.path.join(test.dir, name + "-files")
    shutil.rmtree(top, ignore_errors=True)
    os.makedirs(os.path.join(top, "boot"))
    for f in [kernel] + SMALL:
        shutil.copy(os.path.join(test.build, "boot", f), os.path.join(top, "boot", f))
    with open(os.path.join(top, "boot", "novella.conf"), "w") as f:
        f.write(config(on_last_exit="stay"))
    return top


def tool(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise Failure("%s: %s" % (command[0], done.stdout[-500:]))


def iso(test, name):
    return os.path.join(test.build, "novella.iso")


def iso_moved(test, name):
    top = small_files(test, name, "novella.elf")
    path = os.path.join(top, "boot", "novella.elf")
    image = open(path, "rb").read()
    if image.count(RELOCATABLE) != 1:
        raise Failure("novella.elf has no relocatable tag")
    with open(path, "wb") as f:
        f.write(image.replace(RELOCATABLE, RELOCATABLE[:8] + struct.pack("<I", MOVED_TO)))
    tool("tools/boot-iso", top, top + "/novella.iso", *SMALL)
    return top + "/novella.iso"


def iso_isolinux(test, name):
    top = os.path.join(small_files(test, name, "novella32.elf"), "boot")
    for f in ISOLINUX:
        if not os.path.exists(f):
            raise Failure("%s is not there: apt-get install isolinux syslinux-common" % f)
        shutil.copy(f, top)
    with open(os.path.join(top, "isolinux.cfg"), "w") as f:
        f.write("default novella\nlabel novella\n  kernel mboot.c32\n  append /novella32.elf --- %s\n" % " --- ".join("/%s %s" % (m, m) for m in SMALL))
    tool("xorriso", "-as", "mkisofs", "-quiet", "-o", top + "/../isolinux.iso", "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot",
         "-boot-load-size", "4", "-boot-info-table", top)
    return top + "/../isolinux.iso"


def cd(path):
    return ["-cdrom", path, "-boot", "d"]


def disk(path):
    return ["-drive", "format=raw,snapshot=on,file=" + path]


def uefi(test, name):
    copy = os.path.join(test.dir, name + "-vars.fd")
    shutil.copy(OVMF % "VARS", copy)
    return ["-drive", "if=pflash,format=raw,readonly=on,file=" + OVMF % "CODE", "-drive", "if=pflash,format=raw,file=" + copy]


# name, row of the matrix, image, medium, firmware
WAYS = [("bios-cd", "GRUB BIOS", iso, cd, None), ("bios-disk", "GRUB BIOS", iso, disk, None), ("uefi-cd", "GRUB UEFI", iso, cd, uefi),
        ("uefi-disk", "GRUB UEFI", iso, disk, uefi), ("isolinux", "isolinux", iso_isolinux, cd, None), ("moved", "GRUB BIOS", iso_moved, cd, None),
        ("moved-uefi", "GRUB UEFI", iso_moved, cd, uefi)]


def kernel(test):
    with Machine(test, config(on_last_exit="stay"), mem="1G", name="kernel") as m:
        with test.cell("boots", "-kernel", "QEMU AMD-V"):
            m.expect(r"cpus: 4 of 4 run", 60)
            m.expect(r"root: 4 processors", 30)
        m.expect(r"novella> ", 30)
        m.command_output("mem", r"kernel: \d+ of \d+ pages free", 10)
        m.command_output("klog", r"cpus: 4 of 4 run.*\n", 10)
        m.send("poweroff\r")
        m.end(20)


def screen_text(ppm, font):
    """What stands on a picture of the screen, cell by cell: only glyphs that are the font's dot for dot are letters."""
    header, _, rest = ppm.partition(b"\n255\n")
    width, height = map(int, header.split()[1:3])
    glyphs = {font[4 + c * 16:4 + c * 16 + 16]: chr(c) for c in range(32, 127)}
    lit = [v > 127 for v in rest[::3]]

    def cell(x, y):
        return bytes(sum(lit[(y * 16 + line) * width + x * 8 + bit] << (7 - bit) for bit in range(8)) for line in range(16))
    return "\n".join("".join(glyphs.get(cell(x, y), "\0") for x in range(width // 8)).rstrip() for y in range(height // 16))


def screen(test):
    """The log is on the screen that GRUB hands over: drawn on UEFI, as text on BIOS."""
    for name in ("screen-bios", "screen-uefi"):
        picture, path = os.path.join(test.dir, name + ".picture"), os.path.join(test.dir, name + "-monitor")
        drawn = name == "screen-uefi"
        extra = ["-vga", "std"] + Monitor.options(path)
        with Machine(test, boot=cd(iso(test, name)) + (uefi(test, name) if drawn else []), mem="1G", extra=extra, name=name) as m:
            m.expect(r"root: 4 processors", 60)
            monitor = Monitor(path)
            monitor.ask("stop")
            monitor.ask(("screendump" if drawn else "pmemsave 0xb8000 4000") + (" \"%s\"" % picture))
        with open(picture, "rb") as f:
            data = f.read()
        text = screen_text(data, gzip.open(FONT).read()) if drawn else "\n".join(data[i:i + 160:2].decode("cp437").rstrip() for i in range(0, 4000, 160))
        for line in ("Novella microhypervisor", "cpus: 4 of 4 run", "boot: 7 modules"):
            if not re.search("(?m)^" + line, text):
                raise Failure("%s does not show '%s' but %r" % (name, line, text.strip("\0\n")[:500]))


def options(test):
    """The kernel's options: another serial port, how much it says, fewer CPUs, no IOMMU, and a word that does not exist."""
    def booted(name, words, *extra, serial=None):
        return Machine(test, boot=["-kernel", os.path.join(test.build, "boot", "novella32.elf"), "-append", words, "-initrd",
                                   os.path.join(test.build, "boot", "root.elf")], mem="512M", extra=extra, name=name, serial=serial)
    iommu = ["-device", "intel-iommu,aw-bits=48"]
    with booted("serial-pci", "serial=pci", "-device", "pci-serial,chardev=c", "-chardev", "stdio,id=c", serial="null") as m:
        m.expect(r"Novella microhypervisor.*\n(.*\n)*boot: 1 modules", 30)
    with booted("com2", "serial=com2,57600 nosmp noiommu", *iommu, "-serial", "stdio", serial="null") as m:
        m.expect(r"cpus: 1 of 1 run", 30)
        m.expect(r"DMA remapping switched off", 30)
    with booted("loglevel", "loglevel=0 surely.not", *iommu) as m:
        m.expect(r"root: 4 processors", 30, refuse=rb"cpus: |cmdline: ")
    with booted("unknown", "debugcon smp=1") as m:
        m.expect(r'cmdline: 1 words are not understood, first "smp=1"', 30)


def absent_cpu(test):
    """The MADT names a processor that is not there, one that nobody can reach, and ids with gaps: they are reported, and the others run."""
    files = {"novella.conf": config(on_last_exit="stay").encode(), "madt": madt([0, 1, 77, 2, 3], [300])}
    path = os.path.join(test.dir, "absent.iso")
    image(path, os.path.join(test.build, "boot"), [(m, m) for m in SMALL] + [("madt", "madt")], files, " acpi --exclude=APIC /madt")
    with Machine(test, boot=cd(path), mem="1G", name="absent") as m:
        m.expect(r"cpus: 1 more than the 5 that can be used stay parked", 60)  # QEMU 7.2 has no x2APIC: id 300 cannot be reached
        m.expect(r"cpu 2 \(APIC id 77\) does not start and is left out", 60)
        m.expect(r"cpus: 4 of 5 run", 30)
        m.expect(r"missing: 1 of 5 processors: ", 30)
        m.expect(r"root: 4 processors", 30)


def run(test):
    start = time.monotonic()
    kernel(test)
    test.note("%-10s %4.1f s" % ("kernel", time.monotonic() - start))
    for part in (options, screen, absent_cpu):
        start = time.monotonic()
        part(test)
        test.note("%-10s %4.1f s" % (part.__name__, time.monotonic() - start))
    for name, row, image, medium, firmware in WAYS:
        start = time.monotonic()
        boot = medium(image(test, name)) + (firmware(test, name) if firmware else [])
        with Machine(test, boot=boot, mem="1G", name=name) as m, test.cell("boots", row) as cell:
            at = int(m.expect(r"kernel image \d+ KiB at 0x([0-9a-f]+),", 90).group(1), 16)
            m.expect(r"cpus: 4 of 4 run", 30)
            m.expect(r"root: 4 processors", 30)
            if name.startswith("moved") and at < MOVED_TO:
                raise Failure("%s: the image is at 0x%x, not at or above 0x%x" % (name, at, MOVED_TO))
            cell.note("%-10s %4.1f s, image at 0x%x" % (name, time.monotonic() - start, at))
            if name == "moved-uefi":  # where ACPI is not in the BIOS areas
                m.expect(r"novella> ", 30)
                m.send("poweroff\r")
                m.end(30)
