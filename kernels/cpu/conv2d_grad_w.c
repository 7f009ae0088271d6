/* conv2d_grad_w.c - dw[o,c,a,b] = sum over n and places of x under tap (a,b) times dy[n,o]. Geometry in conv.h.
 *
 *   loops    one filter plane at a time: the definition, and the oracle in double
 *   rows     images of few channels (the first layer), plain x and dy in blocks of 8: oneDNN has only its reference
 *            there. A row of x against a row of dy, 4 or 2 blocks of 8 filters and a row of taps in registers.
 *   onednn   one oneDNN backward-weights convolution, dw put into plain order afterwards */
#include "conv.h"

enum { LOOPS, ROWS, ONEDNN };

static REAL tap(const struct qn__args *a, const struct qn__conv *g, int64_t o, int64_t c, int64_t p, int64_t q)
{
    REAL sum = 0;
    for (int64_t n = 0; n < g->n; n++) {
        const REAL *x = qn__real(&a->x[0]) + (n * g->c + c) * g->h * g->w;
        const REAL *dy = qn__real(&a->x[1]) + (n * g->o + o) * g->oh * g->ow;
        for (int64_t i = 0; i < g->oh; i++)
            for (int64_t j = 0; j < g->ow; j++) {
                int64_t row = qn__conv_row(g, i, p), col = qn__conv_col(g, j, q);
                if (row < 0 || row >= g->h || col < 0 || col >= g->w) continue;
                sum += x[row * g->w + col] * dy[i * g->ow + j];
            }
    }
    return sum;
}

static void loops(const struct qn__args *a)
{
    struct qn__conv g = qn__conv_of(a, &a->x[0], &a->y, &a->x[1]);
    if (a->y.count == 0) return;
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[1].count *(g.cg * g.kh * g.kw + 1)))
    for (int64_t i = 0; i < g.o * g.cg; i++) {
        int64_t o = i / g.cg, c = o / g.og * g.cg + i % g.cg;
        for (int64_t t = 0; t < g.kh * g.kw; t++)
            qn__real(&a->y)[i * g.kh * g.kw + t] = tap(a, &g, o, c, t / g.kw, t % g.kw);
    }
}

/* ---- rows --------------------------------------------------------------------------------------- */

/* The batch is cut into so many parts whatever the number of threads, and their sums are added in order. */
enum { PARTS = 16, LANES = 8, MAX_TAPS = 7, MAX_CHANNELS = 7 };

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define QN_FMA __attribute__((target("avx2,fma")))

