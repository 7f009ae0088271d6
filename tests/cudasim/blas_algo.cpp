/* blas_algo.cpp - the simulated cuBLASLt's algorithms: what is proposed for a product, and their properties.
 *
 * Three: a plain one; one that cuts the sum in parts and adds them in f32 (scheme COMPUTE_TYPE), which needs workspace;
 * and one that does so in place with counters, whose order the real library leaves open. They come in the order that
 * tempts a caller most: in place first, then parts, then plain, and none is kept back that the preference allows. */
#include "blas.h"
#include <string.h>

using namespace blas;

enum Id { PLAIN = 0, PARTS = 1, IN_PLACE = 2, IDS };
enum { PART_COUNT = 4, PART_LEAST = 256 }; /* of k, from which on a sum is cut */
enum { COUNTERS = 1024 };                  /* bytes that every algorithm but the plain one keeps counters in */

/* Vectors of 16 bytes are read where address, leading dimension and batch step allow it. */
static uint32_t alignment_of(const Layout *l, uint32_t address)
{
    int64_t size = (int64_t)size_of(l->type);
    int64_t all = (l->ld * size) | (l->batch > 1 ? l->stride * size : 0) | (int64_t)address | 16;
    uint32_t least = (uint32_t)(all & -all);
    return least < size ? (uint32_t)size : least;
}

static uint64_t flags_of(uint32_t type)
{
    switch (type) {
    case CUDA_R_16BF:
        return CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
               CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16BF;
    case CUDA_R_16F:
        return CUBLASLT_NUMERICAL_IMPL_FLAGS_HMMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
               CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_16F;
    default:
        return CUBLASLT_NUMERICAL_IMPL_FLAGS_FMA | CUBLASLT_NUMERICAL_IMPL_FLAGS_ACCUMULATOR_32F |
               CUBLASLT_NUMERICAL_IMPL_FLAGS_INPUT_32F;
    }
}

size_t blas::workspace_of(const Algo *algo, const Problem *p)
{
    if (algo->parts <= 1) return 0;
    size_t values = algo->scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE ? (size_t)(p->m * p->n) * 4 : 0;
    return COUNTERS + values * (size_t)algo->parts * (size_t)p->d->batch;
}

bool blas::algo_takes(const Algo *algo, const Problem *p)
{
    if (algo->magic != ALGO || algo->type != p->a->type || algo->id < 0 || algo->id >= IDS) return false;
    if (algo->parts < 1 || (algo->parts > 1) != (algo->scheme != CUBLASLT_REDUCTION_SCHEME_NONE)) return false;
    return algo->id != PLAIN || algo->parts == 1;
}

static Algo algo_of(const Problem *p, Id id, const uint32_t *align)
{
    Algo a = {};
    const Layout *l[4] = { p->a, p->b, p->c, p->d };
    a.magic = ALGO;
    a.id = id;
    a.tile = CUBLASLT_MATMUL_TILE_64x64;
    a.type = p->a->type;
    a.parts = id == PLAIN ? 1 : PART_COUNT;
    a.scheme = id == PLAIN   ? CUBLASLT_REDUCTION_SCHEME_NONE
               : id == PARTS ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                             : CUBLASLT_REDUCTION_SCHEME_INPLACE;
    for (int i = 0; i < 4; i++) a.align[i] = alignment_of(l[i], align[i]);
    return a;
}

int blas::propose(const Problem *p, const Preference *pref, Algo *out, int max)
{
    static const Id order[] = { IN_PLACE, PARTS, PLAIN };
    int n = 0;
    for (Id id : order) {
        Algo a = algo_of(p, id, pref->align);
        if (id != PLAIN && (p->k < PART_LEAST || !(a.scheme & pref->schemes))) continue;
        if (workspace_of(&a, p) > pref->workspace || flags_of(a.type) & ~pref->impl || n == max) continue;
        out[n++] = a;
    }
    return n;
}

/* ---- the library's calls -------------------------------------------------------------------------------------- */

