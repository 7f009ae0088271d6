/* fuzz_png.c - PNG: the first byte chooses channels and size, the rest is the file. Checksums
 * are made right before decoding, since a fuzzer cannot guess them. fuzz: runs 3000 */
#include "../../data/data.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void mend_checksums(uint8_t *b, size_t n)
{
    for (size_t at = 8; n >= 12 && at <= n - 12;) {
        uint32_t length = qn__big32(b + at);
        if (length > n - at - 12) return;
        uint32_t crc = (uint32_t)crc32(0, b + at + 4, length + 4);
        for (size_t i = 0; i < 4; i++) b[at + 8 + length + i] = (uint8_t)(crc >> (24 - 8 * i));
        at += 12 + (size_t)length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qn_array a;
    qn_error err = { 0 };
    if (size < 1) return 0;
    qn_png_options o = { .channels = (data[0] & 3) == 0 ? 0 : (data[0] & 1) ? 1 : 3, .max_side = 512 };
    if (data[0] & 4) o.height = 5, o.width = 7;
    uint8_t *copy = malloc(size);
    if (!copy) return 0;
    memcpy(copy, data + 1, size - 1);
    if (!(data[0] & 8)) mend_checksums(copy, size - 1);
    if (qn__png_parse(&a, copy, size - 1, "fuzz", &o, &err)) {
        if (strncmp(err.text, "error E", 7) != 0 || strchr(err.text, '\n') || a.data) abort();
    } else {
        const uint8_t *p = a.data;
        unsigned sum = 0;
        for (size_t i = 0; i < a.bytes; i++) sum += p[i];
        if (sum > 255 * a.bytes) abort();
    }
    qn_array_free(&a);
    free(copy);
    return 0;
}
