/* Walk of the guest's page tables: no paging, 32-bit, PAE and 4 or 5 levels. Facts: AMD APM vol. 2 chapter 5. */
#pragma once
#include "core/abi.h"
#include "gmem.h"

enum walk_access {
    WALK_READ = 0,
    WALK_WRITE = 2,
    WALK_USER = 4,
    WALK_FETCH = 16
}; /* bits of a page-fault error code */

/* Guest-virtual -> guest-physical with the permission checks of the processor; sets accessed and dirty bits.
 * False: *error is the page-fault error code to be delivered. The result holds up to the end of the 4 KiB page. */
bool walk_gva(const struct gmem *g, const struct abi_state *s, uint64_t gva, unsigned access, uint64_t *gpa,
              uint32_t *error);
