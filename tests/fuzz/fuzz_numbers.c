/* fuzz_numbers.c - number parsing, number formatting, escaping and nearest names, on any text. */
#include "../../core/base.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good) abort(); /* libFuzzer reports the input */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), buf[64], number[32];
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    double x, back;
    int64_t i;
    if (qn__parse_f64(text, true, &x)) {
        check(qn__parse_f64(qn__format_f64(number, x), true, &back));
        check(memcmp(&x, &back, sizeof x) == 0 || x != x);
    }
    if (qn__parse_i64(text, &i)) check(qn__parse_f64(text, false, &x) && x == (double)i);
    qn__escape(buf, sizeof buf, text, 80);
    check(strlen(buf) < sizeof buf);
    for (const char *p = buf; *p; p++) check((unsigned char)*p >= 0x20 && *p != 0x7f);
    static const char *const names[] = { "conv", "linear", "dropout", "kernel", "" };
    int nearest = qn__nearest(text, names, 5);
    check(nearest >= -1 && nearest < 5);
    qn_error err = { 0 };
    check(qn__fail(&err, 2001, QN_AT_LINE(text, 3, 4, text), "%s", qn__show(text).s) == QN_EUSAGE);
    check(strlen(err.text) <= 400 && !strchr(err.text, '\n'));
    free(text);
    return 0;
}
