/* Behind all flags: see edges.c. */
#include "arch/types.h"
extern bool edges_pad_end[];
bool edges_pad_end[PAGE_SIZE] __attribute__((section("__sancov_bools"), aligned(4096)));
