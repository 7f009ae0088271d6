/* fuzz_npy.c - npy: any bytes end in an array or in one well-formed error. */
#include "../../data/data.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qn_array a;
    qn_error err = { 0 };
    int64_t at = 0;
    if (qn__npy_parse(&a, &at, data, size, "fuzz", &err)) {
        if (strncmp(err.text, "error E", 7) != 0 || strchr(err.text, '\n') || a.data) abort();
    } else if (at < 10 || (size_t)at + a.bytes != size) {
        abort();
    }
    qn_array_free(&a);
    return 0;
}
