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

struct direct_value {
    struct drive_memory memory;
    int32_t block;
};

uint64_t direct_hits[DIRECT_TARGETS][QN_OP_COUNT][OP_MAX_VARIANTS];

static void check_guards(const struct direct_value *v, const char *op, const char *what)
{
    if (!drive_intact(&v->memory)) fail_msg("%s wrote outside its %s (%zu bytes)", op, what, v->memory.bytes);
}

static bool asked_for(enum qn__opcode op, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], qn__op_of(op)->name) == 0) return true;
    return argc < 2;
}

int op_run_rows(const char *name, void (*test)(void **state), bool (*has)(enum qn__opcode op),
                const struct CMUnitTest *last, size_t n_last, int argc, char **argv)
{
    static enum qn__opcode row[QN_OP_COUNT];
    static struct CMUnitTest tests[QN_OP_COUNT + 4];
    size_t n = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        const struct qn__op *r = qn__op_of((enum qn__opcode)op);
        if ((has && !has((enum qn__opcode)op)) || !asked_for((enum qn__opcode)op, argc, argv)) continue;
        row[n] = (enum qn__opcode)op;
        tests[n] = (struct CMUnitTest){ r->name, test, NULL, NULL, &row[n] };
        n++;
    }
    for (size_t i = 0; argc < 2 && i < n_last && n < QN_OP_COUNT + 4; i++) tests[n++] = last[i];
    return _cmocka_run_group_tests(name, tests, n, NULL, NULL);
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

void op_round(void *data, qn_dtype dtype, qn_dtype storage, int64_t n)
{
    if (storage == QN_F32) return;
    uint16_t *half = calloc((size_t)n + 1, sizeof *half);
    assert_non_null(half);
    qn_convert(half, storage, data, dtype, (size_t)n);
    qn_convert(data, dtype, half, storage, (size_t)n);
    free(half);
}

static void put(void *data, qn_dtype dtype, int64_t i, double value)
{
    qn_convert((char *)data + (size_t)i * qn_dtype_size(dtype), dtype, &value, QN_F64, 1);
}

