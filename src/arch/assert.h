/* assert(): a kernel bug, never reachable from user input. On in release builds too. */
#pragma once
/* Prints what and where (symbol, registers, backtrace) and stops all CPUs; in the simulator it ends the run with its seed. */
_Noreturn void arch_panic(const char *what, const char *file, int line);
#undef assert
#define assert(x) (__builtin_expect(!!(x), 1) ? (void)0 : arch_panic(#x, __FILE__, __LINE__))
