#include "config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct parser {
    struct config *config;
    const char *file;
    uint32_t line;
    config_report_fn report;
    void *context;
    enum { AT_NOWHERE, AT_SYSTEM, AT_UNIT, AT_BAD } at;
    struct config_unit *unit;
    char section[48]; /* as written, for messages */
};

static void config_error(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void config_error(struct parser *p, const char *format, ...) {
    char text[400];
    char line[480];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)snprintf(line, sizeof line, "%s:%u: %s", p->file, p->line, text);
    p->config->errors++;
    if (p->at == AT_UNIT)
        p->unit->bad = true;
    p->report(p->context, line);
}

bool config_size(const char *text, uint64_t *bytes) {
    char *end;
    uint64_t value, scale = 1;

    if (*text < '0' || *text > '9')
        return false;
    value = strtoull(text, &end, 0);
    switch (*end) {
    case 'K':
    case 'k':
        scale = 1ull << 10;
        end++;
        break;
    case 'M':
    case 'm':
        scale = 1ull << 20;
        end++;
        break;
    case 'G':
    case 'g':
        scale = 1ull << 30;
        end++;
        break;
    default:
        break;
    }
    if (*end || value > (1ull << 46) / scale)
        return false;
    *bytes = value * scale;
    return true;
}

bool config_list_has(const char *list, const char *name) {
    size_t len = strlen(name);

    while (*list) {
        size_t item = strcspn(list, ", ");

        if (item == len && !memcmp(list, name, len))
            return true;
        list += item;
        list += strspn(list, ", ");
    }
    return false;
}

static bool config_number(const char *text, uint64_t max, uint64_t *value) {
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    *value = strtoull(text, &end, 0);
    return !*end && *value <= max;
}

/* Keys: name, where it is valid, how its value is read. */
enum key_type { KEY_TEXT, KEY_SIZE, KEY_NUMBER, KEY_BOOL, KEY_CPUS, KEY_PORTS, KEY_EXIT, KEY_LEVEL };
enum key_where { IN_SYSTEM = 1, IN_COMPONENT = 2, IN_VM = 4 };

struct key {
    const char *name;
    uint32_t where;
    enum key_type type;
    size_t offset;     /* in struct config_unit */
    uint64_t min, max; /* numbers; max of a text: size of its field */
};

#define FIELD(name)      offsetof(struct config_unit, name)
#define TEXT_FIELD(name) FIELD(name), 0, sizeof(((struct config_unit *)0)->name)
static const struct key keys[] = {
    {"on_last_exit", IN_SYSTEM, KEY_EXIT, 0, 0, 0},
    {"log_level", IN_SYSTEM, KEY_LEVEL, 0, 0, 0},
    {"image", IN_COMPONENT | IN_VM, KEY_TEXT, TEXT_FIELD(image)},
    {"cpu", IN_COMPONENT | IN_VM, KEY_CPUS, 0, 0, 63},
    {"priority", IN_COMPONENT | IN_VM, KEY_NUMBER, FIELD(priority), 1, 100},
    {"memory", IN_COMPONENT | IN_VM, KEY_SIZE, FIELD(memory), 4096, 1ull << 42},
    {"restart", IN_COMPONENT | IN_VM, KEY_BOOL, FIELD(restart), 0, 0},
    {"autostart", IN_COMPONENT | IN_VM, KEY_BOOL, FIELD(autostart), 0, 0},
    {"ports", IN_COMPONENT, KEY_PORTS, 0, 0, 0},
    {"irq", IN_COMPONENT, KEY_NUMBER, FIELD(irq), 0, 15},
    {"services", IN_COMPONENT, KEY_TEXT, TEXT_FIELD(services)},
    {"uses", IN_COMPONENT, KEY_TEXT, TEXT_FIELD(uses)},
    {"kernel", IN_VM, KEY_TEXT, TEXT_FIELD(kernel)},
    {"initrd", IN_VM, KEY_TEXT, TEXT_FIELD(initrd)},
    {"cmdline", IN_VM, KEY_TEXT, TEXT_FIELD(cmdline)},
    {"console", IN_VM, KEY_NUMBER, FIELD(console), 1, 9},
    {"cpus", IN_VM, KEY_NUMBER, FIELD(cpus), 1, CONFIG_CPUS_MAX},
};
#define KEY_COUNT (sizeof keys / sizeof keys[0])

