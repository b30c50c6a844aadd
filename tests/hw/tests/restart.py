"""Starting and killing a VM 50 times leaves the kernel's and root's free memory as before."""
import time

from machine import Failure, Machine, config, vm_section

ROUNDS = 50


def memory(m):
    m.send("mem\r")
    root = int(m.expect(r"root: (\d+) of \d+ pages free", 10).group(1))
    heap = int(m.expect(r"root heap: (\d+) of", 10).group(1))
    kernel = int(m.expect(r"kernel: (\d+) of \d+ pages free", 10).group(1))
    m.expect(r"novella> ", 10)
    return root, heap, kernel


def cycle(m):
    m.send("vm start x\r")
    m.expect(r"x: guest entry", 30)
    m.send("vm kill x\r")
    m.expect(r"vm x: ended", 30)


def settled(m, want):
    """The kernel frees after a grace period: what is returned within some seconds counts."""
    end = time.monotonic() + (10 if want else 2)
    while True:
        now = memory(m)
        if now == want or time.monotonic() > end:
            return now
        time.sleep(0.2)


def run(test):
    with Machine(test, config(vm_section("x", autostart="no", cpu=1), on_last_exit="stay")) as m:
        m.expect(r"novella> ", 60)
        for _ in range(3):
            cycle(m)
        before = settled(m, None)
        for _ in range(ROUNDS):
            cycle(m)
        after = settled(m, before)
        test.note("free pages of root %d, heap bytes used %d, free pages of the kernel %d; after %d rounds %d, %d, %d" % (*before, ROUNDS, *after))
        if after != before:
            raise Failure("memory before %s, after %s" % (before, after))