static void fill_operand(struct direct *d, int i, const struct direct_plant *plant, void *data)
{
    qn_dtype dtype = op_in_dtype(&d->c->in[i], d->real);
    op_fill(d->c, i, d->real, data);
    if (d->c->in[i].dtype == QN_F32) op_round(data, d->real, d->storage, op_in_count(&d->c->in[i]));
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

static struct qn__view view_of(const struct qn__node *n, void *data, int32_t block)
{
    return drive_view(n->dtype, n->rank, n->dim, block, data);
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

/* As the layout pass, then the compiler: the kernel is asked what it wants if it may say so, then told. */
static qn_status pick(struct direct *d, const struct qn__op *op, struct qn__step *s)
{
    struct qn__args *a = &s->args;
    qn_status status = drive_pick(s);
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
    return drive_pick(s);
}

/* ---- one node --------------------------------------------------------------------------------------- */

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

static void check_operands(const struct qn__op *op, const struct qn__args *a, const struct direct_value *x,
                           const uint64_t *hash)
{
    for (int i = 0; i < a->n_in; i++) {
        check_guards(&x[i], op->name, "operand");
        if (!(op->writes >> i & 1) && a->x[i].data != a->y.data &&
            qn__hash(x[i].memory.data, x[i].memory.bytes) != hash[i])
            fail_msg("%s modified operand %d", op->name, i);
    }
}

/* The row under test runs where the caller wants it; of the others those that the target has. */
static const struct drive_on *target_of(const struct direct *d, const struct qn__node *const *x,
                                        const struct qn__node *y, const struct direct_opts *o)
{
    if (o->on && (y->op == d->op || o->on->backend->kernel[y->op])) return o->on;
    return qn__compute_dtype(x, y) == QN_F64 ? &drive_cpu_f64 : &drive_cpu_f32;
}

/* Guarded memory for the results beside y that the case reads. */
static void add_further_results(struct direct *d, int32_t id, struct qn__args *a, const struct direct_opts *o)
{
    for (int32_t j = id + 1; qn__op_of(a->op)->more && j <= qn_node_count(d->g); j++) {
        const struct qn__node *t = qn__at(d->g, (qn_t){ j });
        if (t->op != QN_OP_output || t->in[0] != id) continue;
        int index = ((const struct qn__output_attr *)t->attr)->index;
        struct direct_value *v = &d->value[j];
        *v = (struct direct_value){ drive_take((size_t)t->count * qn_dtype_size(t->dtype), o->fill), QN_PLAIN };
        a->more[index] = view_of(t, v->memory.data, QN_PLAIN);
        a->wanted |= 1u << index;
    }
}

static struct qn__step step_of(struct direct *d, int32_t id, const struct drive_on **on, const struct direct_opts *o)
{
    const struct qn__node *y = qn__at(d->g, (qn_t){ id });
    const struct qn__op *op = qn__op_of(y->op);
    const struct qn__node *in[QN_MAX_IN] = { NULL };
    struct qn__args a = { .op = y->op, .n_in = y->n_in, .attr = y->attr, .writes = op->writes, .threads = o->threads };
    for (int i = 0; i < y->n_in; i++) {
        in[i] = qn__at(d->g, qn__in(y, i));
        a.x[i] = view_of(in[i], NULL, QN_PLAIN);
    }
    a.y = view_of(y, NULL, QN_PLAIN);
    add_further_results(d, id, &a, o);
    offer_layout(d, op, in, y, o, &a);
    *on = target_of(d, in, y, o);
    struct qn__step s = drive_step(*on, &a);
    if (pick(d, op, &s)) fail_msg("%s: pick refuses a plain operand or a layout it must take", op->name);
    int target = *on == &drive_cpu_f32 ? DIRECT_F32 : *on == &drive_cpu_f64 ? DIRECT_F64 : DIRECT_OTHER;
    direct_hits[target][y->op][s.choice.variant]++;
    return s;
}

/* The operand in the order that the kernel wants: its own bytes, or a copy in guarded memory. */
static struct direct_value operand_for(const struct direct *d, const struct qn__node *x, int32_t id, int32_t block)
{
    const struct direct_value *v = &d->value[id];
    struct direct_value mine = { .memory = { .data = v->memory.data, .bytes = v->memory.bytes }, .block = v->block };
    if (block == v->block) return mine;
    mine = (struct direct_value){ .memory = drive_take(v->memory.bytes, 0), .block = block };
    struct qn__view to = view_of(x, mine.memory.data, block), from = view_of(x, v->memory.data, v->block);
    drive_reorder(&to, &from);
    return mine;
}

static void run_node(struct direct *d, int32_t id, const struct direct_opts *o)
{
    struct qn__node y = *qn__at(d->g, (qn_t){ id });
    const struct qn__op *op = qn__op_of(y.op);
    const struct drive_on *on;
    struct qn__step s = step_of(d, id, &on, o);
    struct direct_value x[QN_MAX_IN], *out = &d->value[id];
    uint64_t hash[QN_MAX_IN];
    for (int i = 0; i < y.n_in; i++) {
        x[i] = operand_for(d, qn__at(d->g, qn__in(&y, i)), y.in[i], s.args.x[i].block);
        s.args.x[i].data = x[i].memory.data;
        hash[i] = qn__hash(x[i].memory.data, x[i].memory.bytes);
    }
    if (op->writes) {
        *out = d->value[y.in[0]];
        out->memory.base = NULL;
    } else {
        out->memory = drive_take((size_t)y.count * qn_dtype_size(y.dtype), o->fill);
    }
    out->block = s.args.y.block;
    s.args.y.data = out->memory.data;
    if (o->in_place && op->in_place) lay_on_operand(d, &y, &s.args);

    int n = qn_node_count(d->g) + 1;
    struct drive_memory *owner = calloc((size_t)n + QN_MAX_IN, sizeof *owner);
    assert_non_null(owner);
    for (int i = 0; i < n; i++) owner[i] = d->value[i].memory;
    for (int i = 0; i < y.n_in; i++) owner[n + i] = x[i].memory;
    d->status = drive_launch(on, &s, owner, n + y.n_in, 1, o->fill, &d->err);
    free(owner);

    check_guards(out, op->name, "result");
    for (int i = id + 1; op->more && i < n; i++) check_guards(&d->value[i], op->name, "further result");
    for (int i = 0; i < y.n_in; i++) check_guards(&d->value[y.in[i]], op->name, "operand");
    check_operands(op, &s.args, x, hash);
    for (int i = 0; i < y.n_in; i++) free(x[i].memory.base);
}

/* ---- a case ------------------------------------------------------------------------------------------- */

static void run_source(struct direct *d, int32_t id, const struct direct_plant *plant)
{
    struct qn__node y = *qn__at(d->g, (qn_t){ id });
    struct direct_value *v = &d->value[id];
    *v = (struct direct_value){ .memory = drive_take((size_t)y.count * qn_dtype_size(y.dtype), 0), .block = QN_PLAIN };
    void *data = v->memory.data;
    if (y.op == QN_OP_reshape) {
        const struct direct_value *x = &d->value[y.in[0]];
        struct qn__view from = view_of(qn__at(d->g, qn__in(&y, 0)), x->memory.data, x->block), to = from;
        to.data = data;
        to.block = QN_PLAIN;
        drive_reorder(&to, &from);
    }
    if (y.op == QN_OP_constant) memcpy(data, y.data, v->memory.bytes);
    for (int64_t i = 0; y.op == QN_OP_full && i < y.count; i++)
        put(data, y.dtype, i, ((const struct qn__full_attr *)y.attr)->value);
    for (int i = 0; i < d->c->n_in; i++)
        if (d->x[i].id == id) fill_operand(d, i, plant, data);
}

static void make_graph(struct direct *d)
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
}

/* A cast to the type that an operand has is no cast, for one. */
static bool has_row(const struct direct *d)
{
    for (int32_t i = 1; i <= qn_node_count(d->g); i++)
        if (qn__at(d->g, (qn_t){ i })->op == d->op) return true;
    return false;
}

bool direct_builds(enum qn__opcode op, const struct op_case *c, qn_dtype real)
{
    struct direct d = { .op = op, .c = c, .real = real };
    make_graph(&d);
    bool good = qn_graph_status(d.g) == QN_OK && has_row(&d);
    qn_graph_free(d.g);
    return good;
}

bool direct_takes(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct drive_on *on)
{
    struct direct d = { .op = op, .c = c, .real = QN_F32 };
    struct qn__args a = { .op = op, .threads = 1 };
    int floats = 0;
    make_graph(&d);
    for (int32_t id = 1; id <= qn_node_count(d.g) && !a.attr && !a.n_in; id++) {
        const struct qn__node *y = qn__at(d.g, (qn_t){ id });
        if (y->op != op) continue;
        a.n_in = y->n_in;
        a.attr = y->attr;
        a.writes = qn__op_of(op)->writes;
        a.y = view_of(y, NULL, QN_PLAIN);
        for (int i = 0; i < y->n_in; i++) a.x[i] = view_of(qn__at(d.g, qn__in(y, i)), NULL, QN_PLAIN);
        for (int i = 0; i <= y->n_in; i++) {
            struct qn__view *v = i < y->n_in ? &a.x[i] : &a.y;
            if (v->dtype != QN_F32) continue;
            v->dtype = real;
            floats++;
        }
    }
    struct qn__step s = drive_step(on, &a);
    bool taken = floats > 0 && drive_pick(&s) == QN_OK;
    qn_graph_free(d.g);
    return taken;
}

static void build(struct direct *d)
{
    const struct op_case *c = d->c;
    make_graph(d);
    if (qn_graph_status(d->g)) fail_msg("case \"%s\": %s", c->name, qn_graph_error(d->g)->text);
    if (!has_row(d)) fail_msg("case \"%s\" builds no %s", c->name, qn__op_of(d->op)->name);
}

struct direct direct_run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *opts,
                         const struct direct_plant *plant)
{
    struct direct d = { .op = op, .c = c, .real = real, .storage = opts->storage };
    build(&d);
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
    for (int64_t i = 0; i <= qn_node_count(d->g); i++) free(d->value[i].memory.base);
    free(d->value);
    qn_graph_free(d->g);
    *d = (struct direct){ 0 };
}

