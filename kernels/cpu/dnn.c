/* dnn.c - oneDNN: see dnn.h. Written for the C interfaces of its versions 2 and 3. */
#include "dnn.h"
#include "cpu.h"
#include <dnnl.h>

#define DNN_f32 1
#define DNN_f64 0
#if QN_CAT(DNN, KIND) /* one object of the two that this file is compiled to */

/* A failed call of the library; its number says which kind of failure. */
#define DNN_TRY(expr) \
    do { \
        dnnl_status_t dnn_status_ = (expr); \
        if (dnn_status_ != dnnl_success) return dnn_status_; \
    } while (0)

/* ---- what a step keeps ---------------------------------------------------------------------------- */

enum { MAX_ARGS = 6, MAX_CALLS = 3, MAX_SLOTS = 10 };
enum { OF_Y = -1, OF_WORKSPACE = -2 };

struct state {
    int threads, n_call, n_slot;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct call {
        dnnl_primitive_t primitive;
        int n;
        dnnl_exec_arg_t arg[MAX_ARGS];
    } call[MAX_CALLS];
    struct slot { /* a memory object and where bind finds its bytes */
        dnnl_memory_t memory;
        int operand; /* index of x, OF_Y or OF_WORKSPACE */
        size_t offset;
    } slot[MAX_SLOTS];
    size_t workspace;
};

static int swap_threads(int n)
{
    int old = omp_get_max_threads();
    if (n != old) omp_set_num_threads(n);
    return old;
}

static qn_status fail(qn_error *err, const char *what, dnnl_status_t status)
{
    if (status == dnnl_out_of_memory) return qn__nomem(err, what, 0);
    return qn__fail(err, 7002, NULL, "oneDNN: %s failed with status %d; expected 0", what, (int)status);
}

/* ---- memory descriptors and primitives of either version -------------------------------------------- */

enum { MAX_MDS = 6 };
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t md_t;
typedef const_dnnl_memory_desc_t const_md_t;
#else
typedef dnnl_memory_desc_t *md_t;
typedef const dnnl_memory_desc_t *const_md_t;
#endif

/* What is made on the way to a primitive and thrown away after it. */
struct build {
    dnnl_engine_t engine;
    bool owned;                       /* the engine is the build's own */
    dnnl_primitive_attr_t attr, bare; /* bare: for reorders, which have no epilogue */
    dnnl_primitive_desc_t hint, pd;
    md_t md[MAX_MDS];
    int n_md;
#if DNNL_VERSION_MAJOR < 3
    dnnl_memory_desc_t storage[MAX_MDS];
#endif
};

/* Descriptors with given strides, with a named order, and with the order left to the primitive. dims are those of
 * the library's fixed-size array. */
static dnnl_status_t add_strided(struct build *b, md_t *out, int rank, const dnnl_dims_t dims,
                                 const dnnl_dims_t strides)
{
#if DNNL_VERSION_MAJOR >= 3
    DNN_TRY(dnnl_memory_desc_create_with_strides(&b->md[b->n_md], rank, dims, dnnl_f32, strides));
#else
    b->md[b->n_md] = &b->storage[b->n_md];
    DNN_TRY(dnnl_memory_desc_init_by_strides(b->md[b->n_md], rank, dims, dnnl_f32, strides));
#endif
    *out = b->md[b->n_md++];
    return dnnl_success;
}

static dnnl_status_t add_tag(struct build *b, md_t *out, int rank, const int64_t *dims, dnnl_format_tag_t tag)
{
    dnnl_dims_t d = { 0 };
    memcpy(d, dims, (size_t)rank * sizeof *dims);
#if DNNL_VERSION_MAJOR >= 3
    DNN_TRY(dnnl_memory_desc_create_with_tag(&b->md[b->n_md], rank, d, dnnl_f32, tag));
#else
    b->md[b->n_md] = &b->storage[b->n_md];
    DNN_TRY(dnnl_memory_desc_init_by_tag(b->md[b->n_md], rank, d, dnnl_f32, tag));
#endif
    *out = b->md[b->n_md++];
    return dnnl_success;
}

static dnnl_status_t add_any(struct build *b, md_t *out, int rank, const int64_t *dims)
{
    return add_tag(b, out, rank, dims, dnnl_format_tag_any);
}

