/* direct.c - runs the kernels of a case one by one, each value in guarded memory of its own. */
#include "ops.h"
#include "../../core/philox.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { GUARD = 64, GUARD_BYTE = 0x5C };

struct direct_value {
    unsigned char *base; /* NULL if the bytes are another value's */
    unsigned char *data;
    size_t bytes;
    int32_t block;
};

uint64_t direct_hits[2][QN_OP_COUNT][OP_MAX_VARIANTS];

bool op_present(enum qn__opcode op)
{
    return op_cases_of[op] && qn__op_of(op) && qn__cpu_f32.kernel[op] && qn__cpu_f64.kernel[op];
}

bool op_asked_for(enum qn__opcode op, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], qn__op_of(op)->name) == 0) return true;
    return argc < 2;
}

/* ---- guarded memory ------------------------------------------------------------------------------ */

static struct direct_value guarded(size_t bytes, unsigned char fill)
{
    size_t all = (GUARD + bytes + GUARD + 63) / 64 * 64;
    struct direct_value v = { .base = aligned_alloc(64, all), .bytes = bytes, .block = QN_PLAIN };
    assert_non_null(v.base);
    v.data = v.base + GUARD;
    memset(v.base, GUARD_BYTE, all);
    memset(v.data, fill, bytes);
    return v;
}

static void check_guards(const struct direct_value *v, const char *op, const char *what)
{
    if (!v->base) return;
    for (int i = 0; i < GUARD; i++)
        if (v->base[i] != GUARD_BYTE || v->data[v->bytes + (size_t)i] != GUARD_BYTE)
            fail_msg("%s wrote outside its %s (%zu bytes)", op, what, v->bytes);
}

/* ---- values of operands --------------------------------------------------------------------------- */

qn_dtype op_in_dtype(const struct op_in *in, qn_dtype real) { return in->dtype == QN_F32 ? real : in->dtype; }

int64_t op_in_count(const struct op_in *in)
{
    int64_t n = 0;
    assert_true(qn__count(&n, in->dim, in->rank));
    return n;
}

static void draw(const struct op_case *c, int operand, double *v, int64_t n)
{
    const struct op_in *in = &c->in[operand];
    bool whole = !qn_dtype_is_float(in->dtype) || in->values == OP_TIES;
    double low = in->low, high = in->high;
    if (low == 0 && high == 0) {
        low = in->values == OP_AWAY ? 0.25 : whole && in->values != OP_TIES ? 0 : -2;
        high = in->values == OP_TIES ? 3 : 2;
    }
    uint64_t key = qn__stream_key(20240917u + (uint64_t)operand, qn__hash_str(c->name));
    for (int64_t i = 0; i < n; i++) {
        struct qn__words w = qn__philox(key, (uint32_t)i, (uint32_t)(i >> 32), 0, 0);
        double x = low + (high - low) * qn__unit_f64(w.w[0]);
        if (in->values == OP_DISTINCT) x = low + (high - low) * ((double)i + 0.5) / (double)n;
        if (in->values == OP_AWAY && (w.w[1] & 1)) x = -x;
        v[i] = in->values == OP_ZEROS ? 0 : whole ? floor(x) : x;
        if (in->values != OP_DISTINCT) continue;
        int64_t j = (int64_t)(w.w[2] % (uint64_t)(i + 1)); /* Fisher and Yates, from inside out */
        double t = v[j];
        v[j] = v[i];
        v[i] = t;
    }
}

void op_fill(const struct op_case *c, int i, qn_dtype real, void *data)
{
    const struct op_in *in = &c->in[i];
    size_t n = (size_t)op_in_count(in);
    double *v = calloc(n + 1, sizeof *v);
    float *f = calloc(n + 1, sizeof *f);
    assert_true(v && f);
    draw(c, i, v, (int64_t)n);
    if (qn_dtype_is_float(in->dtype)) { /* the same values in both runs */
        qn_convert(f, QN_F32, v, QN_F64, n);
        qn_convert(v, QN_F64, f, QN_F32, n);
    }
    qn_dtype dtype = op_in_dtype(in, real);
    qn_convert(data, dtype, v, QN_F64, n);
    if (in->edit) in->edit(c, data, dtype, (int64_t)n);
    free(v);
    free(f);
}