void *direct_bytes(const struct direct *d, qn_t t, size_t *bytes)
{
    const struct qn__node *y = qn__at(d->g, t);
    const struct direct_value *v = &d->value[t.id];
    unsigned char *plain = calloc(v->memory.bytes + 1, 1);
    assert_non_null(plain);
    struct qn__view to = view_of(y, plain, QN_PLAIN), from = view_of(y, v->memory.data, v->block);
    drive_reorder(&to, &from);
    *bytes = v->memory.bytes;
    return plain;
}

static struct op_data data_of(const struct direct *d, qn_t t)
{
    const struct qn__node *y = qn__at(d->g, t);
    struct op_data r = { .dtype = y->dtype, .rank = y->rank, .count = y->count };
    memcpy(r.dim, y->dim, sizeof r.dim);
    r.v = calloc((size_t)y->count + 1, sizeof *r.v);
    assert_non_null(r.v);
    size_t bytes;
    void *plain = direct_bytes(d, t, &bytes);
    qn_convert(r.v, QN_F64, plain, y->dtype, (size_t)y->count);
    free(plain);
    return r;
}

struct op_data direct_result(const struct direct *d) { return data_of(d, d->y); }
struct op_data direct_operand(const struct direct *d, int i) { return data_of(d, d->x[i]); }

static bool same_bits(const struct direct_value *u, const struct direct_value *v)
{
    return u->memory.bytes == v->memory.bytes && memcmp(u->memory.data, v->memory.data, u->memory.bytes) == 0;
}

bool direct_same_bits(const struct direct *a, const struct direct *b)
{
    if (!same_bits(&a->value[a->y.id], &b->value[b->y.id])) return false;
    for (int i = 0; i < a->c->n_in; i++)
        if (a->c->in[i].stored && !same_bits(&a->value[a->x[i].id], &b->value[b->x[i].id])) return false;
    return true;
}

uint64_t direct_hash(const struct direct *d)
{
    const struct drive_memory *m = &d->value[d->y.id].memory;
    uint64_t h = qn__hash(m->data, m->bytes);
    for (int i = 0; i < d->c->n_in; i++) {
        m = &d->value[d->x[i].id].memory;
        if (d->c->in[i].stored) h = h * 0x9E3779B97F4A7C15u + qn__hash(m->data, m->bytes);
    }
    return h;
}
