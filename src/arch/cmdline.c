#include "arch/cmdline.h"
#include "arch/mem.h"
#include "arch/mitigate.h"
#include "core/klog.h"

static bool is_end(char c) { return !c || c == ' ' || c == '\t'; }

/* The rest of the word behind `prefix`; NULL: another word. */
static const char *behind(const char *word, const char *prefix) {
    while (*prefix)
        if (*word++ != *prefix++)
            return NULL;
    return word;
}

static bool is_word(const char *word, const char *name) {
    const char *rest = behind(word, name);
    return rest && is_end(*rest);
}

/* Decimal, or hexadecimal with 0x, up to `most`; moves *p behind it. */
static bool number(const char **p, u64 most, u64 *out) {
    const char *s = *p, *hex = behind(s, "0x");
    u64 base = hex ? 16 : 10, v = 0;
    s = hex ? hex : s;
    const char *first = s;
    for (;; s++) {
        u64 digit = *s >= '0' && *s <= '9' ? (u64)(*s - '0') : *s >= 'a' && *s <= 'f' ? (u64)(*s - 'a' + 10) : 16;
        if (digit >= base)
            break;
        v = v * base + digit;
        if (v > most)
            return false;
    }
    *p = s;
    *out = v;
    return s != first;
}

static bool serial_parse(const char *s, struct cmdline *out) {
    static const u16 com[] = {0x3f8, 0x2f8, 0x3e8, 0x2e8};
    struct cmdline c = *out;
    const char *rest;
    u64 n;
    if ((rest = behind(s, "none")) != NULL) {
        c.serial = SERIAL_NONE;
    } else if ((rest = behind(s, "pci")) != NULL) {
        c.serial = SERIAL_PCI;
    } else if ((rest = behind(s, "com")) != NULL && *rest >= '1' && *rest <= '4') {
        c.serial_port = com[*rest++ - '1'];
    } else {
        rest = s;
        if (!number(&rest, 0xfff8, &n) || n < 8)
            return false;
        c.serial_port = (u16)n;
    }
    if (*rest == ',') {
        rest++;
        if (!number(&rest, BAUD_MAX, &n) || !n || BAUD_MAX % n)
            return false;
        c.serial_baud = (u32)n;
    }
    if (!is_end(*rest))
        return false;
    *out = c;
    return true;
}

static bool word_parse(const char *w, struct cmdline *out) {
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"debugcon", &out->debugcon}, {"nosmp", &out->nosmp}, {"noiommu", &out->noiommu}, {"nofb", &out->nofb}};
    for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
        if (is_word(w, flags[i].name))
            return *flags[i].flag = true;
    const char *value = behind(w, "loglevel=");
    u64 level;
    if (value) {
        if (!number(&value, KLOG_INFO, &level) || !is_end(*value))
            return false;
        out->loglevel = (u8)level;
        return true;
    }
    value = behind(w, "mitigations=");
    if (value) {
        static const char *const modes[] = {"auto", "force", "off"}; /* enum mitigate_mode */
        for (u8 i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
            if (is_word(value, modes[i]))
                return out->mitigations = i, true;
        return false;
    }
    value = behind(w, "serial=");
    return value ? serial_parse(value, out) : behind(w, "root.") != NULL;
}

void cmdline_parse(const char *text, struct cmdline *out) {
    *out = (struct cmdline){.loglevel = KLOG_INFO, .serial_port = 0x3f8, .serial_baud = BAUD_MAX};
    for (const char *w = text, *end; *w; w = end) {
        while (*w && is_end(*w))
            w++;
        bool path = false;
        for (end = w; !is_end(*end); end++)
            path |= *end == '/' || *end == '.';
        if (end == w || word_parse(w, out) || (w == text && path))
            continue;
        for (u32 i = 0; !out->bad && w + i < end && i < sizeof(out->word) - 1; i++)
            out->word[i] = w[i];
        out->bad++;
    }
}
