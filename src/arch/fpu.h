/* FPU, SSE, AVX state images (XSAVE standard format, or FXSAVE where there is no XSAVE). */
#pragma once
#include "arch/types.h"
extern u32 arch_fpu_size;              /* bytes of an image, set at boot; images are 64-byte aligned */
void arch_fpu_init_image(void *image); /* the initial state (x87 FCW 0x37f, MXCSR 0x1f80), all else zero */
void arch_fpu_save(void *image);       /* registers -> image */
void arch_fpu_load(const void *image); /* image -> registers; the image is always ours and valid */
void arch_fpu_enable(void);            /* CR0.TS = 0 */
void arch_fpu_disable(void);           /* CR0.TS = 1: the next use raises #NM */
