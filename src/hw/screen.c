/* The log on the screen that the loader handed over, drawn or as text cells. It is written from top to bottom and then again from the top, the
 * line below always blank: nothing is read back or moved, which an uncached frame buffer makes slow. Multiboot2 Specification 2.0, 3.6.12. */
#include "arch/multiboot.h"
#include "hw/hw.h"
#include "hw/layout.h"

#define FIRST_GLYPH 32u
#define CELL_GREY   0x700
extern const u8 font_glyphs[FONT_GLYPHS][FONT_HEIGHT]; /* font.S */

static struct loader_screen at;
static u8 *base; /* NULL: no screen */
static u32 columns, rows, column, row;

static void glyph_draw(u32 x, u32 y, u8 c) {
    const u8 *glyph = font_glyphs[c - FIRST_GLYPH];
    u32 bytes = at.bpp / 8;
    for (u32 line = 0; line < FONT_HEIGHT; line++) {
        u8 *p = base + (u64)(y * FONT_HEIGHT + line) * at.pitch + (u64)x * 8 * bytes;
        for (u32 bit = 0; bit < 8; bit++, p += bytes)
            for (u32 i = 0; i < bytes; i++) /* black or white in any format */
                ((volatile u8 *)p)[i] = glyph[line] & 0x80u >> bit ? 0xff : 0;
    }
}

static void cell_put(u32 x, u32 y, u8 c) {
    if (at.type == SCREEN_TEXT)
        *(volatile u16 *)(base + (u64)y * at.pitch + x * 2) = CELL_GREY | c;
    else
        glyph_draw(x, y, c);
}

static void line_clear(u32 y) {
    for (u32 x = 0; x < columns; x++)
        cell_put(x, y, ' ');
}

bool screen_init(const struct loader_screen *s) {
    at = *s;
    bool text = s->type == SCREEN_TEXT, drawn = s->type == SCREEN_RGB && (s->bpp == 16 || s->bpp == 24 || s->bpp == 32);
    columns = text ? s->width : s->width / 8;
    rows = text ? s->height : s->height / FONT_HEIGHT;
    u64 line = (u64)s->width * (text ? 2 : s->bpp / 8), end = s->addr + (u64)s->pitch * s->height;
    if ((!text && !drawn) || !columns || rows < 2 || s->pitch < line || s->addr >= 1ul << 32 || end > 1ul << 32)
        return false;
    base = arch_phys_ptr(PADDR(s->addr));
    for (u32 y = 0; y < rows; y++)
        line_clear(y);
    return true;
}

static void line_next(void) {
    column = 0;
    row = (row + 1) % rows;
    line_clear((row + 1) % rows);
}

void screen_putc(char c) {
    if (!base || c == '\r')
        return;
    if (c == '\n' || column == columns)
        line_next();
    if (c == '\n')
        return;
    u8 v = (u8)c;
    cell_put(column++, row, v < FIRST_GLYPH || v >= FIRST_GLYPH + FONT_GLYPHS ? '?' : v);
}
