/* cross_entropy.c - cases of cross_entropy, cross_entropy_grad and target_weight. */
#include "softmax.h"
#include <math.h>
#include <string.h>

/* p: weighted, ignored class (INT64_MAX: none), whole mean, place and value of a bad target; q[0]: smoothing */
enum { WEIGHTED, IGNORE, MEAN, PLACE, VALUE };
#define NO_IGNORE INT64_MAX

static struct qn__xent_attr attr_of(const struct op_case *c)
{
    struct qn__xent_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.smoothing = c->q[0];
    attr.use_ignore = c->p[IGNORE] != NO_IGNORE;
    attr.ignore_index = attr.use_ignore ? c->p[IGNORE] : 0;
    attr.has_weight = c->p[WEIGHTED] != 0;
    return attr;
}

/* logits, target (, weight): the row itself, or the mean over rows */
static qn_t build_loss(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__xent_attr attr = attr_of(c);
    qn_cross_entropy_opts opts = { .smoothing = c->q[0], .ignore_index = c->p[IGNORE], .use_ignore = attr.use_ignore };
    if (attr.has_weight) opts.weight = x[2];
    if (c->p[MEAN]) return qn_cross_entropy(g, x[0], x[1], &opts);
    return qn__node(g, QN_OP_cross_entropy, x, c->n_in, &attr);
}
/* logits, target, dloss (, weight) */
static qn_t build_grad(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__xent_attr attr = attr_of(c);
    return qn__node(g, QN_OP_cross_entropy_grad, x, c->n_in, &attr);
}
/* target, a float operand whose type the weights are to have (, weight) */
static qn_t build_weight(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__xent_attr attr = attr_of(c);
    int64_t dim[QN_MAX_DIMS] = { 0 };
    for (int i = 0; i < qn_rank(g, x[0]); i++) dim[i] = qn_dim(g, x[0], i);
    return qn__node_shaped(g, QN_OP_target_weight, (qn_t[]){ x[0], x[2] }, attr.has_weight ? 2 : 1, &attr,
                           qn_dtype_of(g, x[1]), qn_rank(g, x[0]), dim, NULL, NULL);
}

/* ---- definition ------------------------------------------------------------------------------------ */

static int64_t width(const struct op_data *x) { return x->dim[x->rank - 1]; }
static bool is_index(const struct op_data *target) { return !qn_dtype_is_float(target->dtype); }
static bool ignored(const struct op_case *c, const struct op_data *target, int64_t row)
{
    return is_index(target) && c->p[IGNORE] != NO_IGNORE && target->v[row] == (double)c->p[IGNORE];
}

/* u_v c_v */
static double share(const struct op_case *c, const struct op_data *x, int64_t row, int64_t v)
{
    double classes = (double)width(&x[0]), weight = c->p[WEIGHTED] ? x[c->n_in - 1].v[v] : 1;
    double target = is_index(&x[1]) ? (double)(x[1].v[row] == (double)v) : x[1].v[row * width(&x[0]) + v];
    return weight * ((1 - c->q[0]) * target + c->q[0] / classes);
}

/* -sum_v u_v c_v ln p_v of one row, and in *bound the absolute error allowed at unit eps: x - max rounds in each
 * term of the sum, then the sum, its logarithm and the shares, which f32 also takes in double. */
static double row_loss(const struct op_case *c, const struct op_data *x, int64_t row, double eps, double *bound)
{
    int64_t w = width(&x[0]);
    const double *logits = x[0].v + row * w;
    struct softmax_row r = softmax_row_of(logits, w);
    double loss = 0, size = 0, each = r.far + 8 + softmax_sum_steps(w, eps) + fabs(r.log_sum);
    *bound = 0;
    if (ignored(c, &x[1], row)) return 0;
    for (int64_t v = 0; v < w; v++) {
        double u = share(c, x, row, v), log_p = logits[v] - r.max - r.log_sum;
        if (u == 0) continue;
        loss -= u * log_p;
        size += fabs(u) * (each + fabs(log_p) + (eps < 0x1p-40 ? ((double)w + 8) * (fabs(log_p) + fabs(r.max)) : 0));
    }
    *bound = eps * (size + fabs(loss));
    return loss;
}

