/* fused.c - every pointwise row of ops.def, and chains of them, in one pass over memory.
 *
 * y[i] = program(x0[i0], x1[i1], ...) in y's memory order; operands broadcast. The work goes in tiles of QN_TILE
 * elements: an instruction is one vector loop over a tile, intermediate tiles stay in the L1 cache, operands of
 * the element type that lie as y does are read in place, the last instruction writes to y. Tiles do not depend on
 * the number of threads and no element on its neighbours. y may be the memory of an operand of its size and dtype:
 * every loop reads element i of an operand before it writes element i. */
#include "pointwise.h"
#include "vecmath.h"
#include "../../core/half.h"

enum { QN_TILE = 512, QN_REGS = QN_MAX_IN + QN_FUSED_MAX };

/* ---- one row over one tile ---------------------------------------------------------------------- */

/* Arguments too large for the vector version of sin and cos go to libm; both give the same bits elsewhere. */
static bool any_above(const REAL *a, int n, REAL limit)
{
    int found = 0;
    for (int i = 0; i < n; i++) found |= FABS(a[i]) > limit;
    return found;
}
static void trig_large(enum qn__opcode op, REAL *y, const REAL *a, int n)
{
    for (int i = 0; i < n; i++) {
        if (FABS(a[i]) <= K(QN_TRIG_MAX))
            y[i] = op == QN_OP_sin ? SIN(a[i]) : COS(a[i]);
        else
            y[i] = (REAL)(op == QN_OP_sin ? sin((double)a[i]) : cos((double)a[i]));
    }
}

QN_CLONES static void run_row(enum qn__opcode op, REAL *y, const REAL *xa, const REAL *xb, const REAL *xc, REAL p,
                              REAL q, int n)
{
    switch ((int)op) {
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    case QN_OP_##name: \
        _Pragma("omp simd") for (int i = 0; i < n; i++) \
        { \
            REAL a = xa[i], b = n_in > 1 ? xb[i] : a, c = n_in > 2 ? xc[i] : a; \
            (void)b, (void)c, (void)p, (void)q; \
            y[i] = expression; \
        } \
        break;
#include "../../core/ops.def"
#undef OP
    }
}

/* a^p by the row a^b: of an exponent that all elements share the compiler makes branches, and then no vector loop. */
static void run_pow(REAL *y, const REAL *a, REAL p, int n)
{
    _Alignas(64) REAL exponent[QN_TILE];
    for (int i = 0; i < n; i++) exponent[i] = p;
    run_row(QN_OP_power, y, a, exponent, exponent, 0, 0, n);
}

/* ---- from and to other element types -------------------------------------------------------------- */

#define LOAD(type, value) \
    { \
        const type *s = (const type *)src->data + offset; \
        if (step == 1) \
            for (int64_t i = 0; i < n; i++) { \
                type v = s[i]; \
                y[i] = (REAL)(value); \
            } \
        else \
            for (int64_t i = 0; i < n; i++) { \
                type v = s[i * step]; \
                y[i] = (REAL)(value); \
            } \
        break; \
    }

QN_CLONES static void load_run(void *dst, const struct qn__view *src, int64_t offset, int64_t step, int64_t n)
{
    REAL *y = dst;
    switch (src->dtype) {
    case QN_F32: LOAD(float, v)
    case QN_F64: LOAD(double, v)
    case QN_BF16: LOAD(uint16_t, qn__f32_of_bf16(v))
    case QN_F16: LOAD(uint16_t, qn__f32_of_f16(v))
    case QN_I64: LOAD(int64_t, v)
    case QN_I32: LOAD(int32_t, v)
    case QN_I8: LOAD(int8_t, v)
    default: LOAD(uint8_t, v)
    }
}

/* Truncation towards zero; out of range saturates, NaN gives 0: as qn_convert. */
static inline int64_t saturate(REAL x, int64_t low, int64_t high)
{
    return x >= (REAL)high ? high : x <= (REAL)low ? low : x == x ? (int64_t)x : 0;
}

#define STORE(type, value) \
    { \
        type *d = (type *)dst->data + offset; \
        for (int i = 0; i < n; i++) { \
            REAL v = x[i]; \
            d[i] = (type)(value); \
        } \
        break; \
    }

