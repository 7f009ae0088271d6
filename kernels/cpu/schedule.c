/* schedule.c - learning rate = base * factor(u) * warm-up(u) * plateau, u = number of updates done; one number, in
 * double. Operands: u I64 [1], plateau []. The factors are listed at qn_schedule_opts. */
#include "cpu.h"

static const double pi = 3.14159265358979323846;

/* 0 at the first, 1 at and after the last of `length` updates. */
static double progress(double u, double length) { return u <= 0 ? 0 : u < length ? u / length : 1; }

/* From `from` to `to` along half a cosine. */
static double half_cosine(double from, double to, double t) { return to + (from - to) * (1 + cos(pi * t)) / 2; }

static double one_cycle(const struct qn__schedule_attr *a, double u)
{
    double up = a->peak * a->total;
    if (u < up) return half_cosine(a->start, 1, u / up);
    return half_cosine(1, a->end, progress(u - up, a->total - up));
}

static double factor(const struct qn__schedule_attr *a, double u)
{
    double t = progress(u - a->warmup, a->total - a->warmup);
    int passed = 0;
    switch (a->kind) {
    case QN_SCHEDULE_STEP: return pow(a->gamma, floor(u / a->every));
    case QN_SCHEDULE_MULTI_STEP:
        for (int i = 0; i < a->n_at; i++) passed += a->at[i] <= u;
        return pow(a->gamma, passed);
    case QN_SCHEDULE_EXPONENTIAL: return pow(a->gamma, u / a->every);
    case QN_SCHEDULE_COSINE: return half_cosine(1, a->end, t);
    case QN_SCHEDULE_LINEAR: return 1 + (a->end - 1) * t;
    case QN_SCHEDULE_ONE_CYCLE: return one_cycle(a, u);
    default: return 1; /* constant; plateau, whose factor is an operand */
    }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__schedule_attr *a = s->args.attr;
    double u = (double)*(const int64_t *)s->args.x[0].data;
    double warm = a->kind == QN_SCHEDULE_ONE_CYCLE || u >= a->warmup ? 1 : fmin((u + 1) / a->warmup, 1);
    *qn__real(&s->args.y) = (REAL)(a->base * factor(a, u) * warm * (double)*qn__real(&s->args.x[1]));
    return QN_OK;
}

KERNEL(schedule) = { .variants = (const char *const[]){ "scalar", NULL }, .launch = launch };