/* An image [N,C,H,W] with channel block `block`. */
static dnnl_status_t add_image(struct build *b, md_t *out, const struct qn__view *v, int32_t block)
{
    dnnl_format_tag_t tag = block == 8                        ? dnnl_nChw8c
                            : block == 16                     ? dnnl_nChw16c
                            : block > 1 && block == v->dim[1] ? dnnl_nhwc
                                                              : dnnl_nchw;
    return add_tag(b, out, 4, v->dim, tag);
}

/* The activation as a post-op. Only those through which oneDNN lets a NaN pass; the rest are applied after the
 * primitive (qn__dnn_activates), because a NaN that turns into 0 hides the fault that made it. */
static bool post_op(const struct qn__epilogue *e, dnnl_alg_kind_t *alg, float *alpha)
{
    switch (e->act) {
    case QN_OP_leaky_relu:
        *alg = dnnl_eltwise_relu;
        *alpha = (float)e->p;
        return *alpha != 0;
    case QN_OP_gelu_tanh:
        *alg = dnnl_eltwise_gelu_tanh;
        *alpha = 0;
        return true;
    case QN_OP_gelu_erf:
        *alg = dnnl_eltwise_gelu_erf;
        *alpha = 0;
        return true;
    case QN_OP_silu:
        *alg = dnnl_eltwise_swish;
        *alpha = 1;
        return true;
    default: return false;
    }
}

bool qn__dnn_activates(const struct qn__epilogue *e)
{
    dnnl_alg_kind_t alg;
    float alpha;
    return e->act == 0 || post_op(e, &alg, &alpha);
}

static dnnl_status_t set_epilogue(struct build *b, const struct qn__epilogue *e)
{
    dnnl_alg_kind_t alg;
    float alpha;
    if (!post_op(e, &alg, &alpha)) return dnnl_success;
    dnnl_post_ops_t ops;
    DNN_TRY(dnnl_post_ops_create(&ops));
#if DNNL_VERSION_MAJOR >= 3
    dnnl_status_t status = dnnl_post_ops_append_eltwise(ops, alg, alpha, 0);
#else
    dnnl_status_t status = dnnl_post_ops_append_eltwise(ops, 1, alg, alpha, 0);
#endif
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(b->attr, ops);
    dnnl_post_ops_destroy(ops);
    return status;
}

/* owner: the state that the primitive is for, whose engine it must have; NULL when pick only asks. */
static dnnl_status_t build_open(struct build *b, const struct state *owner)
{
    *b = (struct build){ .owned = !owner };
    if (owner)
        b->engine = owner->engine;
    else
        DNN_TRY(dnnl_engine_create(&b->engine, dnnl_cpu, 0));
    DNN_TRY(dnnl_primitive_attr_create(&b->attr));
    DNN_TRY(dnnl_primitive_attr_create(&b->bare));
    DNN_TRY(dnnl_primitive_attr_set_scratchpad_mode(b->bare, dnnl_scratchpad_mode_user));
    return dnnl_primitive_attr_set_scratchpad_mode(b->attr, dnnl_scratchpad_mode_user);
}

static void build_drop_pd(struct build *b)
{
    if (b->pd) dnnl_primitive_desc_destroy(b->pd);
    if (b->hint) dnnl_primitive_desc_destroy(b->hint);
    b->pd = b->hint = NULL;
#if DNNL_VERSION_MAJOR >= 3
    for (int i = 0; i < b->n_md; i++) dnnl_memory_desc_destroy(b->md[i]);
#endif
    b->n_md = 0;
}

static void build_close(struct build *b)
{
    build_drop_pd(b);
    if (b->attr) dnnl_primitive_attr_destroy(b->attr);
    if (b->bare) dnnl_primitive_attr_destroy(b->bare);
    if (b->owned && b->engine) dnnl_engine_destroy(b->engine);
}

static const_md_t query(const struct build *b, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(b->pd, what, 0);
}

static size_t size_of(const_md_t md) { return md ? dnnl_memory_desc_get_size(md) : 0; }

