/* blas_run.cpp - cublasLtMatmul on the host, when its stream's turn comes.
 *
 * D = f(alpha op(A) op(B) + beta C): sums in f32 with k in order (or part by part, where the algorithm cuts it), as
 * inaccurate as an f32 sum may be, so that a caller's bounds are put to the test; a real kernel's order is another one,
 * so equal bits mean nothing. The epilogue's functions are computed in f64 and rounded once. max(x, 0) keeps a NaN, as
 * the rectifiers of CUTLASS do; the manual does not say. The workspace is filled with 0xFF first: it holds nothing. */
#include "blas.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <new>
#include <stdlib.h>
#include <string.h>

using namespace blas;

static float load(const void *p, uint32_t type, int64_t i)
{
    if (type == CUDA_R_16BF) return __bfloat162float(((const __nv_bfloat16 *)p)[i]);
    if (type == CUDA_R_16F) return __half2float(((const __half *)p)[i]);
    return ((const float *)p)[i];
}

static void store(void *p, uint32_t type, int64_t i, float x)
{
    if (type == CUDA_R_16BF)
        ((__nv_bfloat16 *)p)[i] = __float2bfloat16(x);
    else if (type == CUDA_R_16F)
        ((__half *)p)[i] = __float2half(x);
    else
        ((float *)p)[i] = x;
}

/* One call: descriptors by value, since the caller may destroy them at once. */
struct Work {
    Desc desc;
    Layout a, b, c, d;
    Problem p;
    Algo algo;
    const void *A, *B, *C, *alpha, *beta;
    void *D, *workspace;
    size_t workspace_bytes;
    float alpha_value, beta_value;
};

/* ---- one product ------------------------------------------------------------------------------------------------ */

/* op(X) as rows of f32: [rows][cols]. */
static float *rows_of(const void *x, const Layout *l, int64_t offset, bool transposed, int64_t rows, int64_t cols)
{
    float *out = (float *)malloc((size_t)(rows * cols) * sizeof *out);
    if (!out) return nullptr;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            out[i * cols + j] = load(x, l->type, offset + (transposed ? j + i * l->ld : i + j * l->ld));
    return out;
}

static void read_matrix(const void *x, const Layout *l, int64_t offset, const char *what)
{
    size_t size = size_of(l->type);
    for (int64_t j = 0; j < (int64_t)l->cols; j++)
        cudasim_read((const char *)x + (size_t)(offset + j * l->ld) * size, (size_t)l->rows * size, what);
}

/* sum[n][m] += b[n][k] a[k][m] over k in [from, to): columns of D beside each other. */
__attribute__((optimize("O3"))) static void add_part(float *sum, const float *a, const float *b, int64_t m, int64_t n,
                                                     int64_t k, int64_t from, int64_t to)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t t = from; t < to; t++) {
            float x = b[j * k + t];
            const float *__restrict row = a + t * m;
            float *__restrict out = sum + j * m;
            for (int64_t i = 0; i < m; i++) out[i] += x * row[i];
        }
}

/* The product as [n][m]; NULL: no memory. */
static float *product(const Work *w, const float *a, const float *b)
{
    const Problem *p = &w->p;
    size_t count = (size_t)(p->m * p->n);
    float *sum = (float *)calloc(count, sizeof *sum), *part = (float *)calloc(count, sizeof *part);
    for (int i = 0; sum && part && i < w->algo.parts; i++) {
        memset(part, 0, count * sizeof *part);
        add_part(part, a, b, p->m, p->n, p->k, i * p->k / w->algo.parts, (i + 1) * p->k / w->algo.parts);
        for (size_t j = 0; j < count; j++) sum[j] += part[j];
    }
    free(part);
    return sum;
}

/* ---- epilogues ---------------------------------------------------------------------------------------------------- */

static float gelu(float z)
{
    double x = z, u = 0.79788456080286535588 * (x + 0.044715 * x * x * x);
    return (float)(0.5 * x * (1 + tanh(u)));
}

static float gelu_slope(float z)
{
    double x = z, u = 0.79788456080286535588 * (x + 0.044715 * x * x * x), t = tanh(u);
    return (float)(0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.79788456080286535588 * (1 + 3 * 0.044715 * x * x));
}

static bool bit_at(const void *p, int64_t i) { return ((const uint8_t *)p)[i / 8] >> (i % 8) & 1; }
static void set_bit(void *p, int64_t i, bool on)
{
    uint8_t *byte = (uint8_t *)p + i / 8;
    *byte = (uint8_t)((*byte & ~(1u << (i % 8))) | (unsigned)on << (i % 8));
}

