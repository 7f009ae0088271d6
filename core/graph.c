/* graph.c - the append-only graph: nodes, scopes, sticky errors. */
#include "graph_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct qn__op *const op_table[] = {
    &qn__op_none,
#define OP(name, n_in, meaning) &qn__op_##name,
#include "ops.def"
#undef OP
};
static const int8_t arity_table[] = {
    0,
#define OP(name, n_in, meaning) n_in,
#include "ops.def"
#undef OP
};
const struct qn__op qn__op_none = { .name = "none", .no_gradient = "it is no value" };

const struct qn__op *qn__op_of(enum qn__opcode op) { return op_table[op]; }
int qn__arity_of(enum qn__opcode op) { return arity_table[op]; }

/* ---- life ----------------------------------------------------------------------------------- */

qn_status qn_graph_new(qn_graph **out, const qn_alloc *alloc)
{
    *out = NULL;
    if (!alloc) alloc = &qn__std_alloc;
    qn_graph *g = qn__calloc(alloc, 1, sizeof *g);
    if (!g) return QN_EMEMORY;
    g->alloc = *alloc;
    g->n = 1;
    if (!qn__grow(alloc, &g->node, &g->cap, 64, sizeof *g->node)) {
        qn__free(alloc, g, sizeof *g);
        return QN_EMEMORY;
    }
    memset(g->node, 0, sizeof *g->node);
    g->node[0].name = "";
    *out = g;
    return QN_OK;
}

qn_status qn__graph_like(qn_graph **out, const qn_graph *g, qn_error *err)
{
    return qn_graph_new(out, &g->alloc) ? qn__nomem(err, "graph", sizeof(qn_graph)) : QN_OK;
}

void qn_graph_free(qn_graph *g)
{
    if (!g) return;
    qn_alloc alloc = g->alloc;
    for (struct qn__chunk *c = g->chunk, *next; c; c = next) {
        next = c->next;
        qn__free(&alloc, c, c->size);
    }
    qn__free(&alloc, g->node, g->cap * sizeof *g->node);
    qn__free(&alloc, g, sizeof *g);
}

qn_status qn_graph_status(const qn_graph *g) { return qn_error_status(&g->err); }
const qn_error *qn_graph_error(const qn_graph *g) { return &g->err; }
bool qn__failed(const qn_graph *g) { return g->err.code != 0; }

static void *chunk_alloc(qn_graph *g, size_t bytes)
{
    size_t need = (bytes + 15) & ~(size_t)15, header = (sizeof(struct qn__chunk) + 15) & ~(size_t)15;
    if (need < bytes) return NULL;
    if (!g->chunk || g->chunk->size - g->chunk->used < need) {
        size_t size = header + (need > 16384 ? need : 16384);
        if (size < need) return NULL;
        struct qn__chunk *c = qn__calloc(&g->alloc, 1, size);
        if (!c) return NULL;
        *c = (struct qn__chunk){ .next = g->chunk, .size = size, .used = header };
        g->chunk = c;
    }
    void *p = (char *)g->chunk + g->chunk->used;
    g->chunk->used += need;
    return p;
}

void *qn__graph_copy(qn_graph *g, const void *data, size_t bytes)
{
    void *p = chunk_alloc(g, bytes);
    if (!p)
        qn__graph_fail(g, 5002, "graph", "cannot allocate %zu bytes", bytes);
    else if (bytes)
        memcpy(p, data, bytes);
    return p;
}

/* ---- scopes and errors ------------------------------------------------------------------------ */

void qn_scope_push(qn_graph *g, const char *name)
{
    size_t at = strlen(g->scope), n = strlen(name);
    if (n == 0 || at + n + 2 > QN_SCOPE_MAX || g->scope_depth == QN_SCOPE_DEPTH) {
        qn__graph_fail(g, 2207, "scope", "name of %zu bytes at depth %d; expected 1..%zu, depth below %d", n,
                       g->scope_depth, QN_SCOPE_MAX - 2 - at, QN_SCOPE_DEPTH);
        return;
    }
    g->scope_start[g->scope_depth++] = (uint16_t)at;
    memcpy(g->scope + at, name, n);
    memcpy(g->scope + at + n, ".", 2);
}

