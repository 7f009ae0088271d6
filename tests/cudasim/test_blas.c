/* test_blas.c - kernels/cuda/blas.c, the door to cuBLASLt, on the simulated library: every epilogue and its gradient
 * against double loops, in each type and transposition, in batches. The gradients' epilogues are used by no operator so
 * far (docs/cuda.md says why), so that nothing else would see what they do. */
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
    X(cublasLtMatmulAlgoCapGetAttribute) \
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

#define cublasLtMatmulDescCreate calls.cublasLtMatmulDescCreate
#define cublasLtMatmulDescDestroy calls.cublasLtMatmulDescDestroy
#define cublasLtMatmulDescSetAttribute calls.cublasLtMatmulDescSetAttribute
#define cublasLtMatrixLayoutCreate calls.cublasLtMatrixLayoutCreate
#define cublasLtMatrixLayoutDestroy calls.cublasLtMatrixLayoutDestroy
#define cublasLtMatrixLayoutSetAttribute calls.cublasLtMatrixLayoutSetAttribute
#define cublasLtMatmulPreferenceCreate calls.cublasLtMatmulPreferenceCreate
#define cublasLtMatmulPreferenceDestroy calls.cublasLtMatmulPreferenceDestroy
#define cublasLtMatmulPreferenceSetAttribute calls.cublasLtMatmulPreferenceSetAttribute
#define cublasLtMatmulAlgoGetHeuristic calls.cublasLtMatmulAlgoGetHeuristic
#define cublasLtMatmulAlgoConfigGetAttribute calls.cublasLtMatmulAlgoConfigGetAttribute
#define cublasLtMatmulAlgoCapGetAttribute calls.cublasLtMatmulAlgoCapGetAttribute
#define cublasLtMatmul calls.cublasLtMatmul
#include "../../kernels/cuda/blas.c"

qn_status qn__blas_check(cublasStatus_t answer, const char *call, const struct qn__step *s, qn_error *err)
{
    (void)s;
    return answer ? qn__fail(err, 7003, NULL, "%s answered %d", call, (int)answer) : QN_OK;
}

/* ---- arrays ------------------------------------------------------------------------------------------------------ */

enum { M = 10, N = 24, K = 16, BATCH = 3, AUX = 128 /* bits or elements a row of aux */ };

static uint64_t seed = 7;
static double u_of(qn_dtype t) { return t == QN_F32 ? 0x1p-24 : t == QN_BF16 ? 0x1p-8 : 0x1p-11; }

/* n values on the device in their type; out: as they are after rounding. */
static void *draw(double *out, int64_t n, qn_dtype t)
{
    char bytes[4 * BATCH * M * AUX];
    for (int64_t i = 0; i < n; i++) {
        float v = simulated_value(&seed);
        char *at = bytes + (size_t)i * qn_dtype_size(t);
        qn_convert(at, t, &v, QN_F32, 1);
        qn_convert(&out[i], QN_F64, at, t, 1);
    }
    return device_copy(bytes, (size_t)n * qn_dtype_size(t));
}
static void fetch(double *out, const void *device, int64_t n, qn_dtype t)
{
    char bytes[4 * BATCH * M * AUX];
    host_copy(bytes, device, (size_t)n * qn_dtype_size(t));
    qn_convert(out, QN_F64, bytes, t, (size_t)n);
}

/* ---- one product ------------------------------------------------------------------------------------------------- */

struct work {
    struct qn__blas_product p;
    double a[BATCH * M * K], b[BATCH * K * N], bias[N], aux[M * AUX], y[BATCH * M * N], sums[AUX];
    struct qn__blas_data d;
};

static double a_of(const struct work *w, int64_t batch, int64_t i, int64_t k)
{
    return w->a[batch * M * K + (w->p.ta ? k * M + i : i * K + k)];
}
static double b_of(const struct work *w, int64_t batch, int64_t k, int64_t j)
{
    return w->b[batch * K * N + (w->p.tb ? j * K + k : k * N + j)];
}
static double gelu(double x) { return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }
static double gelu_slope(double x)
{
    double t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}
