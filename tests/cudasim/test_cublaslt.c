/* test_cublaslt.c - the simulated cuBLASLt does what the manual of the real one says, and refuses the rest. Products
 * are held against plain double loops written from the manual: D = f(alpha op(A) op(B) + beta C), column-major. */
#define CALLS(X) \
    X(cublasLtCreate) \
    X(cublasLtDestroy) \
    X(cublasLtMatmulDescCreate) \
    X(cublasLtMatmulDescDestroy) \
    X(cublasLtMatmulDescSetAttribute) \
    X(cublasLtMatrixLayoutCreate) \
    X(cublasLtMatrixLayoutDestroy) \
    X(cublasLtMatrixLayoutSetAttribute) \
    X(cublasLtMatmulPreferenceCreate) \
    X(cublasLtMatmulPreferenceDestroy) \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulAlgoGetHeuristic) \
    X(cublasLtMatmulAlgoConfigGetAttribute) \
    X(cublasLtMatmul) \
    X(cudasim_blas_live)
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
extern size_t cudasim_blas_live(void);
#endif
#include "simulated.h"

#if SIMULATED
#include "../../core/half.h"
#include <math.h>
#include <stdbool.h>

/* ---- a product and all that belongs to it ------------------------------------------------------------------- */

struct product {
    int64_t m, n, k, batch;
    int32_t op_a, op_b, compute;
    cudaDataType ab, cd;
    uint32_t epilogue;
    int64_t pad; /* added to every leading dimension */
    bool same_a; /* batch step 0 */
    float alpha, beta;
    size_t workspace; /* offered */
    uint32_t schemes;
    /* made by setup */
    int64_t lda, ldb, ldd, aux_ld, step_a, step_b, step_d, aux_step;
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulPreference_t pref;
    float *ha, *hb, *hd, *bias, *aux;
    void *A, *B, *D, *vector, *extra, *scratch;
};
/* What is 0 stands for: a small product of f32 without an epilogue, alpha 1. */
static void fill(struct product *p)
{
    if (!p->m) p->m = 5;
    if (!p->n) p->n = 7;
    if (!p->k) p->k = 9;
    if (!p->batch) p->batch = 1;
    if (!p->compute) p->compute = CUBLAS_COMPUTE_32F;
    if (!p->epilogue) p->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    if (p->alpha == 0) p->alpha = 1;
    if (!p->workspace) p->workspace = 1 << 20;
    if (!p->schemes) p->schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
}

static float rounded(cudaDataType t, float x)
{
    if (t == CUDA_R_16BF) return qn__f32_of_bf16(qn__bf16_of_f32(x));
    return t == CUDA_R_16F ? qn__f32_of_f16(qn__f16_of_f32(x)) : x;
}

static void *to_device(const float *v, size_t n, cudaDataType t)
{
    uint16_t *half = malloc(n * 2);
    for (size_t i = 0; i < n; i++) half[i] = t == CUDA_R_16BF ? qn__bf16_of_f32(v[i]) : qn__f16_of_f32(v[i]);
    void *p = t == CUDA_R_32F ? device_copy(v, n * 4) : device_copy(half, n * 2);
    free(half);
    return p;
}
static void to_host(float *v, const void *device, size_t n, cudaDataType t)
{
    uint16_t *half = malloc(n * 2);
    if (t == CUDA_R_32F)
        host_copy(v, device, n * 4);
    else
        host_copy(half, device, n * 2);
    for (size_t i = 0; t != CUDA_R_32F && i < n; i++)
        v[i] = t == CUDA_R_16BF ? qn__f32_of_bf16(half[i]) : qn__f32_of_f16(half[i]);
    free(half);
}

static float *values(int64_t n, uint64_t seed)
{
    float *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = simulated_value(&seed);
    return v;
}

#define SET(p, name, type, ...) \
    do { \
        type value_ = __VA_ARGS__; \
        assert_int_equal(calls.cublasLtMatmulDescSetAttribute((p)->desc, name, &value_, sizeof value_), 0); \
    } while (0)

