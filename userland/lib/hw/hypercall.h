/* userland/lib/hypercall.h for programs on hardware. */
#pragma once
#include <stddef.h>
#include <stdint.h>

uint64_t hypercall(uint64_t rdi, uint64_t rsi, uint64_t rdx, uint64_t rax, uint64_t r8, uint64_t *out);

static inline uint64_t hypercall_1(uint64_t rdi) {
    __asm__ volatile("syscall" : "+D"(rdi) : : "rcx", "r11", "memory");
    return (uint8_t)rdi;
}
static inline uint64_t hypercall_2(uint64_t rdi, uint64_t rsi) {
    __asm__ volatile("syscall" : "+D"(rdi) : "S"(rsi) : "rcx", "r11", "memory");
    return (uint8_t)rdi;
}
static inline uint64_t hypercall_3(uint64_t rdi, uint64_t rsi, uint64_t rdx) {
    __asm__ volatile("syscall" : "+D"(rdi) : "S"(rsi), "d"(rdx) : "rcx", "r11", "memory");
    return (uint8_t)rdi;
}
