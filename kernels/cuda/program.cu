/* program.cu - the host's part of pointwise programs: program.h says what is made here. */
#include "program.h"

bool qn__cuda_is_integers(const struct qn__args *a)
{
    bool wide = a->y.dtype == QN_I64 || a->y.dtype == QN_I32, floats = qn_dtype_is_float(a->y.dtype);
    for (int k = 0; k < a->n_in; k++) {
        wide = wide || a->x[k].dtype == QN_I64 || a->x[k].dtype == QN_I32;
        floats = floats || qn_dtype_is_float(a->x[k].dtype);
    }
    return wide && !floats;
}

/* The instructions of a node: fused has its own, a row is one, broadcast none. */
static struct qn__fused_attr rows_of(const struct qn__args *a)
{
    struct qn__fused_attr f = {};
    if (a->op == QN_OP_fused) return *(const struct qn__fused_attr *)a->attr;
    f.n_in = a->n_in;
    if (a->op == QN_OP_broadcast) return f;
    const struct qn__pw_attr *pw = (const struct qn__pw_attr *)a->attr;
    int last = a->n_in - 1;
    f.n = 1;
    f.instr[0] = { (int32_t)a->op, 0, last < 1 ? last : 1, last, pw->p, pw->q };
    return f;
}

static int operands_of(int op)
{
    switch (op) {
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    case QN_OP_##name: \
        return n_in;
#include "../../core/ops.def"
#undef OP
    default: return 0;
    }
}

/* ---- columns ------------------------------------------------------------------------------------------- */

/* What becomes of each value: registers of the attribute are its operands, then its results. */
struct values {
    int at[MAX_COLUMNS], last[MAX_COLUMNS], column[MAX_COLUMNS]; /* instruction that makes it, that reads it last */
    bool later[MAX_COLUMNS];                                     /* read by another than the next instruction */
    uint64_t used;                                               /* columns taken */
    int columns;
};

static void read_by(struct values *v, int value, int i)
{
    v->last[value] = i;
    if (i > v->at[value] + 1) v->later[value] = true;
}

/* Puts loads before the instructions that first need them; what each instruction makes is in made[]. */
static void order(const struct qn__fused_attr *f, struct program *p, struct values *v, int *made)
{
    bool loaded[QN_MAX_IN] = {};
    int n = 0;
    auto load = [&](int k) {
        if (k >= f->n_in || loaded[k]) return;
        loaded[k] = true;
        v->at[k] = n;
        made[n] = k;
        p->code[n] = {};
        p->code[n++].a = (int8_t)k;
    };
    for (int k = 0; k < f->n_in; k++)
        if (p->x[k].kind == KEPT) load(k);
    p->n_kept = n;
    for (int i = 0; i < f->n; i++) {
        const struct qn__pw_instr *o = &f->instr[i];
        int n_in = operands_of(o->op), from[3] = { o->a, o->b, o->c };
        for (int k = 0; k < n_in; k++) load(from[k]);
        for (int k = 0; k < n_in; k++) read_by(v, from[k], n);
        v->at[f->n_in + i] = n;
        made[n] = f->n_in + i;
        p->code[n] = { (int16_t)o->op, (int8_t)o->a, (int8_t)o->b, (int8_t)o->c, 0,
                       (int16_t)n_in,  (float)o->p,  (float)o->q };
        n++;
    }
    if (f->n == 0) load(0);
    p->n_code = n;
}

static int8_t take_column(struct values *v)
{
    int c = __builtin_ctzll(~v->used);
    v->used |= 1ull << c;
    if (c >= v->columns) v->columns = c + 1;
    return (int8_t)c;
}

/* Names of values become columns. A kept value's column is never free again. */
static void assign_columns(struct program *p, struct values *v, const int *made)
{
    for (int i = 0; i < p->n_code; i++) {
        struct instruction *o = &p->code[i];
        int8_t *from[3] = { &o->a, &o->b, &o->c };
        int value[3] = { o->a, o->b, o->c };
        bool kept = i < p->n_kept;
        for (int k = 0; k < o->n_in; k++) {
            bool just_made = v->at[value[k]] == i - 1 && v->at[value[k]] >= p->n_kept;
            *from[k] = just_made ? (int8_t)LAST : (int8_t)v->column[value[k]];
        }
        for (int k = 0; k < o->n_in; k++)
            if (v->last[value[k]] == i && v->later[value[k]] && v->at[value[k]] >= p->n_kept)
                v->used &= ~(1ull << v->column[value[k]]);
        o->to = NOWHERE;
        if (kept || v->later[made[i]]) v->column[made[i]] = o->to = take_column(v);
    }
    p->columns = v->columns;
}