static void batched(const struct product *p, cublasLtMatrixLayout_t l, int64_t step)
{
    int32_t count = (int32_t)p->batch;
    assert_int_equal(calls.cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, 4), 0);
    assert_int_equal(calls.cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, 8),
                     0);
}

static bool bits(uint32_t e) { return e & (CUBLASLT_EPILOGUE_RELU | 8); }

static void make_descriptors(struct product *p)
{
    fill(p);
    int64_t ra = p->op_a ? p->k : p->m, ca = p->op_a ? p->m : p->k, rb = p->op_b ? p->n : p->k,
            cb = p->op_b ? p->k : p->n;
    p->lda = ra + p->pad, p->ldb = rb + p->pad, p->ldd = p->m + p->pad;
    p->step_a = p->same_a ? 0 : p->lda * ca + 3;
    p->step_b = p->ldb * cb + 5;
    p->step_d = p->ldd * p->n;
    p->aux_ld = bits(p->epilogue) ? (p->m + 127) / 128 * 128 : (p->m + 7) / 8 * 8;
    p->aux_step = p->aux_ld * p->n;
    assert_int_equal(calls.cublasLtCreate(&p->lt), 0);
    assert_int_equal(calls.cublasLtMatmulDescCreate(&p->desc, (cublasComputeType_t)p->compute, CUDA_R_32F), 0);
    SET(p, CUBLASLT_MATMUL_DESC_TRANSA, int32_t, p->op_a);
    SET(p, CUBLASLT_MATMUL_DESC_TRANSB, int32_t, p->op_b);
    SET(p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, p->epilogue);
    assert_int_equal(calls.cublasLtMatrixLayoutCreate(&p->a, p->ab, (uint64_t)ra, (uint64_t)ca, p->lda), 0);
    assert_int_equal(calls.cublasLtMatrixLayoutCreate(&p->b, p->ab, (uint64_t)rb, (uint64_t)cb, p->ldb), 0);
    assert_int_equal(calls.cublasLtMatrixLayoutCreate(&p->d, p->cd, (uint64_t)p->m, (uint64_t)p->n, p->ldd), 0);
    if (p->batch > 1) batched(p, p->a, p->step_a), batched(p, p->b, p->step_b), batched(p, p->d, p->step_d);
    assert_int_equal(calls.cublasLtMatmulPreferenceCreate(&p->pref), 0);
    uint64_t most = p->workspace;
    calls.cublasLtMatmulPreferenceSetAttribute(p->pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most, 8);
    calls.cublasLtMatmulPreferenceSetAttribute(p->pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &p->schemes, 4);
}

static int64_t count_of(int64_t step, const struct product *p, int64_t one) { return step * (p->batch - 1) + one; }

static int64_t longest(const struct product *p) { return p->m > p->n ? p->m : p->n; }

static void make_data(struct product *p)
{
    int64_t na = count_of(p->step_a, p, p->lda * (p->op_a ? p->m : p->k)),
            nb = count_of(p->step_b, p, p->ldb * (p->op_b ? p->k : p->n)), nd = p->step_d * p->batch;
    p->ha = values(na, 1), p->hb = values(nb, 2), p->hd = values(nd, 3);
    p->bias = values(longest(p) * p->batch, 4), p->aux = values(p->aux_step * p->batch, 5);
    p->A = to_device(p->ha, (size_t)na, p->ab);
    p->B = to_device(p->hb, (size_t)nb, p->ab);
    p->D = to_device(p->hd, (size_t)nd, p->cd);
    p->vector = to_device(p->bias, (size_t)(longest(p) * p->batch), p->cd);
    p->extra = to_device(p->aux, (size_t)(p->aux_step * p->batch), p->cd);
    p->scratch = device_take(p->workspace + 1);
    if (p->epilogue & (CUBLASLT_EPILOGUE_BIAS | 16 | 256 | 512)) {
        SET(p, CUBLASLT_MATMUL_DESC_BIAS_POINTER, void *, p->vector);
        SET(p, CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, int64_t, longest(p));
    }
    if (p->epilogue & 128) {
        SET(p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, void *, p->extra);
        SET(p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t, p->aux_ld);
        SET(p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, int64_t, p->aux_step);
    }
}

