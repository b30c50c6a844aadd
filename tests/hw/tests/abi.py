"""The interface suite (tests/abi) as root task: 4 CPUs with one emulator thread each and an IOMMU, then 1, 2, 8, 64 and more CPUs than Novella uses, and without AMD-V;
1,000 guest states at and across the boundary of validity (SEED=n).
QEMU's teaching device `edu` is the one that does DMA."""
import os
import re
from guest import FUZZ, fuzzed
from machine import Failure, Machine

IOMMU = ["-device", "intel-iommu,caching-mode=on,aw-bits=48", "-device", "edu,dma_mask=0xffffffff"]
IOMMU_39 = ["-device", "intel-iommu,caching-mode=on", "-device", "edu,dma_mask=0xffffffff"]  # QEMU's default: three levels
# name, column and rows of the matrix, CPUs, -cpu, devices, options of the suite, at least so many cases, seconds
RUNS = [("cpus4", "abi", ["QEMU AMD-V", "QEMU, 4 CPUs"], 4, "max", IOMMU, "rounds=1000", 195, 240),
        ("cycles", "abi", ["QEMU AMD-V"], 4, "max", [], "only=leak_cycles rounds=10000", 1, 120),  # 10,000 PDs come and go
        ("entry", "entry-fuzz", ["QEMU AMD-V"], 2, "max", [], FUZZ, 1, 120),
        ("cpus1", "abi", ["QEMU, 1 CPU"], 1, "max", [], "rounds=50", 165, 120),
        ("cpus2", "abi", ["QEMU, 2 CPUs"], 2, "max", [], "rounds=50", 170, 120), ("cpus8", "abi", ["QEMU, 8 CPUs"], 8, "max", [], "rounds=20", 195, 120),
        ("cpus64", "abi", ["QEMU, 64 CPUs"], 64, "max", [], "rounds=10", 195, 240),
        ("cpus72", "abi", ["QEMU, 64 of 72 CPUs"], 72, "max", [], "rounds=10", 195, 240),  # 8 stay parked
        ("nosvm", "abi", [], 2, "max,svm=off", IOMMU_39, "rounds=50", 170, 120)]


def one(test, name, column, rows, cpus, cpu, devices, options, least, limit, kernel=""):
    files = os.path.join(test.build, "boot")
    boot = ["-kernel", os.path.join(files, "novella32.elf"), "-initrd", os.path.join(files, "abi.elf") + " " + options,
            "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    with Machine(test, cpus=cpus, mem="512M", boot=boot, cpu=cpu, extra=devices + ["-append", kernel], name=name) as m:
        with test.cell("boots", *(r for r in rows if r.startswith("QEMU,"))):
            m.expect(r"cpus: %d of %d run" % (min(cpus, 64), min(cpus, 64)), limit)
        with test.cell(column, *rows) as cell:
            text = m.expect(r"(?s).*abi: (\d+) passed, (\d+) failed", limit)
            bad = re.findall(rb"not ok [^\n]*", text.group())
            passed, failed = int(text.group(1)), int(text.group(2))
            test.note("%s: %d cases passed, %d failed" % (name, passed, failed))
            if column == "entry-fuzz":
                cell.note(fuzzed(text.group().decode(errors="replace"), test))
            for line in bad:
                test.note(line.decode(errors="replace").strip())
            if devices and not re.search(rb"iommu: device 0:3\.0: read of 60020000 refused: nobody has it", text.group()):
                raise Failure(name + ": no line about the DMA that was refused")
            if failed or bad or passed < least:
                raise Failure("%s: %d of %d cases failed" % (name, failed, passed + failed))
            m.end(20, status=1)  # isa-debug-exit: value * 2 + 1


def run(test):
    for r in RUNS:
        one(test, *r)
