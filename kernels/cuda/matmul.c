/* matmul.c - Y[..,m,n] = act(sum_k A'[..,m,k] B'[..,k,n] + bias[n]), A' = A or A^T, through cuBLASLt (blas.h).
 *
 *   lt        bias and activation in the library's epilogue
 *   lt_after  bias in the library's epilogue, the activation in place by a kernel of our own
 *   empty     a sum of nothing (k = 0): zeros, bias, activation
 *
 * Where the library has no algorithm that keeps to f32, a product of our own (gemm.h) takes its place, the activation
 * behind it.
 *
 * Which activation the library may apply: relu, which is exact; and gelu in its tanh form where 8 or 11 bits are
 * stored, because the manual does not say how exact its tanh is. All else, and gelu in f32, is lt_after.
 *
 * Leading dimensions: where all matrices of A meet the same B the batch is one tall product. Else one batched call
 * takes the largest run of leading dimensions that both operands step through evenly (broadcast counts: a step of 0),
 * and the rest, which only operands broadcast against each other have, are calls one after another. */
#include "blas.h"
#include "epilogue.h"
#include "gemm.h"
#include <stdio.h>

enum { LT, LT_AFTER, EMPTY };

/* Leading dimensions of y, outermost first, and the operands' steps along them in elements. */
struct lead {
    int n;
    int64_t size[QN_MAX_DIMS], a[QN_MAX_DIMS], b[QN_MAX_DIMS], y[QN_MAX_DIMS];
};

struct state {
    struct qn__blas_plan *plan; /* NULL: `own` does it */
    struct qn__gemm own;
    struct lead calls; /* what is left to loop over */
};

static const struct qn__matmul_attr *attr_of(const struct qn__args *a) { return a->attr; }

static int64_t inner_of(const struct qn__args *a)
{
    const struct qn__view *x = &a->x[0];
    return x->dim[x->rank - (attr_of(a)->ta ? 2 : 1)];
}

/* ---- leading dimensions -------------------------------------------------------------------------------- */

static int64_t step_of(const struct qn__view *x, const struct qn__view *y, int axis)
{
    int own = axis - (y->rank - x->rank);
    if (own < 0 || x->dim[own] == 1) return 0;
    int64_t step = 1;
    for (int i = own + 1; i < x->rank; i++) step *= x->dim[i];
    return step;
}

/* Neighbours that both operands walk as one are merged. */
static struct lead lead_of(const struct qn__args *a)
{
    struct lead l = { 0 };
    for (int i = 0; i < a->y.rank - 2; i++) {
        int64_t size = a->y.dim[i], sa = step_of(&a->x[0], &a->y, i), sb = step_of(&a->x[1], &a->y, i),
                sy = step_of(&a->y, &a->y, i);
        if (size == 1) continue;
        int k = l.n - 1;
        if (k >= 0 && l.a[k] == sa * size && l.b[k] == sb * size && l.y[k] == sy * size) {
            l.size[k] *= size;
            l.a[k] = sa, l.b[k] = sb, l.y[k] = sy;
            continue;
        }
        l.size[l.n] = size;
        l.a[l.n] = sa, l.b[l.n] = sb, l.y[l.n++] = sy;
    }
    return l;
}

static void remove_axis(struct lead *l, int axis)
{
    l->n--;
    for (int i = axis; i < l->n; i++) {
        l->size[i] = l->size[i + 1];
        l->a[i] = l->a[i + 1], l->b[i] = l->b[i + 1], l->y[i] = l->y[i + 1];
    }
}

/* The largest power of two up to 256 that divides every address of the calls. */
static int64_t align_of(const struct lead *l, int64_t size)
{
    int64_t all = 256;
    for (int i = 0; i < l->n; i++) all |= l->a[i] * size | l->b[i] * size | l->y[i] * size;
    return all & -all;
}

static enum qn__blas_epilogue epilogue_of(const struct qn__args *a)
{
    int32_t act = attr_of(a)->epilogue.act;
    if (act == QN_OP_relu) return QN_BLAS_RELU;
    return act == QN_OP_gelu_tanh && a->y.dtype != QN_F32 ? QN_BLAS_GELU : QN_BLAS_PLAIN;
}