static void put(void *data, qn_dtype dtype, int64_t i, double value)
{
    qn_convert((char *)data + (size_t)i * qn_dtype_size(dtype), dtype, &value, QN_F64, 1);
}

static void fill_operand(struct direct *d, int i, const struct direct_plant *plant, void *data)
{
    qn_dtype dtype = op_in_dtype(&d->c->in[i], d->real);
    op_fill(d->c, i, d->real, data);
    if (!plant) return;
    if (plant->operand == i) put(data, dtype, plant->element, plant->value);
    for (int64_t k = 0; plant->magnitudes && dtype == d->real && k < op_in_count(&d->c->in[i]); k++) {
        if (dtype == QN_F32)
            ((float *)data)[k] = fabsf(((float *)data)[k]);
        else
            ((double *)data)[k] = fabs(((double *)data)[k]);
    }
}

/* ---- physical layouts ------------------------------------------------------------------------------ */

int op_blocks(const struct op_case *c, int32_t block[4])
{
    int n = 0;
    for (int i = 0; i < c->n_in && n == 0; i++) {
        const struct op_in *in = &c->in[i];
        if (in->rank != 4) continue;
        const int64_t wanted[] = { 8, 16, in->dim[1] };
        block[n++] = QN_ANY_BLOCK;
        for (int k = 0; k < 3; k++)
            if (wanted[k] > 1 && wanted[k] < 4096 && in->dim[1] % wanted[k] == 0 && block[n - 1] != wanted[k])
                block[n++] = (int32_t)wanted[k];
    }
    return n;
}

static int64_t physical(const struct qn__node *y, int32_t block, int64_t logical)
{
    if (block == QN_PLAIN) return logical;
    int64_t s = y->dim[2] * y->dim[3], at = logical % s, c = logical / s % y->dim[1], n = logical / s / y->dim[1];
    return ((n * (y->dim[1] / block) + c / block) * s + at) * block + c % block;
}

static void convert_layout(const struct qn__node *y, void *to, int32_t to_block, const void *from, int32_t from_block)
{
    size_t size = qn_dtype_size(y->dtype);
    for (int64_t i = 0; i < y->count; i++)
        memcpy((char *)to + (size_t)physical(y, to_block, i) * size,
               (const char *)from + (size_t)physical(y, from_block, i) * size, size);
}

static bool divides(const struct qn__node *x, int32_t block)
{
    return x->rank == 4 && x->count && x->dim[1] % block == 0;
}

/* The orders a layout pass would offer; the result is open where the kernel decides it. */
static void offer_layout(const struct direct *d, const struct qn__op *op, const struct qn__node *const *x,
                         const struct qn__node *y, const struct direct_opts *o, struct qn__args *a)
{
    bool ask = op->layout == QN_LAYOUT_ASK, same = op->layout == QN_LAYOUT_SAME;
    if (y->op == QN_OP_reorder) a->x[0].block = d->value[y->in[0]].block;
    if (ask && (o->block != QN_PLAIN || y->op == QN_OP_reorder) && y->rank == 4) a->y.block = QN_ANY_BLOCK;
    if (o->block == QN_PLAIN || o->block == QN_ANY_BLOCK || op->layout == QN_LAYOUT_PLAIN) return;
    for (int i = 0; i < y->n_in; i++) {
        bool wanted = same ? qn__same_dims(x[i], y) : i == 0 || qn__same_dims(x[i], x[0]) || qn__same_dims(x[i], y);
        if (wanted && divides(x[i], o->block)) a->x[i].block = o->block;
    }
    if (same && divides(y, o->block)) a->y.block = o->block;
}

