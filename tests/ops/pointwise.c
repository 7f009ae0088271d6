/* pointwise.c - cases of every PW row of ops.def; a row without a ROW_<name> below does not compile.
 *
 * ROW_<name>: (what holds for each case), (operand a), (operand b), (operand c), further cases. The attributes p and q
 * of the expression are .q[0] and .q[1], exact in f32. The definition is the row itself, evaluated in double.
 *
 * Bounds. One correctly rounded operation: ulps 1. The functions of the f32 kernels are within 1 ulp (exp: 2) of the
 * exact value; rows that combine a few of them without cancellation get the sum, rows that cancel an absolute bound. */
#include "ops.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__pw_attr attr = { .p = c->q[0], .q = c->q[1] };
    enum qn__opcode op = (enum qn__opcode)c->p[0];
    attr.dtype = (int32_t)(op != QN_OP_cast ? QN_F32 : c->p[1] ? (qn_dtype)c->p[1] : qn_dtype_of(g, x[0]));
    return qn__node(g, op, x, c->n_in, &attr);
}
/* to the element type of the run: dtype 0 stands for it in the case */
static qn_t build_cast_to_real(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_cast(g, x[0], qn_dtype_of(g, x[1]));
}

/* Element i of y in operand x, which broadcasts to y. */
static double at(const struct op_data *x, const struct op_data *y, int64_t i)
{
    int64_t offset = 0, step = 1;
    for (int k = y->rank - 1; k >= y->rank - x->rank; k--) {
        int64_t dim = x->dim[k - (y->rank - x->rank)], index = i % y->dim[k];
        if (dim > 1) offset += index * step;
        step *= dim;
        i /= y->dim[k];
    }
    return x->v[offset];
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        double a = at(&x[0], y, i), b = c->n_in > 1 ? at(&x[1], y, i) : 0, d = c->n_in > 2 ? at(&x[2], y, i) : 0;
        y->v[i] = qn__pw_eval((enum qn__opcode)c->p[0], a, b, d, c->q[0], c->q[1]);
    }
}
static void oracle_cast(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    uint64_t room = 0;
    (void)c;
    for (int64_t i = 0; i < y->count; i++) {
        qn_convert(&room, y->dtype, &x[0].v[i], QN_F64, 1);
        qn_convert(&y->v[i], QN_F64, &room, y->dtype, 1);
    }
}

/* p a + q: the product's rounding, then the sum's */
static double bound_affine(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                           double eps)
{
    return eps * (fabs(c->q[0] * x[0].v[i]) + 2 * fabs(y->v[i]));
}
/* a/2 (1 + f(u)), |f| <= 1: f is off by at most 2 eps of its own and by u f'(u) k eps from its argument, with u f'(u)
 * < 0.5 for erf and tanh and k = 5 roundings in the argument. 1 + f and two products round once each. */
static double bound_gelu(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)c;
    return fabs(x[0].v[i]) / 2 * eps * (2 + 5 * 0.5 + 2) + 3 * eps * fabs(y->v[i]);
}