static struct qn__blas_product product_of(const struct qn__args *a, struct lead *l)
{
    const struct qn__matmul_attr *attr = attr_of(a);
    struct qn__blas_product p = { .m = a->y.dim[a->y.rank - 2],
                                  .n = a->y.dim[a->y.rank - 1],
                                  .k = inner_of(a),
                                  .ta = attr->ta != 0,
                                  .tb = attr->tb != 0,
                                  .dtype = a->y.dtype,
                                  .batch = 1,
                                  .epilogue = epilogue_of(a),
                                  .bias = attr->epilogue.has_bias != 0 };
    *l = lead_of(a);
    if (l->n == 1 && l->b[0] == 0 && l->a[0] == p.m * p.k && !p.ta) {
        p.m *= l->size[0];
        l->n = 0;
    }
    int widest = 0;
    for (int i = 1; i < l->n; i++)
        if (l->size[i] > l->size[widest]) widest = i;
    if (l->n > 0) {
        p.batch = l->size[widest];
        p.a_step = l->a[widest], p.b_step = l->b[widest], p.y_step = l->y[widest];
        remove_axis(l, widest);
    }
    p.align = align_of(l, (int64_t)qn_dtype_size(a->y.dtype));
    return p;
}

/* ---- the kernel ----------------------------------------------------------------------------------------- */

/* What a sum over k may use that is cut into parts, up to the size that NVIDIA recommends for the device: no product
 * that is small keeps tens of megabytes in the plan. */
static size_t workspace_of(const struct qn__args *a, const struct qn__blas_product *p)
{
    const int64_t parts = 256, counters = 1 << 20, most = a->gpu->workspace;
    int64_t values[3] = { p->m, p->n, p->batch }, elements;
    if (!qn__count(&elements, values, 3) || elements > most / (parts * 4)) return (size_t)most;
    int64_t need = counters + elements * parts * 4;
    return (size_t)(need < most ? need : most);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__epilogue *e = &attr_of(a)->epilogue;
    if (a->y.dtype != QN_F32 && a->y.dtype != QN_BF16 && a->y.dtype != QN_F16) return QN_EUSAGE;
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != a->y.dtype) return QN_EUSAGE;
    if (!qn__cuda_activates(e->act)) return QN_EUSAGE;
    if (a->y.count == 0 || inner_of(a) == 0) {
        c->variant = EMPTY;
        return QN_OK;
    }
    struct lead l;
    struct qn__blas_product p = product_of(a, &l);
    if (p.m > INT32_MAX || p.n > INT32_MAX || p.k > INT32_MAX || p.batch > INT32_MAX) return QN_EUSAGE;
    c->variant = e->act && p.epilogue == QN_BLAS_PLAIN ? LT_AFTER : LT;
    c->workspace = workspace_of(a, &p);
    return QN_OK;
}

static void drop(struct state *state)
{
    qn__blas_plan_free(state->plan);
    qn__free(&qn__std_alloc, state, sizeof *state);
}

static qn_status use_own(struct state *state, const struct qn__blas_product *p, qn_error *err)
{
    state->own = (struct qn__gemm){ .m = p->m,
                                    .n = p->n,
                                    .k = p->k,
                                    .batch = p->batch,
                                    .a_step = p->a_step,
                                    .b_step = p->b_step,
                                    .y_step = p->y_step,
                                    .ta = p->ta,
                                    .tb = p->tb,
                                    .dtype = p->dtype };
    if (qn__gemm_takes(QN_GEMM_NAIVE, &state->own)) return QN_OK;
    return qn__fail(err, 2208, NULL,
                    "product [%lld,%lld] [%lld,%lld]: cuBLASLt has no algorithm for it that keeps to f32; expected one",
                    (long long)p->m, (long long)p->k, (long long)p->k, (long long)p->n);
}

static qn_status not_offered(const struct qn__step *s, qn_error *err)
{
    return qn__fail(
        err, 7004, QN_AT_FIELD("tuning"),
        "matmul: algorithm \"%s\", which cuBLASLt does not offer; expected one of those it does; make a lock "
        "file with \"quern tune\"",
        qn__show(s->algorithm).s);
}

static bool describe(const struct qn__step *s, char *text, size_t size)
{
    struct lead l;
    const struct qn__args *a = &s->args;
    if (s->choice.variant == EMPTY || !s->queue) return false;
    struct qn__blas_product p = product_of(a, &l);
    snprintf(
        text, size,
        "matmul %s m %lld n %lld k %lld ta %d tb %d batch %lld steps %lld %lld %lld align %lld epilogue %d bias %d",
        qn_dtype_name(p.dtype), (long long)p.m, (long long)p.n, (long long)p.k, p.ta, p.tb, (long long)p.batch,
        (long long)p.a_step, (long long)p.b_step, (long long)p.y_step, (long long)p.align, (int)p.epilogue, p.bias);
    return true;
}