static qn_status ask(const struct qn__kernel *k, struct qn__step *s)
{
    struct qn__args *a = &s->args;
    s->choice = (struct qn__choice){ .y_block = a->y.block };
    for (int i = 0; i < a->n_in; i++) s->choice.x_block[i] = a->x[i].block;
    return k->pick ? k->pick(a, &s->choice) : QN_OK;
}

/* As the layout pass, then the compiler: the kernel is asked what it wants if it may say so, then told. */
static qn_status pick(struct direct *d, const struct qn__op *op, const struct qn__kernel *k, struct qn__step *s)
{
    struct qn__args *a = &s->args;
    qn_status status = ask(k, s);
    bool open = op->layout == QN_LAYOUT_ASK, refused = status != QN_OK;
    if (refused && op->layout == QN_LAYOUT_SAME) return status; /* each of them takes every order */
    for (int i = 0; i < a->n_in; i++) {
        if (refused) a->x[i].block = QN_PLAIN;
        if (open && !refused) a->x[i].block = s->choice.x_block[i];
        d->blocked = d->blocked || a->x[i].block != QN_PLAIN;
    }
    if (refused) a->y.block = QN_PLAIN;
    if (open && !refused) a->y.block = s->choice.y_block;
    d->blocked = d->blocked || a->y.block != QN_PLAIN;
    return ask(k, s);
}

/* ---- one node --------------------------------------------------------------------------------------- */

static struct qn__view view_of(const struct qn__node *n, void *data)
{
    struct qn__view v = { .data = data, .dtype = n->dtype, .rank = n->rank, .block = QN_PLAIN, .count = n->count };
    memcpy(v.dim, n->dim, sizeof v.dim);
    return v;
}

/* y lies on the first operand of its size and layout. */
static void lay_on_operand(struct direct *d, const struct qn__node *y, struct qn__args *a)
{
    for (int i = 0; i < a->n_in; i++) {
        const struct qn__view *x = &a->x[i];
        if (x->count != a->y.count || x->block != a->y.block || x->rank != a->y.rank ||
            memcmp(x->dim, a->y.dim, sizeof x->dim) != 0 || qn_dtype_size(x->dtype) != qn_dtype_size(a->y.dtype))
            continue;
        memcpy(a->y.data, x->data, (size_t)x->count * qn_dtype_size(x->dtype));
        for (int k = a->n_in - 1; k >= i; k--)
            if (y->in[k] == y->in[i]) a->x[k].data = a->y.data;
        d->on_operand = true;
        return;
    }
}

static qn_status launch(struct direct *d, const struct qn__kernel *k, struct qn__step *s, const struct direct_opts *o)
{
    if (k->prepare) QN_TRY(k->prepare(s, &d->err));
    struct direct_value work = guarded(s->choice.workspace, o->fill);
    s->workspace = work.data;
    qn_status status = k->bind ? k->bind(s, &d->err) : QN_OK;
    if (!status) status = k->launch(s, &d->err);
    if (k->release) k->release(s);
    check_guards(&work, qn__op_of(s->args.op)->name, "workspace");
    free(work.base);
    return status;
}

static void check_operands(const struct qn__op *op, const struct qn__args *a, const struct direct_value *x,
                           const uint64_t *hash)
{
    for (int i = 0; i < a->n_in; i++) {
        check_guards(&x[i], op->name, "operand");
        if (!(op->writes >> i & 1) && a->x[i].data != a->y.data && qn__hash(x[i].data, x[i].bytes) != hash[i])
            fail_msg("%s modified operand %d", op->name, i);
    }
}