static Problem problem_of(cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                          cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
    Problem p = {};
    p.desc = desc_of(desc);
    p.a = layout_of(a), p.b = layout_of(b), p.c = layout_of(c), p.d = layout_of(d);
    return p;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int max,
                                              cublasLtMatmulHeuristicResult_t *result, int *n)
{
    cublasStatus_t status = CUBLAS_STATUS_INTERNAL_ERROR;
    Algo algo[IDS];
    if (injected("cublasLtMatmulAlgoGetHeuristic", &status)) return status;
    if (!handle_is_live(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    const Preference *pref = reinterpret_cast<const Preference *>(preference);
    if (!pref || pref->magic != PREFERENCE || max <= 0 || !result || !n) return CUBLAS_STATUS_INVALID_VALUE;
    if (pref->search != CUBLASLT_SEARCH_BEST_FIT) return CUBLAS_STATUS_NOT_SUPPORTED;
    Problem p = problem_of(desc, a, b, c, d);
    *n = 0;
    status = examine(&p);
    if (status) return status;
    int found = propose(&p, pref, algo, max < IDS ? max : IDS);
    for (int i = 0; i < found; i++) {
        result[i] = {};
        memcpy(&result[i].algo, &algo[i], sizeof algo[i]);
        result[i].workspaceSize = workspace_of(&algo[i], &p);
        result[i].state = CUBLAS_STATUS_SUCCESS;
        result[i].wavesCount = 1;
    }
    *n = found;
    return found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result)
{
    cublasStatus_t status = CUBLAS_STATUS_INTERNAL_ERROR;
    if (injected("cublasLtMatmulAlgoCheck", &status)) return status;
    if (!handle_is_live(handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (!algo || !result) return CUBLAS_STATUS_INVALID_VALUE;
    Problem p = problem_of(desc, a, b, c, d);
    status = examine(&p);
    if (status) return status;
    const Algo *x = reinterpret_cast<const Algo *>(algo);
    if (!algo_takes(x, &p)) return CUBLAS_STATUS_INVALID_VALUE;
    result->workspaceSize = workspace_of(x, &p);
    result->state = CUBLAS_STATUS_SUCCESS;
    result->wavesCount = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- properties ------------------------------------------------------------------------------------------------ */

static cublasStatus_t answer(const void *value, size_t size, void *out, size_t bytes, size_t *written)
{
    if (bytes == 0 && !written) return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes != 0 && (!out || bytes != size)) return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes) memcpy(out, value, size);
    if (written) *written = size;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCapGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                 cublasLtMatmulAlgoCapAttributes_t name, void *out, size_t bytes,
                                                 size_t *written)
{
    cublasStatus_t status = CUBLAS_STATUS_INTERNAL_ERROR;
    if (injected("cublasLtMatmulAlgoCapGetAttribute", &status)) return status;
    const Algo *a = reinterpret_cast<const Algo *>(algo);
    if (!a || a->magic != ALGO) return CUBLAS_STATUS_INVALID_VALUE;
    int32_t number = 0;
    uint32_t mask = 0;
    uint64_t flags = flags_of(a->type);
    switch (name) {
    case CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS: return answer(&flags, sizeof flags, out, bytes, written);
    case CUBLASLT_ALGO_CAP_SPLITK_SUPPORT: number = a->id != PLAIN; break;
    case CUBLASLT_ALGO_CAP_STRIDED_BATCH_SUPPORT:
    case CUBLASLT_ALGO_CAP_OUT_OF_PLACE_RESULT_SUPPORT: number = 1; break;
    case CUBLASLT_ALGO_CAP_REDUCTION_SCHEME_MASK: mask = a->scheme; break;
    case CUBLASLT_ALGO_CAP_POINTER_MODE_MASK:
        mask = CUBLASLT_POINTER_MODE_MASK_HOST | CUBLASLT_POINTER_MODE_MASK_DEVICE;
        break;
    case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_A_BYTES: mask = a->align[0]; break;
    case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_B_BYTES: mask = a->align[1]; break;
    case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_C_BYTES: mask = a->align[2]; break;
    case CUBLASLT_ALGO_CAP_MIN_ALIGNMENT_D_BYTES: mask = a->align[3]; break;
    default: return CUBLAS_STATUS_NOT_SUPPORTED;
    }
    if (mask) return answer(&mask, sizeof mask, out, bytes, written);
    return answer(&number, sizeof number, out, bytes, written);
}

/* The field of a configuration and its size; NULL: no such attribute. */
static void *field_of(Algo *a, cublasLtMatmulAlgoConfigAttributes_t name, size_t *size)
{
    switch (name) {
    case CUBLASLT_ALGO_CONFIG_ID: *size = sizeof a->id; return &a->id;
    case CUBLASLT_ALGO_CONFIG_TILE_ID: *size = sizeof a->tile; return &a->tile;
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM: *size = sizeof a->parts; return &a->parts;
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME: *size = sizeof a->scheme; return &a->scheme;
    case CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING: *size = sizeof a->swizzle; return &a->swizzle;
    case CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION: *size = sizeof a->option; return &a->option;
    case CUBLASLT_ALGO_CONFIG_STAGES_ID: *size = sizeof a->stages; return &a->stages;
    case CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID: *size = sizeof a->inner; return &a->inner;
    case CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID: *size = sizeof a->cluster; return &a->cluster;
    default: return nullptr;
    }
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name, void *out, size_t bytes,
                                                    size_t *written)
{
    cublasStatus_t status = CUBLAS_STATUS_INTERNAL_ERROR;
    size_t size = 0;
    Algo copy = {};
    if (injected("cublasLtMatmulAlgoConfigGetAttribute", &status)) return status;
    if (!algo) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(&copy, algo, sizeof copy);
    const void *field = field_of(&copy, name, &size);
    return field ? answer(field, size, out, bytes, written) : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoConfigSetAttribute(cublasLtMatmulAlgo_t *algo,
                                                    cublasLtMatmulAlgoConfigAttributes_t name, const void *value,
                                                    size_t bytes)
{
    cublasStatus_t status = CUBLAS_STATUS_INTERNAL_ERROR;
    size_t size = 0;
    if (injected("cublasLtMatmulAlgoConfigSetAttribute", &status)) return status;
    Algo *a = reinterpret_cast<Algo *>(algo);
    if (!a || a->magic != ALGO || !value) return CUBLAS_STATUS_INVALID_VALUE;
    void *field = name == CUBLASLT_ALGO_CONFIG_ID ? nullptr : field_of(a, name, &size);
    if (!field || bytes != size) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(field, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}
