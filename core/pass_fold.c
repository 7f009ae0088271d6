/* pass_fold.c - what can be known when the program is compiled.
 *
 * Pointwise rows of constants are evaluated in double by their definition in ops.def and rounded once to their
 * dtype, which may differ in the last place from what the f32 kernel would give. x + 0, x * 1 and the like become
 * x, and x * c becomes affine: the sign of a zero may differ. Apart from that results are the same bits. */
#include "pass.h"
#include <math.h>
#include <string.h>

enum { CONSTANT_MAX = 1 << 16 }; /* elements of a constant worth computing here */

struct fold {
    const qn_graph *in;
    qn_graph *out;
    int32_t *map;
    bool *kept;
    int32_t *from; /* for a value of out: the value of in that brought it */
    size_t from_cap;
    struct qn__writes writes;
    int32_t at; /* node of in under way */
};

static const struct qn__node *node(const struct fold *f, int32_t i) { return &f->out->node[i]; }

/* ---- constants ------------------------------------------------------------------------------------- */

static double rounded(qn_dtype dtype, double x)
{
    double bits = 0;
    qn_convert(&bits, dtype, &x, QN_F64, 1);
    qn_convert(&x, QN_F64, &bits, dtype, 1);
    return x;
}

static bool is_full(const struct fold *f, int32_t i, double *value)
{
    const struct qn__node *x = node(f, i);
    if (x->op != QN_OP_full) return false;
    *value = rounded(x->dtype, ((const struct qn__full_attr *)x->attr)->value);
    return true;
}

/* Element of a full or constant that stands at coordinates `at` of a result of the given rank. */
static double element(const struct qn__node *x, int rank, const int64_t *at)
{
    double v;
    if (x->op == QN_OP_full) return rounded(x->dtype, ((const struct qn__full_attr *)x->attr)->value);
    int64_t i = 0;
    for (int j = 0; j < x->rank; j++) i = i * x->dim[j] + (x->dim[j] == 1 ? 0 : at[j + rank - x->rank]);
    qn_convert(&v, QN_F64, (const char *)x->data + (size_t)i * qn_dtype_size(x->dtype), x->dtype, 1);
    return v;
}

static double evaluate(const struct fold *f, const struct qn__node *y, const int64_t *at)
{
    const struct qn__pw_attr *pw = y->attr;
    double x[3] = { 0 };
    for (int k = 0; k < y->n_in; k++) x[k] = element(node(f, y->in[k]), y->rank, at);
    return qn__pw_eval(y->op, x[0], x[1], x[2], pw->p, pw->q);
}

static int32_t make_full(const struct fold *f, const struct qn__node *like, double value)
{
    struct qn__full_attr attr = { rounded(like->dtype, value) };
    return qn__pass_node(f->out, like, QN_OP_full, NULL, 0, &attr);
}

static int32_t make_constant(const struct fold *f, const struct qn__node *y)
{
    size_t size = qn_dtype_size(y->dtype), bytes = (size_t)y->count * size;
    char *data = qn__calloc(&f->in->alloc, bytes ? bytes : 1, 1);
    if (!data) return qn__graph_fail(f->out, 5002, "fold", "cannot allocate %zu bytes", bytes).id;
    int64_t at[QN_MAX_DIMS] = { 0 };
    for (int64_t i = 0; i < y->count; i++) {
        double v = evaluate(f, y, at);
        qn_convert(data + (size_t)i * size, y->dtype, &v, QN_F64, 1);
        for (int j = y->rank - 1; j >= 0 && ++at[j] == y->dim[j]; j--) at[j] = 0;
    }
    f->out->phase = y->phase;
    qn_t t = qn_constant(f->out, y->dtype, y->rank, y->dim, data);
    qn__free(&f->in->alloc, data, bytes ? bytes : 1);
    return t.id;
}

/* A pointwise row of constants; 0 if it is none. */
static int32_t fold_constants(const struct fold *f, const struct qn__node *y)
{
    bool full = true, known = true;
    for (int k = 0; k < y->n_in; k++) {
        enum qn__opcode op = node(f, y->in[k])->op;
        full = full && op == QN_OP_full;
        known = known && (op == QN_OP_full || op == QN_OP_constant);
    }
    if (full) return make_full(f, y, evaluate(f, y, (const int64_t[QN_MAX_DIMS]){ 0 }));
    return known && y->count <= CONSTANT_MAX ? make_constant(f, y) : 0;
}

/* ---- pointwise rows ---------------------------------------------------------------------------------- */

