// LINK: userland/root/config.c
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../userland/root/config.h"

static struct config config;
static char messages[4096];

static void remember(void *context, const char *line) {
    (void)context;
    strncat(messages, line, sizeof messages - strlen(messages) - 2);
    strcat(messages, "\n");
}

static void parse(const char *text) {
    messages[0] = 0;
    config_parse(&config, "novella.conf", text, strlen(text), remember, NULL);
}

static void config_parse_complete(void **state) {
    (void)state;
    parse("# a comment\n[system]\non_last_exit = poweroff\nlog_level = debug\n"
          "[component console]\nimage = console.elf\ncpu = 0\nports = 0x3f8-0x3ff, 0x80\nirq = 4\nrestart = "
          "yes\nservices = console\n"
          "[vm linux]\r\n  kernel = guest/vmlinux\t\ncmdline = console=ttyS0 rdinit=/init\nmemory=1G\ncpu = 1, 2\ncpus "
          "= 2\n");
    assert_string_equal(messages, "");
    assert_true(config.poweroff_on_last_exit);
    assert_int_equal(config.log_level, 3);
    assert_int_equal(config.unit_count, 2);
    assert_int_equal(config.unit[0].kind, CONFIG_COMPONENT);
    assert_int_equal(config.unit[0].port_count, 2);
    assert_int_equal(config.unit[0].ports[0].first, 0x3f8);
    assert_int_equal(config.unit[0].ports[1].last, 0x80);
    assert_int_equal(config.unit[0].irq, 4);
    assert_true(config.unit[0].restart);
    assert_string_equal(config.unit[1].kernel, "guest/vmlinux");
    assert_string_equal(config.unit[1].cmdline, "console=ttyS0 rdinit=/init");
    assert_int_equal(config.unit[1].memory, 1ull << 30);
    assert_int_equal(config.unit[1].cpu_count, 2);
    assert_int_equal(config.unit[1].cpu[1], 2);
    assert_int_equal(config.unit[1].console, 1);
}

static void config_parse_vm_defaults(void **state) {
    (void)state;
    parse("[vm a]\nkernel = k\nconsole = 1\n[vm b]\nkernel = k");
    assert_int_equal(config.errors, 0);
    assert_int_equal(config.unit[1].memory, 512ull << 20);
    assert_int_equal(config.unit[1].cpus, 1);
    assert_int_equal(config.unit[1].console, 2);
    assert_true(config.unit[1].autostart);
    assert_string_equal(config.unit[1].image, "vmm.elf");
}

static void config_parse_names_nearest_key(void **state) {
    (void)state;
    parse("[vm a]\nkernel = k\nmemry = 1G\n[vm b]\nkernel = k\n");
    assert_string_equal(messages, "novella.conf:3: unknown key 'memry' in [vm a]; nearest valid key: 'memory'\n");
    assert_true(config.unit[0].bad);
    assert_false(config.unit[1].bad);
}

static void config_parse_unknown_section(void **state) {
    (void)state;
    parse("[vn a]\nkernel = k\n[vm b]\nkernel = k\n");
    assert_string_equal(messages, "novella.conf:1: unknown section [vn a]; nearest valid one: [vm NAME]\n");
    assert_int_equal(config.unit_count, 1);
}

static void config_parse_wrong_values(void **state) {
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"memory = much", "must be a size"},
        {"memory = 12Q", "must be a size"},
        {"memory = 99999999999999999999G", "must be a size"},
        {"cpu = 64", "CPU numbers"},
        {"cpu = 1,", "CPU numbers"},
        {"cpu = -1", "CPU numbers"},
        {"console = 0", "number from 1 to 9"},
        {"console = 10", "number from 1 to 9"},
        {"autostart = maybe", "yes or no"},
        {"irq = 4", "unknown key 'irq'"},
        {"priority = 101", "number from 1 to 100"},
        {"kernel =", "no value"},
        {"just words", "neither [section] nor"},
        {"cpus = 9", "number from 1 to 8"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[200] = "[vm a]\nkernel = k\n";

        strcat(text, cases[i].line);
        parse(text);
        assert_int_equal(config.errors, 1);
        assert_true(config.unit[0].bad);
        assert_non_null(strstr(messages, cases[i].message));
        assert_non_null(strstr(messages, "novella.conf:3: "));
    }
}

static void config_parse_missing_and_double(void **state) {
    (void)state;
    parse("[vm a]\nmemory = 1G\n[component c]\n[vm d]\nkernel = k\nconsole = 1\n[vm e]\nkernel = k\nconsole = 1\n[vm "
          "d]\nkernel = k\n");
    assert_non_null(strstr(messages, "[vm a]: the key 'kernel' is missing"));
    assert_non_null(strstr(messages, "[component c]: the key 'image' is missing"));
    assert_non_null(strstr(messages, "[vm e]: console 1 is taken by 'd'"));
    assert_non_null(strstr(messages, "novella.conf:10: [vm d]: the name 'd' is taken by line 4"));
    assert_false(config.unit[2].bad);
}

static void config_parse_random_bytes(void **state) {
    char text[600];

    (void)state;
    srand(1);
    for (int round = 0; round < 3000; round++) {
        static const char alphabet[] = "[]vmcomponentsystem a=\n\n#12G,-\0\xff";

        for (size_t i = 0; i < sizeof text; i++)
            text[i] = alphabet[rand() % (int)sizeof alphabet];
        messages[0] = 0;
        config_parse(&config, "x", text, (size_t)(rand() % (int)sizeof text), remember, NULL);
        assert_true(config.unit_count <= CONFIG_UNITS_MAX);
    }
}

static void config_list_has_whole_names(void **state) {
    (void)state;
    assert_true(config_list_has("log, console", "console"));
    assert_false(config_list_has("consoles", "console"));
    assert_false(config_list_has("", "console"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(config_parse_complete),          cmocka_unit_test(config_parse_vm_defaults),
        cmocka_unit_test(config_parse_names_nearest_key), cmocka_unit_test(config_parse_unknown_section),
        cmocka_unit_test(config_parse_wrong_values),      cmocka_unit_test(config_parse_missing_and_double),
        cmocka_unit_test(config_parse_random_bytes),      cmocka_unit_test(config_list_has_whole_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
