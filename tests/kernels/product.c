/* product.c - see product.h. */
#include "product.h"
#include "../../core/philox.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

const int product_activation[PRODUCT_ACTIVATIONS] = {
    0, QN_OP_relu, QN_OP_leaky_relu, QN_OP_elu, QN_OP_gelu_tanh, QN_OP_gelu_erf, QN_OP_sigmoid, QN_OP_tanh, QN_OP_silu
};

/* n eps / (1 - n eps), eps = 2^-24: the relative error of a sum of n products in f32, in any order (Higham 2002). */
static double gamma_f32(int64_t n)
{
    double nu = (double)n * 0x1p-24;
    return nu / (1 - nu);
}

void product_operand(struct product *p, uint64_t seed, int rank, const int64_t *dims)
{
    struct qn__node *x = &p->x[p->n_in];
    *x = (struct qn__node){ .dtype = QN_F32, .rank = rank, .block = QN_PLAIN };
    memcpy(x->dim, dims, (size_t)rank * sizeof *dims);
    assert_true(qn__count(&x->count, dims, rank));
    double *data = calloc((size_t)x->count + 1, sizeof *data);
    assert_non_null(data);
    for (int64_t i = 0; i < x->count; i++) {
        uint32_t w = qn__philox(seed + 1, (uint32_t)i, (uint32_t)(i >> 32), (uint32_t)p->n_in, 0).w[0];
        data[i] = (double)(2 * qn__unit_f32(w) - 1);
    }
    p->data[p->n_in++] = data;
}

void product_free(struct product *p)
{
    for (int i = 0; i < p->n_in; i++) free(p->data[i]);
    free(p->result);
    p->result = NULL;
    p->n_in = 0;
}

static qn_status infer(struct product *p)
{
    const struct qn__node *x[QN_MAX_IN];
    for (int i = 0; i < p->n_in; i++) x[i] = &p->x[i];
    p->y = (struct qn__node){
        .op = p->op, .n_in = p->n_in, .dtype = QN_F32, .block = QN_PLAIN, .attr = (void *)(uintptr_t)p->attr
    };
    QN_TRY(qn__op_of(p->op)->infer(x, &p->y, &p->err));
    assert_true(qn__count(&p->y.count, p->y.dim, p->y.rank));
    return QN_OK;
}

/* Views without data, in the blocks that the call asks for. */
static struct qn__args args_of(const struct product *p, bool f64)
{
    qn_dtype dtype = f64 ? QN_F64 : QN_F32;
    struct qn__args a = { .op = p->op, .n_in = p->n_in, .attr = p->attr, .threads = p->threads ? p->threads : 1 };
    for (int i = 0; i < p->n_in; i++)
        a.x[i] = drive_view(dtype, p->x[i].rank, p->x[i].dim, f64 || !p->x_block[i] ? QN_PLAIN : p->x_block[i], NULL);
    a.y = drive_view(dtype, p->y.rank, p->y.dim, f64 || !p->y_block ? QN_PLAIN : p->y_block, NULL);
    return a;
}

/* What the layout pass and the compiler do: ask what the kernel wants, give it that, choose. */
static qn_status choose(struct product *p, struct qn__step *s, bool f64)
{
    if (p->ask && !f64) {
        s->args.y.block = QN_ANY_BLOCK;
        assert_int_equal(drive_pick(s), QN_OK);
        for (int i = 0; i < p->n_in; i++) p->x_block[i] = s->args.x[i].block = s->choice.x_block[i];
        p->y_block = s->args.y.block = s->choice.y_block;
    }
    QN_TRY(drive_pick(s));
    for (int i = 0; p->variant && !f64 && s->kernel->variants[i]; i++)
        if (strcmp(s->kernel->variants[i], p->variant) == 0) s->choice.variant = i;
    p->chosen = s->kernel->variants[s->choice.variant];
    return QN_OK;
}

