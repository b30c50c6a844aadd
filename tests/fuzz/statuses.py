#!/usr/bin/env python3
"""statuses.py DOCUMENT COMMAND...: whether the programs that COMMAND (fuzz check ...) runs reach every status that the tables of DOCUMENT (docs/abi.md)
give for a hypercall. Prints both as a table; ends with 1 if one is missing, or if COMMAND fails."""
import re
import subprocess
import sys

NAMES = ["SUCCESS", "TIMEOUT", "ABORTED", "BAD_HYP", "BAD_CAP", "BAD_PAR", "BAD_FTR", "BAD_CPU", "BAD_DEV", "BAD_MEM"]
wanted = {}
for line in open(sys.argv[1], encoding="utf-8"):
    cell = [c.strip() for c in line.strip().strip("|").split("|")]
    if len(cell) == 10 and re.fullmatch("[0-9a-f]", cell[0]):  # hypercalls: number, name, ..., status
        if cell[1] not in ("reply", "extension"):  # reply does not return; the extensions have a table of their own
            wanted[cell[0] + ".0"] = (cell[1], {"SUCCESS"} | set(re.findall(r"[A-Z]+_?[A-Z]+", cell[9])))
    elif len(cell) == 6 and re.match("[0-9]", cell[0]) and (cell[1].isupper() or not cell[1]):  # extensions: operation, name, ..., status
        operation = cell[0].split("-")[0]
        name, statuses = cell[1].lower() or "extension %s" % cell[0], set(re.findall("BAD_[A-Z]+", cell[5]))
        wanted["f." + operation] = (name, statuses if "BAD_HYP" in statuses else {"SUCCESS"} | statuses)
if len(wanted) < 20:
    sys.exit("statuses: %s has no tables of hypercalls any more" % sys.argv[1])

run = subprocess.run(sys.argv[2:], capture_output=True, text=True)
reached, other = {}, []
for line in run.stdout.splitlines():
    word = line.split()
    if word and word[0] == "status":
        reached.setdefault(word[1], set()).add(NAMES[int(word[2])])
    else:
        other.append(line)
missing = 0
for key, (name, statuses) in sorted(wanted.items()):
    have = reached.get(key, set())
    lost, more = statuses - have, have - statuses
    missing += len(lost)
    print("%-4s %-14s %s%s%s" % (key, name, " ".join(n for n in NAMES if n in have), "".join("  MISSING " + n for n in sorted(lost)),
                                 "".join("  not in the document: " + n for n in sorted(more))))
print("\n".join(other[-20:]) + run.stderr[-3000:])
print("statuses: %d of %d missing" % (missing, sum(len(s) for _, s in wanted.values())))
sys.exit(missing != 0 or run.returncode != 0)
