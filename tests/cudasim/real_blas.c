/* real_blas.c - what test_real_libraries.c asks of cuBLASLt: every attribute of every descriptor, its size, what it
 * is at first, and which sizes are taken. */
#include "real.h"
#if REAL_LIBRARIES
#include <cublasLt.h>

#define BLAS_CALLS(X) \
    X(cublasLtGetVersion) \
    X(cublasLtGetProperty) \
    X(cublasLtGetStatusName) \
    X(cublasLtGetStatusString) \
    X(cublasLtCreate) \
    X(cublasLtDestroy) \
    X(cublasLtMatmulDescCreate) \
    X(cublasLtMatmulDescDestroy) \
    X(cublasLtMatmulDescInit_internal) \
    X(cublasLtMatmulDescSetAttribute) \
    X(cublasLtMatmulDescGetAttribute) \
    X(cublasLtMatrixLayoutCreate) \
    X(cublasLtMatrixLayoutDestroy) \
    X(cublasLtMatrixLayoutInit_internal) \
    X(cublasLtMatrixLayoutSetAttribute) \
    X(cublasLtMatrixLayoutGetAttribute) \
    X(cublasLtMatmulPreferenceCreate) \
    X(cublasLtMatmulPreferenceDestroy) \
    X(cublasLtMatmulPreferenceInit_internal) \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatmulPreferenceGetAttribute) \
    X(cublasLtMatmulAlgoGetHeuristic) \
    X(cublasLtMatmulAlgoCapGetAttribute) \
    X(cublasLtMatmul)

static struct {
#define X(name) __typeof__(name) *name;
    BLAS_CALLS(X)
#undef X
} blas;

enum { DESC, LAYOUT, PREFERENCE };
static const char *const kinds[] = { "matmul", "layout", "preference" };

static int set(int kind, void *d, int name, const void *value, size_t bytes)
{
    switch (kind) {
    case DESC: return (int)blas.cublasLtMatmulDescSetAttribute(d, (cublasLtMatmulDescAttributes_t)name, value, bytes);
    case LAYOUT:
        return (int)blas.cublasLtMatrixLayoutSetAttribute(d, (cublasLtMatrixLayoutAttribute_t)name, value, bytes);
    default:
        return (int)blas.cublasLtMatmulPreferenceSetAttribute(d, (cublasLtMatmulPreferenceAttributes_t)name, value,
                                                              bytes);
    }
}
static int get(int kind, void *d, int name, void *value, size_t bytes, size_t *written)
{
    switch (kind) {
    case DESC:
        return (int)blas.cublasLtMatmulDescGetAttribute(d, (cublasLtMatmulDescAttributes_t)name, value, bytes, written);
    case LAYOUT:
        return (int)blas.cublasLtMatrixLayoutGetAttribute(d, (cublasLtMatrixLayoutAttribute_t)name, value, bytes,
                                                          written);
    default:
        return (int)blas.cublasLtMatmulPreferenceGetAttribute(d, (cublasLtMatmulPreferenceAttributes_t)name, value,
                                                              bytes, written);
    }
}

static void attribute(int kind, void *d, int name)
{
    size_t size = 0, written = 0;
    unsigned char value[32] = { 0 };
    long long number = 0;
    int asked = get(kind, d, name, NULL, 0, &size), read = asked ? asked : get(kind, d, name, value, size, &written);
    memcpy(&number, value, sizeof number);
    real_say("%s %d: size %d: %d; read %d: %d, %lld", kinds[kind], name, (int)size, asked, (int)written, read, number);
    real_say("  read nothing %d, to NULL %d, too little %d", get(kind, d, name, NULL, 0, NULL),
             get(kind, d, name, NULL, size ? size : 4, &written),
             get(kind, d, name, value, size ? size - 1 : 3, &written));
    number = 0;
    for (size_t bytes = 1; bytes <= 16; bytes *= 2)
        if (bytes <= sizeof number) real_say("  write %d: %d", (int)bytes, set(kind, d, name, &number, bytes));
    real_say("  write NULL: %d", set(kind, d, name, NULL, size));
}