/* What is stored for z = alpha product + beta C, element (i, j) of one matrix. */
static float finish(const Work *w, float z, int64_t i, int64_t j, int64_t batch)
{
    const Desc *e = &w->desc;
    uint32_t f = e->epilogue;
    int64_t at = batch * e->aux_stride + j * e->aux_ld + i;
    void *aux = const_cast<void *>(e->aux);
    if (f & CUBLASLT_EPILOGUE_BIAS) z += load(e->bias, w->d.type, batch * e->bias_stride + i);
    if ((f & 8) && (f & 128)) return bit_at(aux, at) ? z : 0;
    if (f & 64) return z * gelu_slope(load(aux, w->d.type, at));
    if (f & CUBLASLT_EPILOGUE_GELU) {
        if (f & 128) store(aux, w->d.type, at, z);
        return gelu(z);
    }
    if (f & CUBLASLT_EPILOGUE_RELU) {
        if (f & 128) set_bit(aux, at, z > 0);
        return z < 0 ? 0 : z;
    }
    return z;
}

static void read_vectors(const Work *w, int64_t batch)
{
    const Desc *e = &w->desc;
    size_t size = size_of(w->d.type), m = (size_t)w->p.m;
    bool bits = e->epilogue & (CUBLASLT_EPILOGUE_RELU | 8);
    if (e->epilogue & CUBLASLT_EPILOGUE_BIAS)
        cudasim_read((const char *)e->bias + (size_t)(batch * e->bias_stride) * size, m * size, "cublasLtMatmul: bias");
    if (!(e->epilogue & 128) || !(e->epilogue & (8 | 64))) return;
    for (int64_t j = 0; j < w->p.n; j++) {
        size_t at = (size_t)(batch * e->aux_stride + j * e->aux_ld);
        cudasim_read((const char *)e->aux + (bits ? at / 8 : at * size), bits ? (m + 7) / 8 : m * size,
                     "cublasLtMatmul: aux");
    }
}

static void wrote(const Work *w, int64_t batch)
{
    const Desc *e = &w->desc;
    size_t size = size_of(w->d.type), m = (size_t)w->p.m;
    bool bits = e->epilogue & (CUBLASLT_EPILOGUE_RELU | 8), out = e->epilogue & 128 && !(e->epilogue & (8 | 64));
    for (int64_t j = 0; j < w->p.n; j++) {
        size_t at = (size_t)(batch * e->aux_stride + j * e->aux_ld);
        cudasim_written((char *)w->D + (size_t)(batch * w->d.stride + j * w->d.ld) * size, m * size);
        if (out) cudasim_written((const char *)e->aux + (bits ? at / 8 : at * size), bits ? (m + 7) / 8 : m * size);
    }
}

static void sum_gradient(const Work *w, const float *value, int64_t rows, int64_t cols, int64_t row_step,
                         int64_t col_step, int64_t batch)
{
    void *out = const_cast<void *>(w->desc.bias);
    size_t size = size_of(w->d.type);
    for (int64_t i = 0; i < rows; i++) {
        float sum = 0;
        for (int64_t j = 0; j < cols; j++) sum += value[i * row_step + j * col_step];
        store(out, w->d.type, batch * w->desc.bias_stride + i, sum);
    }
    cudasim_written((char *)out + (size_t)(batch * w->desc.bias_stride) * size, (size_t)rows * size);
}

/* ---- the call -------------------------------------------------------------------------------------------------------- */

static bool multiply(const Work *w, int64_t batch)
{
    const Problem *p = &w->p;
    bool ta = w->desc.op_a != CUBLAS_OP_N, tb = w->desc.op_b != CUBLAS_OP_N;
    int64_t a_at = batch * w->a.stride, b_at = batch * w->b.stride;
    read_matrix(w->A, &w->a, a_at, "cublasLtMatmul: A");
    read_matrix(w->B, &w->b, b_at, "cublasLtMatmul: B");
    if (w->beta_value != 0) read_matrix(w->C, &w->c, batch * w->c.stride, "cublasLtMatmul: C");
    read_vectors(w, batch);
    /* op(A)^T: [k][m]; op(B)^T: [n][k] */
    float *a = rows_of(w->A, &w->a, a_at, !ta, p->k, p->m), *b = rows_of(w->B, &w->b, b_at, !tb, p->n, p->k);
    float *sum = a && b ? product(w, a, b) : nullptr;
    for (int64_t j = 0; sum && j < p->n; j++)
        for (int64_t i = 0; i < p->m; i++) {
            float z = w->alpha_value * sum[j * p->m + i];
            if (w->beta_value != 0) z += w->beta_value * load(w->C, w->c.type, batch * w->c.stride + j * w->c.ld + i);
            z = finish(w, z, i, j, batch);
            store(w->D, w->d.type, batch * w->d.stride + j * w->d.ld + i, z);
            sum[j * p->m + i] = z;
        }
    if (sum) wrote(w, batch);
    if (sum && w->desc.epilogue & 16) sum_gradient(w, sum, p->m, p->n, 1, p->m, batch);
    if (sum && w->desc.epilogue == CUBLASLT_EPILOGUE_BGRADA) sum_gradient(w, a, p->m, p->k, 1, p->m, batch);
    if (sum && w->desc.epilogue == CUBLASLT_EPILOGUE_BGRADB) sum_gradient(w, b, p->n, p->k, p->k, 1, batch);
    bool good = sum != nullptr;
    free(a);
    free(b);
    free(sum);
    return good;
}