/* ---- operands ------------------------------------------------------------------------------------------ */

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static bool is_half(int dtype) { return dtype == QN_BF16 || dtype == QN_F16; }

/* An operand that repeats with a period along y can be kept if every round of the grid moves on by whole periods. */
static bool can_keep(const struct qn__walk *w, int k, int group)
{
    return w->n == 2 && w->step[k][0] == 0 && w->step[k][1] == 1 && w->size[1] % group == 0;
}

/* Blocks: all the work, at most what fills the device four times; once if something is kept, for a thread to have many
 * rounds of it. period: 0, or elements that a round of the grid must be a multiple of. */
static int64_t grid_of(const struct qn__args *a, const struct program *p, bool keeps, int64_t period)
{
    int64_t tile = (int64_t)p->threads * ELEMENTS;
    int64_t fill = a->gpu->multiprocessors * (int64_t)(a->gpu->threads_per_multiprocessor / p->threads);
    int64_t most = keeps ? fill / 2 : 4 * fill;
    if (p->tiles <= most || period == 0) return p->tiles < most ? p->tiles : most;
    int64_t unit = period / common_divisor(period, tile);
    return unit > most ? 0 : most / unit * unit;
}

static void place_operands(const struct qn__args *a, const struct qn__walk *w, bool integers, struct program *p)
{
    int64_t period = 0;
    bool one = false;
    p->pairs = is_half(a->y.dtype);
    for (int k = 0; k < a->n_in; k++)
        if (qn__walk_kind(w, k) == QN_WALK_DENSE && !is_half(a->x[k].dtype)) p->pairs = false;
    for (int k = 0; k < a->n_in; k++) {
        enum qn__walk_kind kind = qn__walk_kind(w, k);
        p->x[k].dtype = a->x[k].dtype;
        p->x[k].kind = kind == QN_WALK_DENSE ? DENSE : kind == QN_WALK_ONE && !integers ? KEPT : STRIDED;
        one = one || p->x[k].kind == KEPT;
        if (!integers && p->x[k].kind == STRIDED && can_keep(w, k, p->pairs ? ELEMENTS : GROUP)) period = w->size[1];
        memcpy(p->x[k].step, w->step[k], sizeof p->x[k].step);
    }
    int64_t grid = grid_of(a, p, period > 0, period);
    for (int k = 0; k < a->n_in; k++)
        if (grid > 0 && period > 0 && p->x[k].kind == STRIDED && can_keep(w, k, p->pairs ? ELEMENTS : GROUP))
            p->x[k].kind = KEPT;
    p->grid = (int32_t)(grid > 0 ? grid : grid_of(a, p, one, 0));
}

void qn__cuda_program(const struct qn__args *a, bool integers, struct program *p)
{
    struct qn__fused_attr f = rows_of(a);
    struct qn__walk w;
    struct values v = {};
    int made[MAX_COLUMNS];
    int64_t block = QN_PLAIN;
    *p = {};
    qn__walk_block(a, &block);
    qn__walk_of(a, block, &w);
    p->dtype = a->y.dtype;
    p->count = a->y.count;
    p->narrow = p->count < INT32_MAX;
    p->n_dims = w.n;
    for (int i = 0; i < w.n; i++) p->size[i] = divisor_of(w.size[i] > 0 ? w.size[i] : 1);
    /* Columns of 32 threads always fit into shared memory; usually those of 128 do. */
    for (p->threads = 128;; p->threads /= 2) {
        v = {};
        p->tiles = ceil_div(p->count, (int64_t)p->threads * ELEMENTS);
        place_operands(a, &w, integers, p);
        order(&f, p, &v, made);
        assign_columns(p, &v, made);
        if (p->threads == 32 || p->columns * 32 * p->threads <= 48 * 1024) break;
    }
}
