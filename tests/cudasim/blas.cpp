/* blas.cpp - the simulated cuBLASLt: handles, versions, and the descriptors' attributes. */
#include "blas.h"
#include <atomic>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

using namespace blas;

static std::atomic<size_t> live;
size_t cudasim_blas_live(void) { return live; }

bool blas::injected(const char *call, cublasStatus_t *status)
{
    int code = *status;
    if (!cudasim_inject(call, &code)) return false;
    *status = (cublasStatus_t)code;
    return true;
}

/* ---- handles ----------------------------------------------------------------------------------------------- */

struct cublasLtContext {
    uint32_t magic;
    int device;
};

bool blas::handle_is_live(cublasLtHandle_t handle) { return handle && handle->magic == HANDLE; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out)
{
    cublasStatus_t status = CUBLAS_STATUS_NOT_INITIALIZED;
    if (injected("cublasLtCreate", &status)) return status;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    int device = 0, count = 0;
    if (cudaGetDeviceCount(&count) || count == 0 || cudaGetDevice(&device)) return CUBLAS_STATUS_NOT_INITIALIZED;
    cublasLtContext *h = (cublasLtContext *)calloc(1, sizeof *h);
    if (!h) return CUBLAS_STATUS_ALLOC_FAILED;
    *h = { HANDLE, device };
    live++;
    *out = h;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (!handle_is_live(h)) return h ? CUBLAS_STATUS_NOT_INITIALIZED : CUBLAS_STATUS_INVALID_VALUE;
    injected("cublasLtDestroy", &status);
    h->magic = 0;
    free(h);
    live--;
    return status;
}

size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }
size_t cublasLtGetCudartVersion(void) { return CUDART_VERSION; }

cublasStatus_t cublasLtGetProperty(libraryPropertyType type, int *value)
{
    if (!value) return CUBLAS_STATUS_INVALID_VALUE;
    switch (type) {
    case MAJOR_VERSION: *value = CUBLAS_VER_MAJOR; return CUBLAS_STATUS_SUCCESS;
    case MINOR_VERSION: *value = CUBLAS_VER_MINOR; return CUBLAS_STATUS_SUCCESS;
    case PATCH_LEVEL: *value = CUBLAS_VER_PATCH; return CUBLAS_STATUS_SUCCESS;
    default: return CUBLAS_STATUS_INVALID_VALUE;
    }
}

static const struct {
    cublasStatus_t status;
    const char *name, *text;
} statuses[] = {
#define STATUS(name, text) \
    { \
        name, #name, text \
    }
    STATUS(CUBLAS_STATUS_SUCCESS, "success"),
    STATUS(CUBLAS_STATUS_NOT_INITIALIZED, "the library was not initialized"),
    STATUS(CUBLAS_STATUS_ALLOC_FAILED, "the resource allocation failed"),
    STATUS(CUBLAS_STATUS_INVALID_VALUE, "an unsupported value or parameter was passed to the function"),
    STATUS(CUBLAS_STATUS_ARCH_MISMATCH, "the function requires an architectural feature absent from the device"),
    STATUS(CUBLAS_STATUS_MAPPING_ERROR, "an access to GPU memory space failed"),
    STATUS(CUBLAS_STATUS_EXECUTION_FAILED, "the function failed to launch on the GPU"),
    STATUS(CUBLAS_STATUS_INTERNAL_ERROR, "an internal operation failed"),
    STATUS(CUBLAS_STATUS_NOT_SUPPORTED, "the requested functionality is not supported"),
    STATUS(CUBLAS_STATUS_LICENSE_ERROR, "the license check failed"),
#undef STATUS
};

const char *cublasLtGetStatusName(cublasStatus_t status)
{
    for (const auto &row : statuses)
        if (row.status == status) return row.name;
    return "unrecognized status";
}
const char *cublasLtGetStatusString(cublasStatus_t status)
{
    for (const auto &row : statuses)
        if (row.status == status) return row.text;
    return "unrecognized status";
}

/* ---- attributes ---------------------------------------------------------------------------------------------- */

/* Where an attribute lies in its descriptor. */
struct Attribute {
    int name;
    size_t offset, bytes;
};
#define AT(name, type, field) \
    { \
        name, offsetof(type, field), sizeof(type::field) \
    }
#define AT_INDEX(name, type, field, i) \
    { \
        name, offsetof(type, field) + (i) * sizeof(type::field[0]), sizeof(type::field[0]) \
    }

