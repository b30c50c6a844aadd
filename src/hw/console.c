/* Where the log goes: a 16550 (COM port, or the first one on PCI), the screen, port 0xe9. Polled, output only; the console component drives
 * the same port later. 16550D data sheet, section 8; PCI Local Bus Specification 3.0, 3.2.2.3.2 and 6.1; class codes: appendix D. */
#include "arch/cmdline.h"
#include "hw/hw.h"
#include <mach/insn.h>

enum { THR = 0, IER = 1, FCR = 2, LCR = 3, MCR = 4, LSR = 5, SCR = 7 };
enum {
    PCI_ADDRESS = 0xcf8,
    PCI_DATA = 0xcfc,
    PCI_ID = 0,
    PCI_COMMAND = 4,
    PCI_CLASS = 8,
    PCI_HEADER = 12,
    PCI_BAR0 = 16
};
#define CLASS_SERIAL 0x0700
#define SPINS_MAX    20000 /* a character takes 87 us at 115200 baud */

static bool present, debugcon;
static u16 port;
static volatile u8 *registers; /* of a PCI device with memory registers; NULL: ports */

static void reg_write(unsigned r, u8 v) {
    if (registers)
        registers[r] = v;
    else
        outb((u16)(port + r), v);
}
static u8 reg_read(unsigned r) { return registers ? registers[r] : inb((u16)(port + r)); }

static void uart_init(u32 baud) {
    u32 divisor = BAUD_MAX / baud;
    reg_write(SCR, 0x5a);
    present = reg_read(SCR) == 0x5a;
    if (!present)
        return;
    reg_write(IER, 0);
    reg_write(LCR, 0x80);
    reg_write(0, (u8)divisor);
    reg_write(1, (u8)(divisor >> 8));
    reg_write(LCR, 3);
    reg_write(FCR, 7);
    reg_write(MCR, 0xb); /* DTR RTS OUT2 */
}

static u32 pci_read(u32 function, u32 offset) {
    outl(PCI_ADDRESS, 1u << 31 | function << 8 | offset);
    return inl(PCI_DATA);
}

/* The first 16550 on any bus, its registers switched on. */
static bool pci_uart_find(void) {
    for (u32 f = 0; f < 0x10000; f++) {
        if (f & 7 && !(pci_read(f & ~7u, PCI_HEADER) & 0x800000))
            continue; /* not a multi-function device */
        if ((u16)pci_read(f, PCI_ID) == 0xffff || pci_read(f, PCI_CLASS) >> 16 != CLASS_SERIAL)
            continue;
        u32 bar = pci_read(f, PCI_BAR0);
        bool io = bar & 1, wide = !io && (bar & 6) == 4;
        if (!(bar & ~15u) || (wide && pci_read(f, PCI_BAR0 + 4)))
            continue; /* nobody gave it a place, or one above 4 GiB */
        u32 command = pci_read(f, PCI_COMMAND) & 0xffff;
        outl(PCI_DATA, command | (io ? 1 : 2));
        port = (u16)(bar & ~3u);
        registers = io ? NULL : arch_phys_ptr(PADDR(bar & ~15u));
        return true;
    }
    return false;
}

void console_init(const struct cmdline *o) {
    debugcon = o->debugcon;
    present = false;
    port = o->serial_port;
    registers = NULL;
    if (o->serial == SERIAL_PORT || (o->serial == SERIAL_PCI && pci_uart_find()))
        uart_init(o->serial_baud);
}

void arch_putc(char c) {
    if (debugcon)
        outb(0xe9, (u8)c);
    screen_putc(c);
    if (!present)
        return;
    for (unsigned i = 0; i < SPINS_MAX && !(reg_read(LSR) & 0x20); i++)
        arch_cpu_relax();
    reg_write(THR, (u8)c);
}