static bool rows_supported(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

struct row {
    float *sum;       /* [blocks][..][taps][8] */
    int64_t sum_step; /* from one block of filters to the next */
    const float *x, *dy;
    int64_t stride, dilation, dy_step, n;
};

/* taps and blocks are constants wherever this is inlined, so that the sums stay in registers. */
QN_FMA static inline __attribute__((always_inline)) void add_row(const struct row *r, const int taps, const int blocks)
{
    __m256 sum[4 * 3];
    for (int k = 0; k < blocks; k++)
        for (int t = 0; t < taps; t++) sum[k * taps + t] = _mm256_loadu_ps(r->sum + k * r->sum_step + t * LANES);
    for (int64_t j = 0; j < r->n; j++) {
        __m256 dy[4];
        for (int k = 0; k < blocks; k++) dy[k] = _mm256_loadu_ps(r->dy + k * r->dy_step + j * LANES);
        for (int t = 0; t < taps; t++) {
            __m256 x = _mm256_broadcast_ss(r->x + j * r->stride + t * r->dilation);
            for (int k = 0; k < blocks; k++) sum[k * taps + t] = _mm256_fmadd_ps(x, dy[k], sum[k * taps + t]);
        }
    }
    for (int k = 0; k < blocks; k++)
        for (int t = 0; t < taps; t++) _mm256_storeu_ps(r->sum + k * r->sum_step + t * LANES, sum[k * taps + t]);
}

/* 4 blocks of up to 3 taps, or one block of up to 7: at most 12 sums in 16 registers. */
QN_FMA static void add_rows(struct row r, int64_t taps, int64_t blocks)
{
    for (; blocks >= 4 && taps <= 3; blocks -= 4) {
        switch (taps) {
        case 1: add_row(&r, 1, 4); break;
        case 2: add_row(&r, 2, 4); break;
        default: add_row(&r, 3, 4); break;
        }
        r.sum += 4 * r.sum_step;
        r.dy += 4 * r.dy_step;
    }
    for (; blocks > 0; blocks--) {
        switch (taps) {
        case 1: add_row(&r, 1, 1); break;
        case 2: add_row(&r, 2, 1); break;
        case 3: add_row(&r, 3, 1); break;
        case 4: add_row(&r, 4, 1); break;
        case 5: add_row(&r, 5, 1); break;
        case 6: add_row(&r, 6, 1); break;
        default: add_row(&r, 7, 1); break;
        }
        r.sum += r.sum_step;
        r.dy += r.dy_step;
    }
}
#else
static bool rows_supported(void) { return false; }
struct row {
    float *sum;
    int64_t sum_step;
    const float *x, *dy;
    int64_t stride, dilation, dy_step, n;
};
static void add_rows(struct row r, int64_t taps, int64_t blocks) { (void)r, (void)taps, (void)blocks; }
#endif

/* Columns of x, padding included, that one row of y reads. */
static int64_t row_columns(const struct qn__conv *g)
{
    return (g->ow - 1) * g->attr->stride[1] + (g->kw - 1) * g->attr->dilation[1] + 1;
}

/* A row of x as the windows see it: in place if there is no padding, else copied with its zeros. */
static const float *padded_row(const struct qn__conv *g, const float *row, float *copy)
{
    int64_t pad = g->attr->pad[1], n = row_columns(g);
    if (pad == 0 && n <= g->w) return row;
    for (int64_t i = 0; i < n; i++) copy[i] = i - pad >= 0 && i - pad < g->w ? row[i - pad] : 0;
    return copy;
}

/* One part of the batch. sums: [o/8][c][kh][kw][8], and behind them room for one padded row. */
static void part_of(const struct qn__args *a, const struct qn__conv *g, int64_t part, float *sums)
{
    int64_t taps = g->kh * g->kw * g->c, plane = g->oh * g->ow * LANES;
    float *copy = sums + g->o * taps;
    memset(sums, 0, (size_t)(g->o * taps) * sizeof *sums);
    for (int64_t n = part * g->n / PARTS; n < (part + 1) * g->n / PARTS; n++)
        for (int64_t i = 0; i < g->oh; i++)
            for (int64_t k = 0; k < g->c * g->kh; k++) {
                int64_t c = k / g->kh, row = qn__conv_row(g, i, k % g->kh);
                if (row < 0 || row >= g->h) continue;
                const float *x = (const float *)a->x[0].data + ((n * g->c + c) * g->h + row) * g->w;
                add_rows((struct row){ .sum = sums + k * g->kw * LANES,
                                       .sum_step = taps * LANES,
                                       .x = padded_row(g, x, copy),
                                       .dy = (const float *)a->x[1].data + n * g->o / LANES * plane + i * g->ow * LANES,
                                       .stride = g->attr->stride[1],
                                       .dilation = g->attr->dilation[1],
                                       .dy_step = plane,
                                       .n = g->ow },
                         g->kw, g->o / LANES);
            }
}

/* Floats of workspace for one part. */
static size_t part_size(const struct qn__conv *g)
{
    return ((size_t)(g->o * g->c * g->kh * g->kw + row_columns(g)) + 15) & ~(size_t)15;
}

static void rows(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    struct qn__conv g = qn__conv_of(a, &a->x[0], &a->y, &a->x[1]);
    float *sums = s->workspace, *dw = a->y.data;
    size_t size = part_size(&g);
    int64_t taps = g.c * g.kh * g.kw;
#pragma omp parallel for num_threads(a->threads)
    for (int64_t part = 0; part < PARTS; part++) part_of(a, &g, part, sums + (size_t)part * size);
    for (int64_t o = 0; o < g.o; o++)
        for (int64_t t = 0; t < taps; t++) {
            float sum = 0;
            for (size_t part = 0; part < PARTS; part++)
                sum += sums[part * size + (size_t)((o / LANES * taps + t) * LANES + o % LANES)];
            dw[o * taps + t] = sum;
        }
}

static bool rows_fit(const struct qn__args *a, const struct qn__conv *g)
{
    return QN_IS_F32 && rows_supported() && !qn__conv_empty(a) && g->attr->groups == 1 && g->c <= MAX_CHANNELS &&
           g->o % LANES == 0 && g->kw <= MAX_TAPS &&
           (a->y.block == QN_ANY_BLOCK || (a->x[0].block == QN_PLAIN && a->x[1].block == LANES));
}

/* ---- the kernel ------------------------------------------------------------------------------------ */

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    if (!qn__conv_real(a)) return QN_EUSAGE;
    struct qn__conv g = qn__conv_of(a, &a->x[0], &a->y, &a->x[1]);
    qn__conv_plain(a, c);
    if (rows_fit(a, &g)) {
        c->variant = ROWS;
        c->x_block[1] = LANES;
        c->workspace = PARTS * part_size(&g) * sizeof(float);
        return QN_OK;
    }
    c->variant = qn__conv_library(a, c, 3) ? ONEDNN : LOOPS;
    if (c->variant == LOOPS) qn__conv_plain(a, c);
    return QN_OK;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    return s->choice.variant == ONEDNN ? qn__dnn_conv(s, err) : QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    switch (s->choice.variant) {
    case ONEDNN: return qn__dnn_launch(s, err);
    case ROWS: rows(s); return QN_OK;
    default: loops(&s->args); return QN_OK;
    }
}

KERNEL(conv2d_grad_w) = { .variants = (const char *const[]){ "loops", QN_F32_ONLY("rows"), QN_F32_ONLY("onednn"),
                                                             NULL },
                          .pick = pick,
                          .prepare = prepare,
                          .bind = qn__dnn_bind,
                          .launch = launch,
                          .release = qn__dnn_release };
