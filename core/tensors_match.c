/* tensors_match.c - does a file hold what a program needs? Asked before anything is loaded. */
#include "safetensors.h"
#include "../include/quern/checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 5, MISSING = 0, UNEXPECTED = 1, MISMATCHED = 2 };
static const char *const kinds[] = { "missing", "unexpected", "mismatched" };

struct findings {
    int64_t count[3];
    char list[3][1200], first[3][300];
};

static void show_type(char out[200], const char *dtype, const int64_t *dim, int rank)
{
    size_t at = (size_t)snprintf(out, 200, "%s [", dtype);
    for (int i = 0; i < rank && i < QN_MAX_DIMS; i++)
        at += (size_t)snprintf(out + at, 200 - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    snprintf(out + at, 200 - at, "]");
}

static void found(struct findings *f, int kind, const char *name, const char *detail)
{
    if (f->count[kind]++ >= SHOWN) return;
    char shown[128];
    size_t n = strlen(f->list[kind]);
    qn__escape(shown, sizeof shown, name, 64);
    snprintf(f->list[kind] + n, sizeof f->list[kind] - n, "%s\"%s\"%s", n ? ", " : "", shown, detail);
    if (n == 0) snprintf(f->first[kind], sizeof f->first[kind], "\"%s\"%s", shown, detail);
}

static void compare(struct findings *f, const qn_tensor_info *have, const qn_tensor_data *want, unsigned flags)
{
    bool same = (flags & QN_MATCH_ANY_DTYPE) ? have->dtype < QN_DTYPE_COUNT : have->dtype == want->dtype;
    same = same && have->rank == want->rank;
    for (int i = 0; i < have->rank && same; i++) same = have->dim[i] == want->dim[i];
    if (same) return;
    char a[200], b[200], detail[420];
    show_type(a, have->dtype_name, have->dim, have->rank);
    show_type(b, qn_dtype_name(want->dtype), want->dim, want->rank);
    snprintf(detail, sizeof detail, " %.80s expected %.80s", a, b);
    found(f, MISMATCHED, want->name, detail);
}

static bool expects(const qn_tensor_data *t, const uint32_t *order, int64_t n, const char *name)
{
    int64_t low = 0, high = n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int c = strcmp(name, t[order[middle]].name);
        if (c == 0) return true;
        if (c < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

static qn_status find_unexpected(struct findings *f, const qn_safetensors *st, const qn_tensor_data *expected,
                                 int64_t n, qn_error *err)
{
    uint32_t *order = n < UINT32_MAX ? qn__calloc(NULL, (size_t)n, sizeof order[0]) : NULL;
    if (!order) return qn__nomem(err, "tensor names", (size_t)n * sizeof order[0]);
    for (int64_t i = 0; i < n; i++) order[i] = (uint32_t)i;
    qsort_r(order, (size_t)n, sizeof order[0], qn__tensor_by_name, (void *)(uintptr_t)expected);
    for (int64_t i = 0; i < qn_safetensors_count(st); i++) {
        qn_tensor_info have;
        qn_safetensors_at(st, i, &have);
        if (!expects(expected, order, n, have.name)) found(f, UNEXPECTED, have.name, "");
    }
    qn__free(NULL, order, (size_t)n * sizeof order[0]);
    return QN_OK;
}

static void report_lists(const struct findings *f, qn_report *report, void *user)
{
    for (int k = 0; k < 3 && report; k++) {
        char line[1300];
        if (f->count[k] == 0) continue;
        snprintf(line, sizeof line, "%s (%lld): %s%s", kinds[k], (long long)f->count[k], f->list[k],
                 f->count[k] > SHOWN ? ", ..." : "");
        report(user, line);
    }
}

qn_status qn_tensors_match(const qn_safetensors *st, const qn_tensor_data *expected, int64_t n, unsigned flags,
                           qn_report *report, void *user, qn_error *err)
{
    struct findings f = { .count = { 0 } };
    for (int64_t i = 0; i < n; i++) {
        qn_tensor_info have;
        if (!qn_safetensors_find(st, expected[i].name, &have))
            found(&f, MISSING, expected[i].name, "");
        else
            compare(&f, &have, &expected[i], flags);
    }
    if (!(flags & QN_MATCH_EXTRA)) QN_TRY(find_unexpected(&f, st, expected, n, err));
    int first = f.count[MISSING] ? MISSING : f.count[MISMATCHED] ? MISMATCHED : UNEXPECTED;
    if (f.count[first] == 0) return QN_OK;
    report_lists(&f, report, user);
    return qn__fail(err, 4041, QN_AT_FILE(qn__safetensors_path(st)),
                    "%lld missing, %lld unexpected, %lld mismatched tensors; expected the %lld of the program; first: "
                    "%s %s",
                    (long long)f.count[MISSING], (long long)f.count[UNEXPECTED], (long long)f.count[MISMATCHED],
                    (long long)n, kinds[first], f.first[first]);
}
