/* Linked into the coverage build with --wrap=_exit: a child process of the simulator ends by _exit, and its counts must not be lost; nor must
 * they go back with a snapshot. They lie together, between the two pages here (-fdata-sections, --sort-section=name). */
#include <gcov.h>
#include <stdlib.h>

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __wrap__exit(int status) {
    __gcov_dump();
    __real__exit(status);
}

static char first[4096] __attribute__((aligned(4096), section(".bss.__gcov")));
static char last[4096] __attribute__((aligned(4096), section(".bss.__gcov~")));
void sim_snapshot_keep(char **start, char **stop);
void sim_snapshot_keep(char **start, char **stop) {
    *start = first;
    *stop = last + sizeof(last);
}
