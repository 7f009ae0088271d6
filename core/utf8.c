/* utf8.c - see utf8.h. */
#include "utf8.h"
#include <stdbool.h>

size_t qn__utf8_length(const void *text, size_t n)
{
    const unsigned char *s = text;
    unsigned char c = n ? s[0] : 0xff;
    size_t length = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (length > n) return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    bool overlong = (c == 0xe0 && s[1] < 0xa0) || (c == 0xf0 && s[1] < 0x90);
    bool surrogate = c == 0xed && s[1] >= 0xa0, beyond = c == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || beyond ? 0 : length;
}

size_t qn__utf8_error(const void *text, size_t n)
{
    const char *s = text;
    size_t i = 0;
    while (i < n) {
        size_t length = qn__utf8_length(s + i, n - i);
        if (length == 0) return i;
        i += length;
    }
    return n;
}
