"""Guests of one page, on AMD-V in QEMU and on VT-x in Bochs: string ports, faults, interrupts and NMIs in real mode; guests that end themselves,
and one that spins with interrupts off."""
from bochs_machine import Bochs
from guest import HOSTILE, assembled, tiny_elf
from machine import Machine, config, vm_section

LIMIT = 60
LANE = "bochs"


def guests(m, name, test, nmis, spinning):
    m.expect(r"novella> ", 60)
    for vm, (_, reason) in HOSTILE.items():
        m.send("vm start %s\r" % vm)
        m.expect(r"vm %s: ended \(%s" % (vm, reason), 20)
    for vm in spinning:  # on this CPU: the guest's interrupts are off, the machine's are not
        m.send("vm start %s\r" % vm)
        m.expect(r"%s: guest entry" % vm, 20)
        m.command_output("mem", r"kernel: \d+ of \d+ pages free", 20)
        m.send("vm kill %s\r" % vm)
        m.expect(r"vm %s: ended" % vm, 20)
    m.send("vm start modes\r")
    m.console(1)
    for line in ("long mode: string port", "real mode: faults", "real mode: interrupts", "real mode: NMIs" + nmis):
        m.expect(line, 20)
    m.expect(r"vm modes: ended \(powered off\)", 20)
    test.note("%s: all modes, and %s" % (name, " ".join([*HOSTILE, *spinning])))


def run(test):
    kernels = {"guest/" + name: tiny_elf(code) for name, (code, _) in HOSTILE.items()}
    kernels["guest/spin"] = tiny_elf(b"\xfa\xeb\xfe")  # cli; jmp here
    kernels["guest/toggle"] = tiny_elf(b"\xfb\xfa\xeb\xfc")  # again: sti; cli; jmp again: no interrupt can come in between
    kernels["guest/modes"] = assembled("modes.S", test.dir)
    vms = [vm_section(k.split("/")[1], kernel=k, initrd=None, memory="64M", cpu=0, autostart="no", console=i + 1) for i, k in enumerate(reversed(kernels))]
    conf = config(*vms, on_last_exit="stay")
    modules = ["root.elf", "novella.conf", "console.elf", "vmm.elf"] + list(kernels)
    with Machine(test, conf, cpus=2, mem="512M", modules=modules, files=kernels, name="amdv") as m:
        guests(m, "AMD-V", test, "", ["spin", "toggle"])  # docs/vmm.md, limits
    with Bochs(test, "vtx", "corei7_skylake_x", 1, [(f, f) for f in modules], dict(kernels, **{"novella.conf": conf.encode()})) as m:
        m.expect("vcpu: VT-x", 60)
        # Bochs 2.7 looks at "external-interrupt exiting" when the guest changes IF, not when it is entered with IF clear as the host has it: spin never exits.
        guests(m, "VT-x", test, " one by one", ["toggle"])