static void descriptors(void)
{
    cublasLtMatmulDesc_t desc = NULL;
    cublasLtMatrixLayout_t layout = NULL;
    cublasLtMatmulPreference_t pref = NULL;
    real_say("matmul: %d, to NULL: %d", (int)blas.cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
             (int)blas.cublasLtMatmulDescCreate(NULL, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    real_say("layout: %d, to NULL: %d", (int)blas.cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, 64, 32, 70),
             (int)blas.cublasLtMatrixLayoutCreate(NULL, CUDA_R_16BF, 64, 32, 70));
    real_say("preference: %d", (int)blas.cublasLtMatmulPreferenceCreate(&pref));
    for (int name = -1; name < 42; name++) attribute(DESC, desc, name);
    for (int name = -1; name < 12; name++) attribute(LAYOUT, layout, name);
    for (int name = -1; name < 15; name++) attribute(PREFERENCE, pref, name);
    real_say("destroy: %d %d %d", (int)blas.cublasLtMatmulDescDestroy(desc),
             (int)blas.cublasLtMatrixLayoutDestroy(layout), (int)blas.cublasLtMatmulPreferenceDestroy(pref));
    real_say("destroy NULL: %d %d %d", (int)blas.cublasLtMatmulDescDestroy(NULL),
             (int)blas.cublasLtMatrixLayoutDestroy(NULL), (int)blas.cublasLtMatmulPreferenceDestroy(NULL));
    cublasLtMatmulDescOpaque_t d;
    cublasLtMatrixLayoutOpaque_t l;
    cublasLtMatmulPreferenceOpaque_t p;
    for (int little = 0; little < 2; little++)
        real_say("in place: %d %d %d",
                 (int)blas.cublasLtMatmulDescInit_internal(&d, little ? 8 : sizeof d, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                 (int)blas.cublasLtMatrixLayoutInit_internal(&l, little ? 8 : sizeof l, CUDA_R_32F, 1, 1, 1),
                 (int)blas.cublasLtMatmulPreferenceInit_internal(&p, little ? 8 : sizeof p));
}

/* Values are not looked at before a product is asked for. */
static void values(void)
{
    cublasLtMatmulDesc_t desc = NULL;
    cublasLtMatrixLayout_t layout = NULL;
    real_say("unknown type to compute in: %d",
             (int)blas.cublasLtMatmulDescCreate(&desc, (cublasComputeType_t)9999, CUDA_R_32F));
    blas.cublasLtMatmulDescDestroy(desc);
    real_say("unknown type of scales: %d",
             (int)blas.cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, (cudaDataType)999));
    int32_t wrong = 77;
    real_say("operation 77: %d", set(DESC, desc, CUBLASLT_MATMUL_DESC_TRANSA, &wrong, 4));
    real_say("epilogue 77: %d", set(DESC, desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &wrong, 4));
    blas.cublasLtMatmulDescDestroy(desc);
    real_say("ld too small: %d", (int)blas.cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, 64, 32, 10));
    real_say("order 77: %d", set(LAYOUT, layout, CUBLASLT_MATRIX_LAYOUT_ORDER, &wrong, 4));
    blas.cublasLtMatrixLayoutDestroy(layout);
    real_say("no rows: %d", (int)blas.cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, 0, 32, 64));
    blas.cublasLtMatrixLayoutDestroy(layout);
}

void real_blas(void *library)
{
    int v;
#define X(name) REAL_FIND(blas, library, name);
    BLAS_CALLS(X)
#undef X
    real_say("version %d", (int)blas.cublasLtGetVersion());
    for (int i = -1; i < 4; i++) {
        v = 0;
        int status = (int)blas.cublasLtGetProperty((libraryPropertyType)i, &v);
        real_say("property %d: %d, %d", i, status, v);
    }
    for (int i = -1; i < 20; i++)
        real_say("%d: %s, %s", i, blas.cublasLtGetStatusName((cublasStatus_t)i),
                 blas.cublasLtGetStatusString((cublasStatus_t)i));
    descriptors();
    values();
    real_say("create to NULL: %d, destroy NULL: %d", (int)blas.cublasLtCreate(NULL), (int)blas.cublasLtDestroy(NULL));
    cublasLtMatmulHeuristicResult_t result;
    cublasLtMatmulAlgo_t none;
    uint64_t flags;
    size_t written;
    float one = 1;
    memset(&none, 0, sizeof none);
    cublasLtMatmulDesc_t desc = NULL;
    cublasLtMatrixLayout_t layout = NULL;
    cublasLtMatmulPreference_t pref = NULL;
    blas.cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    blas.cublasLtMatrixLayoutCreate(&layout, CUDA_R_32F, 4, 4, 4);
    blas.cublasLtMatmulPreferenceCreate(&pref);
    real_say("proposals without a handle: %d",
             (int)blas.cublasLtMatmulAlgoGetHeuristic(NULL, desc, layout, layout, layout, layout, pref, 1, &result,
                                                      &v));
    real_say("product without a handle: %d",
             (int)blas.cublasLtMatmul(NULL, desc, &one, &one, layout, &one, layout, &one, &one, layout, &one, layout,
                                      NULL, NULL, 0, NULL));
    blas.cublasLtMatmulDescDestroy(desc);
    blas.cublasLtMatrixLayoutDestroy(layout);
    blas.cublasLtMatmulPreferenceDestroy(pref);
    real_say("properties of no algorithm: %d",
             (int)blas.cublasLtMatmulAlgoCapGetAttribute(&none, CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS, &flags,
                                                         sizeof flags, &written));
}
#endif
