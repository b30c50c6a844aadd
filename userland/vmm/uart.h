/* 16550A serial port. Sending takes no time: a written byte goes to the sink at once, so the transmitter is empty unless the sink
 * asks for a pause.
 * Facts: National Semiconductor PC16550D data sheet. */
#pragma once
#include "dev.h"
#include "record.h"

#define UART_FIFO 16

struct uart {
    uint8_t ier, lcr, mcr, scr, fcr, lsr_errors;
    uint8_t dll, dlm;
    uint8_t thre_pending; /* transmitter-empty interrupt raised, not yet seen in IIR */
    uint8_t rx_count, rx_first;
    uint8_t msr_delta;
    uint8_t tx_paused; /* the sink is full: transmitter not empty until uart_tx_resume */
    uint8_t rx[UART_FIFO];
    struct irq_line irq;
    bool (*sink)(void *ctx, uint8_t byte); /* a byte that the guest sent; false: pause after it */
    void *sink_ctx;
};

void uart_init(struct uart *u, struct irq_line irq, bool (*sink)(void *ctx, uint8_t byte), void *sink_ctx);
/* reg 0..7 */
uint8_t uart_read(struct uart *u, unsigned reg);
void uart_write(struct uart *u, unsigned reg, uint8_t val);
/* Bytes that the receiver would take now without loss. */
unsigned uart_room(const struct uart *u);
/* A byte arrives; without room it is lost and the overrun bit says so. */
void uart_receive(struct uart *u, uint8_t byte);
void uart_tx_resume(struct uart *u);
bool uart_save(const struct uart *u, struct record_buf *b);
bool uart_restore(struct uart *u, const struct record_buf *b);