/* How good the implementation is that the library has chosen: 2 direct, 1 by way of a matrix product, 0 the
 * library's reference loops, which are slower than ours. */
static int quality(const struct build *b)
{
    const char *name = "";
    if (!b->pd || dnnl_primitive_desc_query(b->pd, dnnl_query_impl_info_str, 0, &name) != dnnl_success) return 0;
    return strstr(name, "ref") ? 0 : strstr(name, "gemm") ? 1 : 2;
}

/* ---- assembling the state ------------------------------------------------------------------------------ */

static size_t align_up(size_t n) { return (n + 63) & ~(size_t)63; }

static dnnl_status_t add_slot(struct state *s, dnnl_memory_t *out, const_md_t md, int operand)
{
    struct slot *slot = &s->slot[s->n_slot];
    DNN_TRY(dnnl_memory_create(&slot->memory, md, s->engine, DNNL_MEMORY_NONE));
    slot->operand = operand;
    if (operand == OF_WORKSPACE) {
        slot->offset = s->workspace;
        s->workspace = align_up(s->workspace + size_of(md));
    }
    s->n_slot++;
    *out = slot->memory;
    return dnnl_success;
}

static void add_arg(struct call *c, int what, dnnl_memory_t memory)
{
    c->arg[c->n++] = (dnnl_exec_arg_t){ what, memory };
}

static dnnl_status_t add_reorder(struct state *s, struct build *b, const_md_t from_md, dnnl_memory_t from,
                                 const_md_t to_md, dnnl_memory_t to)
{
    dnnl_primitive_desc_t pd;
    DNN_TRY(dnnl_reorder_primitive_desc_create(&pd, from_md, s->engine, to_md, s->engine, b->bare));
    struct call *c = &s->call[s->n_call++];
    dnnl_memory_t scratch = NULL;
    const_md_t need = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    dnnl_status_t status = dnnl_primitive_create(&c->primitive, pd);
    if (status == dnnl_success && size_of(need) > 0) status = add_slot(s, &scratch, need, OF_WORKSPACE);
    dnnl_primitive_desc_destroy(pd);
    add_arg(c, DNNL_ARG_FROM, from);
    add_arg(c, DNNL_ARG_TO, to);
    if (scratch) add_arg(c, DNNL_ARG_SCRATCHPAD, scratch);
    return status;
}

/* The memory of a weight tensor as the primitive wants it: the operand itself if plain order suits, else workspace
 * with a reorder before (weights are read) or, by the caller, after. */
static dnnl_status_t add_weights(struct state *s, dnnl_memory_t *plain, dnnl_memory_t *packed, const_md_t plain_md,
                                 const_md_t packed_md, int operand)
{
    DNN_TRY(add_slot(s, plain, plain_md, operand));
    *packed = *plain;
    if (dnnl_memory_desc_equal(plain_md, packed_md)) return dnnl_success;
    return add_slot(s, packed, packed_md, OF_WORKSPACE);
}

static dnnl_status_t add_scratchpad(struct state *s, const struct build *b, struct call *c)
{
    const_md_t md = query(b, dnnl_query_scratchpad_md);
    dnnl_memory_t memory;
    if (size_of(md) == 0) return dnnl_success;
    DNN_TRY(add_slot(s, &memory, md, OF_WORKSPACE));
    add_arg(c, DNNL_ARG_SCRATCHPAD, memory);
    return dnnl_success;
}

static dnnl_status_t state_open(struct state **out, const struct qn__args *a)
{
    *out = qn__calloc(&qn__std_alloc, 1, sizeof **out);
    if (!*out) return dnnl_out_of_memory;
    (*out)->threads = a->threads;
    DNN_TRY(dnnl_engine_create(&(*out)->engine, dnnl_cpu, 0));
    return dnnl_stream_create(&(*out)->stream, (*out)->engine, dnnl_stream_default_flags);
}

/* Makes the state of an operator; half made is fine, it is released. */
typedef dnnl_status_t make_state(struct state **out, const struct qn__args *a, struct build *b);

