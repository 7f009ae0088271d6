/* conv.c - the three directions of a convolution: layouts, the plan from cuDNN, filters in the library's order. See
 * conv.h. */
#include "conv.h"
#include <stdio.h>
#include <string.h>

enum { GRAPH, EMPTY, DEPTHWISE, OWN, GRAPH_AFTER };
const char *const qn__cuda_conv_variants[] = { "graph", "empty", "depthwise", "own", "graph_after", NULL };
const char *const qn__cuda_conv_plain_variants[] = { "graph", "empty", "depthwise", "own", NULL };

/* An engine that needs more is passed over for the next: the plan's memory is for values, not for scratch. */
enum { WORKSPACE_MAX = 256 << 20, ALIGN = 256 };

struct state {
    struct qn__dnn_plan *plan; /* of cuDNN; else `own` does it, as `conv` says */
    enum qn__conv_rung own;
    struct qn__dnn *legacy; /* its calls of before the graph API, or NULL */
    size_t scratch;         /* that they need */
    struct qn__dnn_conv conv;
    struct qn__dnn *described; /* where there is no device, only a description of one */
    size_t filters;            /* bytes of workspace in front of the library's; 0: they need not be turned over */
};

static const struct qn__view *view_of(const struct qn__args *a, int role)
{
    return role == QN_CONV_RESULT ? &a->y : &a->x[role];
}

static const struct qn__epilogue *epilogue_of(const struct qn__args *a)
{
    return &((const struct qn__conv_attr *)a->attr)->epilogue;
}

/* ---- layouts ------------------------------------------------------------------------------------------- */

/* With the blocks of the images as they are or, where the layout pass asks, as the kernel likes them. */
static int32_t block_of(const struct qn__args *a, const struct qn__view *image)
{
    return a->y.block == QN_ANY_BLOCK ? (int32_t)image->dim[1] : image->block;
}

/* Images of one channel are NHWC and plain at once, so they go with either. */
static bool all_in(const struct qn__args *a, const struct qn__conv_roles *r, bool nhwc)
{
    const struct qn__view *image[2] = { view_of(a, r->x), view_of(a, r->y) };
    for (int i = 0; i < 2; i++)
        if (block_of(a, image[i]) != (nhwc ? image[i]->dim[1] : QN_PLAIN)) return false;
    return true;
}

static bool fits(const struct qn__args *a, const struct qn__conv_roles *r)
{
    qn_dtype dtype = a->y.dtype;
    if (dtype != QN_F32 && dtype != QN_BF16 && dtype != QN_F16) return false;
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != dtype) return false;
    if (!qn__cuda_activates(epilogue_of(a)->act)) return false;
    const struct qn__view *x = view_of(a, r->x), *y = view_of(a, r->y);
    if (x->dim[1] > INT32_MAX || y->dim[1] > INT32_MAX) return false;
    /* an image without channels has no NHWC of its own */
    if (a->y.block == QN_ANY_BLOCK && (x->dim[1] == 0 || y->dim[1] == 0)) return false;
    return all_in(a, r, true) || all_in(a, r, false);
}

/* ---- the convolution as cuDNN sees it -------------------------------------------------------------------- */

static struct qn__dnn_conv conv_of(const struct qn__args *a, const struct qn__conv_roles *r)
{
    const struct qn__conv_attr *attr = a->attr;
    const struct qn__view *x = view_of(a, r->x), *w = view_of(a, r->w), *y = view_of(a, r->y);
    struct qn__dnn_conv c = { .direction = r->direction,
                              .dtype = a->y.dtype,
                              .nhwc = all_in(a, r, true),
                              .n = x->dim[0],
                              .c = x->dim[1],
                              .h = x->dim[2],
                              .w = x->dim[3],
                              .o = y->dim[1],
                              .kh = w->dim[2],
                              .kw = w->dim[3],
                              .oh = y->dim[2],
                              .ow = y->dim[3],
                              .groups = attr->groups,
                              .bias = attr->epilogue.has_bias != 0,
                              .act = attr->epilogue.act };
    for (int i = 0; i < 2; i++) {
        c.stride[i] = attr->stride[i];
        c.dilation[i] = attr->dilation[i];
        c.pad[i] = attr->pad[i];
        c.pad_end[i] = attr->pad_end[i];
    }
    return c;
}

static int variant_of(const struct qn__args *a, const struct qn__dnn_conv *c)
{
    if (a->y.count == 0 || a->x[0].count == 0 || a->x[1].count == 0) return EMPTY;
    if (qn__conv_takes(QN_CONV_DEPTHWISE, c, a->gpu)) return DEPTHWISE;
    return (c->bias || c->act) && !qn__dnn_fuses(c) ? GRAPH_AFTER : GRAPH;
}

