/* The target of AFL++: programs, or inputs of a parser, in one process. What is wrong ends it by abort. Built by afl-clang-fast; in other
 * builds one input is read and run. */
#include "afl.h"
#include "edges.h"
#include "parsers.h"
#include "program.h"
#include "runner.h"
#include "sim/engine.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __AFL_FUZZ_TESTCASE_LEN
__AFL_FUZZ_INIT();
#define input_begin() __AFL_INIT()
#define input_next()  __AFL_LOOP(1000)
#define input_bytes() __AFL_FUZZ_TESTCASE_BUF
#define input_size()  ((size_t)__AFL_FUZZ_TESTCASE_LEN)
#else
static u8 bytes[INPUT_MAX];
static size_t bytes_read;
static bool input_next(void) {
    static bool done;
    bytes_read = done ? 0 : fread(bytes, 1, sizeof(bytes), stdin);
    done = true;
    return bytes_read;
}
#define input_begin() ((void)0)
#define input_bytes() bytes
#define input_size()  bytes_read
#endif

static int programs_run(const char *kind) {
    struct program *p = shared_alloc(sizeof(*p));
    u8 head = (u8)atoi(kind);
    program_decode(p, &head, 1);
    if (!machine_boot(p))
        return 2;
    input_begin();
    /* The snapshot is taken inside the loop: what AFL's runtime counts is as it was in the first round then, and does not end it. */
    for (bool first = true; input_next(); first = false) {
        u8 program[PROGRAM_MAX];
        size_t size = input_size() < PROGRAM_MAX ? input_size() : PROGRAM_MAX;
        memcpy(program, input_bytes(), size);
        program[0] = (u8)((program[0] & ~KIND_BITS) | (head & KIND_BITS)); /* this machine's kind */
        program_decode(p, program, size);
        if (first)
            sim_snapshot_take();
        sim_snapshot_restore();
        if (machine_go(p) != SIM_OK)
            abort();
    }
    return 0;
}

int afl_run(const char *what) {
    for (unsigned i = 0; i < parser_count; i++)
        if (!strcmp(parsers[i].name, what)) {
            input_begin();
            while (input_next())
                parsers[i].run(input_bytes(), input_size());
            return 0;
        }
    return programs_run(what);
}
