/* blas.h - the simulated cuBLASLt, shared by its files: what stands in the library's opaque descriptors.
 *
 * As in the real library a descriptor is plain memory of a fixed size, its attributes are checked for their size only,
 * and everything else is looked at when an algorithm is asked for or a product is run (blas_rules.cpp). What the manual
 * does not list is refused. */
#ifndef QN_TESTS_CUDASIM_BLAS_H
#define QN_TESTS_CUDASIM_BLAS_H
#include "sim.h"
#pragma GCC visibility push(default)
#include <cublasLt.h>
/* Descriptors and handles that were created and not destroyed. */
extern "C" size_t cudasim_blas_live(void);
#pragma GCC visibility pop

namespace blas
{

struct Desc {
    uint32_t magic;
    int32_t compute, scale, pointer_mode, op_a, op_b, op_c, fill;
    uint32_t epilogue;
    int32_t sm_count, reserved, aux_type, bias_type, mode[6]; /* mode: a, b, c, d, aux, d out */
    int8_t fast;
    const void *bias, *aux;
    int64_t bias_stride, aux_ld, aux_stride, alpha_stride;
    const void *scale_of[4], *amax_d, *aux_scale, *aux_amax, *out_scale, *emulation; /* scale_of: a, b, c, d */
};
struct Layout {
    uint32_t magic, type;
    int32_t order, batch;
    uint64_t rows, cols;
    int64_t ld, stride, plane;
    uint32_t mode;
};
struct Preference {
    uint32_t magic, search;
    uint64_t workspace;
    uint32_t schemes, align[4]; /* a, b, c, d */
    float waves;
    uint64_t impl;
};
/* An algorithm with its configuration and what it was proposed for. */
struct Algo {
    uint32_t magic;
    int32_t id;
    uint32_t tile, scheme;
    int32_t parts; /* of the sum */
    uint32_t swizzle, option, stages, align[4];
    uint16_t inner, cluster;
    uint32_t type; /* of A */
};
static_assert(sizeof(Desc) <= sizeof(cublasLtMatmulDescOpaque_t));
static_assert(sizeof(Layout) <= sizeof(cublasLtMatrixLayoutOpaque_t));
static_assert(sizeof(Preference) <= sizeof(cublasLtMatmulPreferenceOpaque_t));
static_assert(sizeof(Algo) <= sizeof(cublasLtMatmulAlgo_t));

enum : uint32_t {
    DESC = 0x44534c42,
    LAYOUT = 0x594c4c42,
    PREFERENCE = 0x46504c42,
    ALGO = 0x4c414c42,
    HANDLE = 0x4e484c42,
};

/* A product as it is asked for: op(A) [m,k], op(B) [k,n], D [m,n], column-major. */
struct Problem {
    const Desc *desc;
    const Layout *a, *b, *c, *d;
    int64_t m, n, k;
};
/* Fills p and says whether the manual allows it. */
cublasStatus_t examine(Problem *p);
/* The bytes that the epilogue needs besides: checked where the addresses are known. */
cublasStatus_t examine_addresses(const Problem *p, const void *a, const void *b, const void *c, const void *d);

size_t size_of(uint32_t type); /* bytes of an element; 0: not simulated */
bool handle_is_live(cublasLtHandle_t handle);
/* The call must fail: with *status. */
bool injected(const char *call, cublasStatus_t *status);

/* Algorithms (blas_algo.cpp). */
size_t workspace_of(const Algo *algo, const Problem *p);
bool algo_takes(const Algo *algo, const Problem *p);
int propose(const Problem *p, const Preference *pref, Algo *out, int max);

static inline const Desc *desc_of(cublasLtMatmulDesc_t d)
{
    const Desc *x = reinterpret_cast<const Desc *>(d);
    return x && x->magic == DESC ? x : nullptr;
}
static inline const Layout *layout_of(cublasLtMatrixLayout_t l)
{
    const Layout *x = reinterpret_cast<const Layout *>(l);
    return x && x->magic == LAYOUT ? x : nullptr;
}
} // namespace blas
#endif
