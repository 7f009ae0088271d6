/* pointwise.c - every PW row of ops.def: shape rule, gradient, definition in double, constructor. */
#include "../op.h"
#include <math.h>
#include <string.h>

bool qn__is_pointwise(enum qn__opcode op)
{
    static const bool table[QN_OP_COUNT] = {
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) [QN_OP_##name] = true,
#include "../ops.def"
#undef OP
    };
    return table[op];
}

#define K(x) ((double)(x))
#define EXP exp
#define EXPM1 expm1
#define LOG log
#define LOG1P log1p
#define POW pow
#define SQRT sqrt
#define SIN sin
#define COS cos
#define TANH tanh
#define ERF erf
#define FABS fabs
double qn__pw_eval(enum qn__opcode op, double a, double b, double c, double p, double q)
{
    switch ((int)op) {
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    case QN_OP_##name: \
        return expression;
#include "../ops.def"
#undef OP
    }
    return (double)NAN;
}

/* ---- shape rule ------------------------------------------------------------------------------- */

bool qn__pw_compares(enum qn__opcode op)
{
    return op == QN_OP_lt || op == QN_OP_le || op == QN_OP_gt || op == QN_OP_ge || op == QN_OP_eq || op == QN_OP_ne ||
           op == QN_OP_is_finite;
}