void qn_scope_pop(qn_graph *g)
{
    if (g->err.code) return; /* the push may have been what failed */
    if (g->scope_depth == 0) {
        qn__graph_fail(g, 2207, "scope", "pop without push");
        return;
    }
    g->scope[g->scope_start[--g->scope_depth]] = 0;
}

const char *qn__scoped(qn_graph *g, const char *name)
{
    size_t a = strlen(g->scope), b = strlen(name);
    char *s = chunk_alloc(g, a + b + 1);
    if (!s) {
        qn__graph_fail(g, 5002, "graph", "cannot allocate %zu bytes", a + b + 1);
        return "";
    }
    memcpy(s, g->scope, a);
    memcpy(s + a, name, b + 1);
    return s;
}

qn_t qn_graph_fail(qn_graph *g, int code, const char *what, const char *fmt, ...)
{
    if (g->err.code) return (qn_t){ 0 }; /* the first error is the one worth reading */
    char message[320], field[QN_SCOPE_MAX + 80];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    size_t n = strlen(g->scope);
    snprintf(field, sizeof field, "%.*s%s%s", n ? (int)n - 1 : 0, g->scope, n ? ": " : "", what);
    qn__fail(&g->err, code, QN_AT_FIELD(field), "%s", message);
    return (qn_t){ 0 };
}

void qn_graph_phase(qn_graph *g, qn_phase phase) { g->phase = phase; }

/* ---- questions -------------------------------------------------------------------------------- */

static bool valid(const qn_graph *g, qn_t t) { return t.id > 0 && t.id < g->n; }
const struct qn__node *qn__at(const qn_graph *g, qn_t t) { return &g->node[valid(g, t) ? t.id : 0]; }
int qn_rank(const qn_graph *g, qn_t t) { return qn__at(g, t)->rank; }
int64_t qn_dim(const qn_graph *g, qn_t t, int axis)
{
    const struct qn__node *y = qn__at(g, t);
    if (axis < 0) axis += y->rank;
    return axis >= 0 && axis < y->rank ? y->dim[axis] : 0;
}
int64_t qn_count(const qn_graph *g, qn_t t) { return qn__at(g, t)->count; }
qn_dtype qn_dtype_of(const qn_graph *g, qn_t t) { return qn__at(g, t)->dtype; }
int64_t qn_node_count(const qn_graph *g) { return g->n - 1; }
const char *qn_name(const qn_graph *g, qn_t t) { return qn__at(g, t)->name; }

int qn_graph_tensors(const qn_graph *g, int kind, qn_t *out, int max)
{
    int n = 0;
    for (int32_t i = 1; i < g->n; i++) {
        const struct qn__store_attr *attr = g->node[i].attr;
        if (g->node[i].op != QN_OP_store || attr->kind != kind) continue;
        if (n < max) out[n] = (qn_t){ i };
        n++;
    }
    return n;
}

