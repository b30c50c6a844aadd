"""Instructions of each operation on Bochs, VT-x, as in bench."""
from other import load

LANE = "bochs"


def run(test):
    load("bench").tool(test, "table", "bochs")
