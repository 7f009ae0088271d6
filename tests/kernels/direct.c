#include "direct.h"
#include "../../core/philox.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct qn__kernel *kernel_of(enum qn__opcode op, bool f64)
{
    return (f64 ? &qn__cpu_f64 : &qn__cpu_f32)->kernel[op];
}

double gamma_f32(int64_t n)
{
    double nu = (double)n * 0x1p-24;
    return nu / (1 - nu);
}

void direct_operand(struct direct *d, uint64_t seed, int rank, const int64_t *dims)
{
    struct qn__node *x = &d->x[d->n_in];
    *x = (struct qn__node){ .dtype = QN_F32, .rank = rank, .block = QN_PLAIN };
    memcpy(x->dim, dims, (size_t)rank * sizeof *dims);
    assert_true(qn__count(&x->count, dims, rank));
    double *data = calloc((size_t)x->count + 1, sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < x->count; i++) {
        uint32_t w = qn__philox(seed + 1, (uint32_t)i, (uint32_t)(i >> 32), (uint32_t)d->n_in, 0).w[0];
        data[i] = (double)(2 * qn__unit_f32(w) - 1);
    }
    d->data[d->n_in++] = data;
}

void direct_free(struct direct *d)
{
    for (int i = 0; i < d->n_in; i++) free(d->data[i]);
    free(d->result);
    d->result = NULL;
    d->n_in = 0;
}

/* Element (i in row-major order) of a rank-4 value in the memory of block b. */
static int64_t place(const struct qn__view *v, int64_t i)
{
    if (v->rank != 4 || v->block == QN_PLAIN) return i;
    int64_t b = v->block, hw = v->dim[2] * v->dim[3], s = i % hw, c = i / hw % v->dim[1], n = i / hw / v->dim[1];
    return ((n * (v->dim[1] / b) + c / b) * hw + s) * b + c % b;
}

/* Guard elements after the data: a kernel that writes past its result is caught. */
enum { GUARD = 64 };

static void fill_view(struct qn__view *v, const double *data, bool f64)
{
    size_t size = f64 ? 8 : 4, bytes = ((size_t)v->count + GUARD) * size;
    v->data = aligned_alloc(256, (bytes + 255) / 256 * 256);
    assert_non_null(v->data);
    memset(v->data, 0xff, bytes); /* NaN: what a kernel fails to write, shows */
    for (int64_t i = 0; data && i < v->count; i++)
        if (f64)
            ((double *)v->data)[place(v, i)] = (double)(float)data[i];
        else
            ((float *)v->data)[place(v, i)] = (float)data[i];
}

static void view_of(struct qn__view *v, const struct qn__node *n, int32_t block, bool f64)
{
    *v = (struct qn__view){ .dtype = f64 ? QN_F64 : QN_F32, .rank = n->rank, .count = n->count };
    v->block = block;
    memcpy(v->dim, n->dim, sizeof v->dim);
}

static qn_status infer(struct direct *d)
{
    const struct qn__node *x[QN_MAX_IN];
    for (int i = 0; i < d->n_in; i++) x[i] = &d->x[i];
    d->y = (struct qn__node){ .op = d->op,
                              .n_in = d->n_in,
                              .dtype = QN_F32,
                              .rank = d->rank,
                              .block = QN_PLAIN,
                              .attr = (void *)(uintptr_t)d->attr };
    memcpy(d->y.dim, d->dim, sizeof d->y.dim);
    QN_TRY(qn__op_of(d->op)->infer(x, &d->y, &d->err));
    assert_true(qn__count(&d->y.count, d->y.dim, d->y.rank));
    return QN_OK;
}

static void set_variant(struct direct *d, struct qn__step *s, bool f64)
{
    for (int i = 0; d->variant && !f64 && s->kernel->variants[i]; i++)
        if (strcmp(s->kernel->variants[i], d->variant) == 0) s->choice.variant = i;
    d->chosen = s->kernel->variants[s->choice.variant];
}

static void set_blocks(struct direct *d, struct qn__step *s, bool f64)
{
    struct qn__args *a = &s->args;
    if (d->ask && !f64) { /* what the layout pass does: ask, then give what was asked for */
        a->y.block = QN_ANY_BLOCK;
        assert_int_equal(s->kernel->pick(a, &s->choice), QN_OK);
        for (int i = 0; i < a->n_in; i++) a->x[i].block = s->choice.x_block[i];
        a->y.block = s->choice.y_block;
        for (int i = 0; i < a->n_in; i++) d->x_block[i] = a->x[i].block;
        d->y_block = a->y.block;
    }
    for (int i = 0; i < QN_MAX_IN; i++) s->choice.x_block[i] = QN_PLAIN;
    s->choice.y_block = QN_PLAIN;
    s->choice.workspace = 0;
}