static int run(void *state)
{
    Work *w = (Work *)state;
    if (w->desc.pointer_mode == CUBLASLT_POINTER_MODE_DEVICE) {
        cudasim_read(w->alpha, sizeof(float), "cublasLtMatmul: alpha");
        cudasim_read(w->beta, sizeof(float), "cublasLtMatmul: beta");
        w->alpha_value = *(const float *)w->alpha;
        w->beta_value = *(const float *)w->beta;
    }
    if (w->workspace_bytes) memset(w->workspace, 0xff, w->workspace_bytes);
    for (int64_t batch = 0; batch < w->d.batch; batch++)
        if (!multiply(w, batch)) return CUDASIM_FAILED;
    return CUDASIM_DONE;
}

static void release(void *state) { delete (Work *)state; }

/* The algorithm of the call, or the one that the library itself would take. */
static cublasStatus_t choose(const cublasLtMatmulAlgo_t *given, const Problem *p, const void *const *address,
                             size_t workspace, Algo *out)
{
    if (!given) {
        Preference pref = {};
        pref.schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
        pref.workspace = workspace;
        pref.impl = (uint64_t)-1;
        for (int i = 0; i < 4; i++) pref.align[i] = (uint32_t)((uintptr_t)address[i] & -(uintptr_t)address[i] & 0xfff);
        return propose(p, &pref, out, 1) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    }
    memcpy(out, given, sizeof *out);
    if (!algo_takes(out, p) || workspace_of(out, p) > workspace) return CUBLAS_STATUS_INVALID_VALUE;
    for (int i = 0; i < 4; i++)
        if (out->align[i] && (uintptr_t)address[i] % out->align[i]) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void *alpha, const void *A,
                              cublasLtMatrixLayout_t a, const void *B, cublasLtMatrixLayout_t b, const void *beta,
                              const void *C, cublasLtMatrixLayout_t c, void *D, cublasLtMatrixLayout_t d,
                              const cublasLtMatmulAlgo_t *algo, void *workspace, size_t bytes, cudaStream_t stream)
{
    cublasStatus_t status = CUBLAS_STATUS_EXECUTION_FAILED;
    if (injected("cublasLtMatmul", &status)) return status;
    if (!handle_is_live(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    Problem p = { desc_of(desc), layout_of(a), layout_of(b), layout_of(c), layout_of(d), 0, 0, 0 };
    if (!alpha || !beta) return CUBLAS_STATUS_INVALID_VALUE;
    status = examine(&p);
    if (status) return status;
    const void *address[4] = { A, B, C, D };
    Work *w = new (std::nothrow) Work;
    if (!w) return CUBLAS_STATUS_ALLOC_FAILED;
    *w = { *p.desc, *p.a, *p.b, *p.c, *p.d, p, {}, A, B, C, alpha, beta, D, workspace, 0, 0, 0 };
    w->p = { &w->desc, &w->a, &w->b, &w->c, &w->d, p.m, p.n, p.k };
    status = choose(algo, &p, address, bytes, &w->algo);
    if (!status) status = examine_addresses(&p, A, B, C, D);
    w->workspace_bytes = workspace_of(&w->algo, &p);
    bool device = p.desc->pointer_mode == CUBLASLT_POINTER_MODE_DEVICE;
    if (!status && (uintptr_t)workspace % 256) status = CUBLAS_STATUS_INVALID_VALUE;
    if (!status && !cudasim_range(workspace, w->workspace_bytes, -1, "cublasLtMatmul: workspace"))
        status = CUBLAS_STATUS_EXECUTION_FAILED;
    if (!status && device && !(cudasim_range(alpha, 4, -1, "alpha") && cudasim_range(beta, 4, -1, "beta")))
        status = CUBLAS_STATUS_EXECUTION_FAILED;
    if (status) {
        delete w;
        return status;
    }
    if (!device) w->alpha_value = *(const float *)alpha, w->beta_value = *(const float *)beta;
    return cudasim_enqueue(stream, "cublasLtMatmul", run, w, release) ? CUBLAS_STATUS_EXECUTION_FAILED
                                                                      : CUBLAS_STATUS_SUCCESS;
}
