/* blas_rules.cpp - what the manual of cublasLtMatmul allows. Everything that it does not list, and what is listed but not
 * simulated (integers, 8-bit floats, f64, complex, orders other than by columns), is refused.
 *
 * Sources: the comments of cublasLt.h, and in the cuBLAS documentation the table of types of cublasLtMatmul and the
 * descriptions of cublasLtEpilogue_t and cublasLtMatmulDescAttributes_t. */
#include "blas.h"

using namespace blas;

size_t blas::size_of(uint32_t type)
{
    switch (type) {
    case CUDA_R_32F: return 4;
    case CUDA_R_16F:
    case CUDA_R_16BF: return 2;
    default: return 0;
    }
}

/* ---- types --------------------------------------------------------------------------------------------------- */

/* One row: op(A) and op(B) have one type, C and D one type. */
static const struct {
    int32_t compute, scale;
    uint32_t ab, cd;
} types[] = {
    { CUBLAS_COMPUTE_16F, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F },
    { CUBLAS_COMPUTE_16F_PEDANTIC, CUDA_R_16F, CUDA_R_16F, CUDA_R_16F },
    { CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF },
    { CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F },
    { CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16BF, CUDA_R_16BF },
    { CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16F, CUDA_R_16F },
    { CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16BF, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_16F, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F_PEDANTIC, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F_FAST_16F, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F_FAST_16BF, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F },
    { CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUDA_R_32F },
};

static bool types_listed(const Problem *p)
{
    if (p->a->type != p->b->type || p->c->type != p->d->type) return false;
    for (const auto &row : types)
        if (row.compute == p->desc->compute && row.scale == p->desc->scale && row.ab == p->a->type &&
            row.cd == p->d->type)
            return true;
    return false;
}

/* ---- layouts ------------------------------------------------------------------------------------------------- */

