"""Instructions and exits of the Linux boot and three workloads in the guest, against the same without us: within tests/bench/guest/budgets."""
from other import load


def run(test):
    load("bench").tool(test, "guest", test.build)