static qn_status prepare(struct qn__step *s, make_state *make, const char *what, qn_error *err)
{
    struct build b = { 0 };
    struct state *state = NULL;
    int threads = swap_threads(s->args.threads);
    dnnl_status_t status = make(&state, &s->args, &b);
    swap_threads(threads);
    build_close(&b);
    s->state = state;
    if (status != dnnl_success) {
        qn__dnn_release(s);
        return fail(err, what, status);
    }
    if (s->choice.workspace < state->workspace) s->choice.workspace = state->workspace;
    return QN_OK;
}

/* ---- bind, launch, release -------------------------------------------------------------------------------- */

qn_status qn__dnn_bind(struct qn__step *s, qn_error *err)
{
    struct state *state = s->state;
    for (int i = 0; state && i < state->n_slot; i++) {
        const struct slot *slot = &state->slot[i];
        void *data = slot->operand == OF_WORKSPACE ? (char *)s->workspace + slot->offset
                     : slot->operand == OF_Y       ? s->args.y.data
                                                   : s->args.x[slot->operand].data;
        dnnl_status_t status = dnnl_memory_set_data_handle(slot->memory, data);
        if (status != dnnl_success) return fail(err, "memory", status);
    }
    return QN_OK;
}

qn_status qn__dnn_launch(const struct qn__step *s, qn_error *err)
{
    const struct state *state = s->state;
    int threads = swap_threads(state->threads);
    dnnl_status_t status = dnnl_success;
    for (int i = 0; i < state->n_call && status == dnnl_success; i++)
        status = dnnl_primitive_execute(state->call[i].primitive, state->stream, state->call[i].n, state->call[i].arg);
    swap_threads(threads);
    return status == dnnl_success ? QN_OK : fail(err, "execution", status);
}

void qn__dnn_release(struct qn__step *s)
{
    struct state *state = s->state;
    if (!state) return;
    for (int i = 0; i < state->n_call; i++)
        if (state->call[i].primitive) dnnl_primitive_destroy(state->call[i].primitive);
    for (int i = 0; i < state->n_slot; i++) dnnl_memory_destroy(state->slot[i].memory);
    if (state->stream) dnnl_stream_destroy(state->stream);
    if (state->engine) dnnl_engine_destroy(state->engine);
    qn__free(&qn__std_alloc, state, sizeof *state);
    s->state = NULL;
}

/* ---- matmul ------------------------------------------------------------------------------------------------- */

/* The product as oneDNN sees it: leading dims, then rows and columns. */
struct product {
    int rank;
    dnnl_dims_t a, b, y, bias, a_stride, b_stride, y_stride, bias_stride;
};

/* Dims of v with ones in front up to `rank`, the last two swapped if t, and the strides that go with them. */
static void matrix_dims(int rank, const struct qn__view *v, int t, int64_t *dim, int64_t *stride)
{
    int64_t at = 1;
    for (int i = rank - 1, j = v->rank - 1; i >= 0; i--, j--) {
        dim[i] = j >= 0 ? v->dim[j] : 1;
        stride[i] = at;
        at *= dim[i];
    }
    if (!t) return;
    int64_t rows = dim[rank - 1], columns = dim[rank - 2];
    dim[rank - 2] = rows, dim[rank - 1] = columns;
    stride[rank - 2] = 1, stride[rank - 1] = rows;
}

static void product_of(const struct qn__args *a, struct product *p)
{
    const struct qn__matmul_attr *attr = a->attr;
    struct qn__view x = a->x[0], y = a->y;
    if (a->x[1].rank == 2 && !attr->ta && y.rank > 2) { /* a shared right operand: one tall product */
        x.dim[0] = x.count / x.dim[x.rank - 1], x.dim[1] = x.dim[x.rank - 1];
        y.dim[0] = y.count / y.dim[y.rank - 1], y.dim[1] = y.dim[y.rank - 1];
        x.rank = y.rank = 2;
    }
    p->rank = y.rank;
    matrix_dims(p->rank, &x, attr->ta, p->a, p->a_stride);
    matrix_dims(p->rank, &a->x[1], attr->tb, p->b, p->b_stride);
    matrix_dims(p->rank, &y, 0, p->y, p->y_stride);
    if (attr->epilogue.has_bias) matrix_dims(p->rank, &a->x[2], 0, p->bias, p->bias_stride);
}

