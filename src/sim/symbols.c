/* Names of this program's functions and arrays, from its own ELF symbol table: threads and portals are called by the function that
 * they run, guests by their script. */
#include "sim/trace_priv.h"
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct symbol {
    u64 addr, size;
    const char *name;
};
static struct symbol *symbols;
static size_t count;
static bool loaded;

static int compare(const void *a, const void *b) {
    const struct symbol *x = a, *y = b;
    return x->addr != y->addr ? (x->addr < y->addr ? -1 : 1) : strcmp(x->name, y->name);
}

static void section_add(const char *image, const Elf64_Shdr *sections, const Elf64_Shdr *s) {
    const Elf64_Sym *sym = (const Elf64_Sym *)(image + s->sh_offset);
    const char *names = image + sections[s->sh_link].sh_offset;
    size_t n = s->sh_size / sizeof(*sym);
    symbols = calloc(n, sizeof(*symbols));
    for (size_t i = 0; symbols && i < n; i++) {
        unsigned type = ELF64_ST_TYPE(sym[i].st_info);
        if (!sym[i].st_size || !sym[i].st_value || (type != STT_FUNC && type != STT_OBJECT))
            continue;
        char *name = strdup(names + sym[i].st_name);
        if (!name)
            return;
        name[strcspn(name, ".")] = 0; /* what the compiler appends to parts and copies */
        symbols[count++] = (struct symbol){sym[i].st_value, sym[i].st_size, name};
    }
    if (symbols)
        qsort(symbols, count, sizeof(*symbols), compare);
}

static void load(void) {
    struct stat st;
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    loaded = true;
    if (fd < 0 || fstat(fd, &st))
        return;
    size_t size = (size_t)st.st_size;
    const char *image = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (image == MAP_FAILED)
        return;
    const Elf64_Ehdr *h = (const Elf64_Ehdr *)image;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(image + h->e_shoff);
    for (unsigned i = 0; i < h->e_shnum; i++)
        if (sections[i].sh_type == SHT_SYMTAB)
            section_add(image, sections, &sections[i]);
    munmap((void *)image, size);
}

const char *sim_symbol(u64 addr, u64 *offset) {
    if (!loaded)
        load();
    size_t low = 0, high = count;
    while (low < high) { /* the first behind addr */
        size_t mid = (low + high) / 2;
        if (symbols[mid].addr <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    if (!low || addr - symbols[low - 1].addr >= symbols[low - 1].size)
        return NULL;
    u64 start = symbols[low - 1].addr;
    while (low > 1 && symbols[low - 2].addr == start) /* several names: the first in the alphabet */
        low--;
    *offset = addr - start;
    return symbols[low - 1].name;
}
