"""Instructions of each operation on QEMU, AMD-V: within its budget, or at most 2 % above what docs/performance.md explains."""
import os
import subprocess
import sys
from machine import Failure

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tools", "bench")


def tool(test, command, *arguments):
    """Runs tools/bench; its table stays in the test's directory and is shown if a budget is exceeded."""
    ended = subprocess.run([sys.executable, TOOL, command, os.path.join(test.build, "bench"), *arguments], capture_output=True, text=True)
    with open(os.path.join(test.dir, "table"), "w") as f:
        f.write(ended.stdout + ended.stderr)
    if ended.returncode:
        for line in ended.stdout.splitlines():
            test.note(line)
        raise Failure(ended.stderr.strip() or "over budget: tests/bench/budgets, docs/performance.md")


def run(test):
    tool(test, "table", "qemu")
