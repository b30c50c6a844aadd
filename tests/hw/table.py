"""The matrix of the machine tests: which cells there are, and how they are shown. A test fills its cells: `with test.cell(COLUMN, ROW...) as cell:`."""
import contextlib
import threading
import time

COLUMNS = ["boots", "abi", "linux", "entry-fuzz"]
# row: its cells. "boots": to root's report, or, where the suite is root, with that number of CPUs.
ROWS = {
    "QEMU AMD-V": ["boots", "abi", "linux", "entry-fuzz"],
    "Bochs VT-x": ["boots", "abi", "linux", "entry-fuzz"],
    "Bochs VT-x, 1 CPU": ["boots", "abi"],
    "Bochs AMD-V, next RIP": ["boots", "abi", "linux"],  # entry-fuzz: Bochs 2.7 does not survive it (bochs.py)
    "QEMU AMD-V, force": ["abi", "linux", "entry-fuzz"],  # mitigations=force
    "Bochs VT-x, force": ["boots", "abi", "linux", "entry-fuzz"],
    "Bochs AMD-V, force": ["boots", "abi"],
    "GRUB BIOS": ["boots"],
    "GRUB UEFI": ["boots"],
    "isolinux": ["boots"],
    "-kernel": ["boots"],
    "QEMU, 1 CPU": ["boots", "abi"],
    "QEMU, 2 CPUs": ["boots", "abi"],
    "QEMU, 4 CPUs": ["boots", "abi"],
    "QEMU, 8 CPUs": ["boots", "abi"],
    "QEMU, 64 CPUs": ["boots", "abi"],
    "QEMU, 64 of 72 CPUs": ["boots", "abi"],
}


class Cell:
    def __init__(self):
        self.ok, self.seconds, self.notes = True, 0.0, []

    def note(self, text):
        """A line below the table."""
        self.notes.append(text)


class Table:
    """What was really seen in this run: a cell is green if everything that ran in it came to its end."""

    def __init__(self):
        self.cells, self.lock = {}, threading.Lock()

    @contextlib.contextmanager
    def cell(self, column, *rows):
        for row in rows:
            if column not in ROWS[row]:
                raise KeyError("the matrix has no cell %s, %s" % (row, column))
        start, run, done = time.monotonic(), Cell(), False
        try:
            yield run
            done = True
        finally:
            for row in rows:
                with self.lock:
                    cell = self.cells.setdefault((row, column), Cell())
                    cell.ok, cell.seconds = cell.ok and done, cell.seconds + time.monotonic() - start
                    cell.notes += run.notes

    def missing(self):
        return [(r, c) for r, columns in ROWS.items() for c in columns if (r, c) not in self.cells]

    def show(self):
        lines = ["%-24s" % "" + "".join("%-14s" % c for c in COLUMNS)]
        for row, columns in ROWS.items():
            if any((row, c) in self.cells for c in columns):
                lines.append("%-24s" % row + "".join("%-14s" % self.word(row, c) for c in COLUMNS))
        lines += ["%s, %s: %s" % (r, c, n) for r in ROWS for c in ROWS[r] if (r, c) in self.cells for n in self.cells[r, c].notes]
        return "\n".join(line.rstrip() for line in lines)

    def word(self, row, column):
        if column not in ROWS[row]:
            return "."
        cell = self.cells.get((row, column))
        return "%s %.1f s" % ("ok" if cell.ok else "FAILED", cell.seconds) if cell else "NOT RUN"