/* The one dtype of the value operands (the condition of `where` is free). */
static qn_status operand_dtype(const struct qn__node *const *x, const struct qn__node *y, qn_dtype *out, qn_error *err)
{
    int first = y->op == QN_OP_where ? 1 : 0;
    *out = x[first]->dtype;
    for (int i = first + 1; i < y->n_in; i++)
        if (x[i]->dtype != *out)
            return qn__fail(err, 2202, NULL, "%s and %s; expected one dtype", qn_dtype_name(*out),
                            qn_dtype_name(x[i]->dtype));
    return QN_OK;
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    qn_dtype dtype;
    QN_TRY(operand_dtype(x, y, &dtype, err));
    const struct qn__pw_attr *attr = y->attr;
    if (!qn__pw_compares(y->op) && y->op != QN_OP_cast && y->op != QN_OP_where && !qn_dtype_is_float(dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(dtype));
    y->dtype = qn__pw_compares(y->op) ? QN_BOOL : y->op == QN_OP_cast ? (qn_dtype)attr->dtype : dtype;
    return qn__infer_broadcast(x, y, err);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = { (double)y->count, (double)y->count * (double)qn_dtype_size(y->dtype) };
    for (int i = 0; i < y->n_in; i++) c.bytes += (double)x[i]->count * (double)qn_dtype_size(x[i]->dtype);
    return c;
}

/* ---- gradients: what each row contributes to each operand, before summing over broadcast axes --------- */

#define A qn__in(y, 0)
#define B qn__in(y, 1)
#define ATTR ((const struct qn__pw_attr *)y->attr)
#define VJP(row) static void vjp_##row(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
#define UNUSED ((void)g, (void)y, (void)self, (void)dy, (void)dx)

/* dy where the condition holds, zero elsewhere: not dy times 0, which is NaN for an infinite dy. */
static qn_t only_where(qn_graph *g, qn_t condition, qn_t dy)
{
    return qn_where(g, condition, dy, qn_scalar(g, qn_dtype_of(g, dy), 0));
}

/* clang-format off */
VJP(add) { UNUSED; dx[0] = dy; dx[1] = dy; }
VJP(sub) { UNUSED; dx[0] = dy; dx[1] = qn_neg(g, dy); }
VJP(mul) { UNUSED; dx[0] = qn_mul(g, dy, B); dx[1] = qn_mul(g, dy, A); }
VJP(div)
{
    UNUSED;
    dx[0] = qn_div(g, dy, B);
    dx[1] = qn_neg(g, qn_div(g, qn_mul(g, dy, self), B));
}
/* At a tie the whole gradient goes to a, so that the two shares always add up to dy. */
VJP(minimum) { UNUSED; dx[0] = only_where(g, qn_le(g, A, B), dy); dx[1] = only_where(g, qn_lt(g, B, A), dy); }
VJP(maximum) { UNUSED; dx[0] = only_where(g, qn_ge(g, A, B), dy); dx[1] = only_where(g, qn_gt(g, B, A), dy); }
/* x^0 is 1 and 0^b is 0 all around, where the formulas would multiply 0 by infinity. */
VJP(power)
{
    UNUSED;
    qn_t zero = qn_scalar(g, y->dtype, 0), slope = qn_mul(g, B, qn_power(g, A, qn_affine(g, B, 1, -1)));
    qn_t log_slope = qn_mul(g, self, qn_log(g, A));
    log_slope = qn_where(g, qn_eq(g, A, zero), qn_where(g, qn_ge(g, B, zero), zero, log_slope), log_slope);
    dx[0] = qn_mul(g, dy, qn_where(g, qn_eq(g, B, zero), zero, slope));
    dx[1] = qn_mul(g, dy, log_slope);
}
VJP(where)
{
    UNUSED;
    qn_t zero = qn_scalar(g, y->dtype, 0);
    dx[1] = qn_where(g, A, dy, zero);
    dx[2] = qn_where(g, A, zero, dy);
}
VJP(affine) { UNUSED; dx[0] = qn_scale(g, dy, ATTR->p); }
VJP(neg) { UNUSED; dx[0] = qn_neg(g, dy); }
VJP(abs) { UNUSED; dx[0] = qn_mul(g, dy, qn_sign(g, A)); }
VJP(sqrt) { UNUSED; dx[0] = qn_div(g, qn_scale(g, dy, 0.5), self); }
VJP(rsqrt) { UNUSED; dx[0] = qn_mul(g, qn_scale(g, dy, -0.5), qn_mul(g, self, qn_square(g, self))); }
VJP(exp) { UNUSED; dx[0] = qn_mul(g, dy, self); }
VJP(log) { UNUSED; dx[0] = qn_div(g, dy, A); }
VJP(pow) { UNUSED; if (ATTR->p != 0) dx[0] = qn_mul(g, dy, qn_scale(g, qn_pow(g, A, ATTR->p - 1), ATTR->p)); }
VJP(square) { UNUSED; dx[0] = qn_mul(g, dy, qn_scale(g, A, 2)); }
VJP(sin) { UNUSED; dx[0] = qn_mul(g, dy, qn_cos(g, A)); }
VJP(cos) { UNUSED; dx[0] = qn_neg(g, qn_mul(g, dy, qn_sin(g, A))); }
/* 2/sqrt(pi) e^(-x^2) */
VJP(erf)
{
    UNUSED;
    dx[0] = qn_mul(g, dy, qn_scale(g, qn_exp(g, qn_neg(g, qn_square(g, A))), 1.1283791670955125739));
}
VJP(clamp)
{
    UNUSED;
    qn_t low = qn_scalar(g, y->dtype, ATTR->p), high = qn_scalar(g, y->dtype, ATTR->q);
    dx[0] = only_where(g, qn_ge(g, A, low), only_where(g, qn_le(g, A, high), dy));
}
VJP(cast)
{
    UNUSED;
    qn_dtype from = qn_dtype_of(g, A);
    if (qn_dtype_is_float(from) && qn_dtype_is_float(y->dtype)) dx[0] = qn_cast(g, dy, from);
}
VJP(relu) { UNUSED; dx[0] = qn_mul(g, dy, qn_step(g, self)); }
/* The output tells the side of zero when the slope is positive; else the input must be kept. */
VJP(leaky_relu)
{
    UNUSED;
    qn_t side = ATTR->p > 0 ? self : A;
    dx[0] = qn_mul(g, dy, qn_affine(g, qn_step(g, side), 1 - ATTR->p, ATTR->p));
}
/* 1 where x > 0, else p e^x = y + p */
VJP(elu)
{
    UNUSED;
    qn_t positive = qn_step(g, ATTR->p > 0 ? self : A);
    qn_t slope = qn_where(g, positive, positive, qn_affine(g, self, 1, ATTR->p));
    dx[0] = qn_mul(g, dy, slope);
}
/* Phi(x) + x phi(x) */
VJP(gelu_erf)
{
    UNUSED;
    qn_t cdf = qn_affine(g, qn_erf(g, qn_scale(g, A, 0.70710678118654752440)), 0.5, 0.5);
    qn_t pdf = qn_scale(g, qn_exp(g, qn_scale(g, qn_square(g, A), -0.5)), 0.39894228040143267794);
    dx[0] = qn_mul(g, dy, qn_add(g, cdf, qn_mul(g, A, pdf)));
}
/* (1+t)/2 + x/2 (1-t^2) k (1 + 3 c x^2), t = tanh(k (x + c x^3)). Beyond 30 t is 1 in every type, and x^2 must not
 * become infinite there. */
VJP(gelu_tanh)
{
    UNUSED;
    const double k = 0.79788456080286535588, c = 0.044715;
    qn_t x = qn_clamp(g, A, -30, 30), square = qn_square(g, x);
    qn_t t = qn_tanh(g, qn_mul(g, x, qn_affine(g, square, k * c, k)));
    qn_t inner = qn_mul(g, qn_scale(g, x, 0.5), qn_affine(g, square, 3 * k * c, k));
    qn_t slope = qn_add(g, qn_affine(g, t, 0.5, 0.5), qn_mul(g, inner, qn_affine(g, qn_square(g, t), -1, 1)));
    dx[0] = qn_mul(g, dy, slope);
}
/* s + x s (1 - s) = s (1 + x (1 - s)) */
VJP(silu)
{
    UNUSED;
    qn_t s = qn_sigmoid(g, A);
    qn_t slope = qn_mul(g, s, qn_affine(g, qn_mul(g, A, qn_affine(g, s, -1, 1)), 1, 1));
    dx[0] = qn_mul(g, dy, slope);
}
VJP(sigmoid) { UNUSED; dx[0] = qn_mul(g, dy, qn_mul(g, self, qn_affine(g, self, -1, 1))); }
VJP(tanh) { UNUSED; dx[0] = qn_mul(g, dy, qn_affine(g, qn_square(g, self), -1, 1)); }
VJP(softplus) { UNUSED; dx[0] = qn_mul(g, dy, qn_sigmoid(g, A)); }
/* clang-format on */

/* Sums each contribution over the axes along which its operand was repeated. */
typedef void vjp_fn(qn_graph *, const struct qn__node *, qn_t, qn_t, qn_t *);
static void vjp_broadcast(vjp_fn *rule, qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    rule(g, y, self, dy, dx);
    for (int i = 0; i < y->n_in && !qn__failed(g); i++) {
        struct qn__node x = *qn__at(g, qn__in(y, i));
        if (dx[i].id && !qn__same_dims(&x, qn__at(g, dx[i]))) dx[i] = qn_sum_to(g, dx[i], x.rank, x.dim);
    }
}

/* ---- descriptors ------------------------------------------------------------------------------ */

#define COMMON(row) \
    .name = #row, .infer = infer, .cost = cost, .attr_size = sizeof(struct qn__pw_attr), .layout = QN_LAYOUT_SAME, \
    .pointwise = true, .in_place = true
#define DIFFERENTIABLE(row) \
    static void all_##row(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx) \
    { \
        vjp_broadcast(vjp_##row, g, y, self, dy, dx); \
    } \
    const struct qn__op qn__op_##row = { COMMON(row), .vjp = all_##row }
#define CONSTANT_ALMOST_EVERYWHERE(row) \
    const struct qn__op qn__op_##row = { COMMON(row), .flat = true, \
                                         .no_gradient = "its derivative is zero almost everywhere" }

DIFFERENTIABLE(add);
DIFFERENTIABLE(sub);
DIFFERENTIABLE(mul);
DIFFERENTIABLE(div);
DIFFERENTIABLE(minimum);
DIFFERENTIABLE(maximum);
DIFFERENTIABLE(power);
DIFFERENTIABLE(where);
DIFFERENTIABLE(affine);
DIFFERENTIABLE(neg);
DIFFERENTIABLE(abs);
DIFFERENTIABLE(sqrt);
DIFFERENTIABLE(rsqrt);
DIFFERENTIABLE(exp);
DIFFERENTIABLE(log);
DIFFERENTIABLE(pow);
DIFFERENTIABLE(square);
DIFFERENTIABLE(sin);
DIFFERENTIABLE(cos);
DIFFERENTIABLE(erf);
DIFFERENTIABLE(clamp);
DIFFERENTIABLE(cast);
DIFFERENTIABLE(relu);
DIFFERENTIABLE(leaky_relu);
DIFFERENTIABLE(elu);
DIFFERENTIABLE(gelu_erf);
DIFFERENTIABLE(gelu_tanh);
DIFFERENTIABLE(silu);
DIFFERENTIABLE(sigmoid);
DIFFERENTIABLE(tanh);
DIFFERENTIABLE(softplus);
CONSTANT_ALMOST_EVERYWHERE(lt);
CONSTANT_ALMOST_EVERYWHERE(le);
CONSTANT_ALMOST_EVERYWHERE(gt);
CONSTANT_ALMOST_EVERYWHERE(ge);
CONSTANT_ALMOST_EVERYWHERE(eq);
CONSTANT_ALMOST_EVERYWHERE(ne);
CONSTANT_ALMOST_EVERYWHERE(sign);
CONSTANT_ALMOST_EVERYWHERE(step);
CONSTANT_ALMOST_EVERYWHERE(is_finite);

/* ---- constructors ------------------------------------------------------------------------------ */

static qn_t build(qn_graph *g, enum qn__opcode op, const qn_t *x, int n, double p, double q, qn_dtype dtype)
{
    struct qn__pw_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.p = p;
    attr.q = q;
    attr.dtype = (int32_t)dtype;
    return qn__node(g, op, x, n, &attr);
}
#define UNARY(row) \
    qn_t qn_##row(qn_graph *g, qn_t x) { return build(g, QN_OP_##row, &x, 1, 0, 0, QN_F32); }
#define BINARY(row) \
    qn_t qn_##row(qn_graph *g, qn_t a, qn_t b) { return build(g, QN_OP_##row, (qn_t[]){ a, b }, 2, 0, 0, QN_F32); }
BINARY(add)
BINARY(sub)
BINARY(mul)
BINARY(div)
BINARY(minimum)
BINARY(maximum)
BINARY(power)
BINARY(lt)
BINARY(le)
BINARY(gt)
BINARY(ge)
BINARY(eq)
BINARY(ne)
UNARY(neg)
UNARY(abs)
UNARY(sign)
UNARY(step)
UNARY(sqrt)
UNARY(rsqrt)
UNARY(exp)
UNARY(log)
UNARY(square)
UNARY(sin)
UNARY(cos)
UNARY(erf)
UNARY(is_finite)
UNARY(relu)
UNARY(gelu_erf)
UNARY(gelu_tanh)
UNARY(silu)
UNARY(sigmoid)
UNARY(tanh)
UNARY(softplus)

qn_t qn_where(qn_graph *g, qn_t condition, qn_t a, qn_t b)
{
    return build(g, QN_OP_where, (qn_t[]){ condition, a, b }, 3, 0, 0, QN_F32);
}
qn_t qn_affine(qn_graph *g, qn_t x, double scale, double shift)
{
    return build(g, QN_OP_affine, &x, 1, scale, shift, QN_F32);
}
qn_t qn_scale(qn_graph *g, qn_t x, double scale) { return qn_affine(g, x, scale, 0); }
qn_t qn_pow(qn_graph *g, qn_t x, double exponent) { return build(g, QN_OP_pow, &x, 1, exponent, 0, QN_F32); }
qn_t qn_clamp(qn_graph *g, qn_t x, double low, double high)
{
    if (!(low <= high)) return qn__graph_fail(g, 2204, "clamp", "[%g,%g]; expected low <= high", low, high);
    return build(g, QN_OP_clamp, &x, 1, low, high, QN_F32);
}
qn_t qn_leaky_relu(qn_graph *g, qn_t x, double slope) { return build(g, QN_OP_leaky_relu, &x, 1, slope, 0, QN_F32); }
qn_t qn_elu(qn_graph *g, qn_t x, double alpha) { return build(g, QN_OP_elu, &x, 1, alpha, 0, QN_F32); }
qn_t qn_cast(qn_graph *g, qn_t x, qn_dtype to)
{
    if ((unsigned)to >= QN_DTYPE_COUNT)
        return qn__graph_fail(g, 2202, "cast", "dtype %d; expected a dtype of base.h", (int)to);
    if (!qn__failed(g) && qn_dtype_of(g, x) == to) return x;
    return build(g, QN_OP_cast, &x, 1, 0, 0, to);
}