static cublasStatus_t examine_layout(const Layout *l)
{
    if (l->rows == 0 || l->cols == 0 || l->batch < 1) return CUBLAS_STATUS_INVALID_VALUE;
    if (l->rows > INT32_MAX || l->cols > INT32_MAX) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (l->order != CUBLASLT_ORDER_COL || l->plane || l->mode != CUBLASLT_BATCH_MODE_STRIDED)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (l->ld < (int64_t)l->rows) return CUBLAS_STATUS_INVALID_VALUE; /* columns would overlap */
    if (l->stride < 0) return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

static bool operation_listed(int32_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; }

static cublasStatus_t examine_shapes(Problem *p)
{
    const Desc *e = p->desc;
    if (!operation_listed(e->op_a) || !operation_listed(e->op_b)) return CUBLAS_STATUS_INVALID_VALUE;
    if (e->op_c != CUBLAS_OP_N) return CUBLAS_STATUS_NOT_SUPPORTED;
    const Layout *all[] = { p->a, p->b, p->c, p->d };
    for (const Layout *l : all) {
        cublasStatus_t status = examine_layout(l);
        if (status) return status;
        if (l->batch != p->d->batch) return CUBLAS_STATUS_INVALID_VALUE;
    }
    bool ta = e->op_a != CUBLAS_OP_N, tb = e->op_b != CUBLAS_OP_N;
    uint64_t m = ta ? p->a->cols : p->a->rows, k = ta ? p->a->rows : p->a->cols;
    uint64_t kb = tb ? p->b->cols : p->b->rows, n = tb ? p->b->rows : p->b->cols;
    if (k != kb || m != p->d->rows || n != p->d->cols) return CUBLAS_STATUS_INVALID_VALUE;
    if (p->c->rows != m || p->c->cols != n) return CUBLAS_STATUS_INVALID_VALUE;
    /* results of a batch must not lie on each other */
    if (p->d->batch > 1 && p->d->stride < (int64_t)(n - 1) * p->d->ld + (int64_t)m) return CUBLAS_STATUS_INVALID_VALUE;
    p->m = (int64_t)m, p->n = (int64_t)n, p->k = (int64_t)k;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- epilogues ----------------------------------------------------------------------------------------------- */

static bool epilogue_listed(uint32_t e)
{
    switch (e) {
    case CUBLASLT_EPILOGUE_DEFAULT:
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_AUX:
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_RELU_BIAS:
    case CUBLASLT_EPILOGUE_RELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DRELU:
    case CUBLASLT_EPILOGUE_DRELU_BGRAD:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB: return true;
    default: return false;
    }
}

/* Relu's is a matrix of bits. */
static bool aux_is_bits(uint32_t e) { return (e & CUBLASLT_EPILOGUE_RELU) || (e & 8); }

static cublasStatus_t examine_aux(const Problem *p)
{
    const Desc *e = p->desc;
    bool bits = aux_is_bits(e->epilogue);
    int64_t multiple = bits ? 128 : 8;
    if (e->aux_ld % multiple || e->aux_ld < p->m) return CUBLAS_STATUS_INVALID_VALUE;
    if (!bits && e->aux_type != -1 && (uint32_t)e->aux_type != p->d->type) return CUBLAS_STATUS_INVALID_VALUE;
    if (p->d->batch > 1 && (e->aux_stride % multiple || e->aux_stride < e->aux_ld * p->n))
        return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t examine_epilogue(const Problem *p)
{
    const Desc *e = p->desc;
    if (!epilogue_listed(e->epilogue)) return CUBLAS_STATUS_INVALID_VALUE;
    if (e->bias_type != -1 && (uint32_t)e->bias_type != p->d->type) return CUBLAS_STATUS_INVALID_VALUE;
    if (e->epilogue & 128) {
        cublasStatus_t status = examine_aux(p);
        if (status) return status;
    }
    /* gradients of several products must not be written to one vector */
    bool gradient = e->epilogue & 16 || e->epilogue == CUBLASLT_EPILOGUE_BGRADA ||
                    e->epilogue == CUBLASLT_EPILOGUE_BGRADB;
    int64_t length = e->epilogue == CUBLASLT_EPILOGUE_BGRADB ? p->n : p->m;
    if (gradient && p->d->batch > 1 && e->bias_stride < length) return CUBLAS_STATUS_INVALID_VALUE;
    if (e->bias_stride < 0) return CUBLAS_STATUS_INVALID_VALUE;
    return CUBLAS_STATUS_SUCCESS;
}

/* Attributes that belong to types which are not simulated must be as they were created. */
static cublasStatus_t examine_rest(const Desc *e)
{
    for (const void *pointer : e->scale_of)
        if (pointer) return CUBLAS_STATUS_INVALID_VALUE;
    if (e->amax_d || e->aux_scale || e->aux_amax || e->out_scale || e->fast) return CUBLAS_STATUS_INVALID_VALUE;
    for (int32_t mode : e->mode)
        if (mode) return CUBLAS_STATUS_INVALID_VALUE;
    if (e->fill != CUBLAS_FILL_MODE_FULL || e->sm_count || e->emulation) return CUBLAS_STATUS_NOT_SUPPORTED;
    if (e->pointer_mode != CUBLASLT_POINTER_MODE_HOST && e->pointer_mode != CUBLASLT_POINTER_MODE_DEVICE)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas::examine(Problem *p)
{
    if (!p->desc || !p->a || !p->b || !p->c || !p->d) return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t status = examine_shapes(p);
    if (!status && !types_listed(p)) status = CUBLAS_STATUS_NOT_SUPPORTED;
    if (!status) status = examine_epilogue(p);
    return status ? status : examine_rest(p->desc);
}

/* ---- addresses ------------------------------------------------------------------------------------------------ */

/* Elements from the first to the last of a batch of matrices. */
static size_t span_of(const Layout *l)
{
    return (size_t)((l->batch - 1) * l->stride + ((int64_t)l->cols - 1) * l->ld + (int64_t)l->rows) * size_of(l->type);
}

static bool overlap(const void *p, size_t bytes, const void *q, size_t more)
{
    return (const char *)p < (const char *)q + more && (const char *)q < (const char *)p + bytes;
}

static bool there(const void *p, size_t bytes, size_t align, const char *what)
{
    if ((uintptr_t)p % align == 0) return cudasim_range(p, bytes, -1, what);
    cudasim_report("%s: %p is not a multiple of %zu", what, p, align);
    return false;
}

static cublasStatus_t vectors_there(const Problem *p)
{
    const Desc *e = p->desc;
    size_t size = size_of(p->d->type);
    int64_t last = p->d->batch - 1, length = e->epilogue == CUBLASLT_EPILOGUE_BGRADB ? p->n : p->m;
    bool vector = e->epilogue & (CUBLASLT_EPILOGUE_BIAS | 16 | CUBLASLT_EPILOGUE_BGRADA | CUBLASLT_EPILOGUE_BGRADB);
    if (vector && !e->bias) return CUBLAS_STATUS_INVALID_VALUE;
    /* 16 bytes: kernels read it so, although the manual does not say it */
    if (vector && !there(e->bias, (size_t)(last * e->bias_stride + length) * size, 16, "cublasLtMatmul: bias"))
        return CUBLAS_STATUS_EXECUTION_FAILED;
    if (!(e->epilogue & 128)) return CUBLAS_STATUS_SUCCESS;
    if (!e->aux) return CUBLAS_STATUS_INVALID_VALUE;
    size_t units = (size_t)(last * e->aux_stride + (p->n - 1) * e->aux_ld + p->m);
    size_t bytes = aux_is_bits(e->epilogue) ? (units + 7) / 8 : units * size;
    return there(e->aux, bytes, 16, "cublasLtMatmul: aux") ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t blas::examine_addresses(const Problem *p, const void *a, const void *b, const void *c, const void *d)
{
    if (!a || !b || !c || !d) return CUBLAS_STATUS_INVALID_VALUE;
    if (c == d && (p->c->ld != p->d->ld || p->c->stride != p->d->stride)) return CUBLAS_STATUS_INVALID_VALUE;
    bool good = there(a, span_of(p->a), size_of(p->a->type), "cublasLtMatmul: A") &&
                there(b, span_of(p->b), size_of(p->b->type), "cublasLtMatmul: B") &&
                there(c, span_of(p->c), size_of(p->c->type), "cublasLtMatmul: C") &&
                there(d, span_of(p->d), size_of(p->d->type), "cublasLtMatmul: D");
    if (!good) return CUBLAS_STATUS_EXECUTION_FAILED;
    if (overlap(d, span_of(p->d), a, span_of(p->a)) || overlap(d, span_of(p->d), b, span_of(p->b))) {
        cudasim_report("cublasLtMatmul: D at %p lies on A at %p or B at %p", d, a, b);
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return vectors_there(p);
}
