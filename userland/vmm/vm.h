/* One virtual machine: the board with its devices, the vCPUs, and who may touch what.
 *
 * Threads: per vCPU one handler thread (portals of its exits) and the main thread (timers, console input, control).
 * Locks, taken in this order; none is held while a thread waits for the guest:
 *   uart_lock  uart          timer_lock  pit rtc pm pci
 *   out_lock   console output buffer
 *   irq_lock   pic ioapic
 *   vcpu.lapic_lock  lapic of that vCPU
 * Interrupt delivery: who makes something pending calls vcpu_notify; the handler clears in_handler, then looks for pending
 * interrupts, then lets the guest go on. Stores and loads are sequentially consistent, so one of the two sees the other. */
#pragma once
#include "acpi_pm.h"
#include "cpuid.h"
#include "emu.h"
#include "exits.h"
#include "gmem.h"
#include "ioapic.h"
#include "lapic.h"
#include "pci.h"
#include "pic.h"
#include "pit.h"
#include "pvclock.h"
#include "rtc.h"
#include "uart.h"

#include "console_client.h"
#include "sync.h"
#include "thread.h"

#define VM_MAX_CPUS   8
#define VM_OUT_BUFFER 4096
#define VM_OUT_FLUSH  256 /* bytes that are worth a wake-up of the console */
#define VM_OUT_PAUSE  (VM_OUT_BUFFER - 64)
#define VM_MTRR_WORDS 28

struct vm;

enum vcpu_start { VCPU_WAITS_FOR_SIPI, VCPU_SIPI_ARRIVED, VCPU_RUNS };

struct vcpu {
    struct vm *vm;
    unsigned index;
    sel_t ec, wake; /* wake: up'ed to end a halt */
    struct thread *handler;
    struct mutex lapic_lock;
    struct lapic lapic;
    uint32_t in_handler, halted; /* see above */
    uint32_t nmi_pending, init_pending;
    uint32_t start;   /* enum vcpu_start */
    uint32_t stopped; /* halted with interrupts disabled */
    uint8_t sipi_vector;
    /* below: handler thread only */
    bool emulating;     /* left with EXIT_INVALID on purpose */
    bool pv_eoi_marked; /* the guest may end the vector in service without an exit */
    uint64_t fault_gpa, fault_repeats;
    uint64_t tsc_offset, tsc_aux, pat, hwcr, pv_system, pv_eoi, mtrr_def;
    uint64_t mtrr[VM_MTRR_WORDS];
    uint64_t last_io_rip;
    uint32_t last_io_val;
    uint16_t last_io_port;
    uint8_t last_io_size, last_io_in;
    uint64_t exits[EXIT_REASONS];
    struct portal portals[256];
};

struct vm {
    const struct startup_info *info;
    const struct exit_vendor *exits;
    struct gmem mem;
    struct cpuid_config cpuid;
    struct emu_bus bus;
    sel_t pd;
    uint64_t tsc_start;
    struct tsc_scale scale;
    uint64_t wall_ns_at_zero, pv_wall;
    uint64_t armed_ns; /* main thread sleeps until then; DEV_NO_DEADLINE: it is awake or sleeps for ever */
    uint32_t ending;

    struct mutex uart_lock, timer_lock, out_lock, irq_lock, log_lock;
    struct uart uart;
    struct pit pit;
    struct rtc rtc;
    struct acpi_pm pm;
    struct pci pci;
    struct pic pic;
    struct ioapic ioapic;

    struct session console;
    uint8_t out[VM_OUT_BUFFER];
    uint32_t out_len;
    uint64_t out_since_ns, out_lost;
    uint32_t out_stopped; /* the console ring was full */
    uint32_t in_stopped;  /* the guest's receiver was full */

    uint8_t ports_logged[0x10000 / 8];
    uint32_t msrs_logged[64], msrs_logged_count;

    unsigned cpus;
    struct vcpu vcpu[VM_MAX_CPUS];
};

/* vm.c: time and end */
uint64_t vm_now_ns(const struct vm *vm);
/* TSC value at which that VM time has passed. */
uint64_t vm_ns_to_tsc(const struct vm *vm, uint64_t ns);
/* The main thread must look at its timers at that time at the latest. */
void vm_deadline(struct vm *vm, uint64_t ns);
/* Ends the VM: report, statistics, exit. Only the first caller's words count. */
_Noreturn void vm_end(struct vm *vm, int code, const char *reason);
void vm_statistics(const struct vm *vm);

/* board.c: ports and device memory */
void board_init(struct vm *vm, int64_t epoch_s);
uint32_t board_in(void *ctx, uint16_t port, unsigned size);
void board_out(void *ctx, uint16_t port, unsigned size, uint32_t val);
bool board_mmio_read(void *ctx, uint64_t gpa, unsigned size, uint64_t *val);
bool board_mmio_write(void *ctx, uint64_t gpa, unsigned size, uint64_t val);
/* Runs what is due and returns the next deadline. */
uint64_t board_tick(struct vm *vm, uint64_t now_ns);
/* Which vCPU's LAPIC do device memory accesses on this thread mean? */
struct vcpu *board_self(struct vm *vm);

/* serial.c: UART and console */
void serial_init(struct vm *vm);
uint8_t serial_in(struct vm *vm, unsigned reg);
void serial_out(struct vm *vm, unsigned reg, uint8_t val);
void serial_flush(struct vm *vm);
/* Main thread: moves typed bytes to the guest and resumes output; returns when output must be flushed at the latest. */
uint64_t serial_poll(struct vm *vm, uint64_t now_ns);

/* irq.c: interrupt lines, messages, injection */
struct irq_line irq_isa(struct vm *vm, unsigned irq);
void irq_ioapic_send(void *ctx, const struct apic_msg *m);
void irq_effect(struct vcpu *v, const struct lapic_effect *e);
void irq_lapic_write(struct vcpu *v, unsigned reg, uint64_t val, bool *ok);
void irq_pic_changed(struct vm *vm);
void vcpu_notify(struct vcpu *v);
bool irq_pending(struct vcpu *v);
/* What ends a halt with interrupts disabled: NMI or INIT. */
bool irq_pending_unmaskable(const struct vcpu *v);
/* Injection flags for the windows in which what is pending can be taken. */
uint32_t irq_windows(struct vcpu *v);
/* Handler thread: the MSR (false: #GP). While pv_eoi_marked: at the begin of an exit, an end of interrupt that came without one; at its end,
 * before the injection: not without one any more if another vector waits. */
bool irq_pv_eoi_write(struct vcpu *v, uint64_t val);
void irq_pv_eoi_settle(struct vcpu *v);
void irq_pv_eoi_withdraw(struct vcpu *v);
/* Chooses what the reply injects: s has RFLAGS, interruptibility and the interrupted event. */
void irq_inject(struct vcpu *v, struct abi_state *s);

/* msr.c; false: #GP. *mtd: further state that the reply carries. */
bool msr_read(struct vcpu *v, uint32_t msr, struct abi_state *s, uint64_t *val);
bool msr_write(struct vcpu *v, uint32_t msr, struct abi_state *s, uint64_t val, uint32_t *mtd);
void msr_init(struct vcpu *v);

/* vcpu.c */
struct load_result;
/* Makes PD, ECs and portals; false: said why. */
bool vcpus_create(struct vm *vm, const struct load_result *boot);
bool vcpus_start(struct vm *vm);

/* report.c: what a VM did that ended it */
_Noreturn void report_and_end(struct vcpu *v, const struct abi_state *s, bool full, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
