/* Console component: one serial line, ten consoles. Two threads share the state under one lock: the main thread waits for
 * sessions and their rings, the other one for the interrupt of the UART. */
#include "clock.h"
#include "console_client.h"
#include "log.h"
#include "mem.h"
#include "rt.h"
#include "screen.h"
#include "thread.h"
#include "uart.h"

#include <stdio.h>
#include <string.h>

#define CLIENTS        16
#define KEY_FOREGROUND 0x100u
#define KEY_ESCAPE     0x1d /* Ctrl-] */

static struct {
    struct mutex lock;
    struct screens screens;
    struct client {
        bool open;
        uint32_t screen;
        struct session session;
    } client[CLIENTS];
    bool escape; /* the last key was Ctrl-] */
    sel_t irq;
    uint8_t early[64]; /* typed before the system's session was there */
    uint32_t early_len;
} console;

static void console_note(const char *text) { screen_switch(&console.screens, console.screens.front, text); }

static void client_key(struct client *c, uint8_t key) {
    (void)ring_put(&c->session.out, &key, 1); /* a client that does not read loses keys */
    if (ring_wake_reader(&c->session.out))
        sem_up(c->session.peer);
}

static void console_key(uint8_t key) {
    uint32_t front = console.screens.front;

    if (console.escape) {
        console.escape = false;
        if (key >= '0' && key <= '9') {
            screen_switch(&console.screens, key - '0', "");
            return;
        }
        if (key != KEY_ESCAPE) { /* twice: the key itself for the client */
            console_note("Ctrl-] then 0: system, 1 to 9: virtual machines, Ctrl-]: the key itself");
            return;
        }
    } else if (key == KEY_ESCAPE) {
        console.escape = true;
        return;
    }
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *c = &console.client[i];

        if (c->open && c->screen == front) {
            client_key(c, key);
            return;
        }
    }
    if (front == 0 && console.early_len < sizeof console.early)
        console.early[console.early_len++] = key;
}

static bool console_receive(void) {
    bool any = false;

    for (int key = uart_read(); key >= 0; key = uart_read()) {
        any = true;
        console_key((uint8_t)key);
    }
    return any;
}

static bool console_transmit(void) {
    const uint8_t *bytes;
    size_t len = screen_next(&console.screens, &bytes);
    size_t sent = uart_write(bytes, len);

    screen_sent(&console.screens, sent);
    return sent != 0;
}

/* Moves what a client wrote into its screen, as far as that may take it. */
static bool client_drain(struct client *c) {
    uint8_t part[512];
    bool any = false;

    for (;;) {
        size_t space = screen_space(&console.screens, c->screen);
        uint32_t got = ring_get(&c->session.in, part, space < sizeof part ? (uint32_t)space : (uint32_t)sizeof part);

        if (!got && space) {
            ring_sleep_reader(&c->session.in);
            got = ring_get(&c->session.in, part, sizeof part < space ? (uint32_t)sizeof part : (uint32_t)space);
        }
        if (!got)
            break;
        screen_put(&console.screens, c->screen, part, got);
        any = true;
    }
    if (any && ring_wake_writer(&c->session.in))
        sem_up(c->session.peer);
    return any;
}

static void console_service(void) {
    bool any;

    do {
        any = console_receive();
        for (uint32_t i = 0; i < CLIENTS; i++)
            any |= console.client[i].open && client_drain(&console.client[i]);
        any |= console_transmit();
    } while (any);
}

/* Everything out before something else may happen; bounded, the line may be stuck. */
static void console_flush(void) {
    const uint8_t *bytes;
    uint64_t end = clock_tsc() + clock_us_to_tsc(500000);

    do
        console_service();
    while (screen_next(&console.screens, &bytes) && clock_tsc() < end);
}

static void console_accept(void) {
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct client *c = &console.client[i];
        struct screen *screen;
        uint64_t key;
        char label[32];

        if (c->open)
            continue;
        if (session_accept(&c->session, &key, label) != PARENT_OK)
            return;
        c->open = true;
        c->screen = key & 0xff;
        if (c->screen >= SCREENS)
            c->screen = 0;
        screen = &console.screens.screen[c->screen];
        memcpy(screen->label, label, sizeof screen->label);
        for (uint32_t j = 0; c->screen == 0 && j < console.early_len; j++)
            client_key(c, console.early[j]);
        if (c->screen == 0)
            console.early_len = 0;
        if (key & KEY_FOREGROUND && console.screens.front != c->screen) {
            console_flush();
            screen_switch(&console.screens, c->screen,
                          "to the front because it is the only virtual machine; Ctrl-] 0: system");
        }
    }
}

static void console_closed(void) {
    uint64_t id;

    while (parent_call(PARENT_CLOSED, NULL, 0, &id, 1) == PARENT_OK) {
        for (uint32_t i = 0; i < CLIENTS; i++) {
            struct client *c = &console.client[i];

            if (!c->open || c->session.id != id)
                continue;
            bool in_front = c->screen == console.screens.front;

            while (client_drain(c)) /* its last words */
                if (in_front)
                    console_flush();
            if (in_front)
                console_flush();
            c->open = false;
            session_release(&c->session);
            if (in_front && c->screen) {
                char why[64];

                (void)snprintf(why, sizeof why, "%.31s has ended", console.screens.screen[c->screen].label);
                screen_switch(&console.screens, 0, why);
            }
        }
        (void)parent_call(PARENT_CLOSE_DONE, &id, 1, NULL, 0);
    }
}

static void console_control(void) {
    uint32_t *control = &rt.info->control;
    uint32_t request = mem_read32(control);

    if (request & CONTROL_FLUSH) {
        console_flush();
        if (console.screens.front) {
            screen_switch(&console.screens, 0, "");
            console_flush();
        }
        (void)mem_xchg32(control, 0);
    }
    if (request & CONTROL_STOP)
        parent_exit(EXIT_CODE_OK, "stopped");
    if (request & CONTROL_CRASH)
        __asm__ volatile("xor %%ecx, %%ecx\n\tdivl %%ecx" : : "a"(1), "d"(0) : "ecx");
}

static void console_interrupts(void *arg) {
    (void)arg;
    for (;;) {
        (void)sem_down(console.irq);
        mutex_lock(&console.lock);
        uart_ack();
        console_service();
        mutex_unlock(&console.lock);
    }
}

int main(void) {
    if (parent_ports(0x3f8, 8) != PARENT_OK)
        panic("ports 0x3f8-0x3ff are not granted: the section needs ports = 0x3f8-0x3ff");
    console.irq = parent_irq(4);
    if (!console.irq)
        panic("interrupt 4 is not granted: the section needs irq = 4");
    if (!mutex_init(&console.lock))
        panic("no kernel memory");
    uart_init();
    memcpy(console.screens.screen[0].label, "system", sizeof "system");
    static const char hello[] = "[consoles: Ctrl-] then a digit switches; 0: system, 1 to 9: virtual machines]\r\n";

    screen_put(&console.screens, 0, (const uint8_t *)hello, sizeof hello - 1);
    if (!thread_create_global("uart", 0, 0, 0, console_interrupts, NULL))
        panic("no thread for the interrupt");
    if (parent_serve("console") != PARENT_OK)
        panic("the service is not granted: the section needs services = console");
    for (;;) {
        mutex_lock(&console.lock);
        console_closed();
        console_accept();
        console_control();
        console_service();
        mutex_unlock(&console.lock);
        (void)sem_wait_all(COMP_SEL_SIGNAL, 0);
    }
}