static double row_weight(const struct op_case *c, const struct op_data *x, int64_t row)
{
    if (ignored(c, &x[1], row)) return 0;
    return is_index(&x[1]) && c->p[WEIGHTED] ? x[2].v[(int64_t)x[1].v[row]] : 1;
}
/* The mean over rows; its error is that of the rows and of two sums. */
static double mean_loss(const struct op_case *c, const struct op_data *x, double eps, double *bound)
{
    int64_t rows = width(&x[0]) ? x[0].count / width(&x[0]) : 0;
    double loss = 0, weight = 0, size = 0;
    *bound = 0;
    for (int64_t i = 0; i < rows; i++) {
        double b, one = row_loss(c, x, i, eps, &b);
        loss += one;
        size += fabs(one);
        *bound += b;
        weight += row_weight(c, x, i);
    }
    if (weight == 0) return 0;
    *bound = (*bound + eps * ((double)rows + 8) * size) / weight;
    return loss / weight;
}

/* In 16 bits the losses of the rows, their sum and that of the weights are rounded too. */
static double between_means(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    double size = 0, weight = 0, bound;
    int64_t rows = c->p[MEAN] && width(&x[0]) ? x[0].count / width(&x[0]) : 0;
    for (int64_t row = 0; row < rows; row++) {
        size += fabs(row_loss(c, x, row, 0x1p-24, &bound));
        weight += row_weight(c, x, row);
    }
    return weight > 0 ? size / weight + 3 * fabs(y->v[i]) : 0;
}

static void oracle_loss(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double bound;
    if (c->p[MEAN])
        y->v[0] = mean_loss(c, x, 0x1p-53, &bound);
    else
        for (int64_t i = 0; i < y->count; i++) y->v[i] = row_loss(c, x, i, 0x1p-53, &bound);
}
static double bound_loss(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)y;
    double bound = 0;
    if (c->p[MEAN])
        mean_loss(c, x, eps, &bound);
    else
        row_loss(c, x, i, eps, &bound);
    return bound;
}

/* Sum of the row's shares and of their magnitudes. */
static double total_share(const struct op_case *c, const struct op_data *x, int64_t row, double *magnitude)
{
    double total = *magnitude = 0;
    for (int64_t v = 0; v < width(&x[0]); v++) {
        total += share(c, x, row, v);
        *magnitude += fabs(share(c, x, row, v));
    }
    return total;
}
/* The same of the row of element i. */
static double shares_at(const struct op_case *c, const struct op_data *x, int64_t i, double *magnitude)
{
    static struct softmax_walk last;
    static double total, size;
    if (!softmax_same_row(&last, &x[0], i)) total = total_share(c, x, i / width(&x[0]), &size);
    *magnitude = size;
    return total;
}
static void oracle_grad(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t w = width(y);
    for (int64_t i = 0; i < y->count; i++) {
        double magnitude;
        struct softmax_row r = softmax_row_at(&x[0], i);
        if (ignored(c, &x[1], i / w)) continue;
        double p = softmax_p(&r, x[0].v[i]);
        y->v[i] = x[2].v[i / w] * (p * shares_at(c, x, i, &magnitude) - share(c, x, i / w, i % w));
    }
}
static double bound_grad(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    int64_t w = width(y);
    double magnitude, dloss = fabs(x[2].v[i / w]);
    if (ignored(c, &x[1], i / w)) return 0;
    struct softmax_row r = softmax_row_at(&x[0], i);
    double p = softmax_p(&r, x[0].v[i]), of_p = r.max - x[0].v[i] + r.far + 10 + softmax_sum_steps(w, eps);
    shares_at(c, x, i, &magnitude);
    return eps * dloss * (p * magnitude * of_p + 4 * fabs(share(c, x, i / w, i % w))) + softmax_least(eps);
}

static void oracle_weight(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = ignored(c, &x[0], i) ? 0 : c->p[WEIGHTED] ? x[2].v[(int64_t)x[0].v[i]] : 1;
}

/* ---- operands --------------------------------------------------------------------------------------- */

