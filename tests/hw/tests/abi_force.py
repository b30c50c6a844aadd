"""The interface suite and 1,000 guest states with mitigations=force on QEMU (AMD-V): isolation, retpolines, VERW and all that; and once with mitigations=off."""
from guest import FUZZ
from other import load

abi = load("abi")
ROW = ["QEMU AMD-V, force"]
# as in abi.py
RUNS = [("force4", "abi", ROW, 4, "max", abi.IOMMU, "rounds=200", 195, 240, "mitigations=force"),
        ("force1", "abi", ROW, 1, "max", abi.IOMMU, "rounds=50", 165, 120, "mitigations=force"),
        ("entry", "entry-fuzz", ROW, 2, "max", [], FUZZ, 1, 120, "mitigations=force"),
        ("off4", "abi", [], 4, "max", abi.IOMMU, "rounds=50", 195, 240, "mitigations=off")]


def run(test):
    for r in RUNS:
        abi.one(test, *r)
