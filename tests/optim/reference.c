/* reference.c - see reference.h. The formulas are written from the papers, not from the kernels. */
#include "reference.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* The stream of samples: any fixed numbers in [-1,1] will do, exact in float. */
static double sample(int64_t n, int i)
{
    uint64_t h = (uint64_t)(n * 31 + i + 1) * 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u;
    return (double)(int64_t)((h >> 40) & 0xffff) / 32768.0 - 1;
}
static double input_of(int64_t n, int i) { return sample(n, i); }
static double target_of(int64_t n, int j) { return sample(n, INPUTS + j); }

/* ---- with Quern -------------------------------------------------------------------------------------- */

static void must(qn_status status, const qn_error *err)
{
    if (status) fail_msg("%s", err->text);
}

static struct model open_on(qn_store *store, const qn_train_opts *o, qn_dtype dtype, int batch,
                            const qn_compile_opts *compile)
{
    struct model m = { .store = store, .dtype = dtype, .batch = batch, .beside = store != NULL };
    qn_error err = { 0 };
    const qn_init init = { .kind = QN_INIT_UNIFORM, .a = -1, .b = 1 };
    assert_int_equal(qn_graph_new(&m.g, NULL), QN_OK);
    m.x = qn_input(m.g, "x", dtype, 2, (int64_t[]){ batch, INPUTS });
    m.target = qn_input(m.g, "target", dtype, 2, (int64_t[]){ batch, OUTPUTS });
    qn_scope_push(m.g, "net");
    qn_scope_push(m.g, "fc");
    qn_t w = qn_param(m.g, "weight", dtype, 2, (int64_t[]){ INPUTS, OUTPUTS }, &init);
    qn_t b = qn_param(m.g, "bias", dtype, 1, (int64_t[]){ OUTPUTS }, &init);
    qn_t y = qn_add(m.g, qn_matmul(m.g, m.x, w, NULL), b);
    qn_scope_pop(m.g);
    qn_scope_pop(m.g);
    qn_t loss = qn_mean_all(m.g, qn_square(m.g, qn_sub(m.g, y, m.target)));
    if (qn_train_build(m.g, loss, o, &m.nodes)) fail_msg("%s", qn_graph_error(m.g)->text);
    if (!store) must(qn_store_new(&m.store, "cpu", 7, NULL, &err), &err);
    const qn_t keep[] = { m.nodes.loss, m.nodes.lr, m.nodes.grad_norm, m.nodes.applied };
    const qn_compile_opts checked = { .threads = 1, .check_plan = true };
    must(qn_compile(&m.program, m.g, keep, 4, m.store, compile ? compile : &checked, &err), &err);
    must(qn_program_load(m.program, &err), &err);
    return m;
}

struct model model_open(const qn_train_opts *o, qn_dtype dtype, int batch, const qn_compile_opts *compile)
{
    return open_on(NULL, o, dtype, batch, compile);
}

struct model model_beside(const struct model *m, const qn_train_opts *o, int batch)
{
    return open_on(m->store, o, m->dtype, batch, NULL);
}

void model_close(struct model *m)
{
    qn_program_free(m->program);
    if (!m->beside) qn_store_free(m->store);
    qn_graph_free(m->g);
}

static void put(struct model *m, qn_t t, int i, double value)
{
    if (m->dtype == QN_F64)
        ((double *)qn_program_data(m->program, t))[i] = value;
    else
        ((float *)qn_program_data(m->program, t))[i] = (float)value;
}

void model_feed(struct model *m, int first, double spoil)
{
    for (int n = 0; n < m->batch; n++) {
        for (int i = 0; i < INPUTS; i++) put(m, m->x, n * INPUTS + i, input_of(first + n, i));
        for (int j = 0; j < OUTPUTS; j++) put(m, m->target, n * OUTPUTS + j, target_of(first + n, j));
    }
    put(m, m->x, 0, spoil * input_of(first, 0));
}

