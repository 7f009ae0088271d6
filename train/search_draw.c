/* search_draw.c - pictures of a search: see search.h. */
#include "search.h"
#include "../include/quern/plot.h"
#include "run_dir.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

struct points {
    double *x, *y, *epochs;
    int64_t n, best;
};

/* Value of parameter i in every trial; i < 0: the trial's number. */
static void collect(struct points *p, const struct qn__search *s, int i, int64_t best)
{
    char text[QN_SETTING_MAX];
    p->n = 0;
    p->best = -1;
    for (size_t k = 0; k < s->n_rows; k++) {
        const struct qn__trial *r = &s->row[k];
        if (i >= 0 && r->trial == 0) continue; /* the recipe's own value is not known here */
        double x = (double)r->trial;
        if (i >= 0) {
            qn__space_random(&s->space, i, r->trial, s->opts->seed, text);
            if (s->opts->method == QN_SEARCH_GRID) qn__space_point(&s->space, i, r->trial, text);
            if (!qn__parse_f64(text + strlen(s->space.parameter[i].key) + 1, false, &x)) continue;
        }
        if (r->trial == best && r->epochs == s->epochs) p->best = p->n;
        p->x[p->n] = x;
        p->y[p->n] = r->value;
        p->epochs[p->n++] = (double)r->epochs;
    }
}

static qn_status draw(const struct qn__search *s, const struct points *p, int i, qn_error *err)
{
    const char *key = i < 0 ? "trial (0: the recipe as it is)" : s->space.parameter[i].key;
    char name[200] = "search.png", path[QN_PATH_MAX], y_label[64];
    if (i >= 0) {
        snprintf(name, sizeof name, "search-%.150s.png", key);
        for (char *c = name; *c; c++)
            if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", *c)) *c = '_';
    }
    QN_TRY(qn__path_join(path, s->dir, name, err));
    snprintf(y_label, sizeof y_label, "validation %.30s", s->metric);
    qn_scatter_chart chart = { .title = "Search",
                               .x_label = key,
                               .y_label = y_label,
                               .x = p->x,
                               .y = p->y,
                               .n = p->n,
                               .log_x = i >= 0 && s->space.parameter[i].kind == QN_RANGE_LOG,
                               .best = p->best };
    if (s->opts->method == QN_SEARCH_HALVING) {
        chart.color = p->epochs;
        chart.color_label = "epochs";
    }
    return qn_plot_scatter(path, &chart, err);
}

qn_status qn__search_draw(const struct qn__search *s, int64_t best, qn_error *err)
{
    size_t n = s->n_rows;
    struct points p = { qn__calloc(NULL, n, sizeof *p.x), qn__calloc(NULL, n, sizeof *p.y),
                        qn__calloc(NULL, n, sizeof *p.epochs), 0, -1 };
    qn_status status = p.x && p.y && p.epochs ? QN_OK : qn__nomem(err, "pictures", n);
    for (int i = -1; i < s->space.n && !status; i++) {
        if (i >= 0 && s->space.parameter[i].kind == QN_RANGE_LIST) continue;
        collect(&p, s, i, best);
        status = draw(s, &p, i, err);
    }
    qn__free(NULL, p.x, n * sizeof *p.x);
    qn__free(NULL, p.y, n * sizeof *p.y);
    qn__free(NULL, p.epochs, n * sizeof *p.epochs);
    return status;
}