static qn_status algorithms(struct qn__step *s, struct qn__algorithm *out, int max, int *n, qn_error *err)
{
    struct lead l;
    struct qn__blas_product p = product_of(&s->args, &l);
    return qn__blas_algorithms(s->queue->lt, &p, s->choice.workspace, s, out, max, n, err);
}

/* Without a device there is no library to ask, and nothing that the plan of memory needs from it. */
static qn_status prepare(struct qn__step *s, qn_error *err)
{
    if (s->choice.variant == EMPTY || !s->queue) return QN_OK;
    struct state *state = qn__calloc(&qn__std_alloc, 1, sizeof *state);
    if (!state) return qn__nomem(err, "matmul", sizeof *state);
    struct qn__blas_product p = product_of(&s->args, &state->calls);
    qn_status status = qn__blas_plan(&state->plan, s->queue->lt, &p, s->choice.workspace, s, err);
    if (!status && !state->plan) status = s->algorithm ? not_offered(s, err) : use_own(state, &p, err);
    if (!status && s->algorithm) s->choice.workspace = qn__blas_workspace(state->plan);
    if (status)
        drop(state);
    else
        s->state = state;
    return status;
}

static void release(struct qn__step *s)
{
    if (s->state) drop(s->state);
    s->state = NULL;
}

static qn_status after(const struct qn__step *s, bool nothing, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__epilogue *e = &attr_of(a)->epilogue;
    struct qn__after all = { .y = a->y.data,
                             .bias = nothing && e->has_bias ? a->x[2].data : NULL,
                             .dtype = a->y.dtype,
                             .count = a->y.count,
                             .channels = a->y.dim[a->y.rank - 1],
                             .inner = 1,
                             .nothing = nothing,
                             .act = e->act,
                             .p = e->p };
    return qn__cuda_after(s, &all, err);
}

/* Offset in bytes of call number `i` for an operand's steps. */
static size_t offset_of(const struct lead *l, const int64_t *step, int64_t i, size_t size)
{
    int64_t at = 0;
    for (int k = l->n - 1; k >= 0; k--) {
        at += i % l->size[k] * step[k];
        i /= l->size[k];
    }
    return (size_t)at * size;
}

static qn_status run_own(const struct state *state, const struct qn__blas_data *d, const struct qn__step *s,
                         qn_error *err)
{
    struct qn__gemm g = state->own;
    g.a = d->a;
    g.b = d->b;
    g.y = d->y;
    g.bias = d->bias;
    int64_t size = (int64_t)qn_dtype_size(g.dtype), all = 0;
    for (int i = 0; i < state->calls.n; i++)
        all |= state->calls.a[i] * size | state->calls.b[i] * size | state->calls.y[i] * size;
    enum qn__gemm_rung rung = qn__gemm_best(&g);
    if (all % 16 && rung >= QN_GEMM_VECTOR) rung = QN_GEMM_REGISTERS;
    return qn__gemm_run(rung, &g, s, err);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct state *state = s->state;
    if (s->choice.variant == EMPTY) return after(s, true, err);
    const struct lead *l = &state->calls;
    size_t size = qn_dtype_size(a->y.dtype);
    int64_t calls = 1;
    for (int k = 0; k < l->n; k++) calls *= l->size[k];
    for (int64_t i = 0; i < calls; i++) {
        struct qn__blas_data d = { .a = (const char *)a->x[0].data + offset_of(l, l->a, i, size),
                                   .b = (const char *)a->x[1].data + offset_of(l, l->b, i, size),
                                   .y = (char *)a->y.data + offset_of(l, l->y, i, size),
                                   .bias = a->n_in > 2 ? a->x[2].data : NULL,
                                   .workspace = s->workspace };
        QN_TRY(state->plan ? qn__blas_run(state->plan, &d, s->queue->stream, s, err) : run_own(state, &d, s, err));
    }
    bool activate = s->choice.variant == LT_AFTER || (!state->plan && attr_of(a)->epilogue.act);
    return activate ? after(s, false, err) : QN_OK;
}

static const char *const variants[] = { "lt", "lt_after", "empty", NULL };
extern const struct qn__kernel qn__cuda_matmul;
const struct qn__kernel qn__cuda_matmul = { .variants = variants,
                                            .pick = pick,
                                            .prepare = prepare,
                                            .launch = launch,
                                            .release = release,
                                            .describe = describe,
                                            .algorithms = algorithms };