static void setup(struct product *p)
{
    make_descriptors(p);
    make_data(p);
}

static void drop(struct product *p)
{
    void *device[] = { p->A, p->B, p->D, p->vector, p->extra, p->scratch };
    float *host[] = { p->ha, p->hb, p->hd, p->bias, p->aux };
    for (size_t i = 0; i < sizeof device / sizeof *device; i++) calls.cudaFree(device[i]);
    for (size_t i = 0; i < sizeof host / sizeof *host; i++) free(host[i]);
    calls.cublasLtMatmulDescDestroy(p->desc);
    calls.cublasLtMatrixLayoutDestroy(p->a);
    calls.cublasLtMatrixLayoutDestroy(p->b);
    calls.cublasLtMatrixLayoutDestroy(p->d);
    calls.cublasLtMatmulPreferenceDestroy(p->pref);
    assert_int_equal(calls.cublasLtDestroy(p->lt), 0);
    assert_int_equal(calls.cudasim_blas_live(), 0);
}

static cublasStatus_t proposals(struct product *p, cublasLtMatmulHeuristicResult_t *r, int max, int *n)
{
    return calls.cublasLtMatmulAlgoGetHeuristic(p->lt, p->desc, p->a, p->b, p->d, p->d, p->pref, max, r, n);
}

static cublasStatus_t run(struct product *p, const cublasLtMatmulAlgo_t *algo)
{
    cublasStatus_t status = calls.cublasLtMatmul(p->lt, p->desc, &p->alpha, p->A, p->a, p->B, p->b, &p->beta, p->D,
                                                 p->d, p->D, p->d, algo, p->scratch, p->workspace, NULL);
    return status ? status : calls.cudaDeviceSynchronize() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

/* ---- the definition -------------------------------------------------------------------------------------------- */

static double a_of(const struct product *p, int64_t b, int64_t i, int64_t t)
{
    return (double)rounded(p->ab, p->ha[b * p->step_a + (p->op_a ? t + i * p->lda : i + t * p->lda)]);
}
static double b_of(const struct product *p, int64_t b, int64_t t, int64_t j)
{
    return (double)rounded(p->ab, p->hb[b * p->step_b + (p->op_b ? j + t * p->ldb : t + j * p->ldb)]);
}
static bool aux_bit(const struct product *p, int64_t i)
{
    unsigned char byte;
    host_copy(&byte, (const char *)p->extra + i / 8, 1);
    return byte >> (i % 8) & 1;
}
static double gelu(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x))); }

/* z before the activation, then what is stored. */
static double z_of(const struct product *p, int64_t b, int64_t i, int64_t j)
{
    double sum = 0;
    for (int64_t t = 0; t < p->k; t++) sum += a_of(p, b, i, t) * b_of(p, b, t, j);
    sum = (double)p->alpha * sum + (double)p->beta * (double)rounded(p->cd, p->hd[b * p->step_d + j * p->ldd + i]);
    if (p->epilogue & CUBLASLT_EPILOGUE_BIAS) sum += (double)rounded(p->cd, p->bias[b * longest(p) + i]);
    return sum;
}
static double d_of(const struct product *p, int64_t b, int64_t i, int64_t j, bool bit)
{
    double z = z_of(p, b, i, j), aux = (double)rounded(p->cd, p->aux[b * p->aux_step + j * p->aux_ld + i]);
    const double h = 1.0 / 65536;
    switch (p->epilogue) {
    case CUBLASLT_EPILOGUE_DRELU:
    case CUBLASLT_EPILOGUE_DRELU_BGRAD: return bit ? z : 0;
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD: return z * (gelu(aux + h) - gelu(aux - h)) / (2 * h);
    default: break;
    }
    if (p->epilogue & CUBLASLT_EPILOGUE_RELU) return z > 0 ? z : 0;
    return p->epilogue & CUBLASLT_EPILOGUE_GELU ? gelu(z) : z;
}