QN_CLONES static void store_run(const struct qn__view *dst, int64_t offset, const REAL *x, int n)
{
    switch (dst->dtype) {
    case QN_F32: STORE(float, v)
    case QN_F64: STORE(double, v)
    case QN_BF16: STORE(uint16_t, qn__bf16_of_f32((float)v))
    case QN_F16: STORE(uint16_t, qn__f16_of_f32((float)v))
    case QN_I64: STORE(int64_t, saturate(v, INT64_MIN, INT64_MAX))
    case QN_I32: STORE(int32_t, saturate(v, INT32_MIN, INT32_MAX))
    case QN_I8: STORE(int8_t, saturate(v, INT8_MIN, INT8_MAX))
    case QN_U8: STORE(uint8_t, saturate(v, 0, UINT8_MAX))
    default: STORE(uint8_t, v != 0)
    }
}

/* ---- the plan of a node ------------------------------------------------------------------------------ */

/* Register r is an operand (r < n_in) or the result of instruction r - n_in. slot: its tile buffer, or none. */
enum { NO_SLOT = -1 };
struct plan {
    struct qn__walk walk;
    struct qn__fused_attr program;
    enum qn__walk_kind kind[QN_MAX_IN];
    int8_t slot[QN_REGS];
    bool to_y; /* the last instruction writes into y itself */
};

static struct qn__fused_attr program_of(const struct qn__args *a)
{
    struct qn__fused_attr f;
    if (a->op == QN_OP_fused) {
        memcpy(&f, a->attr, sizeof f);
        return f;
    }
    const struct qn__pw_attr *pw = a->attr;
    memset(&f, 0, sizeof f);
    f.n = 1;
    f.n_in = a->n_in;
    int last = a->n_in - 1;
    f.instr[0] = (struct qn__pw_instr){
        .op = (int32_t)a->op, .a = 0, .b = last < 1 ? last : 1, .c = last, .p = pw->p, .q = pw->q
    };
    return f;
}

/* Index of the last instruction that reads each register. */
static void last_uses(const struct qn__fused_attr *f, int8_t *last)
{
    memset(last, -1, QN_REGS);
    for (int i = 0; i < f->n; i++) {
        last[f->instr[i].a] = (int8_t)i;
        last[f->instr[i].b] = (int8_t)i;
        last[f->instr[i].c] = (int8_t)i;
    }
}

/* Gives each register that needs one a tile buffer; a buffer is free again after its register's last use. That of
 * a scalar operand is filled once per thread and so never free. */
static void assign_slots(struct plan *p, const struct qn__args *a)
{
    const struct qn__fused_attr *f = &p->program;
    int8_t last[QN_REGS];
    uint64_t used = 0;
    last_uses(f, last);
    for (int k = 0; k < f->n_in; k++) {
        p->kind[k] = qn__walk_kind(&p->walk, k);
        p->slot[k] = NO_SLOT;
        if (p->kind[k] == QN_WALK_DENSE && a->x[k].dtype == QN_REAL_DTYPE) continue;
        p->slot[k] = (int8_t)__builtin_ctzll(~used);
        used |= 1ull << p->slot[k];
    }
    p->to_y = a->y.dtype == QN_REAL_DTYPE;
    for (int i = 0; i < f->n; i++) {
        for (int r = 0; r < f->n_in + i; r++)
            if (last[r] == i && p->slot[r] >= 0 && !(r < f->n_in && p->kind[r] == QN_WALK_ONE))
                used &= ~(1ull << p->slot[r]);
        int8_t *slot = &p->slot[f->n_in + i];
        *slot = NO_SLOT;
        if (i == f->n - 1 && p->to_y) break;
        *slot = (int8_t)__builtin_ctzll(~used);
        used |= 1ull << *slot;
    }
}

/* ---- running it -------------------------------------------------------------------------------------- */

static void load_tile(const struct plan *p, const struct qn__args *a, int k, struct qn__cursor *c, int64_t at, int n,
                      REAL *buffer)
{
    if (p->kind[k] == QN_WALK_DENSE)
        load_run(buffer, &a->x[k], at, 1, n);
    else
        qn__walk_load(&p->walk, k, &a->x[k], c, (char *)buffer, n, sizeof *buffer, load_run);
}