/* Bytes of the filters in the library's order, or 0 if both orders are the same. */
static size_t filters_bytes(const struct qn__args *a, const struct qn__conv_roles *r, const struct qn__dnn_conv *c)
{
    const struct qn__view *w = view_of(a, r->w);
    if (!c->nhwc || w->dim[1] == 1 || w->dim[2] * w->dim[3] == 1) return 0;
    size_t bytes;
    if (!qn__mul(&bytes, (size_t)w->count, qn_dtype_size(w->dtype))) return SIZE_MAX;
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

qn_status qn__cuda_conv_pick(const struct qn__args *a, struct qn__choice *c, const struct qn__conv_roles *r)
{
    if (!fits(a, r)) return QN_EUSAGE;
    for (int i = 0; i < a->n_in; i++) c->x_block[i] = QN_PLAIN;
    c->y_block = QN_PLAIN;
    if (r->x != QN_CONV_RESULT) c->x_block[r->x] = block_of(a, view_of(a, r->x));
    if (r->y != QN_CONV_RESULT) c->x_block[r->y] = block_of(a, view_of(a, r->y));
    if (r->w != QN_CONV_RESULT) c->y_block = block_of(a, &a->y);
    struct qn__dnn_conv conv = conv_of(a, r);
    c->variant = variant_of(a, &conv);
    c->workspace = c->variant == EMPTY       ? 0
                   : c->variant == DEPTHWISE ? qn__conv_workspace(QN_CONV_DEPTHWISE, &conv, a->gpu)
                                             : filters_bytes(a, r, &conv);
    return c->workspace == SIZE_MAX ? QN_EUSAGE : QN_OK;
}

/* ---- prepare ------------------------------------------------------------------------------------------------ */

/* cuDNN of the step's device, or for the description that the program is planned for. */
static qn_status find_dnn(const struct qn__step *s, struct state *state, struct qn__dnn **out, qn_error *err)
{
    struct qn__dnn **keep = s->queue ? s->queue->dnn : &state->described;
    if (!*keep) *keep = qn__dnn_new(s->args.gpu, s->queue ? &s->queue->stream : NULL, NULL);
    *out = *keep;
    return *out ? QN_OK : qn__nomem(err, "cuDNN", 0);
}

/* ---- algorithms ------------------------------------------------------------------------------------------ */

enum { ENGINES = 32 };

/* What cuDNN is asked for: the graph of a step, without what comes after it. */
static struct qn__dnn_conv graph_of(const struct qn__step *s, const struct qn__conv_roles *r)
{
    struct qn__dnn_conv conv = conv_of(&s->args, r);
    if (s->choice.variant == GRAPH_AFTER) conv.bias = false, conv.act = 0;
    return conv;
}

bool qn__cuda_conv_describe(const struct qn__step *s, const struct qn__conv_roles *r, char *text, size_t size)
{
    static const char *const names[] = { "conv2d", "conv2d_grad_x", "conv2d_grad_w" };
    if ((s->choice.variant != GRAPH && s->choice.variant != GRAPH_AFTER) || !s->queue) return false;
    struct qn__dnn_conv c = graph_of(s, r);
    snprintf(text, size,
             "%s %s %s x %lld %lld %lld %lld window %lld %lld y %lld %lld %lld groups %d stride %d %d dilation %d %d "
             "pad %d %d %d %d bias %d act %s",
             names[c.direction], qn_dtype_name(c.dtype), c.nhwc ? "nhwc" : "nchw", (long long)c.n, (long long)c.c,
             (long long)c.h, (long long)c.w, (long long)c.kh, (long long)c.kw, (long long)c.o, (long long)c.oh,
             (long long)c.ow, c.groups, c.stride[0], c.stride[1], c.dilation[0], c.dilation[1], c.pad[0], c.pad[1],
             c.pad_end[0], c.pad_end[1], c.bias, c.act ? "relu" : "none");
    return true;
}

/* One engine may be proposed several times, with other settings: its place in the ranking tells them apart. */
static void name_engine(const struct qn__dnn_engine *e, int place, struct qn__algorithm *out)
{
    snprintf(out->name, sizeof out->name, "engine %lld place %d", (long long)e->index, place);
    out->workspace = e->workspace;
}

qn_status qn__cuda_conv_algorithms(struct qn__step *s, const struct qn__conv_roles *r, struct qn__algorithm *out,
                                   int max, int *n, qn_error *err)
{
    struct qn__dnn_engine engine[ENGINES];
    struct qn__dnn_conv conv = graph_of(s, r);
    struct state none = { .plan = NULL };
    struct qn__dnn *dnn;
    QN_TRY(find_dnn(s, &none, &dnn, err));
    QN_TRY(qn__dnn_engines(dnn, &conv, WORKSPACE_MAX, engine, max < ENGINES ? max : ENGINES, n, err));
    for (int i = 0; i < *n; i++) name_engine(&engine[i], i, &out[i]);
    return QN_OK;
}

/* The place in the ranking of the algorithm that the step is to take. */
static qn_status find_place(const struct qn__step *s, struct qn__dnn *dnn, const struct qn__dnn_conv *conv, int *place,
                            qn_error *err)
{
    struct qn__dnn_engine engine[ENGINES];
    struct qn__algorithm a;
    int n = 0;
    *place = 0;
    if (!s->algorithm || !s->queue) return QN_OK;
    QN_TRY(qn__dnn_engines(dnn, conv, WORKSPACE_MAX, engine, ENGINES, &n, err));
    for (; *place < n; (*place)++) {
        name_engine(&engine[*place], *place, &a);
        if (strcmp(a.name, s->algorithm) == 0) return QN_OK;
    }
    return qn__fail(err, 7004, QN_AT_FIELD("tuning"),
                    "convolution: algorithm \"%s\", which cuDNN does not offer; expected one of those it does; make a "
                    "lock file with \"quern tune\"",
                    qn__show(s->algorithm).s);
}

/* Without an engine of cuDNN: the best of our own that takes the convolution. */
static qn_status use_own(struct qn__step *s, const struct qn__conv_roles *r, struct state *state, size_t version,
                         qn_error *err)
{
    const struct qn__dnn_conv *c = &state->conv;
    s->choice.variant = OWN;
    state->own = QN_CONV_TENSOR;
    if (!qn__conv_takes(QN_CONV_TENSOR, c, s->args.gpu)) state->own = QN_CONV_TILED;
    if (!qn__conv_takes(state->own, c, s->args.gpu))
        return qn__fail(
            err, 2208, NULL,
            "convolution of %lld x %lld images, %lld to %lld channels, window %lld x %lld: cuDNN %zu has no "
            "deterministic engine for it; expected one",
            (long long)c->h, (long long)c->w, (long long)c->c, (long long)c->o, (long long)c->kh, (long long)c->kw,
            version);
    if (state->own == QN_CONV_TENSOR) state->filters = filters_bytes(&s->args, r, c);
    s->choice.workspace = state->filters;
    return QN_OK;
}

static qn_status make_plan(struct qn__step *s, const struct qn__conv_roles *r, struct state *state, qn_error *err)
{
    struct qn__dnn_conv conv = graph_of(s, r);
    struct qn__dnn *dnn;
    size_t all;
    int place;
    state->conv = conv_of(&s->args, r);
    state->own = QN_CONV_DEPTHWISE;
    if (s->choice.variant == DEPTHWISE) return QN_OK;
    QN_TRY(find_dnn(s, state, &dnn, err));
    QN_TRY(find_place(s, dnn, &conv, &place, err));
    QN_TRY(qn__dnn_plan_at(&state->plan, dnn, &conv, WORKSPACE_MAX, place, s, err));
    if (!state->plan) return use_own(s, r, state, qn__dnn_version(dnn), err);
    state->filters = filters_bytes(&s->args, r, &conv);
    if (!qn__add(&all, state->filters, qn__dnn_plan_engine(state->plan).workspace))
        return qn__nomem(err, "workspace of a convolution", SIZE_MAX);
    s->choice.workspace = all;
    return QN_OK;
}

static void drop(struct state *state)
{
    qn__dnn_plan_free(state->plan);
    qn__dnn_close(state->described);
    qn__free(&qn__std_alloc, state, sizeof *state);
}

static qn_status new_state(struct state **out, qn_error *err)
{
    *out = qn__calloc(&qn__std_alloc, 1, sizeof **out);
    return *out ? QN_OK : qn__nomem(err, "convolution", sizeof **out);
}

qn_status qn__cuda_conv_prepare(struct qn__step *s, const struct qn__conv_roles *r, qn_error *err)
{
    struct state *state;
    if (s->choice.variant == EMPTY) return QN_OK;
    QN_TRY(new_state(&state, err));
    qn_status status = make_plan(s, r, state, err);
    if (status)
        drop(state);
    else
        s->state = state;
    return status;
}

qn_status qn__cuda_conv_rung_pick(const struct qn__args *a, struct qn__choice *c, const struct qn__conv_roles *r,
                                  int rung)
{
    QN_TRY(qn__cuda_conv_pick(a, c, r));
    struct qn__dnn_conv conv = conv_of(a, r);
    if (c->variant == EMPTY || c->variant == GRAPH_AFTER) return QN_EUSAGE;
    if (rung == QN_CONV_LEGACY && (conv.bias || conv.act)) return QN_EUSAGE;
    if (rung == QN_CONV_TILED && c->variant == DEPTHWISE) return QN_EUSAGE; /* a tile of 64 columns for one channel */
    if (rung >= 0 && !qn__conv_takes((enum qn__conv_rung)rung, &conv, a->gpu)) return QN_EUSAGE;
    bool packed = rung < 0 || rung == QN_CONV_TENSOR;
    c->variant = rung == QN_CONV_CUDNN ? GRAPH : OWN;
    c->workspace = packed ? filters_bytes(a, r, &conv) : qn__conv_workspace((enum qn__conv_rung)rung, &conv, a->gpu);
    return QN_OK;
}

static qn_status use_legacy(struct qn__step *s, const struct qn__conv_roles *r, struct state *state, qn_error *err)
{
    size_t all;
    state->conv = conv_of(&s->args, r);
    state->filters = filters_bytes(&s->args, r, &state->conv);
    QN_TRY(find_dnn(s, state, &state->legacy, err));
    if (qn__dnn_legacy_workspace(state->legacy, &state->conv, &state->scratch, NULL))
        return qn__fail(err, 2208, NULL, "convolution: none of cuDNN's legacy algorithms; expected one");
    if (!qn__add(&all, state->filters, state->scratch)) return qn__nomem(err, "workspace of a convolution", SIZE_MAX);
    s->choice.workspace = all;
    return QN_OK;
}

static qn_status prepare_legacy(struct qn__step *s, const struct qn__conv_roles *r, qn_error *err)
{
    struct state *state;
    QN_TRY(new_state(&state, err));
    qn_status status = use_legacy(s, r, state, err);
    if (status)
        drop(state);
    else
        s->state = state;
    return status;
}

qn_status qn__cuda_conv_rung_prepare(struct qn__step *s, const struct qn__conv_roles *r, int rung, qn_error *err)
{
    struct state *state;
    if (rung == QN_CONV_CUDNN) return qn__cuda_conv_prepare(s, r, err);
    if (rung == QN_CONV_LEGACY) return prepare_legacy(s, r, err);
    QN_TRY(new_state(&state, err));
    state->conv = conv_of(&s->args, r);
    state->own = (enum qn__conv_rung)rung;
    if (rung == QN_CONV_TENSOR) state->filters = filters_bytes(&s->args, r, &state->conv);
    s->state = state;
    return QN_OK;
}

void qn__cuda_conv_release(struct qn__step *s)
{
    if (s->state) drop(s->state);
    s->state = NULL;
}

/* ---- launch ------------------------------------------------------------------------------------------------- */

static qn_status after(const struct qn__step *s, bool bias, bool nothing, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__epilogue *e = epilogue_of(a);
    bool filters = a->op == QN_OP_conv2d_grad_w, plain = a->y.block == QN_PLAIN;
    struct qn__after all = { .y = a->y.data,
                             .bias = bias && e->has_bias ? a->x[2].data : NULL,
                             .dtype = a->y.dtype,
                             .count = a->y.count,
                             .channels = filters ? 1 : a->y.dim[1],
                             .inner = plain && !filters ? a->y.dim[2] * a->y.dim[3] : 1,
                             .nothing = nothing,
                             .act = e->act,
                             .p = e->p };
    return qn__cuda_after(s, &all, err);
}

static qn_status turn_filters(const struct qn__step *s, const struct qn__conv_roles *r, void *to, const void *from,
                              qn_error *err)
{
    const struct qn__view *w = view_of(&s->args, r->w);
    return qn__cuda_filters(s, to, from, w->dtype, w->dim[0], w->dim[1], w->dim[2] * w->dim[3], r->w != QN_CONV_RESULT,
                            err);
}

qn_status qn__cuda_conv_launch(const struct qn__step *s, const struct qn__conv_roles *r, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct state *state = s->state;
    int32_t act = epilogue_of(a)->act;
    if (s->choice.variant == EMPTY) return after(s, true, true, err);
    struct qn__dnn_data data = { .x = view_of(a, r->x)->data,
                                 .w = view_of(a, r->w)->data,
                                 .y = view_of(a, r->y)->data,
                                 .bias = a->n_in > 2 ? a->x[2].data : NULL };
    void *filters = data.w;
    if (s->workspace) data.workspace = (char *)s->workspace + state->filters;
    if (state->filters) data.w = s->workspace;
    if (state->filters && r->w != QN_CONV_RESULT) QN_TRY(turn_filters(s, r, data.w, filters, err));
    if (state->plan)
        QN_TRY(qn__dnn_run(state->plan, &data, s, err));
    else if (state->legacy)
        QN_TRY(qn__dnn_legacy_run(state->legacy, &state->conv, &data, state->scratch, err));
    else
        QN_TRY(qn__conv_run(state->own, &state->conv, &data, s, err));
    if (state->filters && r->w == QN_CONV_RESULT) QN_TRY(turn_filters(s, r, filters, data.w, err));
    if (s->choice.variant == GRAPH_AFTER) return after(s, true, false, err);
    return state->plan || act == 0 || act == QN_OP_relu ? QN_OK : after(s, false, false, err);
}
