/* table.c - the roll call of the CUDA backend over ops.def: a plugin that lacks a row's kernel cannot be opened. All
 * pointwise rows share the kernel of fused chains. */
#include "cuda.h"

#define OP(name, n_in, meaning) extern const struct qn__kernel qn__cuda_##name;
#define PW(name, n_in, meaning, expression)
#include "../../core/ops.def"
#undef OP

extern const struct qn__kernel *const qn__cuda_kernels[QN_OP_COUNT];
const struct qn__kernel *const qn__cuda_kernels[QN_OP_COUNT] = {
    NULL,
#define OP(name, n_in, meaning) &qn__cuda_##name,
#define PW(name, n_in, meaning, expression) &qn__cuda_fused,
#include "../../core/ops.def"
#undef OP
};