/* Guarded memory for a view. 0xff makes NaN: what a kernel fails to write, shows. */
static struct drive_memory memory_for(struct qn__view *v, const double *data)
{
    struct drive_memory m = drive_take((size_t)v->count * qn_dtype_size(v->dtype), 0xff);
    v->data = m.data;
    for (int64_t i = 0; data && i < v->count; i++) {
        double rounded = (double)(float)data[i];
        qn_convert(m.data + (size_t)drive_place(v, i) * qn_dtype_size(v->dtype), v->dtype, &rounded, QN_F64, 1);
    }
    return m;
}

qn_status product_run(struct product *p, bool f64)
{
    const struct drive_on *on = f64 ? &drive_cpu_f64 : &drive_cpu_f32;
    QN_TRY(infer(p));
    struct qn__args a = args_of(p, f64);
    struct qn__step s = drive_step(on, &a);
    QN_TRY(choose(p, &s, f64));
    struct drive_memory x[QN_MAX_IN], y = memory_for(&s.args.y, NULL);
    for (int i = 0; i < p->n_in; i++) x[i] = memory_for(&s.args.x[i], p->data[i]);
    qn_status status = drive_launch(on, &s, NULL, 0, 2, 0xff, &p->err); /* a second step gives the same */
    if (!drive_intact(&y)) fail_msg("%s, %s: wrote outside its result", qn__op_of(p->op)->name, p->chosen);
    free(p->result);
    p->result = calloc((size_t)p->y.count + 1, sizeof *p->result);
    assert_non_null(p->result);
    for (int64_t i = 0; i < p->y.count; i++)
        qn_convert(&p->result[i], QN_F64, y.data + (size_t)drive_place(&s.args.y, i) * qn_dtype_size(s.args.y.dtype),
                   s.args.y.dtype, 1);
    for (int i = 0; i < p->n_in; i++) free(x[i].base);
    free(y.base);
    return status;
}

static double *take(struct product *p)
{
    double *r = p->result;
    p->result = NULL;
    return r;
}

/* Sum of absolute products: the same operator over absolute values, without the activation. */
static double *run_magnitude(struct product *p)
{
    struct product m = { .op = p->op, .n_in = p->n_in, .attr = p->plain_attr ? p->plain_attr : p->attr };
    for (int i = 0; i < p->n_in; i++) {
        m.x[i] = p->x[i];
        m.data[i] = calloc((size_t)p->x[i].count + 1, sizeof *m.data[i]);
        assert_non_null(m.data[i]);
        for (int64_t j = 0; j < p->x[i].count; j++) m.data[i][j] = fabs(p->data[i][j]);
    }
    assert_int_equal(product_run(&m, true), QN_OK);
    double *magnitude = take(&m);
    product_free(&m);
    return magnitude;
}

void product_check(struct product *p, int64_t terms, const char *expect_variant)
{
    assert_int_equal(product_run(p, true), QN_OK);
    assert_string_equal(p->chosen, "loops");
    double *oracle = take(p), *magnitude = run_magnitude(p), worst = 0;
    if (product_run(p, false)) fail_msg("%s: %s", qn__op_of(p->op)->name, p->err.text);
    if (expect_variant) assert_string_equal(p->chosen, expect_variant);
    int64_t worst_at = 0;
    for (int64_t i = 0; i < p->y.count; i++) {
        /* An activation of slope at most 1.13 (gelu) and its own rounding come on top of the sum. */
        double bound = gamma_f32(terms + 2) * magnitude[i] * (p->plain_attr ? 1.13 : 1);
        if (p->plain_attr) bound += 16 * 0x1p-24 * (fabs(oracle[i]) + 0x1p-4);
        double error = fabs(p->result[i] - oracle[i]), ratio = error / (bound + 0x1p-126);
        if (!(ratio <= worst)) worst = ratio, worst_at = i;
    }
    if (!(worst <= 1))
        print_error("%s %s: element %lld of %lld: %.9g; oracle %.9g, error is %.3g of the bound\n",
                    qn__op_of(p->op)->name, p->chosen, (long long)worst_at, (long long)p->y.count, p->result[worst_at],
                    oracle[worst_at], worst);
    assert_true(worst <= 1);
    free(oracle);
    free(magnitude);
}