static bool still_fits(const struct fold *f, const struct qn__node *y, int k, int rank_k, const int64_t *dim_k)
{
    int rank = 0;
    int64_t dim[QN_MAX_DIMS] = { 0 }, next[QN_MAX_DIMS];
    for (int i = 0; i < y->n_in; i++) {
        const struct qn__node *x = node(f, y->in[i]);
        int rank_i = i == k ? rank_k : x->rank;
        if (!qn__broadcast_dims(&rank, next, rank, dim, rank_i, i == k ? dim_k : x->dim)) return false;
        memcpy(dim, next, sizeof dim);
    }
    return rank == y->rank && memcmp(dim, y->dim, (size_t)rank * sizeof dim[0]) == 0;
}

/* Operands that are repeated by the row anyway need not be repeated before. */
static void shrink_operands(const struct fold *f, struct qn__node *y)
{
    for (int k = 0; k < y->n_in; k++) {
        double value;
        const struct qn__node *x = node(f, y->in[k]);
        while (x->op == QN_OP_broadcast && still_fits(f, y, k, node(f, x->in[0])->rank, node(f, x->in[0])->dim) &&
               !qn__written_between(&f->writes, f->from[x->in[0]], f->from[y->in[k]], f->at)) {
            y->in[k] = x->in[0];
            x = node(f, y->in[k]);
        }
        if (x->rank > 0 && is_full(f, y->in[k], &value) && still_fits(f, y, k, 0, NULL)) {
            struct qn__node scalar = { .dtype = x->dtype, .phase = y->phase, .name = y->name };
            y->in[k] = make_full(f, &scalar, value);
        }
        if (qn__failed(f->out)) return;
    }
}

static bool is_power_of_two(double x)
{
    int e;
    return fabs(frexp(x, &e)) == 0.5 && e > -100 && e < 100;
}

/* x (operand k) times p plus q in the place of a row whose other operand is known. */
static void become_affine(struct qn__node *y, int k, double p, double q, struct qn__pw_attr *attr)
{
    y->op = QN_OP_affine;
    y->in[0] = y->in[k];
    y->n_in = 1;
    attr->p = p;
    attr->q = q;
    y->attr = attr;
}

/* Rows with one known operand. attr: room for the new row's. */
static void simplify(const struct fold *f, struct qn__node *y, struct qn__pw_attr *attr)
{
    double c = 0;
    memset(attr, 0, sizeof *attr);
    if (y->op == QN_OP_pow && ((const struct qn__pw_attr *)y->attr)->p == 2) {
        y->op = QN_OP_square;
        y->attr = attr;
    }
    if (y->n_in != 2 || !qn_dtype_is_float(y->dtype)) return;
    int k = is_full(f, y->in[1], &c) ? 0 : 1;
    if ((k == 1 && !is_full(f, y->in[0], &c)) || !qn__same_dims(node(f, y->in[k]), y)) return;
    if (y->op == QN_OP_mul)
        become_affine(y, k, c, 0, attr);
    else if (y->op == QN_OP_add)
        become_affine(y, k, 1, c, attr);
    else if (y->op == QN_OP_sub)
        become_affine(y, k, k ? -1 : 1, k ? c : -c, attr);
    else if (y->op == QN_OP_div && k == 0 && is_power_of_two(c))
        become_affine(y, k, 1 / c, 0, attr);
}

/* The operand that y is equal to; 0 if none. */
static int32_t identity(const struct fold *f, const struct qn__node *y)
{
    const struct qn__pw_attr *pw = y->attr;
    double c;
    int32_t x = 0;
    if (y->op == QN_OP_affine && pw->p == 1 && pw->q == 0) x = y->in[0];
    if (y->op == QN_OP_pow && pw->p == 1) x = y->in[0];
    if (y->op == QN_OP_cast && node(f, y->in[0])->dtype == y->dtype) x = y->in[0];
    if (y->op == QN_OP_div && is_full(f, y->in[1], &c) && c == 1) x = y->in[0];
    if (y->op == QN_OP_where && is_full(f, y->in[0], &c)) x = c != 0 ? y->in[1] : y->in[2];
    return x;
}

/* x may stand for the node under way if that is not kept (the caller reads it there) and x's memory, should it be
 * the store's, is never written again (a later reader must see what is there now). */
static bool may_stand_in(const struct fold *f, int32_t x, const struct qn__node *y)
{
    return x && !f->kept[f->at] && qn__same_dims(node(f, x), y) && node(f, x)->dtype == y->dtype &&
           !qn__written_between(&f->writes, f->from[x], f->at, INT32_MAX);
}

