"""One emulated machine: starts QEMU, reads and writes its serial line, keeps the log and the exact command line."""
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import time

ALL_MODULES = ["root.elf", "novella.conf", "console.elf", "vmm.elf", "guest/vmlinux", "guest/bzImage", "guest/initrd"]
CONSOLE = """[component console]
image = console.elf
ports = 0x3f8-0x3ff
irq = 4
memory = 4M
services = console
"""


class Failure(Exception):
    pass


def vm_section(name, **keys):
    values = {"kernel": "guest/vmlinux", "initrd": "guest/initrd", "cmdline": "console=ttyS0 quiet rdinit=/init", "memory": "256M"}
    values.update(keys)
    return "[vm %s]\n%s\n" % (name, "".join("%s = %s\n" % kv for kv in values.items() if kv[1] is not None))


def config(*sections, on_last_exit="poweroff", console=CONSOLE):
    return "[system]\non_last_exit = %s\n\n%s\n%s" % (on_last_exit, console, "\n".join(sections))


class Machine:
    """With Machine(...) as m: m.expect(...), m.send(...), m.end(). The machine is gone when the block is left."""
    patience = 1  # how much longer than it says a wait may take

    def __init__(self, test, conf=None, cpus=4, mem="2G", modules=ALL_MODULES, files=None, boot="kernel", cpu="max", extra=(), name="run", serial=None):
        self.dir = os.path.join(test.dir, name)
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        self.buffer, self.log, self.proc = b"", open(os.path.join(self.dir, "serial.log"), "wb"), None
        qemu = shutil.which("qemu-system-x86_64")
        if not qemu:
            raise Failure("qemu-system-x86_64 is not installed: this test cannot run (apt-get install qemu-system-x86)")
        boot_dir = os.path.join(test.build, "boot")
        self.command = [qemu, "-machine", "q35", "-cpu", cpu, "-accel", "tcg,thread=multi", "-smp", str(cpus), "-m", mem, "-display",
                        "none", "-serial", serial or "stdio", "-monitor", "none", "-no-reboot", *extra]
        if boot == "kernel":
            self.command += ["-kernel", os.path.join(boot_dir, "novella32.elf")]
            self.command += self.initrd(boot_dir, modules, conf, files or {})
        elif boot == "iso":
            self.command += ["-cdrom", os.path.join(test.build, "novella.iso"), "-boot", "d"]
        else:
            self.command += list(boot)
        with open(os.path.join(self.dir, "command"), "w") as f:
            f.write("cd %s && %s\n" % (shlex.quote(self.dir), " ".join(map(shlex.quote, self.command))))

    def initrd(self, boot_dir, modules, conf, files):
        if conf is not None:
            files = dict(files, **{"novella.conf": conf.encode()})
        entries = []
        for module in modules:
            path = os.path.join(self.dir, module)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if module in files:
                with open(path, "wb") as f:
                    f.write(files[module])
            else:
                os.symlink(os.path.abspath(os.path.join(boot_dir, module)), path)
            entries.append(module)  # QEMU gives the file's name as command line: run in self.dir
        return ["-initrd", ",".join(entries)] if entries else []

    def __enter__(self):
        self.proc = subprocess.Popen(self.command, cwd=self.dir, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.set_blocking(self.proc.stdout.fileno(), False)
        return self

    def __exit__(self, *exc):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.log.close()

    def pump(self, timeout):
        """Reads what is there; False at the end of the machine."""
        data = self.read(timeout)
        if data == b"":
            return False
        if data:
            self.log.write(data)
            self.log.flush()
            self.buffer += data
        return True

    def read(self, timeout):
        """b"": the end; None: nothing yet."""
        return self.proc.stdout.read() if select.select([self.proc.stdout], [], [], timeout)[0] else None

    def expect(self, pattern, timeout=60, refuse=rb"KERNEL PANIC"):
        """Waits for the pattern in what was not matched yet; returns the match. What comes after it is kept."""
        pattern = pattern.encode() if isinstance(pattern, str) else pattern
        timeout *= self.patience
        end = time.monotonic() + timeout
        while True:
            text = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", self.buffer)
            found = re.search(pattern, text)
            bad = refuse and re.search(refuse, text[: found.start()] if found else text)
            if bad:
                raise Failure("saw '%s' while waiting for '%s'" % (bad.group().decode(), pattern.decode()))
            if found:
                self.buffer = text[found.end():]
                return found
            left = end - time.monotonic()
            if left <= 0:
                raise Failure("no '%s' within %d s; last: %r" % (pattern.decode(), timeout, text[-200:].decode(errors="replace")))
            if not self.pump(min(left, 1)) and not re.search(pattern, re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", self.buffer)):
                raise Failure("the machine ended (status %s) before '%s'" % (self.proc.wait(), pattern.decode()))

    def send(self, text):
        self.proc.stdin.write(text.encode() if isinstance(text, str) else text)
        self.proc.stdin.flush()

    def command_output(self, text, pattern, timeout=60):
        """A command at a shell: its echo is matched first, so that the pattern is found in its output only."""
        self.send(text + "\r")
        # A shell with line editing breaks what is echoed at the terminal's width.
        self.expect(rb"[\r\n]*".join(re.escape(bytes([c])) for c in text.encode()), 20)
        return self.expect(pattern, timeout)

    def console(self, number):
        self.send(b"\x1d" + str(number).encode())
        self.expect(r"\[console %d" % number, 10)

    def end(self, timeout=60, status=0):
        """The machine must end by itself with this status."""
        limit = time.monotonic() + timeout
        while self.pump(0.5) and time.monotonic() < limit:
            pass
        try:
            got = self.proc.wait(max(limit - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            raise Failure("the machine did not end within %d s" % timeout) from None
        if got != status:
            raise Failure("the machine ended with status %d, not %d" % (got, status))


class Monitor:
    """QEMU's monitor on a socket: start the machine with extra=Monitor.options(path)."""

    @staticmethod
    def options(path):
        return ["-monitor", "unix:%s,server=on,wait=off" % path]

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(20)
        self.answer()

    def answer(self):
        text = b""
        while not text.endswith(b"(qemu) "):
            data = self.socket.recv(1 << 20)
            if not data:
                raise Failure("the machine is gone")
            text += data
        return text.decode(errors="replace").replace("\r", "")

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\n")
        return self.answer()
