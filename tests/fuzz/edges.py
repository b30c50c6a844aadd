#!/usr/bin/env python3
"""edges.py FUZZ SUITES REACHED...: which of the kernel edges that the test suites reach fuzzing has reached, and in which functions the others lie.
FUZZ is the program; SUITES and REACHED are files with a byte for each edge (tests/fuzz/edges.h). Ends with 1 below 90 %."""
import collections
import subprocess
import sys

fuzz, suites, reached = sys.argv[1], open(sys.argv[2], "rb").read(), [open(p, "rb").read() for p in sys.argv[3:]]
addresses = subprocess.run([fuzz, "addresses"], capture_output=True, text=True, check=True).stdout.split()
wanted = [n for n in range(len(addresses)) if suites[n]]
got = [n for n in range(len(addresses)) if any(r[n : n + 1] not in (b"", b"\0") for r in reached)]
missing = sorted(set(wanted) - set(got))
names = subprocess.run(["addr2line", "-f", "-s", "-e", fuzz, *[addresses[n] for n in missing]], capture_output=True, text=True, check=True).stdout.splitlines()
where = collections.defaultdict(list)
for name, place in zip(names[::2], names[1::2]):
    file, _, line = place.split(" ")[0].partition(":")
    where[file, name].append(int(line) if line.isdigit() else 0)
print("reached by the suites and not by fuzzing:")
for (file, name), lines in sorted(where.items(), key=lambda x: (-len(x[1]), x[0])):
    print("  %3d  %s %s: lines %s" % (len(lines), file, name, " ".join(map(str, sorted(set(lines))))))
both = len(wanted) - len(missing)
print("kernel edges: %d; unit and simulator suites reach %d, fuzzing %d; of the suites' edges fuzzing reaches %d, %.1f %%"
      % (len(addresses), len(wanted), len(got), both, 100.0 * both / max(1, len(wanted))))
sys.exit(both < 0.9 * len(wanted))
