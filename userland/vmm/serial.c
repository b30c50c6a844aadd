#include "vm.h"

#include <string.h>
#include <string.h>

/* Output is shown after that at the latest, sooner when the guest halts: waking the console costs as much as many bytes. */
#define OUT_DELAY_NS 20000000ull

/* Moves the buffer to the console ring; out_lock is held. */
static void out_drain(struct vm *vm) {
    size_t done = vm->out_len ? console_write(&vm->console, vm->out, vm->out_len) : 0;

    if (done < vm->out_len)
        memmove(vm->out, vm->out + done, vm->out_len - done);
    vm->out_len -= (uint32_t)done;
    vm->out_stopped = vm->out_len != 0;
}

static bool out_put(void *ctx, uint8_t byte) {
    struct vm *vm = ctx;
    bool first;

    mutex_lock(&vm->out_lock);
    first = vm->out_len == 0;
    if (vm->out_len == VM_OUT_BUFFER)
        vm->out_lost++; /* the guest did not wait for the transmitter */
    else
        vm->out[vm->out_len++] = byte;
    if (!vm->out_stopped && vm->out_len >= VM_OUT_FLUSH)
        out_drain(vm);
    bool more = vm->out_len < VM_OUT_PAUSE;
    first = first && vm->out_len;
    if (first)
        vm->out_since_ns = vm_now_ns(vm);
    mutex_unlock(&vm->out_lock);
    if (first)
        vm_deadline(vm, vm->out_since_ns + OUT_DELAY_NS);
    return more;
}

void serial_init(struct vm *vm) { uart_init(&vm->uart, irq_isa(vm, 4), out_put, vm); }

uint8_t serial_in(struct vm *vm, unsigned reg) {
    mutex_lock(&vm->uart_lock);
    uint8_t v = uart_read(&vm->uart, reg);
    bool room = reg == 0 && vm->in_stopped && uart_room(&vm->uart);
    if (room)
        vm->in_stopped = 0;
    mutex_unlock(&vm->uart_lock);
    if (room)
        sem_up(COMP_SEL_SIGNAL);
    return v;
}

void serial_out(struct vm *vm, unsigned reg, uint8_t val) {
    mutex_lock(&vm->uart_lock);
    uart_write(&vm->uart, reg, val);
    mutex_unlock(&vm->uart_lock);
}

void serial_flush(struct vm *vm) {
    mutex_lock(&vm->out_lock);
    out_drain(vm);
    mutex_unlock(&vm->out_lock);
}

static void input_move(struct vm *vm) {
    uint8_t bytes[UART_FIFO];
    size_t got;

    do {
        mutex_lock(&vm->uart_lock);
        unsigned room = uart_room(&vm->uart);
        vm->in_stopped = room == 0;
        got = room ? console_read(&vm->console, bytes, room) : 0;
        for (size_t i = 0; i < got; i++)
            uart_receive(&vm->uart, bytes[i]);
        mutex_unlock(&vm->uart_lock);
    } while (got);
}

uint64_t serial_poll(struct vm *vm, uint64_t now_ns) {
    uint64_t next = DEV_NO_DEADLINE;

    input_move(vm);
    mutex_lock(&vm->out_lock);
    if (vm->out_len && (vm->out_stopped || now_ns >= vm->out_since_ns + OUT_DELAY_NS))
        out_drain(vm);
    else if (vm->out_len)
        next = vm->out_since_ns + OUT_DELAY_NS;
    bool resume = vm->out_len < VM_OUT_PAUSE;
    mutex_unlock(&vm->out_lock);
    if (resume) {
        mutex_lock(&vm->uart_lock);
        uart_tx_resume(&vm->uart);
        mutex_unlock(&vm->uart_lock);
    }
    return next;
}
