// LINK: src/arch/cmdline.c
/* Goal: cmdline_parse (arch/cmdline.h) understands each option of docs/boot.md, keeps the default of what it does not understand and counts it.
 * Method: words and their outcome, then random text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "arch/cmdline.h"
#include "arch/mitigate.h"
#include "core/klog.h"

static struct cmdline parsed(const char *text) {
    struct cmdline c;
    memset(&c, 0x5a, sizeof(c));
    cmdline_parse(text, &c);
    return c;
}

static bool is_default(const struct cmdline *c) {
    return !c->debugcon && !c->nosmp && !c->noiommu && !c->nofb && c->loglevel == KLOG_INFO &&
           c->serial == SERIAL_PORT && c->serial_port == 0x3f8 && c->serial_baud == BAUD_MAX;
}

static void defaults(void **s) {
    (void)s;
    static const char *const texts[] = {"", " ", "/boot/novella.elf", "novella32.elf", "root.verbose root.x=1", "\t "};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct cmdline c = parsed(texts[i]);
        assert_true(is_default(&c));
        assert_int_equal(c.bad, 0);
        assert_string_equal(c.word, "");
    }
}

static void flags(void **s) {
    (void)s;
    struct cmdline c = parsed("/novella.elf nosmp  debugcon\tnoiommu nofb ");
    assert_true(c.nosmp && c.debugcon && c.noiommu && c.nofb);
    assert_int_equal(c.bad, 0);
    c = parsed("nosmpx xnosmp NOSMP nosmp=1");
    assert_false(c.nosmp);
    assert_int_equal(c.bad, 4);
    assert_string_equal(c.word, "nosmpx");
}

static void levels(void **s) {
    (void)s;
    assert_int_equal(parsed("loglevel=0").loglevel, KLOG_FATAL);
    assert_int_equal(parsed("loglevel=1").loglevel, KLOG_WARNING);
    assert_int_equal(parsed("loglevel=1 loglevel=2").loglevel, KLOG_INFO);
    static const char *const wrong[] = {"loglevel=",   "loglevel=3",  "loglevel=x",
                                        "loglevel=1x", "loglevel=-1", "loglevel"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cmdline c = parsed(wrong[i]);
        assert_true(is_default(&c));
        assert_int_equal(c.bad, 1);
    }
}

static void mitigate_modes(void **s) {
    (void)s;
    assert_int_equal(parsed("").mitigations, MITIGATE_AUTO);
    assert_int_equal(parsed("mitigations=force").mitigations, MITIGATE_FORCE);
    assert_int_equal(parsed("mitigations=off nosmp").mitigations, MITIGATE_OFF);
    assert_int_equal(parsed("mitigations=off mitigations=auto").mitigations, MITIGATE_AUTO);
    static const char *const wrong[] = {"mitigations=", "mitigations", "mitigations=offx", "mitigations=Force"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cmdline c = parsed(wrong[i]);
        assert_int_equal(c.mitigations, MITIGATE_AUTO);
        assert_int_equal(c.bad, 1);
    }
}

static void serial(void **s) {
    (void)s;
    static const struct {
        const char *text;
        unsigned kind, port, baud;
    } right[] = {{"serial=com1", SERIAL_PORT, 0x3f8, 115200},    {"serial=com2", SERIAL_PORT, 0x2f8, 115200},
                 {"serial=com3,9600", SERIAL_PORT, 0x3e8, 9600}, {"serial=com4", SERIAL_PORT, 0x2e8, 115200},
                 {"serial=0xd050", SERIAL_PORT, 0xd050, 115200}, {"serial=1000,57600", SERIAL_PORT, 1000, 57600},
                 {"serial=none", SERIAL_NONE, 0x3f8, 115200},    {"serial=pci,38400", SERIAL_PCI, 0x3f8, 38400},
                 {"serial=0xfff8,1", SERIAL_PORT, 0xfff8, 1}};
    for (unsigned i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        struct cmdline c = parsed(right[i].text);
        assert_int_equal(c.bad, 0);
        assert_int_equal(c.serial, right[i].kind);
        assert_int_equal(c.serial_port, right[i].port);
        assert_int_equal(c.serial_baud, right[i].baud);
    }
    static const char *const wrong[] = {"serial=",
                                        "serial=com5",
                                        "serial=com0",
                                        "serial=com1,",
                                        "serial=com1,0",
                                        "serial=com1,115201",
                                        "serial=com1,7",
                                        "serial=0xfff9",
                                        "serial=0x",
                                        "serial=7",
                                        "serial=pcix",
                                        "serial=com1x",
                                        "serial=99999999999999999999",
                                        "serial",
                                        "serial=3f8"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct cmdline c = parsed(wrong[i]);
        assert_true(is_default(&c));
        assert_int_equal(c.bad, 1);
        assert_string_equal(c.word, wrong[i]);
    }
}

static void long_words_are_shortened(void **s) {
    (void)s;
    struct cmdline c = parsed("a-word-that-is-much-longer-than-what-is-kept-of-it and more");
    assert_int_equal(c.bad, 3);
    assert_string_equal(c.word, "a-word-that-is-much-longer-than");
    c = parsed("/kernel /other"); /* only the first can be the kernel's name */
    assert_int_equal(c.bad, 1);
    assert_string_equal(c.word, "/other");
}

static void any_text(void **s) {
    (void)s;
    static const char parts[][10] = {
        "serial=", "com1", ",", "0x", "pci", " ", "loglevel=", "9", "nosmp", "root.", "none", "f", "/", "115200"};
    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        char *text = calloc(1, 200); /* on the heap: reading beyond it is seen */
        for (unsigned n = (unsigned)rand() % 15; n; n--)
            strcat(text, parts[(unsigned)rand() % (sizeof(parts) / sizeof(parts[0]))]);
        text = realloc(text, strlen(text) + 1);
        struct cmdline c = parsed(text);
        assert_true(c.loglevel <= KLOG_INFO && c.serial <= SERIAL_NONE && c.serial_port >= 8);
        assert_true(c.serial_baud && BAUD_MAX % c.serial_baud == 0);
        assert_true(c.bad <= 16 && (c.bad != 0) == (c.word[0] != 0));
        free(text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(defaults), cmocka_unit_test(flags),
                                       cmocka_unit_test(levels),   cmocka_unit_test(mitigate_modes),
                                       cmocka_unit_test(serial),   cmocka_unit_test(long_words_are_shortened),
                                       cmocka_unit_test(any_text)};
    return cmocka_run_group_tests_name("cmdline", tests, NULL, NULL);
}