/* Levenshtein distance over two rows; names are short. */
static uint32_t config_distance(const char *a, const char *b) {
    uint32_t row[40];
    size_t len = strlen(b);

    if (len >= 40 || strlen(a) >= 40)
        return 40;
    for (uint32_t j = 0; j <= len; j++)
        row[j] = j;
    for (uint32_t i = 1; a[i - 1]; i++) {
        uint32_t diagonal = row[0];

        row[0] = i;
        for (uint32_t j = 1; j <= len; j++) {
            uint32_t change = diagonal + (a[i - 1] != b[j - 1]);
            uint32_t shift = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;

            diagonal = row[j];
            row[j] = change < shift ? change : shift;
        }
    }
    return row[len];
}

static const char *config_nearest_key(const char *name, uint32_t where) {
    const char *best = "";
    uint32_t best_distance = UINT32_MAX;

    for (size_t i = 0; i < KEY_COUNT; i++) {
        uint32_t distance = config_distance(name, keys[i].name);

        if (keys[i].where & where && distance < best_distance) {
            best = keys[i].name;
            best_distance = distance;
        }
    }
    return best;
}

static bool config_cpus(struct config_unit *u, const char *value) {
    u->cpu_count = 0;
    for (;;) {
        char *end;
        uint64_t cpu = strtoull(value, &end, 10);

        if (end == value || cpu > 63 || u->cpu_count == CONFIG_CPUS_MAX)
            return false;
        u->cpu[u->cpu_count++] = (uint32_t)cpu;
        value = end + strspn(end, " ");
        if (!*value)
            return true;
        if (*value++ != ',')
            return false;
        value += strspn(value, " ");
    }
}

static bool config_ports(struct config_unit *u, const char *value) {
    u->port_count = 0;
    for (;;) {
        char *end;
        uint64_t first = strtoull(value, &end, 0);
        uint64_t last = first;

        if (end == value || u->port_count == CONFIG_PORTS_MAX)
            return false;
        if (*end == '-') {
            value = end + 1;
            last = strtoull(value, &end, 0);
            if (end == value)
                return false;
        }
        if (last > 0xffff || first > last)
            return false;
        u->ports[u->port_count++] = (struct config_ports){(uint32_t)first, (uint32_t)last};
        value = end + strspn(end, " ");
        if (!*value)
            return true;
        if (*value++ != ',')
            return false;
        value += strspn(value, " ");
    }
}

static int config_word(const char *value, const char *const words[], int count) {
    for (int i = 0; i < count; i++)
        if (!strcmp(value, words[i]))
            return i;
    return -1;
}

static void config_system_value(struct parser *p, const struct key *k, const char *value) {
    static const char *const exits[] = {"stay", "poweroff"};
    static const char *const levels[] = {"error", "warn", "info", "debug"};
    int word;

    if (k->type == KEY_EXIT) {
        word = config_word(value, exits, 2);
        if (word < 0)
            config_error(p, "%s = %s: must be poweroff or stay", k->name, value);
        else
            p->config->poweroff_on_last_exit = word == 1;
    } else {
        word = config_word(value, levels, 4);
        if (word < 0)
            config_error(p, "%s = %s: must be error, warn, info or debug", k->name, value);
        else
            p->config->log_level = (uint32_t)word;
    }
}

