#include "uart.h"

/* National Semiconductor PC16550D data sheet, table II: registers. */
enum { COM1 = 0x3f8, DATA = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5 };
enum { IER_RX = 1, IER_TX = 2, LSR_DATA = 1, LSR_THRE = 0x20, FIFO_SIZE = 16 };

static uint8_t uart_ier;

static uint8_t uart_in(uint16_t reg) {
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"((uint16_t)(COM1 + reg)));
    return v;
}

static void uart_out(uint16_t reg, uint8_t v) {
    __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"((uint16_t)(COM1 + reg)));
}

static void uart_interrupts(uint8_t ier) {
    if (ier != uart_ier)
        uart_out(IER, uart_ier = ier);
}

void uart_init(void) {
    uart_out(IER, 0);
    uart_out(LCR, 0x80); /* divisor latch */
    uart_out(DATA, 1);   /* 115200 */
    uart_out(IER, 0);
    uart_out(LCR, 0x03); /* 8n1 */
    uart_out(FCR, 0x01); /* FIFOs on, receive trigger at one byte; not emptied: keys may have been typed already */
    uart_out(MCR, 0x0b); /* DTR, RTS, OUT2: interrupt line connected */
    uart_ier = 0;
    uart_interrupts(IER_RX);
}

int uart_read(void) { return uart_in(LSR) & LSR_DATA ? uart_in(DATA) : -1; }

size_t uart_write(const uint8_t *bytes, size_t len) {
    size_t done = 0;

    while (done < len && uart_in(LSR) & LSR_THRE)
        for (uint32_t i = 0; i < FIFO_SIZE && done < len; i++)
            uart_out(DATA, bytes[done++]);
    uart_interrupts(done < len ? IER_RX | IER_TX : IER_RX);
    return done;
}

void uart_ack(void) { (void)uart_in(IIR); }
