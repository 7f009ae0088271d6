/* real.c - where the answers of a library go: a file that the test compares with the other's. */
#include "real.h"
#if REAL_LIBRARIES
#include <stdarg.h>
#include <stdio.h>

static FILE *answers;

void real_answers_to(FILE *f) { answers = f; }

void real_say(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vfprintf(answers, format, ap);
    va_end(ap);
    fputc('\n', answers);
    fflush(answers); /* a library that crashes leaves behind how far it came */
}
#endif