/* The bit of element [i, j], written by relu's epilogue or given to its gradient. */
static bool bit_of(const uint8_t *bits, int64_t i, int64_t j)
{
    return bits[(i * AUX + j) / 8] >> ((i * AUX + j) % 8) & 1;
}

static void near_(const struct work *w, double got, double want, double slack, const char *what, int64_t at)
{
    double bound = u_of(w->p.dtype) * fabs(want) * 1.01 + slack;
    if (!(fabs(got - want) <= bound))
        fail_msg("epilogue %d of %s: %s %lld is %.9g; expected %.9g", (int)w->p.epilogue, qn_dtype_name(w->p.dtype),
                 what, (long long)at, got, want);
}

/* Sums of K products below 1 in f32, behind a slope below 1.2. */
static const double SUM_SLACK = 1.2 * (K + 8) * K * 0x1p-24;

static void check(struct work *w, const uint8_t *bits)
{
    static double y[BATCH * M * N], aux[M * AUX], sums[AUX];
    enum qn__blas_epilogue e = w->p.epilogue;
    double columns[N] = { 0 };
    fetch(y, w->d.y, w->p.batch * M * N, w->p.dtype);
    if (e == QN_BLAS_GELU_AUX) fetch(aux, w->d.aux, M * AUX, w->p.dtype);
    for (int64_t at = 0; at < w->p.batch * M * N; at++) {
        int64_t batch = at / (M * N), i = at / N % M, j = at % N;
        double z = w->p.bias ? w->bias[j] : 0, want = 0;
        for (int64_t k = 0; k < K; k++) z += a_of(w, batch, i, k) * b_of(w, batch, k, j);
        switch (e) {
        case QN_BLAS_RELU:
        case QN_BLAS_RELU_AUX: want = z > 0 ? z : 0; break;
        case QN_BLAS_GELU:
        case QN_BLAS_GELU_AUX: want = gelu(z); break;
        case QN_BLAS_DRELU: want = bit_of(bits, i, j) ? z : 0; break;
        case QN_BLAS_DGELU: want = z * gelu_slope(w->aux[i * AUX + j]); break;
        default: want = z; break;
        }
        near_(w, y[at], want, SUM_SLACK, "element", at);
        if (e == QN_BLAS_GELU_AUX) near_(w, aux[i * AUX + j], z, SUM_SLACK, "aux", at);
        if (e == QN_BLAS_RELU_AUX && fabs(z) > SUM_SLACK) assert_int_equal(bit_of(bits, i, j), z > 0);
        columns[j] += want;
    }
    if (e == QN_BLAS_DRELU || e == QN_BLAS_DGELU) {
        if (!w->p.bias_grad) return;
        fetch(sums, w->d.bias, N, w->p.dtype);
        for (int64_t j = 0; j < N; j++)
            near_(w, sums[j], columns[j], M * (SUM_SLACK + u_of(w->p.dtype) * K), "bias gradient", j);
    }
    if (e != QN_BLAS_BGRAD_A && e != QN_BLAS_BGRAD_B) return;
    int64_t n = e == QN_BLAS_BGRAD_A ? M : N;
    fetch(sums, w->d.bias, n, w->p.dtype);
    for (int64_t i = 0; i < n; i++) {
        double want = 0;
        for (int64_t k = 0; k < K; k++) want += e == QN_BLAS_BGRAD_A ? a_of(w, 0, i, k) : b_of(w, 0, k, i);
        near_(w, sums[i], want, SUM_SLACK, "sum", i);
    }
}

