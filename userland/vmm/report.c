#include "vm.h"

#include "log.h"
#include "walk.h"

#include <stdio.h>

static void registers(const struct abi_state *s) {
    log_printf("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", (unsigned long long)s->rax,
               (unsigned long long)s->rbx, (unsigned long long)s->rcx, (unsigned long long)s->rdx);
    log_printf("  rsi %016llx rdi %016llx rbp %016llx rsp %016llx", (unsigned long long)s->rsi,
               (unsigned long long)s->rdi, (unsigned long long)s->rbp, (unsigned long long)s->rsp);
    log_printf("  r8  %016llx r9  %016llx r10 %016llx r11 %016llx", (unsigned long long)s->r8,
               (unsigned long long)s->r9, (unsigned long long)s->r10, (unsigned long long)s->r11);
    log_printf("  r12 %016llx r13 %016llx r14 %016llx r15 %016llx", (unsigned long long)s->r12,
               (unsigned long long)s->r13, (unsigned long long)s->r14, (unsigned long long)s->r15);
    log_printf("  cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx", (unsigned long long)s->cr0,
               (unsigned long long)s->cr2, (unsigned long long)s->cr3, (unsigned long long)s->cr4,
               (unsigned long long)s->efer);
    log_printf("  cs %x:%llx ar %x ss %x ar %x rflags %llx", s->cs.sel, (unsigned long long)s->cs.base, s->cs.ar,
               s->ss.sel, s->ss.ar, (unsigned long long)s->rflags);
}

static void code_bytes(struct vcpu *v, const struct abi_state *s) {
    uint64_t linear = s->rip + (s->efer & 0x400 && s->cs.ar & 0x200 ? 0 : s->cs.base), gpa;
    uint8_t code[16];
    char text[3 * sizeof(code) + 1];
    uint32_t error;

    if (!walk_gva(&v->vm->mem, s, linear, WALK_READ, &gpa, &error) ||
        !gmem_read(&v->vm->mem, gpa, code, sizeof(code))) {
        log_printf("  no code there");
        return;
    }
    for (unsigned i = 0; i < sizeof(code); i++)
        snprintf(text + 3 * i, 4, "%02x ", code[i]);
    log_printf("  code %s", text);
}

_Noreturn void report_and_end(struct vcpu *v, const struct abi_state *s, bool full, const char *format, ...) {
    char reason[200];
    va_list args;

    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    log_printf("vCPU %u: %s", v->index, reason);
    if (full) {
        log_printf("  rip %016llx", (unsigned long long)s->rip);
        registers(s);
        code_bytes(v, s);
    }
    log_printf("  last I/O: %s port 0x%x size %u value 0x%x", v->last_io_in ? "read" : "write", v->last_io_port,
               v->last_io_size, v->last_io_val);
    vm_end(v->vm, EXIT_CODE_ERROR, reason);
}