/* Of a sum of k products of numbers below 1, then of a result below `size`, in type t. */
static double tolerance(const struct product *p, cudaDataType t, double size)
{
    double unit = t == CUDA_R_32F ? 0 : t == CUDA_R_16BF ? 1.0 / 256 : 1.0 / 2048;
    return (double)(p->k + 8) * (double)(p->k + 4) * 6e-8 * 1.2 + unit * (fabs(size) + 0.01) + 1e-7;
}

static void check_gradient(const struct product *p, const float *d)
{
    float *got = malloc((size_t)(longest(p) * p->batch) * sizeof *got);
    to_host(got, p->vector, (size_t)(longest(p) * p->batch), p->cd);
    bool of_a = p->epilogue == CUBLASLT_EPILOGUE_BGRADA, of_b = p->epilogue == CUBLASLT_EPILOGUE_BGRADB;
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t i = 0; i < (of_b ? p->n : p->m); i++) {
            double sum = 0;
            for (int64_t j = 0; j < (of_a || of_b ? p->k : p->n); j++)
                sum += of_a ? a_of(p, b, i, j) : of_b ? b_of(p, b, j, i) : (double)d[b * p->step_d + j * p->ldd + i];
            /* of D the sum is taken before D is rounded */
            double room = tolerance(p, p->cd, sum) + (of_a || of_b ? 0 : (double)p->n * tolerance(p, p->cd, 2));
            assert_true(fabs((double)got[b * longest(p) + i] - sum) <= room);
        }
    free(got);
}

static void check_result(const struct product *p)
{
    size_t n = (size_t)(p->step_d * p->batch);
    float *d = malloc(n * sizeof *d), *aux = malloc((size_t)(p->aux_step * p->batch) * sizeof *aux);
    to_host(d, p->D, n, p->cd);
    if (p->epilogue & 128 && !bits(p->epilogue)) to_host(aux, p->extra, (size_t)(p->aux_step * p->batch), p->cd);
    for (int64_t b = 0; b < p->batch; b++)
        for (int64_t j = 0; j < p->n; j++)
            for (int64_t i = 0; i < p->ldd; i++) {
                int64_t at = b * p->step_d + j * p->ldd + i, aux_at = b * p->aux_step + j * p->aux_ld + i;
                if (i >= p->m) { /* between columns nothing is written */
                    assert_true(d[at] == rounded(p->cd, p->hd[at]));
                    continue;
                }
                bool bit = p->epilogue & 128 && bits(p->epilogue) && aux_bit(p, aux_at);
                double want = d_of(p, b, i, j, bit), z = z_of(p, b, i, j);
                if (!(fabs((double)d[at] - want) <= tolerance(p, p->cd, want)))
                    fail_msg("batch %d row %d column %d: %.9g; expected %.9g", (int)b, (int)i, (int)j, (double)d[at],
                             want);
                if ((p->epilogue & ~4u) == CUBLASLT_EPILOGUE_RELU_AUX && fabs(z) > 1e-5) assert_true(bit == (z > 0));
                if ((p->epilogue & ~4u) == CUBLASLT_EPILOGUE_GELU_AUX)
                    assert_true(fabs((double)aux[aux_at] - z) <= tolerance(p, p->cd, z));
            }
    if (p->epilogue & (16 | 256 | 512)) check_gradient(p, d);
    free(d);
    free(aux);
}