static dnnl_status_t matmul_pd(const struct qn__args *a, struct build *b, const struct state *owner, md_t md[4])
{
    const struct qn__matmul_attr *attr = a->attr;
    struct product p;
    product_of(a, &p);
    DNN_TRY(build_open(b, owner));
    DNN_TRY(set_epilogue(b, &attr->epilogue));
    DNN_TRY(add_strided(b, &md[0], p.rank, p.a, p.a_stride));
    DNN_TRY(add_strided(b, &md[1], p.rank, p.b, p.b_stride));
    DNN_TRY(add_strided(b, &md[2], p.rank, p.y, p.y_stride));
    md[3] = NULL;
    if (attr->epilogue.has_bias) DNN_TRY(add_strided(b, &md[3], p.rank, p.bias, p.bias_stride));
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_matmul_primitive_desc_create(&b->pd, b->engine, md[0], md[1], md[3], md[2], b->attr);
#else
    dnnl_matmul_desc_t desc;
    DNN_TRY(dnnl_matmul_desc_init(&desc, md[0], md[1], md[3], md[2]));
    return dnnl_primitive_desc_create(&b->pd, &desc, b->attr, b->engine, NULL);
#endif
}

bool qn__dnn_matmul_fits(const struct qn__args *a, size_t *workspace)
{
    struct build b;
    md_t md[4];
    int threads = swap_threads(a->threads);
    bool fits = matmul_pd(a, &b, NULL, md) == dnnl_success && quality(&b) > 0;
    if (fits) *workspace = align_up(size_of(query(&b, dnnl_query_scratchpad_md)));
    build_close(&b);
    swap_threads(threads);
    return fits;
}

static dnnl_status_t matmul_state(struct state **out, const struct qn__args *a, struct build *b)
{
    md_t md[4];
    DNN_TRY(state_open(out, a));
    struct state *s = *out;
    DNN_TRY(matmul_pd(a, b, s, md));
    struct call *c = &s->call[s->n_call++];
    DNN_TRY(dnnl_primitive_create(&c->primitive, b->pd));
    static const int what[] = { DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS };
    static const int operand[] = { 0, 1, OF_Y, 2 };
    for (int i = 0; i < 4; i++) {
        dnnl_memory_t memory;
        if (!md[i]) continue;
        DNN_TRY(add_slot(s, &memory, md[i], operand[i]));
        add_arg(c, what[i], memory);
    }
    return add_scratchpad(s, b, c);
}

qn_status qn__dnn_matmul(struct qn__step *s, qn_error *err) { return prepare(s, matmul_state, "matmul", err); }

/* ---- convolution ---------------------------------------------------------------------------------------------- */

/* Who is who: x the image that is convolved, w the filters, y the result of the forward direction, or their
 * gradients; and which operand each is. */
struct roles {
    const struct qn__view *x, *w, *y, *bias;
    int x_at, w_at, y_at;
};

static struct roles roles_of(const struct qn__args *a)
{
    const struct qn__conv_attr *attr = a->attr;
    const struct qn__view *bias = attr->epilogue.has_bias && a->op == QN_OP_conv2d ? &a->x[2] : NULL;
    switch ((int)a->op) {
    case QN_OP_conv2d: return (struct roles){ &a->x[0], &a->x[1], &a->y, bias, 0, 1, OF_Y };
    case QN_OP_conv2d_grad_x: return (struct roles){ &a->y, &a->x[0], &a->x[1], NULL, OF_Y, 0, 1 };
    default: return (struct roles){ &a->x[0], &a->y, &a->x[1], NULL, 0, OF_Y, 1 };
    }
}

struct conv_mds {
    md_t x, w, y, bias, plain;
};