static void one(struct qn__blas_product p, bool with_bias)
{
    static struct work w;
    static uint8_t bits[M * AUX / 8];
    struct qn__blas_plan *plan;
    cublasLtHandle_t lt;
    qn_error err = { 0 };
    enum { WORKSPACE = 1 << 20 };
    bool relu = p.epilogue == QN_BLAS_RELU_AUX || p.epilogue == QN_BLAS_DRELU;
    p.m = M, p.n = N, p.k = K, p.align = 16;
    if (!p.batch) p.batch = 1;
    if (p.batch > 1) p.a_step = M * K, p.b_step = K * N, p.y_step = M * N;
    p.bias = with_bias;
    p.aux_step = AUX;
    w.p = p;
    w.d = (struct qn__blas_data){ .a = draw(w.a, p.batch * M * K, p.dtype), .b = draw(w.b, p.batch * K * N, p.dtype) };
    w.d.y = device_take((size_t)p.batch * M * N * 4);
    w.d.bias = draw(w.bias, N, p.dtype);
    w.d.aux = draw(w.aux, M * AUX, p.dtype);
    w.d.workspace = device_take(WORKSPACE);
    for (size_t i = 0; i < sizeof bits; i++) bits[i] = (uint8_t)(i * 73 + 29);
    if (p.epilogue == QN_BLAS_DRELU) calls.cudaMemcpy(w.d.aux, bits, sizeof bits, cudaMemcpyHostToDevice);
    assert_int_equal(calls.cublasLtCreate(&lt), CUBLAS_STATUS_SUCCESS);
    if (qn__blas_plan(&plan, lt, &w.p, WORKSPACE, NULL, &err)) fail_msg("%s", err.text);
    if (!plan) fail_msg("no algorithm for epilogue %d of %s", (int)p.epilogue, qn_dtype_name(p.dtype));
    if (qn__blas_run(plan, &w.d, NULL, NULL, &err)) fail_msg("%s", err.text);
    assert_int_equal(calls.cudaDeviceSynchronize(), cudaSuccess);
    if (relu) host_copy(bits, w.d.aux, sizeof bits);
    check(&w, bits);
    qn__blas_plan_free(plan);
    calls.cublasLtDestroy(lt);
    void *all[] = { (void *)(uintptr_t)w.d.a, (void *)(uintptr_t)w.d.b, w.d.y, w.d.bias, w.d.aux, w.d.workspace };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) calls.cudaFree(all[i]);
    expect_no_finding();
    assert_int_equal(calls.cudasim_blas_live(), 0);
}

static void each_type_and_side(enum qn__blas_epilogue e, bool bias, bool bias_grad)
{
    static const qn_dtype types[] = { QN_F32, QN_BF16, QN_F16 };
    for (int t = 0; t < 3; t++)
        for (int sides = 0; sides < 4; sides++)
            one((struct qn__blas_product){ .epilogue = e,
                                           .dtype = types[t],
                                           .ta = sides & 1,
                                           .tb = sides & 2,
                                           .bias_grad = bias_grad },
                bias);
}

static void forward(void **state)
{
    (void)state;
    static const enum qn__blas_epilogue e[] = { QN_BLAS_PLAIN, QN_BLAS_RELU, QN_BLAS_RELU_AUX, QN_BLAS_GELU,
                                                QN_BLAS_GELU_AUX };
    for (size_t i = 0; i < sizeof e / sizeof e[0]; i++)
        for (int bias = 0; bias < 2; bias++) each_type_and_side(e[i], bias, false);
}

static void gradients_of_activations(void **state)
{
    (void)state;
    for (int bias = 0; bias < 2; bias++) {
        each_type_and_side(QN_BLAS_DRELU, false, bias);
        each_type_and_side(QN_BLAS_DGELU, false, bias);
    }
}

static void gradients_of_biases(void **state)
{
    (void)state;
    each_type_and_side(QN_BLAS_BGRAD_A, false, true);
    each_type_and_side(QN_BLAS_BGRAD_B, false, true);
}

static void batches(void **state)
{
    (void)state;
    one((struct qn__blas_product){ .epilogue = QN_BLAS_PLAIN, .dtype = QN_F32, .batch = BATCH }, false);
    one((struct qn__blas_product){ .epilogue = QN_BLAS_RELU, .dtype = QN_BF16, .batch = BATCH, .tb = true }, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(forward), cmocka_unit_test(gradients_of_activations),
                                        cmocka_unit_test(gradients_of_biases), cmocka_unit_test(batches) };
    return simulated_main("libcublasLt.so.13", tests);
}
#else
int main(void) { return simulated_absent(); }
#endif