/* Guarded memory for the results beside y that the case reads. */
static void add_further_results(struct direct *d, int32_t id, struct qn__args *a, const struct direct_opts *o)
{
    for (int32_t j = id + 1; qn__op_of(a->op)->more && j <= qn_node_count(d->g); j++) {
        const struct qn__node *t = qn__at(d->g, (qn_t){ j });
        if (t->op != QN_OP_output || t->in[0] != id) continue;
        int index = ((const struct qn__output_attr *)t->attr)->index;
        d->value[j] = guarded((size_t)t->count * qn_dtype_size(t->dtype), o->fill);
        a->more[index] = view_of(t, d->value[j].data);
        a->wanted |= 1u << index;
    }
}

static void run_node(struct direct *d, int32_t id, const struct direct_opts *o)
{
    struct qn__node y = *qn__at(d->g, (qn_t){ id });
    const struct qn__op *op = qn__op_of(y.op);
    const struct qn__node *in[QN_MAX_IN] = { NULL };
    struct qn__step s;
    memset(&s, 0, sizeof s);
    s.args = (struct qn__args){
        .op = y.op, .n_in = y.n_in, .attr = y.attr, .writes = op->writes, .threads = o->threads
    };
    for (int i = 0; i < y.n_in; i++) {
        in[i] = qn__at(d->g, qn__in(&y, i));
        s.args.x[i] = view_of(in[i], NULL);
    }
    s.args.y = view_of(&y, NULL);
    add_further_results(d, id, &s.args, o);
    bool wide = qn__compute_dtype(in, &y) == QN_F64;
    const struct qn__kernel *k = (wide ? &qn__cpu_f64 : &qn__cpu_f32)->kernel[y.op];
    if (!k || !k->launch) fail_msg("%s has no kernel", op->name);
    offer_layout(d, op, in, &y, o, &s.args);
    s.kernel = k;
    if (pick(d, op, k, &s)) fail_msg("%s: pick refuses a plain operand or a layout it must take", op->name);
    direct_hits[wide][y.op][s.choice.variant]++;

    struct direct_value x[QN_MAX_IN];
    uint64_t hash[QN_MAX_IN];
    for (int i = 0; i < y.n_in; i++) {
        struct direct_value *v = &d->value[y.in[i]];
        x[i] = *v;
        x[i].base = NULL;
        if (s.args.x[i].block != v->block) {
            x[i] = guarded(v->bytes, 0);
            convert_layout(in[i], x[i].data, s.args.x[i].block, v->data, v->block);
        }
        s.args.x[i].data = x[i].data;
        hash[i] = qn__hash(x[i].data, x[i].bytes);
    }
    struct direct_value *out = &d->value[id];
    if (op->writes) {
        *out = d->value[y.in[0]];
        out->base = NULL;
    } else {
        *out = guarded((size_t)y.count * qn_dtype_size(y.dtype), o->fill);
    }
    out->block = s.args.y.block;
    s.args.y.data = out->data;
    if (o->in_place && op->in_place) lay_on_operand(d, &y, &s.args);
    d->status = launch(d, k, &s, o);
    check_guards(out, op->name, "result");
    for (int32_t j = id + 1; op->more && j <= qn_node_count(d->g); j++)
        if (d->value[j].base) check_guards(&d->value[j], op->name, "further result");
    for (int i = 0; i < y.n_in; i++) check_guards(&d->value[y.in[i]], op->name, "operand");
    check_operands(op, &s.args, x, hash);
    for (int i = 0; i < y.n_in; i++) free(x[i].base);
}

/* ---- a case ------------------------------------------------------------------------------------------- */

static void run_source(struct direct *d, int32_t id, const struct direct_plant *plant)
{
    struct qn__node y = *qn__at(d->g, (qn_t){ id });
    size_t size = qn_dtype_size(y.dtype);
    struct direct_value *v = &d->value[id];
    if (y.op == QN_OP_reshape) {
        const struct direct_value *x = &d->value[y.in[0]];
        const struct qn__node *from = qn__at(d->g, qn__in(&y, 0));
        *v = guarded(x->bytes, 0);
        convert_layout(from, v->data, QN_PLAIN, x->data, x->block);
        return;
    }
    *v = guarded((size_t)y.count * size, 0);
    if (y.op == QN_OP_constant) memcpy(v->data, y.data, v->bytes);
    for (int64_t i = 0; y.op == QN_OP_full && i < y.count; i++)
        put(v->data, y.dtype, i, ((const struct qn__full_attr *)y.attr)->value);
    for (int i = 0; i < d->c->n_in; i++)
        if (d->x[i].id == id) fill_operand(d, i, plant, v->data);
}