static void config_unit_value(struct parser *p, const struct key *k, const char *value) {
    static const char *const bools[] = {"no", "yes"};
    void *field = (char *)p->unit + k->offset;
    uint64_t number;
    int word;

    switch (k->type) {
    case KEY_TEXT:
        if (strlen(value) >= k->max)
            config_error(p, "%s: longer than %u characters", k->name, (unsigned)k->max - 1);
        else
            memcpy(field, value, strlen(value) + 1);
        break;
    case KEY_SIZE:
        if (!config_size(value, &number) || number < k->min || number > k->max)
            config_error(p, "%s = %s: must be a size such as 512M or 2G", k->name, value);
        else
            memcpy(field, &number, 8);
        break;
    case KEY_NUMBER:
        if (!config_number(value, k->max, &number) || number < k->min)
            config_error(p, "%s = %s: must be a number from %u to %u", k->name, value, (unsigned)k->min,
                         (unsigned)k->max);
        else
            memcpy(field, &(uint32_t){(uint32_t)number}, 4);
        break;
    case KEY_BOOL:
        word = config_word(value, bools, 2);
        if (word < 0)
            config_error(p, "%s = %s: must be yes or no", k->name, value);
        else
            *(bool *)field = word == 1;
        break;
    case KEY_CPUS:
        if (!config_cpus(p->unit, value))
            config_error(p, "%s = %s: must be CPU numbers such as 1 or 1, 2", k->name, value);
        break;
    default:
        if (!config_ports(p->unit, value))
            config_error(p, "%s = %s: must be port ranges such as 0x3f8-0x3ff", k->name, value);
        break;
    }
}

static void config_key_line(struct parser *p, char *line) {
    char *equals = strchr(line, '=');
    uint32_t where;

    if (p->at == AT_BAD)
        return; /* its header was reported already */
    if (!equals) {
        config_error(p, "'%.60s' is neither [section] nor key = value", line);
        return;
    }
    if (p->at == AT_NOWHERE) {
        config_error(p, "'%.60s' stands before the first section ([system], [component NAME] or [vm NAME])", line);
        return;
    }
    char *value = equals + 1 + strspn(equals + 1, " \t");

    while (equals > line && (equals[-1] == ' ' || equals[-1] == '\t'))
        equals--;
    *equals = 0;
    where = p->at == AT_SYSTEM ? IN_SYSTEM : p->unit->kind == CONFIG_VM ? IN_VM : IN_COMPONENT;
    for (size_t i = 0; i < KEY_COUNT; i++) {
        if (!(keys[i].where & where) || strcmp(keys[i].name, line))
            continue;
        if (!*value)
            config_error(p, "%s: no value", line);
        else if (p->at == AT_SYSTEM)
            config_system_value(p, &keys[i], value);
        else
            config_unit_value(p, &keys[i], value);
        return;
    }
    config_error(p, "unknown key '%.40s' in [%s]; nearest valid key: '%s'", line, p->section,
                 config_nearest_key(line, where));
}

static void config_unit_defaults(struct config_unit *u, enum config_kind kind, uint32_t line) {
    *u = (struct config_unit){.kind = kind, .line = line, .irq = -1, .autostart = true, .cpus = 1};
    u->priority = kind == CONFIG_VM ? 40 : 60;
    u->memory = kind == CONFIG_VM ? 512ull << 20 : 4ull << 20;
    if (kind == CONFIG_VM)
        memcpy(u->image, "vmm.elf", sizeof "vmm.elf");
}

static void config_unit_begin(struct parser *p, enum config_kind kind, const char *name) {
    struct config *c = p->config;

    p->at = AT_BAD;
    if (!*name || strlen(name) >= CONFIG_NAME_MAX || strcspn(name, " \t[]") != strlen(name)) {
        config_error(p, "[%s]: needs one name of up to %d characters", p->section, CONFIG_NAME_MAX - 1);
        return;
    }
    for (uint32_t i = 0; i < c->unit_count; i++) {
        if (!strcmp(c->unit[i].name, name)) {
            config_error(p, "[%s]: the name '%s' is taken by line %u", p->section, name, c->unit[i].line);
            return;
        }
    }
    if (c->unit_count == CONFIG_UNITS_MAX) {
        config_error(p, "[%s]: more than %d sections", p->section, CONFIG_UNITS_MAX);
        return;
    }
    p->unit = &c->unit[c->unit_count++];
    p->at = AT_UNIT;
    config_unit_defaults(p->unit, kind, p->line);
    memcpy(p->unit->name, name, strlen(name) + 1);
}

