/* See afl.c. */
#pragma once
/* `what`: a parser's name, or the kind of machine as the first byte of programs has it. Returns the exit status. */
int afl_run(const char *what);
