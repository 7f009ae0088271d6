/* blas.c - products through cuBLASLt: descriptors, the choice of an algorithm, the call. See blas.h. */
#include "blas.h"
#include <stdio.h>
#include <string.h>

/* Column-major, as the library counts: D [n,m] = first [n,k] second [k,m], first = B'^T, second = A'^T. */
struct qn__blas_plan {
    cublasLtHandle_t lt;
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t first, second, result;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    bool bias, aux; /* addresses that the descriptor takes */
};

/* Calls in a row; the first that fails is kept, later ones are no-ops. */
struct chain {
    cublasStatus_t status;
    const char *what;
};
#define CALL(c, call, ...) \
    do { \
        if (!(c)->status && ((c)->status = call(__VA_ARGS__)) != CUBLAS_STATUS_SUCCESS) (c)->what = #call; \
    } while (0)

enum { PROPOSALS = 16 };

static bool cuda_type(qn_dtype dtype, cudaDataType *out)
{
    switch (dtype) {
    case QN_F32: *out = CUDA_R_32F; return true;
    case QN_BF16: *out = CUDA_R_16BF; return true;
    case QN_F16: *out = CUDA_R_16F; return true;
    default: return false;
    }
}

/* ---- descriptors --------------------------------------------------------------------------------------- */

static cublasLtEpilogue_t epilogue_of(const struct qn__blas_product *p)
{
    switch (p->epilogue) {
    case QN_BLAS_RELU: return p->bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case QN_BLAS_RELU_AUX: return p->bias ? CUBLASLT_EPILOGUE_RELU_AUX_BIAS : CUBLASLT_EPILOGUE_RELU_AUX;
    case QN_BLAS_GELU: return p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    case QN_BLAS_GELU_AUX: return p->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case QN_BLAS_DRELU: return p->bias_grad ? CUBLASLT_EPILOGUE_DRELU_BGRAD : CUBLASLT_EPILOGUE_DRELU;
    case QN_BLAS_DGELU: return p->bias_grad ? CUBLASLT_EPILOGUE_DGELU_BGRAD : CUBLASLT_EPILOGUE_DGELU;
    /* the library's first operand is our second */
    case QN_BLAS_BGRAD_A: return CUBLASLT_EPILOGUE_BGRADB;
    case QN_BLAS_BGRAD_B: return CUBLASLT_EPILOGUE_BGRADA;
    default: return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
    }
}

static bool has_aux(enum qn__blas_epilogue e)
{
    return e == QN_BLAS_RELU_AUX || e == QN_BLAS_GELU_AUX || e == QN_BLAS_DRELU || e == QN_BLAS_DGELU;
}

