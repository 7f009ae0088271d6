/* report.cpp - findings: collected while a kernel runs, printed when it has ended. */
#include "fiber.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

namespace cudasim {

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

void flush_findings()
{
    for (; printed < findings.size(); printed++)
        if (printed < MAX_PRINTED) fprintf(stderr, "cudasim: %s\n", findings[printed].text.c_str());
}

void fatal(const char *what)
{
    fprintf(stderr, "cudasim: %s\n", what);
    exit(2);
}

} // namespace cudasim
