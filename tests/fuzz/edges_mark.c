/* Between the kernel's flags and others: see edges.c. */
#include "arch/types.h"
extern bool edges_mark[];
bool edges_mark[1] __attribute__((section("__sancov_bools"), aligned(1)));
