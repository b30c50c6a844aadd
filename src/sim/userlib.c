/* The simulator's half of the user library: the one hypercall primitive that userland/lib/nova.h declares. */
#include "sim/internal.h"

uint64_t hypercall(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t rax, uint64_t r8, uint64_t *out);

uint64_t hypercall(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t rax, uint64_t r8, uint64_t *out) {
    struct sim_hypercall h = {rdi, rsi, rdx, rax, r8};
    sim_hypercall(&h);
    if (out) {
        out[0] = h.rsi;
        out[1] = h.rdx;
    }
    return h.rdi & 0xff;
}
