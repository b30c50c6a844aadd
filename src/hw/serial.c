/* COM1, 115200 8n1, polled, output only; the console component drives the same port later. 16550D data sheet, section 8. */
#include "hw/hw.h"
#include <mach/insn.h>

#define COM1 0x3f8
enum { THR = 0, IER = 1, FCR = 2, LCR = 3, MCR = 4, LSR = 5, SCR = 7 };
#define SPINS_MAX 20000 /* a character takes 87 us */

static bool present;
bool hw_debugcon;

void serial_init(void) {
    outb(COM1 + SCR, 0x5a);
    present = inb(COM1 + SCR) == 0x5a;
    if (!present)
        return;
    outb(COM1 + IER, 0);
    outb(COM1 + LCR, 0x80);
    outb(COM1 + 0, 1); /* divisor 1: 115200 */
    outb(COM1 + 1, 0);
    outb(COM1 + LCR, 3);
    outb(COM1 + FCR, 7);
    outb(COM1 + MCR, 0xb); /* DTR RTS OUT2 */
}

void arch_putc(char c) {
    if (hw_debugcon)
        outb(0xe9, (u8)c);
    if (!present)
        return;
    for (unsigned i = 0; i < SPINS_MAX && !(inb(COM1 + LSR) & 0x20); i++)
        arch_cpu_relax();
    outb(COM1 + THR, (u8)c);
}
