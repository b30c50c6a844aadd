"""The interface suite with mitigations=force on QEMU (AMD-V): isolation, retpolines, VERW and all that, on 4 CPUs and 1, and once with mitigations=off."""
from other import load

abi = load("abi")
# as in abi.py
RUNS = [("force4", 4, "max", abi.IOMMU + ["-append", "mitigations=force"], "rounds=200", 195, 240),
        ("force1", 1, "max", abi.IOMMU + ["-append", "mitigations=force"], "rounds=50", 165, 120),
        ("off4", 4, "max", abi.IOMMU + ["-append", "mitigations=off"], "rounds=50", 195, 240)]


def run(test):
    for r in RUNS:
        abi.one(test, *r)
