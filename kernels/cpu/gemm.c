/* gemm.c - see gemm.h. */
#include "gemm.h"
#include "cpu.h"

#define GEMM_f32 1
#define GEMM_f64 0
#if QN_CAT(GEMM, KIND) /* one object of the two that this file is compiled to */

enum { ROWS = 6, COLUMNS = 16, DEPTH = 256 }; /* DEPTH: a strip of B' of this depth is half of a level-1 cache */

static int64_t strips(int64_t n, int64_t width) { return (n + width - 1) / width; }
static size_t strip_a(const struct qn__gemm *g) { return (size_t)(g->k * ROWS + 15) & ~(size_t)15; }

size_t qn__gemm_workspace(const struct qn__gemm *g)
{
    size_t a = (size_t)strips(g->m, ROWS) * strip_a(g), b = (size_t)g->threads * DEPTH * COLUMNS;
    return (a + b) * sizeof(float);
}

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define QN_FMA __attribute__((target("avx2,fma")))

bool qn__gemm_supported(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

/* to[k][width]: `width` consecutive rows (or columns) of a matrix, zeros beyond `valid`. */
static inline __attribute__((always_inline)) void pack(float *restrict to, const float *restrict from, int64_t step,
                                                       int64_t depth_step, int64_t depth, int64_t valid,
                                                       const int width)
{
    if (valid == width && step == 1) {
        for (int64_t k = 0; k < depth; k++)
            for (int i = 0; i < width; i++) to[k * width + i] = from[k * depth_step + i];
    } else {
        for (int64_t k = 0; k < depth; k++)
            for (int i = 0; i < width; i++) to[k * width + i] = i < valid ? from[i * step + k * depth_step] : 0;
    }
}
QN_FMA static void pack_a(float *to, const float *from, const struct qn__gemm *g, int64_t valid)
{
    pack(to, from, g->a_row, g->a_col, g->k, valid, ROWS);
}
QN_FMA static void pack_b(float *to, const float *from, const struct qn__gemm *g, int64_t depth, int64_t valid)
{
    pack(to, from, g->b_col, g->b_row, depth, valid, COLUMNS);
}

/* y[6][16] (rows y_row apart) = or += a[depth][6] b[depth][16] */
QN_FMA static void tile(float *y, int64_t y_row, const float *a, const float *b, int64_t depth, bool add)
{
    __m256 sum[ROWS][2];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2; j++) sum[i][j] = add ? _mm256_loadu_ps(y + i * y_row + 8 * j) : _mm256_setzero_ps();
    for (int64_t k = 0; k < depth; k++) {
        __m256 b0 = _mm256_loadu_ps(b + k * COLUMNS), b1 = _mm256_loadu_ps(b + k * COLUMNS + 8);
#pragma GCC unroll 6
        for (int i = 0; i < ROWS; i++) {
            __m256 x = _mm256_broadcast_ss(a + k * ROWS + i);
            sum[i][0] = _mm256_fmadd_ps(x, b0, sum[i][0]);
            sum[i][1] = _mm256_fmadd_ps(x, b1, sum[i][1]);
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2; j++) _mm256_storeu_ps(y + i * y_row + 8 * j, sum[i][j]);
}

/* The same at the lower and right edges: through a whole tile of which only rows x columns are y's. */
static void edge(float *y, int64_t y_row, const float *a, const float *b, int64_t depth, bool add, int64_t rows,
                 int64_t columns)
{
    float whole[ROWS * COLUMNS] = { 0 };
    for (int64_t i = 0; add && i < rows; i++)
        for (int64_t j = 0; j < columns; j++) whole[i * COLUMNS + j] = y[i * y_row + j];
    tile(whole, COLUMNS, a, b, depth, add);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) y[i * y_row + j] = whole[i * COLUMNS + j];
}

/* All rows of one strip of columns. */
static void strip(const struct qn__gemm *g, float *y, const float *packed_a, const float *b, float *packed_b, int64_t j)
{
    int64_t columns = g->n - j < COLUMNS ? g->n - j : COLUMNS;
    for (int64_t k = 0; k < g->k; k += DEPTH) {
        int64_t depth = g->k - k < DEPTH ? g->k - k : DEPTH;
        pack_b(packed_b, b + j * g->b_col + k * g->b_row, g, depth, columns);
        for (int64_t i = 0; i < g->m; i += ROWS) {
            const float *a = packed_a + (size_t)(i / ROWS) * strip_a(g) + k * ROWS;
            int64_t rows = g->m - i < ROWS ? g->m - i : ROWS;
            if (rows == ROWS && columns == COLUMNS)
                tile(y + i * g->n + j, g->n, a, packed_b, depth, k > 0);
            else
                edge(y + i * g->n + j, g->n, a, packed_b, depth, k > 0, rows, columns);
        }
    }
}

void qn__gemm_run(const struct qn__gemm *g, float *y, const float *a, const float *b, void *workspace)
{
    float *packed_a = workspace, *packed_b = packed_a + (size_t)strips(g->m, ROWS) * strip_a(g);
#pragma omp parallel num_threads(g->threads)
    {
#pragma omp for
        for (int64_t i = 0; i < g->m; i += ROWS)
            pack_a(packed_a + (size_t)(i / ROWS) * strip_a(g), a + i * g->a_row, g, g->m - i < ROWS ? g->m - i : ROWS);
#pragma omp for
        for (int64_t j = 0; j < g->n; j += COLUMNS)
            strip(g, y, packed_a, b, packed_b + (size_t)omp_get_thread_num() * DEPTH * COLUMNS, j);
    }
}
#else
bool qn__gemm_supported(void) { return false; }
void qn__gemm_run(const struct qn__gemm *g, float *y, const float *a, const float *b, void *workspace)
{
    (void)g, (void)y, (void)a, (void)b, (void)workspace;
}
#endif
#endif