static const Attribute desc_attributes[] = {
    AT(CUBLASLT_MATMUL_DESC_COMPUTE_TYPE, Desc, compute),
    AT(CUBLASLT_MATMUL_DESC_SCALE_TYPE, Desc, scale),
    AT(CUBLASLT_MATMUL_DESC_POINTER_MODE, Desc, pointer_mode),
    AT(CUBLASLT_MATMUL_DESC_TRANSA, Desc, op_a),
    AT(CUBLASLT_MATMUL_DESC_TRANSB, Desc, op_b),
    AT(CUBLASLT_MATMUL_DESC_TRANSC, Desc, op_c),
    AT(CUBLASLT_MATMUL_DESC_FILL_MODE, Desc, fill),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE, Desc, epilogue),
    AT(CUBLASLT_MATMUL_DESC_BIAS_POINTER, Desc, bias),
    AT(CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE, Desc, bias_stride),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, Desc, aux),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, Desc, aux_ld),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, Desc, aux_stride),
    AT(CUBLASLT_MATMUL_DESC_ALPHA_VECTOR_BATCH_STRIDE, Desc, alpha_stride),
    AT(CUBLASLT_MATMUL_DESC_SM_COUNT_TARGET, Desc, sm_count),
    { 16, offsetof(Desc, reserved), sizeof(Desc::reserved) }, /* in the library, not in the manual */
    AT_INDEX(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, Desc, scale_of, 0),
    AT_INDEX(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, Desc, scale_of, 1),
    AT_INDEX(CUBLASLT_MATMUL_DESC_C_SCALE_POINTER, Desc, scale_of, 2),
    AT_INDEX(CUBLASLT_MATMUL_DESC_D_SCALE_POINTER, Desc, scale_of, 3),
    AT(CUBLASLT_MATMUL_DESC_AMAX_D_POINTER, Desc, amax_d),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE, Desc, aux_type),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_POINTER, Desc, aux_scale),
    AT(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_AMAX_POINTER, Desc, aux_amax),
    AT(CUBLASLT_MATMUL_DESC_FAST_ACCUM, Desc, fast),
    AT(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, Desc, bias_type),
    AT_INDEX(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, Desc, mode, 0),
    AT_INDEX(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, Desc, mode, 1),
    AT_INDEX(CUBLASLT_MATMUL_DESC_C_SCALE_MODE, Desc, mode, 2),
    AT_INDEX(CUBLASLT_MATMUL_DESC_D_SCALE_MODE, Desc, mode, 3),
    AT_INDEX(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_SCALE_MODE, Desc, mode, 4),
    AT(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_POINTER, Desc, out_scale),
    AT_INDEX(CUBLASLT_MATMUL_DESC_D_OUT_SCALE_MODE, Desc, mode, 5),
    AT(CUBLASLT_MATMUL_DESC_EMULATION_DESCRIPTOR, Desc, emulation),
};
static const Attribute layout_attributes[] = {
    AT(CUBLASLT_MATRIX_LAYOUT_TYPE, Layout, type),
    AT(CUBLASLT_MATRIX_LAYOUT_ORDER, Layout, order),
    AT(CUBLASLT_MATRIX_LAYOUT_ROWS, Layout, rows),
    AT(CUBLASLT_MATRIX_LAYOUT_COLS, Layout, cols),
    AT(CUBLASLT_MATRIX_LAYOUT_LD, Layout, ld),
    AT(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, Layout, batch),
    AT(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, Layout, stride),
    AT(CUBLASLT_MATRIX_LAYOUT_PLANE_OFFSET, Layout, plane),
    AT(CUBLASLT_MATRIX_LAYOUT_BATCH_MODE, Layout, mode),
};
static const Attribute preference_attributes[] = {
    AT(CUBLASLT_MATMUL_PREF_SEARCH_MODE, Preference, search),
    AT(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, Preference, workspace),
    AT(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, Preference, schemes),
    AT_INDEX(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Preference, align, 0),
    AT_INDEX(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Preference, align, 1),
    AT_INDEX(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Preference, align, 2),
    AT_INDEX(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Preference, align, 3),
    AT(CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, Preference, waves),
    AT(CUBLASLT_MATMUL_PREF_IMPL_MASK, Preference, impl),
};

template <size_t n> static const Attribute *find(const Attribute (&list)[n], int name)
{
    for (const Attribute &a : list)
        if (a.name == name) return &a;
    return nullptr;
}