struct qn__dims_text qn__dims_show(int rank, const int64_t *dim)
{
    struct qn__dims_text t = { "[" };
    size_t at = 1;
    for (int i = 0; i < rank; i++)
        at += (size_t)snprintf(t.s + at, sizeof t.s - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    snprintf(t.s + at, sizeof t.s - at, "]");
    return t;
}

/* ---- appending -------------------------------------------------------------------------------- */

/* Adds the operands' shapes and the scope to what an infer function said. */
static void fail_shapes(qn_graph *g, const char *op, const struct qn__node *const *x, int n_in, const qn_error *e)
{
    static const char prefix_end[] = ": ";
    const char *message = strstr(e->text, prefix_end);
    char shapes[200] = "";
    size_t at = 0;
    for (int i = 0; i < n_in && at < sizeof shapes; i++)
        at += (size_t)snprintf(shapes + at, sizeof shapes - at, " %s", qn__dims_show(x[i]->rank, x[i]->dim).s);
    qn__graph_fail(g, e->code, op, "%s;%s%s", message ? message + 2 : e->text, n_in ? " operands" : "", shapes);
}

static bool set_shape(qn_graph *g, struct qn__node *y, const char *op)
{
    if (y->rank < 0 || y->rank > QN_MAX_DIMS || !qn__count(&y->count, y->dim, y->rank)) {
        int rank = y->rank < 0 ? 0 : y->rank > QN_MAX_DIMS ? QN_MAX_DIMS : y->rank;
        qn__graph_fail(g, 2203, op, "%s, rank %d; expected rank 0..%d, dims >= 0, fewer than 2^48 elements",
                       qn__dims_show(rank, y->dim).s, y->rank, QN_MAX_DIMS);
        return false;
    }
    for (int i = y->rank; i < QN_MAX_DIMS; i++) y->dim[i] = 0;
    return true;
}

static bool set_operands(qn_graph *g, struct qn__node *y, const struct qn__op *op, const qn_t *x, int n_in,
                         const struct qn__node **in)
{
    if (n_in > QN_MAX_IN) {
        qn__graph_fail(g, 2204, op->name, "%d operands; expected at most %d", n_in, QN_MAX_IN);
        return false;
    }
    y->n_in = n_in;
    for (int i = 0; i < n_in; i++) {
        if (!valid(g, x[i])) {
            qn__graph_fail(g, 2206, op->name, "operand %d is value %d; expected 1..%d", i, x[i].id, g->n - 1);
            return false;
        }
        y->in[i] = x[i].id;
        in[i] = &g->node[x[i].id];
    }
    return true;
}

static qn_t append(qn_graph *g, struct qn__node *y)
{
    if (g->n == INT32_MAX || !qn__grow(&g->alloc, &g->node, &g->cap, (size_t)g->n + 1, sizeof *g->node))
        return qn__graph_fail(g, 5002, "graph", "cannot hold %d values", g->n);
    g->node[g->n] = *y;
    return (qn_t){ g->n++ };
}

qn_t qn__node(qn_graph *g, enum qn__opcode opcode, const qn_t *x, int n_in, const void *attr)
{
    return qn__node_shaped(g, opcode, x, n_in, attr, QN_DTYPE_COUNT, 0, NULL, NULL, NULL);
}

qn_t qn__node_shaped(qn_graph *g, enum qn__opcode opcode, const qn_t *x, int n_in, const void *attr, qn_dtype dtype,
                     int rank, const int64_t *dims, const char *name, const void *data)
{
    if (g->err.code) return (qn_t){ 0 };
    const struct qn__op *op = qn__op_of(opcode);
    const struct qn__node *in[QN_MAX_IN] = { NULL };
    struct qn__node y = {
        .op = opcode, .dtype = dtype, .rank = rank, .block = QN_PLAIN, .phase = g->phase, .data = data
    };
    if (!set_operands(g, &y, op, x, n_in, in)) return (qn_t){ 0 };
    if (op->attr_size && !(y.attr = qn__graph_copy(g, attr, op->attr_size))) return (qn_t){ 0 };
    for (int i = 0; dims && i < rank && i < QN_MAX_DIMS; i++) y.dim[i] = dims[i];
    qn_error e = { 0 };
    if (op->infer && op->infer(in, &y, &e)) {
        fail_shapes(g, op->name, in, n_in, &e);
        return (qn_t){ 0 };
    }
    if (!set_shape(g, &y, op->name)) return (qn_t){ 0 };
    y.name = name ? name : g->scope[0] ? qn__scoped(g, op->name) : op->name;
    return append(g, &y);
}

qn_t qn__output(qn_graph *g, qn_t y, int index, qn_dtype dtype, int rank, const int64_t *dims)
{
    struct qn__output_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.index = index;
    if (g->err.code) return (qn_t){ 0 };
    for (int32_t i = y.id + 1; i < g->n; i++) {
        const struct qn__node *old = &g->node[i];
        if (old->op == QN_OP_output && old->in[0] == y.id && memcmp(old->attr, &attr, sizeof attr) == 0)
            return (qn_t){ i };
    }
    qn_phase phase = g->phase; /* it is there when y is, whenever somebody asks for it */
    g->phase = qn__at(g, y)->phase;
    qn_t t = qn__node_shaped(g, QN_OP_output, &y, 1, &attr, dtype, rank, dims, qn__at(g, y)->name, NULL);
    g->phase = phase;
    return t;
}

int32_t qn__graph_carry(qn_graph *to, const qn_graph *from, int32_t i, const int32_t *map)
{
    if (to->err.code) return 0;
    struct qn__node y = from->node[i];
    const struct qn__op *op = qn__op_of(y.op);
    for (int k = 0; k < y.n_in; k++) y.in[k] = map[y.in[k]];
    y.name = qn__graph_copy(to, y.name, strlen(y.name) + 1);
    if (op->attr_size) y.attr = qn__graph_copy(to, y.attr, op->attr_size);
    if (y.data) y.data = qn__graph_copy(to, y.data, (size_t)y.count * qn_dtype_size(y.dtype));
    if (to->err.code) return 0;
    return append(to, &y).id;
}

/* ---- shape rules that several operators share -------------------------------------------------- */

qn_status qn__infer_like(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    (void)err;
    y->dtype = x[0]->dtype;
    y->rank = x[0]->rank;
    memcpy(y->dim, x[0]->dim, sizeof y->dim);
    return QN_OK;
}

bool qn__broadcast_dims(int *rank, int64_t *dim, int rank_a, const int64_t *a, int rank_b, const int64_t *b)
{
    *rank = rank_a > rank_b ? rank_a : rank_b;
    for (int i = 0; i < *rank; i++) {
        int64_t da = i < *rank - rank_a ? 1 : a[i - (*rank - rank_a)];
        int64_t db = i < *rank - rank_b ? 1 : b[i - (*rank - rank_b)];
        if (da != db && da != 1 && db != 1) return false;
        dim[i] = da == 1 ? db : da;
    }
    return true;
}

bool qn__same_dims(const struct qn__node *a, const struct qn__node *b)
{
    return a->rank == b->rank && memcmp(a->dim, b->dim, (size_t)a->rank * sizeof a->dim[0]) == 0;
}

qn_dtype qn__compute_dtype(const struct qn__node *const *x, const struct qn__node *y)
{
    bool floats = qn_dtype_is_float(y->dtype), wide = y->dtype == QN_I64 || y->dtype == QN_I32;
    if (y->dtype == QN_F64) return QN_F64;
    for (int i = 0; i < y->n_in; i++) {
        if (x[i]->dtype == QN_F64) return QN_F64;
        floats = floats || qn_dtype_is_float(x[i]->dtype);
        wide = wide || x[i]->dtype == QN_I64 || x[i]->dtype == QN_I32;
    }
    /* Pointwise work on integers alone runs in double, which holds them exactly up to 2^53. */
    return wide && !floats ? QN_F64 : QN_F32;
}

/* ---- sources ----------------------------------------------------------------------------------- */

static bool check_name(qn_graph *g, const char *what, const char *name)
{
    if (name && name[0] && strlen(name) < 256) return true;
    qn__graph_fail(g, 2207, what, "name of %zu bytes; expected 1..255", name ? strlen(name) : (size_t)0);
    return false;
}

static int32_t find_named(const qn_graph *g, enum qn__opcode op, const char *name)
{
    for (int32_t i = 1; i < g->n; i++)
        if (g->node[i].op == op && strcmp(g->node[i].name, name) == 0) return i;
    return 0;
}

static bool check_dtype(qn_graph *g, const char *what, qn_dtype dtype, int rank)
{
    if ((unsigned)dtype < QN_DTYPE_COUNT && rank >= 0 && rank <= QN_MAX_DIMS) return true;
    qn__graph_fail(g, 2203, what, "dtype %d, rank %d; expected a dtype of base.h and rank 0..%d", (int)dtype, rank,
                   QN_MAX_DIMS);
    return false;
}

qn_t qn_input(qn_graph *g, const char *name, qn_dtype dtype, int rank, const int64_t *dims)
{
    if (g->err.code || !check_name(g, "input", name) || !check_dtype(g, "input", dtype, rank)) return (qn_t){ 0 };
    const char *scoped = qn__scoped(g, name);
    if (find_named(g, QN_OP_input, scoped))
        return qn__graph_fail(g, 2207, "input", "\"%s\" exists already; expected a new name", qn__show(scoped).s);
    return qn__node_shaped(g, QN_OP_input, NULL, 0, NULL, dtype, rank, dims, scoped, NULL);
}

qn_t qn_tensor(qn_graph *g, qn_kind kind, const char *name, qn_dtype dtype, int rank, const int64_t *dims,
               const qn_init *init)
{
    if (g->err.code || !check_name(g, "tensor", name) || !check_dtype(g, "tensor", dtype, rank)) return (qn_t){ 0 };
    const char *scoped = qn__scoped(g, name);
    struct qn__store_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.kind = kind;
    if (init) {
        attr.init.kind = init->kind;
        attr.init.a = init->a;
        attr.init.b = init->b;
        attr.init.gain = init->gain;
        attr.init.fan_in = init->fan_in;
        attr.init.fan_out = init->fan_out;
    }
    int32_t old = find_named(g, QN_OP_store, scoped);
    if (!old) return qn__node_shaped(g, QN_OP_store, NULL, 0, &attr, dtype, rank, dims, scoped, NULL);
    const struct qn__node *y = &g->node[old];
    const struct qn__store_attr *before = y->attr;
    if (before->kind != (int32_t)kind)
        return qn__graph_fail(g, 2207, "tensor", "\"%s\" is of kind %d here; expected kind %d as before",
                              qn__show(scoped).s, (int)kind, before->kind);
    if (y->dtype != dtype || y->rank != rank || memcmp(y->dim, dims, (size_t)rank * sizeof *dims) != 0)
        return qn__graph_fail(g, 2207, "tensor", "\"%s\" is %s %s here; expected %s %s as before", qn__show(scoped).s,
                              qn_dtype_name(dtype), qn__dims_show(rank, dims).s, qn_dtype_name(y->dtype),
                              qn__dims_show(y->rank, y->dim).s);
    return (qn_t){ old };
}

qn_t qn_param(qn_graph *g, const char *name, qn_dtype dtype, int rank, const int64_t *dims, const qn_init *init)
{
    return qn_tensor(g, QN_PARAM, name, dtype, rank, dims, init);
}

qn_t qn__global_tensor(qn_graph *g, qn_kind kind, const char *name, int64_t count)
{
    if (g->err.code) return (qn_t){ 0 };
    int32_t old = find_named(g, QN_OP_store, name);
    if (old) return (qn_t){ old };
    struct qn__store_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.kind = kind;
    return qn__node_shaped(g, QN_OP_store, NULL, 0, &attr, QN_I64, 1, &count, name, NULL);
}

qn_t qn_full(qn_graph *g, qn_dtype dtype, int rank, const int64_t *dims, double value)
{
    if (g->err.code || !check_dtype(g, "full", dtype, rank)) return (qn_t){ 0 };
    return qn__node_shaped(g, QN_OP_full, NULL, 0, &(struct qn__full_attr){ value }, dtype, rank, dims, NULL, NULL);
}
qn_t qn_scalar(qn_graph *g, qn_dtype dtype, double value) { return qn_full(g, dtype, 0, NULL, value); }

qn_t qn_constant(qn_graph *g, qn_dtype dtype, int rank, const int64_t *dims, const void *data)
{
    int64_t count;
    if (g->err.code || !check_dtype(g, "constant", dtype, rank)) return (qn_t){ 0 };
    if (!qn__count(&count, dims, rank))
        return qn__graph_fail(g, 2203, "constant", "%s; expected dims >= 0, fewer than 2^48 elements",
                              qn__dims_show(rank, dims).s);
    void *copy = qn__graph_copy(g, data, (size_t)count * qn_dtype_size(dtype));
    return qn__node_shaped(g, QN_OP_constant, NULL, 0, NULL, dtype, rank, dims, NULL, copy);
}

static qn_status infer_source(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    (void)x;
    (void)y;
    (void)err;
    return QN_OK;
}
static struct qn__cost cost_source(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    (void)y;
    return (struct qn__cost){ 0, 0 };
}
#define SOURCE(row, why, ...) \
    const struct qn__op qn__op_##row = { \
        .name = #row, .infer = infer_source, .cost = cost_source, .no_gradient = why, __VA_ARGS__ \
    }
SOURCE(input, "it has no operands", .effect = true);
SOURCE(store, "it has no operands", .attr_size = sizeof(struct qn__store_attr), .effect = true);
SOURCE(full, "it has no operands", .attr_size = sizeof(struct qn__full_attr));
SOURCE(constant, "it has no operands", .effect = false);
