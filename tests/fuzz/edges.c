/* The flags lie between two pages of padding, so that shared pages can be put under them: a child that dies has shown what it reached.
 * Linked into any program, with EDGES=FILE in its environment, this collects in that file. */
#define _GNU_SOURCE
#include "edges.h"
#include "sim/engine.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* What the compiler's constructors call (Clang documentation, SanitizerCoverage, "Inline bool-flag"). */
void __sanitizer_cov_bool_flag_init(bool *first, bool *end);
void __sanitizer_cov_pcs_init(const u64 *first, const u64 *end);

/* In files of their own, where the link line says. */
extern bool edges_mark[], edges_pad_end[];
bool edges_pad_start[PAGE_SIZE] __attribute__((section("__sancov_bools"), aligned(4096)));

static const u64 *pcs; /* pairs: address, flags */

bool *edges_flags(void) { return edges_pad_start + PAGE_SIZE; }
unsigned edges_kernel(void) { return (unsigned)(edges_mark - edges_flags()); }
unsigned edges_bytes(void) { return (unsigned)(edges_pad_end - edges_flags()); }
u64 edge_address(unsigned n) { return pcs[2 * n]; }

void __sanitizer_cov_bool_flag_init(bool *first, bool *end) { (void)first, (void)end; }

void __sanitizer_cov_pcs_init(const u64 *first, const u64 *end) {
    (void)end;
    pcs = first;
}

void edges_share(const char *path) {
    size_t size = edges_bytes();
    int fd = path ? open(path, O_RDWR | O_CREAT, 0666) : memfd_create("edges", 0);
    if (fd < 0 || ftruncate(fd, (off_t)size) ||
        mmap(edges_flags(), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        perror("edges: cannot share");
        exit(2);
    }
    close(fd);
}

__attribute__((constructor)) static void edges_collect(void) {
    const char *path = getenv("EDGES");
    if (path)
        edges_share(path);
}

void sim_snapshot_keep(char **start, char **stop) {
    *start = (char *)edges_flags();
    *stop = (char *)edges_pad_end;
}