static cublasStatus_t set(void *descriptor, const Attribute *a, const void *value, size_t bytes)
{
    if (!descriptor || !a || !value || bytes != a->bytes) return CUBLAS_STATUS_INVALID_VALUE;
    memcpy((char *)descriptor + a->offset, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

/* bytes 0 asks for the size. */
static cublasStatus_t get(const void *descriptor, const Attribute *a, void *value, size_t bytes, size_t *written)
{
    if (!descriptor || !a) return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes == 0 && !written) return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes != 0 && (!value || bytes != a->bytes)) return CUBLAS_STATUS_INVALID_VALUE;
    if (bytes) memcpy(value, (const char *)descriptor + a->offset, bytes);
    if (written) *written = a->bytes;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- descriptors --------------------------------------------------------------------------------------------- */

template <class T, class Opaque> static cublasStatus_t create(const char *call, Opaque **out, const T &value)
{
    cublasStatus_t status = CUBLAS_STATUS_ALLOC_FAILED;
    if (injected(call, &status)) return status;
    if (!out) return CUBLAS_STATUS_INVALID_VALUE;
    Opaque *made = (Opaque *)calloc(1, sizeof *made);
    if (!made) return CUBLAS_STATUS_ALLOC_FAILED;
    memcpy(made, &value, sizeof value);
    live++;
    *out = made;
    return CUBLAS_STATUS_SUCCESS;
}

template <class Opaque> static cublasStatus_t destroy(const char *call, Opaque *d)
{
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    injected(call, &status);
    if (!d) return status;
    memset(d, 0, sizeof *d); /* so that a use afterwards is seen */
    free(d);
    live--;
    return status;
}

static cublasStatus_t refused(const char *call)
{
    cublasStatus_t status = CUBLAS_STATUS_INTERNAL_ERROR;
    return injected(call, &status) ? status : CUBLAS_STATUS_SUCCESS;
}
#define ENTRY(call) \
    if (cublasStatus_t status_ = refused(call)) return status_

static Desc new_desc(cublasComputeType_t compute, cudaDataType scale)
{
    Desc d = {};
    d.magic = DESC;
    d.compute = compute;
    d.scale = scale;
    d.fill = CUBLAS_FILL_MODE_FULL;
    d.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    d.aux_type = d.bias_type = -1;
    return d;
}
static Layout new_layout(cudaDataType type, uint64_t rows, uint64_t cols, int64_t ld)
{
    Layout l = {};
    l.magic = LAYOUT;
    l.type = type;
    l.batch = 1;
    l.rows = rows, l.cols = cols, l.ld = ld;
    return l;
}
static Preference new_preference()
{
    Preference p = {};
    p.magic = PREFERENCE;
    p.schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
    for (uint32_t &a : p.align) a = 256;
    p.impl = (uint64_t)-1;
    return p;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute, cudaDataType_t scale)
{
    return create("cublasLtMatmulDescCreate", out, new_desc(compute, scale));
}
cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t d, size_t bytes, cublasComputeType_t compute,
                                               cudaDataType_t scale)
{
    if (bytes < sizeof *d) return CUBLAS_STATUS_ALLOC_FAILED;
    Desc value = new_desc(compute, scale);
    memcpy(d, &value, sizeof value);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return destroy("cublasLtMatmulDescDestroy", d); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
    ENTRY("cublasLtMatmulDescSetAttribute");
    return set(d, find(desc_attributes, name), value, bytes);
}
cublasStatus_t cublasLtMatmulDescGetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, void *value,
                                              size_t bytes, size_t *written)
{
    ENTRY("cublasLtMatmulDescGetAttribute");
    return get(d, find(desc_attributes, name), value, bytes, written);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld)
{
    return create("cublasLtMatrixLayoutCreate", out, new_layout(type, rows, cols, ld));
}
cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t l, size_t bytes, cudaDataType type,
                                                 uint64_t rows, uint64_t cols, int64_t ld)
{
    if (bytes < sizeof *l) return CUBLAS_STATUS_ALLOC_FAILED;
    Layout value = new_layout(type, rows, cols, ld);
    memcpy(l, &value, sizeof value);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    return destroy("cublasLtMatrixLayoutDestroy", l);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name,
                                                const void *value, size_t bytes)
{
    ENTRY("cublasLtMatrixLayoutSetAttribute");
    return set(l, find(layout_attributes, name), value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutGetAttribute(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name,
                                                void *value, size_t bytes, size_t *written)
{
    ENTRY("cublasLtMatrixLayoutGetAttribute");
    return get(l, find(layout_attributes, name), value, bytes, written);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out)
{
    return create("cublasLtMatmulPreferenceCreate", out, new_preference());
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t p, size_t bytes)
{
    if (bytes < sizeof *p) return CUBLAS_STATUS_ALLOC_FAILED;
    Preference value = new_preference();
    memcpy(p, &value, sizeof value);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    return destroy("cublasLtMatmulPreferenceDestroy", p);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name, const void *value,
                                                    size_t bytes)
{
    ENTRY("cublasLtMatmulPreferenceSetAttribute");
    return set(p, find(preference_attributes, name), value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceGetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name, void *value,
                                                    size_t bytes, size_t *written)
{
    ENTRY("cublasLtMatmulPreferenceGetAttribute");
    return get(p, find(preference_attributes, name), value, bytes, written);
}
