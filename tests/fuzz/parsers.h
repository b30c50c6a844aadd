/* Parsers of bytes that somebody else wrote, each as a function of those bytes, and good examples to begin with. */
#pragma once
#include "arch/types.h"

#define INPUT_MAX 4096u

struct parser {
    const char *name;
    bool text;
    size_t (*seed)(unsigned n, u8 *to); /* the nth example; 0: there is none */
    void (*run)(const u8 *bytes, size_t size);
};
extern const struct parser parsers[];
extern const unsigned parser_count;

/* parse_run.c */
struct parse_options {
    u64 seconds, runs, seed; /* runs: of each parser */
    const char *dir;         /* inputs that crash go here */
};
/* Notes the kernel edges in reached[]. */
int parsers_fuzz(const struct parse_options *o, bool *reached);
/* One input; returns how it ended: 0, or as a process's status. */
int parser_replay(const char *name, const u8 *bytes, size_t size);
/* Writes the examples to files in dir. */
int parser_seeds(const char *name, const char *dir);
