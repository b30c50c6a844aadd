#include "root.h"

#include <stdio.h>
#include <string.h>

#define MODULE_NAME_MAX 200

/* A boot loader passes "PATH", "PATH NAME" or "NAME ARGS": the last word names the module if there are two or more. */
static const char *module_name(const char *cmdline) {
    char text[MODULE_NAME_MAX];
    size_t len = strnlen(cmdline, sizeof text - 1);

    memcpy(text, cmdline, len);
    text[len] = 0;
    while (len && text[len - 1] == ' ')
        text[--len] = 0;
    char *last = strrchr(text, ' ');

    return strdup(last ? last + 1 : text);
}

void modules_init(void) {
    const struct abi_hip *hip = root.hip;
    uint32_t count = (hip->length - hip->mem_offs) / hip->mem_size;

    for (uint32_t i = 0; i < count && root.module_count < MODULES_MAX; i++) {
        const struct abi_hip_mem_desc *d = &hip->mem[i];
        const char *name = "";

        if (d->type != HIP_MEM_MODULE)
            continue;
        if (d->aux && phys_map(d->aux, 1) && phys_map(d->aux, MODULE_NAME_MAX))
            name = module_name(phys_ptr(d->aux));
        if (!name)
            continue;
        if (d->addr & 4095) {
            root_log("boot module '%s' ignored: the boot loader did not align it to a page", name);
            continue;
        }
        if (!d->size || !phys_map(d->addr, d->size)) {
            root_log("boot module '%s' ignored: %s", name, d->size ? "not readable" : "empty");
            continue;
        }
        root.module[root.module_count++] = (struct module){name, d->addr, d->size};
    }
}

const struct module *module_find(const char *name) {
    size_t len = strlen(name);

    for (uint32_t i = 0; i < root.module_count; i++) {
        const char *have = root.module[i].name;
        size_t have_len = strlen(have);

        /* "build/guest/vmlinux" is found by "guest/vmlinux", but not by "linux" */
        if (have_len >= len && !strcmp(have + have_len - len, name) &&
            (have_len == len || have[have_len - len - 1] == '/'))
            return &root.module[i];
    }
    return NULL;
}

void module_names(char *text, size_t size) {
    size_t at = 0;

    text[0] = 0;
    for (uint32_t i = 0; i < root.module_count && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? ", " : "", root.module[i].name);
}
