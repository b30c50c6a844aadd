/* Memory types by physical address, for tables whose entries carry them: EPT. Intel SDM vol 3 11.11 "Memory type range registers". */
#pragma once
#include "arch/types.h"

enum { MEM_UC = 0, MEM_WC = 1, MEM_WT = 4, MEM_WP = 5, MEM_WB = 6 };
/* Boot CPU: reads the registers (all CPUs have the same). Without it everything is write-back. */
void mtrr_read(unsigned phys_bits);
/* Type of a naturally aligned range; uncached if its parts differ. */
unsigned mtrr_type(u64 base, u64 size);