static void run_program(const struct qn__fused_attr *f, REAL *const *reg, int n)
{
    for (int i = 0; i < f->n; i++) {
        const struct qn__pw_instr *o = &f->instr[i];
        enum qn__opcode op = (enum qn__opcode)o->op;
        REAL *y = reg[f->n_in + i];
        if ((op == QN_OP_sin || op == QN_OP_cos) && any_above(reg[o->a], n, K(QN_TRIG_MAX)))
            trig_large(op, y, reg[o->a], n);
        else if (op == QN_OP_pow)
            run_pow(y, reg[o->a], (REAL)o->p, n);
        else
            run_row(op, y, reg[o->a], reg[o->b], reg[o->c], (REAL)o->p, (REAL)o->q, n);
    }
}

/* Elements from..to of y; from is the start of a tile. */
static void run_range(const struct plan *p, const struct qn__args *a, int64_t from, int64_t to)
{
    _Alignas(64) REAL bank[QN_REGS][QN_TILE];
    struct qn__cursor cursor[QN_MAX_IN];
    REAL *reg[QN_REGS];
    const struct qn__fused_attr *f = &p->program;
    int n_reg = f->n_in + f->n, tile = to - from < QN_TILE ? (int)(to - from) : QN_TILE;
    for (int r = 0; r < n_reg; r++) reg[r] = p->slot[r] >= 0 ? bank[p->slot[r]] : NULL;
    for (int k = 0; k < f->n_in; k++) {
        if (p->kind[k] == QN_WALK_ONE) load_run(reg[k], &a->x[k], 0, 0, tile);
        if (p->kind[k] == QN_WALK_STRIDED) qn__cursor_seek(&p->walk, k, from, &cursor[k]);
    }
    for (int64_t at = from; at < to; at += tile) {
        int n = to - at < tile ? (int)(to - at) : tile;
        for (int k = 0; k < f->n_in; k++)
            if (p->slot[k] < 0)
                reg[k] = qn__real(&a->x[k]) + at;
            else if (p->kind[k] != QN_WALK_ONE)
                load_tile(p, a, k, &cursor[k], at, n, reg[k]);
        if (p->to_y) reg[n_reg - 1] = qn__real(&a->y) + at;
        run_program(f, reg, n);
        if (!p->to_y) store_run(&a->y, at, reg[n_reg - 1], n);
    }
}

/* ---- the kernel -------------------------------------------------------------------------------------- */

enum variant { IN_ORDER, STRIDED };

static qn_status pick(const struct qn__args *a, struct qn__choice *choice)
{
    struct qn__walk walk;
    int64_t block;
    if (!qn__walk_block(a, &block)) return QN_EUSAGE;
    qn__walk_of(a, block, &walk);
    choice->variant = IN_ORDER;
    for (int k = 0; k < a->n_in; k++) {
        if (qn__walk_kind(&walk, k) != QN_WALK_STRIDED) continue;
        /* y may be given this operand's bytes, so every element must be read where it is written. */
        if (a->x[k].count == a->y.count && a->y.count > 0) return QN_EUSAGE;
        choice->variant = STRIDED;
    }
    return QN_OK;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    struct plan *p = qn__calloc(&qn__std_alloc, 1, sizeof *p);
    if (!p) return qn__nomem(err, "pointwise", sizeof *p);
    int64_t block = QN_PLAIN;
    qn__walk_block(&s->args, &block);
    qn__walk_of(&s->args, block, &p->walk);
    p->program = program_of(&s->args);
    assign_slots(p, &s->args);
    s->state = p;
    return QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct plan *p = s->state;
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK; /* nothing to walk, and no dimension to divide by */
    int64_t tiles = (a->y.count + QN_TILE - 1) / QN_TILE;
    int threads = qn__threads_for(a, a->y.count * (1 + p->program.n / 4));
    if (threads > tiles) threads = (int)tiles;
    if (threads <= 1) {
        run_range(p, a, 0, a->y.count);
        return QN_OK;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t n = omp_get_num_threads(), t = omp_get_thread_num();
        int64_t from = tiles * t / n * QN_TILE, to = tiles * (t + 1) / n * QN_TILE;
        run_range(p, a, from, to < a->y.count ? to : a->y.count);
    }
    return QN_OK;
}

static void release(struct qn__step *s)
{
    qn__free(&qn__std_alloc, s->state, sizeof(struct plan));
    s->state = NULL;
}

KERNEL(fused) = { .variants = (const char *const[]){ "tiled", "tiled_strided", NULL },
                  .pick = pick,
                  .prepare = prepare,
                  .launch = launch,
                  .release = release };
