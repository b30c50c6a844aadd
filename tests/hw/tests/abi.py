"""The interface suite (tests/abi) as root task on 4 CPUs, one emulator thread each."""
import re
from machine import Failure, Machine


def run(test):
    exit_device = ("-device", "isa-debug-exit,iobase=0xf4,iosize=1")
    with Machine(test, modules=["abi.elf"], mem="512M", extra=exit_device) as m:
        text = m.expect(r"(?s).*abi: (\d+) passed, (\d+) failed", 240)
        bad = re.findall(rb"not ok [^\n]*", text.group())
        passed, failed = int(text.group(1)), int(text.group(2))
        test.note("%d cases passed, %d failed" % (passed, failed))
        for line in bad:
            test.note(line.decode(errors="replace").strip())
        if failed or bad or passed < 100:
            raise Failure("%d of %d cases failed" % (failed, passed + failed))
        m.end(20, status=1)  # isa-debug-exit: value * 2 + 1