static void put(void *data, qn_dtype dtype, int64_t i, int64_t value)
{
    if (dtype == QN_I32)
        ((int32_t *)data)[i] = (int32_t)value;
    else
        ((int64_t *)data)[i] = value;
}
static void spoil(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    (void)n;
    put(data, dtype, c->p[PLACE], c->p[VALUE]);
}
/* Every third target, or all of them, are the class to ignore. */
static void ignore_some(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    for (int64_t i = 0; i < n; i += 3) put(data, dtype, i, c->p[IGNORE]);
}
static void ignore_all(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    for (int64_t i = 0; i < n; i++) put(data, dtype, i, c->p[IGNORE]);
}
/* Only the first class has a share. */
static void hard_rows(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double v = i % c->in[0].dim[1] == 0;
        qn_convert((char *)data + (size_t)i * qn_dtype_size(dtype), dtype, &v, QN_F64, 1);
    }
}

/* clang-format off */
#define LOGITS(...) { .rank = 2, .dim = { __VA_ARGS__ } }
#define SOFT(...) { .rank = 2, .dim = { __VA_ARGS__ }, .high = 1 }
#define INDEX(type, n, classes) { .dtype = QN_##type, .rank = 1, .dim = { n }, .high = classes }
#define EDITED(type, n, classes, how) { .dtype = QN_##type, .rank = 1, .dim = { n }, .high = classes, .edit = how }
#define WEIGHTS(n) , { .rank = 1, .dim = { n }, .low = 0.25, .high = 2, .constant = true }
#define P(weighted, ignore) .p = { weighted, ignore }
#define CASE(text, operands, ...) { .name = text, ROW, .n_in = FIXED + (operands), __VA_ARGS__ },
/* MORE(rank, dims): dloss, where the row has it */
#define SIZE(n)                                                                                    \
    CASE(#n " rows", 0, P(0, NO_IGNORE), .in = { LOGITS(n, 10), INDEX(I32, n, 10) MORE(1, n) })       \
    CASE(#n " classes", 0, P(0, NO_IGNORE), .in = { LOGITS(4, n + (n == 0)), INDEX(I64, 4, n + (n == 0)) MORE(1, 4) }) \
    CASE("soft, " #n, 0, P(0, NO_IGNORE), .in = { LOGITS(3, n), SOFT(3, n) MORE(1, 3) })
#define BAD(text, type, place, value, message)                                                     \
    CASE(text, 0, .p = { 0, NO_IGNORE, 0, place, value }, .fails = "error E3041 data: " NAME ": target" message, \
         .in = { LOGITS(20, 10), EDITED(type, 20, 10, spoil) MORE(1, 20) })
#define HUGE_WHY .no_gradient_check = "a step is lost in numbers of that size"
#define KINDS                                                                                      \
    OP_SIZES(SIZE)                                                                                 \
    CASE("rank 1, one class index", 0, P(0, NO_IGNORE),                                            \
         .in = { { .rank = 1, .dim = { 7 } }, { .dtype = QN_I32, .rank = 0, .high = 7 } MORE_SCALAR }) \
    CASE("rank 3", 0, P(0, NO_IGNORE),                                                             \
         .in = { { .rank = 3, .dim = { 2, 5, 7 } },                                                \
                 { .dtype = QN_I64, .rank = 2, .dim = { 2, 5 }, .high = 7 } MORE(2, 2, 5) })       \
    CASE("smoothing", 0, P(0, NO_IGNORE), .q = { 0.1 }, .in = { LOGITS(9, 10), INDEX(I32, 9, 10) MORE(1, 9) }) \
    CASE("smoothing, soft", 0, P(0, NO_IGNORE), .q = { 0.1 }, .in = { LOGITS(9, 10), SOFT(9, 10) MORE(1, 9) }) \
    CASE("weights", 1, P(1, NO_IGNORE), .in = { LOGITS(9, 10), INDEX(I64, 9, 10) MORE(1, 9) WEIGHTS(10) }) \
    CASE("weights, soft", 1, P(1, NO_IGNORE), .in = { LOGITS(9, 10), SOFT(9, 10) MORE(1, 9) WEIGHTS(10) }) \
    CASE("weights, smoothing", 1, P(1, NO_IGNORE), .q = { 0.3 },                                   \
         .in = { LOGITS(9, 10), INDEX(I32, 9, 10) MORE(1, 9) WEIGHTS(10) })                           \
    CASE("ignored class", 0, P(0, 4), .in = { LOGITS(40, 10), INDEX(I32, 40, 10) MORE(1, 40) })       \
    CASE("ignored -100", 0, P(0, -100), .in = { LOGITS(20, 10), EDITED(I64, 20, 10, ignore_some) MORE(1, 20) }) \
    CASE("ignored, weights, smoothing", 1, P(1, -1), .q = { 0.2 },                                 \
         .in = { LOGITS(20, 10), EDITED(I32, 20, 10, ignore_some) MORE(1, 20) WEIGHTS(10) })          \
    CASE("all ignored", 0, P(0, -1), .in = { LOGITS(20, 10), EDITED(I32, 20, 10, ignore_all) MORE(1, 20) }) \
    CASE("one share in probabilities", 0, P(0, NO_IGNORE), .no_gradient_check = "a target of 0 has a kink for p = 0", \
         .in = { LOGITS(9, 10), { .rank = 2, .dim = { 9, 10 }, .edit = hard_rows } MORE(1, 9) })      \
    CASE("far apart", 0, P(0, NO_IGNORE), .finite_only = "f32 has no e^-150, f64 has",                 \
         .in = { { .rank = 2, .dim = { 9, 50 }, .low = -80, .high = 80 }, INDEX(I32, 9, 50) MORE(1, 9) }) \
    CASE("huge", 0, P(0, NO_IGNORE), HUGE_WHY,                                                     \
         .in = { { .rank = 2, .dim = { 9, 50 }, .low = -1e30, .high = 1e30 }, INDEX(I32, 9, 50) MORE(1, 9) }) \
    CASE("64 classes", 0, P(0, NO_IGNORE), .in = { LOGITS(5, 64), INDEX(I32, 5, 64) MORE(1, 5) })     \
    CASE("64 classes, soft", 0, P(0, NO_IGNORE), .in = { LOGITS(3, 64), SOFT(3, 64) MORE(1, 3) })      \
    CASE("2052 classes", 0, P(0, NO_IGNORE), .no_gradient_check = "derivatives of 1e-4 drown in a loss of 8", \
         .in = { LOGITS(2, 2052), INDEX(I32, 2, 2052) MORE(1, 2) }) \
    CASE("beyond shared memory", 0, P(0, NO_IGNORE), .no_gradient_check = "60001 differences",       \
         .in = { LOGITS(1, 60001), INDEX(I64, 1, 60001) MORE(1, 1) })                              \
    CASE("beyond shared memory, whole", 0, P(0, 7), .no_gradient_check = "60000 differences",        \
         .in = { LOGITS(2, 60000), EDITED(I32, 2, 60000, ignore_some) MORE(1, 2) })                 \
    CASE("beyond shared memory, smoothing", 0, P(0, NO_IGNORE), .q = { 0.1 },                      \
         .no_gradient_check = "60001 differences",                                                 \
         .in = { LOGITS(1, 60001), INDEX(I64, 1, 60001) MORE(1, 1) })                              \
    CASE("threads", 0, P(0, NO_IGNORE), .in = { LOGITS(700, 30), INDEX(I32, 700, 30) MORE(1, 700) })  \
    BAD("just above", I32, 17, 10, "[17]: 10; expected 0..9")                                      \
    BAD("below", I64, 0, -1, "[0]: -1; expected 0..9")                                             \
    BAD("least", I64, 3, INT64_MIN, "[3]: -9223372036854775808; expected 0..9")                    \
    BAD("greatest", I32, 19, INT32_MAX, "[19]: 2147483647; expected 0..9")

#define NAME "cross_entropy"
#define FIXED 2
#define MORE(...)
#define MORE_SCALAR
#define ROW .build = build_loss, .oracle = oracle_loss, .bound = bound_loss, .between = between_means
#define MEAN_OF(text, operands, weighted, ignore, ...)                                             \
    { .name = "mean, " text, ROW, .n_in = 2 + (operands), .p = { weighted, ignore, 1 }, __VA_ARGS__ },
static const struct op_case loss[] = {
    KINDS
    MEAN_OF("class indices", 0, 0, NO_IGNORE, .in = { LOGITS(9, 10), INDEX(I32, 9, 10) })
    MEAN_OF("no rows", 0, 0, NO_IGNORE, .in = { LOGITS(0, 10), INDEX(I32, 0, 10) })
    MEAN_OF("probabilities", 0, 0, NO_IGNORE, .q = { 0.1 }, .in = { LOGITS(9, 10), SOFT(9, 10) })
    MEAN_OF("weights", 1, 1, NO_IGNORE, .in = { LOGITS(9, 10), INDEX(I32, 9, 10) WEIGHTS(10) })
    MEAN_OF("weights, probabilities", 1, 1, NO_IGNORE, .in = { LOGITS(9, 10), SOFT(9, 10) WEIGHTS(10) })
    MEAN_OF("ignored", 0, 0, -1, .in = { LOGITS(20, 10), EDITED(I64, 20, 10, ignore_some) })
    MEAN_OF("weights, ignored", 1, 1, -1, .q = { 0.1 },
            .in = { LOGITS(20, 10), EDITED(I64, 20, 10, ignore_some) WEIGHTS(10) })
    MEAN_OF("all ignored", 0, 0, -1, .in = { LOGITS(20, 10), EDITED(I32, 20, 10, ignore_all) })
    MEAN_OF("all ignored, weights", 1, 1, 3, .in = { LOGITS(20, 10), EDITED(I32, 20, 10, ignore_all) WEIGHTS(10) })
};
OP_CASES(cross_entropy, loss);
#undef NAME
#undef FIXED
#undef MORE
#undef MORE_SCALAR
#undef ROW

#define NAME "cross_entropy_grad"
#define FIXED 3
#define MORE(r, ...) , { .rank = r, .dim = { __VA_ARGS__ } }
#define MORE_SCALAR , { .rank = 0 }
#define ROW .build = build_grad, .oracle = oracle_grad, .bound = bound_grad
static const struct op_case grad[] = { KINDS };
OP_CASES(cross_entropy_grad, grad);
#undef ROW

#define TYPED { .rank = 0, .constant = true }
#define ROW .build = build_weight, .oracle = oracle_weight, .exact = true
#define COUNT(n)                                                                                   \
    { .name = #n, ROW, .n_in = 2, P(0, 1), .in = { INDEX(I32, n, 10), TYPED } },                   \
    { .name = #n " weighted", ROW, .n_in = 3, P(1, 1), .in = { INDEX(I64, n, 10), TYPED WEIGHTS(10) } },
static const struct op_case weight[] = {
    OP_SIZES(COUNT)
    { .name = "nothing ignored", ROW, .n_in = 3, P(1, NO_IGNORE), .in = { INDEX(I32, 40, 10), TYPED WEIGHTS(10) } },
    { .name = "all ignored", ROW, .n_in = 3, P(1, -1), .in = { EDITED(I64, 40, 10, ignore_all), TYPED WEIGHTS(10) } },
    { .name = "rank 2", ROW, .n_in = 2, P(0, 1),
      .in = { { .dtype = QN_I32, .rank = 2, .dim = { 5, 7 }, .high = 3 }, TYPED } },
    { .name = "above", ROW, .n_in = 3, .p = { 1, NO_IGNORE, 0, 17, 10 },
      .fails = "error E3041 data: target_weight: target[17]: 10; expected 0..9",
      .in = { EDITED(I32, 20, 10, spoil), TYPED WEIGHTS(10) } },
    { .name = "below", ROW, .n_in = 3, .p = { 1, -1, 0, 2, -2 },
      .fails = "error E3041 data: target_weight: target[2]: -2; expected 0..9",
      .in = { EDITED(I64, 20, 10, spoil), TYPED WEIGHTS(10) } },
};
OP_CASES(target_weight, weight);
/* clang-format on */