#define UNPACK(...) __VA_ARGS__
#define ANY ()
#define NONE
#define ROW_add ((.ulps = 1), ANY, ANY, ANY, NONE)
#define ROW_sub ((.ulps = 1), ANY, ANY, ANY, NONE)
#define ROW_mul ((.ulps = 1), ANY, ANY, ANY, NONE)
#define ROW_div ((.ulps = 1), ANY, (.values = OP_AWAY, .low = 0.5, .high = 3), ANY, NONE)
#define ROW_minimum ((.exact = true, .step = 0x1p-24), ANY, ANY, ANY, NONE)
#define ROW_maximum ((.exact = true, .step = 0x1p-24), ANY, ANY, ANY, NONE)
#define ROW_power ((.ulps = 2), (.low = 0.25, .high = 4), (.low = -3, .high = 3), ANY, NONE)
#define COMPARISON(row) ((.exact = true), (.values = OP_TIES), (.values = OP_TIES), ANY, INTEGERS(row))
#define ROW_lt COMPARISON(lt)
#define ROW_le COMPARISON(le)
#define ROW_gt COMPARISON(gt)
#define ROW_ge COMPARISON(ge)
#define ROW_eq COMPARISON(eq)
#define ROW_ne COMPARISON(ne)
#define ROW_where ((.exact = true), (.dtype = QN_BOOL), ANY, ANY, NONE)
#define ROW_affine ((.bound = bound_affine, .q = { 1.5, -0.25 }), ANY, ANY, ANY, NONE)
#define ROW_neg ((.exact = true), ANY, ANY, ANY, NONE)
#define ROW_abs ((.exact = true), (.values = OP_AWAY), ANY, ANY, NONE)
#define ROW_sign ((.exact = true), (.values = OP_TIES), ANY, ANY, NONE)
#define ROW_step ((.exact = true), (.values = OP_TIES), ANY, ANY, NONE)
#define ROW_sqrt ((.ulps = 1), (.low = 0.25, .high = 9), ANY, ANY, NONE)
#define ROW_rsqrt ((.ulps = 2), (.low = 0.25, .high = 9), ANY, ANY, NONE)
#define ROW_exp ((.ulps = 3), (.low = -30, .high = 30), ANY, ANY, NONE)
#define ROW_log ((.ulps = 2), (.low = 0.0625, .high = 30), ANY, ANY, NONE)
#define ROW_pow ((.ulps = 2, .q = { 2.5 }), (.low = 0.25, .high = 4), ANY, ANY, NONE)
#define ROW_square ((.ulps = 1), ANY, ANY, ANY, NONE)
#define ROW_sin ((.ulps = 2), (.low = -9, .high = 9), ANY, ANY, NONE)
#define ROW_cos ((.ulps = 2), (.low = -9, .high = 9), ANY, ANY, NONE)
#define ROW_erf ((.ulps = 2), (.low = -4, .high = 4), ANY, ANY, NONE)
#define ROW_clamp ((.exact = true, .q = { -0.75, 1.25 }, .step = 0x1p-24), ANY, ANY, ANY, NONE)
#define ROW_is_finite ((.exact = true), ANY, ANY, ANY, NONE)
#define ROW_relu ((.exact = true), (.values = OP_AWAY), ANY, ANY, NONE)
#define ROW_leaky_relu ((.ulps = 1, .q = { 0.125 }), (.values = OP_AWAY), ANY, ANY, LEAKY_NEGATIVE)
#define ROW_elu ((.ulps = 2, .q = { 1.5 }), (.values = OP_AWAY), ANY, ANY, NONE)
#define ROW_gelu_erf ((.bound = bound_gelu), (.low = -5, .high = 5), ANY, ANY, NONE)
#define ROW_gelu_tanh ((.bound = bound_gelu), (.low = -5, .high = 5), ANY, ANY, NONE)
#define ROW_silu ((.ulps = 5), (.low = -20, .high = 20), ANY, ANY, NONE)
#define ROW_sigmoid ((.ulps = 4), (.low = -20, .high = 20), ANY, ANY, NONE)
#define ROW_tanh ((.ulps = 2), (.low = -8, .high = 8), ANY, ANY, NONE)
#define ROW_softplus ((.ulps = 5), (.low = -20, .high = 20), ANY, ANY, NONE)
#define ROW_cast ((.exact = true), ANY, ANY, ANY, CAST_FROM_REAL CAST_TO_REAL CAST_WHOLE)

/* A negative slope leaves no trace of the side in y: another gradient. */
/* clang-format off */
#define LEAKY_NEGATIVE                                                                             \
    { .name = "negative slope", .build = build, .oracle = oracle, .n_in = 1, .ulps = 1, .p = { QN_OP_leaky_relu },     \
      .q = { -0.5 }, .in = { { .rank = 1, .dim = { 33 }, .values = OP_AWAY } } },