static void describe(struct chain *c, struct qn__blas_plan *plan, const struct qn__blas_product *p)
{
    int32_t first = p->tb ? CUBLAS_OP_T : CUBLAS_OP_N, second = p->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    uint32_t epilogue = (uint32_t)epilogue_of(p);
    plan->aux = has_aux(p->epilogue);
    plan->bias = p->bias || p->bias_grad || p->epilogue == QN_BLAS_BGRAD_A || p->epilogue == QN_BLAS_BGRAD_B;
    /* Of an address only its alignment counts before the call. */
    const void *address = (const void *)(uintptr_t)256;
    CALL(c, cublasLtMatmulDescCreate, &plan->desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    CALL(c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first);
    CALL(c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second);
    CALL(c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (plan->bias)
        CALL(c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &address,
             sizeof address);
    if (!plan->aux) return;
    CALL(c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &address,
         sizeof address);
    CALL(c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->aux_step,
         sizeof p->aux_step);
}

/* A row-major matrix of rows x cols: the library's cols x rows. */
static void lay_out(struct chain *c, cublasLtMatrixLayout_t *out, cudaDataType type, int64_t rows, int64_t cols,
                    int64_t batch, int64_t step)
{
    int32_t count = (int32_t)batch;
    CALL(c, cublasLtMatrixLayoutCreate, out, type, (uint64_t)cols, (uint64_t)rows, cols);
    if (batch == 1) return;
    CALL(c, cublasLtMatrixLayoutSetAttribute, *out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    CALL(c, cublasLtMatrixLayoutSetAttribute, *out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
}

static void lay_out_all(struct chain *c, struct qn__blas_plan *plan, const struct qn__blas_product *p)
{
    cudaDataType type = CUDA_R_32F;
    cuda_type(p->dtype, &type);
    lay_out(c, &plan->first, type, p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->batch, p->b_step);
    lay_out(c, &plan->second, type, p->ta ? p->k : p->m, p->ta ? p->m : p->k, p->batch, p->a_step);
    lay_out(c, &plan->result, type, p->m, p->n, p->batch, p->y_step);
}

/* ---- the algorithm -------------------------------------------------------------------------------------- */

static bool get(const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoCapAttributes_t name, void *out, size_t bytes)
{
    size_t written = 0;
    return !cublasLtMatmulAlgoCapGetAttribute(algo, name, out, bytes, &written) && written == bytes;
}

static bool keeps_promises(const cublasLtMatmulAlgo_t *algo, qn_dtype dtype)
{
    uint64_t flags = 0;
    uint32_t scheme = 0;
    int32_t parts = 1;
    size_t n = 0;
    if (!get(algo, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags, sizeof flags)) return false;
    if (flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_16F) return false;
    if (dtype == QN_F32) {
        uint64_t input = flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_OP_INPUT_TYPE_MASK;
        if (flags & CUBLASLT_NUMERICAL_IMPL_FLAGS_TENSOR_OP_MASK) return false;
        if (input & ~CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F) return false;
    }
    if (cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, &n) ||
        cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof scheme, &n))
        return false;
    return scheme == CUBLASLT_REDUCTION_SCHEME_NONE || scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

static void prefer(struct chain *c, cublasLtMatmulPreference_t pref, size_t workspace, int64_t align)
{
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = { CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                                                                       CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES };
    uint64_t bytes = workspace;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, least = (uint32_t)align;
    CALL(c, cublasLtMatmulPreferenceSetAttribute, pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    CALL(c, cublasLtMatmulPreferenceSetAttribute, pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
         sizeof schemes);
    for (int i = 0; i < 4; i++)
        CALL(c, cublasLtMatmulPreferenceSetAttribute, pref, alignments[i], &least, sizeof least);
}

/* The proposals that keep the promises, in the library's order; how many. */
static int propose(struct chain *c, const struct qn__blas_plan *plan, const struct qn__blas_product *p,
                   size_t workspace, cublasLtMatmulHeuristicResult_t proposal[PROPOSALS])
{
    cublasLtMatmulPreference_t pref = NULL;
    int n = 0, good = 0;
    CALL(c, cublasLtMatmulPreferenceCreate, &pref);
    prefer(c, pref, workspace, p->align);
    if (!c->status) {
        cublasStatus_t answer = cublasLtMatmulAlgoGetHeuristic(plan->lt, plan->desc, plan->first, plan->second,
                                                               plan->result, plan->result, pref, PROPOSALS, proposal,
                                                               &n);
        if (answer == CUBLAS_STATUS_NOT_SUPPORTED)
            n = 0;
        else if (answer)
            *c = (struct chain){ answer, "cublasLtMatmulAlgoGetHeuristic" };
    }
    for (int i = 0; i < n && !c->status; i++) {
        if (proposal[i].state || proposal[i].workspaceSize > workspace) continue;
        if (keeps_promises(&proposal[i].algo, p->dtype)) proposal[good++] = proposal[i];
    }
    if (pref) cublasLtMatmulPreferenceDestroy(pref);
    return good;
}

/* All that an algorithm's configuration is, as the library names its parts. */
static void name_of(const cublasLtMatmulAlgo_t *algo, char *name, size_t size)
{
    static const struct {
        const char *name;
        cublasLtMatmulAlgoConfigAttributes_t attribute;
        size_t bytes;
    } parts[] = {
        { "algo", CUBLASLT_ALGO_CONFIG_ID, 4 },
        { "tile", CUBLASLT_ALGO_CONFIG_TILE_ID, 4 },
        { "stages", CUBLASLT_ALGO_CONFIG_STAGES_ID, 4 },
        { "split", CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4 },
        { "scheme", CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4 },
        { "swizzle", CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4 },
        { "option", CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4 },
        { "inner", CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2 },
        { "cluster", CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2 },
    };
    size_t at = 0;
    *name = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && at < size; i++) {
        uint32_t wide = 0;
        uint16_t narrow = 0;
        size_t written = 0;
        void *to = parts[i].bytes == 4 ? (void *)&wide : (void *)&narrow;
        bool known = !cublasLtMatmulAlgoConfigGetAttribute(algo, parts[i].attribute, to, parts[i].bytes, &written);
        if (known) at += (size_t)snprintf(name + at, size - at, "%s%s %u", at ? " " : "", parts[i].name, wide + narrow);
    }
}

/* The first proposal, or that of a name; false if there is none. */
static bool choose(struct chain *c, struct qn__blas_plan *plan, const struct qn__blas_product *p, size_t workspace,
                   const char *wanted)
{
    cublasLtMatmulHeuristicResult_t proposal[PROPOSALS];
    struct qn__algorithm a;
    int n = propose(c, plan, p, workspace, proposal), i = 0;
    for (; i < n && wanted; i++) {
        name_of(&proposal[i].algo, a.name, sizeof a.name);
        if (strcmp(a.name, wanted) == 0) break;
    }
    if (i >= n) return false;
    plan->algo = proposal[i].algo;
    plan->workspace = wanted ? proposal[i].workspaceSize : workspace;
    return true;
}

/* ---- plans ---------------------------------------------------------------------------------------------- */

static struct qn__blas_plan *new_plan(struct chain *c, cublasLtHandle_t lt, const struct qn__blas_product *p)
{
    struct qn__blas_plan *plan = qn__calloc(&qn__std_alloc, 1, sizeof *plan);
    if (!plan) return NULL;
    plan->lt = lt;
    describe(c, plan, p);
    lay_out_all(c, plan, p);
    return plan;
}

qn_status qn__blas_plan(struct qn__blas_plan **out, cublasLtHandle_t lt, const struct qn__blas_product *p,
                        size_t workspace, const struct qn__step *step, qn_error *err)
{
    struct chain c = { CUBLAS_STATUS_SUCCESS, NULL };
    *out = NULL;
    struct qn__blas_plan *plan = new_plan(&c, lt, p);
    if (!plan) return qn__nomem(err, "plan of a product", sizeof *plan);
    if (!c.status && choose(&c, plan, p, workspace, step ? step->algorithm : NULL))
        *out = plan;
    else
        qn__blas_plan_free(plan);
    return c.status ? qn__blas_check(c.status, c.what, step, err) : QN_OK;
}

size_t qn__blas_workspace(const struct qn__blas_plan *plan) { return plan->workspace; }

qn_status qn__blas_algorithms(cublasLtHandle_t lt, const struct qn__blas_product *p, size_t workspace,
                              const struct qn__step *step, struct qn__algorithm *out, int max, int *n, qn_error *err)
{
    struct chain c = { CUBLAS_STATUS_SUCCESS, NULL };
    cublasLtMatmulHeuristicResult_t proposal[PROPOSALS];
    struct qn__blas_plan *plan = new_plan(&c, lt, p);
    *n = 0;
    if (!plan) return qn__nomem(err, "plan of a product", sizeof *plan);
    int good = c.status ? 0 : propose(&c, plan, p, workspace, proposal);
    for (int i = 0; i < good && *n < max; i++, (*n)++) {
        name_of(&proposal[i].algo, out[*n].name, sizeof out[*n].name);
        out[*n].workspace = proposal[i].workspaceSize;
    }
    qn__blas_plan_free(plan);
    return c.status ? qn__blas_check(c.status, c.what, step, err) : QN_OK;
}

void qn__blas_plan_free(struct qn__blas_plan *plan)
{
    if (!plan) return;
    if (plan->first) cublasLtMatrixLayoutDestroy(plan->first);
    if (plan->second) cublasLtMatrixLayoutDestroy(plan->second);
    if (plan->result) cublasLtMatrixLayoutDestroy(plan->result);
    if (plan->desc) cublasLtMatmulDescDestroy(plan->desc);
    qn__free(&qn__std_alloc, plan, sizeof *plan);
}

qn_status qn__blas_run(const struct qn__blas_plan *plan, const struct qn__blas_data *d, cudaStream_t stream,
                       const struct qn__step *step, qn_error *err)
{
    const float one = 1, zero = 0;
    struct chain c = { CUBLAS_STATUS_SUCCESS, NULL };
    if (plan->bias)
        CALL(&c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &d->bias,
             sizeof d->bias);
    if (plan->aux)
        CALL(&c, cublasLtMatmulDescSetAttribute, plan->desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &d->aux,
             sizeof d->aux);
    CALL(&c, cublasLtMatmul, plan->lt, plan->desc, &one, d->b, plan->first, d->a, plan->second, &zero, d->y,
         plan->result, d->y, plan->result, &plan->algo, d->workspace, plan->workspace, stream);
    return qn__blas_check(c.status, c.what ? c.what : "cublasLtMatmul", step, err);
}
