/* symbols.cpp - the name of a kernel from its address, and what nvcc's compiler says of it: registers, static shared
 * memory. The addresses of static functions are only in the symbol table of their file, so that is read. */
#include "runtime.h"
#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace cudasim
{

/* ---- names ----------------------------------------------------------------------------------------------------- */

struct Image { /* a file, mapped */
    const char *p;
    size_t bytes;
};
static Image map_file(const char *path)
{
    Image image = { nullptr, 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    if (fd >= 0 && !fstat(fd, &about)) {
        void *p = mmap(nullptr, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED) image = { (const char *)p, (size_t)about.st_size };
    }
    if (fd >= 0) close(fd);
    return image;
}

/* The name of the function at an offset from where the file was loaded; "" if its symbols are gone. */
static std::string symbol_at(const Image &image, uintptr_t offset)
{
    if (image.bytes < sizeof(Elf64_Ehdr)) return "";
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)image.p;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) != 0) return "";
    if (head->e_shoff + (size_t)head->e_shnum * sizeof(Elf64_Shdr) > image.bytes) return "";
    const Elf64_Shdr *section = (const Elf64_Shdr *)(image.p + head->e_shoff);
    for (int i = 0; i < head->e_shnum; i++) {
        if (section[i].sh_type != SHT_SYMTAB || section[i].sh_link >= head->e_shnum) continue;
        const Elf64_Shdr *text = &section[section[i].sh_link];
        if (section[i].sh_offset + section[i].sh_size > image.bytes) return "";
        const Elf64_Sym *symbol = (const Elf64_Sym *)(image.p + section[i].sh_offset);
        for (size_t k = 0; k < section[i].sh_size / sizeof *symbol; k++)
            if (symbol[k].st_value == offset && ELF64_ST_TYPE(symbol[k].st_info) == STT_FUNC &&
                text->sh_offset + symbol[k].st_name < image.bytes)
                return image.p + text->sh_offset + symbol[k].st_name;
    }
    return "";
}

static void replace(std::string *text, const char *what, const char *with)
{
    for (size_t at; (at = text->find(what)) != std::string::npos;) text->replace(at, strlen(what), with);
}

/* "row_sums<bf16>" of "void (anonymous namespace)::row_sums<__nv_bfloat16>(...)", as scripts/cubins writes it. */
static std::string pretty(const std::string &symbol)
{
    int status;
    char *full = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
    std::string text = full ? full : symbol;
    free(full);
    replace(&text, "(anonymous namespace)::", "");
    replace(&text, "__nv_bfloat16", "bf16");
    replace(&text, "__half", "f16");
    if (text.compare(0, 5, "void ") == 0) text.erase(0, 5);
    return text.substr(0, text.find('('));
}

const std::string &function_name(const Kernel &kernel)
{
    static std::map<const void *, std::string> known;
    auto found = known.find(kernel.function);
    if (found != known.end()) return found->second;
    Dl_info info;
    std::string symbol;
    if (dladdr(kernel.function, &info) && info.dli_fname) {
        Image image = map_file(info.dli_fname);
        uintptr_t offset = (uintptr_t)kernel.function - (uintptr_t)info.dli_fbase;
        if (image.p) symbol = symbol_at(image, offset);
        if (image.p) munmap((void *)image.p, image.bytes);
    }
    return known[kernel.function] = symbol.empty() ? kernel.name : pretty(symbol);
}

/* ---- the table of scripts/cubins ------------------------------------------------------------------------------------ */

static std::map<std::string, Resources> table;

/* Reads the rows of the simulated device's architecture: kernel, arch, registers, threads_per_sm, shared, ... */
static void read_table()
{
    static bool done;
    if (done || !settings.resources) return;
    done = true;
    FILE *f = fopen(settings.resources, "r");
    if (!f) fatal("QN_CUDASIM_RESOURCES: cannot open the file");
    char line[1000], name[600];
    while (fgets(line, sizeof line, f)) {
        int arch, registers, threads;
        unsigned long shared;
        if (sscanf(line, "%599[^\t]\t%d\t%d\t%d\t%lu", name, &arch, &registers, &threads, &shared) != 5) continue;
        if (arch == capability(0)) table[name] = { registers, shared };
    }
    fclose(f);
}

const Resources *resources_of(const Kernel &kernel)
{
    read_table();
    if (table.empty()) return nullptr;
    auto found = table.find(function_name(kernel));
    return found == table.end() ? nullptr : &found->second;
}

} // namespace cudasim
