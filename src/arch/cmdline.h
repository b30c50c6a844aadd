/* The kernel's options: the words of the boot command line (docs/boot.md). Words that begin with `root.` are root's. */
#pragma once
#include "arch/types.h"

enum cmdline_serial { SERIAL_PORT, SERIAL_PCI, SERIAL_NONE };
#define BAUD_MAX 115200u

struct cmdline {
    bool debugcon;   /* copy the log to port 0xe9 */
    bool nosmp;      /* one CPU */
    bool noiommu;    /* leave VT-d units alone */
    bool nofb;       /* no log on the screen */
    u8 loglevel;     /* enum klog_level: up to which level lines go to the console */
    u8 mitigations;  /* enum mitigate_mode */
    u8 serial;       /* enum cmdline_serial */
    u16 serial_port; /* of SERIAL_PORT */
    u32 serial_baud; /* divides BAUD_MAX */
    u32 bad;         /* words that are not understood */
    char word[32];   /* the first of them, shortened */
};
/* Always fills `out`; what is not understood keeps its default. A first word with a dot or a slash is the
 * loader's name of the kernel. */
void cmdline_parse(const char *text, struct cmdline *out);
