/* fuzz_csv.c - CSV: the first byte chooses the options, the rest is the file; every row of a
 * table that was accepted must read as finite numbers. */
#include "../../data/data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void read_all(qn_dataset *ds)
{
    size_t n = (size_t)qn_transform_size(qn_dataset_transform(ds));
    float *x = malloc(n * sizeof *x);
    char *json = NULL;
    qn_transform t;
    qn_error err = { 0 };
    for (int64_t i = 0; x && i < qn_dataset_count(ds); i++)
        if (qn_dataset_read(ds, i, x, &err)) abort();
    if (qn_transform_to_json(&json, qn_dataset_transform(ds), &err) == QN_OK) {
        /* A name that is not UTF-8 is recorded escaped, so that reading back may find it out of
         * order. */
        if (qn_transform_from_json(&t, json, &err) == QN_OK) qn_transform_free(&t);
    }
    free(json);
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qn_dataset *ds = NULL;
    qn_error err = { 0 };
    const char *category = "#0", *number = "#1";
    if (size < 1) return 0;
    unsigned flags = data[0];
    qn_csv_options o = { .no_header = flags & 1,
                         .standardise = flags & 2,
                         .missing = (qn_missing)(flags >> 2 & 3),
                         .clip = (qn_clip)(flags >> 4 & 1),
                         .on_bad = (qn_on_bad)(flags >> 5 & 1),
                         .nonfinite_is_missing = flags & 64 };
    if (flags & 128) {
        o.categorical = &category;
        o.numeric = &number;
        o.n_categorical = o.n_numeric = 1;
        o.label = "#2";
    }
    if (qn__csv_parse(&ds, (const char *)data + 1, size - 1, "fuzz", &o, &err)) {
        if (strncmp(err.text, "error E", 7) != 0 || strchr(err.text, '\n') || ds) abort();
    } else {
        read_all(ds);
    }
    qn_dataset_free(ds);
    return 0;
}
