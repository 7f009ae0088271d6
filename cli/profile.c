/* profile.c - the table of `quern train --profile`: see training.h. */
#include "training.h"
#include "../include/quern/profile.h"
#include <stdlib.h>

struct row {
    qn_step_info step;
    qn_step_timing time;
};

static int by_seconds(const void *a, const void *b)
{
    double x = ((const struct row *)a)->time.seconds, y = ((const struct row *)b)->time.seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

void cli_print_profile(const qn_program *p, FILE *out)
{
    int n = qn_program_steps(p);
    struct row *row = calloc((size_t)n + 1, sizeof *row);
    double total = 0;
    for (int i = 0; row && i < n; i++) {
        row[i] = (struct row){ qn_program_step(p, i), qn_program_timing(p, i) };
        total += row[i].time.seconds;
    }
    if (!row) return;
    qsort(row, (size_t)n, sizeof *row, by_seconds);
    fprintf(out, "\n%-6s %-18s %-28s %-14s %8s %10s %6s %9s %8s\n", "phase", "operator", "name", "variant", "calls",
            "total ms", "share", "GFLOP/s", "GB/s");
    for (int i = 0; i < n; i++) {
        const qn_step_info *s = &row[i].step;
        const qn_step_timing *t = &row[i].time;
        if (t->runs == 0) continue;
        double each = t->seconds / (double)t->runs;
        fprintf(out, "%-6s %-18s %-28.28s %-14.14s %8lld %10.3f %5.1f%% %9.2f %8.2f\n",
                s->phase == QN_MICRO ? "micro" : "update", s->op, s->name, s->variant, (long long)t->runs,
                1e3 * t->seconds, total > 0 ? 100 * t->seconds / total : 0, each > 0 ? s->flops / each / 1e9 : 0,
                each > 0 ? s->bytes / each / 1e9 : 0);
    }
    fprintf(out, "in all %.3f ms within operators of whole batches\n", 1e3 * total);
    free(row);
}
