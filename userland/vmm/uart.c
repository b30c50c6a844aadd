#include "uart.h"

#include <string.h>

enum { IER_RX = 1, IER_THRE = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_THRE = 0x20, LSR_TEMT = 0x40 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { LCR_DLAB = 0x80, FCR_ENABLE = 1 };

static unsigned fifo_size(const struct uart *u) { return u->fcr & FCR_ENABLE ? UART_FIFO : 1; }

static unsigned trigger_level(const struct uart *u) {
    static const uint8_t level[4] = {1, 4, 8, 14};

    return u->fcr & FCR_ENABLE ? level[u->fcr >> 6] : 1;
}

/* IIR value without the FIFO bits; 1: nothing pending (data sheet, table "interrupt control functions"). */
static uint8_t pending(const struct uart *u) {
    if (u->ier & IER_LINE && u->lsr_errors)
        return 6;
    if (u->ier & IER_RX && u->rx_count >= trigger_level(u))
        return 4;
    if (u->ier & IER_RX && u->rx_count) /* the line is idle at once: character timeout */
        return 12;
    if (u->ier & IER_THRE && u->thre_pending)
        return 2;
    if (u->ier & IER_MODEM && u->msr_delta)
        return 0;
    return 1;
}

static void irq_update(struct uart *u) {
    /* PCs gate the interrupt with OUT2; in loopback the modem outputs are disconnected */
    irq_line_set(&u->irq, pending(u) != 1 && u->mcr & MCR_OUT2 && !(u->mcr & MCR_LOOP));
}

void uart_init(struct uart *u, struct irq_line irq, bool (*sink)(void *ctx, uint8_t byte), void *sink_ctx) {
    memset(u, 0, sizeof(*u));
    u->dll = 1; /* 115200 */
    u->lcr = 3;
    u->irq = irq;
    u->sink = sink;
    u->sink_ctx = sink_ctx;
}

unsigned uart_room(const struct uart *u) { return u->mcr & MCR_LOOP ? 0 : fifo_size(u) - u->rx_count; }

static void rx_put(struct uart *u, uint8_t byte) {
    if (u->rx_count >= fifo_size(u)) {
        u->lsr_errors |= LSR_OE;
        return;
    }
    u->rx[(u->rx_first + u->rx_count++) % UART_FIFO] = byte;
}

void uart_receive(struct uart *u, uint8_t byte) {
    if (!(u->mcr & MCR_LOOP))
        rx_put(u, byte);
    irq_update(u);
}

static uint8_t rx_take(struct uart *u) {
    if (!u->rx_count)
        return 0;
    uint8_t v = u->rx[u->rx_first];

    u->rx_first = (uint8_t)((u->rx_first + 1) % UART_FIFO);
    u->rx_count--;
    return v;
}

static uint8_t modem_status(const struct uart *u) {
    if (!(u->mcr & MCR_LOOP))
        return 0xb0; /* DCD, DSR, CTS: somebody listens */
    return (uint8_t)((u->mcr & MCR_RTS ? 0x10 : 0) | (u->mcr & MCR_DTR ? 0x20 : 0) | (u->mcr & MCR_OUT1 ? 0x40 : 0) |
                     (u->mcr & MCR_OUT2 ? 0x80 : 0));
}

static uint8_t iir_read(struct uart *u) {
    uint8_t v = pending(u);

    if (v == 2)
        u->thre_pending = 0;
    return (uint8_t)(v | (u->fcr & FCR_ENABLE ? 0xc0 : 0));
}

uint8_t uart_read(struct uart *u, unsigned reg) {
    uint8_t v;

    switch (reg & 7) {
    case 0:
        v = u->lcr & LCR_DLAB ? u->dll : rx_take(u);
        break;
    case 1:
        v = u->lcr & LCR_DLAB ? u->dlm : u->ier;
        break;
    case 2:
        v = iir_read(u);
        break;
    case 3:
        return u->lcr;
    case 4:
        return u->mcr;
    case 5:
        v = (uint8_t)((u->tx_paused ? 0 : LSR_THRE | LSR_TEMT) | (u->rx_count ? LSR_DR : 0) | u->lsr_errors);
        if (!u->lsr_errors)
            return v;
        u->lsr_errors = 0;
        break;
    case 6:
        v = modem_status(u) | u->msr_delta;
        u->msr_delta = 0;
        break;
    default:
        return u->scr;
    }
    irq_update(u);
    return v;
}

static void thr_write(struct uart *u, uint8_t val) {
    if (u->mcr & MCR_LOOP)
        rx_put(u, val);
    else if (!u->sink(u->sink_ctx, val))
        u->tx_paused = 1;
    if (u->thre_pending)
        irq_line_set(&u->irq, false); /* the write clears it, and emptying raises it again: an edge */
    u->thre_pending = !u->tx_paused;
}

void uart_tx_resume(struct uart *u) {
    if (!u->tx_paused)
        return;
    u->tx_paused = 0;
    u->thre_pending = 1;
    irq_update(u);
}

static void fcr_write(struct uart *u, uint8_t val) {
    if ((val ^ u->fcr) & FCR_ENABLE || val & 2)
        u->rx_count = u->rx_first = 0;
    u->fcr = val & FCR_ENABLE ? val & 0xc9 : 0;
}

static void mcr_write(struct uart *u, uint8_t val) {
    uint8_t before = modem_status(u);

    u->mcr = val & 0x1f;
    uint8_t diff = before ^ modem_status(u);
    u->msr_delta |= (uint8_t)((diff >> 4 & 0xb) | (before & 0x40 && diff & 0x40 ? 4 : 0)); /* RI: trailing edge only */
}

void uart_write(struct uart *u, unsigned reg, uint8_t val) {
    switch (reg & 7) {
    case 0:
        if (u->lcr & LCR_DLAB)
            u->dll = val;
        else
            thr_write(u, val);
        break;
    case 1:
        if (u->lcr & LCR_DLAB) {
            u->dlm = val;
        } else {
            if (val & IER_THRE && !(u->ier & IER_THRE))
                u->thre_pending = !u->tx_paused; /* enabling it with an empty transmitter interrupts at once */
            u->ier = val & 15;
        }
        break;
    case 2:
        fcr_write(u, val);
        break;
    case 3:
        u->lcr = val;
        break;
    case 4:
        mcr_write(u, val);
        break;
    case 7:
        u->scr = val;
        break;
    default:
        break;
    }
    irq_update(u);
}

bool uart_save(const struct uart *u, struct record_buf *b) {
    struct uart t = *u;

    memset(&t.irq, 0, sizeof(t.irq));
    t.sink = NULL;
    t.sink_ctx = NULL;
    return record_put(b, "uart", 1, &t, sizeof(t));
}

bool uart_restore(struct uart *u, const struct record_buf *b) {
    struct uart t;

    if (!record_get(b, "uart", 0, 1, &t, sizeof(t)) || t.rx_count > UART_FIFO || t.rx_first >= UART_FIFO)
        return false;
    t.irq = u->irq;
    t.sink = u->sink;
    t.sink_ctx = u->sink_ctx;
    *u = t;
    return true;
}