void model_micro(struct model *m)
{
    qn_error err = { 0 };
    must(qn_program_run(m->program, QN_MICRO, &err), &err);
}
void model_update(struct model *m)
{
    qn_error err = { 0 };
    must(qn_program_run(m->program, QN_UPDATE, &err), &err);
}

static double element(const void *data, qn_dtype dtype, int i)
{
    if (dtype == QN_I64) return (double)((const int64_t *)data)[i];
    return dtype == QN_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

double model_scalar(struct model *m, qn_t t)
{
    const void *data = qn_program_data(m->program, t);
    assert_non_null(data);
    return element(data, m->dtype, 0);
}

double model_tensor(const struct model *m, const char *name, int i)
{
    const qn_store_entry *e = qn_store_find(m->store, name);
    if (!e) fail_msg("no tensor \"%s\"", name);
    return element(e->data, e->dtype, i);
}

double model_param(const struct model *m, const char *suffix, int i)
{
    char name[64];
    snprintf(name, sizeof name, "net.fc.%s%s", i < WEIGHTS ? "weight" : "bias", suffix);
    return model_tensor(m, name, i < WEIGHTS ? i : i - WEIGHTS);
}

/* ---- without ------------------------------------------------------------------------------------------- */

struct reference reference_of(const struct model *m)
{
    struct reference r;
    memset(&r, 0, sizeof r);
    r.plateau = 1;
    for (int i = 0; i < PARAMS; i++) r.w[i] = model_param(m, "", i);
    return r;
}

static void gradient(struct reference *r, const qn_train_opts *o, int first, int samples, double *g)
{
    r->loss = 0;
    memset(g, 0, PARAMS * sizeof *g);
    for (int n = first; n < first + samples; n++)
        for (int j = 0; j < OUTPUTS; j++) {
            double y = r->w[WEIGHTS + j], count = (double)samples * OUTPUTS;
            for (int i = 0; i < INPUTS; i++) y += input_of(n, i) * r->w[i * OUTPUTS + j];
            double difference = y - target_of(n, j);
            r->loss += difference * difference / count;
            for (int i = 0; i < INPUTS; i++) g[i * OUTPUTS + j] += 2 * difference * input_of(n, i) / count;
            g[WEIGHTS + j] += 2 * difference / count;
        }
    for (int i = 0; i < PARAMS; i++) {
        double w = r->w[i];
        g[i] += o->l1 * ((w > 0) - (w < 0)) + 2 * o->l2 * w;
        r->loss += o->l1 * fabs(w) + o->l2 * w * w;
    }
}

double reference_schedule(const qn_schedule_opts *s, double u)
{
    const double pi = 3.14159265358979323846;
    double f = 1, t = (u - s->warmup) / (s->total - s->warmup), up = s->peak * s->total;
    if (t < 0) t = 0;
    if (t > 1) t = 1;
    if (s->kind == QN_SCHEDULE_STEP) f = pow(s->gamma, (double)(int)(u / s->every));
    if (s->kind == QN_SCHEDULE_MULTI_STEP)
        for (int i = 0; i < s->n_at; i++)
            if (u >= s->at[i]) f *= s->gamma;
    if (s->kind == QN_SCHEDULE_EXPONENTIAL) f = pow(s->gamma, u / s->every);
    if (s->kind == QN_SCHEDULE_COSINE) f = s->end + 0.5 * (1 - s->end) * (1 + cos(pi * t));
    if (s->kind == QN_SCHEDULE_LINEAR) f = (1 - t) + s->end * t;
    if (s->kind == QN_SCHEDULE_ONE_CYCLE) {
        double last = s->end, down = fmin((u - up) / (s->total - up), 1);
        return u <= up ? s->start + (1 - s->start) * 0.5 * (1 - cos(pi * u / up))
                       : last + (1 - last) * 0.5 * (1 + cos(pi * down));
    }
    return u < s->warmup ? f * fmin(1, (u + 1) / s->warmup) : f;
}

struct options {
    double lr, decay;
};

/* The groups of these tests say "*.weight", "*.bias" or "*". */
static struct options options_of(const qn_train_opts *o, double lr, bool bias)
{
    struct options p = { lr, o->optimizer.weight_decay };
    for (int i = 0; i < o->optimizer.n_groups; i++) {
        const qn_optimizer_group *group = &o->optimizer.groups[i];
        if (strcmp(group->match, "*") != 0 && (strcmp(group->match, "*.bias") == 0) != bias) continue;
        p.lr *= group->lr_scale;
        if (group->weight_decay >= 0) p.decay = group->weight_decay;
        break;
    }
    return p;
}

/* The parameters from `begin` to `end` are one tensor. */
static void move(struct reference *r, const qn_optimizer_opts *o, struct options p, const double *g, int begin, int end)
{
    double t = (double)r->updates, b1 = o->betas[0], b2 = o->betas[1], size_w = 0, size_u = 0, u[PARAMS] = { 0 };
    for (int i = begin; i < end; i++) {
        double *w = &r->w[i], *a = &r->a[i], *b = &r->b[i], x = g[i] + p.decay * *w;
        switch (o->kind) {
        case QN_OPTIMIZER_SGD:
            *a = o->momentum * *a + x;
            u[i] = o->nesterov ? x + o->momentum * *a : *a;
            break;
        case QN_OPTIMIZER_ADAMW:
        case QN_OPTIMIZER_LAMB: x = g[i]; /* fall through */
        case QN_OPTIMIZER_ADAM:
            *a = b1 * *a + (1 - b1) * x;
            *b = b2 * *b + (1 - b2) * x * x;
            u[i] = *a / (1 - pow(b1, t)) / (sqrt(*b / (1 - pow(b2, t))) + o->eps);
            if (o->kind != QN_OPTIMIZER_ADAM) u[i] += p.decay * *w;
            break;
        case QN_OPTIMIZER_RMSPROP:
            *a = o->decay * *a + (1 - o->decay) * x * x;
            *b = o->momentum * *b + x / (sqrt(*a) + o->eps);
            u[i] = *b;
            break;
        case QN_OPTIMIZER_ADAGRAD:
            *a += x * x;
            u[i] = x / (sqrt(*a) + o->eps);
            break;
        default: {
            double c = b1 * *a + (1 - b1) * g[i];
            u[i] = (c > 0) - (c < 0) + p.decay * *w;
            *a = b2 * *a + (1 - b2) * g[i];
        }
        }
        size_w += *w * *w;
        size_u += u[i] * u[i];
    }
    double trust = o->kind == QN_OPTIMIZER_LAMB && size_w > 0 && size_u > 0 ? sqrt(size_w / size_u) : 1;
    for (int i = begin; i < end; i++) r->w[i] -= p.lr * trust * u[i];
}

void reference_step(struct reference *r, const qn_train_opts *o, int first, int samples)
{
    double g[PARAMS], squares = 0;
    gradient(r, o, first, samples, g);
    for (int i = 0; i < PARAMS; i++) squares += g[i] * g[i];
    r->norm = sqrt(squares);
    for (int i = 0; i < PARAMS; i++) {
        if (o->clip_norm > 0) g[i] *= fmin(1, o->clip_norm / (r->norm + 1e-6));
        if (o->clip_value > 0) g[i] = fmin(fmax(g[i], -o->clip_value), o->clip_value);
    }
    r->lr = o->optimizer.lr * reference_schedule(&o->schedule, (double)r->updates) * r->plateau;
    r->updates++;
    move(r, &o->optimizer, options_of(o, r->lr, false), g, 0, WEIGHTS);
    move(r, &o->optimizer, options_of(o, r->lr, true), g, WEIGHTS, PARAMS);
    double keep = fmin(o->ema_decay, (double)(r->updates - 1) / (double)(r->updates + 9));
    for (int i = 0; i < PARAMS; i++) r->ema[i] = keep * r->ema[i] + (1 - keep) * r->w[i];
}
