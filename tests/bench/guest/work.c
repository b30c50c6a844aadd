/* The guest's work of make bench-guest, between two marks that the plugin sees (tests/bench/plugin/count.c) and that cost one instruction each.
 *   work                          one mark
 *   work times N PROGRAM ARG...   starts it N times, one after the other
 *   work pipe N                   a byte to another process and back, N times */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void mark(void) { __asm__ volatile("xchg %%bx, %%bx" : : : "memory"); }

static int fail(const char *what) {
    perror(what);
    return 1;
}

static int times(int n, char **program) {
    int status;

    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        if (child < 0)
            return fail("fork");
        if (child == 0) {
            execvp(program[0], program);
            _exit(fail(program[0]));
        }
        if (waitpid(child, &status, 0) != child || status)
            return fail("child");
    }
    return 0;
}

static int answer(int from, int to) {
    char byte;

    while (read(from, &byte, 1) == 1)
        if (write(to, &byte, 1) != 1)
            return 1;
    return 0;
}

static int round_trips(int n) {
    int there[2], back[2], status;
    char byte = 0;

    if (pipe(there) || pipe(back))
        return fail("pipe");
    pid_t child = fork();
    if (child < 0)
        return fail("fork");
    if (child == 0) {
        close(there[1]);
        _exit(answer(there[0], back[1]));
    }
    for (int i = 0; i < n; i++)
        if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
            return fail("round trip");
    close(there[1]);
    return waitpid(child, &status, 0) == child && !status ? 0 : fail("child");
}

int main(int argc, char **argv) {
    int status = 0;

    mark();
    if (argc < 2)
        return 0;
    if (argc > 3 && !strcmp(argv[1], "times"))
        status = times(atoi(argv[2]), argv + 3);
    else if (argc == 3 && !strcmp(argv[1], "pipe"))
        status = round_trips(atoi(argv[2]));
    else
        return 2;
    mark();
    printf("work %s: %s\n", argv[1], status ? "failed" : "done");
    return status;
}