/* Every algorithm that is proposed gives the product. */
static int all_algorithms(struct product p)
{
    cublasLtMatmulHeuristicResult_t r[8];
    int n = 0;
    setup(&p);
    assert_int_equal(proposals(&p, r, 8, &n), 0);
    drop(&p);
    for (int i = 0; i < n; i++) {
        setup(&p);
        assert_int_equal(run(&p, &r[i].algo), 0);
        expect_no_finding();
        check_result(&p);
        drop(&p);
    }
    return n;
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void products(void **state)
{
    (void)state;
    for (int t = 0; t < 4; t++) {
        int32_t a = t & 1 ? CUBLAS_OP_T : CUBLAS_OP_N, b = t & 2 ? CUBLAS_OP_T : CUBLAS_OP_N;
        assert_int_equal(all_algorithms((struct product){ .op_a = a, .op_b = b }), 1);
        all_algorithms((struct product){ .op_a = a, .op_b = b, .pad = 3, .alpha = 0.5f, .beta = 2 });
        all_algorithms((struct product){ .op_a = a, .op_b = b, .batch = 3, .pad = 1, .beta = 1 });
        all_algorithms((struct product){ .op_a = a, .op_b = b, .batch = 3, .same_a = true });
        all_algorithms((struct product){ .op_a = a, .op_b = b, .ab = CUDA_R_16BF, .cd = CUDA_R_16BF });
        all_algorithms((struct product){ .op_a = a, .op_b = b, .ab = CUDA_R_16F, .cd = CUDA_R_32F });
        assert_int_equal(all_algorithms((struct product){ .op_a = a, .op_b = b, .k = 300, .batch = 2 }), 3);
    }
    all_algorithms((struct product){ .m = 1, .n = 1, .k = 1 });
    all_algorithms((struct product){ .m = 130, .n = 1, .k = 17 });
}

static void epilogues(void **state)
{
    (void)state;
    static const uint32_t all[] = {
        CUBLASLT_EPILOGUE_BIAS,        CUBLASLT_EPILOGUE_RELU,          CUBLASLT_EPILOGUE_RELU_BIAS,
        CUBLASLT_EPILOGUE_RELU_AUX,    CUBLASLT_EPILOGUE_RELU_AUX_BIAS, CUBLASLT_EPILOGUE_GELU,
        CUBLASLT_EPILOGUE_GELU_BIAS,   CUBLASLT_EPILOGUE_GELU_AUX,      CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
        CUBLASLT_EPILOGUE_DRELU,       CUBLASLT_EPILOGUE_DRELU_BGRAD,   CUBLASLT_EPILOGUE_DGELU,
        CUBLASLT_EPILOGUE_DGELU_BGRAD, CUBLASLT_EPILOGUE_BGRADA,        CUBLASLT_EPILOGUE_BGRADB
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int type = 0; type < 3; type++) {
            cudaDataType t = type == 0 ? CUDA_R_32F : type == 1 ? CUDA_R_16BF : CUDA_R_16F;
            all_algorithms((struct product){ .ab = t, .cd = t, .epilogue = all[i] });
            all_algorithms(
                (struct product){ .ab = t, .cd = t, .epilogue = all[i], .batch = 2, .m = 11, .op_b = CUBLAS_OP_T });
        }
}

/* A NaN passes the rectifier, and only its own element is NaN. */
static void nan_passes(void **state)
{
    (void)state;
    struct product p = { .epilogue = CUBLASLT_EPILOGUE_RELU };
    float d[35];
    setup(&p);
    assert_int_equal(calls.cudaMemset(p.A, 0xff, 4), 0); /* A[0,0] */
    assert_int_equal(run(&p, NULL), 0);
    host_copy(d, p.D, sizeof d);
    for (int i = 0; i < 35; i++) assert_true((i % 5 == 0) == isnan(d[i]));
    drop(&p);
}

/* What the table of types does not list is refused. */
static void types(void **state)
{
    (void)state;
    static const cudaDataType list[] = { CUDA_R_32F, CUDA_R_16BF, CUDA_R_16F, CUDA_R_64F, CUDA_R_8I, CUDA_C_32F };
    static const int32_t compute[] = { CUBLAS_COMPUTE_32F,           CUBLAS_COMPUTE_32F_PEDANTIC, CUBLAS_COMPUTE_16F,
                                       CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_64F,          CUBLAS_COMPUTE_32I };
    cublasLtMatmulHeuristicResult_t r;
    int n, taken = 0;
    for (int c = 0; c < 6; c++)
        for (int i = 0; i < 6; i++)
            for (int j = 0; j < 6; j++) {
                struct product p = { .compute = compute[c], .ab = list[i], .cd = list[j] };
                make_descriptors(&p);
                bool plain = compute[c] == CUBLAS_COMPUTE_32F || compute[c] == CUBLAS_COMPUTE_32F_PEDANTIC;
                bool listed = plain ? i < 3 && (j == i || j == 0) : c == 3 && i == 0 && j == 0;
                assert_int_equal(proposals(&p, &r, 1, &n),
                                 listed ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED);
                taken += listed;
                drop(&p);
            }
    assert_int_equal(taken, 11);
}

/* ---- what is refused --------------------------------------------------------------------------------------------- */

#define REFUSED(status, p, ...) \
    do { \
        struct product p = { 0 }; \
        cublasLtMatmulHeuristicResult_t r_; \
        int n_; \
        setup(&p); \
        __VA_ARGS__; \
        assert_int_equal(proposals(&p, &r_, 1, &n_), status); \
        assert_int_equal(run(&p, NULL), status); \
        expect_no_finding(); \
        drop(&p); \
    } while (0)
#define LAYOUT(l, name, type, ...) \
    do { \
        type value_ = __VA_ARGS__; \
        assert_int_equal(calls.cublasLtMatrixLayoutSetAttribute(l, name, &value_, sizeof value_), 0); \
    } while (0)

static void refusals(void **state)
{
    (void)state;
    const cublasStatus_t bad = CUBLAS_STATUS_INVALID_VALUE, no = CUBLAS_STATUS_NOT_SUPPORTED;
    REFUSED(bad, p, LAYOUT(p.a, CUBLASLT_MATRIX_LAYOUT_LD, int64_t, 4));
    REFUSED(bad, p, LAYOUT(p.a, CUBLASLT_MATRIX_LAYOUT_ROWS, uint64_t, 4));
    REFUSED(bad, p, LAYOUT(p.d, CUBLASLT_MATRIX_LAYOUT_COLS, uint64_t, 8));
    REFUSED(bad, p, LAYOUT(p.b, CUBLASLT_MATRIX_LAYOUT_COLS, uint64_t, 0));
    REFUSED(no, p, LAYOUT(p.b, CUBLASLT_MATRIX_LAYOUT_ORDER, int32_t, CUBLASLT_ORDER_COL32));
    REFUSED(no, p, LAYOUT(p.b, CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, uint32_t, CUBLASLT_BATCH_MODE_POINTER_ARRAY));
    REFUSED(bad, p, LAYOUT(p.a, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t, 2));                   /* of A alone */
    REFUSED(bad, p, p.batch = 2, batched(&p, p.a, 45), batched(&p, p.b, 63), batched(&p, p.d, 34)); /* D on D */
    REFUSED(no, p, SET(&p, CUBLASLT_MATMUL_DESC_TRANSC, int32_t, CUBLAS_OP_T));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_TRANSA, int32_t, 7));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, 3));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, 0));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t, CUDA_R_16F));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, const void *, p.A));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t, 1));
    REFUSED(no, p, SET(&p, CUBLASLT_MATMUL_DESC_FILL_MODE, int32_t, CUBLAS_FILL_MODE_LOWER));
    /* aux: bits by 128, values by 8, rows and all */
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, CUBLASLT_EPILOGUE_RELU_AUX);
            SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t, 64));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, CUBLASLT_EPILOGUE_GELU_AUX);
            SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t, 5));
    REFUSED(bad, p, SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, CUBLASLT_EPILOGUE_DGELU));
}

