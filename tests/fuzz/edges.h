/* Code edges that were reached: flags that clang keeps for each edge of src/core, src/arch and the parsers of userland
 * (-fsanitize-coverage=inline-bool-flag,pc-table). The kernel's objects stand first on the link line, so one of its edges has the
 * same number in every program. Without that instrumentation there are none and everything here does nothing. */
#pragma once
#include "arch/types.h"

/* Shares the flags with the processes forked from here on; with a path also with all that use that file (the flags in it stay). */
void edges_share(const char *path);
/* One flag for each edge, the kernel's first, and some that stay false. */
bool *edges_flags(void);
unsigned edges_bytes(void);
unsigned edges_kernel(void);
/* Address of the code of a kernel edge. */
u64 edge_address(unsigned n);
