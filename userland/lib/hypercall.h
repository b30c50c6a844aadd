/* The way into the kernel, by the number of arguments; on hardware userland/lib/hw has the instructions in place of the function, which the
 * simulator and tests replace. Registers as the ABI names them; returns the status. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* RSI and RDX after the call go to out[0], out[1] if out is not null. */
uint64_t hypercall(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t rax, uint64_t r8, uint64_t *out);

static inline uint64_t hypercall_1(uint64_t rdi) { return hypercall(rdi, 0, 0, 0, 0, NULL); }
static inline uint64_t hypercall_2(uint64_t rdi, uint64_t rsi) { return hypercall(rdi, rsi, 0, 0, 0, NULL); }
static inline uint64_t hypercall_3(uint64_t rdi, uint64_t rsi, uint64_t rdx) {
    return hypercall(rdi, rsi, rdx, 0, 0, NULL);
}
