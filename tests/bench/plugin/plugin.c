/* TCG plugin of make bench: writes the address of every instruction that CPU 0 executes between two markers (xchg %bx, %bx), these too,
 * as 64-bit words. -plugin plugin.so,out=FILE. */
#include "qemu.h"

static FILE *out;
static bool on;

static void executed(unsigned cpu, void *arg) {
    uint64_t at = (uint64_t)arg;
    if (on && cpu == 0)
        fwrite(&at, sizeof(at), 1, out);
}
static void marked(unsigned cpu, void *arg) {
    bool was = on;
    on = true;
    executed(cpu, arg);
    on = !was;
}
static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
    static const uint8_t marker[] = {0x66, 0x87, 0xdb};
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        bool is = qemu_plugin_insn_size(insn) == 3 && !memcmp(qemu_plugin_insn_data(insn), marker, 3);
        qemu_plugin_register_vcpu_insn_exec_cb(insn, is ? marked : executed, PLUGIN_NO_REGS,
                                               (void *)qemu_plugin_insn_vaddr(insn));
    }
}
static void ended(plugin_id id, void *arg) {
    (void)id, (void)arg;
    fclose(out);
}
int qemu_plugin_install(plugin_id id, const struct qemu_info *info, int argc, char **argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) || !(out = fopen(argv[0] + 4, "wb")))
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