/* What only a call can see: addresses, workspace, the algorithm. */
static void refused_calls(void **state)
{
    (void)state;
    struct product p = { .k = 300, .schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE };
    cublasLtMatmulHeuristicResult_t r[4];
    int n;
    setup(&p);
    assert_int_equal(proposals(&p, r, 0, &n), CUBLAS_STATUS_INVALID_VALUE);
    assert_int_equal(proposals(&p, r, 4, &n), 0);
    assert_int_equal(n, 2);
    assert_true(r[0].workspaceSize > 0 && r[1].workspaceSize == 0);
    p.workspace = r[0].workspaceSize - 1;
    assert_int_equal(run(&p, &r[0].algo), CUBLAS_STATUS_INVALID_VALUE);
    p.workspace = r[0].workspaceSize;
    void *scratch = p.scratch, *b = p.B, *d = p.D;
    p.scratch = (char *)scratch + 16;
    assert_int_equal(run(&p, &r[0].algo), CUBLAS_STATUS_INVALID_VALUE);
    p.scratch = scratch;
    p.B = NULL;
    assert_int_equal(run(&p, &r[1].algo), CUBLAS_STATUS_INVALID_VALUE);
    p.B = (char *)b + 4; /* the algorithm was asked for addresses that are multiples of 256 */
    assert_int_equal(run(&p, &r[1].algo), CUBLAS_STATUS_INVALID_VALUE);
    p.B = b;
    cublasLtHandle_t lt = p.lt;
    p.lt = NULL;
    assert_int_equal(run(&p, NULL), CUBLAS_STATUS_NOT_INITIALIZED);
    p.lt = lt;
    SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, CUBLASLT_EPILOGUE_BIAS);
    assert_int_equal(run(&p, NULL), CUBLAS_STATUS_INVALID_VALUE); /* there is none */
    SET(&p, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t, CUBLASLT_EPILOGUE_DEFAULT);
    expect_no_finding();
    p.B = p.hb; /* host memory */
    assert_int_equal(run(&p, NULL), CUBLAS_STATUS_EXECUTION_FAILED);
    expect_finding("cublasLtMatmul: B");
    p.B = b;
    p.D = p.A;
    assert_int_equal(run(&p, NULL), CUBLAS_STATUS_EXECUTION_FAILED);
    expect_finding("lies on A");
    p.D = d;
    assert_int_equal(run(&p, NULL), 0);
    check_result(&p);
    drop(&p);
}

