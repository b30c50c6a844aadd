"""The interface suite in Bochs: VT-x on 4 CPUs and 1, and AMD-V with next RIP and flush by ASID, which QEMU lacks. Bochs has no PCI Express, so the
case that needs a page of configuration space fails there, and no other may. Any guest state is tried on VT-x only: with AMD-V Bochs 2.7 delivers the
page fault of an injected event's vector to the host, in the middle of VMRUN."""
import os
import re
from bochs_machine import Bochs
from guest import FUZZ, fuzzed
from machine import Failure

LIMIT = 600
LANE = "bochs"
# name, column and row of the matrix, model, CPUs, at least so many cases, what the kernel must say, options of the suite
RUNS = [("vtx4", "abi", "Bochs VT-x", "corei7_skylake_x", 4, 185, "vcpu: VT-x", "rounds=50"),
        ("entry", "entry-fuzz", "Bochs VT-x", "corei7_skylake_x", 2, 1, "vcpu: VT-x", FUZZ),
        ("vtx1", "abi", "Bochs VT-x, 1 CPU", "corei7_haswell_4770", 1, 170, "vcpu: VT-x", "rounds=50"),
        ("amdv2", "abi", "Bochs AMD-V, next RIP", "ryzen", 2, 185, "vcpu: AMD-V, nested paging, [0-9]+ ASIDs, next RIP, flush by ASID",
         "rounds=50 skip=entry_any_state")]
IMPOSSIBLE = {"assign_gsi_success_msi"}


def one(test, name, column, row, model, cpus, least, says, options, kernel=""):
    with Bochs(test, name, model, cpus, [("abi.elf", "abi.elf " + options)], options=kernel) as m:
        with test.cell("boots", *([row] if column == "abi" else [])):
            m.expect("cpus: %d of %d run" % (cpus, cpus), 100)
        with test.cell(column, row) as cell:
            found = m.expect(r"abi: (\d+) passed, (\d+) failed", 200)
            with open(os.path.join(m.dir, "serial.log"), errors="replace") as f:
                text = f.read()
            judge(test, name, column, cell, found, text, least, says, options)


def judge(test, name, column, cell, found, text, least, says, options):
    passed, failed = int(found.group(1)), int(found.group(2))
    bad = set(re.findall(r"not ok \d+ - (\w+)", text))
    test.note("%s: %d cases passed%s" % (name, passed, ", not possible here: " + " ".join(bad & IMPOSSIBLE) if bad & IMPOSSIBLE else ""))
    if bad - IMPOSSIBLE or failed != len(bad) or passed < least:
        raise Failure("%s: %s" % (name, found.group().decode()))
    if column == "entry-fuzz":
        cell.note(fuzzed(text, test))
    if "skip" in options:
        test.note("%s: %s: not on this machine, the emulator does not survive it" % (name, options))
    if not re.search(says, text) or column == "abi" and not re.search(r"ok \d+ - vcpu_exit_hlt", text):
        raise Failure("%s: not the processor that was asked for" % name)


def run(test):
    for r in RUNS:
        one(test, *r)