static void config_section_line(struct parser *p, char *line) {
    size_t len = strlen(line);

    p->at = AT_BAD;
    if (line[len - 1] != ']') {
        config_error(p, "'%.60s': the closing ] is missing", line);
        return;
    }
    line[len - 1] = 0;
    line++;
    (void)snprintf(p->section, sizeof p->section, "%s", line);

    char *name = line + strcspn(line, " \t");

    if (*name)
        *name++ = 0;
    name += strspn(name, " \t");
    if (!strcmp(line, "system") && !*name) {
        p->at = AT_SYSTEM;
    } else if (!strcmp(line, "component")) {
        config_unit_begin(p, CONFIG_COMPONENT, name);
    } else if (!strcmp(line, "vm")) {
        config_unit_begin(p, CONFIG_VM, name);
    } else {
        static const char *const kinds[] = {"system", "component", "vm"};
        int best = 0;

        for (int i = 1; i < 3; i++)
            if (config_distance(line, kinds[i]) < config_distance(line, kinds[best]))
                best = i;
        config_error(p, "unknown section [%s]; nearest valid one: [%s%s]", p->section, kinds[best],
                     best ? " NAME" : "");
    }
}

static void config_line(struct parser *p, char *line) {
    size_t len;

    line += strspn(line, " \t");
    len = strlen(line);
    while (len && strchr(" \t\r", line[len - 1]))
        line[--len] = 0;
    if (!len || *line == '#')
        return;
    if (*line == '[')
        config_section_line(p, line);
    else
        config_key_line(p, line);
}

/* What only shows when a section is complete. */
static void config_finish(struct parser *p) {
    struct config *c = p->config;

    p->at = AT_UNIT;
    for (uint32_t i = 0; i < c->unit_count; i++) {
        struct config_unit *u = p->unit = &c->unit[i];

        p->line = u->line;
        if (u->kind == CONFIG_VM && !u->kernel[0] && !u->bad)
            config_error(p, "[vm %s]: the key 'kernel' is missing", u->name);
        if (!u->image[0] && !u->bad)
            config_error(p, "[component %s]: the key 'image' is missing", u->name);
        for (uint32_t j = 0; u->console && j < i; j++)
            if (c->unit[j].console == u->console)
                config_error(p, "[vm %s]: console %u is taken by '%s'", u->name, u->console, c->unit[j].name);
    }
    for (uint32_t i = 0; i < c->unit_count; i++) {
        struct config_unit *u = &c->unit[i];

        if (u->kind != CONFIG_VM || u->console)
            continue;
        for (uint32_t number = 1; number <= 9 && !u->console; number++) {
            bool taken = false;

            for (uint32_t j = 0; j < c->unit_count; j++)
                taken |= c->unit[j].console == number;
            if (!taken)
                u->console = number;
        }
    }
}

void config_parse(struct config *c, const char *file, const char *text, size_t len, config_report_fn report,
                  void *context) {
    struct parser p = {.config = c, .file = file, .report = report, .context = context};
    char line[CONFIG_TEXT_MAX + 64];

    *c = (struct config){.log_level = 2};
    while (len) {
        const char *end = memchr(text, '\n', len);
        size_t line_len = end ? (size_t)(end - text) : len;

        p.line++;
        if (line_len >= sizeof line || memchr(text, 0, line_len)) {
            config_error(&p, line_len >= sizeof line ? "line too long" : "not a text file: zero byte");
            if (line_len < sizeof line)
                return;
        } else {
            memcpy(line, text, line_len);
            line[line_len] = 0;
            config_line(&p, line);
        }
        text += line_len + (end != NULL);
        len -= line_len + (end != NULL);
    }
    config_finish(&p);
}
