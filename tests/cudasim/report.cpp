/* report.cpp - findings: collected while a kernel runs, printed when it has ended. */
#include "fiber.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <map>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

namespace cudasim
{

/* The standard output of addr2line -e file offset, up to the first blank; empty: there is no such program. */
static std::string ask_addr2line(const char *file, const char *offset)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return "";
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    const char *arguments[] = { "addr2line", "-e", file, offset, nullptr };
    pid_t child;
    int failed = posix_spawnp(&child, "addr2line", &actions, nullptr, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    char text[512];
    size_t n = 0;
    ssize_t got;
    while (!failed && n < sizeof text - 1 && (got = read(ends[0], text + n, sizeof text - 1 - n)) > 0) n += (size_t)got;
    close(ends[0]);
    if (!failed) waitpid(child, nullptr, 0);
    text[n] = '\0';
    text[strcspn(text, " \n")] = '\0';
    return !n || text[0] == '?' ? "" : !strncmp(text, "./", 2) ? text + 2 : text;
}

enum { MAX_LINE = 1000, MAX_PRINTED = 50 };
struct Finding {
    std::string text;
    const void *here, *there;
};
static std::vector<Finding> findings;
static size_t printed;

static void add(const void *here, const void *there, const char *format, va_list list)
{
    char line[MAX_LINE];
    int n = 0;
    if (block.running) {
        uint3 t = thread_identity(block.thread);
        n = snprintf(line, sizeof line, "kernel %s block (%u,%u,%u) thread (%u,%u,%u): ", block.kernel,
                     block_index_now.x, block_index_now.y, block_index_now.z, t.x, t.y, t.z);
        if (n > MAX_LINE / 2) n = MAX_LINE / 2;
    }
    vsnprintf(line + n, sizeof line - (size_t)n, format, list);
    findings.push_back({ line, here, there });
}

void report(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    add(nullptr, nullptr, format, list);
    va_end(list);
}

void report_at(const void *here, const void *there, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    add(here, there, format, list);
    va_end(list);
}

size_t finding_count() { return findings.size(); }

const char *finding_text(size_t i) { return i < findings.size() ? findings[i].text.c_str() : nullptr; }
void forget_findings()
{
    findings.clear();
    printed = 0;
}

/* "file:line", by addr2line where that is installed, else library+offset. */
static std::string describe(const void *pc)
{
    static std::map<const void *, std::string> known;
    auto i = known.find(pc);
    if (i != known.end()) return i->second;
    Dl_info info;
    if (!dladdr(pc, &info) || !info.dli_fname) return "?";
    char offset[40];
    snprintf(offset, sizeof offset, "0x%zx", (size_t)((const char *)pc - (const char *)info.dli_fbase) - 1);
    std::string line = ask_addr2line(info.dli_fname, offset);
    if (line.empty()) line = std::string(info.dli_fname) + "+" + offset;
    return known[pc] = line;
}

/* Puts the two places where the text has %s. */
static void complete(Finding *f)
{
    const void *places[] = { f->here, f->there };
    for (const void *pc : places) {
        size_t at = pc ? f->text.find("%s") : std::string::npos;
        if (at != std::string::npos) f->text.replace(at, 2, describe(pc));
    }
    f->here = f->there = nullptr;
}

void flush_findings()
{
    bool quiet = settings.report && !strcmp(settings.report, "none");
    for (; printed < findings.size(); printed++) {
        complete(&findings[printed]);
        if (printed < MAX_PRINTED && !quiet) fprintf(stderr, "cudasim: %s\n", findings[printed].text.c_str());
    }
}

void fatal(const char *what)
{
    fprintf(stderr, "cudasim: %s\n", what);
    exit(2);
}

} // namespace cudasim