static dnnl_status_t conv_pd(const struct qn__args *a, struct build *b, const struct conv_mds *m)
{
    const struct qn__conv_attr *attr = a->attr;
    dnnl_dims_t stride = { attr->stride[0], attr->stride[1] }, left = { attr->pad[0], attr->pad[1] };
    dnnl_dims_t dilate = { attr->dilation[0] - 1, attr->dilation[1] - 1 };
    dnnl_dims_t right = { attr->pad_end[0], attr->pad_end[1] };
    dnnl_alg_kind_t alg = dnnl_convolution_direct;
    bool forward = a->op == QN_OP_conv2d;
    dnnl_prop_kind_t prop = dnnl_forward_training;
#if DNNL_VERSION_MAJOR >= 3
    DNN_TRY(dnnl_convolution_forward_primitive_desc_create(forward ? &b->pd : &b->hint, b->engine, prop, alg, m->x,
                                                           m->w, m->bias, m->y, stride, dilate, left, right,
                                                           forward ? b->attr : NULL));
    if (forward) return dnnl_success;
    if (a->op == QN_OP_conv2d_grad_x)
        return dnnl_convolution_backward_data_primitive_desc_create(&b->pd, b->engine, alg, m->x, m->w, m->y, stride,
                                                                    dilate, left, right, b->hint, b->attr);
    return dnnl_convolution_backward_weights_primitive_desc_create(&b->pd, b->engine, alg, m->x, m->w, NULL, m->y,
                                                                   stride, dilate, left, right, b->hint, b->attr);
#else
    dnnl_convolution_desc_t desc;
    DNN_TRY(dnnl_dilated_convolution_forward_desc_init(&desc, prop, alg, m->x, m->w, m->bias, m->y, stride, dilate,
                                                       left, right));
    if (forward) return dnnl_primitive_desc_create(&b->pd, &desc, b->attr, b->engine, NULL);
    DNN_TRY(dnnl_primitive_desc_create(&b->hint, &desc, NULL, b->engine, NULL));
    if (a->op == QN_OP_conv2d_grad_x)
        DNN_TRY(dnnl_dilated_convolution_backward_data_desc_init(&desc, alg, m->x, m->w, m->y, stride, dilate, left,
                                                                 right));
    else
        DNN_TRY(dnnl_dilated_convolution_backward_weights_desc_init(&desc, alg, m->x, m->w, NULL, m->y, stride, dilate,
                                                                    left, right));
    return dnnl_primitive_desc_create(&b->pd, &desc, b->attr, b->engine, b->hint);
#endif
}

/* The primitive for images with these channel blocks; filters in any order. Filters of groups are
 * [g, O/g, C/g, kh, kw], which is the same memory as ours. */
static dnnl_status_t conv_build(const struct qn__args *a, struct build *b, struct conv_mds *m, int32_t x_block,
                                int32_t y_block)
{
    const struct qn__conv_attr *attr = a->attr;
    struct roles r = roles_of(a);
    const int64_t *d = r.w->dim, g = attr->groups;
    dnnl_dims_t dim = { d[0], d[1], d[2], d[3] }, grouped = { g, d[0] / g, d[1], d[2], d[3] };
    int rank = g > 1 ? 5 : 4;
    build_drop_pd(b);
    m->bias = NULL;
    DNN_TRY(add_image(b, &m->x, r.x, x_block));
    DNN_TRY(add_image(b, &m->y, r.y, y_block));
    DNN_TRY(add_any(b, &m->w, rank, g > 1 ? grouped : dim));
    DNN_TRY(add_tag(b, &m->plain, rank, g > 1 ? grouped : dim, g > 1 ? dnnl_goihw : dnnl_oihw));
    if (r.bias) DNN_TRY(add_tag(b, &m->bias, 1, r.bias->dim, dnnl_a));
    return conv_pd(a, b, m);
}

/* The layouts in the order in which they are tried: blocks of a vector's width, channels last, plain. Blocks of 8
 * were as fast as channels last or faster, in all directions, on the shapes of benchmarks/kernels_cpu/conv.c. */
enum { WIDE_BLOCKS, BLOCKS, CHANNELS_LAST, PLAIN, CONV_LAYOUTS };

static int32_t block_of(int64_t channels, int layout)
{
    if (layout == CHANNELS_LAST && channels <= INT32_MAX) return (int32_t)channels;
    int32_t block = layout == WIDE_BLOCKS ? 16 : layout == BLOCKS ? 8 : QN_PLAIN;
    return channels % block == 0 ? block : QN_PLAIN;
}