/* A caller may throw descriptors away as soon as the call has returned; the product comes when the stream's turn
 * does. */
static void descriptors_may_go(void **state)
{
    (void)state;
    struct product p = { 0 };
    setup(&p);
    cudaStream_t stream;
    assert_int_equal(calls.cudaStreamCreate(&stream), 0);
    assert_int_equal(calls.cublasLtMatmul(p.lt, p.desc, &p.alpha, p.A, p.a, p.B, p.b, &p.beta, p.D, p.d, p.D, p.d, NULL,
                                          p.scratch, p.workspace, stream),
                     0);
    SET(&p, CUBLASLT_MATMUL_DESC_TRANSA, int32_t, CUBLAS_OP_T);
    p.alpha = 7;
    assert_int_equal(calls.cudaStreamSynchronize(stream), 0);
    p.alpha = 1;
    check_result(&p);
    assert_int_equal(calls.cudaStreamDestroy(stream), 0);
    drop(&p);
}

static void failing_calls(void **state)
{
    (void)state;
    struct product p = { 0 };
    setup(&p);
    assert_true(calls.cudasim_fail("cublasLtMatmul:2"));
    assert_int_equal(run(&p, NULL), 0);
    assert_int_equal(run(&p, NULL), CUBLAS_STATUS_EXECUTION_FAILED);
    assert_int_equal(run(&p, NULL), 0);
    assert_true(calls.cudasim_fail("cublasLtMatrixLayoutCreate:1:forever:3"));
    cublasLtMatrixLayout_t l = NULL;
    for (int i = 0; i < 2; i++) assert_int_equal(calls.cublasLtMatrixLayoutCreate(&l, CUDA_R_32F, 1, 1, 1), 3);
    assert_null(l);
    assert_true(calls.cudasim_fail(""));
    drop(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(products),           cmocka_unit_test(epilogues),
                                        cmocka_unit_test(nan_passes),         cmocka_unit_test(types),
                                        cmocka_unit_test(refusals),           cmocka_unit_test(refused_calls),
                                        cmocka_unit_test(descriptors_may_go), cmocka_unit_test(failing_calls) };
    return simulated_main("libcublasLt.so.13", tests);
}
#else
int main(void) { return simulated_absent(); }
#endif
