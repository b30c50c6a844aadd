/* 16550 at COM1, 115200 8n1, FIFOs on, interrupt driven. Not locked. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void uart_init(void);

/* One received byte, -1: none. */
int uart_read(void);

/* Gives up to len bytes to the transmitter and returns how many it took; asks for an interrupt when there is space again if that
 * was not all, and for none if it was. */
size_t uart_write(const uint8_t *bytes, size_t len);

/* Acknowledges the interrupt (the identification register clears "transmitter empty"). */
void uart_ack(void);