/* Whether the views allow a layout, and its blocks. */
static bool layout_at(const struct qn__args *a, int layout, int32_t *x_block, int32_t *y_block)
{
    struct roles r = roles_of(a);
    int32_t x = block_of(r.x->dim[1], layout), y = block_of(r.y->dim[1], layout);
    *x_block = x, *y_block = y;
    if (layout == WIDE_BLOCKS && (!__builtin_cpu_supports("avx512f") || (x != 16 && y != 16))) return false;
    return (r.x->block == QN_ANY_BLOCK || r.x->block == x) && (r.y->block == QN_ANY_BLOCK || r.y->block == y);
}

/* Leaves in b the best primitive of the layouts that the views allow. */
static int conv_best(const struct qn__args *a, struct build *b, struct conv_mds *m, int32_t *x_block, int32_t *y_block)
{
    int best = 0, best_at = -1;
    for (int i = 0; i < CONV_LAYOUTS && best < 2; i++) {
        int32_t x, y;
        if (!layout_at(a, i, &x, &y)) continue;
        int q = conv_build(a, b, m, x, y) == dnnl_success ? quality(b) : 0;
        if (q > best) best = q, best_at = i;
    }
    if (best_at < 0) return 0;
    layout_at(a, best_at, x_block, y_block);
    return conv_build(a, b, m, *x_block, *y_block) == dnnl_success ? best : 0;
}

static dnnl_status_t conv_open(const struct qn__args *a, struct build *b, const struct state *owner)
{
    const struct qn__conv_attr *attr = a->attr;
    DNN_TRY(build_open(b, owner));
    return a->op == QN_OP_conv2d ? set_epilogue(b, &attr->epilogue) : dnnl_success;
}