static int32_t fold_pointwise(const struct fold *f, struct qn__node *y)
{
    struct qn__pw_attr attr;
    shrink_operands(f, y);
    if (qn__failed(f->out)) return 0;
    int32_t folded = fold_constants(f, y);
    if (folded || qn__failed(f->out)) return folded;
    simplify(f, y, &attr);
    int32_t x = identity(f, y);
    if (may_stand_in(f, x, y)) return x;
    return qn__pass_node(f->out, y, y->op, y->in, y->n_in, y->attr);
}

/* ---- shape rows ---------------------------------------------------------------------------------------- */

static bool is_identity_shape(const struct fold *f, const struct qn__node *y)
{
    if (!qn__same_dims(node(f, y->in[0]), y)) return false;
    if (y->op == QN_OP_transpose) {
        for (int i = 0; i < y->rank; i++)
            if (((const struct qn__transpose_attr *)y->attr)->perm[i] != i) return false;
        return true;
    }
    if (y->op == QN_OP_sum) return ((const struct qn__reduce_attr *)y->attr)->axes == 0;
    return y->op == QN_OP_reshape || y->op == QN_OP_broadcast || y->op == QN_OP_slice;
}

/* A row of the same kind before this one: one does for both. attr: room for the new row's. */
static void compose(const struct fold *f, struct qn__node *y, struct qn__transpose_attr *attr)
{
    const struct qn__node *x = node(f, y->in[0]);
    if (x->op != y->op || (y->op != QN_OP_reshape && y->op != QN_OP_broadcast && y->op != QN_OP_transpose)) return;
    if (qn__written_between(&f->writes, f->from[x->in[0]], f->from[y->in[0]], f->at)) return;
    if (y->op == QN_OP_transpose) {
        const struct qn__transpose_attr *first = x->attr, *second = y->attr;
        memset(attr, 0, sizeof *attr);
        for (int i = 0; i < y->rank; i++) attr->perm[i] = first->perm[second->perm[i]];
        y->attr = attr;
    }
    y->in[0] = x->in[0];
}

static int32_t fold_shape(const struct fold *f, struct qn__node *y)
{
    struct qn__transpose_attr attr;
    double value;
    if (is_full(f, y->in[0], &value) && y->op != QN_OP_sum) return make_full(f, y, value);
    compose(f, y, &attr);
    if (is_identity_shape(f, y) && may_stand_in(f, y->in[0], y)) return y->in[0];
    const struct qn__node *x = node(f, y->in[0]);
    if (y->op == QN_OP_reshape && x->op == QN_OP_constant) {
        f->out->phase = y->phase;
        return qn_constant(f->out, y->dtype, y->rank, y->dim, x->data).id;
    }
    return qn__pass_node(f->out, y, y->op, y->in, 1, y->attr);
}

/* ---- the pass -------------------------------------------------------------------------------------------- */

static int32_t fold_node(const struct fold *f, int32_t i)
{
    struct qn__node y = f->in->node[i];
    for (int k = 0; k < y.n_in; k++) y.in[k] = f->map[y.in[k]];
    if (qn__is_pointwise(y.op)) return fold_pointwise(f, &y);
    switch ((int)y.op) {
    case QN_OP_reshape:
    case QN_OP_broadcast:
    case QN_OP_transpose:
    case QN_OP_slice:
    case QN_OP_sum: return fold_shape(f, &y);
    default: return qn__graph_carry(f->out, f->in, i, f->map);
    }
}

static qn_status fold_all(struct fold *f, qn_error *err)
{
    int32_t done = 1;
    for (int32_t i = 1; i < f->in->n && !qn__failed(f->out); i++) {
        f->at = i;
        f->map[i] = fold_node(f, i);
        if (!qn__grow(&f->in->alloc, &f->from, &f->from_cap, (size_t)f->out->n, sizeof *f->from))
            return qn__nomem(err, "fold", (size_t)f->out->n * sizeof *f->from);
        while (done < f->out->n) f->from[done++] = i;
    }
    return QN_OK;
}

qn_status qn__pass_fold(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env, qn_error *err)
{
    struct fold f = { .in = in, .out = out, .map = map };
    f.kept = qn__calloc(&in->alloc, (size_t)in->n, sizeof *f.kept);
    qn_status status = f.kept ? qn__writes_find(&f.writes, in, err) : qn__nomem(err, "fold", (size_t)in->n);
    for (int i = 0; i < env->n_keep && !status; i++) f.kept[env->keep[i]] = true;
    if (!status) status = fold_all(&f, err);
    qn__writes_free(&f.writes);
    qn__free(&in->alloc, f.kept, (size_t)in->n * sizeof *f.kept);
    qn__free(&in->alloc, f.from, f.from_cap * sizeof *f.from);
    return status;
}
