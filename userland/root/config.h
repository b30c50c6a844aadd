/* The configuration file: strict parser, pure (text in, structure and error lines out).
 *
 *   # comment            [system]            [component NAME]            [vm NAME]            key = value
 *
 * A wrong line gives one message that names file, line, key and the nearest valid one; its section is marked bad and not
 * started; the rest goes on. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_NAME_MAX  32
#define CONFIG_UNITS_MAX 24
#define CONFIG_CPUS_MAX  8
#define CONFIG_PORTS_MAX 4
#define CONFIG_TEXT_MAX  2048

enum config_kind { CONFIG_COMPONENT, CONFIG_VM };

struct config_ports {
    uint32_t first, last;
};

struct config_unit {
    enum config_kind kind;
    char name[CONFIG_NAME_MAX];
    uint32_t line; /* of the section header */
    bool bad;
    char image[64];                           /* component image; vmm.elf for a VM unless it says otherwise */
    uint32_t cpu[CONFIG_CPUS_MAX], cpu_count; /* cpu_count 0: not given */
    uint32_t priority;                        /* 1..100 */
    uint64_t memory;                          /* bytes: quota of a component, RAM of a VM */
    bool restart, autostart;
    /* components */
    struct config_ports ports[CONFIG_PORTS_MAX];
    uint32_t port_count;
    int32_t irq;                 /* -1: none */
    char services[64], uses[64]; /* comma-separated names */
    /* VMs */
    char kernel[64], initrd[64], cmdline[CONFIG_TEXT_MAX];
    uint32_t console; /* 0: not given */
    uint32_t cpus;
};

struct config {
    bool poweroff_on_last_exit;
    uint32_t log_level; /* 0 error .. 3 debug */
    uint32_t errors, unit_count;
    struct config_unit unit[CONFIG_UNITS_MAX];
};

typedef void (*config_report_fn)(void *context, const char *line);

/* file: name for messages. The text need not be terminated. */
void config_parse(struct config *c, const char *file, const char *text, size_t len, config_report_fn report,
                  void *context);

/* "512M", "1G", "4096": bytes. False unless the whole text is a size. */
bool config_size(const char *text, uint64_t *bytes);

/* Is name one of the comma-separated list? */
bool config_list_has(const char *list, const char *name);