bool qn__dnn_conv_fits(const struct qn__args *a, struct qn__choice *c)
{
    struct build b;
    struct conv_mds m;
    int threads = swap_threads(a->threads);
    int32_t x_block = QN_PLAIN, y_block = QN_PLAIN;
    bool fits = conv_open(a, &b, NULL) == dnnl_success && conv_best(a, &b, &m, &x_block, &y_block) > 0;
    if (fits) {
        struct roles r = roles_of(a);
        *(r.x_at < 0 ? &c->y_block : &c->x_block[r.x_at]) = x_block;
        *(r.y_at < 0 ? &c->y_block : &c->x_block[r.y_at]) = y_block;
        const_md_t w = query(&b, a->op == QN_OP_conv2d_grad_w ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
        c->workspace = align_up(size_of(query(&b, dnnl_query_scratchpad_md)));
        if (!dnnl_memory_desc_equal(w, m.plain)) c->workspace += align_up(size_of(w));
    }
    build_close(&b);
    swap_threads(threads);
    return fits;
}

static dnnl_status_t conv_state(struct state **out, const struct qn__args *a, struct build *b)
{
    DNN_TRY(state_open(out, a));
    struct state *s = *out;
    struct roles r = roles_of(a);
    struct conv_mds m;
    int32_t x_block, y_block;
    DNN_TRY(conv_open(a, b, s));
    if (conv_best(a, b, &m, &x_block, &y_block) == 0) return dnnl_unimplemented;
    bool forward = a->op == QN_OP_conv2d, grad_w = a->op == QN_OP_conv2d_grad_w;
    const_md_t w_md = query(b, grad_w ? dnnl_query_diff_weights_md : dnnl_query_weights_md);
    dnnl_memory_t x, y, w, plain, bias;
    DNN_TRY(add_weights(s, &plain, &w, m.plain, w_md, r.w_at));
    if (w != plain && !grad_w) DNN_TRY(add_reorder(s, b, m.plain, plain, w_md, w));
    struct call *c = &s->call[s->n_call++];
    DNN_TRY(dnnl_primitive_create(&c->primitive, b->pd));
    DNN_TRY(add_slot(s, &x, m.x, r.x_at));
    DNN_TRY(add_slot(s, &y, m.y, r.y_at));
    add_arg(c, forward || grad_w ? DNNL_ARG_SRC : DNNL_ARG_DIFF_SRC, x);
    add_arg(c, grad_w ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS, w);
    add_arg(c, forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST, y);
    if (m.bias) {
        DNN_TRY(add_slot(s, &bias, m.bias, 2));
        add_arg(c, DNNL_ARG_BIAS, bias);
    }
    DNN_TRY(add_scratchpad(s, b, c));
    return w != plain && grad_w ? add_reorder(s, b, w_md, w, m.plain, plain) : dnnl_success;
}

qn_status qn__dnn_conv(struct qn__step *s, qn_error *err) { return prepare(s, conv_state, "convolution", err); }

/* ---- average pooling --------------------------------------------------------------------------------------------- */

/* x and y are the images of the forward direction, or their gradients; both in the same layout. */
static dnnl_status_t pool_pd(const struct qn__args *a, int32_t block, struct build *b, const struct state *owner,
                             md_t md[2])
{
    const struct qn__pool_attr *attr = a->attr;
    bool forward = a->op == QN_OP_avg_pool2d;
    const struct qn__view *x = forward ? &a->x[0] : &a->y, *y = forward ? &a->y : &a->x[0];
    dnnl_dims_t window = { attr->window[0], attr->window[1] }, stride = { attr->stride[0], attr->stride[1] };
    dnnl_dims_t pad = { attr->pad[0], attr->pad[1] };
    dnnl_alg_kind_t alg = dnnl_pooling_avg_exclude_padding;
    dnnl_prop_kind_t prop = dnnl_forward_training;
    DNN_TRY(build_open(b, owner));
    DNN_TRY(add_image(b, &md[0], x, block));
    DNN_TRY(add_image(b, &md[1], y, block));
#if DNNL_VERSION_MAJOR >= 3
    dnnl_dims_t none = { 0, 0 };
    DNN_TRY(dnnl_pooling_forward_primitive_desc_create(forward ? &b->pd : &b->hint, b->engine, prop, alg, md[0], md[1],
                                                       stride, window, none, pad, pad, forward ? b->attr : NULL));
    if (forward) return dnnl_success;
    return dnnl_pooling_backward_primitive_desc_create(&b->pd, b->engine, alg, md[0], md[1], stride, window, none, pad,
                                                       pad, b->hint, b->attr);
#else
    dnnl_pooling_desc_t desc;
    DNN_TRY(dnnl_pooling_forward_desc_init(&desc, prop, alg, md[0], md[1], stride, window, pad, pad));
    if (forward) return dnnl_primitive_desc_create(&b->pd, &desc, b->attr, b->engine, NULL);
    DNN_TRY(dnnl_primitive_desc_create(&b->hint, &desc, NULL, b->engine, NULL));
    DNN_TRY(dnnl_pooling_backward_desc_init(&desc, alg, md[0], md[1], stride, window, pad, pad));
    return dnnl_primitive_desc_create(&b->pd, &desc, b->attr, b->engine, b->hint);
#endif
}

bool qn__dnn_pool_fits(const struct qn__args *a, struct qn__choice *c)
{
    struct build b;
    md_t md[2];
    int threads = swap_threads(a->threads);
    bool fits = pool_pd(a, c->y_block, &b, NULL, md) == dnnl_success && quality(&b) > 0;
    if (fits) c->workspace = align_up(size_of(query(&b, dnnl_query_scratchpad_md)));
    build_close(&b);
    swap_threads(threads);
    return fits;
}

static dnnl_status_t pool_state(struct state **out, const struct qn__args *a, struct build *b)
{
    md_t md[2];
    dnnl_memory_t from, to;
    DNN_TRY(state_open(out, a));
    struct state *s = *out;
    DNN_TRY(pool_pd(a, a->y.block, b, s, md));
    bool forward = a->op == QN_OP_avg_pool2d;
    struct call *c = &s->call[s->n_call++];
    DNN_TRY(dnnl_primitive_create(&c->primitive, b->pd));
    DNN_TRY(add_slot(s, &from, md[forward ? 0 : 1], 0));
    DNN_TRY(add_slot(s, &to, md[forward ? 1 : 0], OF_Y));
    add_arg(c, forward ? DNNL_ARG_SRC : DNNL_ARG_DIFF_DST, from);
    add_arg(c, forward ? DNNL_ARG_DST : DNNL_ARG_DIFF_SRC, to);
    return add_scratchpad(s, b, c);
}

qn_status qn__dnn_pool(struct qn__step *s, qn_error *err) { return prepare(s, pool_state, "pooling", err); }
#endif
