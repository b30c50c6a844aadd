/* Root's boot module: the smallest ELF executable that the loader accepts. The code it names lies in this process; its
 * two data segments are real, for tests that look at segments: one with .bss, one writable and executable at 0x1000. */
#include <elf.h>
#include <string.h>
#include "sim/internal.h"

#define DATA_VADDR 0x10000000ul

u64 sim_image_make(void *to, u64 entry) {
    struct {
        Elf64_Ehdr ehdr;
        Elf64_Phdr phdr[3];
    } h = {
        .ehdr = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                 .e_type = ET_EXEC,
                 .e_machine = EM_X86_64,
                 .e_version = EV_CURRENT,
                 .e_entry = entry,
                 .e_phoff = sizeof(Elf64_Ehdr),
                 .e_ehsize = sizeof(Elf64_Ehdr),
                 .e_phentsize = sizeof(Elf64_Phdr),
                 .e_phnum = 3},
        .phdr = {{.p_type = PT_LOAD,
                  .p_flags = PF_R | PF_W | PF_X,
                  .p_offset = 2 * PAGE_SIZE,
                  .p_vaddr = PAGE_SIZE,
                  .p_filesz = 16,
                  .p_memsz = PAGE_SIZE,
                  .p_align = PAGE_SIZE},
                 {.p_type = PT_LOAD,
                  .p_flags = PF_R | PF_X,
                  .p_offset = PAGE_SIZE,
                  .p_vaddr = SIM_ROOT_VADDR,
                  .p_filesz = PAGE_SIZE,
                  .p_memsz = PAGE_SIZE,
                  .p_align = PAGE_SIZE},
                 {.p_type = PT_LOAD,
                  .p_flags = PF_R | PF_W,
                  .p_offset = 2 * PAGE_SIZE,
                  .p_vaddr = DATA_VADDR,
                  .p_filesz = 16,
                  .p_memsz = 2 * PAGE_SIZE,
                  .p_align = PAGE_SIZE}},
    };
    memset(to, 0, 4 * PAGE_SIZE);
    memcpy(to, &h, sizeof(h));
    memcpy((char *)to + 2 * PAGE_SIZE, "sim data segment", 16);
    return 3 * PAGE_SIZE;
}
