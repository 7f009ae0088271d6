/* fuzz_safetensors.c - any bytes as a safetensors file: opened, listed, searched, read; within its memory. */
#include "../../core/safetensors.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good) abort(); /* libFuzzer reports the input */
}

struct meter {
    size_t now, peak;
};
static void *metered(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct meter *m = user;
    m->now += new_size - (ptr ? old_size : 0);
    if (m->now > m->peak) m->peak = m->now;
    if (new_size > 0) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

static void read_all(const qn_safetensors *st)
{
    int64_t n = qn_safetensors_count(st);
    for (int64_t i = 0; i < n; i++) {
        qn_tensor_info t, found;
        qn_error err = { 0 };
        qn_safetensors_at(st, i, &t);
        check(qn_safetensors_find(st, t.name, &found) && found.offset == t.offset && found.bytes == t.bytes);
        check(t.count >= 0 && t.bytes >= 0);
        if (t.dtype == QN_DTYPE_COUNT) {
            check(qn_safetensors_read(st, &t, NULL, QN_F32, &err) == QN_EMODEL && err.code == 4017);
            continue;
        }
        check(t.bytes == t.count * (int64_t)qn_dtype_size(t.dtype));
        double *out = malloc((size_t)t.count * sizeof *out + 1);
        if (!out) continue;
        qn_status status = qn_safetensors_read(st, &t, out, QN_F64, &err);
        check(status == QN_OK || (status == QN_EMODEL && err.code == 4016));
        free(out);
    }
    for (int64_t i = 0; i < qn_safetensors_meta_count(st) && i < 100; i++) {
        const char *key, *value;
        qn_safetensors_meta_at(st, i, &key, &value);
        check(qn_safetensors_meta(st, key) == value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct meter m = { 0 };
    qn_alloc alloc = { metered, &m };
    qn_safetensors_opts opts = { .alloc = &alloc };
    qn_safetensors *st;
    qn_error err = { 0 };
    qn_status status = qn_safetensors_open_memory(&st, data, size, "fuzz", &opts, &err);
    check(m.peak <= 3 * size + 4096);
    check(status == QN_OK || (status == QN_EMODEL && err.code >= 4011 && err.code <= 4015));
    check(!strchr(err.text, '\n') && (status == QN_OK) == (err.code == 0));
    if (!status) read_all(st);
    qn_safetensors_close(st);
    check(m.now == 0);
    return 0;
}
