"""Bad input gives one clear line each, and the rest keeps running: modules, configuration, images, CPU, memory, hostile guests."""
from guest import HOSTILE, tiny_elf
from machine import ALL_MODULES, Machine, config, vm_section


def case(test, name, pattern, conf, **machine):
    with Machine(test, conf, mem=machine.pop("mem", "1G"), name=name, **machine) as m:
        line = m.expect(r"[^\n]*(?:%s)[^\n]*\n" % pattern, 60).group().decode(errors="replace").strip()
        test.note("%-16s %s" % (name, line))
        m.expect(r"novella> ", 30)
        m.send("mem\r")
        m.expect(r"kernel: \d+ of", 10)


def stay(*sections):
    return config(*sections, on_last_exit="stay")


def run(test):
    auto = {"autostart": "yes", "console": 1}
    case(test, "no-kernel", r"no module guest/nothing|guest/nothing", stay(vm_section("linux", kernel="guest/nothing", **auto)))
    case(test, "no-initrd", r"guest/lost", stay(vm_section("linux", initrd="guest/lost", **auto)))
    case(test, "damaged-kernel", r"linux[^\n]*(not|damaged|neither)", stay(vm_section("linux", **auto)), files={"guest/vmlinux": b"\x7fELF" + bytes(9000)})
    case(test, "damaged-vmm", r"linux: not started[^\n]*vmm\.elf", stay(vm_section("linux", **auto)), files={"vmm.elf": b"not a program" * 500})
    case(test, "config-key", r"novella\.conf:\d+[^\n]*memory", stay(vm_section("linux", memory=None, memry="1G", **auto)))
    case(test, "guest-too-big", r"linux[^\n]*(memory|MiB)", stay(vm_section("linux", memory="4G", **auto)))
    case(test, "no-amd-v", r"AMD-V[^\n]*-cpu max", stay(vm_section("linux", **auto)), cpu="max,-svm")
    for name, (code, reason) in HOSTILE.items():
        vms = [vm_section("bad", kernel="guest/bad", initrd=None, memory="128M", autostart="yes", console=2)]
        case(test, name, r"vm bad: ended \(" + reason, stay(*vms), modules=ALL_MODULES + ["guest/bad"], files={"guest/bad": tiny_elf(code)})
    with Machine(test, modules=[], name="no-root") as m:
        test.note("no-root          " + m.expect(r"[^\n]*no boot module[^\n]*", 30).group().decode().strip())
    with Machine(test, modules=["root.elf"], files={"root.elf": b"\x7fELF" + bytes(100)}, name="damaged-root") as m:
        test.note("damaged-root     " + m.expect(r"[^\n]*root's ELF image[^\n]*", 30).group().decode().strip())
    with Machine(test, stay(), cpu="qemu64", name="old-cpu") as m:
        test.note("old-cpu          " + m.expect(r"[^\n]*FSGSBASE[^\n]*", 30).group().decode().strip())
