/* The state of a run, kept and brought back: variables of this program, the physical arena, the stacks of fibers.
 *
 * Memory is write-protected when the snapshot is taken. The first write to a page, in any later run, faults: the page is copied
 * and put on a list, and is writable from then on. To restore is to copy the pages on that list back, so after a few runs there
 * are neither faults nor comparisons. */
#define _GNU_SOURCE
#include "arch/assert.h"
#include "arch/mem.h"
#include "sim/engine.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

extern char __data_start[], end[]; /* linker: initialized and zero variables */

#ifdef __SANITIZE_ADDRESS__
#define SHADOW(p) ((u8 *)(((u64)(p) >> 3) + 0x7fff8000ul))
#define UNCHECKED __attribute__((no_sanitize("address", "undefined")))
#else
#define UNCHECKED
#endif

#define MAX_STACKS  1024u
#define MAX_REGIONS 8u

struct region {
    char *start, *end; /* the bytes that belong to it */
    char *first;       /* the page of start */
    char *copy;        /* of the page at first, and so on */
    u8 *dirty;         /* per page */
};
struct stack {
    struct sim_fiber *fiber;
    void *sp;
    char *copy;
};
/* Not part of the state: in memory of its own. */
static struct snapshot {
    struct region region[MAX_REGIONS];
    u32 region_count;
    char **pages; /* dirty ones */
    u32 page_count;
    struct stack stack[MAX_STACKS];
    u32 stack_count;
    struct sigaction before;
} * snap;

static struct { char *start, *end; } more[MAX_REGIONS - 2]; /* what sim_memory gave */
static unsigned more_count;

static void *memory(size_t bytes) {
    void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m == MAP_FAILED) {
        perror("sim: no memory for a snapshot");
        exit(2);
    }
    return m;
}

void *sim_memory(size_t bytes) {
    char *m = memory(bytes);
    assert(!snap && more_count < ARRAY_SIZE(more));
    more[more_count].start = m;
    more[more_count++].end = m + bytes;
    return m;
}

/* Neither checked nor replaced by a sanitizer: freed kernel memory and redzones are copied, too. */
static void copy(void *to, const void *from, size_t bytes) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}

#ifdef __SANITIZE_ADDRESS__
/* A copy is followed by that of its shadow, an eighth of it. */
static void shadow_save(char *kept, const char *p, size_t bytes) { copy(kept + bytes, SHADOW(p), bytes / 8); }
static void shadow_restore(char *p, const char *kept, size_t bytes) { copy(SHADOW(p), kept + bytes, bytes / 8); }
static void stack_clear(struct sim_fiber *f) {
    u8 *to = SHADOW(f->stack);
    u64 n = f->size / 8;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(0) : "memory");
}
#define KEPT(bytes) ((bytes) + (bytes) / 8)
#else
static void shadow_save(char *kept, const char *p, size_t bytes) { (void)kept, (void)p, (void)bytes; }
static void shadow_restore(char *p, const char *kept, size_t bytes) { (void)p, (void)kept, (void)bytes; }
static void stack_clear(struct sim_fiber *f) { (void)f; }
#define KEPT(bytes) (bytes)
#endif

static struct region *region_of(const char *p) {
    for (unsigned i = 0; i < snap->region_count; i++)
        if (p >= snap->region[i].first && p < snap->region[i].end)
            return &snap->region[i];
    return NULL;
}

static char *copy_of(const struct region *r, const char *page) {
    return r->copy + (u64)(page - r->first) / PAGE_SIZE * KEPT(PAGE_SIZE);
}

static bool page_dirty(char *p) {
    struct region *r = region_of(p);
    if (!r)
        return false;
    char *page = (char *)((u64)p & ~PAGE_MASK);
    u64 i = (u64)(page - r->first) / PAGE_SIZE;
    if (r->dirty[i])
        return false; /* writable already: another kind of fault */
    r->dirty[i] = 1;
    copy(copy_of(r, page), page, PAGE_SIZE);
    shadow_save(copy_of(r, page), page, PAGE_SIZE);
    snap->pages[snap->page_count++] = page;
    return mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE) == 0;
}

static void fault(int sig, siginfo_t *info, void *context) {
    (void)context;
    if (!page_dirty(info->si_addr))
        sigaction(sig, &snap->before, NULL); /* a real one: happens again and is treated as if we were not here */
}

void sim_snapshot_touch(const void *p, size_t bytes) {
    if (!snap)
        return;
    for (u64 page = (u64)p & ~PAGE_MASK; page < (u64)p + bytes; page += PAGE_SIZE)
        (void)page_dirty((char *)page);
}

static void stack_save(struct sim_fiber *f) {
    struct stack *s = &snap->stack[snap->stack_count++];
    char *sp = (char *)((u64)f->sp & ~15ul);
    if (snap->stack_count > MAX_STACKS) {
        fprintf(stderr, "sim: too many fibers for a snapshot\n");
        exit(2);
    }
    size_t n = (size_t)(f->stack + f->size - sp);
    *s = (struct stack){f, sp, memory(KEPT(n))};
    copy(s->copy, sp, n);
    shadow_save(s->copy, sp, n);
}

static void region_add(char *start, char *stop) {
    struct region *r = &snap->region[snap->region_count++];
    char *first = (char *)((u64)start & ~PAGE_MASK);
    u64 pages = ((u64)(stop - first) + PAGE_MASK) / PAGE_SIZE;
    *r = (struct region){start, stop, first, memory(pages * KEPT(PAGE_SIZE)), memory(pages)};
}

void sim_snapshot_take(void) {
    snap = memory(sizeof(*snap));
    char *keep = end, *keep_end = end;
    if (sim_snapshot_keep)
        sim_snapshot_keep(&keep, &keep_end);
    region_add(__data_start, keep);
    if (keep_end < end)
        region_add(keep_end, end);
    region_add(arch_phys_ptr(PADDR(0)), arch_phys_ptr(PADDR(sim_opt.ram)));
    for (unsigned i = 0; i < more_count; i++)
        region_add(more[i].start, more[i].end);
    u64 pages = 0;
    for (unsigned i = 0; i < snap->region_count; i++)
        pages += (u64)(snap->region[i].end - snap->region[i].first) / PAGE_SIZE + 1;
    snap->pages = memory(pages * sizeof(*snap->pages));
    sim_fibers_each(stack_save);
    struct sigaction act = {.sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    bool bad = sigaction(SIGSEGV, &act, &snap->before) != 0;
    for (unsigned i = 0; i < snap->region_count; i++) {
        struct region *r = &snap->region[i];
        u64 bytes = ((u64)(r->end - r->first) + PAGE_MASK) & ~PAGE_MASK;
        bad |= mprotect(r->first, bytes, PROT_READ) != 0;
    }
    if (bad) {
        perror("sim: snapshot");
        exit(2);
    }
}

void sim_snapshot_restore(void) {
    for (u32 i = 0; i < snap->page_count; i++) {
        char *page = snap->pages[i];
        const struct region *r = region_of(page);
        char *from = page < r->start ? r->start : page, *to = page + PAGE_SIZE > r->end ? r->end : page + PAGE_SIZE;
        copy(from, copy_of(r, page) + (from - page), (size_t)(to - from));
        shadow_restore(page, copy_of(r, page), PAGE_SIZE);
    }
    for (u32 i = 0; i < snap->stack_count; i++) {
        struct stack *s = &snap->stack[i];
        size_t n = (size_t)(s->fiber->stack + s->fiber->size - (char *)s->sp);
        stack_clear(s->fiber);
        copy(s->sp, s->copy, n);
        shadow_restore(s->sp, s->copy, n);
    }
}