qn_status direct_run(struct direct *d, bool f64)
{
    QN_TRY(infer(d));
    struct qn__step s = { .kernel = kernel_of(d->op, f64) };
    s.args = (struct qn__args){ .op = d->op, .n_in = d->n_in, .attr = d->attr, .threads = d->threads ? d->threads : 1 };
    for (int i = 0; i < d->n_in; i++)
        view_of(&s.args.x[i], &d->x[i], f64 || !d->x_block[i] ? QN_PLAIN : d->x_block[i], f64);
    view_of(&s.args.y, &d->y, f64 || !d->y_block ? QN_PLAIN : d->y_block, f64);
    for (int i = 0; i < QN_MAX_IN; i++) s.choice.x_block[i] = QN_PLAIN;
    s.choice.y_block = QN_PLAIN;
    set_blocks(d, &s, f64);
    QN_TRY(s.kernel->pick(&s.args, &s.choice));
    set_variant(d, &s, f64);
    if (s.kernel->prepare) QN_TRY(s.kernel->prepare(&s, &d->err));
    for (int i = 0; i < d->n_in; i++) fill_view(&s.args.x[i], d->data[i], f64);
    fill_view(&s.args.y, NULL, f64);
    size_t bytes = (s.choice.workspace + GUARD + 255) / 256 * 256;
    s.workspace = aligned_alloc(256, bytes);
    memset(s.workspace, 0xff, bytes);
    d->workspace = s.choice.workspace;
    if (s.kernel->bind) QN_TRY(s.kernel->bind(&s, &d->err));
    qn_status status = s.kernel->launch(&s, &d->err);
    if (status == QN_OK) status = s.kernel->launch(&s, &d->err); /* a second step gives the same */
    free(d->result);
    d->result = calloc((size_t)d->y.count + 1, sizeof *d->result);
    for (int64_t i = 0; i < d->y.count; i++)
        d->result[i] = f64 ? ((double *)s.args.y.data)[place(&s.args.y, i)]
                           : (double)((float *)s.args.y.data)[place(&s.args.y, i)];
    const unsigned char *after = (unsigned char *)s.args.y.data + (size_t)d->y.count * (f64 ? 8 : 4);
    for (int i = 0; i < GUARD * 4; i++) assert_int_equal(after[i], 0xff);
    after = (unsigned char *)s.workspace + s.choice.workspace;
    for (int i = 0; i < GUARD; i++) assert_int_equal(after[i], 0xff);
    if (s.kernel->release) s.kernel->release(&s);
    for (int i = 0; i < d->n_in; i++) free(s.args.x[i].data);
    free(s.args.y.data);
    free(s.workspace);
    return status;
}

static double *take(struct direct *d)
{
    double *r = d->result;
    d->result = NULL;
    return r;
}

/* Sum of absolute products: the same operator over absolute values, without the activation. */
static double *run_magnitude(struct direct *d)
{
    double *saved[QN_MAX_IN];
    for (int i = 0; i < d->n_in; i++) {
        size_t n = (size_t)d->x[i].count;
        saved[i] = calloc(n + 1, sizeof *saved[i]);
        memcpy(saved[i], d->data[i], n * sizeof *saved[i]);
        for (size_t j = 0; j < n; j++) d->data[i][j] = fabs(d->data[i][j]);
    }
    const void *attr = d->attr;
    d->attr = d->plain_attr ? d->plain_attr : attr;
    assert_int_equal(direct_run(d, true), QN_OK);
    d->attr = attr;
    for (int i = 0; i < d->n_in; i++) {
        memcpy(d->data[i], saved[i], (size_t)d->x[i].count * sizeof *saved[i]);
        free(saved[i]);
    }
    return take(d);
}

void direct_check(struct direct *d, int64_t products, const char *expect_variant)
{
    assert_int_equal(direct_run(d, true), QN_OK);
    assert_string_equal(d->chosen, "loops");
    double *oracle = take(d), *magnitude = run_magnitude(d), worst = 0;
    if (direct_run(d, false)) fail_msg("%s: %s", qn__op_of(d->op)->name, d->err.text);
    if (expect_variant) assert_string_equal(d->chosen, expect_variant);
    int64_t worst_at = 0;
    for (int64_t i = 0; i < d->y.count; i++) {
        /* An activation of slope at most 1.13 (gelu) and its own rounding come on top of the sum. */
        double bound = gamma_f32(products + 2) * magnitude[i] * (d->plain_attr ? 1.13 : 1);
        if (d->plain_attr) bound += 16 * 0x1p-24 * (fabs(oracle[i]) + 0x1p-4);
        double error = fabs(d->result[i] - oracle[i]), ratio = error / (bound + 0x1p-126);
        if (!(ratio <= worst)) worst = ratio, worst_at = i;
    }
    if (!(worst <= 1))
        print_error("%s %s: element %lld of %lld: %.9g; oracle %.9g, error is %.3g of the bound\n",
                    qn__op_of(d->op)->name, d->chosen, (long long)worst_at, (long long)d->y.count, d->result[worst_at],
                    oracle[worst_at], worst);
    assert_true(worst <= 1);
    free(oracle);
    free(magnitude);
}
