/* tune.c - qn_tune: the algorithms of a program's products and convolutions, timed by the GPU's clock. See tuning.h. */
#include "program.h"
#include "tuning.h"
#include "base.h"
#include "device.h"
#include <stdlib.h>
#include <string.h>

enum { LAUNCHES_MAX = 64, ALGORITHMS_MAX = 32 };

static int by_value(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* *seconds < 0: there is no memory for its workspace. */
static qn_status time_prepared(const qn_program *p, struct qn__step *s, int launches, double *seconds, qn_error *err)
{
    double all[LAUNCHES_MAX];
    const struct qn__device_api *api = p->gpu->api;
    size_t bytes = s->choice.workspace;
    qn_status status = QN_OK;
    s->workspace = NULL;
    *seconds = -1;
    if (bytes) status = api->take(p->gpu->device, &s->workspace, bytes, err);
    if (status) return status == QN_EMEMORY ? QN_OK : status;
    status = api->time(p->gpu->device, s, launches, all, err);
    if (bytes) api->give(p->gpu->device, s->workspace, bytes);
    if (status) return status;
    qsort(all, (size_t)launches, sizeof *all, by_value);
    *seconds = all[launches / 2];
    return QN_OK;
}

/* A copy of a step with another algorithm; a->workspace becomes what it takes. */
static qn_status time_algorithm(const qn_program *p, const struct qn__step *step, struct qn__algorithm *a, int launches,
                                double *seconds, qn_error *err)
{
    struct qn__step s = *step;
    s.state = NULL;
    s.algorithm = a->name;
    QN_TRY(s.kernel->pick(&s.args, &s.choice)); /* what prepare has made of the choice is undone */
    qn_status status = s.kernel->prepare(&s, err);
    if (!status) status = time_prepared(p, &s, launches, seconds, err);
    a->workspace = s.choice.workspace;
    if (s.kernel->release) s.kernel->release(&s);
    return status;
}

static qn_status tune_step(qn_tuning *t, const qn_program *p, const struct qn__step *step, int launches, qn_error *err)
{
    struct qn__tuned row = { .tried = 0 };
    struct qn__algorithm list[ALGORITHMS_MAX];
    struct qn__step s = *step;
    int n = 0;
    s.state = NULL;
    if (!s.kernel || !s.kernel->algorithms || !s.kernel->describe(&s, row.what, sizeof row.what)) return QN_OK;
    if (qn__tuning_find(t, row.what)) return QN_OK;
    QN_TRY(s.kernel->pick(&s.args, &s.choice));
    QN_TRY(s.kernel->algorithms(&s, list, ALGORITHMS_MAX, &n, err));
    for (int i = 0; i < n; i++) {
        double seconds = 0;
        QN_TRY(time_algorithm(p, step, &list[i], launches, &seconds, err));
        if (seconds < 0) continue;
        if (row.tried == 0) row.first = seconds;
        if (row.tried++ > 0 && seconds >= row.seconds) continue;
        row.seconds = seconds;
        row.algorithm = list[i];
    }
    return row.tried ? qn__tuning_add(t, &row, err) : QN_OK;
}

qn_status qn_tune(qn_tuning **out, qn_program *p, int launches, qn_error *err)
{
    struct qn__identity here;
    qn_tuning *t;
    *out = NULL;
    if (!p->gpu || !p->device_io)
        return qn__fail(err, 2206, QN_AT_FIELD("tune"),
                        "a program of the CPU, or one that is not loaded; expected a "
                        "loaded program of a GPU");
    if (launches < 1 || launches > LAUNCHES_MAX)
        return qn__fail(err, 2206, QN_AT_FIELD("launches"), "%d; expected 1..%d", launches, LAUNCHES_MAX);
    QN_TRY(qn_program_run(p, QN_MICRO, err)); /* so that operands hold numbers */
    QN_TRY(qn_program_wait(p, QN_MICRO, 0, err));
    QN_TRY(p->gpu->api->identity(p->gpu->device, &here, err));
    QN_TRY(qn__tuning_new(&t, &here, err));
    qn_status status = QN_OK;
    for (int32_t k = 0; k < p->n_order && !status; k++) status = tune_step(t, p, &p->step[k], launches, err);
    if (status)
        qn_tuning_free(t);
    else
        *out = t;
    return status;
}