#define CAST(text, from, to, lowest, highest)                                                      \
    { .name = text, .build = build, .oracle = oracle_cast, .exact = true, .n_in = 1, .p = { QN_OP_cast, QN_##to }, \
      .in = { { .dtype = QN_##from, .rank = 2, .dim = { 5, 31 }, .low = lowest, .high = highest } }, \
      .no_gradient_check = "the result moves in steps" },
#define CAST_FROM_REAL                                                                             \
    CAST("to BF16", F32, BF16, -9, 9) CAST("to F16", F32, F16, -9, 9) CAST("to I64", F32, I64, -9, 9) \
    CAST("to I32", F32, I32, -9, 9) CAST("to I8", F32, I8, -200, 200) CAST("to U8", F32, U8, -9, 300) \
    CAST("to BOOL", F32, BOOL, -1, 1) CAST("to I32, beyond it", F32, I32, -1e10, 1e10)             \
    CAST("to I64, beyond it", F32, I64, -1e19, 1e19)
#define BACK(type)                                                                                 \
    { .name = #type " to real", .build = build_cast_to_real, .oracle = oracle_cast, .exact = true, .n_in = 2,          \
      .in = { { .dtype = QN_##type, .rank = 2, .dim = { 5, 31 }, .high = 100 },                    \
              { .rank = 0, .constant = true } } },
#define CAST_TO_REAL BACK(BF16) BACK(F16) BACK(I64) BACK(I32) BACK(I8) BACK(U8) BACK(BOOL)
#define CAST_WHOLE                                                                                 \
    CAST("I64 to I32", I64, I32, -1e6, 1e6) CAST("I32 to I64", I32, I64, -1e9, 1e9) CAST("U8 to I32", U8, I32, 0, 256) \
    CAST("I32 to BOOL", I32, BOOL, -2, 2) CAST("I64 to I32, beyond it", I64, I32, -1e10, 1e10)         \
    CAST("I32 to I8, beyond it", I32, I8, -200, 200) CAST("I32 to U8, beyond it", I32, U8, -200, 400)

#define DIM(...) { __VA_ARGS__ }
#define OPERAND(r, dims, more) { .rank = r, .dim = DIM dims, UNPACK more }
#define CASE1(row, text, opts, a, ra, da)                                                          \
    { .name = text, .build = build, .oracle = oracle, .n_in = 1, .p = { QN_OP_##row }, UNPACK opts, \
      .in = { OPERAND(ra, da, a) } },
#define CASE2(row, text, opts, a, ra, da, b, rb, db)                                               \
    { .name = text, .build = build, .oracle = oracle, .n_in = 2, .p = { QN_OP_##row }, UNPACK opts, \
      .in = { OPERAND(ra, da, a), OPERAND(rb, db, b) } },
#define CASE3(row, text, opts, a, ra, da, b, rb, db, c, rc, dc)                                    \
    { .name = text, .build = build, .oracle = oracle, .n_in = 3, .p = { QN_OP_##row }, UNPACK opts, \
      .in = { OPERAND(ra, da, a), OPERAND(rb, db, b), OPERAND(rc, dc, c) } },

#define INTEGERS(row)                                                                              \
    CASE2(row, "integers", (.exact = true), (.dtype = QN_I64, .high = 9), 2, (9, 31), (.dtype = QN_I64, .high = 9), \
          1, (31))

#define ONE1(row, o, a, n) CASE1(row, #n, o, a, 1, (n))
#define ROWS_1(row, o, a, b, c, ...)                                                               \
    ONE1(row, o, a, 0) ONE1(row, o, a, 1) ONE1(row, o, a, 31) ONE1(row, o, a, 33) ONE1(row, o, a, 127) \
    ONE1(row, o, a, 129) ONE1(row, o, a, 257) CASE1(row, "rank 0", o, a, 0, (0)) CASE1(row, "one row", o, a, 2, \
        (1, 33)) \
    CASE1(row, "tiles", o, a, 1, (40001)) CASE1(row, "image", o, a, 4, (2, 16, 3, 5)) __VA_ARGS__

#define ONE2(row, o, a, b, n) CASE2(row, #n, o, a, 1, (n), b, 1, (n))
#define ROWS_2(row, o, a, b, c, ...)                                                               \
    ONE2(row, o, a, b, 0) ONE2(row, o, a, b, 1) ONE2(row, o, a, b, 31) ONE2(row, o, a, b, 33) ONE2(row, o, a, b, 127) \
    ONE2(row, o, a, b, 129) ONE2(row, o, a, b, 257) CASE2(row, "tiles", o, a, 1, (40001), b, 1, (40001)) \
    CASE2(row, "row repeated", o, a, 2, (4, 33), b, 1, (33)) CASE2(row, "column repeated", o, a, 2, (4, 33), b, \
        2, (4, 1)) \
    CASE2(row, "number first", o, a, 0, (0), b, 2, (7, 33)) CASE2(row, "number last", o, a, 2, (7, 33), b, 0, (0)) \
    CASE2(row, "both repeated", o, a, 2, (5, 1), b, 2, (1, 7)) CASE2(row, "ranks", o, a, 3, (2, 1, 3), b, 2, (4, 1)) \
    CASE2(row, "empty rows", o, a, 2, (0, 3), b, 1, (3)) CASE2(row, "images", o, a, 4, (2, 16, 3, 5), b, 4, (2, \
        16, 3, 5)) \
    CASE2(row, "channel repeated", o, a, 4, (2, 16, 3, 5), b, 4, (1, 16, 1, 1))                    \
    CASE2(row, "channel of rank 3", o, a, 3, (16, 1, 1), b, 4, (2, 16, 3, 5))                      \
    CASE2(row, "tiles, row repeated", o, a, 2, (40, 1001), b, 1, (1001)) __VA_ARGS__

#define ONE3(row, o, a, b, c, n) CASE3(row, #n, o, a, 1, (n), b, 1, (n), c, 1, (n))
#define ROWS_3(row, o, a, b, c, ...)                                                               \
    ONE3(row, o, a, b, c, 0) ONE3(row, o, a, b, c, 1) ONE3(row, o, a, b, c, 31) ONE3(row, o, a, b, c, 33) \
    ONE3(row, o, a, b, c, 127) ONE3(row, o, a, b, c, 129) ONE3(row, o, a, b, c, 257)               \
    CASE3(row, "tiles", o, a, 1, (40001), b, 1, (40001), c, 1, (40001))                            \
    CASE3(row, "all repeated", o, a, 3, (2, 1, 3), b, 2, (4, 1), c, 0, (0))                        \
    CASE3(row, "number chosen", o, a, 2, (5, 7), b, 0, (0), c, 2, (5, 7))                          \
    CASE3(row, "images", o, a, 4, (2, 16, 3, 5), b, 4, (2, 16, 3, 5), c, 4, (1, 16, 1, 1)) __VA_ARGS__
/* clang-format on */

#define APPLY(macro, arguments) macro arguments
#define EXPAND(n, row, ...) APPLY(ROWS_##n, (row, __VA_ARGS__))
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    static const struct op_case of_##name[] = { EXPAND(n_in, name, UNPACK ROW_##name) }; \
    OP_CASES(name, of_##name);
#include "../../core/ops.def"
