/* Linked into the coverage build with --wrap=_exit: a child process of the simulator ends by _exit, and its counts must not be lost. */
#include <gcov.h>
#include <stdlib.h>

_Noreturn void __real__exit(int status);
_Noreturn void __wrap__exit(int status);
_Noreturn void __wrap__exit(int status) {
    __gcov_dump();
    __real__exit(status);
}
