/* fuzz_idx.c - IDX, plain and gzip: any bytes end in an array or in one well-formed error. */
#include "../../data/data.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qn_array a;
    qn_error err = { 0 };
    int element = 0;
    if (qn__idx_parse(&a, &element, data, size, "fuzz", &err)) {
        if (strncmp(err.text, "error E", 7) != 0 || strchr(err.text, '\n') || a.data) abort();
    } else {
        int64_t count;
        if (!qn__count(&count, a.dim, a.rank) || a.bytes != (size_t)count * qn_dtype_size(a.dtype)) abort();
    }
    qn_array_free(&a);
    return 0;
}