static void build(struct direct *d, enum qn__opcode op)
{
    const struct op_case *c = d->c;
    assert_int_equal(qn_graph_new(&d->g, NULL), QN_OK);
    for (int i = 0; i < c->n_in; i++) {
        const struct op_in *in = &c->in[i];
        qn_dtype dtype = op_in_dtype(in, d->real);
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        d->x[i] = in->stored ? qn_tensor(d->g, QN_STATE, name, dtype, in->rank, in->dim, NULL)
                             : qn_input(d->g, name, dtype, in->rank, in->dim);
    }
    d->y = c->build(d->g, d->x, c);
    if (qn_graph_status(d->g)) fail_msg("case \"%s\": %s", c->name, qn_graph_error(d->g)->text);
    bool found = false;
    for (int32_t i = 1; i <= qn_node_count(d->g); i++) found = found || qn__at(d->g, (qn_t){ i })->op == op;
    if (!found) fail_msg("case \"%s\" builds no %s", c->name, qn__op_of(op)->name);
}

struct direct direct_run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *opts,
                         const struct direct_plant *plant)
{
    struct direct d = { .c = c, .real = real };
    build(&d, op);
    d.value = calloc((size_t)qn_node_count(d.g) + 1, sizeof *d.value);
    assert_non_null(d.value);
    for (int32_t i = 1; i <= qn_node_count(d.g) && !d.status; i++) {
        enum qn__opcode row = qn__at(d.g, (qn_t){ i })->op;
        if (row == QN_OP_output) continue; /* its operand's run has written it */
        if (row == QN_OP_input || row == QN_OP_store || row == QN_OP_full || row == QN_OP_constant ||
            row == QN_OP_reshape)
            run_source(&d, i, plant);
        else
            run_node(&d, i, opts);
    }
    return d;
}

void direct_free(struct direct *d)
{
    for (int64_t i = 0; i <= qn_node_count(d->g); i++) free(d->value[i].base);
    free(d->value);
    qn_graph_free(d->g);
    *d = (struct direct){ 0 };
}

static struct op_data data_of(const struct direct *d, qn_t t)
{
    const struct qn__node *y = qn__at(d->g, t);
    const struct direct_value *v = &d->value[t.id];
    struct op_data r = { .dtype = y->dtype, .rank = y->rank, .count = y->count };
    memcpy(r.dim, y->dim, sizeof r.dim);
    r.v = calloc((size_t)y->count + 1, sizeof *r.v);
    unsigned char *plain = calloc(v->bytes + 1, 1);
    assert_true(r.v && plain);
    convert_layout(y, plain, QN_PLAIN, v->data, v->block);
    qn_convert(r.v, QN_F64, plain, y->dtype, (size_t)y->count);
    free(plain);
    return r;
}

struct op_data direct_result(const struct direct *d) { return data_of(d, d->y); }
struct op_data direct_operand(const struct direct *d, int i) { return data_of(d, d->x[i]); }

bool direct_same_bits(const struct direct *a, const struct direct *b)
{
    const struct direct_value *u = &a->value[a->y.id], *v = &b->value[b->y.id];
    if (u->bytes != v->bytes || memcmp(u->data, v->data, u->bytes) != 0) return false;
    for (int i = 0; i < a->c->n_in; i++) {
        u = &a->value[a->x[i].id];
        v = &b->value[b->x[i].id];
        if (a->c->in[i].stored && memcmp(u->data, v->data, u->bytes) != 0) return false;
    }
    return true;
}
